//! Who is asked about, checked and remembered: docs/protocol.md sections 3.10 and 3.11, seen from
//! one node.
#![allow(clippy::unwrap_used, reason = "a test")]

mod stage;

use std::time::Duration;

use peerchannel_mesh::{CloseCause, Config, Event, MemberLoss, Time};
use peerchannel_wire::{Balance, ControlFrame, DisconnectReason, LinkKind, MemberStatus};
use stage::{Answer, SECOND, Stage, id};

const MINUTE: Duration = Duration::from_secs(60);

fn quiet() -> Config {
    let mut config = Config::default();
    config.audit_interval = 86_400 * SECOND;
    config
}

/// A node with so many near links that others opened, in a mesh of forty.
fn linked(config: &Config, count: u16, change: impl FnOnce(&mut Stage)) -> Stage {
    let mut stage = Stage::new(config);
    change(&mut stage);
    stage.near([1]);
    stage.teach(1, 101..140);
    stage.near(2..=count);
    stage
}

/// When a neighbor was asked about a member.
fn questions(stage: &Stage, of: u16, about: u16) -> Vec<Time> {
    stage.sent(of, |frame| matches!(frame, ControlFrame::Probe { node, .. } if *node == id(about)))
}

fn failed(stage: &Stage, n: u16) -> bool {
    let gone = |event: &Event| matches!(event, Event::MemberDown { node, loss: MemberLoss::Failed, .. } if *node == id(n));
    stage.events.iter().any(gone)
}

/// Section 3.10: asked about again after 12 s and after 5 min; after three answers it must speak.
#[test]
fn a_suspect_for_whom_others_answer_is_asked_about_after_twelve_seconds_and_five_minutes() {
    let mut stage = linked(&quiet(), 8, |_| ());
    stage.run_for(MINUTE);
    let lost = stage.now;
    stage.lose(8);
    stage.run_for(311 * SECOND);
    let doubts = |stage: &Stage| stage.sent(2, |frame| matches!(frame, ControlFrame::MemberDoubt(_))).len();
    assert_eq!((doubts(&stage), failed(&stage, 8)), (0, false));
    stage.run_for(2 * SECOND);
    for peer in [1, 5, 7] {
        let asked: Vec<Duration> = questions(&stage, peer, 8).into_iter().map(|at| at.since(lost)).collect();
        // Each time the answer takes a round trip.
        let trip = SECOND / 100;
        assert_eq!(asked, [Duration::ZERO, 12 * SECOND + trip, 312 * SECOND + 2 * trip], "to {peer}");
    }
    assert_eq!(doubts(&stage), 1, "after the third answer everybody is told a doubt");
    assert!(!failed(&stage, 8));
    stage.run_for(15 * SECOND);
    assert!(failed(&stage, 8), "it said nothing");
}

/// Section 3.10: if nothing else was heard of it.
#[test]
fn a_suspect_that_speaks_is_not_asked_about_again() {
    for speaks_after in [5, 100] {
        let mut stage = linked(&quiet(), 8, |_| ());
        stage.lose(8);
        stage.run_for(speaks_after * SECOND);
        let asked = questions(&stage, 1, 8).len();
        // It joins anew, and finds other neighbors.
        let record = stage.record(8, 2);
        let member = peerchannel_wire::Member { status: MemberStatus::Alive, record };
        let link = stage.link(1);
        stage.control(link, ControlFrame::Members(vec![member]));
        stage.run_for(10 * MINUTE);
        assert_eq!(questions(&stage, 1, 8).len(), asked);
    }
}

/// Section 3.10: how long answers are waited for.
#[test]
fn a_verdict_takes_eight_round_trips_of_the_slowest_link_or_four_where_all_are_neighbors() {
    // Whether all members are neighbors, the slowest link in ms, and the wait in ms.
    let cases = [
        (false, 10, 1000),
        (false, 200, 1600),
        (false, 700, 3000),
        (true, 10, 300),
        (true, 200, 800),
        (true, 900, 3000),
    ];
    for (all, slowest, wait) in cases {
        let mut stage = Stage::new(&quiet());
        stage.vouch = false;
        stage.rtt.insert(3, Duration::from_millis(slowest));
        stage.near(1..=5);
        if !all {
            stage.teach(1, 101..140);
        }
        stage.run_for(MINUTE);
        stage.lose(5);
        stage.run_for(Duration::from_millis(wait - 1));
        assert!(!failed(&stage, 5), "{all}, {slowest} ms");
        stage.run_for(Duration::from_millis(2));
        assert!(failed(&stage, 5), "{all}, {slowest} ms");
    }
}

/// Section 3.10: a node without any neighbor asks nobody, and waits 3 s.
#[test]
fn without_a_neighbor_a_verdict_takes_three_seconds() {
    let mut stage = Stage::new(&quiet());
    stage.near([1]);
    stage.run_for(MINUTE);
    stage.lose(1);
    stage.run_for(3 * SECOND - SECOND / 100);
    assert!(!failed(&stage, 1));
    stage.run_for(SECOND / 50);
    assert!(failed(&stage, 1));
}

/// A settled node in a mesh of which twenty others can be dialed.
fn auditing(config: &Config, change: impl FnOnce(&mut Stage)) -> Stage {
    let mut stage = linked(config, 6, |stage| {
        stage.addressed.extend(101..121);
        // One goes for each that comes by rotation.
        let spare = Balance { spare: 2, surplus: 0 };
        stage.balance.extend((101..121).map(|n| (n, spare)));
        stage.answers.extend((101..121).map(|n| (n, Answer::Welcome)));
        change(stage);
    });
    stage.run_until(5 * MINUTE, "its far links", |s| s.own_far().len() == 2);
    stage.run_for(MINUTE);
    stage
}

/// Section 3.10: every 5 min, jittered, a random member without a link is checked.
#[test]
fn every_five_minutes_a_random_member_is_dialed_and_let_go_if_it_answers() {
    let mut stage = auditing(&Config::default(), |_| ());
    let (before, neighbors) = (stage.now, stage.neighbors());
    let audits = stage.node.stats().audits;
    stage.run_for(6 * 60 * MINUTE);
    let connects = stage.connects();
    let became_neighbor =
        |at: Time, n: u16| connects.iter().any(|(then, peer, _)| *peer == n && *then == at + SECOND / 100);
    let audited: Vec<(Time, u16)> =
        stage.dials().into_iter().filter(|(at, n)| *at > before && !became_neighbor(*at, *n)).collect();
    // Every other look is at one that can be dialed, and most others are rolled away.
    let looks = 6 * 60 / 5;
    assert!((looks / 2..=looks).contains(&audited.len()), "{} of {looks}", audited.len());
    for pair in audited.windows(2) {
        let pause = pair[1].0.since(pair[0].0);
        assert!(pause >= 5 * MINUTE * 3 / 4, "{pause:?}");
    }
    let distinct: std::collections::BTreeSet<u16> = audited.iter().map(|(_, n)| *n).collect();
    assert!(distinct.len() >= 12, "{distinct:?}");
    assert!(stage.node.stats().audits - audits >= audited.len() as u64);
    let done =
        |n: u16| stage.closes().iter().any(|(_, peer, cause)| *peer == n && *cause == CloseCause::Done);
    assert!(distinct.iter().all(|n| done(*n)), "it is there: that was all");
    assert_eq!(stage.neighbors().len(), neighbors.len());
}

/// Section 3.10: such a member is suspected if nobody answers, by one question.
#[test]
fn a_member_that_answers_no_audit_is_asked_about_and_fails_if_nobody_knows_it() {
    for vouch in [true, false] {
        let mut stage = auditing(&Config::default(), |_| ());
        stage.answers.clear();
        stage.vouch = vouch;
        stage.run_until(60 * MINUTE, "an audit fails", |s| s.node.stats().audits_failed > 0);
        let at = stage.now;
        stage.run_for(10 * SECOND);
        let (_, audited) = stage.dials().into_iter().rfind(|(dialed, _)| *dialed < at).unwrap();
        assert_eq!(questions(&stage, 1, audited), [at]);
        assert_eq!(failed(&stage, audited), !vouch);
    }
}

/// A node that knew others, 20 and up, which a neighbor calls gone.
fn remembering(neighbors: u16, others: u16, status: MemberStatus) -> Stage {
    let past = 20..20 + others;
    let mut stage = linked(&quiet(), neighbors, |stage| stage.addressed.extend(past.clone()));
    stage.near(past.clone());
    for n in past.clone() {
        stage.leaves(n, DisconnectReason::NodeTooSlow);
    }
    stage.report(1, past, status);
    stage
}

/// Section 3.11: one that is not known as alive is dialed, with pauses from 20 s to an hour, until
/// it failed nineteen times on end.
#[test]
fn a_member_of_the_past_is_dialed_ever_more_seldom_and_nineteen_times() {
    let mut stage = remembering(2, 1, MemberStatus::Failed);
    stage.run_for(20 * 60 * MINUTE);
    let dials = stage.dials_of(20);
    assert_eq!(dials.len(), 19, "{dials:?}");
    for (index, pair) in dials.windows(2).enumerate() {
        let own = Duration::from_secs((20 << index).min(3600));
        let pause = pair[1].since(pair[0]);
        // Looked at every 30 s.
        assert!(pause >= own * 3 / 4 && pause <= own * 5 / 4 + 40 * SECOND, "{index}: {pause:?}");
    }
}

/// Section 3.11: it is dialed as a far neighbor, which says that it heals.
#[test]
fn a_member_of_the_past_that_answers_becomes_a_far_neighbor_again() {
    let mut stage = remembering(8, 1, MemberStatus::Failed);
    stage.answers.insert(20, Answer::Welcome);
    stage.run_for(2 * MINUTE);
    assert_eq!(stage.own_far(), [20]);
    let healing = stage.sent(20, |frame| {
        matches!(frame, ControlFrame::Connect(connect) if connect.healing && connect.kind == LinkKind::Far)
    });
    assert_eq!(healing.len(), 1);
}

/// Section 3.11: its own goodbye.
#[test]
fn a_member_that_said_goodbye_itself_is_never_dialed_again() {
    let mut stage = linked(&quiet(), 2, |stage| stage.addressed.extend([20]));
    stage.near([20]);
    stage.leaves(20, DisconnectReason::LeavingMesh);
    stage.run_for(2 * 60 * MINUTE);
    assert_eq!(stage.dials_of(20), []);
}

/// Section 3.11: what others say of it is not signed.
#[test]
fn a_member_of_which_only_others_say_that_it_left_is_looked_for() {
    let mut stage = remembering(2, 1, MemberStatus::Left);
    stage.run_for(2 * 60 * MINUTE);
    assert!(stage.dials_of(20).len() >= 5, "{:?}", stage.dials_of(20));
}

/// Section 3.11: while a split is suspected, or without neighbors, nobody is given up.
#[test]
fn without_a_neighbor_a_member_of_the_past_is_dialed_without_end() {
    let mut stage = remembering(8, 1, MemberStatus::Failed);
    for n in 1..=8 {
        stage.leaves(n, DisconnectReason::LeavingMesh);
    }
    stage.run_for(60 * MINUTE);
    let dials = stage.dials_of(20);
    assert!(dials.len() > 100, "{}", dials.len());
    for pair in dials.windows(2).skip(1) {
        assert!(pair[1].since(pair[0]) <= 20 * SECOND * 5 / 4 + 3 * SECOND, "{pair:?}");
    }
}

/// Section 3.11: every 2 s for half an hour, each after 20 s at most, and nobody is given up.
#[test]
fn while_a_split_is_suspected_members_of_the_past_are_dialed_every_two_seconds() {
    let mut stage = remembering(8, 8, MemberStatus::Failed);
    stage.vouch = false;
    stage.run_for(10 * MINUTE);
    let before = stage.dials().len();
    assert!((15..=25).contains(&before), "one in half a minute: {before}");
    // A quarter of the links, and two.
    for n in 6..=8 {
        stage.lose(n);
    }
    let suspected = stage.now;
    stage.run_for(29 * MINUTE);
    let dials = stage.dials().split_off(before);
    // Each of eight after some 20 s.
    assert!(dials.len() > 29 * 60 / 20 * 6, "{}", dials.len());
    for pair in dials.windows(2) {
        assert!(pair[1].0.since(pair[0].0) >= 2 * SECOND * 3 / 4, "{pair:?}");
    }
    for n in 20..28 {
        let dials: Vec<Time> = stage.dials_of(n).into_iter().filter(|at| *at >= suspected).collect();
        for pair in dials.windows(2) {
            assert!(pair[1].since(pair[0]) <= 20 * SECOND * 5 / 4 + 15 * SECOND, "{pair:?}");
        }
        assert!(dials.len() > 50, "more often than one is forgiven otherwise: {}", dials.len());
    }
}
