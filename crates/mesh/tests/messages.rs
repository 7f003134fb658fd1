//! Messages: order, exactly once, repair and exact gaps, on virtual time.

mod world;

use std::time::Duration;

use bytes::Bytes;
use peerchannel_mesh::{
    Config, DeliveryLane, DirectError, Event, FilterView, GapReason, Origination, PublishError, Verdict,
};
use world::{World, channel, node_id};

const SECOND: Duration = Duration::from_secs(1);

fn numbers(range: std::ops::Range<usize>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

fn pair() -> World {
    let mut world = World::full(2, &Config::default());
    world.run_until(5 * SECOND, "linked", |w| w.linked(0, 1) && w.linked(1, 0));
    // Both dialed: until one of the two links is dropped, best effort may fail.
    world.run_for(SECOND / 2);
    world
}

#[test]
fn messages_arrive_once_in_order_and_are_committed() {
    let mut world = pair();
    for text in numbers(0..500) {
        world.publish(0, &text);
    }
    world.run_for(SECOND);
    assert_eq!(world.texts(1), numbers(0..500));
    assert!(world.saw(0, |e| matches!(e, Event::Committed { through, .. } if through.get() == 500)));
    assert!(world.texts(0).is_empty(), "no echo unless asked for");
}

#[test]
fn what_members_that_are_long_gone_published_is_history_to_those_who_come_later() {
    let mut world = World::full(4, &Config::default());
    world.run_for(5 * SECOND);
    world.publish(3, "before you came");
    world.run_for(SECOND);
    world.with(3, |node, now| node.leave(now));
    // The first newcomer learns of the stream, but not any more who published it.
    world.run_for(90 * SECOND);
    world.add(&Config::default(), vec![0, 1, 2]);
    world.start(4);
    // The old ones forget the stream meanwhile. The second newcomer is told by one of these where
    // streams stand, and compares positions with the first.
    world.run_for(120 * SECOND);
    world.add(&Config::default(), vec![0]);
    world.start(5);
    world.run_for(60 * SECOND);
    assert!(world.linked(5, 4));
    assert_eq!(world.gaps(), 0);
    assert!(world.texts(5).is_empty());
}

#[test]
fn what_was_published_alone_is_held_for_the_first_neighbor() {
    let mut world = World::new(3, &Config::default());
    world.start(0);
    world.run_for(3 * SECOND);
    for text in numbers(0..5) {
        world.publish(0, &text);
    }
    world.run_for(SECOND);
    world.members[1].knows = vec![0];
    world.start(1);
    world.run_for(2 * SECOND);
    assert_eq!(world.texts(1), numbers(0..5));
    // Who comes later gets what is published later: the rest is history.
    world.members[2].knows = vec![1];
    world.start(2);
    world.run_for(3 * SECOND);
    world.publish(0, "later");
    world.run_for(SECOND);
    assert_eq!(world.texts(2), ["later"]);
    assert_eq!(world.gaps(), 0);
}

#[test]
fn what_may_be_held_alone_is_bounded_and_says_so() {
    let mut config = Config::default();
    config.max_message = 1000;
    config.held_alone_bytes = 2000;
    let mut world = World::new(1, &config);
    world.start(0);
    let now = world.now;
    let publish = |world: &mut World| world.node(0).publish(now, &channel("c"), Bytes::from(vec![0; 900]));
    assert!(publish(&mut world).is_ok() && publish(&mut world).is_ok());
    assert_eq!(publish(&mut world).unwrap_err(), PublishError::HeldFull { held: 1800, limit: 2000 });
    let too_large = world.node(0).publish(now, &channel("c"), Bytes::from(vec![0; 1001])).unwrap_err();
    assert_eq!(too_large, PublishError::TooLarge { size: 1001, limit: 1000 });
}

#[test]
fn a_line_and_a_ring_of_six_carry_everything_everywhere() {
    for ring in [false, true] {
        let mut world = World::line(6, ring);
        world.run_until(20 * SECOND, "built", |w| {
            (0..5).all(|i| w.linked(i, i + 1)) && (!ring || w.linked(5, 0))
        });
        world.run_for(2 * SECOND);
        for text in numbers(0..50) {
            world.publish(0, &text);
            world.publish(3, &format!("three {text}"));
        }
        world.run_for(2 * SECOND);
        for index in 0..6 {
            let zero: Vec<String> = world.texts(index).into_iter().filter(|t| !t.contains("three")).collect();
            let three = world.texts(index).len() - zero.len();
            assert_eq!(zero, if index == 0 { vec![] } else { numbers(0..50) }, "ring {ring} node {index}");
            assert_eq!(three, if index == 3 { 0 } else { 50 });
        }
        let hops =
            world.members[if ring { 3 } else { 5 }].delivered.iter().find(|d| d.stream.origin == node_id(0));
        assert_eq!(hops.unwrap().hops, if ring { 3 } else { 5 });
        assert_eq!(world.gaps(), 0);
    }
}

#[test]
fn what_a_dying_link_swallowed_still_arrives_once_and_in_order() {
    let mut world = World::line(4, true);
    world.run_until(20 * SECOND, "a ring", |w| (0..3).all(|i| w.linked(i, i + 1)) && w.linked(3, 0));
    world.run_for(2 * SECOND);
    for text in numbers(0..200) {
        world.publish(1, &text);
    }
    world.run_for(SECOND);
    // The cable to node 2 dies unnoticed, and so does the one to node 0; 200 messages go nowhere.
    world.swallow(1, 2);
    world.swallow(1, 0);
    for text in numbers(200..400) {
        world.publish(1, &text);
    }
    world.run_for(3 * SECOND);
    assert_eq!(world.texts(2).len(), 200);
    world.break_link(1, 2);
    world.break_link(1, 0);
    // `swallow` marked the wires dead, so tell the ends by hand.
    world.notice_dead();
    world.run_for(20 * SECOND);
    for index in [0, 2, 3] {
        assert_eq!(world.texts(index), numbers(0..400), "node {index}");
    }
    assert_eq!(world.gaps(), 0);
}

#[test]
fn a_tail_that_a_relay_lost_is_found_by_the_digest() {
    let mut world = World::line(3, false);
    world.run_until(10 * SECOND, "a line", |w| w.linked(0, 1) && w.linked(1, 2));
    world.run_for(2 * SECOND);
    world.swallow(1, 2);
    for text in numbers(0..20) {
        world.publish(0, &text);
    }
    world.run_for(SECOND);
    assert!(world.saw(0, |e| matches!(e, Event::Committed { through, .. } if through.get() == 20)));
    world.notice_dead();
    world.run_until(20 * SECOND, "linked again", |w| w.linked(1, 2));
    world.run_until(3 * SECOND, "repaired", |w| w.texts(2) == numbers(0..20));
}

#[test]
fn a_full_queue_turns_push_into_pull_and_loses_nothing() {
    let mut world = World::line(3, false);
    world.run_until(10 * SECOND, "a line", |w| w.linked(0, 1) && w.linked(1, 2));
    world.run_for(2 * SECOND);
    world.queue_level(1, 2, true);
    for text in numbers(0..100) {
        world.publish(0, &text);
    }
    world.run_for(SECOND / 2);
    assert!(world.texts(2).is_empty(), "not pushed to a full queue");
    assert_eq!(world.texts(1), numbers(0..100), "which holds up nobody else");
    world.queue_level(1, 2, false);
    world.run_for(2 * SECOND);
    assert_eq!(world.texts(2), numbers(0..100));
    let stats = world.node(2).stats();
    assert!(stats.repairs == 100 && stats.gaps == 0, "{stats:?}");
}

#[test]
fn what_nobody_retains_is_an_exact_gap() {
    let mut config = Config::default();
    (config.neighbors_low, config.neighbors_target, config.neighbors_high) = (1, 2, 2);
    config.full_mesh_members_max = 1;
    config.max_message = 10_000;
    config.retention_bytes = 65_536;
    config.publish_window_bytes = 32_768;
    config.held_alone_bytes = 32_768;
    let mut world = World::line(3, false);
    for index in 0..3 {
        world.members[index].config = config.clone();
        world.start(index);
    }
    world.run_until(20 * SECOND, "a line", |w| w.linked(0, 1) && w.linked(1, 2));
    world.run_for(2 * SECOND);
    world.publish(0, "first");
    world.run_for(SECOND);
    world.queue_level(1, 2, true);
    // Twice what anybody retains passes by.
    for _ in 0..20 {
        let now = world.now;
        world.node(0).publish(now, &channel("c"), Bytes::from(vec![b'x'; 8000])).unwrap();
        world.input(0, peerchannel_mesh::Input::Timeout);
        world.run_for(SECOND / 5);
    }
    world.queue_level(1, 2, false);
    world.run_for(10 * SECOND);
    world.publish(0, "last");
    world.run_for(2 * SECOND);
    let gaps: Vec<(u64, u64)> = world.members[2]
        .events
        .iter()
        .filter_map(|e| match e {
            Event::Gap { first, last, reason: GapReason::Gone, .. } => Some((first.get(), last.get())),
            _ => None,
        })
        .collect();
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    let missing = gaps[0].1 - gaps[0].0 + 1;
    assert_eq!(gaps[0].0, 2);
    assert_eq!(world.texts(2).len() as u64 + missing, 22);
    assert_eq!(world.texts(2).last().unwrap(), "last");
    assert_eq!(world.node(2).stats().gaps, missing);
}

#[test]
fn a_filter_bars_delivery_and_service_and_the_rest_goes_on() {
    let mut world = World::line(3, false);
    world.run_until(10 * SECOND, "a line", |w| w.linked(0, 1) && w.linked(1, 2));
    world.run_for(2 * SECOND);
    world.node(1).set_filter(Some(Box::new(|m: &FilterView<'_>| {
        assert_eq!(m.origination, Origination::Remote);
        if m.payload.starts_with(b"bad") { Verdict::Local } else { Verdict::LocalAndRemote }
    })));
    for text in ["one", "bad two", "three", "bad four", "five"] {
        world.publish(0, text);
    }
    world.run_for(15 * SECOND);
    assert_eq!(world.texts(1), ["one", "bad two", "three", "bad four", "five"]);
    assert_eq!(world.texts(2), ["one", "three", "five"]);
    let gaps: Vec<(u64, GapReason)> = world.members[2]
        .events
        .iter()
        .filter_map(|e| {
            if let Event::Gap { first, reason, .. } = e { Some((first.get(), *reason)) } else { None }
        })
        .collect();
    assert_eq!(gaps, [(2, GapReason::Filtered), (4, GapReason::Filtered)]);
}

#[test]
fn a_forged_batch_costs_the_neighbor_that_passed_it_on() {
    let mut world = pair();
    world.run_for(SECOND);
    world.forge();
    world.publish(0, "forged");
    world.run_for(SECOND / 10);
    assert!(world.texts(1).is_empty());
    let stats = world.node(1).stats();
    assert!(stats.bad_signatures == 1 && stats.violations == 1, "{stats:?}");
    let accused = |e: &Event| matches!(e, Event::Misbehaved { node, .. } if *node == node_id(0));
    assert!(world.saw(1, accused));
    assert!(world.saw(1, |e| matches!(e, Event::NeighborDown { .. })));
}

#[test]
fn a_hop_limit_is_a_radius() {
    let mut world = World::line(6, false);
    world.run_until(20 * SECOND, "a line", |w| (0..5).all(|i| w.linked(i, i + 1)));
    for hops in [0, 1, 3, 64] {
        world.with(0, |node, now| {
            node.publish_local(now, &channel("c"), Bytes::from(format!("h{hops}")), hops).unwrap();
        });
    }
    world.run_for(SECOND);
    for index in 1..6 {
        let expected: Vec<String> =
            [1, 3, 64].iter().filter(|h| index <= **h).map(|h| format!("h{h}")).collect();
        assert_eq!(world.texts(index), expected, "node {index}");
    }
    let at_two = world.members[2].delivered.iter().find(|d| d.payload == "h3").unwrap();
    assert_eq!((at_two.hops, at_two.lane), (2, DeliveryLane::Local { hops_left: 1 }));
    let error = world
        .node(0)
        .publish_local(peerchannel_mesh::Time::ZERO, &channel("c"), Bytes::new(), 65)
        .unwrap_err();
    assert_eq!(error, PublishError::TooManyHops { hops: 65, limit: 64 });
}

#[test]
fn leaving_does_not_overtake_a_message_that_waits_for_its_signature() {
    let mut world = pair();
    world.run_for(SECOND);
    world.with(0, |node, now| {
        node.publish_local(now, &channel("c"), Bytes::from_static(b"last words"), 1).unwrap();
        node.leave(now);
    });
    world.run_for(SECOND);
    assert_eq!(world.texts(1), ["last words"]);
    assert!(
        world.saw(1, |e| matches!(e, Event::MemberDown { loss: peerchannel_mesh::MemberLoss::Left, .. }))
    );
}

#[test]
fn volatile_values_of_a_key_only_move_forward() {
    let mut world = pair();
    world.with(0, |node, now| {
        for n in 0..3 {
            let payload = Bytes::from(format!("v{n}"));
            node.publish_volatile(now, &channel("c"), Bytes::from_static(b"k"), payload, SECOND).unwrap();
        }
        let big = node.publish_volatile(now, &channel("c"), Bytes::new(), Bytes::from(vec![0; 2000]), SECOND);
        assert!(matches!(big, Err(PublishError::TooLarge { size: 2000, .. })));
    });
    world.run_for(SECOND);
    assert_eq!(world.texts(1), ["v0", "v1", "v2"]);
    assert!(world.members[1].delivered.iter().all(|d| d.lane == DeliveryLane::Volatile && d.key == "k"));
}

#[test]
fn a_direct_message_reaches_its_member_only_linked_or_not() {
    // Node 1 in the middle; the outer two may have one neighbor each.
    let mut config = Config::default();
    (config.neighbors_low, config.neighbors_target, config.neighbors_high) = (1, 1, 1);
    config.full_mesh_members_max = 1;
    let mut world = World::new(3, &config);
    world.members[1].config.neighbors_high = 2;
    for (index, knows) in [(1, vec![]), (0, vec![1]), (2, vec![1])] {
        world.members[index].knows = knows;
        world.start(index);
        world.run_for(SECOND);
    }
    assert!(world.linked(0, 1) && world.linked(1, 2));
    world.with(0, |node, now| {
        node.send_direct(now, node_id(1), Bytes::from_static(b"near")).unwrap();
        node.send_direct(now, node_id(2), Bytes::from_static(b"far")).unwrap();
        let nobody = node.send_direct(now, node_id(9), Bytes::new());
        assert_eq!(nobody, Err(DirectError::UnknownMember));
    });
    world.run_for(SECOND);
    let got = |world: &World, index: usize| -> Vec<Bytes> {
        world.members[index]
            .events
            .iter()
            .filter_map(|e| if let Event::Direct { payload, .. } = e { Some(payload.clone()) } else { None })
            .collect()
    };
    assert_eq!((got(&world, 1), got(&world, 2)), (vec![Bytes::from("near")], vec![Bytes::from("far")]));
    let done = |e: &Event| matches!(e, Event::DirectDone { result: Ok(()), .. });
    assert_eq!(world.members[0].events.iter().filter(|e| done(e)).count(), 2);
    world.run_for(60 * SECOND);
    assert_eq!(world.neighbors(0), 1, "the link for the direct message was not a neighbor's");
}

#[test]
fn a_restarted_node_delivers_nothing_twice_and_loses_no_order() {
    let mut world = World::full(3, &Config::default());
    world.run_until(5 * SECOND, "complete", |w| w.linked(0, 1) && w.linked(1, 2) && w.linked(0, 2));
    for text in numbers(0..50) {
        world.publish(0, &text);
        world.publish(1, &format!("old {text}"));
    }
    world.run_for(SECOND);
    world.kill(1, 8 * SECOND);
    world.start(1);
    world.members[1].delivered.clear();
    world.run_until(5 * SECOND, "back", |w| w.linked(1, 0) && w.linked(1, 2));
    for text in numbers(50..100) {
        world.publish(0, &text);
        world.publish(1, &format!("new {text}"));
    }
    world.run_for(10 * SECOND);
    assert_eq!(world.texts(1), numbers(50..100), "its own old messages are not delivered back");
    let of_one: Vec<String> = world.texts(2).into_iter().filter(|t| t.contains(' ')).collect();
    assert_eq!(of_one.len(), 100);
    assert_eq!(world.gaps(), 0);
}

#[test]
fn leaving_commits_first() {
    let mut world = pair();
    world.run_for(SECOND);
    for text in numbers(0..100) {
        world.publish(0, &text);
    }
    world.with(0, |node, now| node.leave(now));
    let refused = world.node(0).publish(peerchannel_mesh::Time::ZERO, &channel("c"), Bytes::new());
    assert_eq!(refused, Err(PublishError::Leaving));
    world.run_until(2 * SECOND, "left", |w| w.saw(0, |e| matches!(e, Event::Left)));
    world.run_for(SECOND);
    assert_eq!(world.texts(1), numbers(0..100));
}

#[test]
fn leaving_waits_for_a_first_neighbor_and_tells_what_nobody_has() {
    let mut world = World::full(2, &Config::default());
    world.publish(0, "x");
    world.with(0, |node, now| node.leave(now));
    world.run_until(2 * SECOND, "left", |w| w.saw(0, |e| matches!(e, Event::Left)));
    world.run_for(SECOND);
    assert_eq!(world.texts(1), ["x"], "published and left within a moment of joining");
    assert!(!world.saw(0, |e| matches!(e, Event::Uncommitted { .. })));

    let mut alone = World::full(1, &Config::default());
    for text in ["1", "2"] {
        alone.publish(0, text);
    }
    alone.with(0, |node, now| node.leave(now));
    alone.run_until(2 * SECOND, "left", |w| w.saw(0, |e| matches!(e, Event::Left)));
    let lost = |e: &Event| matches!(e, Event::Uncommitted { first, last, .. } if (first.get(), last.get()) == (1, 2));
    assert!(alone.saw(0, lost));
}

#[test]
fn an_idle_pair_is_quiet() {
    let mut world = pair();
    world.publish(0, "x");
    world.run_for(120 * SECOND);
    let before = world.frames();
    world.run_for(60 * SECOND);
    let frames = world.frames() - before;
    // One of the two compares and measures about every 30 s: a digest and a ping in one packet, a
    // pong.
    assert!(frames <= 16, "{frames} frames in an idle minute");
}

#[test]
fn two_quiet_neighbors_take_turns_to_compare() {
    let mut world = World::full(2, &Config::default());
    world.run_until(SECOND, "linked", |w| w.linked(0, 1));
    world.publish(0, "the only one");
    world.run_for(300 * SECOND);
    let before = world.frames();
    world.run_for(600 * SECOND);
    let frames = world.frames() - before;
    // A turn is a digest, a ping and a pong, and it would be forty of them if each end took all
    // of its own; the rest compares member tables.
    assert!((60..=100).contains(&frames), "{frames} frames in ten minutes");
    // What one of them publishes is compared as soon as ever.
    world.publish(1, "another");
    world.run_for(SECOND);
    assert_eq!(world.texts(0), ["another"]);
}
