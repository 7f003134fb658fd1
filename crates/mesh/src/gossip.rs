//! Gossip: how member records travel. Each link owes its neighbor the records that changed;
//! what is owed is sent as it then stands, in paced frames.
//!
//! A change is sent at once where nothing was sent shortly before, else with what gathers
//! meanwhile, the longer the more there is: a mass of changes costs few frames and a single one
//! no delay. A record that the neighbor sends itself meanwhile is owed no longer, and a member
//! that changes three times while it is owed is sent once. Whole tables take the same way, so
//! that a newcomer's ten thousand records never fill its queue. Where many change at once, few
//! neighbors are sent the records ([`rumor`](crate::rumor)).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use peerchannel_wire::limits::POSITIONS_MAX;
use peerchannel_wire::{ControlFrame, Features, Member, MemberMark, MemberStatus, NodeId};

use crate::allowance::Allowance;
use crate::input::LinkId;
use crate::link::Link;
use crate::node::Node;
use crate::rumor::{EAGER, HINT_PAUSE};
use crate::time::Time;
use crate::timers::Timer;

/// Pause between two frames of records on a link, while there is more than one frame to send or
/// after a quiet time: with the frames' size 640 KB/s, which no control queue (256 KiB) fills up
/// under.
const PACE: Duration = Duration::from_millis(25);

/// Longest pause, on a link that had something to send after each shorter one: a change then
/// crosses six links in half a second.
const PACE_MAX: Duration = Duration::from_millis(100);

/// Bytes of records in one frame. A frame may exceed it by one record.
const FRAME_BYTES: usize = 16 * 1024;

/// What a link's two ends owe each other of their tables.
#[derive(Debug, Default)]
pub(crate) struct Debt {
    /// Members whose record changed. Bounded by the table, as the others are.
    fresh: BTreeSet<NodeId>,
    /// Members the neighbor lacks, after a comparison.
    missing: BTreeSet<NodeId>,
    /// Doubts to be told.
    doubts: BTreeMap<NodeId, MemberMark>,
    sent: Time,
    /// For how long what is owed gathers.
    pause: Duration,
    /// When the last is sent, tables are compared once more.
    pub(crate) compare_after: bool,
    /// When tables are to be compared next.
    pub(crate) compare_at: Time,
    /// The last comparison found no difference.
    pub(crate) agreed: bool,
    /// The last one found one: tables are compared soon again, however quiet the link is.
    pub(crate) differs: bool,
    /// The neighbor was told so once.
    pub(crate) agreement_told: bool,
    /// The level of the sample that the neighbor keeps, and whether it is well filled, as it says.
    pub(crate) claims: Option<(u32, bool)>,
    /// Reports and doubts about members that the neighbor may still bring.
    pub(crate) ends: Allowance,
    pub(crate) questioned: Allowance,
    /// The nonce of a ping that must be answered for the link to stay.
    pub(crate) confirming: Option<u64>,
    /// The link was made to mend a split: not to be dropped before.
    pub(crate) heals_until: Option<Time>,
}

impl Debt {
    /// The neighbor told it itself.
    fn settle(&mut self, node: NodeId) {
        self.fresh.remove(&node);
        self.missing.remove(&node);
    }

    fn is_empty(&self) -> bool {
        self.fresh.is_empty() && self.missing.is_empty() && self.doubts.is_empty()
    }
}

impl Link {
    /// Whether it was made to mend a split, and may not have yet.
    pub(crate) fn mends(&self, now: Time) -> bool {
        self.debt.heals_until.is_some_and(|until| now < until)
    }

    /// Whether both ends compare tables.
    pub(crate) fn compares(&self) -> bool {
        self.carries_floods() && self.features.contains(Features::MEMBERSHIP)
    }
}

impl Node {
    /// A neighbor told of a member itself: it is owed nothing of it.
    pub(crate) fn settle(&mut self, id: LinkId, node: NodeId) {
        if let Some(link) = self.links.get_mut(id) {
            link.debt.settle(node);
        }
        self.rumors.note_known(node, id);
    }

    /// Tells all neighbors of a member, as it then stands, but the one it comes from: where
    /// many members change, most of them later and by its mark.
    pub(crate) fn spread(&mut self, now: Time, node: NodeId, except: Option<LinkId>) {
        let mut links = self.links.flooding_ids();
        links.retain(|id| Some(*id) != except);
        let calm = self.rumors.is_calm(now);
        // Who is gone is told to all at once: the mark of a failed member would be a doubt.
        if calm || links.len() <= EAGER || !(node == self.me.node || self.members.is_alive(node)) {
            self.rumors.forget(node);
        } else {
            let (able, plain): (Vec<LinkId>, Vec<LinkId>) =
                links.into_iter().partition(|id| self.links.get(*id).is_some_and(Link::compares));
            links = self.chance.sample(able, EAGER);
            links.extend(plain);
            self.rumors.add(node, now, links.iter().copied().chain(except).collect());
            self.hint_in_time(now);
        }
        for id in links {
            self.owe(now, id, |debt| {
                debt.missing.remove(&node);
                debt.fresh.insert(node);
            });
        }
    }

    fn hint_in_time(&mut self, now: Time) {
        if let Some(next) = self.rumors.next()
            && !self.timers.is_set(&Timer::Hint)
        {
            self.timers.set(Timer::Hint, next.max(now + HINT_PAUSE));
        }
    }

    /// Tells neighbors by marks of what changed and they may not have heard of.
    pub(crate) fn hint(&mut self, now: Time) {
        let links: Vec<(LinkId, bool)> =
            self.links.iter().filter(|l| l.compares()).map(|l| (l.id, l.opened_by_us())).collect();
        for (id, nodes) in self.rumors.due(now, &links) {
            let marks: Vec<MemberMark> = nodes.into_iter().filter_map(|node| self.mark_alive(node)).collect();
            self.send_hints(id, &marks);
        }
        self.hint_in_time(now);
    }

    /// The mark of a member that is alive and not a neighbor's private affair.
    fn mark_alive(&self, node: NodeId) -> Option<MemberMark> {
        if node == self.me.node {
            let record = self.record.clone()?;
            return Some(MemberMark::of(&Member { status: MemberStatus::Alive, record }));
        }
        let member = self.members.get(node)?;
        let told = member.status == MemberStatus::Alive && self.members.is_inside(node);
        told.then(|| MemberMark::of(member))
    }

    /// Sends a neighbor the records of these, in time.
    pub(crate) fn owe_records(&mut self, now: Time, id: LinkId, nodes: impl IntoIterator<Item = NodeId>) {
        self.owe(now, id, |debt| debt.missing.extend(nodes));
    }

    /// Tells a neighbor that somebody says these failed.
    pub(crate) fn owe_doubt(&mut self, now: Time, id: LinkId, mark: MemberMark) {
        self.owe(now, id, |debt| {
            debt.doubts.insert(mark.node, mark);
        });
    }

    fn owe(&mut self, now: Time, id: LinkId, what: impl FnOnce(&mut Debt)) {
        let Some(link) = self.links.get_mut(id) else { return };
        what(&mut link.debt);
        if link.carries_floods() && !link.debt.is_empty() {
            let at = now.max(link.debt.sent + link.debt.pause);
            self.timers.set_by(Timer::Owed(id), at);
        }
    }

    /// What gathered before the link was up may go now.
    pub(crate) fn start_paying(&mut self, now: Time, id: LinkId) {
        self.owe(now, id, |_| ());
    }

    pub(crate) fn pay(&mut self, now: Time, id: LinkId) {
        let Some(link) = self.links.get_mut(id).filter(|link| link.carries_floods()) else { return };
        let compares = link.compares();
        let debt = &mut link.debt;
        let busy = now.since(debt.sent) <= debt.pause * 2;
        let pause = if busy { (debt.pause * 2).min(PACE_MAX) } else { PACE };
        (debt.sent, debt.pause) = (now, self.chance.jitter(pause));
        let doubts = std::mem::take(&mut debt.doubts);
        let (mut members, mut bytes) = (Vec::new(), 0);
        while bytes < FRAME_BYTES && members.len() < POSITIONS_MAX {
            let Some(node) = debt.fresh.pop_first().or_else(|| debt.missing.pop_first()) else { break };
            let member = if node == self.me.node {
                self.record.clone().map(|record| Member { status: MemberStatus::Alive, record })
            } else {
                self.members.get(node).cloned()
            };
            // Forgotten meanwhile: nothing to tell.
            let Some(member) = member else { continue };
            bytes += member.record.encoded_len();
            members.push(member);
        }
        let more = !debt.is_empty();
        let compare = !more && std::mem::take(&mut debt.compare_after);
        if !members.is_empty() {
            self.control(id, ControlFrame::Members(members));
        }
        if compares {
            let doubts: Vec<MemberMark> = doubts.into_values().collect();
            for chunk in doubts.chunks(POSITIONS_MAX) {
                self.control(id, ControlFrame::MemberDoubt(chunk.to_vec()));
            }
        }
        if more {
            self.timers.set(Timer::Owed(id), now + PACE);
        } else if compare {
            self.compare_members(now, id);
        }
    }
}
