//! The world itself: same seed, same run; the codec changes nothing that matters; what is
//! checked is really noticed.

use std::time::Duration;

use peerchannel_sim::{Churn, Happening, Outcome, Plan, Scripted, Who, World};

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

fn run(plan: &Plan) -> Outcome {
    World::run(plan.clone()).expect("a valid plan")
}

fn busy(seed: u64) -> Plan {
    Plan {
        name: "busy".to_owned(),
        nodes: 60,
        seed,
        duration: seconds(90),
        churn: Some(Churn {
            from: seconds(20),
            until: Some(seconds(50)),
            per_minute: 0.5,
            ..Churn::default()
        }),
        events: vec![
            Scripted { at: seconds(25), what: Happening::Crash { who: Who::Share(0.2) } },
            Scripted { at: seconds(30), what: Happening::Partition { groups: 2, lasts: seconds(5) } },
        ],
        ..Plan::default()
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let (a, b) = (run(&busy(1)), run(&busy(1)));
    assert_eq!(a.transcript, b.transcript);
    let same = |outcome: Outcome| Outcome { wall_s: 0.0, peak_memory_bytes: None, ..outcome };
    assert_eq!(same(a), same(b));
}

#[test]
fn another_seed_gives_another_run() {
    assert_ne!(run(&busy(1)).transcript, run(&busy(2)).transcript);
}

#[test]
fn frames_that_are_really_encoded_tell_the_same_story() {
    let plan = Plan { nodes: 30, duration: seconds(60), ..Plan::default() };
    let moved = run(&plan);
    let encoded = run(&Plan { codec: true, ..plan });
    assert_eq!(encoded.violations, [], "lengths are as computed, and everything can be read");
    assert_eq!(moved.counts.published, encoded.counts.published);
    assert_eq!(moved.counts.delivered, encoded.counts.delivered);
    let ratio = encoded.latency_ms.mean / moved.latency_ms.mean;
    assert!((0.9..1.1).contains(&ratio), "latency differs by {ratio}");
}

#[test]
fn a_mesh_that_is_asked_for_the_impossible_fails_its_checks() {
    let mut plan = Plan { nodes: 20, duration: seconds(60), ..Plan::default() };
    plan.checks.neighbors_max = Some(3);
    let outcome = run(&plan);
    let rules: Vec<&str> = outcome.violations.iter().map(|violation| violation.rule.as_str()).collect();
    assert!(rules.contains(&"as many neighbors as allowed"), "{rules:?}");
    assert!(outcome.violations_total > rules.len() as u64, "further ones are counted");
}

#[test]
fn a_mesh_that_does_not_come_to_rest_fails_its_checks() {
    let mut plan = Plan { nodes: 30, duration: seconds(150), ..Plan::default() };
    let rules = |plan: &Plan| -> Vec<String> {
        run(plan).violations.into_iter().map(|violation| violation.rule).collect()
    };
    assert_eq!(rules(&plan), [""; 0]);
    plan.checks.settles_in = seconds(30);
    plan.checks.quiet_bytes = Some(1.0);
    assert_eq!(rules(&plan), ["an idle mesh is quiet"]);
    plan.checks.quiet_bytes = None;
    plan.checks.links_per_node_minute = Some(-1.0);
    assert_eq!(rules(&plan), ["links do not come and go"]);
    // With too little left to look at, nothing is said.
    plan.checks.settles_in = seconds(110);
    assert_eq!(rules(&plan), [""; 0]);
}

#[test]
fn a_report_survives_being_written_down() {
    let outcome = run(&Plan { nodes: 5, duration: seconds(20), ..Plan::default() });
    let text = serde_json::to_string(&outcome).expect("plain data");
    let read: Outcome = serde_json::from_str(&text).expect("what was written");
    assert_eq!(read.transcript, outcome.transcript);
    assert_eq!(read.samples.len(), outcome.samples.len());
}
