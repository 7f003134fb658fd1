//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args as Group, Parser, Subcommand};
use peerchannel_sim::scenario::Overrides;

/// Runs thousands of nodes in virtual time through what meshes have to endure, and says whether
/// they held.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask sim", bin_name = "cargo xtask sim", args_conflicts_with_subcommands = true)]
#[command(arg_required_else_help = true)]
#[command(after_help = "\
A run is repeated exactly by the same scenario, nodes and seed. --debug (before all other options) runs \
the debug build, whose assertions are on.
docs/testing.md says how to read the tables, crates/sim/scenarios has the scenarios.")]
pub(crate) struct Args {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    /// List the scenarios, a line each.
    #[arg(long, exclusive = true)]
    pub(crate) list: bool,
    #[command(flatten)]
    pub(crate) single: Single,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the whole table and write docs/simulation.md. What was run before with the same code is
    /// not run again.
    Suite(SuiteOptions),
    /// Run one seed and print its outcome as JSON: what the others are made of.
    #[command(hide = true)]
    One(OneOptions),
}

#[derive(Debug, Group)]
pub(crate) struct Single {
    /// A scenario of crates/sim/scenarios by its name, or the path of a TOML file.
    #[arg(required_unless_present = "list")]
    scenario: Option<String>,
    #[command(flatten)]
    pub(crate) changes: Changes,
    /// The seed, or the first one.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// How many seeds, one after another from the first.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..=10_000))]
    pub(crate) seeds: u64,
    /// Compare with a report that --json wrote earlier.
    #[arg(long, value_name = "REPORT")]
    pub(crate) compare: Option<PathBuf>,
    /// Write the report as JSON; - for stdout instead of the table.
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Draw the first seed that failed, or else the first.
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,
    /// Seeds at a time.
    #[arg(long, default_value_t = WORKERS, value_parser = workers)]
    pub(crate) jobs: usize,
}

impl Single {
    pub(crate) fn scenario(&self) -> &str {
        self.scenario.as_deref().unwrap_or_default()
    }
}

/// What differs from the scenario's file.
#[derive(Debug, Clone, Copy, Group)]
pub(crate) struct Changes {
    /// Nodes at the start, instead of the scenario's.
    #[arg(long)]
    nodes: Option<usize>,
    /// Minutes of virtual time, instead of the scenario's.
    #[arg(long, value_parser = minutes)]
    minutes: Option<Duration>,
}

impl Changes {
    pub(crate) fn overrides(self) -> Overrides {
        Overrides { nodes: self.nodes, duration: self.minutes }
    }
}

#[derive(Debug, Group)]
pub(crate) struct SuiteOptions {
    /// At most 300 nodes and 2 seeds, not for the record: written to target/sim/quick.md.
    #[arg(long)]
    pub(crate) quick: bool,
    /// Only these rows, by the names of their scenarios.
    #[arg(long, value_delimiter = ',', num_args = 1..)]
    pub(crate) rows: Vec<String>,
    /// Forget what was run before.
    #[arg(long)]
    pub(crate) fresh: bool,
    /// Begin no run after so many minutes; the same command continues.
    #[arg(long, default_value_t = 90.0, value_name = "MINUTES")]
    pub(crate) budget: f64,
    /// Runs at a time.
    #[arg(long, default_value_t = WORKERS, value_parser = workers)]
    pub(crate) jobs: usize,
    /// Where finished runs are kept.
    #[arg(long, env = "PEERCHANNEL_SIM_STORE", default_value = "target/sim", value_name = "FOLDER")]
    pub(crate) store: PathBuf,
}

#[derive(Debug, Group)]
pub(crate) struct OneOptions {
    pub(crate) scenario: String,
    #[command(flatten)]
    pub(crate) changes: Changes,
    #[arg(long)]
    pub(crate) seed: u64,
    /// Refuse if the scenario is no longer what it was when this was started.
    #[arg(long)]
    pub(crate) key: Option<String>,
}

/// Runs at a time: one per core of the machine the issue names.
const WORKERS: usize = 2;
/// Runs at a time at most: each holds a whole mesh in memory.
const WORKERS_MAX: usize = 64;

fn workers(text: &str) -> Result<usize, String> {
    let count = text.parse().map_err(|_| "not a whole number".to_owned())?;
    if (1..=WORKERS_MAX).contains(&count) { Ok(count) } else { Err(format!("must be 1 to {WORKERS_MAX}")) }
}

fn minutes(text: &str) -> Result<Duration, String> {
    let minutes: f64 = text.parse().map_err(|_| "not a number of minutes, such as 0.5".to_owned())?;
    if !(minutes > 0.0 && minutes <= 24.0 * 60.0) {
        return Err("must be more than 0 and at most 1440 minutes (a day)".to_owned());
    }
    // Whole milliseconds, so that what a command shows is what it is given.
    Ok(Duration::from_millis((minutes * 60_000.0).round().max(1.0) as u64))
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn good_lines_are_understood_and_bad_ones_are_usage_errors() {
        let parse = |line: &str| Args::try_parse_from(std::iter::once("sim").chain(line.split_whitespace()));
        let args = parse("crash-30 --nodes 1000 --seed 4 --seeds 3 --minutes 0.5 --svg a.svg").unwrap();
        let overrides = args.single.changes.overrides();
        assert_eq!(overrides, Overrides { nodes: Some(1000), duration: Some(Duration::from_secs(30)) });
        assert_eq!((args.single.scenario(), args.single.seed, args.single.seeds), ("crash-30", 4, 3));
        let Some(Command::Suite(suite)) = parse("suite --quick --rows a,b").unwrap().command else {
            panic!("not the suite");
        };
        assert!(suite.quick && suite.rows == ["a", "b"]);
        assert!(parse("--list").unwrap().list);
        for bad in [
            "",
            "--seed 1",
            "crash-30 --minutes 0",
            "crash-30 --minutes never",
            "crash-30 --seeds 0",
            "crash-30 --jobs 0",
            "crash-30 --list",
            "crash-30 --speed 2",
        ] {
            let error = parse(bad).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{bad}: {error}");
        }
    }
}
