//! What the benches share: the raw baseline and two linked nodes.
//!
//! `cargo xtask bench` runs them and prints ours beside raw, as ratios of one run.

mod ours;
mod raw;

pub use ours::Pair;
pub use raw::Raw;
