//! What came of a suite, as a page of documentation.

use crate::report::{Report, Side, Table, Verdict};
use crate::scenario::Scenario;

/// One scenario of the suite and what came of it.
#[derive(Debug)]
pub struct Section {
    /// The scenario.
    pub scenario: Scenario,
    /// What came of it.
    pub report: Report,
    /// Seeds it should have been run with.
    pub seeds: usize,
    /// What the suite's list says about its figures.
    pub note: String,
    /// Its picture, relative to the document.
    pub picture: Option<String>,
}

/// The page: one table of all that is judged, then each scenario.
#[must_use]
pub fn document(sections: &[Section]) -> String {
    let mut text = String::from(
        "# What the simulator measures\n\n\
         <!-- Written by `cargo xtask sim suite`. Do not edit: the words come from crates/sim/scenarios \
         and crates/sim/suite.toml. -->\n\n\
         The nodes are the production state machine, the network between them is modelled, the time is \
         virtual: [testing.md](testing.md#the-simulator) says how, and how to read these tables.\n\
         Each line is measured with several seeds; `p99` and `worst` are over the seeds, with fewer than \
         100 of them the p99 is the worst.\n\n",
    );
    text += &format!("{}\n\n", verdict(sections));
    let mut table = Table::new([
        ("what", Side::Left),
        ("nodes", Side::Right),
        ("target", Side::Left),
        ("mean", Side::Right),
        ("p99", Side::Right),
        ("worst", Side::Right),
        ("verdict", Side::Left),
        ("command", Side::Left),
    ]);
    for Section { report, .. } in sections {
        for row in report.rows.iter().filter(|row| row.verdict != Verdict::Shown) {
            let what = format!("{}: {}", report.title, row.what);
            let command = format!("`{}`", report.command);
            table.push([what, report.nodes.to_string()].into_iter().chain(row.cells()).chain([command]));
        }
    }
    text += &table.to_markdown();
    for section in sections {
        text += &one(section);
    }
    text
}

fn verdict(sections: &[Section]) -> String {
    let failing: Vec<String> = sections.iter().filter(|s| !s.report.passes()).map(heading).collect();
    let runs: usize = sections.iter().map(|section| section.report.runs.len()).sum();
    let code = sections.first().map_or("", |section| section.report.code.as_str());
    let met = match failing.as_slice() {
        [] => "Every target is met and every invariant held".to_owned(),
        some => format!("Not all is met: see {}", some.join(", ")),
    };
    format!("{met}, in {runs} runs of code `{code}`.")
}

fn one(section: &Section) -> String {
    let Section { scenario, report, seeds, note, picture } = section;
    let mut text = format!("\n## {}\n\n{}\n\n", heading(section), sentence(&report.title));
    if !scenario.shows.is_empty() {
        text += &format!("{}\n\n", scenario.shows);
    }
    let run = report.runs.len();
    let of = if run < *seeds { format!("{run} of {seeds} seeds so far") } else { format!("{run} seeds") };
    let minutes = report.duration_s / 60.0;
    let wall: f64 = report.runs.iter().map(|run| run.outcome.wall_s).sum::<f64>() / (run.max(1) as f64);
    text += &format!(
        "{} nodes, {minutes:.1} minutes of virtual time, {of}, {wall:.1} s of computing each, {} violations of \
         invariants.\n\n",
        report.nodes,
        report.violations(),
    );
    let mut table = Table::new([
        ("what", Side::Left),
        ("target", Side::Left),
        ("mean", Side::Right),
        ("p99", Side::Right),
        ("worst", Side::Right),
        ("verdict", Side::Left),
    ]);
    for row in &report.rows {
        table.push(std::iter::once(row.what.clone()).chain(row.cells()));
    }
    text += &format!("{}\n```\n{}\n```\n", table.to_markdown(), report.command);
    for run in report.runs.iter().filter(|run| !run.passed) {
        text += &format!("\nSeed {} did not pass: `{}`.\n", run.seed, run.replay);
    }
    if !note.trim().is_empty() {
        text += &format!("\n{}\n", note.trim());
    }
    if let Some(picture) = picture {
        text += &format!("\n![{} over virtual time]({picture})\n", scenario.name);
    }
    text
}

/// What tells a row from others of the same scenario.
fn heading(section: &Section) -> String {
    format!("{}, {} nodes", section.scenario.name, section.report.nodes)
}

/// A title as a sentence.
fn sentence(title: &str) -> String {
    let mut letters = title.chars();
    let first: String = letters.next().map(|first| first.to_uppercase().collect()).unwrap_or_default();
    format!("{first}{}.", letters.as_str())
}
