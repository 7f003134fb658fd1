//! The rules of docs/protocol.md sections 3.1 to 3.3, seen from one node.

mod stage;

use std::time::Duration;

use bytes::Bytes;
use peerchannel_mesh::{CloseCause, Config, Input, Lane, Time};
use peerchannel_wire::{ControlFrame, DisconnectReason, Epoch, LinkPurpose, RefuseReason};
use stage::{Answer, GREATER, ME, SECOND, Stage};

fn at(duration: Duration) -> Time {
    Time::ZERO + duration
}

/// Section 3.1: both must come within 10 s.
#[test]
fn who_sends_no_connect_or_welcome_within_ten_seconds_is_closed() {
    let mut stage = Stage::new(&Config::default());
    stage.answers.insert(2, Answer::Silent);
    stage.admitted(1);
    stage.name([2]);
    stage.run_for(10 * SECOND - SECOND / 100);
    assert!(stage.closes().is_empty(), "both have their time");
    stage.run_for(SECOND);
    let closes = stage.closes();
    assert!(closes.contains(&(at(10 * SECOND), 1, CloseCause::TooLate)), "no Connect: {closes:?}");
    // The other link was opened a round trip later.
    let late = at(10 * SECOND + SECOND / 100);
    assert!(closes.contains(&(late, 2, CloseCause::TooLate)), "no Welcome: {closes:?}");
}

/// Section 3.1: a link for direct messages does not count as a neighbor's, and section 7: others
/// may open 32 of them.
#[test]
fn a_node_takes_in_thirty_two_links_for_direct_messages_beside_its_neighbors() {
    let mut stage = Stage::new(&Config::default());
    for n in 1..=34 {
        stage.opens(n, |connect| connect.purpose = LinkPurpose::Direct);
    }
    assert_eq!(stage.refusals(), [(33, RefuseReason::NodeBusy), (34, RefuseReason::NodeBusy)]);
    assert_eq!(stage.neighbors(), [] as [u16; 0]);
    stage.near(40..52);
    assert_eq!(stage.neighbors().len(), 12, "they take no neighbor's place");
}

/// Section 3.1: a link for direct messages is closed when idle.
#[test]
fn a_link_for_direct_messages_is_dropped_when_it_is_idle_and_not_before() {
    let mut stage = Stage::new(&Config::default());
    let link = stage.opens(1, |connect| connect.purpose = LinkPurpose::Direct);
    for nonce in 0..4 {
        stage.run_for(20 * SECOND);
        stage.control(link, ControlFrame::Direct { nonce, payload: Bytes::from_static(b"x") });
        assert_eq!(stage.drops(), [], "it is used");
    }
    stage.run_for(300 * SECOND);
    assert_eq!(stage.drops(), [(at(110 * SECOND), 1, DisconnectReason::Idle)]);
}

/// Section 3.1: a direct link carries nothing else.
#[test]
fn a_flood_on_a_link_for_direct_messages_is_a_violation() {
    let mut stage = Stage::new(&Config::default());
    stage.near([1]);
    let link = stage.opens(2, |connect| connect.purpose = LinkPurpose::Direct);
    let flood = stage.flood(1, 1);
    stage.input(Input::Data { link, frame: flood });
    assert_eq!(stage.drops(), [(Time::ZERO, 2, DisconnectReason::ProtocolViolation)]);
}

/// Section 3.1: the record must be of the node at the other end and of the epoch stated.
#[test]
fn a_record_of_another_node_or_epoch_is_a_violation() {
    let mut stage = Stage::new(&Config::default());
    let (other, later) = (stage.record(3, 1), stage.record(2, 2));
    stage.opens(1, |connect| connect.member = other);
    stage.opens(2, |connect| connect.member = later);
    let closes: Vec<_> = stage.closes().into_iter().map(|(_, n, cause)| (n, cause)).collect();
    assert_eq!(closes, [(1, CloseCause::Violation), (2, CloseCause::Violation)]);
}

/// Section 3.2: of two that test the older link, the one that is up first stays.
#[test]
fn a_third_link_that_came_up_during_a_test_stays_if_both_were_dialed_by_one_side() {
    let mut stage = Stage::new(&Config::default());
    stage.mute.insert(1);
    let old = stage.opens(1, |_| ());
    stage.run_for(10 * SECOND);
    stage.opens(1, |_| ());
    stage.run_for(SECOND / 100);
    stage.opens(1, |_| ());
    assert_eq!((stage.neighbors(), stage.drops()), (vec![1], vec![]), "the older is tested");
    stage.run_for(SECOND);
    assert_eq!(stage.neighbors(), [1]);
    assert_ne!(stage.link(1), old);
    assert_eq!(stage.refusals(), [(1, RefuseReason::DuplicateNeighbor)], "the one that came last");
    assert_eq!(stage.drops().len(), 1, "the one that was silent");
}

/// Section 3.2: a third link that this node had dialed is compared with the newer; the one that
/// was dialed by the larger id is closed.
#[test]
fn a_third_link_that_came_up_during_a_test_is_compared_with_the_newer() {
    for (me, own_stays) in [(ME, true), (GREATER, false)] {
        let mut stage = Stage::of(me, &Config::default(), 1);
        stage.mute.insert(1);
        stage.answers.insert(1, Answer::Welcome);
        // The node's own dial is under way for long, and arrives while the older link is tested.
        stage.rtt.insert(1, 10 * SECOND);
        stage.name([1]);
        stage.rtt.insert(1, SECOND / 100);
        stage.opens(1, |_| ());
        stage.run_for(10 * SECOND - SECOND / 100);
        let newer = stage.opens(1, |_| ());
        stage.run_for(SECOND);
        assert_eq!(stage.neighbors(), [1]);
        assert_eq!(stage.node.neighbors().all(|link| link.opened_by_us), own_stays);
        let refused = if own_stays { vec![(1, RefuseReason::DuplicateNeighbor)] } else { vec![] };
        assert_eq!((stage.refusals(), stage.link(1) == newer), (refused, !own_stays));
    }
}

/// Section 3.1: a later join of the same node is known.
#[test]
fn a_connect_of_an_earlier_join_is_refused_as_stale() {
    let mut stage = Stage::new(&Config::default());
    let record = stage.record(1, 2);
    stage.opens(1, |connect| (connect.epoch, connect.member) = (Epoch::new(2).unwrap(), record));
    stage.opens(1, |_| ());
    assert_eq!(stage.refusals(), [(1, RefuseReason::StaleEpoch)]);
    assert_eq!(stage.neighbors(), [1]);
}

/// Section 3.3: the receiver does not take what it is sent on the control lane.
#[test]
fn a_full_control_queue_ends_the_link_as_too_slow_and_a_full_data_queue_does_not() {
    for (lane, drops) in [(Lane::Data, vec![]), (Lane::Control, vec![DisconnectReason::NodeTooSlow])] {
        let mut stage = Stage::new(&Config::default());
        stage.near([1, 2]);
        let link = stage.link(1);
        stage.input(Input::QueueFull { link, lane });
        let reasons: Vec<_> = stage.drops().into_iter().map(|(.., reason)| reason).collect();
        assert_eq!(reasons, drops, "{lane:?}");
        assert!(stage.is_neighbor(2));
    }
}
