//! A deterministic world of thousands of Peer Channel nodes in virtual time.
//!
//! [`World::run`] takes a [`Plan`] (who takes part, over which network, what befalls them) and
//! gives an [`Outcome`] (what was seen, and what did not hold). The nodes are the production
//! state machines of `peerchannel-mesh`; the world plays everything around them.
//!
//! # Scenarios
//!
//! A [`scenario`] is a plan that is kept, as a TOML file, with the numbers that are expected of it.
//! A [`report`] judges its outcomes over several seeds and names what failed with the command that
//! replays it; a [`plot`] draws one of them; a [`suite`] runs many and goes on where it stopped.
//! `cargo xtask sim` is all of that as a command, and the folder `scenarios` has those of the
//! project's table.
//!
//! ```
//! use peerchannel_sim::World;
//! use peerchannel_sim::report::Report;
//! use peerchannel_sim::scenario::{Overrides, Scenario, Shelf};
//!
//! let text = r#"
//!     title = "a third of a small mesh crashes"
//!     nodes = 12
//!     duration = "50s"
//!     [join]
//!     over = "5s"
//!     [[event]]
//!     at = "25s"
//!     kind = "crash"
//!     count = 4
//!     [[target]]
//!     metric = "components_end"
//!     at_most = 1
//! "#;
//! let scenario = Scenario::parse("third", text, |name| Shelf::own().text(name))?;
//! let same = Overrides::default();
//! let outcomes = (1..=2).map(|seed| Ok(World::run(scenario.plan(seed, same)?)?));
//! let outcomes = outcomes.collect::<Result<Vec<_>, Box<dyn std::error::Error>>>()?;
//! let report = Report::new(&scenario, same, "this code", outcomes);
//! println!("{}", report.to_text());
//! assert_eq!(report.rows[0].summary.map(|over_seeds| over_seeds.worst), Some(1.0));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod branches;
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

pub use branches::{RECOVERY_BRANCHES, unreached};
pub use outcome::{Counts, Distribution, FalseFailures, Mark, Outcome, Sample, VIOLATIONS_KEPT, Violation};
pub use plan::{
    Admission, BandwidthClass, Checks, Churn, Happening, Join, Map, Mood, NODES_MAX, Packets, Plan,
    PlanError, Resolver, Scripted, Traffic, Who,
};
pub use world::World;
