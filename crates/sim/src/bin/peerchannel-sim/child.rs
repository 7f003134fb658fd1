//! One run, in a process of its own.

use std::ffi::OsString;
use std::process::{Command, Stdio};

use peerchannel_sim::scenario::{Shelf, find};
use peerchannel_sim::suite::Job;
use peerchannel_sim::{Outcome, World};

use crate::args::OneOptions;
use crate::{Failure, Verdict};

/// Where glibc looks for settings of its allocator.
const ALLOCATOR_SETTINGS: &str = "GLIBC_TUNABLES";

/// Runs a job in a process of its own and reads its outcome.
///
/// # Errors
/// Why there is none, for people; what the process said itself is on stderr.
pub(crate) fn run(job: &Job) -> Result<Outcome, String> {
    let program = std::env::current_exe().map_err(|error| format!("cannot find this program: {error}"))?;
    let mut command = Command::new(program);
    command.args(arguments(job)).stdin(Stdio::null()).stderr(Stdio::inherit());
    // Thousands of nodes are visited in no order: with small pages every visit begins with
    // misses of the address cache (measured: 13 % of the time at 300 nodes, more above). Only
    // glibc's allocator reads it, and before the program begins.
    if std::env::var_os(ALLOCATOR_SETTINGS).is_none() {
        command.env(ALLOCATOR_SETTINGS, "glibc.malloc.hugetlb=1");
    }
    let output = command.output().map_err(|error| format!("cannot start a process for it: {error}"))?;
    if !output.status.success() {
        return Err(format!("the run ended with {}, see above", output.status));
    }
    serde_json::from_slice(&output.stdout).map_err(|error| format!("its outcome cannot be read: {error}"))
}

fn arguments(job: &Job) -> Vec<OsString> {
    let mut words = vec!["one".to_owned(), job.place.clone(), format!("--seed={}", job.plan.seed)];
    words.extend(job.overrides.nodes.map(|nodes| format!("--nodes={nodes}")));
    words.extend(job.overrides.duration.map(|time| format!("--minutes={}", time.as_secs_f64() / 60.0)));
    words.push(format!("--key={}", job.key));
    words.into_iter().map(OsString::from).collect()
}

/// Is such a process.
pub(crate) fn be(options: &OneOptions) -> Result<Verdict, Failure> {
    let scenario = find(&Shelf::own(), &options.scenario)?;
    let job = Job::new(0, &scenario, options.changes.overrides(), options.seed)?;
    if options.key.as_ref().is_some_and(|key| *key != job.key) {
        return Err(Failure::Runtime(format!(
            "scenario {} was changed while it was being run: start again",
            scenario.name
        )));
    }
    let outcome = World::run(job.plan).map_err(|error| Failure::Usage(error.to_string()))?;
    let text = serde_json::to_string(&outcome).map_err(|error| Failure::Runtime(error.to_string()))?;
    println!("{text}");
    Ok(Verdict::Passed)
}
