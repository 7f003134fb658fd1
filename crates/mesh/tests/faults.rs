//! What goes wrong in the life of a mesh, and must not do more harm than it has to.
#![allow(clippy::unwrap_used, reason = "a test")]

mod world;

use std::time::Duration;

use bytes::Bytes;
use peerchannel_mesh::{
    Config, Event, FilterView, Input, LinkId, LinkLoss, LinkOpened, MemberLoss, NeighborLoss, Origination,
    Verdict,
};
use peerchannel_wire::{
    Connect, ControlFrame, Disconnect, DisconnectReason, Epoch, LinkKind, LinkNumber, LinkPurpose,
    MemberFacts, MemberName, MeshId,
};
use world::{World, address, channel, node_id, sign};

const SECOND: Duration = Duration::from_secs(1);

fn linked(world: &World) -> bool {
    let count = world.members.len();
    (0..count).all(|a| (0..count).all(|b| a == b || world.linked(a, b)))
}

fn full(count: usize) -> World {
    let mut world = World::full(count, &Config::default());
    world.run_until(5 * SECOND, "linked", linked);
    world.run_for(3 * SECOND);
    world
}

fn count(world: &World, index: usize, what: impl Fn(&Event) -> bool) -> usize {
    world.members[index].events.iter().filter(|event| what(event)).count()
}

fn goodbye(link: LinkId, reason: DisconnectReason) -> Input {
    let frame = ControlFrame::Disconnect(Disconnect { reason, referrals: Vec::new() });
    Input::Control { link, frame }
}

#[test]
fn a_member_that_was_cut_off_for_minutes_is_heard_again() {
    let mut world = full(2);
    world.publish(0, "before");
    world.run_for(200 * SECOND);
    world.cut.extend([(0, 1), (1, 0)]);
    world.break_link(0, 1);
    world.run_for(400 * SECOND);
    assert!(world.saw(1, |e| matches!(e, Event::MemberDown { loss: MemberLoss::Failed, .. })));
    world.publish(0, "meanwhile");
    world.cut.clear();
    world.run_until(60 * SECOND, "healed", linked);
    world.publish(0, "after");
    world.run_for(5 * SECOND);
    assert_eq!(world.texts(1), ["before", "meanwhile", "after"]);
    assert_eq!(world.gaps(), 0);
}

#[test]
fn a_batch_that_a_filter_barred_in_part_does_not_circle() {
    // 0 - 1 - {2, 3, 4}, which are linked to each other; 1 bars one message of a batch.
    let mut world = World::new(5, &Config::default());
    for other in 2..5 {
        world.cut.extend([(0, other), (other, 0)]);
    }
    for index in 0..5 {
        world.members[index].knows = (0..5).filter(|other| *other != index).collect();
        world.start(index);
    }
    world.run_until(5 * SECOND, "linked", |w| {
        w.linked(0, 1) && (2..5).all(|a| (1..5).all(|b| a == b || w.linked(a, b)))
    });
    world.run_for(3 * SECOND);
    world.with(1, |node, _| {
        node.set_filter(Some(Box::new(|message: &FilterView<'_>| {
            let bars = message.origination == Origination::Remote && message.payload == "5";
            if bars { Verdict::Local } else { Verdict::LocalAndRemote }
        })));
    });
    world.with(0, |node, now| {
        for n in 0..10 {
            node.publish(now, &channel("c"), Bytes::from(n.to_string())).unwrap();
        }
    });
    let before = world.frames();
    world.run_for(2 * SECOND);
    let frames = world.frames() - before;
    assert!(frames < 300, "{frames} frames for ten messages");
    world.run_for(30 * SECOND);
    let others: Vec<String> = (0..10).filter(|n| *n != 5).map(|n| n.to_string()).collect();
    for index in 2..5 {
        assert_eq!(world.texts(index), others);
    }
    assert_eq!(world.gaps(), 3);
}

#[test]
fn a_goodbye_counts_even_if_the_link_closes_before_its_lanes_are_finished() {
    let mut world = full(2);
    let link = world.link_to(1, 0).unwrap();
    world.swallow(0, 1);
    world.input(1, goodbye(link, DisconnectReason::LeavingMesh));
    world.input(1, Input::LinkClosed { link, loss: LinkLoss::ClosedByPeer(String::new()) });
    let left = |e: &Event| matches!(e, Event::MemberDown { loss: MemberLoss::Left, .. });
    assert_eq!(count(&world, 1, left), 1);
    let expected = NeighborLoss::Disconnected(DisconnectReason::LeavingMesh);
    assert_eq!(count(&world, 1, |e| matches!(e, Event::NeighborDown { loss, .. } if *loss == expected)), 1);
}

#[test]
fn goodbyes_at_the_same_time_make_one_offline() {
    let mut world = full(3);
    let links = [world.link_to(0, 1).unwrap(), world.link_to(0, 2).unwrap()];
    world.swallow(0, 1);
    world.swallow(0, 2);
    for link in links {
        world.input(0, goodbye(link, DisconnectReason::LeavingMesh));
    }
    world.run_for(3 * SECOND);
    assert_eq!(count(&world, 0, |e| matches!(e, Event::NeighborDown { .. })), 2);
    assert_eq!(count(&world, 0, |e| matches!(e, Event::Offline)), 1);
}

#[test]
fn a_goodbye_that_crosses_ours_is_told_too() {
    let mut world = full(2);
    let link = world.link_to(1, 0).unwrap();
    world.swallow(0, 1);
    world.input(1, goodbye(link, DisconnectReason::LeavingMesh));
    world.with(1, |node, now| node.leave(now));
    world.run_for(5 * SECOND);
    assert_eq!(count(&world, 1, |e| matches!(e, Event::NeighborDown { .. })), 1);
    assert_eq!(count(&world, 1, |e| matches!(e, Event::Left)), 1);
}

/// Node 0 opens one more link to node 1, which the test carries itself.
fn open_by_hand(world: &mut World, link: LinkId, epoch: u64) {
    world.input(
        1,
        Input::LinkOpened(LinkOpened {
            link,
            peer: node_id(0),
            dial: None,
            address: address(0),
            number: LinkNumber(999),
            rtt: Duration::from_millis(1),
            features: peerchannel_wire::Features::SUPPORTED,
        }),
    );
    let epoch = Epoch::new(epoch).unwrap();
    let known = MemberFacts::new(node_id(0), epoch, 0, MemberName::new("n0").unwrap());
    let unsigned = MemberFacts { addresses: vec![address(0)], ..known }.unsigned();
    let signature = sign(node_id(0), &unsigned.transcript(&MeshId::from_bytes([9; 32])));
    let member = unsigned.sign(signature);
    let connect = Connect {
        epoch,
        purpose: LinkPurpose::Neighbor,
        joining: false,
        urgent: true,
        kind: LinkKind::Near,
        coordinate: None,
        healing: false,
        lacking: false,
        member,
    };
    world.input(1, Input::Control { link, frame: ControlFrame::Connect(connect) });
}

#[test]
fn a_link_that_replaces_one_that_is_draining_is_no_second_neighbor() {
    let mut world = full(2);
    let old = world.link_to(1, 0).unwrap();
    world.swallow(0, 1);
    world.input(1, goodbye(old, DisconnectReason::DuplicateNeighbor));
    open_by_hand(&mut world, LinkId(9999), 1);
    world.run_for(3 * SECOND);
    assert_eq!(world.neighbors(1), 1);
    assert_eq!(count(&world, 1, |e| matches!(e, Event::NeighborUp { .. })), 1);
    assert_eq!(count(&world, 1, |e| matches!(e, Event::Online)), 1);
    assert_eq!(count(&world, 1, |e| matches!(e, Event::NeighborDown { .. } | Event::Offline)), 0);
}

#[test]
fn the_goodbye_of_an_earlier_join_does_not_take_the_new_one_away() {
    let mut world = full(2);
    let old = world.link_to(1, 0).unwrap();
    world.swallow(0, 1);
    world.input(1, goodbye(old, DisconnectReason::LeavingMesh));
    open_by_hand(&mut world, LinkId(9999), 2);
    world.run_for(3 * SECOND);
    assert_eq!(count(&world, 1, |e| matches!(e, Event::MemberUp { .. })), 2);
    assert_eq!(count(&world, 1, |e| matches!(e, Event::MemberDown { .. })), 0);
}

#[test]
fn a_neighbor_that_never_reads_does_not_stop_publishers_for_good() {
    let mut world = full(3);
    world.run_for(60 * SECOND);
    world.queue_level(0, 1, true);
    assert!(!world.try_publish(0, "first"), "it may still read");
    world.run_for(12 * SECOND);
    assert!(world.saw(0, |e| matches!(e, Event::PublishReady)));
    for n in 0..20 {
        assert!(world.try_publish(0, &n.to_string()), "message {n}");
        world.run_for(3 * SECOND);
    }
}

#[test]
fn after_a_quiet_hour_a_neighbor_has_its_full_time_to_acknowledge() {
    let mut world = full(3);
    world.publish(0, "first");
    world.run_for(3600 * SECOND);
    world.swallow(0, 1);
    world.publish(0, "second");
    // Fills the window, so that publishing waits for the neighbor.
    let large = "x".repeat(1 << 20);
    while world.try_publish(0, &large) {}
    world.run_for(8 * SECOND);
    assert!(!world.saw(0, |e| matches!(e, Event::PublishReady)), "given up too soon");
    world.run_for(4 * SECOND);
    assert!(world.saw(0, |e| matches!(e, Event::PublishReady)));
}

#[test]
fn a_node_that_closes_every_link_unanswered_is_not_dialed_without_a_pause() {
    let mut world = full(2);
    world.with(1, |node, now| node.leave(now));
    world.run_for(SECOND);
    let before = world.frames();
    world.run_for(60 * SECOND);
    let frames = world.frames() - before;
    assert!(frames < 120, "{frames} frames in a minute");
}

#[test]
fn nodes_that_join_together_take_what_was_before_as_history() {
    for delay in 0..8 {
        let mut world = full(2);
        for n in 0..5 {
            world.publish(0, &n.to_string());
        }
        world.run_for(10 * SECOND);
        let config = Config::default();
        for index in 2..4 {
            world.add(&config, vec![5 - index, 0, 1]);
        }
        world.start(2);
        world.run_for(Duration::from_millis(4 * delay));
        world.start(3);
        world.run_for(5 * SECOND);
        world.publish(0, "later");
        world.run_for(5 * SECOND);
        for index in 2..4 {
            assert_eq!(world.texts(index), ["later"], "node {index}, {delay}");
        }
        assert_eq!(world.gaps(), 0);
    }
}

#[test]
fn what_a_short_visitor_published_is_delivered_to_one_that_was_alone() {
    let mut world = World::new(2, &Config::default());
    world.start(0);
    world.run_for(100 * SECOND);
    world.members[1].knows = vec![0];
    world.start(1);
    world.run_until(SECOND, "linked", linked);
    world.publish(1, "hello");
    world.with(1, |node, now| node.leave(now));
    world.run_until(SECOND, "left", |w| w.saw(1, |e| matches!(e, Event::Left)));
    assert!(world.saw(1, |e| matches!(e, Event::Committed { .. })));
    assert_eq!(world.texts(0), ["hello"]);
}
