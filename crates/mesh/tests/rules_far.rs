//! Far and near links, rotation and swaps: docs/protocol.md sections 3.5 and 3.7, seen from one
//! node.
#![allow(clippy::unwrap_used, reason = "a test")]

mod stage;

use std::time::Duration;

use peerchannel_mesh::{Config, Time};
use peerchannel_wire::{
    Balance, ControlFrame, Coordinate, DisconnectReason, LinkKind, NodeAddress, RefuseReason, Shuffle,
    ShuffledNode,
};
use stage::{Answer, SECOND, Stage, id};

const MINUTE: Duration = Duration::from_secs(60);

/// Its peer stays above its low limit without the link, and would miss it.
const SPARE: Balance = Balance { spare: 2, surplus: 0 };

fn quiet() -> Config {
    let mut config = Config::default();
    config.audit_interval = 86_400 * SECOND;
    config
}

/// A node with so many near links that others opened, numbers 1 and up, in a mesh of forty.
fn linked(count: u16, change: impl FnOnce(&mut Stage)) -> Stage {
    linked_by(1, count, change)
}

fn linked_by(seed: u8, count: u16, change: impl FnOnce(&mut Stage)) -> Stage {
    let mut stage = Stage::seeded(&quiet(), seed);
    change(&mut stage);
    stage.near([1]);
    stage.teach(1, 101..140);
    stage.near(2..=count);
    stage
}

fn welcoming(stage: &mut Stage, peers: impl IntoIterator<Item = u16>) {
    stage.answers.extend(peers.into_iter().map(|n| (n, Answer::Welcome)));
}

fn far_dials(stage: &Stage) -> Vec<u16> {
    let far = stage.connects().into_iter().filter(|(.., kind)| *kind == LinkKind::Far);
    far.map(|(_, n, _)| n).collect()
}

/// Section 3.5, rule 2: a quarter of the target first; the rest of the half a minute after the
/// join.
#[test]
fn of_the_links_it_dials_the_first_two_are_far_and_the_rest_of_the_half_after_a_minute() {
    let mut stage = linked(1, |_| ());
    welcoming(&mut stage, 20..60);
    stage.name(20..60);
    stage.run_for(50 * SECOND);
    let early: Vec<LinkKind> = stage.connects().into_iter().map(|(.., kind)| kind).collect();
    assert!(early.len() >= 4, "{early:?}");
    let is_far = |kind: &LinkKind| *kind == LinkKind::Far;
    assert!(early[..2].iter().all(is_far), "{early:?}");
    assert!(!early[2..].iter().any(is_far), "others open far links to it meanwhile: {early:?}");
    stage.run_for(20 * SECOND);
    // Near ones leave: far ones are dialed in their place, up to half of the target.
    for _ in 0..6 {
        let near = stage.node.neighbors().find(|link| !link.far).map(|link| stage::number(link.node));
        if let Some(near) = near {
            stage.leaves(near, DisconnectReason::LeavingMesh);
        }
        stage.run_for(2 * MINUTE);
    }
    assert_eq!(far_dials(&stage).len(), 4, "{:?}", stage.connects());
    assert_eq!(stage.own_far().len(), 4);
}

/// Section 3.5, rule 2: far links of others count to the half, but not to the quarter.
#[test]
fn a_node_to_which_others_opened_far_links_still_dials_two_of_its_own() {
    let mut stage = Stage::new(&quiet());
    stage.near([1]);
    stage.teach(1, 101..140);
    for n in 2..=8 {
        stage.opens(n, |connect| connect.kind = LinkKind::Far);
    }
    welcoming(&mut stage, 20..60);
    stage.name(20..60);
    stage.run_for(10 * MINUTE);
    assert_eq!(stage.own_far().len(), 2, "although it has its target of links");
    assert_eq!(stage.connects().len(), 2);
    // A lost one is made up for, above the target too.
    let lost = stage.own_far()[0];
    stage.leaves(lost, DisconnectReason::LeavingMesh);
    stage.run_for(10 * MINUTE);
    assert_eq!((stage.own_far().len(), far_dials(&stage).len()), (2, 3));
}

/// Section 3.5, rule 2: at its limit one at a time, and another link goes for it.
#[test]
fn at_its_limit_a_node_dials_one_far_link_at_a_time_and_another_goes_for_it() {
    let mut config = quiet();
    (config.dialable_high, config.neighbors_high) = (12, 12);
    let mut stage = Stage::new(&config);
    stage.near([1]);
    stage.teach(1, 101..140);
    stage.near(2..=12);
    welcoming(&mut stage, 20..60);
    // Each answer takes its time.
    stage.rtt.extend((20..60).map(|n| (n, 5 * SECOND)));
    stage.name(20..60);
    stage.run_for(10 * MINUTE);
    let dials = stage.dials();
    assert_eq!((dials.len(), stage.own_far().len(), stage.neighbors().len()), (2, 2, 12));
    assert!(dials[1].0.since(dials[0].0) >= 10 * SECOND, "{dials:?}");
    let gone: Vec<u16> = stage.drops().into_iter().map(|(_, n, _)| n).collect();
    assert!(gone.len() == 2 && gone.iter().all(|n| *n <= 12), "{gone:?}");
}

/// A node whose target is 16, half of it far, that settled; peers 20 to 39 have these addresses.
fn far_networks(seed: u8, address: impl Fn(u16) -> [u8; 4]) -> Stage {
    let mut config = quiet();
    (config.neighbors_target, config.neighbors_high) = (16, 20);
    let mut stage = Stage::seeded(&config, seed);
    stage.near([1]);
    stage.teach(1, 101..140);
    stage.near(2..=8);
    stage.run_for(MINUTE);
    welcoming(&mut stage, 20..40);
    for n in 20..40 {
        stage.at.insert(n, (address(n), 5000).into());
    }
    stage
}

/// Section 3.5, rule 5.
#[test]
fn of_its_far_links_a_node_opens_two_to_one_network_unless_there_is_nobody_else() {
    for seed in 0..20 {
        // Half of them are of one network.
        let crowd = |n: u16| n < 30;
        let [_, low] = 7u16.to_be_bytes();
        let mut stage = far_networks(seed, |n| {
            let [_, host] = n.to_be_bytes();
            if crowd(n) { [8, 8, low, host] } else { [8, host, low, 1] }
        });
        stage.name(20..40);
        let mut checked = 0;
        for _ in 0..60 {
            stage.run_for(30 * SECOND);
            let own = stage.own_far();
            let of_crowd = own.iter().filter(|n| crowd(**n)).count();
            if own.len() <= 4 {
                checked = checked.max(own.len());
                assert!(of_crowd <= 2, "seed {seed}: {own:?}");
            }
        }
        assert!(checked >= 3, "seed {seed}");
    }
    // Where all are of one network, or addresses say nothing, it has its far links all the same.
    for network in [[8, 8, 7], [10, 1, 2]] {
        let mut stage = far_networks(1, |n| {
            let [_, host] = n.to_be_bytes();
            [network[0], network[1], network[2], host]
        });
        stage.name(20..40);
        stage.run_for(30 * MINUTE);
        assert!(stage.own_far().len() >= 4, "{network:?}: {:?}", stage.own_far());
    }
}

/// A node with two far links of its own, to 20 and 21, and others' near ones, half an hour before
/// its rotation, with candidates.
fn before_rotation(seed: u8, near: u16, change: impl FnOnce(&mut Stage)) -> Stage {
    let mut stage = linked_by(seed, near, change);
    welcoming(&mut stage, 20..40);
    stage.name([20, 21]);
    stage.run_until(5 * MINUTE, "its far links", |s| s.own_far().len() == 2);
    stage.name(22..40);
    stage
}

/// Section 3.5, rule 6.
#[test]
fn every_twenty_minutes_another_far_link_is_dialed_and_the_youngest_that_can_be_spared_goes_for_it() {
    // Near links of others, and who can be spared.
    let cases: [(u16, &[u16]); 5] = [(7, &[20, 21]), (7, &[20]), (7, &[21]), (7, &[]), (12, &[20, 21])];
    for (seed, (near, spares)) in (1..).zip(cases) {
        let mut stage = before_rotation(seed, near, |stage| {
            stage.balance.extend(spares.iter().map(|n| (*n, SPARE)));
        });
        let own = stage.own_far();
        stage.run_for((Time::ZERO + 15 * MINUTE).since(stage.now));
        assert_eq!((far_dials(&stage).len(), stage.drops().len()), (2, 0), "a quarter hour at least");
        stage.run_for(10 * MINUTE + SECOND);
        assert_eq!(far_dials(&stage).len(), 3, "{near} near links");
        let gone: Vec<u16> = stage.drops().into_iter().map(|(_, n, _)| n).collect();
        let expected: Vec<u16> = own.iter().copied().rfind(|n| spares.contains(n)).into_iter().collect();
        assert_eq!(gone, expected, "{near} near links, {spares:?} can be spared, of {own:?}");
    }
}

/// Section 3.5, rule 6: unless the node is full.
#[test]
fn a_full_node_rotates_nothing() {
    let mut stage = before_rotation(1, 7, |_| ());
    stage.near(40..63);
    assert_eq!(stage.neighbors().len(), 32);
    let before = stage.dials().len();
    stage.run_for(60 * MINUTE);
    assert_eq!(stage.dials().len(), before);
}

/// Section 3.5, rule 4: a slot whose node left begins anew, so nobody dials it.
#[test]
fn who_left_is_never_dialed_as_a_far_neighbor() {
    let mut stage = linked(3, |stage| stage.addressed.extend(20..24));
    stage.near(20..24);
    for n in 20..24 {
        stage.leaves(n, DisconnectReason::LeavingMesh);
    }
    stage.run_for(30 * MINUTE);
    assert_eq!(stage.dials(), []);
}

/// A node in the middle of a circle of 20 ms whose links are as many as it wants, the first of them
/// slow, and that hears of a node nearby. Says when it tries it.
fn trial(links: u16, change: impl FnOnce(&mut Stage)) -> Stage {
    let around = [(0, 20), (20, 0), (0, -20), (-20, 0), (14, 14), (-14, 14), (14, -14), (-14, -14)];
    let mut stage = linked(links, |stage| {
        for n in 1..=links {
            let (x, y) = around[usize::from(n) % around.len()];
            stage.place.insert(n, Coordinate::new(x * 1000, y * 1000, 100, 50));
            stage.rtt.insert(n, SECOND * 20 / 1000);
        }
        stage.balance.insert(1, SPARE);
        welcoming(stage, [50]);
        stage.rtt.insert(50, SECOND * 5 / 1000);
        change(stage);
    });
    // It has far links of its own: it does not look for any.
    welcoming(&mut stage, [20, 21]);
    stage.name([20, 21]);
    stage.run_until(5 * MINUTE, "its far links", |s| s.own_far().len() == 2);
    stage.run_for(2 * MINUTE);
    stage
}

/// A shuffle tells of a node somewhere near this one.
fn tell_of(stage: &mut Stage, n: u16, ms: i32) {
    let me = stage.ping(1).coordinate.unwrap();
    let coordinate = Some(Coordinate::new(me.x() + ms * 1000, me.y(), 0, 50));
    let address = NodeAddress::new(id(n), [stage.address(n)]).unwrap();
    let told = ShuffledNode { address, coordinate, age_s: 0 };
    let link = stage.link(1);
    stage.control(link, ControlFrame::Shuffle(Shuffle::new(0, vec![told])));
}

fn trials(stage: &Stage) -> Vec<Time> {
    let trials = stage.connects().into_iter().filter(|(.., kind)| *kind == LinkKind::Trial);
    trials.map(|(at, ..)| at).collect()
}

/// Section 3.7, rules 1 to 3.
#[test]
fn a_nearer_node_is_tried_and_takes_the_place_of_the_slowest_that_can_be_spared() {
    let mut stage = trial(6, |_| ());
    tell_of(&mut stage, 50, 4);
    stage.run_for(2 * MINUTE);
    let pings = stage.sent(50, |frame| matches!(frame, ControlFrame::Ping(_)));
    assert_eq!(trials(&stage).len(), 1);
    let (at, n, reason) = stage.drops()[0];
    assert_eq!((n, reason), (1, DisconnectReason::NotUsefulNeighbor));
    assert!(pings.iter().filter(|ping| **ping < at).count() >= 3, "measured by three pings");
    assert!(at.since(trials(&stage)[0]) <= 10 * SECOND);
    assert!(stage.is_neighbor(50));
}

/// Section 3.7, rules 1 and 5: what keeps a trial from being made.
#[test]
fn nobody_is_tried_where_nothing_is_to_be_gained_or_nobody_may_go() {
    let check = |what: &str, links: u16, change: &dyn Fn(&mut Stage), ms: i32| {
        let mut stage = trial(links, change);
        tell_of(&mut stage, 50, ms);
        stage.run_for(4 * MINUTE);
        assert_eq!(trials(&stage), [], "{what}");
    };
    check("it is a tenth nearer", 6, &|_| (), 18);
    check("the other end can spare none", 6, &|stage| _ = stage.balance.remove(&1), 4);
    check(
        "a near link never takes the place of a far one of its own",
        6,
        &|stage| {
            stage.balance.remove(&1);
            stage.balance.extend([(20, SPARE), (21, SPARE)]);
            stage.rtt.extend([(20, SECOND), (21, SECOND)]);
        },
        4,
    );
    check("the slow link was not measured", 6, &|stage| _ = stage.mute.insert(1), 4);
}

/// Section 3.7, rule 3: the measured time decides, not the promised one.
#[test]
fn a_trial_that_is_slower_than_it_promised_goes_again() {
    // Measured in ms, and who goes.
    for (ms, goes) in [(5, 1), (16, 1), (17, 50), (60, 50)] {
        let mut stage = trial(6, |stage| _ = stage.rtt.insert(50, SECOND * ms / 1000));
        tell_of(&mut stage, 50, 4);
        stage.run_for(2 * MINUTE);
        let gone: Vec<u16> = stage.drops().into_iter().map(|(_, n, _)| n).collect();
        assert_eq!((gone, trials(&stage).len()), (vec![goes], 1), "measured {ms} ms");
    }
}

/// Section 3.7, rule 4.
#[test]
fn refused_trials_are_made_ever_more_seldom_down_to_one_in_ten_minutes() {
    let mut stage = trial(6, |stage| {
        stage.answers.extend((50..60).map(|n| (n, Answer::Refuse(RefuseReason::NodeBusy))));
    });
    for n in 50..60 {
        tell_of(&mut stage, n, 4);
    }
    stage.run_for(60 * MINUTE);
    let times = trials(&stage);
    let pauses: Vec<Duration> = times.windows(2).map(|pair| pair[1].since(pair[0])).collect();
    assert!(pauses.windows(2).take(3).all(|pair| pair[1] >= pair[0] * 6 / 5), "{pauses:?}");
    assert!((5..=10).contains(&times.len()), "{times:?}");
    // Two pauses, if after the first no further trial is earned yet.
    assert!(pauses.iter().all(|pause| *pause <= 20 * MINUTE * 5 / 4 + SECOND), "{pauses:?}");
}
