//! Links, the maintainer and presence, on virtual time.

mod world;

use std::time::Duration;

use peerchannel_mesh::{Config, Event, MemberLoss, NeighborLoss};
use peerchannel_wire::{DisconnectReason, MemberStatus};
use world::{World, node_id};

const SECOND: Duration = Duration::from_secs(1);

fn full_mesh(world: &World) -> bool {
    let count = world.members.len();
    (0..count).all(|a| (0..count).all(|b| a == b || world.linked(a, b)))
}

#[test]
fn two_nodes_link_once_and_know_each_other() {
    let mut world = World::full(2, &Config::default());
    world.run_until(SECOND, "linked", full_mesh);
    world.run_for(5 * SECOND);
    for (a, b) in [(0, 1), (1, 0)] {
        assert_eq!(world.neighbors(a), 1, "both dialed, one link is left");
        assert!(world.saw(a, |e| matches!(e, Event::Online)));
        assert!(!world.saw(a, |e| matches!(e, Event::Offline)));
        let ups = world.members[a].events.iter().filter(|e| matches!(e, Event::NeighborUp { .. })).count();
        assert_eq!(ups, 1);
        assert!(world.saw(a, |e| matches!(e, Event::MemberUp { node, .. } if *node == node_id(b))));
    }
}

#[test]
fn a_neighbor_is_one_all_along_while_duplicate_links_are_sorted_out() {
    for slow in 0..4 {
        for millis in [1, 7, 15, 40, 200] {
            for after in [0, 3, 11, 26] {
                let mut world = World::new(2, &Config::default());
                world.slow.insert(slow, Duration::from_millis(millis));
                for index in 0..2 {
                    world.members[index].knows = vec![1 - index];
                    world.start(index);
                    world.run_for(Duration::from_millis(after));
                }
                world.run_for(5 * SECOND);
                for (a, b) in [(0, 1), (1, 0)] {
                    let case = format!("wire {slow} slow by {millis} ms, started {after} ms apart, node {a}");
                    assert!(world.linked(a, b), "{case}");
                    let count =
                        |what: fn(&Event) -> bool| world.members[a].events.iter().filter(|e| what(e)).count();
                    assert_eq!(count(|e| matches!(e, Event::NeighborUp { .. })), 1, "{case}");
                    assert_eq!(count(|e| matches!(e, Event::NeighborDown { .. })), 0, "{case}");
                    assert_eq!(count(|e| matches!(e, Event::Offline)), 0, "{case}");
                }
            }
        }
    }
}

#[test]
fn a_node_that_lost_its_end_of_a_link_has_another_before_its_peer_notices() {
    for (dials, lost) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        let other = 1 - lost;
        let mut world = World::new(3, &Config::default());
        world.members[dials].knows = vec![1 - dials];
        world.members[2].knows = vec![0];
        for index in 0..3 {
            world.start(index);
        }
        world.run_until(5 * SECOND, "complete", full_mesh);
        world.run_for(30 * SECOND);
        // As after a change of address: the connection cannot follow, and the peer waits for it.
        world.lose_end(lost, other);
        let case = format!("{dials} dialed, {lost} lost its end");
        world.run_until(SECOND, &case, |w| w.link_to(lost, other).is_some() && full_mesh(w));
        world.run_for(SECOND / 2);
        world.publish(lost, "from the one");
        world.publish(other, "from the other");
        world.run_for(SECOND / 10);
        for (to, text) in [(other, "from the one"), (lost, "from the other")] {
            assert!(world.texts(to).contains(&text.to_owned()), "{case}");
        }
        let down = |e: &Event| matches!(e, Event::NeighborDown { .. } | Event::Offline);
        assert!(!world.saw(other, down), "{case}: a neighbor all along");
        world.run_for(10 * SECOND);
        assert!(full_mesh(&world), "{case}");
        assert!(!world.saw(other, down), "{case}: the old link's end changes nothing");
    }
}

#[test]
fn a_link_that_answers_outlives_one_that_was_long_under_way() {
    // Which of the two links is slow, and which node dialed it.
    for first in [0, 1] {
        let mut world = World::new(2, &Config::default());
        world.slow.insert(0, Duration::from_millis(5500));
        world.members[first].knows = vec![1 - first];
        world.members[1 - first].knows = vec![first];
        world.start(first);
        world.start(1 - first);
        world.run_until(SECOND, "linked", full_mesh);
        world.run_for(30 * SECOND);
        for (a, b) in [(0, 1), (1, 0)] {
            let count = |what: fn(&Event) -> bool| world.members[a].events.iter().filter(|e| what(e)).count();
            assert!(world.linked(a, b), "{first} dialed slowly, node {a}");
            assert_eq!(count(|e| matches!(e, Event::NeighborUp { .. })), 1, "{first}, node {a}");
            assert_eq!(count(|e| matches!(e, Event::NeighborDown { .. })), 0, "{first}, node {a}");
        }
    }
}

#[test]
fn a_node_that_was_dialed_before_it_joined_is_tried_again_soon() {
    let mut world = World::full(2, &Config::default());
    world.unjoined = [0, 1].into();
    world.run_for(SECOND);
    world.unjoined.clear();
    world.run_until(3 * SECOND, "linked", |w| w.linked(0, 1));
}

#[test]
fn nine_nodes_become_a_complete_graph_from_one_address() {
    let mut world = World::new(9, &Config::default());
    for index in 0..9 {
        world.members[index].knows = if index == 0 { vec![] } else { vec![0] };
        world.start(index);
    }
    world.run_until(10 * SECOND, "complete", full_mesh);
    for index in 0..9 {
        assert_eq!(world.members[index].node.as_ref().unwrap().members().count(), 9);
    }
}

#[test]
fn forty_nodes_stay_between_the_limits_and_know_all_members() {
    let config = Config::default();
    let mut world = World::new(40, &config);
    for index in 0..40 {
        world.members[index].knows = if index == 0 { vec![] } else { vec![0, index / 2] };
        world.start(index);
        world.run_for(SECOND / 20);
    }
    world.run_for(60 * SECOND);
    for index in 0..40 {
        let degree = world.neighbors(index);
        assert!((config.neighbors_low..=config.neighbors_high).contains(&degree), "node {index}: {degree}");
        let alive = world.members[index]
            .node
            .as_ref()
            .unwrap()
            .members()
            .filter(|m| m.status == MemberStatus::Alive)
            .count();
        assert_eq!(alive, 40, "node {index}");
    }
}

#[test]
fn a_settled_mesh_sleeps() {
    let mut world = World::new(14, &Config::default());
    for index in 0..14 {
        world.members[index].knows = if index == 0 { vec![] } else { vec![0] };
        world.start(index);
    }
    world.run_for(120 * SECOND);
    // Whoever has its links does not look at candidates over and over.
    let mut wakes = 0;
    let end = world.now + 60 * SECOND;
    while let Some(at) = world.node(3).poll_timeout().filter(|at| *at < end) {
        wakes += 1;
        world.run_for(at.since(world.now) + Duration::from_nanos(1));
    }
    assert!(wakes < 60, "{wakes} wakes in an idle minute");
}

#[test]
fn a_goodbye_is_seen_as_left_by_members_that_were_not_linked_too() {
    let mut world = World::line(4, false);
    world.run_until(10 * SECOND, "a line", |w| (0..3).all(|i| w.linked(i, i + 1)));
    world.run_for(3 * SECOND);
    world.with(3, |node, now| node.leave(now));
    world.run_until(5 * SECOND, "left", |w| w.saw(3, |e| matches!(e, Event::Left)));
    world.run_for(SECOND);
    for index in 0..3 {
        let left = |e: &Event| matches!(e, Event::MemberDown { node, loss: MemberLoss::Left, .. } if *node == node_id(3));
        assert!(world.saw(index, left), "node {index}");
    }
    let goodbye = NeighborLoss::Disconnected(DisconnectReason::LeavingMesh);
    assert!(world.saw(2, |e| matches!(e, Event::NeighborDown { loss, .. } if *loss == goodbye)));
}

#[test]
fn a_node_that_leaves_while_it_is_being_welcomed_breaks_no_rule() {
    for millis in 0..60 {
        let mut world = World::new(2, &Config::default());
        world.members[0].knows = vec![1];
        world.start(1);
        world.start(0);
        world.run_for(Duration::from_millis(millis));
        world.with(0, |node, now| node.leave(now));
        world.run_for(5 * SECOND);
        let node = world.node(1);
        assert_eq!((node.stats().violations, node.neighbors().count()), (0, 0), "left after {millis} ms");
    }
}

#[test]
fn a_node_that_suspends_while_it_is_being_welcomed_breaks_no_rule() {
    for millis in 0..60 {
        let mut world = World::new(2, &Config::default());
        world.members[0].knows = vec![1];
        world.start(1);
        world.start(0);
        world.run_for(Duration::from_millis(millis));
        world.with(0, peerchannel_mesh::Node::suspend);
        world.run_for(5 * SECOND);
        let node = world.node(1);
        assert_eq!((node.stats().violations, node.neighbors().count()), (0, 0), "after {millis} ms");
        assert!(!world.saw(1, |e| matches!(e, Event::Misbehaved { .. })));
    }
}

#[test]
fn a_crash_is_seen_as_failed_by_all() {
    let mut world = World::full(5, &Config::default());
    world.run_until(5 * SECOND, "complete", full_mesh);
    world.kill(2, 9 * SECOND);
    world.run_for(11 * SECOND);
    for index in [0, 1, 3, 4] {
        assert!(world.saw(index, |e| {
            matches!(e, Event::MemberDown { node, loss: MemberLoss::Failed, .. } if *node == node_id(2))
        }));
    }
}

#[test]
fn a_node_that_restarts_replaces_its_stale_link_and_comes_back_with_a_new_epoch() {
    let mut world = World::full(3, &Config::default());
    world.run_until(5 * SECOND, "complete", full_mesh);
    // The others notice nothing yet.
    world.kill(1, 8 * SECOND);
    world.start(1);
    world.run_until(5 * SECOND, "back", full_mesh);
    world.run_for(SECOND);
    let ups = world.members[0]
        .events
        .iter()
        .filter(|e| matches!(e, Event::MemberUp { node, .. } if *node == node_id(1)))
        .count();
    assert_eq!(ups, 2);
    world.run_for(10 * SECOND);
    assert!(full_mesh(&world), "the old link's end changes nothing");
    assert!(!world.saw(0, |e| matches!(e, Event::MemberDown { .. })));
}

#[test]
fn a_false_report_is_refuted() {
    let mut world = World::full(4, &Config::default());
    world.run_until(5 * SECOND, "complete", full_mesh);
    world.run_for(2 * SECOND);
    // Node 0 alone loses node 3 and cannot dial it again; the others still reach it.
    world.cut.insert((0, 3));
    world.cut.insert((3, 0));
    world.break_link(0, 3);
    world.run_for(5 * SECOND);
    assert!(!world.linked(0, 3));
    assert!(!world.saw(0, |e| matches!(e, Event::MemberDown { .. })), "an indirect probe answered");
    assert!(world.saw(0, |e| matches!(e, Event::NeighborDown { .. })));
}

#[test]
fn a_node_without_neighbors_finds_them_again() {
    let mut world = World::full(3, &Config::default());
    world.run_until(5 * SECOND, "complete", full_mesh);
    for other in [1, 2] {
        world.cut.insert((0, other));
        world.cut.insert((other, 0));
        world.break_link(0, other);
    }
    world.run_for(60 * SECOND);
    assert!(world.saw(0, |e| matches!(e, Event::Offline)));
    world.cut.clear();
    world.run_until(15 * SECOND, "healed", full_mesh);
    world.run_for(5 * SECOND);
    for index in 0..3 {
        let alive = world.members[index]
            .node
            .as_ref()
            .unwrap()
            .members()
            .filter(|m| m.status == MemberStatus::Alive)
            .count();
        assert_eq!(alive, 3, "node {index}: reports of failure were refuted");
    }
}

#[test]
fn the_same_seed_gives_the_same_run() {
    let run = || {
        let mut world = World::full(6, &Config::default());
        world.run_for(20 * SECOND);
        world.members.iter().map(|m| format!("{:?}", m.events)).collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}
