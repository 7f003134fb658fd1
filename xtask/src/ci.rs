//! Everything `.ci/run` checks, cheapest first, with the time of each step.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::process::{self, cargo, is_there};
use crate::{codegen, test, tidy};

/// A step and how it is done.
type Step = (&'static str, fn() -> Result<(), String>);

const STEPS: &[Step] = &[
    ("fmt", || process::run(&mut cargo(&["fmt", "--all", "--check"]))),
    ("tidy", tidy::run),
    ("codegen --check", || codegen::run(codegen::Mode::Check)),
    ("clippy", || {
        process::run(&mut cargo(&[
            "clippy",
            "--workspace",
            "--all-targets",
            "--locked",
            "--",
            "--deny",
            "warnings",
        ]))
    }),
    ("docs", || {
        let mut command = cargo(&["doc", "--workspace", "--no-deps", "--locked"]);
        process::run(command.env("RUSTDOCFLAGS", "--deny warnings"))
    }),
    ("deny", deny),
    ("test", || test::run(&[])),
];

/// Runs every step even if one fails, so that one run tells everything.
fn run_all() -> Vec<(&'static str, Duration, Result<(), String>)> {
    STEPS
        .iter()
        .map(|(name, step)| {
            eprintln!("\n== {name}");
            let begun = Instant::now();
            let outcome = step();
            if let Err(why) = &outcome {
                eprintln!("{name}: {why}");
            }
            (*name, begun.elapsed(), outcome)
        })
        .collect()
}

pub(crate) fn run() -> Result<(), String> {
    let outcomes = run_all();
    println!("\n{:<18}{:>9}  outcome", "step", "seconds");
    for (name, took, outcome) in &outcomes {
        let word = if outcome.is_ok() { "ok" } else { "FAILED" };
        println!("{name:<18}{:>9.1}  {word}", took.as_secs_f64());
    }
    let failed: Vec<&str> =
        outcomes.iter().filter(|(_, _, o)| o.is_err()).map(|(name, _, _)| *name).collect();
    if failed.is_empty() { Ok(()) } else { Err(format!("ci: {} failed", failed.join(", "))) }
}

/// Licences, bans and sources; advisories only where asked for, since they need a network.
fn deny() -> Result<(), String> {
    if !is_there("cargo-deny", "--version") {
        eprintln!(
            "cargo-deny is not installed: `cargo install cargo-deny --locked` to have deny.toml checked"
        );
        return Ok(());
    }
    let mut checks =
        vec!["deny", "--workspace", "check", "--hide-inclusion-graph", "bans", "licenses", "sources"];
    if std::env::var_os("PEERCHANNEL_ADVISORIES").is_some() {
        checks.push("advisories");
    }
    process::run(Command::new("cargo").args(checks).current_dir(crate::root()))
}
