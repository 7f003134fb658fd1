//! What runs come to: metrics over seeds, verdicts, tables, pictures and comparisons.
//!
//! A [`Report`] is the runs of one scenario with several seeds: a row per target, summarized over
//! the seeds and judged. It is printed for people ([`Report::to_text`]), kept as JSON for machines
//! ([`Report::to_json`], with a version that readers check), and two of them are compared
//! ([`Comparison`]).
//!
//! A report passes when no seed broke an invariant and every target is met. What a run did not
//! measure never counts as met.

mod compare;
mod metrics;
mod picture;
mod summary;
mod table;
mod text;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::outcome::Outcome;
use crate::scenario::{Bound, Over, Overrides, Scenario, Target};

pub use self::compare::{Change, Compared, Comparison};
pub use self::metrics::{METRICS, Metric, Part, USUAL, Unit};
pub use self::picture::picture;
pub use self::summary::{Better, Summary, nearest_rank};
pub use self::table::{Side, Table};

/// The layout of a report's JSON. Raised when a field changes its meaning or goes; fields may be
/// added without.
pub const REPORT_VERSION: u32 = 1;

/// The runs of one scenario.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Report {
    /// [`REPORT_VERSION`].
    pub version: u32,
    /// The scenario's name.
    pub scenario: String,
    /// Its title.
    pub title: String,
    /// The command that makes this report.
    pub command: String,
    /// What ran: a hash of the sources that decide what happens, and the build profile.
    pub code: String,
    /// Nodes at the start.
    pub nodes: usize,
    /// Virtual time of each run.
    pub duration_s: f64,
    /// A row per target, in the scenario's order.
    pub rows: Vec<Row>,
    /// A run per seed, in the order of the seeds.
    pub runs: Vec<Run>,
    /// Links a node should have at least and may have at most, for the picture.
    pub neighbors: (usize, usize),
}

/// One target over all seeds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Row {
    /// What it is about.
    pub what: String,
    /// The metric's name.
    pub metric: String,
    /// Which way it improves.
    pub better: Better,
    /// What it must keep to; `None` if it is only shown.
    pub bound: Option<Bound>,
    /// Which value over the seeds is judged.
    pub over: Over,
    /// What each run measured, in the order of the runs.
    pub values: Vec<Option<f64>>,
    /// Over the seeds that measured it; `None` if none did.
    pub summary: Option<Summary>,
    /// What it comes to.
    pub verdict: Verdict,
}

/// One seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Run {
    /// The seed.
    pub seed: u64,
    /// The command that repeats it.
    pub replay: String,
    /// Whether every invariant held and every target was met by this seed alone.
    pub passed: bool,
    /// What came of it.
    pub outcome: Outcome,
}

/// What a row comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The target is reached.
    Met,
    /// It is not, or a seed did not measure it.
    Missed,
    /// Nothing was asked.
    Shown,
}

/// A file that is not a report this program understands.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ReportError {
    /// Not JSON, or not a report.
    #[error("not a report: {0}")]
    Unreadable(#[from] serde_json::Error),
    /// Of another layout.
    #[error("the report has layout {found}, this program reads {REPORT_VERSION}: make it again with --json")]
    Version {
        /// Its version.
        found: u64,
    },
}

impl Report {
    /// Judges the runs of a scenario.
    #[must_use]
    pub fn new(scenario: &Scenario, overrides: Overrides, code: &str, mut outcomes: Vec<Outcome>) -> Self {
        outcomes.sort_by_key(|outcome| outcome.seed);
        let rows: Vec<Row> = targets(scenario).iter().map(|target| Row::new(target, &outcomes)).collect();
        let runs = outcomes.into_iter().enumerate().map(|(index, outcome)| Run {
            seed: outcome.seed,
            replay: outcome.replay.clone(),
            passed: outcome.violations_total == 0 && rows.iter().all(|row| row.is_met_by(index)),
            outcome,
        });
        let runs: Vec<Run> = runs.collect();
        let config = &scenario.plan.config;
        Self {
            version: REPORT_VERSION,
            scenario: scenario.name.clone(),
            title: scenario.title.clone(),
            command: scenario.command(overrides, &seeds_option(&runs)),
            code: code.to_owned(),
            nodes: overrides.nodes.unwrap_or(scenario.plan.nodes),
            duration_s: overrides.duration.unwrap_or(scenario.plan.duration).as_secs_f64(),
            rows,
            runs,
            neighbors: (config.neighbors_low, config.neighbors_high),
        }
    }

    /// Whether no seed broke an invariant and every target is met.
    #[must_use]
    pub fn passes(&self) -> bool {
        !self.runs.is_empty()
            && self.violations() == 0
            && self.rows.iter().all(|row| row.verdict != Verdict::Missed)
    }

    /// How often something that must hold did not, in all seeds.
    #[must_use]
    pub fn violations(&self) -> u64 {
        self.runs.iter().map(|run| run.outcome.violations_total).sum()
    }

    /// The run most worth a picture: the first that did not pass, or else the first.
    #[must_use]
    pub fn most_telling(&self) -> Option<&Run> {
        self.runs.iter().find(|run| !run.passed).or(self.runs.first())
    }

    /// For machines.
    ///
    /// # Errors
    /// None in practice: every value of a report can be written as JSON.
    pub fn to_json(&self) -> Result<String, ReportError> {
        Ok(serde_json::to_string(self)? + "\n")
    }

    /// Reads what [`Report::to_json`] wrote.
    ///
    /// # Errors
    /// [`ReportError`].
    pub fn from_json(text: &str) -> Result<Self, ReportError> {
        #[derive(Deserialize)]
        struct Version {
            version: u64,
        }
        let Version { version } = serde_json::from_str(text)?;
        if version != u64::from(REPORT_VERSION) {
            return Err(ReportError::Version { found: version });
        }
        Ok(serde_json::from_str(text)?)
    }
}

/// `--seed 3` for one, `--seeds 10` for the first ten.
fn seeds_option(runs: &[Run]) -> String {
    match runs {
        [only] => format!("--seed {}", only.seed),
        [first, ..] if first.seed != 1 => format!("--seed {} --seeds {}", first.seed, runs.len()),
        _ => format!("--seeds {}", runs.len()),
    }
}

/// A scenario's targets, or the usual metrics where it has none.
fn targets(scenario: &Scenario) -> Vec<Target> {
    if !scenario.targets.is_empty() {
        return scenario.targets.clone();
    }
    let usual = |name: &&str| {
        Metric::named(name).map(|metric| Target {
            what: metric.about().to_owned(),
            metric,
            part: Part::default(),
            bound: None,
            over: Over::default(),
        })
    };
    USUAL.iter().filter_map(usual).collect()
}

impl Row {
    fn new(target: &Target, outcomes: &[Outcome]) -> Self {
        let values: Vec<Option<f64>> =
            outcomes.iter().map(|outcome| target.metric.of(outcome, &target.part)).collect();
        let measured: Vec<f64> = values.iter().copied().flatten().collect();
        let summary = Summary::of(&measured, target.metric.better);
        let verdict = match (target.bound, &summary) {
            (None, _) => Verdict::Shown,
            (Some(bound), Some(summary))
                if measured.len() == values.len() && bound.holds(target.over.of(summary)) =>
            {
                Verdict::Met
            }
            (Some(_), _) => Verdict::Missed,
        };
        Self {
            what: target.what.clone(),
            metric: target.metric.name.to_owned(),
            better: target.metric.better,
            bound: target.bound,
            over: target.over,
            values,
            summary,
            verdict,
        }
    }

    /// Whether this run alone keeps to the bound; a mean is not asked of a single run.
    fn is_met_by(&self, run: usize) -> bool {
        match (self.bound, self.over) {
            (None, _) | (Some(_), Over::Mean) => true,
            (Some(bound), _) => self.values[run].is_some_and(|value| bound.holds(value)),
        }
    }

    /// Runs that did not come to it.
    fn unmeasured(&self) -> usize {
        self.values.iter().filter(|value| value.is_none()).count()
    }

    fn unit(&self) -> Unit {
        Metric::named(&self.metric).map_or(Unit::Plain, |metric| metric.unit)
    }
}

#[cfg(test)]
mod tests;
