//! The command behind `cargo xtask sim`, as a process.
#![cfg(feature = "command")]

use std::path::Path;
use std::process::{Command, Output};

use peerchannel_sim::report::Report;

const SMALL: &str = "
title = \"a small mesh\"
nodes = 12
duration = \"30s\"
[join]
over = \"2s\"
[checks]
delta = \"15s\"
[[target]]
metric = \"components_end\"
at_most = 1
";

fn sim(folder: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_peerchannel-sim"));
    command.args(words).current_dir(folder).output().expect("the command starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn a_scenario_that_holds_is_told_written_down_drawn_and_compared() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("small.toml"), SMALL).unwrap();
    let words = ["small.toml", "--seeds", "2", "--json", "a.json", "--svg", "pictures/a.svg"];
    let output = sim(folder.path(), &words);
    assert_eq!(output.status.code(), Some(0), "{}{}", text(&output.stdout), text(&output.stderr));
    let table = text(&output.stdout);
    assert!(
        table.contains("a small mesh") && table.contains("met") && table.contains("passed: 1 of 1"),
        "{table}"
    );
    let report = Report::from_json(&std::fs::read_to_string(folder.path().join("a.json")).unwrap()).unwrap();
    assert_eq!(report.runs.len(), 2);
    assert_eq!(report.runs[1].replay, "cargo xtask sim small.toml --seed 2");
    assert!(std::fs::read_to_string(folder.path().join("pictures/a.svg")).unwrap().starts_with("<svg"));

    // The command that replays a seed repeats it, event for event.
    let output = sim(folder.path(), &["small.toml", "--seed", "2", "--json", "-", "--compare", "a.json"]);
    let json = text(&output.stdout);
    let again = Report::from_json(&json).unwrap();
    assert_eq!(again.runs[0].outcome.transcript, report.runs[1].outcome.transcript);
    let comparison = text(&output.stderr);
    assert!(comparison.contains("the number of seeds differs"), "{comparison}");
}

#[test]
fn what_does_not_hold_ends_with_status_1_and_the_command_that_shows_it() {
    let folder = tempfile::tempdir().unwrap();
    let impossible = SMALL.replace("at_most = 1", "at_most = 0");
    std::fs::write(folder.path().join("impossible.toml"), impossible).unwrap();
    let output = sim(folder.path(), &["impossible.toml", "--nodes", "8", "--seed", "3"]);
    assert_eq!(output.status.code(), Some(1));
    let table = text(&output.stdout);
    assert!(table.contains("MISSED"), "{table}");
    assert!(table.contains("replay: cargo xtask sim impossible.toml --nodes 8 --seed 3"), "{table}");
}

#[test]
fn what_makes_no_sense_ends_with_status_2() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("wrong.toml"), "title = \"t\"\n[network]\nloss = 2").unwrap();
    let check = |words: &[&str], part: &str| {
        let output = sim(folder.path(), words);
        let error = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{words:?}: {error}");
        assert!(error.contains(part), "{words:?}: {error}");
    };
    check(&["wrong.toml"], "a share from 0 to 1");
    check(&["crash-3"], "did you mean `crash-30`?");
    check(&["missing.toml"], "missing.toml");
    check(&["steady", "--nodes", "0"], "nodes");
    check(&["steady", "--speed", "9"], "--speed");
    check(&["steady", "--compare", "wrong.toml"], "not a report");
    check(&["suite", "--rows", "nothing"], "the suite has no row `nothing`");
    check(&["suite", "--budget=-1"], "--budget");
}

#[test]
fn scenarios_are_listed_a_line_each() {
    let folder = tempfile::tempdir().unwrap();
    let output = sim(folder.path(), &["--list"]);
    let list = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0));
    assert!(list.lines().any(|line| line.starts_with("crash-30 ") && line.contains("10000")), "{list}");
}
