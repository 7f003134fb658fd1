//! A deterministic world of thousands of Peer Channel nodes in virtual time.
//!
//! [`World::run`] takes a [`Plan`] (who takes part, over which network, what befalls them) and
//! gives an [`Outcome`] (what was seen, and what did not hold). The nodes are the production
//! state machines of `peerchannel-mesh`; the world plays everything around them.

mod outcome;
mod plan;
pub mod plot;
pub mod report;
pub mod scenario;
pub mod suite;
mod world;

mod directory;
mod host;
mod link;
mod place;
mod traffic;
pub mod transport;

mod ledger;
mod meter;
mod watch;

mod dice;
mod seal;
mod slab;
mod wheel;

pub use outcome::{Counts, Distribution, FalseFailures, Mark, Outcome, Sample, VIOLATIONS_KEPT, Violation};
pub use plan::{
    Admission, BandwidthClass, Checks, Churn, Happening, Join, Map, Mood, NODES_MAX, Packets, Plan,
    PlanError, Resolver, Scripted, Traffic, Who,
};
pub use world::World;
