//! Presence: member records spread by gossip, and how a member is judged to have failed.
//!
//! A link that breaks makes its peer *suspect*. It is reported as failed only after other
//! neighbors could not get an answer from it either (docs/protocol.md section 3, failure).

use std::collections::BTreeMap;
use std::time::Duration;

use peerchannel_wire::{ControlFrame, Epoch, Member, MemberRecord, MemberStatus, NodeId};

use crate::input::LinkId;
use crate::jobs::Job;
use crate::link::LinkState;
use crate::members::Change;
use crate::node::{Leaving, Node};
use crate::output::{Event, MemberLoss, Output};
use crate::time::Time;
use crate::timers::Timer;

/// Neighbors asked about a suspect.
const PROBES: usize = 3;

/// Shortest wait for the answers of indirect probes.
const PROBE_MIN: Duration = Duration::from_millis(300);

/// How long a node without neighbors waits before it believes that the last one failed: it
/// may be this node's own network that is gone.
const ISOLATED_SUSPICION: Duration = Duration::from_millis(500);

/// Indirect probes answered for others at once.
const PROBES_FOR_OTHERS_MAX: usize = 256;

/// Bytes of records put into one frame: half of what a control frame may have.
const MEMBERS_FRAME_BYTES: usize = 32 * 1024;

/// Suspects, and probes made on behalf of others.
#[derive(Debug, Default)]
pub(crate) struct Suspects {
    // By suspect: the nonce of its probes.
    table: BTreeMap<NodeId, u64>,
    // By the nonce of our ping: who asked, with which nonce.
    for_others: BTreeMap<u64, (LinkId, u64)>,
}

impl Suspects {
    pub(crate) fn clear(&mut self, node: NodeId) {
        self.table.remove(&node);
    }
}

impl Node {
    // ---- our own record ----------------------------------------------------

    pub(crate) fn sign_own_record(&mut self) {
        let unsigned = self.own_facts().unsigned();
        let transcript = unsigned.transcript(&self.me.mesh);
        let job = self.jobs.add(Job::SignMember(unsigned));
        self.order(Output::Sign { job, transcript });
    }

    pub(crate) fn change_own_record(&mut self) {
        self.incarnation = self.incarnation.saturating_add(1);
        self.sign_own_record();
    }

    pub(crate) fn on_record_signed(&mut self, _now: Time, record: MemberRecord) {
        if record.facts().incarnation != self.incarnation {
            return; // a newer one is being signed
        }
        self.record = Some(record.clone());
        self.spread(&Member { status: MemberStatus::Alive, record }, None);
        let waiting: Vec<LinkId> = self
            .links
            .iter()
            .filter(|l| l.opened_by_us() && l.state == LinkState::Awaiting)
            .map(|l| l.id)
            .collect();
        for link in waiting {
            self.send_connect(link);
        }
    }

    // ---- gossip ------------------------------------------------------------

    /// Tells a new neighbor of every member, those that are gone included: it may know better.
    pub(crate) fn send_members(&mut self, id: LinkId) {
        let mut frames = Vec::new();
        let (mut chunk, mut bytes) = (Vec::new(), 0);
        for member in self.members.iter() {
            bytes += member.record.encoded_len();
            chunk.push(member.clone());
            if bytes >= MEMBERS_FRAME_BYTES || chunk.len() == peerchannel_wire::limits::POSITIONS_MAX {
                frames.push(ControlFrame::Members(std::mem::take(&mut chunk)));
                bytes = 0;
            }
        }
        if !chunk.is_empty() {
            frames.push(ControlFrame::Members(chunk));
        }
        for frame in frames {
            self.control(id, frame);
        }
    }

    fn spread(&mut self, member: &Member, except: Option<LinkId>) {
        for link in self.links.flooding_ids() {
            if Some(link) != except {
                self.control(link, ControlFrame::Members(vec![member.clone()]));
            }
        }
    }

    pub(crate) fn on_members(&mut self, now: Time, from: LinkId, members: Vec<Member>) {
        for member in members {
            self.on_member_statement(now, from, member.record, member.status);
        }
    }

    pub(crate) fn on_member_statement(
        &mut self,
        now: Time,
        from: LinkId,
        record: MemberRecord,
        status: MemberStatus,
    ) {
        if record.facts().node == self.me.node {
            return self.refute(&record, status);
        }
        let member = Member { status, record };
        if self.members.knows_record(&member.record) {
            return self.take_statement(now, from, member);
        }
        if !self.jobs.has_room(member.record.encoded_len()) {
            return self.overloaded("verifications");
        }
        let signer = member.record.facts().node;
        let transcript = member.record.transcript(&self.me.mesh);
        let signature = *member.record.signature();
        let job = self.jobs.add(Job::VerifyMember { from, member });
        self.order(Output::Verify { job, signer, transcript, signature });
    }

    pub(crate) fn on_member_verified(&mut self, now: Time, from: LinkId, member: Member, valid: bool) {
        if valid {
            return self.take_statement(now, from, member);
        }
        self.stats.bad_signatures += 1;
        // Whoever passes on a record has checked it, or should have.
        self.violation(now, from, "a member record with a bad signature");
    }

    fn take_statement(&mut self, now: Time, from: LinkId, member: Member) {
        let node = member.record.facts().node;
        if member.status != MemberStatus::Alive
            && member.record.facts().epoch
                >= self.members.get(node).map_or(member.record.facts().epoch, |m| m.record.facts().epoch)
            && let Some(link) = self.links.up_to(node)
            && link.id != from
        {
            // We talk to it right now: let it answer the report itself.
            let link = link.id;
            return self.control(link, ControlFrame::Members(vec![member]));
        }
        self.apply(now, Some(from), &member);
    }

    fn apply(&mut self, now: Time, from: Option<LinkId>, member: &Member) {
        let facts = member.record.facts().clone();
        let change = self.members.apply(member.clone(), now);
        match change {
            Change::Nothing => return,
            Change::Full => return self.overloaded("members"),
            Change::Contradicted => {
                // Its sender has not heard that the node is gone; perhaps we are wrong.
                let known = self.members.get(facts.node).cloned();
                if let (Some(known), Some(from)) = (known, from)
                    && self.links.get(from).is_some_and(|link| link.carries_floods())
                {
                    self.control(from, ControlFrame::Members(vec![known]));
                }
                return;
            }
            Change::Up => {
                self.tell(Event::MemberUp { node: facts.node, name: facts.name, epoch: facts.epoch });
            }
            Change::Facts => {}
            Change::Down => {
                let loss =
                    if member.status == MemberStatus::Left { MemberLoss::Left } else { MemberLoss::Failed };
                self.tell(Event::MemberDown { node: facts.node, name: facts.name, loss });
            }
        }
        if member.status == MemberStatus::Alive {
            if let Some(address) = member.record.address() {
                self.hear_of_member(now, &address);
            }
            self.member_places_changed(now);
        } else {
            self.forget_candidate(facts.node);
        }
        self.spread(member, from);
    }

    /// Someone believes that this node is gone, or knows an older state of it.
    fn refute(&mut self, record: &MemberRecord, status: MemberStatus) {
        let facts = record.facts();
        let about_now = facts.epoch == self.me.epoch && facts.incarnation >= self.incarnation;
        if about_now && status != MemberStatus::Alive && self.leaving == Leaving::No {
            self.incarnation = facts.incarnation;
            self.change_own_record();
        }
    }

    /// A member said goodbye to the join of this epoch; it may have joined again meanwhile.
    pub(crate) fn on_member_left(&mut self, now: Time, node: NodeId, epoch: Epoch) {
        if let Some(member) = self.members.get(node).filter(|m| m.record.facts().epoch == epoch).cloned() {
            self.apply(now, None, &Member { status: MemberStatus::Left, ..member });
        }
    }

    // ---- suspicion ---------------------------------------------------------

    /// A link broke without a goodbye.
    pub(crate) fn suspect(&mut self, now: Time, node: NodeId) {
        if !self.members.is_alive(node) || self.links.up_to(node).is_some() || self.leaving != Leaving::No {
            return;
        }
        let nonce = self.chance.number();
        self.suspects.table.insert(node, nonce);
        let asked = self.chance.sample(self.links.flooding_ids(), PROBES);
        let mut wait = if asked.is_empty() { ISOLATED_SUSPICION } else { PROBE_MIN };
        for id in asked {
            wait = wait.max(self.links.get(id).map_or(wait, |link| link.rtt * 4));
            self.control(id, ControlFrame::Probe { node, nonce, spread: false });
        }
        self.timers.set(Timer::Suspect(node), now + wait);
    }

    /// With a neighbor again, suspects of the time without are asked about once more.
    pub(crate) fn resume_suspicions(&mut self, now: Time) {
        let suspects: Vec<NodeId> = self.suspects.table.keys().copied().collect();
        for node in suspects {
            self.suspect(now, node);
        }
    }

    pub(crate) fn on_suspicion_deadline(&mut self, now: Time, node: NodeId) {
        if self.suspects.table.remove(&node).is_none() || self.links.up_to(node).is_some() {
            return;
        }
        if let Some(member) = self.members.get(node).cloned() {
            self.apply(now, None, &Member { status: MemberStatus::Failed, ..member });
        }
    }

    pub(crate) fn on_probe_result(&mut self, now: Time, from: LinkId, nonce: u64, answers: bool) {
        let _ = from;
        let Some(node) = self.suspects.table.iter().find(|(_, n)| **n == nonce).map(|(node, _)| *node) else {
            return;
        };
        if answers {
            // It lives; the maintainer will find it again if it is needed.
            self.suspects.clear(node);
            self.timers.cancel(&Timer::Suspect(node));
            self.timers.set_by(Timer::Maintain, now);
        }
    }

    /// A neighbor asks us about a third node.
    pub(crate) fn on_probe(&mut self, now: Time, from: LinkId, node: NodeId, nonce: u64) {
        let link = self.links.up_to(node).map(|link| (link.id, link.rtt));
        let Some((id, rtt)) = link else {
            return self.control(from, ControlFrame::ProbeResult { nonce, answers: false });
        };
        if self.suspects.for_others.len() >= PROBES_FOR_OTHERS_MAX {
            return self.overloaded("probes");
        }
        let ping = self.chance.number();
        self.suspects.for_others.insert(ping, (from, nonce));
        self.control(id, ControlFrame::Ping(ping));
        self.timers.set(Timer::Probe(ping), now + PROBE_MIN.max(rtt * 4));
    }

    pub(crate) fn on_probe_deadline(&mut self, ping: u64) {
        if let Some((from, nonce)) = self.suspects.for_others.remove(&ping) {
            self.answer_probe(from, nonce, false);
        }
    }

    pub(crate) fn on_pong(&mut self, now: Time, id: LinkId, nonce: u64) {
        if let Some((from, probe)) = self.suspects.for_others.remove(&nonce) {
            self.timers.cancel(&Timer::Probe(nonce));
            return self.answer_probe(from, probe, true);
        }
        let Some(link) = self.links.get_mut(id) else { return };
        if let Some((expected, sent)) = link.ping
            && expected == nonce
        {
            link.ping = None;
            link.rtt = now.since(sent);
            self.older_answers(now, id);
        }
    }

    fn answer_probe(&mut self, to: LinkId, nonce: u64, answers: bool) {
        if self.links.get(to).is_some_and(crate::link::Link::is_up) {
            self.control(to, ControlFrame::ProbeResult { nonce, answers });
        }
    }
}
