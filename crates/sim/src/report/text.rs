//! A report for people: a table, then what went wrong and how to see it again.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::outcome::{Outcome, VIOLATIONS_KEPT};

use super::{Report, Row, Run, Side, Table, Unit, Verdict};

/// Rules of which a violation is shown per seed; the JSON has more of them.
const RULES_SHOWN: usize = 5;
/// Columns after which a list goes on in the next line.
const COLUMNS: usize = 110;
/// Failing seeds shown; the last line counts the others.
const SEEDS_SHOWN: usize = 10;

impl Verdict {
    /// In a word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Missed => "MISSED",
            Self::Shown => "",
        }
    }
}

impl Row {
    /// The cells `target`, `mean`, `p99`, `worst` and `verdict` of a table.
    #[must_use]
    pub fn cells(&self) -> [String; 5] {
        let unit = self.unit();
        let target = self.bound.map(|bound| {
            let limit =
                super::Metric::named(&self.metric).map(|metric| bound.show(metric)).unwrap_or_default();
            match self.over {
                super::Over::Worst => limit,
                super::Over::P99 => format!("{limit} p99"),
                super::Over::Mean => format!("{limit} mean"),
            }
        });
        let figures = match &self.summary {
            Some(summary) => [summary.mean, summary.p99, summary.worst].map(|value| unit.show(value)),
            None => [String::from("-"), String::from("-"), String::from("-")],
        };
        let unmeasured = self.unmeasured();
        let verdict = match self.verdict {
            Verdict::Missed if unmeasured > 0 => {
                format!("MISSED (no value in {unmeasured} of {})", self.values.len())
            }
            verdict => verdict.word().to_owned(),
        };
        let [mean, p99, worst] = figures;
        [target.unwrap_or_default(), mean, p99, worst, verdict]
    }
}

impl Report {
    /// The report as it is printed.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = format!("{}: {}\n{}\n\n", self.scenario, self.title, self.circumstances());
        let mut table = Table::new([
            ("what", Side::Left),
            ("target", Side::Left),
            ("mean", Side::Right),
            ("p99", Side::Right),
            ("worst", Side::Right),
            ("verdict", Side::Left),
        ]);
        for row in &self.rows {
            table.push(std::iter::once(row.what.clone()).chain(row.cells()));
        }
        text += &table.to_text();
        if let [run] = self.runs.as_slice() {
            text += &details(&run.outcome);
        }
        text += &self.failures();
        text
    }

    /// Nodes, time, seeds and what it took, in a line.
    fn circumstances(&self) -> String {
        let seeds = match self.runs.as_slice() {
            [] => "no seed".to_owned(),
            [run] => format!("seed {}", run.seed),
            [first, .., last] => format!("seeds {} to {}", first.seed, last.seed),
        };
        let wall: f64 = self.runs.iter().map(|run| run.outcome.wall_s).sum();
        let events: u64 = self.runs.iter().map(|run| run.outcome.events).sum();
        format!(
            "{} nodes, {} of virtual time, {seeds}; {:.1} million events in {} of computing; code {}",
            self.nodes,
            shown_time(self.duration_s),
            events as f64 / 1e6,
            Unit::Seconds.show(wall),
            self.code,
        )
    }

    /// What did not hold, seed by seed, with the commands that show it again.
    fn failures(&self) -> String {
        let failed: Vec<(usize, &Run)> =
            self.runs.iter().enumerate().filter(|(_, run)| !run.passed).collect();
        let mut text = String::new();
        for (index, run) in failed.iter().take(SEEDS_SHOWN) {
            let _ = writeln!(text, "\nseed {} did not pass", run.seed);
            for row in self.rows.iter().filter(|row| !row.is_met_by(*index)) {
                let value =
                    row.values[*index].map_or("has no value".to_owned(), |value| row.unit().show(value));
                let [target, ..] = row.cells();
                let _ = writeln!(text, "  {} {value}, target {target}: {}", row.metric, row.what);
            }
            text += &violations(&run.outcome);
            let _ = writeln!(text, "  replay: {}", run.replay);
        }
        if failed.len() > SEEDS_SHOWN {
            let _ = writeln!(text, "\nand {} seeds more", failed.len() - SEEDS_SHOWN);
        }
        let missed = self.rows.iter().filter(|row| row.verdict == Verdict::Missed).count();
        let judged = self.rows.iter().filter(|row| row.verdict != Verdict::Shown).count();
        let invariants = match self.violations() {
            0 => "every invariant held".to_owned(),
            many => format!("{many} violations of invariants"),
        };
        let verdict = if self.passes() { "passed" } else { "FAILED" };
        let targets = match judged {
            0 => "no targets".to_owned(),
            _ => format!("{} of {judged} targets met", judged - missed),
        };
        text + &format!("\n{verdict}: {targets}, {invariants}\n")
    }
}

/// The first violation of each rule: a hundred of one kind must not hide the only one of another.
fn violations(outcome: &Outcome) -> String {
    let mut text = String::new();
    let mut shown: Vec<&str> = Vec::new();
    for violation in &outcome.violations {
        if shown.len() == RULES_SHOWN || shown.contains(&violation.rule.as_str()) {
            continue;
        }
        shown.push(&violation.rule);
        let place = violation.node.map(|node| format!(", node {node}")).unwrap_or_default();
        let (at, rule, what) = (violation.at, &violation.rule, &violation.text);
        let _ = writeln!(text, "  violation at {at:.3} s{place}: {rule}: {what}");
    }
    let rest = outcome.violations_total.saturating_sub(shown.len() as u64);
    if rest > 0 {
        let _ = writeln!(text, "  and {rest} more; --json FILE has the first {VIOLATIONS_KEPT}");
    }
    text
}

/// What one run tells beyond its rows.
fn details(outcome: &Outcome) -> String {
    let mut text = String::new();
    if !outcome.marks.is_empty() {
        let mut table = Table::new([
            ("at", Side::Right),
            ("what", Side::Left),
            ("nodes", Side::Right),
            ("over at", Side::Right),
            ("noticed by all", Side::Right),
            ("one component", Side::Right),
        ]);
        let time = |at: Option<f64>| at.map_or("-".to_owned(), |at| format!("{at:.1} s"));
        for mark in &outcome.marks {
            table.push([
                time(Some(mark.at)),
                mark.what.clone(),
                mark.nodes.to_string(),
                time(mark.until),
                time(mark.detected_at),
                time(mark.one_component_at),
            ]);
        }
        text += &format!("\n{}", table.to_text());
    }
    for (when, rates) in
        [("the whole run", outcome.bytes_by_kind.clone()), ("its last quarter", at_last(outcome))]
    {
        let mut kinds: Vec<(&String, &f64)> = rates.iter().filter(|(_, rate)| **rate >= 0.05).collect();
        kinds.sort_by(|a, b| b.1.total_cmp(a.1).then(a.0.cmp(b.0)));
        let kinds: Vec<String> = kinds.iter().map(|(kind, rate)| format!("{kind} {rate:.1}")).collect();
        if !kinds.is_empty() {
            text += &list(&format!("bytes per second and node in {when}"), &kinds);
        }
    }
    let (reached, missed): (Vec<_>, Vec<_>) = outcome.sometimes.iter().partition(|(_, times)| **times > 0);
    if !reached.is_empty() {
        let reached: Vec<String> =
            reached.iter().map(|(branch, times)| format!("{branch} {times}")).collect();
        text += &list("reached", &reached);
    }
    if !missed.is_empty() {
        let missed: Vec<String> = missed.iter().map(|(branch, _)| (*branch).clone()).collect();
        text += &list("never reached", &missed);
    }
    if !outcome.transcript.is_empty() {
        let _ = writeln!(text, "\ntranscript {}", outcome.transcript);
    }
    text
}

/// A heading and what belongs under it, in lines that fit.
fn list(heading: &str, words: &[String]) -> String {
    let mut text = format!("\n{heading}:\n");
    let mut line = String::from(" ");
    for (index, word) in words.iter().enumerate() {
        if line.chars().count() + word.chars().count() > COLUMNS {
            text += &format!("{line}\n");
            line = String::from(" ");
        }
        let comma = if index + 1 < words.len() { "," } else { "" };
        line += &format!(" {word}{comma}");
    }
    text + &line + "\n"
}

/// What was sent, by kind, when all that happened early has passed.
fn at_last(outcome: &Outcome) -> BTreeMap<String, f64> {
    let late: Vec<_> = outcome.samples.iter().filter(|s| s.at >= outcome.duration_s * 0.75).collect();
    let mut kinds: BTreeMap<String, f64> = BTreeMap::new();
    for (kind, rate) in late.iter().flat_map(|sample| &sample.bytes_by_kind) {
        *kinds.entry(kind.clone()).or_default() += rate / late.len() as f64;
    }
    kinds
}

fn shown_time(seconds: f64) -> String {
    if seconds >= 120.0 {
        format!("{} min", Unit::Plain.show(seconds / 60.0))
    } else {
        Unit::Seconds.show(seconds)
    }
}
