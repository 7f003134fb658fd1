//! Whole meshes in trouble: what holds in each, and that together they reach every recovery
//! branch.
//!
//! `PEERCHANNEL_SEED=n cargo test -p peerchannel-sim --test meshes NAME` repeats a run.

use std::sync::OnceLock;
use std::time::Duration;

use peerchannel_sim::{
    Churn, Happening, Join, Mood, Outcome, Packets, Plan, Sample, Scripted, Who, World, unreached,
};

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

const fn at(second: u64, what: Happening) -> Scripted {
    Scripted { at: seconds(second), what }
}

fn plan(name: &str, nodes: usize, duration: u64) -> Plan {
    let seed = std::env::var("PEERCHANNEL_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    let replay = format!("PEERCHANNEL_SEED={seed} cargo test -p peerchannel-sim --test meshes {name}");
    let mut plan =
        Plan { name: name.to_owned(), replay, nodes, seed, duration: seconds(duration), ..Plan::default() };
    // Complete tables of a thousand members each are for release builds.
    plan.config.members_max = 256;
    plan
}

/// A run that several tests look at.
type Run = OnceLock<Outcome>;

/// Runs it; nothing may have been violated.
fn run(plan: Plan) -> Outcome {
    let outcome = World::run(plan).expect("a valid plan");
    println!("{}: {:.1} s, {} events", outcome.scenario, outcome.wall_s, outcome.events);
    let few: Vec<_> = outcome.violations.iter().take(5).collect();
    assert!(
        outcome.violations.is_empty(),
        "{} violations, {}: {few:#?}",
        outcome.violations_total,
        outcome.replay
    );
    outcome
}

fn sample(outcome: &Outcome, second: f64) -> &Sample {
    outcome.samples.iter().find(|sample| sample.at >= second).expect("within the run")
}

fn one_component(outcome: &Outcome, second: f64) {
    let sample = sample(outcome, second);
    assert_eq!(sample.components, 1, "{}: {sample:#?}", outcome.replay);
}

fn flash_crowd() -> &'static Outcome {
    static OUTCOME: Run = Run::new();
    OUTCOME.get_or_init(flash_crowd_once)
}

fn flash_crowd_once() -> Outcome {
    run(Plan { join: Join::AtOnce, ..plan("flash_crowd", 200, 60) })
}

fn mass_kill() -> &'static Outcome {
    static OUTCOME: Run = Run::new();
    OUTCOME.get_or_init(mass_kill_once)
}

fn mass_kill_once() -> Outcome {
    let crash = Happening::Crash { who: Who::Share(0.3) };
    run(Plan { events: vec![at(30, crash)], ..plan("mass_kill", 200, 120) })
}

fn split() -> &'static Outcome {
    static OUTCOME: Run = Run::new();
    OUTCOME.get_or_init(split_once)
}

fn split_once() -> Outcome {
    let split = Happening::Partition { groups: 2, lasts: seconds(30) };
    run(Plan { events: vec![at(30, split)], ..plan("split", 200, 180) })
}

fn churn() -> &'static Outcome {
    static OUTCOME: Run = Run::new();
    OUTCOME.get_or_init(churn_once)
}

fn churn_once() -> Outcome {
    let churn = Churn { until: Some(seconds(150)), per_minute: 0.3, ..Churn::default() };
    run(Plan { churn: Some(churn), ..plan("churn", 200, 240) })
}

fn pauses_and_loss() -> &'static Outcome {
    static OUTCOME: Run = Run::new();
    OUTCOME.get_or_init(pauses_and_loss_once)
}

fn pauses_and_loss_once() -> Outcome {
    let pause = Happening::Pause {
        who: Who::Share(0.1),
        stands: seconds(5),
        every: Some(seconds(30)),
        lasts: seconds(120),
    };
    let packets = Packets { loss: 0.05, ..Packets::default() };
    run(Plan { events: vec![at(30, pause)], packets, ..plan("pauses_and_loss", 200, 220) })
}

fn resolver_troubles() -> &'static Outcome {
    static OUTCOME: Run = Run::new();
    OUTCOME.get_or_init(resolver_troubles_once)
}

fn resolver_troubles_once() -> Outcome {
    let mood = |mood, lasts| Happening::Resolver { mood, lasts: seconds(lasts) };
    let crash = Happening::Crash { who: Who::Share(0.2) };
    let restart = Happening::RollingRestart {
        who: Who::Share(0.2),
        over: seconds(20),
        down: seconds(1),
        clean: false,
        upgrade: false,
    };
    run(Plan {
        events: vec![
            at(20, mood(Mood::Lying, 30)),
            at(25, crash.clone()),
            at(55, mood(Mood::Down, 30)),
            at(56, restart),
            at(90, mood(Mood::Foreign, 20)),
            at(92, crash),
            at(95, Happening::Swizzle { who: Who::Count(5), lasts: seconds(36) }),
            at(120, Happening::Leave { who: Who::Share(0.1) }),
        ],
        ..plan("resolver_troubles", 200, 200)
    })
}

fn thousand() -> &'static Outcome {
    static OUTCOME: Run = Run::new();
    OUTCOME.get_or_init(thousand_once)
}

fn thousand_once() -> Outcome {
    let crash = Happening::Crash { who: Who::Share(0.3) };
    let mut plan = plan("thousand", 1000, 60);
    (plan.join, plan.traffic.from) = (Join::Over(seconds(5)), seconds(12));
    plan.checks.delta = Some(seconds(25));
    run(Plan { events: vec![at(20, crash)], ..plan })
}

#[test]
fn a_crowd_that_joins_at_once_becomes_one_mesh() {
    let outcome = flash_crowd();
    let sample = sample(outcome, 30.0);
    assert_eq!((sample.components, sample.online), (1, 200), "{}", outcome.replay);
    assert!(sample.degree_in_bounds >= 0.99, "{sample:#?}");
    // 200 nodes hear of 199 others: what it takes is to be a few frames for each.
    let frames = |kind: &str| outcome.frames_by_kind.get(kind).copied().unwrap_or(0);
    let told = frames("members") + frames("comparisons");
    assert!(told < 200 * 199 * 4, "{told} frames about members: {}", outcome.replay);
}

#[test]
fn a_third_may_crash_at_once() {
    let outcome = mass_kill();
    one_component(outcome, 60.0);
    assert!(outcome.crash_seen_by_neighbor_s.max <= 9.5, "{:?}", outcome.crash_seen_by_neighbor_s);
    assert!(outcome.isolation_s.max <= 30.0, "{:?}", outcome.isolation_s);
}

#[test]
fn two_halves_become_one_again() {
    one_component(split(), 120.0);
}

#[test]
fn nodes_may_come_and_go() {
    let outcome = churn();
    let least = outcome.samples.iter().filter(|s| s.at > 30.0).map(|s| s.giant_share).fold(1.0, f64::min);
    assert!(least >= 0.95, "{least}: {}", outcome.replay);
}

#[test]
fn standing_still_and_losing_packets_breaks_nothing() {
    let outcome = pauses_and_loss();
    one_component(outcome, 200.0);
}

#[test]
fn a_resolver_in_any_mood_stops_nobody() {
    one_component(resolver_troubles(), 190.0);
}

#[test]
fn a_thousand_lose_a_third() {
    let outcome = thousand();
    one_component(outcome, 19.0);
    one_component(outcome, 50.0);
}

#[test]
fn together_they_reach_every_recovery_branch() {
    let outcomes = [flash_crowd(), mass_kill(), split(), churn(), pauses_and_loss(), resolver_troubles()];
    assert_eq!(unreached(outcomes), [""; 0], "no run reached these");
}
