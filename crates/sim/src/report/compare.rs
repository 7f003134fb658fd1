//! Two reports side by side: what changed, by how much, and whether that means anything.
//!
//! Runs of different code are different samples of the same world, even with equal seeds: one
//! early difference changes all that follows. A change therefore counts only where it exceeds
//! twice the standard error of the difference of the means (Welch). With one seed on either side
//! nothing can be said, and nothing is.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::{Better, Metric, Report, Row, Side, Summary, Table, Unit};

/// Two reports, row by row.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// Rows that both have, in the order of the later.
    pub rows: Vec<Compared>,
    /// What makes the two less comparable, for people.
    pub cautions: Vec<String>,
}

/// A row of both.
#[derive(Debug, Clone, PartialEq)]
pub struct Compared {
    /// What it is about.
    pub what: String,
    before: Row,
    after: Row,
    /// From the earlier mean to the later, as a share of the earlier; `None` where either is
    /// missing or the earlier is 0.
    pub relative: Option<f64>,
    /// What it comes to.
    pub change: Change,
}

/// What a difference comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// Improved beyond chance.
    Better,
    /// Worsened beyond chance.
    Worse,
    /// The same value, or a difference that chance explains.
    Same,
    /// One seed, or not measured on one side.
    Unknown,
}

impl Change {
    /// In a word or two.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Better => "better",
            Self::Worse => "WORSE",
            Self::Same => "same",
            Self::Unknown => "too few seeds",
        }
    }

    fn between(before: &Summary, after: &Summary, better: Better) -> Self {
        let difference = after.mean - before.mean;
        if difference == 0.0 {
            return Self::Same;
        }
        if before.seeds < 2 || after.seeds < 2 {
            return Self::Unknown;
        }
        let error = |side: &Summary| side.deviation.powi(2) / side.seeds as f64;
        if difference.abs() <= 2.0 * (error(before) + error(after)).sqrt() {
            return Self::Same;
        }
        if (difference < 0.0) == (better == Better::Less) { Self::Better } else { Self::Worse }
    }
}

impl Comparison {
    /// Compares an earlier report with a later one.
    #[must_use]
    pub fn of(before: &Report, after: &Report) -> Self {
        let compared = |after: &Row| {
            let same = |row: &&Row| row.metric == after.metric && row.what == after.what;
            let before = before.rows.iter().find(same)?;
            let (relative, change) = match (&before.summary, &after.summary) {
                (Some(old), Some(new)) => {
                    let relative = (old.mean != 0.0).then(|| (new.mean - old.mean) / old.mean.abs());
                    // A seed that no longer comes to it at all weighs more than the others' mean.
                    let change = match after.unmeasured().cmp(&before.unmeasured()) {
                        Ordering::Greater => Change::Worse,
                        Ordering::Less => Change::Better,
                        Ordering::Equal => Change::between(old, new, after.better),
                    };
                    (relative, change)
                }
                _ => (None, Change::Unknown),
            };
            let (before, after) = (before.clone(), after.clone());
            Some(Compared { what: after.what.clone(), before, after, relative, change })
        };
        let rows = after.rows.iter().filter_map(compared).collect();
        let mut cautions = Vec::new();
        let mut differs = |what: &str, old: String, new: String| {
            if old != new {
                cautions.push(format!("{what} differs: {old} before, {new} now"));
            }
        };
        differs("the scenario", before.scenario.clone(), after.scenario.clone());
        differs("the number of nodes", before.nodes.to_string(), after.nodes.to_string());
        differs("the virtual time", format!("{} s", before.duration_s), format!("{} s", after.duration_s));
        differs("the number of seeds", before.runs.len().to_string(), after.runs.len().to_string());
        Self { rows, cautions }
    }

    /// Whether something got worse beyond chance, or a target that was met no longer is.
    #[must_use]
    pub fn is_worse(&self) -> bool {
        use super::Verdict::{Met, Missed};
        self.rows.iter().any(|row| {
            row.change == Change::Worse || (row.before.verdict == Met && row.after.verdict == Missed)
        })
    }

    /// The comparison as it is printed.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut table = Table::new([
            ("what", Side::Left),
            ("before", Side::Right),
            ("now", Side::Right),
            ("change", Side::Right),
            ("", Side::Left),
            ("verdict", Side::Left),
        ]);
        for Compared { what, before, after, relative, change } in &self.rows {
            let unit = Metric::named(&after.metric).map_or(Unit::Plain, |metric| metric.unit);
            let mean = |row: &Row| row.summary.map_or("-".to_owned(), |summary| unit.show(summary.mean));
            let verdict = match (before.verdict.word(), after.verdict.word()) {
                (old, new) if old == new => new.to_owned(),
                (old, new) => format!("{old} -> {new}"),
            };
            table.push([
                what.clone(),
                mean(before),
                mean(after),
                relative.map_or("-".to_owned(), |share| format!("{:+.1} %", share * 100.0)),
                change.words().to_owned(),
                verdict,
            ]);
        }
        let mut text = table.to_text();
        for caution in &self.cautions {
            text += &format!("caution: {caution}\n");
        }
        text
    }
}
