//! When things happen in a run, for the whole stack and for the model alike.

use std::time::Duration;

/// Members of the mesh.
pub(crate) const NODES: usize = 64;

/// They join one after another, evenly over this time.
pub(crate) const JOINING: Duration = Duration::from_secs(10);

/// Random jitter of each packet, as a share of its path's delay.
pub(crate) const JITTER: f64 = 0.05;

/// Bits per second of every node's uplink.
pub(crate) const UPLINK: u64 = 100_000_000;

/// Messages per second, by so many publishers, of so many bytes.
pub(crate) const RATE: f64 = 2.0;
pub(crate) const PUBLISHERS: usize = 16;
pub(crate) const PAYLOAD: usize = 256;

/// Seconds from the beginning. From here on the mesh keeps its shape.
pub(crate) const SETTLED: u64 = 45;
/// When messages are published.
pub(crate) const TRAFFIC: (u64, u64) = (50, 70);
/// Nothing is published, and positions are compared as rarely as they ever are.
/// Long enough that what is done every five and ten minutes counts with its share.
pub(crate) const IDLE: (u64, u64) = (190, 790);
/// The first crash, the pause between two, how many, and the end.
pub(crate) const CRASHES: (u64, u64, u64) = (IDLE.1, 15, 4);
