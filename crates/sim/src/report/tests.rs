//! What reports say of outcomes.

use super::*;
use crate::outcome::{Distribution, Mark, Sample, Violation};

const TEXT: &str = "
title = \"half of the nodes crash\"
nodes = 40
duration = \"2min\"
[[event]]
at = \"30s\"
kind = \"crash\"
share = 0.5
[[target]]
what = \"survivors in one component\"
metric = \"one_component_after_detection_s\"
at_most = 5
[[target]]
metric = \"redundancy\"
at_most = 1.5
over = \"mean\"
[[target]]
metric = \"latency_p99_ms\"
";

fn scenario() -> Scenario {
    Scenario::parse("half", TEXT, |_| unreachable!()).unwrap()
}

/// An outcome with a crash at 30 s, noticed at 39 s.
pub(crate) fn outcome(seed: u64, one_component_at: Option<f64>, redundancy: f64) -> Outcome {
    let sample = |at: f64| Sample {
        at,
        up: if at < 30.0 { 40 } else { 20 },
        online: if at < 30.0 { 40 } else { 20 },
        components: if (30.0..42.0).contains(&at) { 3 } else { 1 },
        giant_share: if (30.0..42.0).contains(&at) { 0.9 } else { 1.0 },
        degree_min: 6,
        degree_mean: 8.2,
        degree_max: 11,
        degree_in_bounds: 1.0,
        delivered: if at < 10.0 { 0 } else { 39 },
        published: 1,
        redundancy,
        latency_p50_ms: 80.0,
        latency_p99_ms: 190.0 + at,
        latency_max_ms: 220.0 + at,
        bytes_per_node_s: 600.0,
        ..Sample::default()
    };
    let mut outcome = Outcome {
        scenario: "half".into(),
        nodes: 40,
        seed,
        duration_s: 120.0,
        replay: format!("cargo xtask sim half --seed {seed}"),
        samples: (0..=24).map(|index| sample(f64::from(index) * 5.0)).collect(),
        marks: vec![Mark {
            at: 30.0,
            what: "crash of 50 %".into(),
            nodes: 20,
            detected_at: Some(39.0),
            one_component_at,
            ..Mark::default()
        }],
        latency_ms: Distribution {
            count: 780,
            mean: 90.0,
            p50: 80.0,
            p99: 310.0,
            max: 340.0,
            ..Default::default()
        },
        redundancy,
        transcript: "0123456789abcdef".into(),
        events: 1_500_000,
        wall_s: 0.4,
        ..Outcome::default()
    };
    outcome.counts.delivered = 780;
    outcome.counts.published = 20;
    outcome.sometimes.insert("grafted".into(), 3);
    outcome.sometimes.insert("merged".into(), 0);
    outcome.bytes_by_kind.insert("keep-alive".into(), 210.0);
    outcome
}

fn report(outcomes: Vec<Outcome>) -> Report {
    Report::new(&scenario(), Overrides::default(), "c0de-release", outcomes)
}

/// Compares with a file of `tests/golden`; the text as it is now is left beside it where it
/// differs, to be looked at and moved over it if it is right.
fn check_golden(name: &str, text: &str) {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    let golden = std::fs::read_to_string(&path).unwrap_or_default().replace("\r\n", "\n");
    if golden != text {
        let now = path.with_extension(format!("{}.new", path.extension().unwrap().to_str().unwrap()));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&now, text).unwrap();
        panic!("{} differs: compare it with {}", path.display(), now.display());
    }
}

#[test]
fn one_seed_is_told_in_full() {
    check_golden("one-seed.txt", &report(vec![outcome(1, Some(42.0), 1.1)]).to_text());
}

#[test]
fn failing_seeds_are_named_with_the_command_that_replays_them() {
    let mut broken = outcome(3, Some(43.0), 1.2);
    let rule = "at most one delivery";
    broken.violations.push(Violation {
        at: 61.25,
        node: Some(7),
        rule: rule.into(),
        text: "message 9 twice".into(),
    });
    broken.violations_total = 5;
    let report =
        report(vec![broken, outcome(2, None, 1.3), outcome(1, Some(42.0), 1.1), outcome(4, Some(49.5), 1.1)]);
    assert!(!report.passes());
    let passed: Vec<(u64, bool)> = report.runs.iter().map(|run| (run.seed, run.passed)).collect();
    assert_eq!(passed, [(1, true), (2, false), (3, false), (4, false)]);
    assert_eq!(report.most_telling().map(|run| run.seed), Some(2));
    check_golden("failing-seeds.txt", &report.to_text());
}

#[test]
fn a_mean_is_asked_of_the_seeds_together_only() {
    let report = report(vec![outcome(1, Some(40.0), 1.6), outcome(2, Some(40.0), 1.2)]);
    assert_eq!(report.rows[1].verdict, Verdict::Met, "1.4 on average");
    assert!(report.passes() && report.runs.iter().all(|run| run.passed));
}

#[test]
fn nothing_run_does_not_pass() {
    assert!(!report(Vec::new()).passes());
}

#[test]
fn a_report_survives_json_and_other_layouts_are_refused() {
    let report = report(vec![outcome(1, None, 1.1), outcome(2, Some(42.0), 1.1)]);
    let json = report.to_json().unwrap();
    assert_eq!(Report::from_json(&json).unwrap(), report);
    let newer = json.replacen("\"version\":1", "\"version\":2", 1);
    let error = Report::from_json(&newer).unwrap_err().to_string();
    assert!(error.contains("layout 2") && error.contains("--json"), "{error}");
    assert!(Report::from_json("{}").unwrap_err().to_string().starts_with("not a report"));
}

#[test]
fn a_change_counts_only_beyond_chance() {
    let of = |values: &[f64]| {
        report(values.iter().zip(1..).map(|(value, seed)| outcome(seed, Some(42.0), *value)).collect())
    };
    let change = |before: &[f64], after: &[f64]| Comparison::of(&of(before), &of(after)).rows[1].change;
    assert_eq!(change(&[1.1, 1.2, 1.3], &[1.9, 2.0, 2.1]), Change::Worse);
    assert_eq!(change(&[1.9, 2.0, 2.1], &[1.1, 1.2, 1.3]), Change::Better);
    assert_eq!(change(&[1.1, 1.3, 1.5], &[1.2, 1.3, 1.5]), Change::Same);
    assert_eq!(change(&[1.1], &[1.9]), Change::Unknown);
    assert_eq!(change(&[1.1], &[1.1]), Change::Same);
}

#[test]
fn a_comparison_tells_changes_verdicts_and_cautions() {
    let before = report(vec![outcome(1, Some(42.0), 1.1), outcome(2, Some(41.0), 1.2)]);
    let mut after =
        report(vec![outcome(1, None, 1.9), outcome(2, Some(41.0), 2.0), outcome(3, Some(41.5), 2.1)]);
    after.nodes = 80;
    let comparison = Comparison::of(&before, &after);
    assert!(comparison.is_worse());
    check_golden("comparison.txt", &comparison.to_text());
    assert!(!Comparison::of(&before, &before).is_worse());
}

#[test]
fn the_picture_of_an_outcome_is_always_the_same() {
    let outcome = outcome(1, Some(42.0), 1.1);
    let svg = picture("half of the nodes crash", &outcome, (6, 12)).to_svg();
    check_golden("half.svg", &svg);
}
