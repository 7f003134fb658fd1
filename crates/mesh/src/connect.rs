//! Links: Connect, Welcome, Refuse, Disconnect, and two links to one node.
//!
//! Two links to one node id are resolved the same way at both ends (docs/protocol.md
//! section 3): the higher epoch wins; of one epoch, and the older one fresh and dialed by the
//! other side, the one dialed by the larger id is closed; else the newer wins after the older
//! failed a test.

use std::time::Duration;

use peerchannel_wire::limits::REFERRALS_MAX;
use peerchannel_wire::{
    AdmissionRefusal, Connect, ControlFrame, DisconnectReason, LinkKind, LinkPurpose, MemberRecord,
    MemberStatus, NodeAddress, Refuse, RefuseReason, Welcome,
};

use crate::baseline::Baseline;
use crate::candidates::Source;
use crate::coordinate::RoundTrips;
use crate::input::{DialFailure, DialId, LinkId, LinkOpened};
use crate::link::{Level, Link, LinkState, Urgency};
use crate::node::{Errand, Node};
use crate::output::{CloseCause, Event, NeighborLoss, Output};
use crate::quota::Room;
use crate::shuffle::Credit;
use crate::time::Time;
use crate::timers::Timer;

/// Most links of one mesh at once, handshakes and direct ones included. Beyond, new ones are
/// closed unanswered: three times the neighbor limit, and room for direct messages.
pub(crate) const LINKS_MAX: usize = 256;

/// Most links for direct messages that others may open.
const DIRECT_LINKS_MAX: usize = 32;

/// A link that is up for less than this may have been dialed by one end while the other dialed
/// too. After that, nobody dials who still has the link: it is tested. Longer than any frame is
/// on its way, shorter than the transport takes to notice a dead peer.
const FRESH: Duration = Duration::from_secs(5);

/// Shortest test of an older link to the same node.
const TEST_MIN: Duration = Duration::from_millis(50);

/// A node whose admission refused this one for good is not dialed again before this.
const PAUSE_REFUSED: Duration = Duration::from_secs(30);

/// Longest pause a refusing node may ask for.
const PAUSE_ASKED_MAX: Duration = Duration::from_secs(300);

/// In a large mesh, where there are others, a node that was dropped because there were too many
/// neighbors is not dialed again before this.
pub(crate) const PAUSE_AFTER_PRUNE: Duration = Duration::from_secs(60);

/// A node that was dropped, or that left, is not dialed again before this.
pub(crate) const PAUSE_AFTER_GOODBYE: Duration = Duration::from_secs(10);

/// How long a link that mends a split is not dropped for another's sake.
const HEALING: Duration = Duration::from_secs(30);

/// Links above the limit that there may be to mend a split. A guess: one is enough.
pub(crate) const HEALING_MAX: usize = 4;

enum Verdict {
    KeepNew { drop: Option<LinkId> },
    KeepOld,
    Test(LinkId),
    Stale,
}

impl Node {
    pub(crate) fn on_link_opened(&mut self, now: Time, opened: &LinkOpened) {
        let dial = opened.dial.and_then(|id| self.dials.remove(&id));
        let errand = dial.as_ref().map(|dial| dial.errand);
        let purpose =
            if errand == Some(Errand::Direct) { LinkPurpose::Direct } else { LinkPurpose::Neighbor };
        if errand == Some(Errand::Audit) && !self.lacks(opened.peer) {
            // It is there: that was all.
            return self.order(Output::Close { link: opened.link, cause: CloseCause::Done });
        }
        if errand == Some(Errand::Heal) {
            self.reservoir.answered(opened.peer, now);
        }
        if let Some(key) = dial.as_ref().and_then(|dial| dial.candidate) {
            self.candidates.succeeded(key, opened.peer, opened.address, now);
        }
        let closed = self.is_closing() || self.is_resting();
        if closed || opened.peer == self.me.node || self.links.len() >= LINKS_MAX {
            self.dial_came_to_nothing(now, opened.dial, None);
            return self.order(Output::Close { link: opened.link, cause: CloseCause::Unwanted });
        }
        self.links.insert(Link {
            id: opened.link,
            peer: opened.peer,
            dial: opened.dial,
            address: opened.address,
            number: opened.number,
            rtt: opened.rtt,
            features: opened.features,
            state: LinkState::Awaiting,
            kind: dial.map_or(LinkKind::Near, |dial| dial.kind),
            purpose,
            epoch: None,
            since: now,
            verdict: None,
            owed_baseline: None,
            lanes_finished: 0,
            replaced: false,
            level: Level::Low,
            told_congested: false,
            announce: std::collections::BTreeMap::new(),
            serving: std::collections::VecDeque::new(),
            digest_interval: crate::reconcile::DIGEST_INTERVAL,
            acked: std::collections::BTreeMap::new(),
            progress: now,
            slow: false,
            debt: crate::gossip::Debt::default(),
            useful: 0,
            duplicates: 0,
            ping: None,
            measuring: None,
            measured: now,
            round_trips: RoundTrips::default(),
            coordinate: None,
            balance: None,
            shuffles: Credit::new(now),
            urgency: Urgency::None,
        });
        self.timers.set(Timer::Link(opened.link), now + self.config.connect_timeout);
        if opened.dial.is_none() {
            self.found_dialable(now);
        }
        if errand == Some(Errand::Heal)
            && let Some(link) = self.links.get_mut(opened.link)
        {
            link.debt.heals_until = Some(now + HEALING);
        }
        if opened.dial.is_some() {
            self.send_connect(opened.link);
        }
    }

    /// Sends Connect on a link we opened, once our own record is signed.
    pub(crate) fn send_connect(&mut self, id: LinkId) {
        let urgent = self.links.flooding().next().is_none();
        let coordinate = self.place_for(id);
        let (Some(member), Some(link)) = (self.record.clone(), self.links.get_mut(id)) else { return };
        link.state = LinkState::Connecting;
        let connect = Connect {
            epoch: self.me.epoch,
            purpose: link.purpose,
            joining: self.baseline != Baseline::Known,
            urgent,
            kind: link.kind,
            coordinate,
            healing: link.debt.heals_until.is_some(),
            lacking: self.neighborhood.lacking,
            member,
        };
        self.control(id, ControlFrame::Connect(connect));
    }

    pub(crate) fn on_connect(&mut self, now: Time, id: LinkId, connect: Connect) {
        let Some(link) = self.links.get_mut(id) else { return };
        let peer = link.peer;
        if connect.member.facts().node != peer || connect.member.facts().epoch != connect.epoch {
            return self.violation(now, id, "a member record of another node or epoch");
        }
        link.purpose = connect.purpose;
        link.epoch = Some(connect.epoch);
        link.kind = if connect.kind == LinkKind::Far { LinkKind::Far } else { LinkKind::Near };
        if self.record.is_none() {
            return self.refuse(now, id, RefuseReason::NodeBusy);
        }
        if connect.purpose == LinkPurpose::Direct {
            let direct = self.links.iter().filter(|l| l.purpose == LinkPurpose::Direct && l.is_up()).count();
            if direct >= DIRECT_LINKS_MAX {
                return self.refuse(now, id, RefuseReason::NodeBusy);
            }
            return self.welcome(now, id, &connect);
        }
        match self.judge_duplicate(now, id, None) {
            Verdict::Stale => self.refuse(now, id, RefuseReason::StaleEpoch),
            Verdict::KeepOld => self.refuse(now, id, RefuseReason::DuplicateNeighbor),
            Verdict::Test(old) => self.test_older(now, id, old, connect),
            Verdict::KeepNew { drop } => {
                // The replaced link frees its own place.
                let others: Vec<LinkId> =
                    self.links.flooding().map(|l| l.id).filter(|l| Some(*l) != drop).collect();
                // From another part of a split mesh: a few are taken in above the limit.
                let heals = connect.healing
                    && !self.members.is_alive(peer)
                    && others.len() < self.neighbors_max_now() + HEALING_MAX;
                if heals && let Some(link) = self.links.get_mut(id) {
                    link.debt.heals_until = Some(now + HEALING);
                }
                let room = if heals { Room::Free } else { self.room_for(now, id, &connect, others) };
                if let Room::Refused(reason) = room {
                    return self.refuse(now, id, reason);
                }
                if connect.urgent
                    && let Some(link) = self.links.get_mut(id)
                {
                    let made = matches!(room, Room::Instead(_));
                    link.urgency = if made { Urgency::MadeRoom } else { Urgency::Urgent };
                }
                self.welcome(now, id, &connect);
                if let Room::Instead(other) = room {
                    self.stats.evicted_for_urgent += 1;
                    self.neighborhood.evicted = Some(now);
                    self.drop_link(now, other, DisconnectReason::NotUsefulNeighbor);
                }
                if let Some(old) = drop {
                    self.drop_link(now, old, DisconnectReason::DuplicateNeighbor);
                }
            }
        }
    }

    /// The older link of a test did not answer in time: the newer one takes its place, unless
    /// a third has come up meanwhile that stays.
    pub(crate) fn older_is_silent(&mut self, now: Time, id: LinkId, old: LinkId, connect: &Connect) {
        let drop = match self.judge_duplicate(now, id, Some(old)) {
            Verdict::KeepNew { drop } => {
                self.welcome(now, id, connect);
                drop
            }
            // Younger than the test: it needs none.
            Verdict::KeepOld | Verdict::Test(_) => {
                self.refuse(now, id, RefuseReason::DuplicateNeighbor);
                None
            }
            Verdict::Stale => {
                self.refuse(now, id, RefuseReason::StaleEpoch);
                None
            }
        };
        for older in [Some(old), drop].into_iter().flatten() {
            self.drop_link(now, older, DisconnectReason::DuplicateNeighbor);
        }
    }

    /// Compares a link with the one there is to the same node, `except` apart.
    fn judge_duplicate(&self, now: Time, id: LinkId, except: Option<LinkId>) -> Verdict {
        let Some(new) = self.links.get(id) else { return Verdict::KeepOld };
        let known = self.members.get(new.peer).map(|member| member.record.facts().epoch);
        if known > new.epoch {
            return Verdict::Stale;
        }
        let Some(old) =
            self.links.flooding().find(|l| l.peer == new.peer && l.id != id && Some(l.id) != except)
        else {
            return Verdict::KeepNew { drop: None };
        };
        if new.epoch != old.epoch {
            return if new.epoch > old.epoch {
                Verdict::KeepNew { drop: Some(old.id) }
            } else {
                Verdict::Stale
            };
        }
        if new.opened_by_us() == old.opened_by_us() || now.since(old.since) >= FRESH {
            return Verdict::Test(old.id);
        }
        // One was dialed by each side, at once: the one dialed by the larger id is closed.
        let dialed_by_larger = |link: &Link| link.opened_by_us() == (self.me.node > link.peer);
        if dialed_by_larger(new) { Verdict::KeepOld } else { Verdict::KeepNew { drop: Some(old.id) } }
    }

    fn test_older(&mut self, now: Time, id: LinkId, old: LinkId, connect: Connect) {
        let fresh = self.chance.number();
        let Some(link) = self.links.get_mut(old) else { return };
        // A test that is under way answers for this one too.
        let nonce = link.ping.map_or(fresh, |(nonce, _)| nonce);
        let wait = TEST_MIN.max(link.rtt * 2);
        link.ping = Some((nonce, now));
        self.control(old, ControlFrame::Ping(nonce));
        if let Some(link) = self.links.get_mut(id) {
            link.state = LinkState::Testing { old, connect: Box::new(connect) };
            self.timers.set(Timer::Link(id), now + wait);
        }
    }

    /// The older link of a test answered: it stays.
    pub(crate) fn older_answers(&mut self, now: Time, old: LinkId) {
        let testing: Vec<LinkId> = self
            .links
            .iter()
            .filter(|l| matches!(l.state, LinkState::Testing { old: tested, .. } if tested == old))
            .map(|l| l.id)
            .collect();
        for id in testing {
            self.refuse(now, id, RefuseReason::DuplicateNeighbor);
        }
    }

    pub(crate) fn welcome(&mut self, now: Time, id: LinkId, connect: &Connect) {
        let referrals = self.referrals(now, id);
        let (Some(member), Some(link)) = (self.record.clone(), self.links.get(id)) else { return };
        let welcome = Welcome {
            epoch: self.me.epoch,
            joining: self.baseline != Baseline::Known,
            member,
            link_number: link.number,
            referrals,
            coordinate: self.place_for(id),
        };
        self.control(id, ControlFrame::Welcome(welcome));
        self.learn_place_by_connect(id, connect);
        self.on_member_statement(now, id, connect.member.clone(), MemberStatus::Alive);
        self.link_up(now, id, connect.joining);
    }

    pub(crate) fn on_welcome(&mut self, now: Time, id: LinkId, welcome: Welcome) {
        let Some(link) = self.links.get_mut(id) else { return };
        let facts = welcome.member.facts();
        if facts.node != link.peer || facts.epoch != welcome.epoch || welcome.link_number != link.number {
            return self.violation(now, id, "a Welcome of another node, epoch or link");
        }
        link.epoch = Some(welcome.epoch);
        self.learn_place_by_welcome(id, &welcome);
        self.learn_referrals(now, &welcome.referrals);
        let older: Vec<LinkId> = self
            .links
            .flooding()
            .filter(|l| self.links.get(id).is_some_and(|new| new.peer == l.peer && new.id != l.id))
            .map(|l| l.id)
            .collect();
        // The responder has decided already; we come to the same result. A link that it dialed
        // itself is up here for longer than there, so what is not fresh there is not here.
        let keep_new = match self.judge_duplicate(now, id, None) {
            Verdict::KeepNew { .. } | Verdict::Test(_) => true,
            Verdict::KeepOld | Verdict::Stale => older.is_empty(),
        };
        self.on_member_statement(now, id, welcome.member, MemberStatus::Alive);
        self.link_up(now, id, welcome.joining);
        if keep_new {
            for old in older {
                self.drop_link(now, old, DisconnectReason::DuplicateNeighbor);
            }
        } else {
            self.drop_link(now, id, DisconnectReason::DuplicateNeighbor);
        }
    }

    /// The link may carry everything from here on.
    pub(crate) fn link_up(&mut self, now: Time, id: LinkId, joining: bool) {
        let online = self.links.has_neighbors();
        let Some(peer) = self.links.get(id).map(|link| link.peer) else { return };
        let known = self.links.has_neighbor(peer);
        let Some(link) = self.links.get_mut(id) else { return };
        let (address, number, purpose) = (link.address, link.number, link.purpose);
        link.state = LinkState::Up;
        link.since = now;
        link.progress = now;
        self.timers.cancel(&Timer::Link(id));
        self.order(Output::Establish { link: id, number });
        debug_assert!(peer != self.me.node, "nobody is its own neighbor");
        self.acquit(peer);
        self.members.set_linked(peer, true);
        self.answer_questions(peer);
        if purpose == LinkPurpose::Direct {
            self.timers.set(Timer::Link(id), now + crate::direct::DIRECT_IDLE);
            return self.send_waiting_directs(now, peer, id);
        }
        if !online {
            self.tell(Event::Online);
        }
        if !known {
            self.tell(Event::NeighborUp { node: peer, address });
        }
        if joining {
            self.tell_or_owe_baseline(now, id);
        }
        self.start_members(now, id);
        self.send_acks(id);
        self.send_unconfirmed(now, id);
        self.send_waiting_directs(now, peer, id);
        self.send_digest(now, id);
        self.resume_suspicions(now, id);
        self.sweep_replaced(now, peer);
        self.note_new_neighbor(now, id);
        self.timers.set_by(Timer::Maintain, now);
        self.goodbye_has_link(now);
    }

    fn note_new_neighbor(&mut self, now: Time, id: LinkId) {
        let Some(link) = self.links.get(id) else { return };
        if let Some(address) = self.address_of(link) {
            self.neighborhood.sampler.feed(&address);
        }
        let Some(link) = self.links.get(id) else { return };
        if let Some(dial) = link.dial {
            self.stats.links_made += 1;
            self.dialed_link_is_up(now, id, dial);
        } else {
            self.neighborhood.dialable = true;
        }
    }

    pub(crate) fn on_refuse(&mut self, now: Time, id: LinkId, refuse: &Refuse) {
        self.learn_referrals(now, &refuse.referrals);
        let Some(link) = self.links.get(id) else { return };
        let (peer, address, dial) = (link.peer, link.address, link.dial);
        // Who has enough links and refuses one that has enough does as it should: nobody needs to
        // know.
        let enough = self.links.flooding().count() >= self.config.neighbors_low;
        let busy = refuse.reason == RefuseReason::NodeBusy;
        if refuse.reason != RefuseReason::DuplicateNeighbor && !(busy && enough) {
            self.tell(Event::ConnectRefused { node: peer, address, reason: refuse.reason });
        }
        self.candidates.pause(peer, now + PAUSE_AFTER_GOODBYE);
        if busy && self.is_large() {
            self.candidates.spare(peer, now + PAUSE_AFTER_PRUNE);
        }
        self.order(Output::Close { link: id, cause: CloseCause::Done });
        self.on_link_closed(now, id, NeighborLoss::Dropped(DisconnectReason::NotUsefulNeighbor));
        if let Some(dial) = dial {
            self.fail_directs_of(peer, dial);
        }
    }

    pub(crate) fn on_dial_failed(
        &mut self,
        now: Time,
        id: DialId,
        address: Option<std::net::SocketAddr>,
        failure: DialFailure,
    ) {
        let Some(dial) = self.dials.remove(&id) else { return };
        self.dial_came_to_nothing(now, Some(id), None);
        if let Some(key) = dial.candidate {
            let isolated = self.links.flooding().next().is_none();
            match &failure {
                DialFailure::Oneself => self.candidates.failed_for_long(key, now, &mut self.chance),
                DialFailure::Refused { reason, retry_after } => {
                    // Nothing of these changes by itself soon. An unknown mesh does: the node
                    // there may be about to join it.
                    let lasting = matches!(
                        reason,
                        AdmissionRefusal::BadCredential
                            | AdmissionRefusal::Version
                            | AdmissionRefusal::Malformed
                    );
                    let asked = retry_after.map(|after| after.min(PAUSE_ASKED_MAX));
                    let pause = asked.or(lasting.then_some(PAUSE_REFUSED));
                    self.candidates.failed(key, pause, isolated, now, &mut self.chance);
                }
                DialFailure::Unreachable(_) | DialFailure::WrongNode(_) => {
                    let given_up = self.candidates.failed(key, None, isolated, now, &mut self.chance);
                    if let (true, Some(node)) = (given_up, dial.node) {
                        self.neighborhood.sampler.forget(node);
                    }
                }
            }
        } else if let Some(node) = dial.node {
            match dial.errand {
                Errand::Audit => return self.audit_failed(now, node, &failure),
                Errand::Heal => {
                    let hurry = self.seeks_past(now);
                    return self.reservoir.failed(node, hurry, now, &mut self.chance);
                }
                Errand::Direct | Errand::Neighbor => self.fail_waiting_directs(node),
            }
        }
        // Whoever left in the meantime is not expected to answer.
        let left = dial.node.is_some_and(|node| {
            self.members.get(node).is_some_and(|member| member.status != MemberStatus::Alive)
        });
        let expected = left && matches!(failure, DialFailure::Unreachable(_));
        if failure != DialFailure::Oneself && !expected {
            self.tell(Event::DialFailed { node: dial.node, address, failure });
        }
        self.timers.set_by(Timer::Maintain, now);
    }

    /// Other neighbors this one may try, at random.
    pub(crate) fn referrals(&mut self, now: Time, to: LinkId) -> Vec<NodeAddress> {
        let peer = self.links.get(to).map(|l| l.peer);
        // All members keep the same sample: it would be dialed by all. So of a large mesh the
        // candidates are told, and the neighbors.
        let complete = self.members.is_complete();
        let records: Vec<&MemberRecord> = self
            .members
            .iter()
            .filter(|m| crate::members::is_present(m) && Some(m.record.facts().node) != peer)
            .filter(|m| complete || self.links.up_to(m.record.facts().node).is_some())
            .map(|m| &m.record)
            .filter(|record| !record.facts().addresses.is_empty())
            .collect();
        let count = if complete { REFERRALS_MAX } else { records.len() };
        let chosen = self.chance.sample(records, count);
        let mut known: Vec<NodeAddress> = chosen.into_iter().filter_map(MemberRecord::address).collect();
        if !complete {
            let told = self.candidates.to_tell(REFERRALS_MAX, now, &mut self.chance, |_| false);
            known.extend(told.into_iter().map(|told| told.address).filter(|a| Some(a.node()) != peer));
        }
        self.chance.sample(known, REFERRALS_MAX)
    }

    pub(crate) fn learn_referrals(&mut self, now: Time, referrals: &[NodeAddress]) {
        for referral in referrals {
            self.hear_of(now, referral, Source::Hearsay);
        }
    }
}
