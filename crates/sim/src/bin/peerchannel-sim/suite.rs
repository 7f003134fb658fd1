//! The whole table: what is missing is run, all that is there is told.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use peerchannel_sim::report::{Report, picture};
use peerchannel_sim::scenario::{Overrides, Scenario, Shelf};
use peerchannel_sim::suite::{CODE, Entry, Job, Section, Store, Suite, carry_out, document};
use peerchannel_sim::{Outcome, report};

use crate::args::SuiteOptions;
use crate::{Failure, Verdict, child, write};

/// Nodes of a row with `--quick` at most.
const QUICK_NODES: usize = 300;
/// Seeds of a row with `--quick` at most.
const QUICK_SEEDS: usize = 2;

/// A row and what is to be run for it.
struct Row {
    entry: Entry,
    scenario: Scenario,
    overrides: Overrides,
    seeds: usize,
}

pub(crate) fn run(options: &SuiteOptions) -> Result<Verdict, Failure> {
    let mut suite = Suite::own().map_err(|error| Failure::Usage(error.to_string()))?;
    if !options.rows.is_empty() {
        suite = suite.only(&options.rows).map_err(Failure::Usage)?;
    }
    let deadline = deadline(options.budget)?;
    let rows = rows(&suite, options.quick)?;
    let jobs = jobs(&rows)?;
    let store = Store::at(&options.store);
    let failed = |error: std::io::Error| Failure::Runtime(error.to_string());
    if options.fresh {
        jobs.iter().try_for_each(|job| store.forget(job)).map_err(failed)?;
    }
    let missing: Vec<Job> = jobs.iter().filter(|job| store.get(job).is_none()).cloned().collect();
    eprintln!("{} runs, {} of them there already; code {CODE}", jobs.len(), jobs.len() - missing.len());
    let mut troubles = Vec::new();
    let mut done = 0;
    let begun = Instant::now();
    let left = carry_out(&missing, options.jobs, Some(deadline), child::run, |finished| {
        let job = &missing[finished.job];
        done += 1;
        let place = format!("[{done}/{}] {} seed {}", missing.len(), job.plan.name, job.plan.seed);
        match finished.result.and_then(|outcome| {
            store.put(job, &outcome).map_err(|error| error.to_string())?;
            Ok(outcome)
        }) {
            Ok(outcome) => eprintln!("{place}: {}", in_short(&outcome)),
            Err(why) => {
                eprintln!("{place}: {why}");
                troubles.push(format!(
                    "{} seed {}: {why}\n  replay: {}",
                    job.plan.name,
                    job.plan.seed,
                    job.plan.replay()
                ));
            }
        }
    });
    eprintln!("{done} runs in {:.1} minutes", begun.elapsed().as_secs_f64() / 60.0);
    // The record has every row; part of it or a quick one is for the eye.
    let record = !options.quick && options.rows.is_empty();
    let verdict = tell(&rows, &jobs, &store, record, options)?;
    if !left.is_empty() {
        eprintln!("{} runs are left, the time is up: the same command continues", left.len());
    }
    if !troubles.is_empty() {
        return Err(Failure::Runtime(troubles.join("\n")));
    }
    Ok(if left.is_empty() { verdict } else { Verdict::Failed })
}

fn deadline(minutes: f64) -> Result<Instant, Failure> {
    let budget = Duration::try_from_secs_f64(minutes * 60.0).ok();
    budget
        .and_then(|budget| Instant::now().checked_add(budget))
        .ok_or_else(|| Failure::Usage(format!("--budget {minutes}: must be a number of minutes from 0 up")))
}

fn rows(suite: &Suite, quick: bool) -> Result<Vec<Row>, Failure> {
    let shelf = Shelf::own();
    let mut rows = Vec::new();
    for entry in &suite.entries {
        let scenario = shelf.load(&entry.scenario)?;
        let seeds = entry.seeds.unwrap_or(scenario.seeds);
        if seeds == 0 {
            continue;
        }
        let nodes = entry.nodes.unwrap_or(scenario.plan.nodes);
        let nodes = Some(if quick { nodes.min(QUICK_NODES) } else { nodes });
        let seeds = if quick { seeds.min(QUICK_SEEDS) } else { seeds };
        let overrides = Overrides { nodes, ..Overrides::default() };
        rows.push(Row { entry: entry.clone(), scenario, overrides, seeds });
    }
    Ok(rows)
}

/// The first seed of every row, then the second of every row: if time runs out, every row has
/// something to show. The largest begin first, so that none is left to run alone at the end.
fn jobs(rows: &[Row]) -> Result<Vec<Job>, Failure> {
    let mut jobs = Vec::new();
    for (section, row) in rows.iter().enumerate() {
        for seed in 1..=row.seeds as u64 {
            jobs.push(Job::new(section, &row.scenario, row.overrides, seed)?);
        }
    }
    jobs.sort_by_key(|job| (job.plan.seed, std::cmp::Reverse(job.plan.nodes), job.section));
    Ok(jobs)
}

fn in_short(outcome: &Outcome) -> String {
    let wall = report::Unit::Seconds.show(outcome.wall_s);
    match outcome.violations_total {
        0 => wall,
        many => format!("{wall}, {many} VIOLATIONS; replay: {}", outcome.replay),
    }
}

/// Prints every row and writes the document.
fn tell(
    rows: &[Row],
    jobs: &[Job],
    store: &Store,
    record: bool,
    options: &SuiteOptions,
) -> Result<Verdict, Failure> {
    let mut sections = Vec::new();
    let mut empty = Vec::new();
    let document_file =
        if record { root().join("docs/simulation.md") } else { options.store.join("quick.md") };
    let pictures = document_file.with_extension("");
    for (index, row) in rows.iter().enumerate() {
        let outcomes: Vec<Outcome> =
            jobs.iter().filter(|job| job.section == index).filter_map(|job| store.get(job)).collect();
        if outcomes.is_empty() {
            empty.push(row.entry.scenario.as_str());
            continue;
        }
        let report = Report::new(&row.scenario, row.overrides, CODE, outcomes);
        println!("{}", report.to_text());
        let picture = match report.most_telling().filter(|_| row.entry.picture || !record) {
            Some(run) => {
                let file = format!("{}-{}.svg", row.scenario.name, report.nodes);
                let svg = picture(&report.title, &run.outcome, report.neighbors).to_svg();
                write(&pictures.join(&file), &svg)?;
                let folder = pictures.file_name().unwrap_or_default().to_string_lossy().into_owned();
                Some(format!("{folder}/{file}"))
            }
            None => None,
        };
        let (scenario, seeds, note) = (row.scenario.clone(), row.seeds, row.entry.note.clone());
        sections.push(Section { scenario, report, seeds, note, picture });
    }
    if record && !empty.is_empty() {
        println!("docs/simulation.md is as it was: nothing was run of {}", empty.join(", "));
        return Ok(Verdict::Failed);
    }
    write(&document_file, &document(&sections))?;
    println!("written: {}", document_file.display());
    let passed = sections.iter().all(|section| section.report.passes()) && empty.is_empty();
    Ok(if passed { Verdict::Passed } else { Verdict::Failed })
}

/// The root of the workspace.
fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.ancestors().nth(2).unwrap_or(own).to_owned()
}
