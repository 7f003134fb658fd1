//! How a link ends: farewells, drains, violations, losses, and what changes then.

use std::time::Duration;

use peerchannel_wire::{Disconnect, DisconnectReason, LinkPurpose, NodeId, Refuse, RefuseReason};

use crate::candidates::Source;
use crate::connect::{PAUSE_AFTER_GOODBYE, PAUSE_AFTER_PRUNE};
use crate::input::LinkId;
use crate::link::LinkState;
use crate::node::{Leaving, Node};
use crate::output::{CloseCause, Event, Farewell, NeighborLoss, Output};
use crate::time::Time;
use crate::timers::Timer;

/// How long messages may still come after a Disconnect.
const DRAIN_LIMIT: Duration = Duration::from_secs(2);

/// A node that ended a link without a word before it was up is not dialed again before this:
/// it may do so every time.
const PAUSE_AFTER_SILENCE: Duration = Duration::from_secs(1);

impl Node {
    pub(crate) fn refuse(&mut self, now: Time, id: LinkId, reason: RefuseReason) {
        let referrals = self.referrals(now, id);
        self.farewell(now, id, Farewell::Refuse(Refuse { reason, referrals }));
    }

    /// Ends a link that is up, in good order.
    pub(crate) fn drop_link(&mut self, now: Time, id: LinkId, reason: DisconnectReason) {
        let Some(link) = self.links.get_mut(id) else { return };
        // A goodbye that came before says more.
        link.verdict.get_or_insert(NeighborLoss::Dropped(reason));
        let peer = link.peer;
        if reason != DisconnectReason::DuplicateNeighbor {
            self.keep_as_candidate(now, id);
            // Who takes a break comes back to its neighbors at once.
            if !self.is_suspended() {
                self.pause_after(now, peer, reason);
            }
        }
        let referrals = self.referrals(now, id);
        self.farewell(now, id, Farewell::Disconnect(Disconnect { reason, referrals }));
    }

    pub(crate) fn farewell(&mut self, now: Time, id: LinkId, farewell: Farewell) {
        let Some(link) = self.links.get_mut(id) else { return };
        if link.state == LinkState::Finishing {
            return;
        }
        let was_present = link.is_present();
        link.state = LinkState::Finishing;
        self.timers.cancel_link(id);
        self.timers.set(Timer::Link(id), now + DRAIN_LIMIT + DRAIN_LIMIT);
        self.order(Output::Finish { link: id, farewell });
        if was_present {
            self.after_link_down(now, id);
        }
    }

    /// Closes a link whose peer broke the protocol.
    pub(crate) fn violation(&mut self, now: Time, id: LinkId, what: &'static str) {
        self.stats.violations += 1;
        let Some(link) = self.links.get(id) else { return };
        let (node, up) = (link.peer, link.is_up());
        tracing::debug!(peer = %node.short(), what, "a neighbor broke the protocol");
        self.tell(Event::Misbehaved { node, what });
        if up {
            self.drop_link(now, id, DisconnectReason::ProtocolViolation);
        } else {
            self.order(Output::Close { link: id, cause: CloseCause::Violation });
            let loss = NeighborLoss::Dropped(DisconnectReason::ProtocolViolation);
            self.on_link_closed(now, id, loss);
        }
    }

    pub(crate) fn on_disconnect(&mut self, now: Time, id: LinkId, disconnect: &Disconnect) {
        self.learn_referrals(now, &disconnect.referrals);
        let Some(link) = self.links.get_mut(id) else { return };
        let (peer, floods) = (link.peer, link.carries_floods());
        link.state = LinkState::Draining(disconnect.reason);
        link.verdict = Some(NeighborLoss::Disconnected(disconnect.reason));
        let drained = link.lanes_finished >= 2;
        if matches!(disconnect.reason, DisconnectReason::LeavingMesh | DisconnectReason::Suspended) {
            self.forget_candidate(peer);
        } else {
            self.keep_as_candidate(now, id);
        }
        self.pause_after(now, peer, disconnect.reason);
        self.timers.cancel_link(id);
        if drained || !floods {
            self.end_draining(now, id);
        } else {
            self.timers.set(Timer::Link(id), now + DRAIN_LIMIT);
        }
    }

    pub(crate) fn on_lane_finished(&mut self, now: Time, id: LinkId) {
        let Some(link) = self.links.get_mut(id) else { return };
        link.lanes_finished = link.lanes_finished.saturating_add(1);
        if link.lanes_finished >= 2 && matches!(link.state, LinkState::Draining(_)) {
            self.end_draining(now, id);
        }
    }

    pub(crate) fn end_draining(&mut self, now: Time, id: LinkId) {
        let Some(link) = self.links.get(id) else { return };
        let loss = link.verdict.clone().unwrap_or(NeighborLoss::Lost(crate::LinkLoss::ClosedLocally));
        self.order(Output::Close { link: id, cause: CloseCause::Done });
        self.on_link_closed(now, id, loss);
    }

    pub(crate) fn on_link_deadline(&mut self, now: Time, id: LinkId) {
        let Some(link) = self.links.get(id) else { return };
        match &link.state {
            LinkState::Up if link.purpose == LinkPurpose::Direct => {
                self.drop_link(now, id, DisconnectReason::Idle);
            }
            LinkState::Up => {}
            LinkState::Draining(_) => self.end_draining(now, id),
            LinkState::Testing { old, connect } => {
                let (old, connect) = (*old, connect.clone());
                self.older_is_silent(now, id, old, &connect);
            }
            LinkState::Awaiting | LinkState::Connecting | LinkState::Finishing => {
                self.order(Output::Close { link: id, cause: CloseCause::TooLate });
                self.on_link_closed(now, id, NeighborLoss::Lost(crate::LinkLoss::TimedOut));
            }
        }
    }

    pub(crate) fn on_link_closed(&mut self, now: Time, id: LinkId, loss: NeighborLoss) {
        let waits = self.awaits_replacement(id);
        let Some(link) = self.links.get_mut(id) else { return };
        if waits {
            link.replaced = true;
            return self.timers.set(Timer::Link(id), now + DRAIN_LIMIT);
        }
        let (was_up, was_present) = (link.carries_floods(), link.is_present());
        let unanswered =
            link.opened_by_us() && matches!(link.state, LinkState::Awaiting | LinkState::Connecting);
        let (peer, epoch, dial) = (link.peer, link.epoch, link.dial);
        let verdict = link.verdict.get_or_insert(loss).clone();
        link.state = LinkState::Finishing;
        if was_present {
            if matches!(verdict, NeighborLoss::Lost(_)) {
                self.keep_as_candidate(now, id);
            }
            self.after_link_down(now, id);
        }
        let dial = dial.filter(|_| unanswered);
        self.dial_came_to_nothing(now, dial, Some(id));
        self.links.remove(id);
        self.timers.cancel_link(id);
        for (_, inbound) in self.streams.iter_mut() {
            inbound.forget_link(id);
        }
        self.fail_sent_directs(id);
        let lost = was_up && matches!(verdict, NeighborLoss::Lost(_));
        let suspected = lost && self.suspect(now, peer);
        if lost && self.reservoir.lost_link(now, self.links.flooding().count()) {
            self.split_suspected(now);
        }
        if !suspected && self.links.up_to(peer).is_none() {
            self.members.set_linked(peer, false);
        }
        if verdict == NeighborLoss::Disconnected(DisconnectReason::LeavingMesh)
            && let Some(epoch) = epoch
        {
            self.on_member_left(now, peer, epoch);
        }
        if unanswered {
            self.candidates.pause(peer, now + PAUSE_AFTER_SILENCE);
        }
        self.timers.set_by(Timer::Maintain, now);
        self.sweep_replaced(now, peer);
        if self.leaving == Leaving::Closing && self.links.is_empty() {
            self.left();
        }
    }

    /// A neighbor that is one no longer may become one again.
    fn keep_as_candidate(&mut self, now: Time, id: LinkId) {
        let Some(link) = self.links.get(id) else { return };
        let (peer, coordinate, rtt) = (link.peer, link.coordinate, link.rtt);
        let (dialed, measured) = (link.opened_by_us(), link.round_trips.count() > 0);
        let Some(address) = self.address_of(link) else { return };
        self.hear_of(now, &address, Source::Hearsay);
        self.candidates.was_neighbor(peer, dialed, coordinate, now);
        if measured {
            self.candidates.note_measured(peer, rtt);
        }
    }

    /// After a goodbye the peer is left alone, for longer if one of the two had too many links.
    fn pause_after(&mut self, now: Time, peer: NodeId, reason: DisconnectReason) {
        self.candidates.pause(peer, now + PAUSE_AFTER_GOODBYE);
        if reason == DisconnectReason::NotUsefulNeighbor && self.is_large() {
            self.candidates.spare(peer, now + PAUSE_AFTER_PRUNE);
        }
    }

    /// Whether a duplicate was dropped by its peer in favor of a link that is not up here yet:
    /// its Welcome may still be on the way, and the peer is a neighbor all along.
    fn awaits_replacement(&self, id: LinkId) -> bool {
        let Some(link) = self.links.get(id) else { return false };
        link.state == LinkState::Draining(DisconnectReason::DuplicateNeighbor)
            && !link.replaced
            && self.links.iter().any(|other| other.peer == link.peer && other.counts() && !other.is_up())
    }

    /// Ends duplicates whose replacement is up, or will never be.
    pub(crate) fn sweep_replaced(&mut self, now: Time, peer: NodeId) {
        let of_peer = || self.links.iter().filter(|link| link.peer == peer);
        if of_peer().any(|link| link.counts() && !link.is_up()) {
            return;
        }
        let replaced = of_peer().find(|link| link.replaced).map(|link| link.id);
        if let Some(id) = replaced {
            self.on_link_closed(now, id, NeighborLoss::Disconnected(DisconnectReason::DuplicateNeighbor));
        }
    }

    /// Tells what the loss of a neighbor changes; the link itself may live on for its farewell.
    pub(crate) fn after_link_down(&mut self, now: Time, id: LinkId) {
        let Some(link) = self.links.get(id) else { return };
        let peer = link.peer;
        let loss = link.verdict.clone().unwrap_or(NeighborLoss::Lost(crate::LinkLoss::ClosedLocally));
        if !self.links.has_neighbor(peer) {
            self.tell(Event::NeighborDown { node: peer, loss });
        }
        if !self.links.has_neighbors() && self.leaving == Leaving::No {
            self.tell(Event::Offline);
            self.candidates.hurry(now);
            self.resolve_soon(now);
            self.seek_past(now);
        }
        self.recompute_confirmed(now);
        self.timers.set_by(Timer::Maintain, now);
    }
}
