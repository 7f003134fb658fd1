//! Many scenarios with many seeds: what is to be run, what has been, and what it comes to.
//!
//! A [`Job`] is one scenario with one seed. It has a key, a hash of everything that decides what
//! happens in it, and its outcome is kept in a file of that name ([`Store`]): what was run once
//! is never run again, until the scenario or the code changes. So a suite that was interrupted
//! goes on where it stopped, and one that ran out of time is continued by the same command.
//!
//! [`carry_out`] runs jobs on a few threads. How one is run is an argument: the command starts a
//! process for each, so that one that panics or needs too much memory takes no other with it, and
//! the memory it needed can be told. [`document`] writes what came of all.

mod document;
mod list;
mod store;
mod work;

use crate::plan::Plan;
use crate::scenario::{Overrides, Scenario, ScenarioError};

pub use self::document::{Section, document};
pub use self::list::{Entry, Suite, SuiteError};
pub use self::store::Store;
pub use self::work::{Finished, carry_out};

/// What decides about runs in this build: a hash of the sources, and the build profile.
pub const CODE: &str = env!("PEERCHANNEL_SIM_CODE");

/// One scenario with one seed.
#[derive(Debug, Clone)]
pub struct Job {
    /// Which of the suite's scenarios.
    pub section: usize,
    /// As a command names the scenario.
    pub place: String,
    /// What differs from the scenario.
    pub overrides: Overrides,
    /// What is run.
    pub plan: Plan,
    /// What decides what happens, in 16 hexadecimal digits.
    pub key: String,
}

impl Job {
    /// A scenario with one seed.
    ///
    /// # Errors
    /// [`ScenarioError::Plan`] if the overrides do not fit the scenario.
    pub fn new(
        section: usize,
        scenario: &Scenario,
        overrides: Overrides,
        seed: u64,
    ) -> Result<Self, ScenarioError> {
        let plan = scenario.plan(seed, overrides)?;
        let key = key(&plan, CODE);
        Ok(Self { section, place: scenario.place.clone(), overrides, plan, key })
    }
}

/// Everything of a plan that decides what happens, with the code that carries it out.
fn key(plan: &Plan, code: &str) -> String {
    let mut plan = plan.clone();
    // Only shown.
    plan.replay.clear();
    let text = format!("{code} {plan:?}");
    let hash = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("{hash:016x}")
}

#[cfg(test)]
mod tests;
