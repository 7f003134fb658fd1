//! Whom a node knows, tells of and asks: docs/protocol.md sections 3.8 and 3.9, seen from one
//! node.
#![allow(clippy::unwrap_used, reason = "a test")]

mod stage;

use std::collections::BTreeSet;
use std::time::Duration;

use peerchannel_mesh::{Config, DialFailure, Time};
use peerchannel_wire::{
    AdmissionRefusal, ControlFrame, DisconnectReason, Features, LinkKind, NodeAddress, RefuseReason, Shuffle,
    ShuffledNode,
};
use stage::{Answer, ME, SECOND, Stage, id, number};

const MINUTE: Duration = Duration::from_secs(60);

fn quiet() -> Config {
    let mut config = Config::default();
    config.audit_interval = 86_400 * SECOND;
    config
}

/// A node with so many near links that others opened, in a mesh of forty.
fn linked(count: u16, change: impl FnOnce(&mut Stage)) -> Stage {
    let mut stage = Stage::new(&quiet());
    change(&mut stage);
    stage.near([1]);
    stage.teach(1, 101..140);
    stage.near(2..=count);
    stage
}

fn told(stage: &Stage, n: u16, age_s: u32) -> ShuffledNode {
    let address = NodeAddress::new(id(n), [stage.address(n)]).unwrap();
    ShuffledNode { address, coordinate: None, age_s }
}

fn shuffle(stage: &mut Stage, by: u16, hops_left: u32, nodes: impl IntoIterator<Item = u16>) {
    let nodes = nodes.into_iter().map(|n| told(stage, n, 0)).collect();
    let link = stage.link(by);
    stage.control(link, ControlFrame::Shuffle(Shuffle::new(hops_left, nodes)));
}

/// The shuffles that the node sent: when, to whom, and of whom they tell.
fn shuffles(stage: &Stage) -> Vec<(Time, u16, Shuffle)> {
    let sent = stage.log.iter().filter_map(|(at, n, did)| match did {
        stage::Did::Send(ControlFrame::Shuffle(shuffle)) => Some((*at, *n, shuffle.clone())),
        _ => None,
    });
    sent.collect()
}

/// Section 3.8, rule 2: the pauses that are stated.
#[test]
fn each_failure_has_its_own_pause() {
    let refused = |reason, retry_after| Answer::Fail(DialFailure::Refused { reason, retry_after });
    let ask = |secs| Some(Duration::from_secs(secs));
    // What the dialed node does, and how long it is left alone then, in thousandths of a second.
    let cases = [
        (Answer::Shut, 1_000, 1_100),
        (Answer::Refuse(RefuseReason::StaleEpoch), 10_000, 10_200),
        (refused(AdmissionRefusal::BadCredential, None), 30_000, 30_200),
        (refused(AdmissionRefusal::Version, None), 30_000, 30_200),
        (refused(AdmissionRefusal::Malformed, None), 30_000, 30_200),
        (refused(AdmissionRefusal::BadCredential, ask(20)), 20_000, 20_200),
        (refused(AdmissionRefusal::Busy, ask(200)), 200_000, 200_200),
        (refused(AdmissionRefusal::Busy, ask(3600)), 300_000, 300_200),
        (refused(AdmissionRefusal::UnknownMesh, None), 300, 700),
        (Answer::Fail(DialFailure::Oneself), 60_000, 60_200),
        (Answer::Fail(DialFailure::Unreachable(String::new())), 300, 700),
    ];
    for (answer, least, most) in cases {
        let mut stage = linked(3, |_| ());
        stage.answers.insert(20, answer.clone());
        stage.name([20]);
        stage.run_for(6 * MINUTE);
        let dials = stage.dials_of(20);
        let pause = dials[1].since(dials[0]);
        let range = Duration::from_millis(least)..=Duration::from_millis(most);
        assert!(range.contains(&pause), "{answer:?}: {pause:?}");
    }
}

/// Section 3.8, rule 2: from 0.5 s, doubling to 60 s, jittered by a quarter.
#[test]
fn pauses_between_failed_dials_double_to_a_minute() {
    let mut stage = linked(3, |_| ());
    stage.name([20]);
    stage.run_for(10 * MINUTE);
    let dials = stage.dials_of(20);
    for (index, pair) in dials.windows(2).enumerate() {
        let usual = Duration::from_millis((500 << index.min(10)).min(60_000));
        let pause = pair[1].since(pair[0]);
        assert!(pause >= usual * 3 / 4 && pause <= usual * 5 / 4 + SECOND / 10, "{index}: {pause:?}");
    }
    assert!(dials.len() >= 13, "{dials:?}");
}

/// Section 3.8, rule 4.
#[test]
fn a_shuffle_tells_of_the_node_itself_of_two_that_it_dialed_and_of_three_that_can_be_dialed() {
    let mut stage = linked(2, |_| ());
    // Four that it dials; six of which a shuffle told; six of which nobody knows whether they can
    // be dialed.
    stage.answers.extend((20..24).map(|n| (n, Answer::Welcome)));
    stage.name(20..24);
    stage.run_for(30 * SECOND);
    stage.near(3..=8);
    shuffle(&mut stage, 1, 0, 30..36);
    stage.addressed.extend(50..56);
    stage.teach(1, 50..56);
    // Nobody is needed: nobody is dialed.
    let (before, dialed) = (stage.now, stage.dials().len());
    stage.run_for(8 * MINUTE);
    assert_eq!(stage.dials().len(), dialed);
    let sent: Vec<_> = shuffles(&stage).into_iter().filter(|(at, ..)| *at > before).collect();
    assert!(sent.len() >= 10);
    let mut told = BTreeSet::new();
    for (_, to, shuffle) in sent {
        let nodes: Vec<_> = shuffle.nodes().iter().map(|node| node.address.node()).collect();
        assert_eq!((nodes.len(), shuffle.hops_left()), (6, 3), "four links in all");
        assert_eq!(nodes[0], ME, "it was dialed");
        let neighbors = [number(nodes[1]), number(nodes[2])];
        assert!(neighbors.iter().all(|n| (20..24).contains(n) && *n != to), "{neighbors:?}");
        assert!(stage.own_far().contains(&to), "over a far link");
        told.extend(nodes[3..].iter().map(|node| number(*node)));
    }
    assert!((30..36).all(|n| told.contains(&n)), "{told:?}");
    assert!(told.iter().all(|n| (20..36).contains(n)), "none that perhaps cannot be dialed: {told:?}");
    // Who was not heard of for more than ten minutes is not told.
    stage.run_for(5 * MINUTE);
    let (.., last) = shuffles(&stage).pop().unwrap();
    assert_eq!(last.nodes().len(), 3);
}

/// Section 3.8, rule 4: a node that nobody dialed does not tell of itself.
#[test]
fn a_node_that_nobody_dialed_does_not_tell_of_itself() {
    let mut stage = Stage::new(&quiet());
    stage.answers.extend((20..40).map(|n| (n, Answer::Welcome)));
    stage.name([20]);
    stage.run_for(SECOND);
    stage.teach(20, 101..140);
    stage.name(21..40);
    stage.run_for(5 * MINUTE);
    let sent = shuffles(&stage);
    assert!(sent.len() >= 8);
    assert!(sent.iter().all(|(.., shuffle)| shuffle.nodes().iter().all(|node| node.address.node() != ME)));
}

/// Section 3.8, rule 4: every 10 s, by up to a half more or less, and after two minutes every 30 s.
#[test]
fn shuffles_go_every_ten_seconds_at_first_and_then_every_thirty() {
    let mut stage = linked(8, |_| ());
    stage.run_for(20 * MINUTE);
    let times: Vec<Time> = shuffles(&stage).into_iter().map(|(at, ..)| at).collect();
    let young = Time::ZERO + 2 * MINUTE;
    for pair in times.windows(2) {
        let usual = if pair[0] < young { 10 * SECOND } else { 30 * SECOND };
        let pause = pair[1].since(pair[0]);
        assert!((usual / 2..=usual * 3 / 2).contains(&pause), "{pause:?} after {:?}", pair[0]);
    }
    let early = times.iter().filter(|at| **at < young).count();
    assert!((8..=24).contains(&early) && times.len() - early >= 24, "{times:?}");
}

/// Section 3.8, rule 5.
#[test]
fn a_relay_takes_in_two_of_a_shuffle_and_the_end_of_the_walk_all() {
    // Links it may still travel, whether there is a link to go on by, and how many are taken in.
    for (hops_left, links, taken) in [(3, 4, 2), (1, 4, 2), (0, 4, 6), (3, 1, 6)] {
        let mut stage = linked(links, |_| ());
        for n in 2..=links {
            let far = stage.link(n);
            assert!(stage.node.neighbors().count() > 1, "{far:?}");
        }
        let before = shuffles(&stage).len();
        shuffle(&mut stage, 1, hops_left, 20..26);
        let onward = shuffles(&stage).split_off(before);
        if hops_left > 0 && links > 1 {
            let (_, to, next) = onward[0].clone();
            assert!(to != 1, "not back");
            assert_eq!((onward.len(), next.hops_left(), next.nodes().len()), (1, hops_left - 1, 6));
        } else {
            assert!(onward.is_empty());
        }
        // With so few links it dials whomever it knows.
        stage.run_for(4 * SECOND);
        let dialed: BTreeSet<u16> = stage.dials().into_iter().map(|(_, n)| n).collect();
        assert_eq!(dialed.len(), taken, "{hops_left} hops left, {links} links: {dialed:?}");
    }
}

/// Section 3.8, rule 5: each relay chooses a far link.
#[test]
fn a_relay_sends_a_shuffle_on_by_a_far_link() {
    let mut stage = linked(6, |_| ());
    stage.opens(7, |connect| connect.kind = LinkKind::Far);
    stage.opens(8, |connect| connect.kind = LinkKind::Far);
    for _ in 0..10 {
        shuffle(&mut stage, 7, 3, [30]);
        let (_, to, _) = shuffles(&stage).pop().unwrap();
        assert_eq!(to, 8, "not by the one that it came by, nor a near one");
    }
}

/// Section 3.8, rule 6.
#[test]
fn a_neighbor_may_send_sixteen_shuffles_at_once_and_two_a_second() {
    let mut stage = linked(8, |_| ());
    let taken = |stage: &Stage| stage.node.stats().shuffles_received;
    for _ in 0..40 {
        shuffle(&mut stage, 1, 3, [30]);
    }
    assert_eq!(taken(&stage), 16);
    shuffle(&mut stage, 2, 3, [30]);
    assert_eq!(taken(&stage), 17, "each neighbor has its own");
    for step in 1..=20 {
        stage.run_for(SECOND / 2);
        shuffle(&mut stage, 1, 3, [30]);
        shuffle(&mut stage, 1, 3, [30]);
        assert_eq!(taken(&stage), 17 + step);
    }
    assert!(stage.drops().is_empty(), "what is too much is dropped, and no more");
}

/// Section 3.8, rule 7.
#[test]
fn without_the_feature_no_shuffle_is_sent_and_one_that_comes_is_a_violation() {
    let mut stage = linked(8, |stage| stage.features = Features::MEMBERSHIP);
    stage.run_for(5 * MINUTE);
    assert!(shuffles(&stage).is_empty());
    stage.features = Features::SUPPORTED;
    stage.near([9]);
    shuffle(&mut stage, 9, 3, [30]);
    assert!(shuffles(&stage).is_empty(), "nobody else understands it");
    shuffle(&mut stage, 2, 3, [30]);
    let drops: Vec<_> = stage.drops().into_iter().map(|(_, n, reason)| (n, reason)).collect();
    assert_eq!(drops, [(2, DisconnectReason::ProtocolViolation)]);
}

/// Pauses between questions to resolvers, an answer of 10 ms left out.
fn pauses(stage: &Stage, from: Time) -> Vec<Duration> {
    let times: Vec<Time> = stage.resolved.iter().copied().filter(|at| *at >= from).collect();
    times.windows(2).map(|pair| pair[1].since(pair[0]).saturating_sub(SECOND / 100)).collect()
}

fn about(pause: Duration, usual: Duration) -> bool {
    (usual * 3 / 4..=usual * 5 / 4).contains(&pause)
}

/// Section 3.9: how often resolvers are asked.
#[test]
fn resolvers_are_asked_every_thirty_seconds_alone_every_minute_in_need_and_else_every_five() {
    // Neighbors, other members, and the longest pause in seconds.
    let cases = [(0, 0, 30), (1, 8, 60), (5, 39, 60), (6, 39, 300), (8, 39, 300), (1, 1, 300), (4, 4, 300)];
    for (neighbors, members, most) in cases {
        let mut stage = Stage::new(&quiet());
        stage.near(1..=neighbors);
        if neighbors > 0 {
            stage.teach(1, 101..101 + members - neighbors);
        }
        stage.run_for(60 * MINUTE);
        let pauses = pauses(&stage, Time::ZERO);
        for (index, pause) in pauses.iter().enumerate() {
            // After its join they grow from a second.
            let usual = Duration::from_secs((1 << index.min(12)).min(most));
            assert!(about(*pause, usual), "{neighbors} of {members}, {index}: {pause:?}, not {usual:?}");
        }
        assert!(pauses.len() as u64 >= 3600 / most, "{pauses:?}");
    }
}

/// Section 3.9: it begins so whenever its last neighbor is gone.
#[test]
fn who_lost_its_last_neighbor_asks_resolvers_at_once_and_again_after_a_second() {
    let mut stage = Stage::new(&quiet());
    stage.near([1]);
    stage.run_for(30 * MINUTE);
    let lost = stage.now;
    stage.leaves(1, DisconnectReason::LeavingMesh);
    assert_eq!(stage.resolved.last(), Some(&lost));
    stage.run_for(3 * MINUTE);
    for (index, pause) in pauses(&stage, lost).into_iter().enumerate() {
        let usual = Duration::from_secs((1 << index.min(12)).min(30));
        assert!(about(pause, usual), "{index}: {pause:?}");
    }
}

/// Section 3.9: each candidate after 0.5 s, growing to 5 s with up to ten candidates and to 30 s
/// with sixty and more; anchors first.
#[test]
fn alone_each_candidate_is_tried_within_five_seconds_or_thirty_where_there_are_many() {
    for (candidates, most) in [(1, 5), (10, 5), (20, 10), (60, 30), (100, 30)] {
        let mut stage = Stage::new(&quiet());
        stage.name(20..20 + candidates);
        stage.run_for(10 * MINUTE);
        let most = Duration::from_secs(most);
        for n in 20..20 + candidates {
            let dials = stage.dials_of(n);
            let last = dials.windows(2).last().map(|pair| pair[1].since(pair[0])).unwrap();
            let range = most * 3 / 4..=most * 5 / 4 + 2 * SECOND;
            assert!(range.contains(&last), "{candidates} candidates: {last:?}");
        }
    }
}
