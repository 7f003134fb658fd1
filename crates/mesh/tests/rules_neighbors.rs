//! How many neighbors a node has, and which ones go: docs/protocol.md section 3.4, seen from
//! one node.

mod stage;
mod world;

use std::time::Duration;

use peerchannel_mesh::{Config, Time};
use peerchannel_wire::{
    Balance, ControlFrame, Coordinate, DisconnectReason, Features, LinkKind, RefuseReason,
};
use stage::{Answer, SECOND, Stage};
use world::World;

const NOT_USEFUL: DisconnectReason = DisconnectReason::NotUsefulNeighbor;

const PLENTY: Balance = Balance { spare: 4, surplus: 2 };
const SPARE_ONLY: Balance = Balance { spare: 2, surplus: 0 };
const NONE: Balance = Balance { spare: 0, surplus: 0 };

/// A node with so many near links that others opened, in a mesh of forty.
fn linked(count: u16) -> Stage {
    linked_as(count, |stage| stage)
}

fn linked_as(count: u16, change: impl FnOnce(Stage) -> Stage) -> Stage {
    let mut config = Config::default();
    config.origin_auth = false;
    let mut stage = change(Stage::without_audits(config));
    // The mesh is large from the first link on.
    stage.near([1]);
    stage.teach(1, 101..140);
    stage.near(2..=count);
    stage
}

fn gone(stage: &Stage) -> Vec<u16> {
    stage.drops().into_iter().map(|(_, n, _)| n).collect()
}

/// Rule 2, and what of the others holds there: below ten members nobody prunes, swaps, rotates,
/// shuffles or tells far from near; the high limit holds.
#[test]
fn with_the_peer_channel_preset_meshes_of_four_to_nine_only_keep_their_limits() {
    let config = Config::peer_channel();
    for count in 4..=9 {
        let mut world = World::full(count, &config);
        world.run_for(1800 * SECOND);
        for index in 0..count {
            let degree = world.neighbors(index);
            assert!((3..=7).contains(&degree), "node {index} of {count} has {degree} links");
            assert!(world.members[index].node.as_ref().unwrap().neighbors().all(|link| !link.far));
            let stats = world.node(index).stats();
            let moved =
                stats.swaps + stats.swaps_failed + stats.rotations + stats.shuffles_sent + stats.pruned;
            assert_eq!(moved, 0, "node {index} of {count}: {stats:?}");
        }
    }
}

/// Rule 5, with its preset of 2, 3 and 7, among nine: up to seven links, whoever asks.
#[test]
fn with_the_peer_channel_preset_a_node_takes_in_seven() {
    let mut stage = Stage::without_audits(Config::peer_channel());
    for n in 1..=8 {
        stage.opens(n, |connect| connect.lacking = n % 2 == 0);
    }
    assert_eq!(stage.neighbors(), [1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(stage.refusals(), [(8, RefuseReason::NodeBusy)]);
}

/// Rule 3: several in parallel, at most 16; one that nobody answered for 2 s is not counted on.
#[test]
fn dials_that_nobody_answers_are_not_counted_on_and_no_more_than_sixteen() {
    let mut stage = Stage::without_audits(Config::default());
    stage.answers.extend((20..60).map(|n| (n, Answer::Hang)));
    stage.name(20..60);
    stage.run_for(2 * SECOND - SECOND / 100);
    assert_eq!(stage.dials().len(), 12, "as many as it may have in a mesh of which it knows nothing");
    stage.run_for(SECOND / 10);
    assert_eq!(stage.dials().len(), 16);
    stage.run_for(60 * SECOND);
    assert_eq!(stage.dials().len(), 16);
}

/// Rules 3 and 4: one less than *low* in the first 6 s, *low* then, and the rest without haste.
#[test]
fn below_its_low_limit_a_node_dials_at_once_and_above_it_now_and_then() {
    let mut stage = linked(1);
    stage.answers.extend((20..60).map(|n| (n, Answer::Welcome)));
    stage.name(20..60);
    stage.run_for(6 * SECOND - SECOND / 10);
    assert_eq!(stage.neighbors().len(), 5, "others dial it meanwhile");
    stage.run_for(SECOND);
    assert_eq!(stage.neighbors().len(), 6);
    stage.run_for(240 * SECOND);
    let since: Vec<Duration> =
        stage.dials().windows(2).map(|pair| pair[1].0.since(pair[0].0)).skip(4).collect();
    assert_eq!((since.len(), stage.neighbors().len()), (2, 8), "the target, and no more");
    let about = |pause: Duration, usual: Duration| pause >= usual * 3 / 4 && pause <= usual * 5 / 4 + SECOND;
    assert!(about(since[0], 10 * SECOND) && about(since[1], 60 * SECOND), "{since:?}");
    // It loses three at once: those below the limit are made up for at once.
    let lost = stage.now;
    for n in stage.neighbors().into_iter().take(3) {
        stage.leaves(n, DisconnectReason::LeavingMesh);
    }
    stage.run_for(SECOND);
    let dials: Vec<Time> = stage.dials().into_iter().map(|(at, _)| at).filter(|at| *at >= lost).collect();
    assert_eq!(dials, [lost]);
}

/// Rule 4: twice to eight times that after dials that brought no neighbor.
#[test]
fn dials_in_vain_above_the_low_limit_are_made_ever_more_seldom() {
    let mut stage = linked(6);
    stage.run_for(10 * SECOND);
    stage.answers.extend((20..60).map(|n| (n, Answer::Refuse(RefuseReason::NodeBusy))));
    stage.name(20..60);
    stage.run_for(600 * SECOND);
    let dials = stage.dials();
    for (index, pair) in dials.windows(2).enumerate() {
        let (usual, pause) = (10 * SECOND * (2 << index.min(2)), pair[1].0.since(pair[0].0));
        assert!(pause >= usual * 3 / 4 && pause <= usual * 5 / 4 + SECOND, "{index}: {pause:?}");
    }
    assert!(dials.len() >= 7, "{dials:?}");
}

/// Peers on a circle 20 ms around this node; it learns that it is in the middle.
fn in_the_middle(count: u16) -> Stage {
    let around = [(0, 20), (20, 0), (0, -20), (-20, 0), (14, 14), (-14, 14), (14, -14), (-14, -14)];
    let mut stage = linked_as(count, |mut stage| {
        for n in 1..=count {
            let (x, y) = around[usize::from(n) % around.len()];
            stage.place.insert(n, Coordinate::new(x * 1000, y * 1000, 100, 50));
            stage.rtt.insert(n, 20 * SECOND / 1000);
        }
        stage
    });
    stage.run_for(90 * SECOND);
    stage
}

/// Rule 7.
#[test]
fn a_trial_is_refused_by_a_node_with_two_links_above_its_target_unless_it_looks_nearer() {
    // Links, how far away the sender says it is in ms, its error, and whether it is let in.
    let cases = [
        (9, None, true),
        (10, None, false),
        (10, Some((2, 50)), true),
        (10, Some((15, 50)), true),
        (10, Some((17, 50)), false),
        (10, Some((2, 501)), false),
        (11, Some((40, 50)), false),
    ];
    for (links, place, let_in) in cases {
        let mut stage = in_the_middle(links);
        assert_eq!(stage.neighbors().len(), usize::from(links));
        let me = stage.ping(1).coordinate.unwrap();
        assert!(me.error() <= 500 && me.height() < 1000, "{me:?}");
        let theirs = place.map(|(ms, error)| Coordinate::new(me.x() + ms * 1000, me.y(), 0, error));
        stage.opens(50, |connect| (connect.kind, connect.coordinate) = (LinkKind::Trial, theirs));
        assert_eq!(stage.is_neighbor(50), let_in, "{links} links, at {place:?}");
        // Whoever wants a neighbor is let in.
        stage.opens(51, |connect| connect.coordinate = theirs);
        assert!(stage.is_neighbor(51));
    }
}

/// Rule 8 (a).
#[test]
fn a_link_too_many_goes_after_thirty_seconds_and_above_the_high_limit_after_three() {
    // Links beside the one that may go, how long it lives at least, and how long until one is
    // looked at.
    for (others, lived, within) in [(9, 30, 7), (11, 30, 4), (12, 3, 2), (16, 3, 1)] {
        let mut stage = linked(others);
        stage.run_for(60 * SECOND);
        let opened = stage.now;
        stage.balance.insert(50, PLENTY);
        stage.near([50]);
        stage.run_until((lived + within) * SECOND, "it goes", |s| !s.drops().is_empty());
        let (at, n, reason) = stage.drops()[0];
        assert!(at.since(opened) >= lived * SECOND, "beside {others} links: {:?}", at.since(opened));
        assert_eq!((n, reason), (50, NOT_USEFUL));
    }
}

/// Rule 8: every 10 s, 5 s above *high*, divided by how many there are too many.
#[test]
fn links_too_many_go_one_by_one_and_sooner_the_more_there_are() {
    let mut stage = linked_as(20, |mut stage| {
        stage.balance.extend((1..=20).map(|n| (n, PLENTY)));
        stage
    });
    stage.run_for(120 * SECOND);
    let times: Vec<Time> = stage.drops().into_iter().map(|(at, ..)| at).collect();
    assert_eq!(times.len(), 12, "down to the target, and no further");
    for (index, pair) in times.windows(2).enumerate() {
        let pause = pair[1].since(pair[0]);
        // Between 20 - index links and one less.
        let before = 20 - u32::try_from(index).unwrap();
        let base = |have: u32| if have > 12 { 5 * SECOND } else { 10 * SECOND } / (have - 8);
        // Who was asked last may have become too young to go below the limit: it lives 30 s there.
        if before == 13 {
            continue;
        }
        let (least, most) = (base(before) * 3 / 4, base(before - 1) * 5 / 4 + SECOND / 10);
        assert!((least..=most).contains(&pause), "{pause:?} at {before} links, not {least:?} to {most:?}");
    }
}

/// Rule 8 (b).
#[test]
fn between_target_and_high_limit_only_what_may_be_replaced_goes() {
    // Links, how many of them others opened as far ones, what the near ones' peers can lose, and
    // how many are left.
    let cases = [
        (10, 8, PLENTY, 8),
        (9, 9, PLENTY, 8),
        (9, 8, NONE, 9),
        (10, 9, NONE, 9),
        (11, 8, NONE, 11),
        (11, 11, PLENTY, 8),
        (14, 8, NONE, 12),
    ];
    for (links, far, near_balance, left) in cases {
        let mut stage = Stage::without_audits(Config::default());
        for n in 1..=links {
            let kind = if n <= far { LinkKind::Far } else { LinkKind::Near };
            stage.balance.insert(n, if n <= far { PLENTY } else { near_balance });
            stage.opens(n, |connect| connect.kind = kind);
            if n == 1 {
                stage.teach(1, 101..140);
            }
        }
        stage.run_for(150 * SECOND);
        assert_eq!(stage.neighbors().len(), left, "{links} links, {far} of them far");
    }
}

/// Rule 8 (c): a peer with just its target would dial another in place of the link.
#[test]
fn a_link_goes_only_if_its_peer_has_a_surplus_and_above_the_high_limit_a_spare() {
    for (links, balance, left) in [
        (10, PLENTY, 8),
        (10, SPARE_ONLY, 10),
        (10, NONE, 10),
        (15, PLENTY, 8),
        (15, SPARE_ONLY, 12),
        (15, NONE, 15),
    ] {
        let mut stage = linked_as(links, |mut stage| {
            stage.balance.extend((1..=links).map(|n| (n, balance)));
            stage
        });
        stage.run_for(150 * SECOND);
        assert_eq!(stage.neighbors().len(), left, "{links} links to peers with {balance:?}");
    }
}

/// Rule 8 (c): asked by a ping just before.
#[test]
fn what_a_peer_says_when_it_is_asked_counts_and_not_what_it_said_before() {
    let mut stage = linked_as(10, |mut stage| {
        stage.balance.extend((1..=10).map(|n| (n, PLENTY)));
        stage
    });
    stage.run_for(20 * SECOND);
    // All have said that they can do without the link. Since then they lost others.
    stage.balance.extend((1..=10).map(|n| (n, SPARE_ONLY)));
    stage.run_for(100 * SECOND);
    assert_eq!(stage.drops(), []);
}

/// Rule 8: above *high* who said that it has none is asked again, once a minute when it was asked
/// eight times.
#[test]
fn above_the_high_limit_who_could_spare_no_link_is_asked_again() {
    let mut stage = linked(14);
    stage.run_for(600 * SECOND);
    assert_eq!(stage.drops(), []);
    stage.balance.extend((1..=14).map(|n| (n, SPARE_ONLY)));
    stage.run_for(62 * SECOND);
    assert_eq!(stage.drops().len(), 2);
}

/// Who of two goes, 2 or 3, if all others must stay and one of the two is slow.
fn first_of_two(slow: u16, prepare: impl Fn(&mut Stage)) -> Vec<u16> {
    let mut stage = linked_as(9, |mut stage| {
        stage.balance.extend([(2, PLENTY), (3, PLENTY)]);
        stage.rtt.insert(slow, SECOND / 10);
        stage
    });
    prepare(&mut stage);
    stage.run_for(90 * SECOND);
    gone(&stage)
}

/// Rule 9: of several first those that brought few first copies, of these the slowest.
#[test]
fn the_slowest_of_two_goes_first_unless_it_is_the_more_useful() {
    assert_eq!(first_of_two(2, |_| ()), [2]);
    assert_eq!(first_of_two(3, |_| ()), [3]);
    // First copies and further ones that the slow one brought: of 64 or more, more than a quarter
    // is useful.
    for (first, further, goes) in
        [(64, 1, 3), (17, 47, 3), (16, 48, 2), (62, 1, 2), (101, 299, 3), (100, 300, 2)]
    {
        let copies = |stage: &mut Stage| {
            stage.floods(1, 1, further);
            stage.floods(2, 1, further);
            stage.floods(2, u64::try_from(further).unwrap() + 1, first);
        };
        assert_eq!(first_of_two(2, copies), [goes], "{first} first copies of {}", first + further);
    }
}

/// Rule 9: above the high limit, where others' far links go too, near ones go before them.
#[test]
fn a_near_link_goes_before_a_slower_far_one() {
    let mut stage = linked(11);
    stage.rtt.insert(20, SECOND / 10);
    stage.opens(20, |connect| connect.kind = LinkKind::Far);
    stage.opens(21, |_| ());
    stage.balance.extend([(20, PLENTY), (21, PLENTY)]);
    stage.run_for(20 * SECOND);
    assert_eq!(gone(&stage), [21]);
    // The far one alone above the limit goes too.
    stage.opens(22, |_| ());
    stage.run_for(20 * SECOND);
    assert_eq!(gone(&stage), [21, 20]);
}

/// Rule 9: first those whose peer said that it can do without, before those that may have changed.
#[test]
fn who_said_that_it_can_do_without_goes_before_a_slower_one_that_did_not() {
    // Each is asked again after 5 s: whenever it was asked last.
    for seconds in 60..70 {
        let mut stage = linked_as(13, |mut stage| {
            stage.rtt.insert(2, SECOND / 10);
            stage
        });
        stage.run_for(seconds * SECOND);
        stage.balance.extend([(2, SPARE_ONLY), (3, SPARE_ONLY)]);
        stage.pong(3, SPARE_ONLY);
        stage.run_for(20 * SECOND);
        assert_eq!(gone(&stage), [3], "after {seconds} s");
    }
}

/// Rule 9: above the limit in force those go last that this node chose itself, and before them the
/// far ones of others; first the one with the least share of first copies, of equals the newest.
#[test]
fn above_the_limit_in_force_the_least_useful_goes_at_once_and_what_was_chosen_for_safety_last() {
    let mut config = Config::default();
    (config.dialable_high, config.origin_auth) = (12, false);
    let mut stage = Stage::without_audits(config);
    stage.answers.extend([(1, Answer::Welcome), (2, Answer::Welcome)]);
    stage.named = vec![1, 2];
    stage.run_for(SECOND);
    stage.teach(1, 101..140);
    // The mesh was small when they were dialed; now far ones can be told.
    for n in [1, 2] {
        stage.leaves(n, DisconnectReason::NodeTooSlow);
    }
    stage.run_for(12 * SECOND);
    assert_eq!(stage.own_far().len(), 2);
    for n in 3..=12 {
        let kind = if n == 11 { LinkKind::Far } else { LinkKind::Near };
        stage.opens(n, |connect| connect.kind = kind);
        stage.run_for(SECOND / 10);
    }
    // What heals a split comes above the limit, and after its time the limit holds.
    for n in [13, 14, 15, 16] {
        stage.opens(n, |connect| connect.healing = true);
    }
    assert_eq!(stage.neighbors().len(), 16);
    // Two of them, and one that was there before, bring all messages.
    for (index, n) in [13, 14, 3].into_iter().enumerate() {
        stage.floods(n, 1 + 100 * u64::try_from(index).unwrap(), 100);
    }
    stage.run_for(28 * SECOND);
    assert_eq!(stage.drops(), [], "they have half a minute");
    stage.run_for(3 * SECOND);
    assert_eq!(gone(&stage), [15, 16, 12, 10], "the newest of those that are of no use");
    assert!([1, 2, 3, 11, 13, 14].iter().all(|n| stage.is_neighbor(*n)));
}

/// Rule 10: how long a node that was dropped, or that refused, is not dialed.
#[test]
fn who_was_dropped_or_refused_is_dialed_after_a_minute_and_in_need_after_ten_seconds() {
    let drops = |stage: &mut Stage| {
        // Nine links: the ninth goes.
        stage.balance.insert(20, PLENTY);
        stage.run_until(60 * SECOND, "it is dropped", |s| !s.drops().is_empty());
    };
    let is_dropped = |stage: &mut Stage| stage.leaves(20, NOT_USEFUL);
    let other_goodbye = |stage: &mut Stage| stage.leaves(20, DisconnectReason::NodeTooSlow);
    // How it ended, links left, and when it is dialed in seconds.
    let cases = [
        ("this node dropped it", drops as fn(&mut Stage), 6, 60, 130),
        ("this node dropped it", drops, 5, 10, 12),
        ("it dropped this node", is_dropped, 6, 60, 130),
        ("it dropped this node", is_dropped, 5, 10, 12),
        ("another goodbye", other_goodbye, 6, 10, 45),
        ("another goodbye", other_goodbye, 5, 10, 12),
    ];
    for (how, end, left, earliest, latest) in cases {
        let mut stage = linked(8);
        stage.addressed.insert(20);
        stage.answers.insert(20, Answer::Welcome);
        stage.near([20]);
        end(&mut stage);
        let ended = stage.now;
        for n in left + 1..=8 {
            stage.leaves(n, DisconnectReason::LeavingMesh);
        }
        stage.run_for(300 * SECOND);
        let dialed = stage.dials_of(20)[0].since(ended);
        let range = Duration::from_secs(earliest)..=Duration::from_secs(latest);
        assert!(range.contains(&dialed), "{how}, {left} left: dialed after {dialed:?}");
    }
}

/// Rule 10, for one that refused as busy.
#[test]
fn who_refused_as_busy_is_dialed_after_a_minute_and_in_need_after_ten_seconds() {
    for (links, earliest, latest) in [(6, 60, 140), (5, 10, 12)] {
        let mut stage = linked(links);
        stage.run_for(10 * SECOND);
        stage.answers.insert(20, Answer::Refuse(RefuseReason::NodeBusy));
        stage.name([20]);
        stage.run_for(300 * SECOND);
        let dials = stage.dials_of(20);
        let pause = dials[1].since(dials[0]);
        let range = Duration::from_secs(earliest)..=Duration::from_secs(latest);
        assert!(range.contains(&pause), "with {links} links again after {pause:?}");
    }
}

/// Rule 2: of rule 10 a small mesh has only the ten seconds.
#[test]
fn in_a_small_mesh_nobody_is_left_out_for_a_minute() {
    let mut stage = Stage::without_audits(Config::default());
    stage.near(1..=7);
    stage.addressed.insert(20);
    stage.near([20]);
    stage.leaves(20, NOT_USEFUL);
    stage.run_for(60 * SECOND);
    let dialed = stage.dials_of(20)[0].since(Time::ZERO);
    assert!((10 * SECOND..=11 * SECOND).contains(&dialed), "{dialed:?}");
}

/// Section 3.6, rules 1 and 2.
#[test]
fn a_pong_tells_how_many_links_its_sender_could_lose() {
    for (links, spare, surplus) in [(5, 0, 0), (6, 0, 0), (7, 1, 0), (8, 2, 0), (9, 3, 1), (14, 8, 6)] {
        let mut stage = linked(links);
        assert_eq!(stage.ping(1).balance, Some(Balance { spare, surplus }), "{links} links");
    }
    // Below ten members a node wants as many as it may have.
    let mut config = Config::default();
    (config.neighbors_low, config.neighbors_target) = (2, 3);
    let mut stage = Stage::without_audits(config);
    stage.near(1..=8);
    assert_eq!(stage.ping(1).balance, Some(Balance { spare: 6, surplus: 0 }));
    // Older releases are told nothing.
    let mut stage = Stage::without_audits(Config::default());
    stage.features = Features::NONE;
    stage.near(1..=8);
    assert_eq!(stage.ping(1), peerchannel_wire::Pong::plain(42));
}

#[test]
fn a_link_that_was_measured_eight_times_is_measured_once_a_minute_by_the_least_of_the_last_eight() {
    let mut stage = linked(1);
    let is_ping = |frame: &ControlFrame| matches!(frame, ControlFrame::Ping(_));
    let rtt = |stage: &Stage| stage.node.neighbors().next().unwrap().rtt;
    stage.run_until(400 * SECOND, "eight pings", |s| s.sent(1, is_ping).len() == 8);
    stage.run_for(SECOND);
    let eighth = stage.sent(1, is_ping)[7];
    assert_eq!(rtt(&stage), SECOND / 100);
    stage.rtt.insert(1, SECOND / 5);
    stage.run_for(1200 * SECOND);
    let pings: Vec<Time> = stage.sent(1, is_ping).into_iter().skip(7).collect();
    assert!(eighth < Time::ZERO + 300 * SECOND && pings.len() >= 11, "{pings:?}");
    for pair in pings.windows(2) {
        let pause = pair[1].since(pair[0]);
        assert!((60 * SECOND..100 * SECOND).contains(&pause), "{pause:?}");
    }
    assert_eq!(rtt(&stage), SECOND / 5, "what was measured before the last eight is forgotten");
    stage.rtt.insert(1, SECOND / 20);
    stage.run_for(120 * SECOND);
    assert_eq!(rtt(&stage), SECOND / 20);
    stage.rtt.insert(1, SECOND / 5);
    stage.run_for(300 * SECOND);
    assert_eq!(rtt(&stage), SECOND / 20, "the least counts");
}
