//! The command behind `cargo xtask sim`: runs scenarios and tells what came of them.
//!
//! Tables go to stdout, progress to stderr. Status 0: every invariant held and every target was
//! met. 1: not so, or it could not be done. 2: the command line or a scenario is wrong.
//!
//! Each run is a process of its own (`child`): one that panics takes no other with it and is
//! reported with the command that repeats it, and the memory it needed is its own.

mod args;
mod child;
mod single;
mod suite;

use std::path::Path;
use std::process::ExitCode;

use clap::Parser as _;
use peerchannel_sim::report::{Side, Table};
use peerchannel_sim::scenario::{ScenarioError, Shelf};

use crate::args::{Args, Command};

/// Why a command did not come to its end.
enum Failure {
    /// What was asked for makes no sense: status 2.
    Usage(String),
    /// It did not work: status 1.
    Runtime(String),
}

impl From<ScenarioError> for Failure {
    fn from(error: ScenarioError) -> Self {
        Self::Usage(error.to_string())
    }
}

/// Whether all that was run passed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Passed,
    Failed,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = match args.command {
        Some(Command::Suite(options)) => suite::run(&options),
        Some(Command::One(options)) => child::be(&options),
        None if args.list => list(),
        None => single::run(&args.single),
    };
    match outcome {
        Ok(Verdict::Passed) => ExitCode::SUCCESS,
        Ok(Verdict::Failed) => ExitCode::FAILURE,
        Err(Failure::Usage(why)) => {
            eprintln!("error: {why}");
            ExitCode::from(2)
        }
        Err(Failure::Runtime(why)) => {
            eprintln!("error: {why}");
            ExitCode::FAILURE
        }
    }
}

fn list() -> Result<Verdict, Failure> {
    let shelf = Shelf::own();
    let mut table =
        Table::new([("scenario", Side::Left), ("nodes", Side::Right), ("what happens", Side::Left)]);
    for name in shelf.names()? {
        let scenario = shelf.load(&name)?;
        table.push([name, scenario.plan.nodes.to_string(), scenario.title]);
    }
    print!("{}", table.to_text());
    Ok(Verdict::Passed)
}

/// Writes a file that was asked for; `-` is stdout.
fn write(file: &Path, text: &str) -> Result<(), Failure> {
    if file.as_os_str() == "-" {
        print!("{text}");
        return Ok(());
    }
    let failed = |path: &Path, error| Failure::Runtime(format!("{}: {error}", path.display()));
    if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
        std::fs::create_dir_all(folder).map_err(|error| failed(folder, error))?;
    }
    std::fs::write(file, text).map_err(|error| failed(file, error))
}
