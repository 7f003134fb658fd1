//! Scenarios: runs that people keep, as TOML files, with what is expected of them.
//!
//! A file says who takes part, over which network, what befalls them (all of it becomes a
//! [`Plan`]) and which numbers are to be reached ([`Target`]). Owns the format: every key is
//! checked, and what is unknown or out of range is refused with its line, its key, what would be
//! right, and nothing run. Leaves to others what a number means (`report::METRICS`) and what is
//! run (the world).
//!
//! A variant needs only its difference: `extends = "crash-30"` takes everything from that
//! scenario of the same folder, and what the file says itself wins, table by table. Lists
//! (events, targets) are replaced as a whole. `judge = false` keeps the targets' rows without
//! judging them.

mod event;
mod file;
mod shelf;
mod target;
mod values;

use std::path::PathBuf;
use std::time::Duration;

use thiserror::Error;

use crate::plan::{Plan, PlanError};

pub use self::shelf::{Shelf, find};
pub use self::target::{Bound, Over, Target};

/// A run with a name, and what is expected of it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Scenario {
    /// The file's name without `.toml`.
    pub name: String,
    /// Where it was read from, as it has to be written in a command: a name of the shelf, or a path.
    pub place: String,
    /// In one line.
    pub title: String,
    /// What it shows and why its targets are what they are.
    pub shows: String,
    /// Seeds it takes to judge it. Default 10.
    pub seeds: usize,
    /// What is run. Its seed is 1.
    pub plan: Plan,
    /// What is expected.
    pub targets: Vec<Target>,
}

/// What the command line changes about a scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Overrides {
    /// Nodes at the start.
    pub nodes: Option<usize>,
    /// Virtual time of the run.
    pub duration: Option<Duration>,
}

/// A scenario that cannot be read. The text names the file, the place in it and what to do.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ScenarioError {
    /// No scenario of this name, and no file.
    #[error("no scenario `{name}` and no such file: `cargo xtask sim --list` names them{}", did_you_mean(.near))]
    Unknown {
        /// What was asked for.
        name: String,
        /// The name most like it.
        near: Option<String>,
    },
    /// The file cannot be read.
    #[error("{}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The text is not a scenario.
    #[error("scenario {name}: {why}")]
    Invalid {
        /// Which.
        name: String,
        /// Where and why, possibly with the lines concerned.
        why: String,
    },
    /// The values are each valid, but not together.
    #[error("scenario {name}: {source}")]
    Plan {
        /// Which.
        name: String,
        /// Why.
        source: PlanError,
    },
}

fn did_you_mean(near: &Option<String>) -> String {
    near.as_ref().map(|name| format!("; did you mean `{name}`?")).unwrap_or_default()
}

impl Scenario {
    /// Reads a scenario from its text. `base` gives the text of the scenario that this one
    /// extends.
    ///
    /// # Errors
    /// [`ScenarioError::Invalid`] or [`ScenarioError::Plan`]; those of `base`.
    pub fn parse(
        name: &str,
        text: &str,
        base: impl Fn(&str) -> Result<String, ScenarioError>,
    ) -> Result<Self, ScenarioError> {
        let invalid = |why: String| ScenarioError::Invalid { name: name.to_owned(), why };
        let file = file::read(name, text, &base)?;
        let scenario = file.scenario(name).map_err(invalid)?;
        scenario.plan.validate().map_err(|source| ScenarioError::Plan { name: name.to_owned(), source })?;
        Ok(scenario)
    }

    /// What is run with this seed, and the command that repeats it.
    ///
    /// # Errors
    /// [`ScenarioError::Plan`] if the overrides do not fit the scenario.
    pub fn plan(&self, seed: u64, overrides: Overrides) -> Result<Plan, ScenarioError> {
        let mut plan = self.plan.clone();
        plan.seed = seed;
        plan.nodes = overrides.nodes.unwrap_or(plan.nodes);
        plan.duration = overrides.duration.unwrap_or(plan.duration);
        plan.replay = self.command(overrides, &format!("--seed {seed}"));
        plan.validate().map_err(|source| ScenarioError::Plan { name: self.name.clone(), source })?;
        Ok(plan)
    }

    /// The command that runs this scenario with these overrides and further options.
    #[must_use]
    pub fn command(&self, overrides: Overrides, options: &str) -> String {
        let mut command = format!("cargo xtask sim {}", self.place);
        if let Some(nodes) = overrides.nodes.filter(|nodes| *nodes != self.plan.nodes) {
            command += &format!(" --nodes {nodes}");
        }
        if let Some(duration) = overrides.duration.filter(|duration| *duration != self.plan.duration) {
            command += &format!(" --minutes {}", duration.as_secs_f64() / 60.0);
        }
        if !options.is_empty() {
            command += &format!(" {options}");
        }
        command
    }
}

#[cfg(test)]
mod tests;
