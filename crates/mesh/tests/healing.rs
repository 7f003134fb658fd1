//! Splits, pauses, crashes: what a mesh notices, what it mends, and whom it does not accuse.
#![allow(clippy::unwrap_used, reason = "a test")]

mod world;

use std::time::Duration;

use bytes::Bytes;
use peerchannel_mesh::{Config, DirectError, Event, Input, MemberLoss};
use peerchannel_wire::{ControlFrame, Features, Member, MemberName, MemberStatus, NodeId};
use world::{World, node_id};

const SECOND: Duration = Duration::from_secs(1);

/// Everyone knows the first, and the one before.
fn grown(count: usize, config: &Config) -> World {
    let mut world = World::new(count, config);
    for index in 0..count {
        world.members[index].knows = if index == 0 { vec![] } else { vec![0, index - 1] };
        world.start(index);
        world.run_for(SECOND / 10);
    }
    world.run_for(30 * SECOND);
    world
}

fn node_index(member: &peerchannel_mesh::MemberView) -> usize {
    usize::from(member.node.as_bytes()[0]) - 1
}

fn statuses(world: &World, index: usize) -> Vec<(MemberStatus, bool)> {
    let count = world.members.len();
    let node = world.members[index].node.as_ref().unwrap();
    (0..count)
        .filter_map(|other| node.members().find(|m| m.node == node_id(other)))
        .map(|m| (m.status, m.suspended))
        .collect()
}

/// Whether every running node knows every running node as alive, and nobody else.
fn complete(world: &World) -> bool {
    let running = world.members.iter().filter(|m| m.node.is_some()).count();
    world.members.iter().filter_map(|m| m.node.as_ref()).all(|node| {
        node.members().filter(|m| m.status == MemberStatus::Alive).count() == running
            && node.neighbors().count() > 0
    })
}

fn failures(world: &World, of: impl Fn(usize) -> bool) -> usize {
    let failed = |event: &Event| {
        matches!(event, Event::MemberDown { node, loss: MemberLoss::Failed, .. }
        if (0..world.members.len()).any(|i| node_id(i) == *node && of(i)))
    };
    world.members.iter().flat_map(|m| &m.events).filter(|event| failed(event)).count()
}

/// Nothing passes between the two sides; their links are noticed to be dead one by one.
fn split(world: &mut World, side: impl Fn(usize) -> usize) {
    let count = world.members.len();
    for a in 0..count {
        for b in 0..count {
            if side(a) != side(b) {
                world.cut.insert((a, b));
                world.swallow(a, b);
            }
        }
    }
    world.run_for(7 * SECOND);
    world.notice_dead();
}

#[test]
fn halves_that_buried_each_other_are_one_mesh_again_in_half_a_minute() {
    for (minutes, parts) in [(1, 2), (10, 5)] {
        let mut world = grown(30, &Config::default());
        assert!(complete(&world));
        split(&mut world, |i| i % parts);
        world.run_for(50 * SECOND);
        let each = 30 / parts;
        for index in 0..30 {
            let alive = statuses(&world, index).iter().filter(|(s, _)| *s == MemberStatus::Alive).count();
            // The audit takes longer to find those to whom nobody here had a link.
            assert!((each..each + 5).contains(&alive), "node {index} knows {alive} in {parts} parts");
        }
        world.run_for(SECOND * 60 * minutes);
        let before = failures(&world, |_| true);
        world.cut.clear();
        world.run_until(30 * SECOND, "healed", complete);
        world.run_for(60 * SECOND);
        assert!(complete(&world));
        assert_eq!(failures(&world, |_| true), before, "nobody is called failed for it ({minutes} min)");
        let merges: u64 =
            world.members.iter().map(|m| m.node.as_ref().unwrap().stats().reservoir_merges).sum();
        assert!(merges > 0);
    }
}

/// What a node got of all streams and what was reported as lost, together.
fn settled(world: &World, index: usize) -> u64 {
    let member = &world.members[index];
    let gaps = member.events.iter().map(|event| match event {
        Event::Gap { first, last, .. } => last.get() - first.get() + 1,
        _ => 0,
    });
    member.delivered.len() as u64 + gaps.sum::<u64>()
}

#[test]
fn what_neither_half_retains_is_reported_soon_and_holds_nothing_up() {
    let mut config = Config::default();
    (config.retention_bytes, config.max_message) = (65_536, 10_000);
    (config.publish_window_bytes, config.held_alone_bytes) = (32_768, 32_768);
    let mut world = grown(12, &config);
    split(&mut world, |i| i % 2);
    // In each half several times what anybody retains.
    let (rounds, text) = (20, "x".repeat(8000));
    for _ in 0..rounds {
        for index in 0..12 {
            world.publish(index, &text);
        }
        world.run_for(SECOND);
    }
    world.cut.clear();
    world.run_until(30 * SECOND, "healed", complete);
    for index in 0..12 {
        world.publish(index, "after");
    }
    world.run_until(15 * SECOND, "told of all", |w| (0..12).all(|i| settled(w, i) >= 11 * (rounds + 1)));
    for index in 0..12 {
        assert_eq!(settled(&world, index), 11 * (rounds + 1), "each once, as a message or in a gap");
        let timed_out =
            |e: &Event| matches!(e, Event::Gap { reason: peerchannel_mesh::GapReason::TimedOut, .. });
        assert!(!world.saw(index, timed_out), "those who have it no more say so");
    }
}

/// Its neighbors are dead, its resolver names nobody, and its dials failed for long.
#[test]
fn a_node_that_was_away_for_long_dials_whomever_it_knows() {
    let mut world = World::new(30, &Config::default());
    world.cut.extend((0..30).map(|other| (other, 5)));
    for index in 0..30 {
        world.members[index].knows =
            if index == 0 { vec![] } else { vec![0, if index == 6 { 4 } else { index - 1 }] };
        world.start(index);
        world.run_for(SECOND / 10);
    }
    world.run_for(60 * SECOND);
    let near: Vec<usize> = (0..30).filter(|other| world.linked(5, *other)).collect();
    world.members[5].knows = vec![];
    for other in 0..30 {
        world.cut.insert((5, other));
        world.swallow(5, other);
    }
    world.run_for(7 * SECOND);
    world.notice_dead();
    for other in near {
        world.kill(other, 7 * SECOND);
    }
    world.run_for(3600 * SECOND);
    world.cut.retain(|(from, _)| *from != 5);
    world.run_until(60 * SECOND, "back", |w| w.neighbors(5) > 0);
}

#[test]
fn a_mesh_of_two_that_was_cut_for_minutes_heals() {
    let mut world = grown(2, &Config::default());
    split(&mut world, |i| i);
    world.run_for(600 * SECOND);
    world.cut.clear();
    world.run_until(30 * SECOND, "healed", complete);
}

#[test]
fn a_crash_is_known_to_all_soon_and_only_the_crashed_are_reported() {
    let mut world = grown(60, &Config::default());
    world.kill(7, 7 * SECOND);
    world.run_for(7 * SECOND);
    world.run_until(4 * SECOND, "known to all", |w| {
        (0..60).all(|i| i == 7 || w.saw(i, |e| matches!(e, Event::MemberDown { .. })))
    });
    world.run_for(60 * SECOND);
    assert_eq!(failures(&world, |i| i == 7), 59);
    assert_eq!(failures(&world, |i| i != 7), 0);
}

#[test]
fn a_crash_that_its_neighbors_notice_one_by_one_is_known_to_all_soon_after_the_last() {
    for apart in [SECOND / 10, SECOND / 4, SECOND / 2] {
        let mut world = grown(60, &Config::default());
        let links = u32::try_from(world.neighbors(7)).unwrap();
        world.kill_unevenly(7, 6 * SECOND, apart);
        world.run_for(6 * SECOND + apart * (links - 1));
        world.run_until(4 * SECOND, "known to all", |w| {
            (0..60).all(|i| i == 7 || w.saw(i, |e| matches!(e, Event::MemberDown { .. })))
        });
        world.run_for(60 * SECOND);
        assert_eq!((failures(&world, |i| i == 7), failures(&world, |i| i != 7)), (59, 0));
    }
}

/// A neighbor asks about nodes that nobody knows, more than are remembered.
#[test]
fn a_flood_of_questions_does_not_keep_a_node_from_asking_its_own() {
    let mut world = grown(20, &Config::default());
    let linked: Vec<usize> = (1..20).filter(|other| world.linked(0, *other)).collect();
    let (asking, lost) = (linked[0], linked[1]);
    let link = world.link(0, asking);
    for nonce in 0..1100u32 {
        let mut id = [0xee; 32];
        id[..4].copy_from_slice(&nonce.to_be_bytes());
        let frame = ControlFrame::Probe { node: NodeId::from_bytes(id), nonce: nonce.into(), spread: true };
        world.input(0, Input::Control { link, frame });
    }
    world.cut.extend([(0, lost), (lost, 0)]);
    world.break_link(0, lost);
    world.run_for(60 * SECOND);
    assert_eq!(failures(&world, |_| true), 0);
}

/// A neighbor asks about somebody else with the nonce of a question that is under way.
#[test]
fn a_nonce_that_was_taken_for_another_question_keeps_no_answer_back() {
    let mut world = World::line(5, false);
    world.run_for(20 * SECOND);
    let (from, onward) = (world.link(2, 1), world.link(2, 3));
    let nobody = NodeId::from_bytes([0xee; 32]);
    for node in [nobody, node_id(4)] {
        world.input(
            2,
            Input::Control { link: from, frame: ControlFrame::Probe { node, nonce: 7, spread: true } },
        );
    }
    world.sent.clear();
    world.run_for(SECOND);
    let answer = ControlFrame::ProbeResult { nonce: 7, answers: true };
    assert!(world.sent.contains(&(2, from, answer)), "on {onward:?}");
}

/// One neighbor of everybody says of a dead member that it has a link to it.
#[test]
fn a_liar_does_not_keep_the_dead_alive_for_long() {
    let mut world = grown(20, &Config::default());
    let liar = (0..20).filter(|i| *i != 7).max_by_key(|i| world.neighbors(*i)).unwrap();
    world.kill(7, 7 * SECOND);
    for _ in 0..4200 {
        world.run_for(SECOND / 10);
        for (index, link, frame) in std::mem::take(&mut world.sent) {
            let ControlFrame::Probe { node, nonce, .. } = frame else { continue };
            let lies = world.link_to(index, liar) == Some(link) && node == node_id(7);
            if lies && world.members[index].node.is_some() {
                let frame = ControlFrame::ProbeResult { nonce, answers: true };
                world.input(index, Input::Control { link, frame });
            }
        }
    }
    let held = (0..20).filter(|i| ![7, liar].contains(i) && statuses(&world, *i)[7].0 == MemberStatus::Alive);
    assert_eq!(held.collect::<Vec<_>>(), [] as [usize; 0]);
    assert_eq!(failures(&world, |i| i != 7), 0);
}

/// Two who lost their link for good, and say nothing new for long.
#[test]
fn a_member_that_is_only_vouched_for_speaks_for_itself_when_it_is_told_to() {
    let mut world = grown(20, &Config::default());
    let other = (1..20).find(|other| world.linked(0, *other)).unwrap();
    world.cut.extend([(0, other), (other, 0)]);
    world.break_link(0, other);
    world.run_for(600 * SECOND);
    assert_eq!(failures(&world, |_| true), 0);
    assert!(world.node(other).stats().refutations + world.node(0).stats().refutations > 0);
}

/// It is told to speak just as its process stops, for a little less than a link notices.
#[test]
fn a_member_that_pauses_when_it_is_told_to_speak_is_waited_for() {
    for count in [8, 20] {
        let mut world = grown(count, &Config::default());
        let other = (1..count).find(|other| world.linked(0, *other)).unwrap();
        world.cut.extend([(0, other), (other, 0)]);
        world.break_link(0, other);
        world.run_until(600 * SECOND, "vouched for a third time", |w| {
            w.members[0].node.as_ref().unwrap().stats().suspects_vouched >= 3
        });
        world.stop(other);
        world.run_for(SECOND * 58 / 10);
        world.cont(other);
        world.run_for(30 * SECOND);
        assert_eq!(failures(&world, |_| true), 0, "among {count}");
        assert_eq!(statuses(&world, 0)[other].0, MemberStatus::Alive);
    }
}

#[test]
fn a_goodbye_is_known_to_all_within_a_second() {
    let mut world = grown(60, &Config::default());
    world.with(7, peerchannel_mesh::Node::leave);
    world.run_until(SECOND, "known to all", |w| {
        (0..60).all(|i| i == 7 || w.saw(i, |e| matches!(e, Event::MemberDown { loss: MemberLoss::Left, .. })))
    });
    assert_eq!(failures(&world, |_| true), 0);
}

#[test]
fn a_third_that_crashes_at_once_is_noticed_and_nobody_else_is_accused() {
    let mut world = grown(60, &Config::default());
    for index in (0..60).step_by(3) {
        world.kill(index, (6 * SECOND) + SECOND * u32::try_from(index % 4).unwrap());
    }
    world.run_until(30 * SECOND, "noticed", complete);
    assert_eq!(failures(&world, |i| i % 3 != 0), 0);
}

#[test]
fn links_that_break_do_not_make_a_member_fail_while_somebody_has_one() {
    let mut world = grown(40, &Config::default());
    for round in 0..40 {
        let node = round % 40;
        // All its links but one break at this node alone; the cable is cut for a while.
        let linked: Vec<usize> = (0..40).filter(|other| world.linked(node, *other)).collect();
        for other in linked.iter().skip(1) {
            world.cut.extend([(node, *other), (*other, node)]);
            world.break_link(node, *other);
        }
        world.run_for(5 * SECOND);
        world.cut.clear();
    }
    world.run_for(60 * SECOND);
    assert_eq!(failures(&world, |_| true), 0);
    assert!(complete(&world));
}

#[test]
fn a_node_that_was_stopped_for_a_minute_is_back_within_five_seconds() {
    let mut world = grown(30, &Config::default());
    world.stop(4);
    world.run_for(8 * SECOND);
    world.give_up(4);
    world.run_for(52 * SECOND);
    assert!(failures(&world, |i| i == 4) == 29, "it was reported");
    world.cont(4);
    world.input(4, Input::Resumed { paused: 60 * SECOND });
    world.run_until(5 * SECOND, "back", complete);
    assert_eq!(failures(&world, |i| i != 4), 0, "it accuses nobody for its own sleep");
}

/// A hundred that sleep together would else ask everybody about eight hundred neighbors, twice.
#[test]
fn a_node_that_slept_asks_nobody_about_the_links_it_lost_by_that() {
    let mut world = grown(30, &Config::default());
    let gone = (0..30).find(|other| *other != 4 && world.linked(4, *other)).unwrap();
    world.stop(4);
    world.run_for(8 * SECOND);
    world.give_up(4);
    world.kill(gone, 7 * SECOND);
    world.run_for(52 * SECOND);
    let before = world.node(4).stats().suspects_vouched;
    world.cont(4);
    world.input(4, Input::Resumed { paused: 60 * SECOND });
    world.run_for(20 * SECOND);
    let asked = world.node(4).stats().suspects_vouched;
    assert_eq!(asked, before, "whoever is asked about and is there is vouched for");
    assert_eq!(statuses(&world, 4)[gone].0, MemberStatus::Failed, "the others told");
}

#[test]
fn the_last_neighbor_of_a_node_that_slept_is_missed_all_the_same() {
    let mut world = grown(2, &Config::default());
    world.stop(0);
    world.run_for(8 * SECOND);
    world.give_up(0);
    world.kill(1, SECOND);
    world.run_for(30 * SECOND);
    world.cont(0);
    world.input(0, Input::Resumed { paused: 38 * SECOND });
    // A node that was late waits eight times as long before it accuses.
    world.run_for(40 * SECOND);
    assert_eq!(statuses(&world, 0)[1].0, MemberStatus::Failed);
}

#[test]
fn a_node_that_was_stopped_without_knowing_accuses_nobody() {
    let mut world = grown(30, &Config::default());
    for node in 0..30 {
        world.stop(node);
        world.run_for(5 * SECOND);
        world.cont(node);
        world.run_for(SECOND);
    }
    world.run_for(30 * SECOND);
    assert_eq!(failures(&world, |_| true), 0);
    assert!(complete(&world));
}

#[test]
fn a_clock_that_slept_too_does_not_hide_dead_links() {
    let mut world = grown(20, &Config::default());
    let linked: Vec<usize> = (0..20).filter(|other| world.linked(3, *other)).collect();
    for other in linked.iter().skip(2) {
        world.swallow(3, *other);
    }
    // Of eight hours its clock saw three seconds.
    world.stop(3);
    world.run_for(3 * SECOND);
    world.cont(3);
    world.input(3, Input::Timeout);
    world.input(3, Input::Resumed { paused: 8 * 3600 * SECOND });
    world.run_for(2 * SECOND);
    assert_eq!(world.node(3).stats().links_unconfirmed as usize, linked.len() - 2, "given up at once");
}

#[test]
fn after_a_change_of_network_dead_links_are_given_up_at_once() {
    let mut world = grown(20, &Config::default());
    let linked: Vec<usize> = (0..20).filter(|other| world.linked(3, *other)).collect();
    for other in linked.iter().skip(2) {
        world.swallow(3, *other);
    }
    world.input(3, Input::NetworkChanged);
    world.run_for(2 * SECOND);
    assert_eq!(world.node(3).stats().links_unconfirmed as usize, linked.len() - 2);
    world.run_until(3 * SECOND, "with neighbors that answer", |w| {
        (0..20).filter(|other| w.link_to(3, *other).is_some()).count() >= 6
    });
    world.run_for(30 * SECOND);
    assert_eq!(failures(&world, |_| true), 0);
}

#[test]
fn members_that_vanish_with_all_their_neighbors_are_found_out() {
    let mut config = Config::default();
    (config.neighbors_low, config.neighbors_target, config.neighbors_high) = (2, 3, 3);
    config.full_mesh_members_max = 1;
    let mut world = grown(40, &config);
    // One node, its neighbors, and theirs: nobody who is left had a link to the first two rings.
    let ring = |world: &World, of: &[usize]| -> Vec<usize> {
        (0..40).filter(|o| of.contains(o) || of.iter().any(|n| world.linked(*n, *o))).collect()
    };
    let gone = ring(&world, &ring(&world, &[5]));
    assert!(gone.len() < 30, "{}", gone.len());
    for index in &gone {
        world.kill(*index, 7 * SECOND);
    }
    world.run_until(3600 * SECOND, "no ghosts", complete);
    assert_eq!(failures(&world, |i| !gone.contains(&i)), 0);
}

#[test]
fn those_that_cannot_be_dialed_are_not_accused_for_it() {
    let mut config = Config::default();
    config.audit_interval = 10 * SECOND;
    let mut world = World::new(40, &config);
    for index in 0..40 {
        if index % 3 == 1 {
            world.cut.extend((0..40).map(|other| (other, index)));
        }
        world.members[index].knows = vec![0, 3, 6];
        world.start(index);
    }
    world.run_for(400 * SECOND);
    assert_eq!(failures(&world, |_| true), 0);
    assert!(complete(&world));
    let stats: Vec<_> = world.members.iter().map(|m| m.node.as_ref().unwrap().stats()).collect();
    assert!(stats.iter().map(|s| s.audits).sum::<u64>() > 100);
    assert_eq!(stats.iter().map(|s| s.audits_failed).sum::<u64>(), 0);
}

#[test]
fn a_mesh_asks_about_one_member_a_minute_however_often_each_node_looks() {
    let mut config = Config::default();
    config.audit_interval = 10 * SECOND;
    let mut world = World::new(40, &config);
    for index in 0..40 {
        if index % 2 == 1 {
            world.cut.extend((0..40).map(|other| (other, index)));
        }
        world.members[index].knows = vec![0, 2, 4];
        world.start(index);
    }
    world.run_for(100 * SECOND);
    let asked = |w: &World| -> u64 {
        w.members.iter().map(|m| m.node.as_ref().unwrap().stats().suspects_vouched).sum()
    };
    let before = asked(&world);
    world.run_for(3600 * SECOND);
    let asked = asked(&world) - before;
    // Half of the looks are at those that can be dialed, and asked nobody about.
    assert!((1..=75).contains(&asked), "{asked} in an hour");
    assert_eq!(failures(&world, |_| true), 0);
}

#[test]
fn a_suspended_member_stays_one_and_comes_back_with_what_it_missed() {
    let mut world = grown(12, &Config::default());
    world.publish(3, "before");
    world.run_for(SECOND);
    world.with(5, peerchannel_mesh::Node::suspend);
    world.run_for(2 * SECOND);
    assert_eq!(world.neighbors(5), 0);
    let quiet = world.members[5].events.len();
    assert!(world.try_publish(5, "while away"));
    world.publish(3, "meanwhile");
    world.run_for(1200 * SECOND);
    assert_eq!(world.members[5].events.len(), quiet, "it does nothing");
    for index in (0..12).filter(|i| *i != 5) {
        assert_eq!(statuses(&world, index)[5], (MemberStatus::Alive, true));
        assert_eq!(world.node(index).stats().members, 11);
    }
    assert_eq!(failures(&world, |_| true), 0);
    world.with(5, peerchannel_mesh::Node::resume);
    world.run_until(5 * SECOND, "back", |w| {
        (0..12).all(|i| statuses(w, i)[5] == (MemberStatus::Alive, false)) && w.neighbors(5) > 0
    });
    world.run_for(10 * SECOND);
    assert_eq!(world.texts(5), ["before", "meanwhile"]);
    assert!(world.texts(1).contains(&"while away".to_owned()));
    assert_eq!(world.gaps(), 0);
}

#[test]
fn a_suspended_node_can_leave() {
    let mut world = grown(5, &Config::default());
    world.with(2, peerchannel_mesh::Node::suspend);
    world.run_for(60 * SECOND);
    world.with(2, peerchannel_mesh::Node::leave);
    world.run_until(2 * SECOND, "left", |w| w.saw(2, |e| matches!(e, Event::Left)));
    world.run_for(SECOND);
    for index in [0, 1, 3, 4] {
        assert_eq!(statuses(&world, index)[2].0, MemberStatus::Left, "node {index}");
    }
}

#[test]
fn a_suspended_node_that_leaves_waits_for_nothing_but_its_first_link() {
    let mut config = Config::default();
    config.leave_timeout = 20 * SECOND;
    let mut world = grown(5, &config);
    world.with(2, peerchannel_mesh::Node::suspend);
    world.run_for(60 * SECOND);
    world.with(2, peerchannel_mesh::Node::leave);
    world.run_until(SECOND, "left", |w| w.saw(2, |e| matches!(e, Event::Left)));
    world.run_for(SECOND);
    for index in [0, 1, 3, 4] {
        assert_eq!(statuses(&world, index)[2].0, MemberStatus::Left, "node {index}");
    }
}

#[test]
fn a_node_that_leaves_before_its_neighbors_hear_of_its_break_waits_for_nothing() {
    for millis in [0, 20, 2000] {
        let mut world = grown(5, &Config::default());
        world.with(2, |node, now| node.set_name(now, MemberName::new("away").unwrap()));
        world.with(2, peerchannel_mesh::Node::suspend);
        world.run_for(SECOND * millis / 1000);
        world.with(2, peerchannel_mesh::Node::leave);
        world.run_until(SECOND, "left", |w| w.saw(2, |e| matches!(e, Event::Left)));
        world.run_for(SECOND);
        for index in [0, 1, 3, 4] {
            assert_eq!(statuses(&world, index)[2].0, MemberStatus::Left, "node {index} after {millis} ms");
        }
    }
}

#[test]
fn a_suspended_node_does_nothing_and_direct_messages_say_so_at_once() {
    let mut world = grown(12, &Config::default());
    let before = world.actions(5);
    world.with(5, peerchannel_mesh::Node::suspend);
    world.run_for(2 * SECOND);
    assert_eq!(world.actions(5), before, "no dial, no question to a resolver");
    let now = world.now;
    let hello = || Bytes::from_static(b"hello");
    assert_eq!(world.node(1).send_direct(now, node_id(5), hello()), Err(DirectError::MemberSuspended));
    assert_eq!(world.node(5).send_direct(now, node_id(1), hello()), Err(DirectError::Suspended));
    world.with(5, peerchannel_mesh::Node::refresh);
    world.input(5, Input::NetworkChanged);
    world.input(5, Input::Resumed { paused: 60 * SECOND });
    let (frames, asleep) = (world.actions(5), world.now);
    world.run_for(3600 * SECOND);
    assert_eq!(world.actions(5), frames, "dials and questions to resolvers since {asleep:?}");
}

#[test]
fn a_direct_message_that_waits_for_a_link_to_one_who_suspends_fails_with_the_reason() {
    let mut config = Config::default();
    (config.neighbors_low, config.neighbors_target, config.neighbors_high) = (1, 2, 3);
    config.full_mesh_members_max = 1;
    let mut world = grown(12, &config);
    let other = (1..12).find(|other| !world.linked(0, *other)).unwrap();
    // Its answer takes long, its word that it suspends does not.
    world.distance.extend([((0, other), 4 * SECOND), ((other, 0), 4 * SECOND)]);
    let now = world.now;
    world.with(other, peerchannel_mesh::Node::suspend);
    let sent = world.node(0).send_direct(now, node_id(other), Bytes::from_static(b"x")).unwrap();
    world.input(0, Input::Timeout);
    world.run_for(SECOND);
    let result = Err(DirectError::MemberSuspended);
    assert!(world.saw(0, |e| *e == Event::DirectDone { token: sent, result }));
}

#[test]
fn that_a_member_left_reaches_also_those_who_thought_it_failed() {
    let mut world = grown(30, &Config::default());
    let told = |world: &mut World, index: usize, status| {
        let other = (0..30).find(|o| *o != 7 && world.linked(index, *o)).unwrap();
        let link = world.link(index, other);
        let record = world.record(7);
        world.input(
            index,
            Input::Control { link, frame: ControlFrame::Members(vec![Member { status, record }]) },
        );
    };
    world.kill(7, 7 * SECOND);
    world.run_for(15 * SECOND);
    assert!((0..30).filter(|i| *i != 7).all(|i| statuses(&world, i)[7].0 == MemberStatus::Failed));
    told(&mut world, 3, MemberStatus::Left);
    world.run_for(SECOND);
    assert!((0..30).filter(|i| *i != 7).all(|i| statuses(&world, i)[7].0 == MemberStatus::Left));
    // It was not its own word: it is still looked for.
    world.members[7].knows = vec![];
    world.start(7);
    world.run_until(120 * SECOND, "dialed by those who remember it", |w| w.neighbors(7) > 0);
}

/// Anybody can say that another left; a halved mesh that believed it would stay halved.
#[test]
fn a_liar_in_each_half_does_not_keep_them_apart() {
    let mut world = grown(40, &Config::default());
    for member in &mut world.members {
        member.knows = vec![];
    }
    split(&mut world, |i| i % 2);
    world.run_for(120 * SECOND);
    for lied_to in [0, 1] {
        let liar = (2..40).find(|i| world.linked(lied_to, *i)).unwrap();
        let link = world.link(lied_to, liar);
        for other in (1 - lied_to..40).step_by(2) {
            let told = Member { status: MemberStatus::Left, record: world.record(other) };
            world.input(lied_to, Input::Control { link, frame: ControlFrame::Members(vec![told]) });
        }
    }
    world.run_for(10 * SECOND);
    assert_eq!(statuses(&world, 2).iter().filter(|(s, _)| *s == MemberStatus::Left).count(), 20);
    world.cut.clear();
    world.run_until(60 * SECOND, "one mesh again", complete);
}

#[test]
fn who_resumes_soon_is_back_at_once() {
    for (count, pause) in [(2, 1), (2, 30), (12, 1), (30, 3)] {
        let mut world = grown(count, &Config::default());
        world.with(1, peerchannel_mesh::Node::suspend);
        world.run_for(SECOND * pause);
        assert_eq!(world.neighbors(1), 0);
        world.with(1, peerchannel_mesh::Node::resume);
        let what = format!("back among {count} after {pause} s");
        world.run_until(SECOND, &what, |w| {
            w.neighbors(1) > 0 && (0..count).all(|i| statuses(w, i)[1] == (MemberStatus::Alive, false))
        });
    }
}

#[test]
fn a_member_that_died_while_suspended_does_not_stay_for_ever() {
    let mut world = grown(5, &Config::default());
    world.with(2, peerchannel_mesh::Node::suspend);
    world.run_for(60 * SECOND);
    world.members[2].node = None;
    world.run_for(23 * 3600 * SECOND);
    assert_eq!(statuses(&world, 0)[2], (MemberStatus::Alive, true));
    // Who joins meanwhile does not make it live longer.
    world.add(&Config::default(), vec![0]);
    world.start(5);
    world.run_for(2 * 3600 * SECOND);
    for index in [0, 1, 3, 4, 5] {
        let known = world.node(index).member(node_id(2));
        assert!(known.is_none_or(|member| member.status == MemberStatus::Failed), "node {index}");
    }
    world.start(2);
    world.run_until(5 * SECOND, "back", |w| {
        [0, 1, 3, 4, 5].iter().all(|i| statuses(w, *i)[2] == (MemberStatus::Alive, false))
    });
}

#[test]
fn what_members_say_of_themselves_reaches_everybody_in_few_frames() {
    let mut world = grown(30, &Config::default());
    let known = |world: &World| {
        world.members[9].events.iter().filter(|e| matches!(e, Event::MemberChanged { .. })).count()
    };
    let before = known(&world);
    world.with(4, |node, now| {
        node.set_name(now, MemberName::new("dora").unwrap());
        node.set_metadata(now, Bytes::from_static(b"typing")).unwrap();
        assert!(node.set_metadata(now, Bytes::from(vec![0; 513])).is_err());
    });
    let told = |world: &World, text: &'static [u8]| {
        world.members.iter().all(|m| {
            m.node.as_ref().unwrap().members().any(|m| m.name.as_str() == "dora" && m.metadata == text)
        })
    };
    world.run_until(SECOND, "told", |w| told(w, b"typing"));
    assert_eq!(known(&world), before + 1);
    // One that flickers is passed on in turn, and its last word arrives.
    let before = world.frames();
    for n in 0..100u8 {
        world.with(4, |node, now| node.set_metadata(now, Bytes::from(vec![n])).unwrap());
        world.run_for(SECOND / 10);
    }
    world.with(4, |node, now| node.set_metadata(now, Bytes::from_static(b"done")).unwrap());
    world.run_until(8 * SECOND, "told at last", |w| told(w, b"done"));
    let frames = world.frames() - before;
    assert!(frames < 40 * 30 * 8, "{frames} frames");
}

#[test]
fn a_joining_node_is_told_when_it_knows_the_members() {
    let mut world = grown(80, &Config::default());
    world.add(&Config::default(), vec![7]);
    world.start(80);
    world.run_until(SECOND, "known", |w| {
        w.saw(80, |e| matches!(e, Event::MembersKnown { members: 81, complete: true }))
    });
}

#[test]
fn above_its_limit_the_table_is_a_sample_that_costs_little_and_estimates_the_rest() {
    let mut config = Config::default();
    config.members_max = 32;
    let mut world = grown(150, &config);
    world.run_for(120 * SECOND);
    for index in (0..150).step_by(7) {
        let node = world.members[index].node.as_ref().unwrap();
        assert!(!node.members_complete());
        let estimate = node.size_estimate();
        assert!((90..=220).contains(&estimate), "node {index}: {estimate}");
        assert!(node.members().count() <= 32 + 13, "{}", node.members().count());
        for neighbor in node.neighbors() {
            assert!(node.members().any(|m| m.node == neighbor.node), "neighbors are always in it");
        }
    }
    // The mesh shrinks: the sample is of what is left.
    for index in 40..150 {
        world.with(index, peerchannel_mesh::Node::leave);
        world.run_for(SECOND / 10);
    }
    world.run_for(300 * SECOND);
    let estimates: Vec<usize> =
        (0..40).map(|i| world.members[i].node.as_ref().unwrap().size_estimate()).collect();
    assert!(estimates.iter().all(|e| (28..=54).contains(e)), "{estimates:?}");
    assert_eq!(failures(&world, |_| true), 0);
}

#[test]
fn what_a_sample_drops_or_takes_in_neither_left_nor_joined() {
    let mut config = Config::default();
    config.members_max = 64;
    let mut world = grown(200, &config);
    world.run_for(120 * SECOND);
    let told = |world: &World, what: fn(&Event) -> bool| -> usize {
        world.members[..60].iter().flat_map(|m| &m.events).filter(|e| what(e)).count()
    };
    let up: fn(&Event) -> bool = |e| matches!(e, Event::MemberUp { .. });
    assert!((0..60).all(|i| !world.node(i).members_complete()));
    assert_eq!(told(&world, |e| matches!(e, Event::MemberDown { .. })), 0, "nobody left");
    // The mesh shrinks, and the samples take in more of it.
    let (before, members) = (told(&world, up), world.node(3).members().count());
    for index in 80..200 {
        world.with(index, peerchannel_mesh::Node::leave);
        world.run_for(SECOND / 10);
    }
    world.run_for(900 * SECOND);
    let there = |m: &peerchannel_mesh::MemberView| m.status == MemberStatus::Alive && node_index(m) < 80;
    let now = world.node(3).members().filter(there).count();
    assert!(now > 48, "{members} and then {now} of 80");
    // Nobody joined. Of thousands, one that a sample had dropped and that became a neighbor later is
    // told of again.
    let again = told(&world, up) - before;
    assert!(again <= 5, "{again} of {before} again");
    let before = before + again;
    assert_eq!(failures(&world, |_| true), 0);
    // Whoever joins is told, where it belongs to the sample.
    world.add(&config, vec![7]);
    world.start(200);
    world.run_for(20 * SECOND);
    let holders = (0..60).filter(|i| world.node(*i).member(node_id(200)).is_some()).count();
    assert_eq!((holders, told(&world, up)), (60, before + 60), "it belongs to the sample");
}

#[test]
fn a_mesh_of_which_half_is_older_heals_too() {
    let mut world = World::new(20, &Config::default());
    world.features = |index| if index % 2 == 0 { Features::SUPPORTED } else { Features::NONE };
    for index in 0..20 {
        world.members[index].knows = if index == 0 { vec![] } else { vec![0, index - 1] };
        world.start(index);
    }
    world.run_for(30 * SECOND);
    assert!(complete(&world));
    world.kill(3, 7 * SECOND);
    world.run_for(20 * SECOND);
    assert!(complete(&world));
    assert_eq!(failures(&world, |i| i != 3), 0);
    split(&mut world, |i| usize::from(i >= 10));
    world.run_for(60 * SECOND);
    world.cut.clear();
    world.run_until(60 * SECOND, "healed", complete);
}
