//! Counters: what went over a link, a connection, an endpoint.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What was sent, received and dropped so far. Bytes are those of whole frames.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Traffic {
    /// Frames handed to QUIC.
    pub frames_sent: u64,
    /// Their bytes.
    pub bytes_sent: u64,
    /// Writes to QUIC: frames per write tell how well batching works.
    pub writes: u64,
    /// Frames handed to the driver.
    pub frames_received: u64,
    /// Their bytes, length prefixes apart.
    pub bytes_received: u64,
    /// Datagrams handed to QUIC.
    pub datagrams_sent: u64,
    /// Datagrams handed to the driver.
    pub datagrams_received: u64,
    /// Datagrams dropped on arrival: no such link, or the driver was behind.
    pub datagrams_dropped: u64,
    /// Pushes refused because a queue was full.
    pub pushes_refused: u64,
    /// Data lanes of the peer that were refused: no such link, no header in time, a second one.
    pub lanes_refused: u64,
}

/// A connection in numbers.
#[derive(Debug, Clone, Copy)]
#[non_exhaustive]
pub struct ConnectionStats {
    /// What its links carried.
    pub traffic: Traffic,
    /// The smoothed round-trip time.
    pub rtt: Duration,
    /// UDP payload bytes sent, all of QUIC included.
    pub udp_bytes_sent: u64,
    /// UDP payload bytes received.
    pub udp_bytes_received: u64,
    /// Packets sent.
    pub packets_sent: u64,
    /// Packets declared lost.
    pub packets_lost: u64,
    /// Bytes the congestion controller allows in flight.
    pub congestion_window: u64,
    /// Largest UDP payload the path is known to carry.
    pub path_mtu: u16,
}

/// An endpoint in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EndpointStats {
    /// What all links carried.
    pub traffic: Traffic,
    /// Connections that are open now.
    pub connections_open: u64,
    /// Connections we opened so far.
    pub connections_dialed: u64,
    /// Connections others opened so far.
    pub connections_accepted: u64,
    /// Handshakes of others that failed or took too long.
    pub handshakes_failed: u64,
    /// Handshakes of others that were refused because too many were going on.
    pub handshakes_refused: u64,
    /// Handshakes that had to prove their address first.
    pub handshakes_retried: u64,
}

/// One number that only grows. Relaxed: nothing is ordered by it.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug, Default)]
pub(crate) struct TrafficCounters {
    pub(crate) frames_sent: Count,
    pub(crate) bytes_sent: Count,
    pub(crate) writes: Count,
    pub(crate) frames_received: Count,
    pub(crate) bytes_received: Count,
    pub(crate) datagrams_sent: Count,
    pub(crate) datagrams_received: Count,
    pub(crate) datagrams_dropped: Count,
    pub(crate) pushes_refused: Count,
    pub(crate) lanes_refused: Count,
}

impl TrafficCounters {
    pub(crate) fn read(&self) -> Traffic {
        Traffic {
            frames_sent: self.frames_sent.get(),
            bytes_sent: self.bytes_sent.get(),
            writes: self.writes.get(),
            frames_received: self.frames_received.get(),
            bytes_received: self.bytes_received.get(),
            datagrams_sent: self.datagrams_sent.get(),
            datagrams_received: self.datagrams_received.get(),
            datagrams_dropped: self.datagrams_dropped.get(),
            pushes_refused: self.pushes_refused.get(),
            lanes_refused: self.lanes_refused.get(),
        }
    }
}

/// Counts one thing at its own level and at every level above.
#[derive(Debug, Clone)]
pub(crate) struct Meter {
    own: Arc<TrafficCounters>,
    above: Option<Arc<Meter>>,
}

impl Meter {
    pub(crate) fn root() -> Self {
        Self { own: Arc::default(), above: None }
    }

    pub(crate) fn below(above: &Self) -> Self {
        Self { own: Arc::default(), above: Some(Arc::new(above.clone())) }
    }

    pub(crate) fn count(&self, count: impl Fn(&TrafficCounters)) {
        let mut meter = Some(self);
        while let Some(Self { own, above }) = meter {
            count(own);
            meter = above.as_deref();
        }
    }

    pub(crate) fn read(&self) -> Traffic {
        self.own.read()
    }
}

#[derive(Debug, Default)]
pub(crate) struct EndpointCounters {
    pub(crate) dialed: Count,
    pub(crate) accepted: Count,
    pub(crate) failed: Count,
    pub(crate) refused: Count,
    pub(crate) retried: Count,
}
