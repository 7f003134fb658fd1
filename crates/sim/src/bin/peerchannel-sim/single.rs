//! One scenario with one or more seeds.

use peerchannel_sim::report::{Comparison, Report, picture};
use peerchannel_sim::scenario::{Shelf, find};
use peerchannel_sim::suite::{CODE, Job, carry_out};

use crate::args::Single;
use crate::{Failure, Verdict, child, write};

pub(crate) fn run(options: &Single) -> Result<Verdict, Failure> {
    let scenario = find(&Shelf::own(), options.scenario())?;
    let overrides = options.changes.overrides();
    // Before the work rather than after it.
    let earlier = options.compare.as_deref().map(earlier_report).transpose()?;
    let seeds = options.seed..options.seed.saturating_add(options.seeds);
    let jobs: Result<Vec<Job>, _> = seeds.map(|seed| Job::new(0, &scenario, overrides, seed)).collect();
    let jobs = jobs?;
    let (mut outcomes, mut broken) = (Vec::new(), Vec::new());
    carry_out(&jobs, options.jobs, None, child::run, |finished| {
        let job = &jobs[finished.job];
        match finished.result {
            Ok(outcome) => outcomes.push(outcome),
            Err(why) => {
                broken.push(format!("seed {}: {why}\n  replay: {}", job.plan.seed, job.plan.replay()));
            }
        }
        if jobs.len() > 1 {
            eprintln!("seed {} done, {} of {}", job.plan.seed, outcomes.len() + broken.len(), jobs.len());
        }
    });
    let report = Report::new(&scenario, overrides, CODE, outcomes);
    let json = || report.to_json().map_err(|error| Failure::Runtime(error.to_string()));
    let only_json = options.json.as_ref().is_some_and(|file| file.as_os_str() == "-");
    if !report.runs.is_empty() && !only_json {
        print!("{}", report.to_text());
    }
    if let Some(earlier) = &earlier {
        let comparison = Comparison::of(earlier, &report).to_text();
        let text = format!("\ncompared with {} of code {}\n{comparison}", earlier.scenario, earlier.code);
        // Stdout is for one of them: machines want nothing else on it.
        if only_json { eprint!("{text}") } else { print!("{text}") }
    }
    if let Some(file) = &options.json {
        write(file, &json()?)?;
    }
    if let (Some(file), Some(run)) = (&options.svg, report.most_telling()) {
        write(file, &picture(&report.title, &run.outcome, report.neighbors).to_svg())?;
    }
    if !broken.is_empty() {
        return Err(Failure::Runtime(broken.join("\n")));
    }
    Ok(if report.passes() { Verdict::Passed } else { Verdict::Failed })
}

fn earlier_report(file: &std::path::Path) -> Result<Report, Failure> {
    let named = |why: String| Failure::Usage(format!("{}: {why}", file.display()));
    let text = std::fs::read_to_string(file).map_err(|error| named(error.to_string()))?;
    Report::from_json(&text).map_err(|error| named(error.to_string()))
}
