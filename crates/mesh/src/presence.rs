//! Presence: what a node says of itself, and what it makes of what others say of members.
//!
//! Statements travel by [`gossip`](crate::gossip), whole tables are compared by
//! [`roster`](crate::roster), and who stopped answering is judged by
//! [`suspicion`](crate::suspicion) (docs/protocol.md sections 3.10 and 5).

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use peerchannel_wire::limits::MEMBER_METADATA_MAX;
use peerchannel_wire::{
    Epoch, Features, LinkPurpose, Member, MemberFacts, MemberMark, MemberName, MemberRecord, MemberStatus,
    NodeId,
};
use thiserror::Error;

use crate::allowance::Allowance;
use crate::input::LinkId;
use crate::jobs::Job;
use crate::link::LinkState;
use crate::members::{Change, FACTS_INTERVAL, rank};
use crate::node::{Leaving, Node};
use crate::output::{Event, MemberLoss, Output};
use crate::time::Time;
use crate::timers::Timer;

/// Own changes that come closer together than this are one change.
const OWN_PAUSE: Duration = Duration::from_millis(100);

/// By when it is told at the latest that this node can be dialed. Nobody waits for it, and a
/// change of every record costs a mesh of a thousand as much as that all join once more: so it
/// goes with the next change, or takes its time. Until then those know that met the node.
const DIALABLE_WITHIN: Duration = Duration::from_secs(12 * 3600);

/// How often a node whose sample has room looks whether a finer one fits.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(5);

/// Reports that members are gone that a neighbor may bring at once, beside one of every member.
const ENDS_BURST: usize = 64;

/// In this time all of them come back: a mesh whose members all fail is told of in one burst.
const ENDS_WINDOW: Duration = Duration::from_secs(60);

/// Own refutations at once: what others pass on of one member.
const REFUTATIONS_BURST: usize = 5;

/// In this time they come back; beyond, one a second.
const REFUTATIONS_WINDOW: Duration = Duration::from_secs(5);

/// What a refutation beyond the burst waits.
const REFUTATION_PAUSE: Duration = Duration::from_secs(1);

/// Over how long those that belong to a finer sample again say so.
const ANNOUNCE_WITHIN: Duration = Duration::from_secs(3);

/// Metadata that is too long. Nothing has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("metadata of {size} bytes: a member may have {limit}, because every member keeps it")]
#[non_exhaustive]
pub struct MetadataTooLong {
    /// Its size.
    pub size: usize,
    /// The limit.
    pub limit: usize,
}

impl Node {
    // ---- our own record ----------------------------------------------------

    /// Shows another name from now on. Changes within a tenth of a second are one.
    pub fn set_name(&mut self, now: Time, name: MemberName) {
        if self.me.name != name {
            self.me.name = name;
            self.change_own_record(now, Duration::ZERO);
        }
    }

    /// Says something of this node to all members, in place of what was said before: at most
    /// 512 bytes, which every member keeps. Changes within a tenth of a second are one; more
    /// than one a second, after the first five, may take seconds to spread.
    ///
    /// # Errors
    /// [`MetadataTooLong`], and nothing changes.
    pub fn set_metadata(&mut self, now: Time, metadata: Bytes) -> Result<(), MetadataTooLong> {
        if metadata.len() > MEMBER_METADATA_MAX {
            return Err(MetadataTooLong { size: metadata.len(), limit: MEMBER_METADATA_MAX });
        }
        if self.metadata != metadata {
            self.metadata = metadata;
            self.change_own_record(now, Duration::ZERO);
        }
        Ok(())
    }

    pub(crate) fn own_facts(&self) -> MemberFacts {
        MemberFacts {
            addresses: self.me.addresses.clone(),
            metadata: self.metadata.clone(),
            dialable: self.dialable,
            suspended: self.is_suspended(),
            ..MemberFacts::new(self.me.node, self.me.epoch, self.incarnation, self.me.name.clone())
        }
    }

    pub(crate) fn sign_own_record(&mut self) {
        let unsigned = self.own_facts().unsigned();
        let transcript = unsigned.transcript(&self.me.mesh);
        let job = self.jobs.add(Job::SignMember(unsigned));
        self.order(Output::Sign { job, transcript });
    }

    /// Has a change signed and told, with whatever else changes by then.
    pub(crate) fn change_own_record(&mut self, now: Time, within: Duration) {
        let at = (now + within).max(self.own_changed + OWN_PAUSE);
        self.timers.set_by(Timer::OwnRecord, at);
    }

    pub(crate) fn on_own_record_due(&mut self, now: Time) {
        self.own_changed = now;
        self.incarnation = self.incarnation.saturating_add(1);
        self.sign_own_record();
    }

    pub(crate) fn on_record_signed(&mut self, now: Time, record: MemberRecord) {
        if record.facts().incarnation != self.incarnation {
            return; // a newer one is being signed
        }
        let suspended = record.facts().suspended;
        self.record = Some(record);
        self.spread(now, self.me.node, None);
        if suspended {
            return self.go_on_break(now);
        }
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

    /// Somebody dialed this node: whoever is to be checked by a dial may be.
    pub(crate) fn found_dialable(&mut self, now: Time) {
        if !std::mem::replace(&mut self.dialable, true) {
            let within = self.chance.within(DIALABLE_WITHIN);
            self.change_own_record(now, within);
        }
    }

    // ---- what others say ---------------------------------------------------

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
        let node = record.facts().node;
        if node == self.me.node {
            return self.refute(now, &record, status);
        }
        let member = Member { status, record };
        let known = self.members.get(node);
        if status == MemberStatus::Alive && known.is_some_and(|known| rank(known) == rank(&member)) {
            // What most neighbors say of a change: the same as the first.
            return self.settle(from, node);
        }
        let news = known.is_none_or(|known| rank(&member) > rank(known));
        let verified = known.is_some_and(|known| known.record == member.record);
        if status != MemberStatus::Alive && news && !self.may_report_end(now, from) {
            return self.overloaded("reports of members that are gone");
        }
        if verified || !self.members.is_news(&member, || self.links.reaches(node)) {
            return self.take_statement(now, from, member);
        }
        if !self.jobs.has_room(member.record.encoded_len()) {
            return self.overloaded("verifications");
        }
        let transcript = member.record.transcript(&self.me.mesh);
        let signature = *member.record.signature();
        let job = self.jobs.add(Job::VerifyMember { from, member });
        self.order(Output::Verify { job, signer: node, transcript, signature });
    }

    pub(crate) fn on_member_verified(&mut self, now: Time, from: LinkId, member: Member, valid: bool) {
        if valid {
            return self.take_statement(now, from, member);
        }
        self.stats.bad_signatures += 1;
        // Whoever passes on a record has checked it, or should have.
        self.violation(now, from, "a member record with a bad signature");
    }

    /// Whether a neighbor may tell of one more member that is gone: others tell it too, and what
    /// is missed shows when tables are compared.
    fn may_report_end(&mut self, now: Time, from: LinkId) -> bool {
        let burst = ENDS_BURST + self.members.len();
        self.links.get_mut(from).is_some_and(|link| link.debt.ends.take(now, burst, ENDS_WINDOW))
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
            if self.links.get(link).is_none_or(|link| link.purpose == LinkPurpose::Direct) {
                // A link for direct messages carries no statements: it is asked across the mesh.
                let mark = MemberMark { status: MemberStatus::Failed, ..MemberMark::of(&member) };
                return self.doubt(now, from, mark);
            }
            return self.control(link, peerchannel_wire::ControlFrame::Members(vec![member]));
        }
        self.apply(now, Some(from), &member);
    }

    pub(crate) fn apply(&mut self, now: Time, from: Option<LinkId>, member: &Member) {
        let record = member.record.clone();
        let facts = record.facts();
        let node = facts.node;
        let level = self.members.level();
        // Of one that is known the table knows it.
        let linked = self.members.get(node).is_none() && self.links.reaches(node);
        let change = self.members.apply(member.clone(), linked, now);
        self.rumors.note_heard(node);
        // Of a sample the application hears; a neighbor outside it is a neighbor, no more.
        let inside = self.members.is_inside(node);
        if self.members.level() != level {
            self.timers.set_by(Timer::Sample, now + SAMPLE_INTERVAL);
        }
        match change {
            Change::Nothing => return from.into_iter().for_each(|from| self.settle(from, node)),
            Change::Outside => return,
            Change::Contradicted => return self.contradict(now, from, node),
            // It was there all along: only this node's sight grew.
            Change::Up if inside && self.members.is_added(node, now) => {}
            Change::Up | Change::Back if inside => {
                self.tell(Event::MemberUp { node, name: facts.name.clone(), epoch: facts.epoch });
            }
            Change::Facts if inside => self.tell(Event::MemberChanged { node, name: facts.name.clone() }),
            Change::Down if inside => {
                let left = member.status == MemberStatus::Left;
                let loss = if left { MemberLoss::Left } else { MemberLoss::Failed };
                self.tell(Event::MemberDown { node, name: facts.name.clone(), loss });
                if !left && self.reservoir.lost_member(now, self.members.alive()) {
                    self.split_suspected(now);
                }
            }
            // Told as failed already, and gone in any case.
            Change::Left => {}
            Change::Restated | Change::Up | Change::Back | Change::Facts | Change::Down => {}
        }
        if let Some(from) = from {
            self.settle(from, node);
        }
        if member.status == MemberStatus::Alive {
            self.acquit(node);
            if let Some(address) = member.record.address()
                && !facts.suspended
            {
                if self.members.is_complete() || self.links.reaches(node) {
                    self.hear_of_member(now, &address);
                }
                self.reservoir.remember(&record, now);
            }
            self.member_places_changed(now);
        } else {
            self.forget_candidate(node);
        }
        if facts.suspended {
            self.forget_candidate(node);
            self.fail_directs_to_suspended(node);
        }
        // A neighbor outside the sample is nobody else's business.
        if !inside {
            return;
        }
        // Whoever may raise its incarnation may also raise its epoch.
        let again = matches!(change, Change::Facts | Change::Restated | Change::Back);
        if again && !self.members.may_pass_facts(node, now) {
            self.withheld.insert(node);
            return self.timers.set_by(Timer::Withheld, now + FACTS_INTERVAL);
        }
        self.spread(now, node, from);
    }

    /// The sender of a statement has not heard that the member is gone. Perhaps we are wrong.
    fn contradict(&mut self, now: Time, from: Option<LinkId>, node: NodeId) {
        let Some(known) = self.members.get(node) else { return };
        let mark = MemberMark::of(known);
        let Some(link) = from.and_then(|from| self.links.get(from)) else { return };
        let (id, compares) = (link.id, link.features.contains(Features::MEMBERSHIP));
        if compares && mark.status == MemberStatus::Failed {
            self.owe_doubt(now, id, mark);
        } else {
            self.owe_records(now, id, [node]);
        }
    }

    /// Passes on the changes of members that changed too often, as they now stand.
    pub(crate) fn spread_withheld(&mut self, now: Time) {
        for node in std::mem::take(&mut self.withheld) {
            if self.members.may_pass_facts(node, now) {
                self.spread(now, node, None);
            } else {
                self.withheld.insert(node);
                self.timers.set_by(Timer::Withheld, now + FACTS_INTERVAL);
            }
        }
    }

    /// Keeps a finer sample where the mesh shrank. Those it adds tell of themselves.
    pub(crate) fn refine_sample(&mut self, now: Time) {
        if self.members.is_complete() {
            return;
        }
        let outside = !self.members.is_inside(self.me.node);
        let bound = self.members.bound;
        // Down at once to what neighbors keep, a level at a time below that.
        if let Some(claimed) = self.claimed_level(false)
            && self.members.has_room()
            && claimed + 1 < self.members.level()
        {
            self.members.set_level(claimed + 1);
        }
        if self.members.lower_level() {
            for id in self.links.flooding_ids() {
                if let Some(link) = self.links.get_mut(id) {
                    link.debt.compare_at = now;
                }
            }
            if outside && self.members.is_inside(self.me.node) {
                let within = self.chance.within(ANNOUNCE_WITHIN);
                self.change_own_record(now, within);
            }
        }
        if self.members.bound > bound {
            self.members.note_widened(bound, now);
        }
        let pause = self.chance.jitter(SAMPLE_INTERVAL);
        self.timers.set(Timer::Sample, now + pause);
    }

    /// Someone believes that this node is gone, or knows an older state of it. A higher
    /// incarnation than its own is not from it, and proves nothing.
    fn refute(&mut self, now: Time, record: &MemberRecord, status: MemberStatus) {
        let facts = record.facts();
        let about_now = (facts.epoch, facts.incarnation) == (self.me.epoch, self.incarnation);
        if about_now && status != MemberStatus::Alive && self.leaving == Leaving::No {
            self.refute_within(now, Duration::ZERO);
        }
    }

    /// Has a new incarnation told within a time, or as soon as others would pass it on.
    pub(crate) fn refute_within(&mut self, now: Time, within: Duration) {
        self.stats.refutations += 1;
        if self.refuting.incarnation != Some(self.incarnation) {
            let able = self.refuting.allowance.take(now, REFUTATIONS_BURST, REFUTATIONS_WINDOW);
            self.refuting.incarnation = Some(self.incarnation);
            self.refuting.not_before = if able { now } else { now + REFUTATION_PAUSE };
        }
        let within = within.max(self.refuting.not_before.since(now));
        self.change_own_record(now, within);
    }

    /// Whoever suspended and did not come back is called failed by those that know it longest.
    pub(crate) fn give_up_suspended(&mut self, now: Time) {
        if self.is_suspended() || self.leaving != Leaving::No {
            return; // nobody hears it
        }
        for member in self.members.overdue(now) {
            self.stats.members_failed += 1;
            self.apply(now, None, &Member { status: MemberStatus::Failed, ..member });
        }
    }

    /// A member said goodbye to the join of this epoch; it may have joined again meanwhile.
    pub(crate) fn on_member_left(&mut self, now: Time, node: NodeId, epoch: Epoch) {
        if let Some(member) = self.members.get(node).filter(|m| m.record.facts().epoch == epoch).cloned() {
            self.apply(now, None, &Member { status: MemberStatus::Left, ..member });
            self.members.set_linked(node, false);
            // Its own word. Others say the same unsigned, and could keep a split from healing.
            self.reservoir.forget(node);
        }
    }

    pub(crate) fn on_pong(&mut self, now: Time, id: LinkId, nonce: u64) {
        if self.confirmed(id, nonce) {
            return;
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
}

/// Which own incarnation is being refuted, and from when on that may be told.
#[derive(Debug, Default)]
pub(crate) struct Refuting {
    incarnation: Option<u32>,
    not_before: Time,
    allowance: Allowance,
}

/// Members whose changes wait for their turn.
pub(crate) type Withheld = BTreeSet<NodeId>;
