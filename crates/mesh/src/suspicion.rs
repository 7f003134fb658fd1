//! Suspicion: how a member is judged to have failed, and how it is saved from a false verdict.
//!
//! ```text
//!   link lost while this node was stopped ─> Excused ── if nobody else is left to know ─┐
//!   a doubt of others; link lost just after a pause ─> Doubted ── at the deadline ──────┤
//!   link lost, audit failed ────────────────────────────────────────────────────────────┤
//!          ┌────────────────────────────────────────────────────────────────────────────┘
//!          v           somebody has a link to it
//!       Asking ───────────────────────────────────> Vouched ── 12 s, then 5 min ──> Asking
//!          │   │ the same, the third time
//!          │   └──────────────────────────────────> Summoned
//!          │ nobody spoke for it in time              │
//!          v                                          │
//!        failed <───────── it says nothing ───────────┘
//! ```
//! Whatever the member says itself ends the suspicion in every state.
//!
//! Whoever loses a link asks everybody: its neighbors, which ask theirs, each question once. A
//! node with a link to the suspect, and the suspect itself, say so, and the
//! answer takes the same way back. A link that is up only because its end has not noticed yet
//! vouches too: that end asks when it notices, and the last one to notice finds nobody left to
//! vouch. So a crash costs a few small floods and at most the slowest link's time-out, and a
//! node that merely paused, or lost some of its links, is not reported (docs/protocol.md
//! section 3.10).

use std::collections::BTreeMap;
use std::time::Duration;

use peerchannel_wire::{ControlFrame, Epoch, Member, MemberMark, MemberStatus, NodeId};

use crate::health::LATE;
use crate::input::LinkId;
use crate::node::{Leaving, Node};
use crate::time::Time;
use crate::timers::Timer;

/// Shortest wait for answers where every member is a neighbor.
const WAIT_NEAR: Duration = Duration::from_millis(300);

/// Shortest wait where the question has to cross the mesh, and back.
const WAIT_SPREAD: Duration = Duration::from_secs(1);

/// Longest wait of a healthy node: with the 9.5 s of a slow time-out everybody knows of a
/// crash after 15 s.
const WAIT_MAX: Duration = Duration::from_secs(3);

/// How long a node without neighbors waits before it believes that the last ones failed, times
/// its local health: it may be this node's own network that is gone, and with a neighbor it asks
/// again.
const ISOLATED_SUSPICION: Duration = Duration::from_secs(3);

/// A member that only others vouch for is asked about once more after this: longer than the
/// slowest link takes to notice (9.5 s).
const VOUCHED_AGAIN: Duration = Duration::from_secs(12);

/// One that is vouched for then too is asked about a last time after this.
const VOUCHED_LAST: Duration = Duration::from_secs(300);

/// So often others' answers save a member that says nothing itself. After that it must speak:
/// an answer is not signed, and whoever gives it may be wrong about a link, or lie.
const VOUCHES_MAX: u8 = 3;

/// Members of which is remembered how often they were vouched for. Beyond, the count of one
/// begins anew.
const VOUCHES_KEPT_MAX: usize = 1024;

/// How long a member may take that is told to speak for itself, beside what its answer may wait:
/// the doubt crosses the mesh, the member may stand still for as long as no link notices (6 s),
/// and the answer comes back.
const SUMMONS: Duration = Duration::from_secs(10);

/// How long a question is remembered, so that its answers find back.
const QUESTION_LIFETIME: Duration = Duration::from_secs(5);

/// Most questions of others remembered at once: a third of a thousand members crashing together.
/// Beyond, new ones are not passed on, which can only cost a refutation later; but who asked
/// less than another takes a place of that one's, so that no neighbor keeps all for itself.
const QUESTIONS_MAX: usize = 1024;

/// Most neighbors one answer goes back to: each may ask.
const ASKERS_MAX: usize = crate::config::NEIGHBORS_MAX;

/// A question by whom it is about and its nonce. Copies of it are known by both: who takes
/// another's nonce for a question about somebody else keeps nobody from asking.
type QuestionKey = (u64, NodeId);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// To be asked about at the deadline.
    Doubted,
    /// Its link was lost while this node was stopped, or changed its network: that says nothing
    /// of it. To be asked about at the deadline only if there is nobody else to know.
    Excused,
    /// Asked about; failed at the deadline.
    Asking,
    /// Somebody has a link to it.
    Vouched,
    /// It was vouched for too often: failed at the deadline, unless it says something itself.
    Summoned,
}

/// How often a suspect was vouched for on end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// Never: its link was lost.
    First,
    /// Once.
    Again,
    /// Twice; or this node lost nothing of it, and one answer is enough.
    Last,
}

#[derive(Debug)]
struct Suspect {
    stage: Stage,
    due: Time,
    asked: Asked,
}

#[derive(Debug)]
struct Question {
    // Who wants to know.
    askers: Vec<LinkId>,
    /// Who asked first; nobody if this node wants to know itself.
    first: Option<LinkId>,
    since: Time,
    /// Somebody vouched.
    answered: bool,
}

/// Suspects, and questions on their way. Bounded by the member table
/// (suspects, and one own question each at a time) and `QUESTIONS_MAX` (questions of others).
#[derive(Debug, Default)]
pub(crate) struct Suspects {
    table: BTreeMap<NodeId, Suspect>,
    /// How often others vouched for one statement of a member. Bounded by `VOUCHES_KEPT_MAX`.
    vouches: BTreeMap<NodeId, ((Epoch, u32), u8)>,
    questions: BTreeMap<QuestionKey, Question>,
    // Invariant: how many questions each link asked first; none without any.
    shares: BTreeMap<LinkId, usize>,
}

impl Suspects {
    fn remember(&mut self, key: QuestionKey, question: Question) {
        if let Some(link) = question.first {
            *self.shares.entry(link).or_default() += 1;
        }
        self.questions.insert(key, question);
    }

    fn forget(&mut self, key: QuestionKey) {
        let Some(Question { first: Some(link), .. }) = self.questions.remove(&key) else { return };
        if let Some(share) = self.shares.get_mut(&link) {
            *share -= 1;
            if *share == 0 {
                self.shares.remove(&link);
            }
        }
    }

    /// Whether there is room for one more question of a neighbor, and which has to go for it.
    fn room_for(&self, link: LinkId) -> (bool, Option<QuestionKey>) {
        if self.shares.values().sum::<usize>() < QUESTIONS_MAX {
            return (true, None);
        }
        let own = self.shares.get(&link).copied().unwrap_or(0);
        let loudest = self.shares.iter().max_by_key(|(_, share)| **share);
        let Some((loudest, _)) = loudest.filter(|(_, share)| **share > own + 1) else {
            return (false, None);
        };
        let of_loudest = self.questions.iter().filter(|(_, question)| question.first == Some(*loudest));
        let oldest = of_loudest.min_by_key(|(key, question)| (question.since, **key));
        (oldest.is_some(), oldest.map(|(key, _)| *key))
    }

    /// Others vouched for this statement of a member. Tells whether that is enough.
    fn count_vouch(&mut self, node: NodeId, statement: (Epoch, u32)) -> bool {
        if self.vouches.len() >= VOUCHES_KEPT_MAX && !self.vouches.contains_key(&node) {
            self.vouches.pop_first();
        }
        let (of, count) = self.vouches.entry(node).or_insert((statement, 0));
        if *of != statement {
            (*of, *count) = (statement, 0);
        }
        *count += 1;
        *count >= VOUCHES_MAX
    }

    /// Suspects now.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    pub(crate) fn is_none_of(&self, node: NodeId) -> bool {
        !self.table.contains_key(&node)
    }

    /// Whether a question is remembered.
    pub(crate) fn asks(&self, nonce: u64, node: NodeId) -> bool {
        self.questions.contains_key(&(nonce, node))
    }

    /// The questions of one nonce: one, unless somebody took it for another.
    fn of_nonce(&self, nonce: u64) -> Vec<QuestionKey> {
        let ids = [NodeId::from_bytes([0; 32]), NodeId::from_bytes([0xff; 32])];
        self.questions.range((nonce, ids[0])..=(nonce, ids[1])).map(|(key, _)| *key).collect()
    }

    /// Stops a debug build if an invariant does not hold.
    pub(crate) fn check(&self) {
        let others = self.questions.values().filter(|question| question.first.is_some()).count();
        debug_assert!(others <= QUESTIONS_MAX, "{others} questions of others");
        debug_assert!(others == self.shares.values().sum(), "the shares are not as counted");
        let askers = self.questions.values().map(|question| question.askers.len()).max();
        debug_assert!(askers.unwrap_or(0) <= ASKERS_MAX, "{askers:?} ask one question");
    }

    pub(crate) fn clear(&mut self, node: NodeId) -> bool {
        self.table.remove(&node).is_some()
    }

    /// The question of this node itself about another.
    fn own_question(&self, node: NodeId) -> Option<u64> {
        let own = |key: &QuestionKey, question: &Question| key.1 == node && question.first.is_none();
        self.questions.iter().find(|(key, question)| own(key, question)).map(|(key, _)| key.0)
    }
}

impl Node {
    /// A member may have failed: others are asked. Tells whether it is a suspect now.
    pub(crate) fn suspect(&mut self, now: Time, node: NodeId) -> bool {
        if !self.may_be_suspected(node) {
            return false;
        }
        if now < self.withheld_until {
            // After a pause this node's own links come first.
            let stage = if self.own_fault { Stage::Excused } else { Stage::Doubted };
            return self.set_suspect(node, stage, self.withheld_until, Asked::First);
        }
        self.ask_about(now, node, Asked::First)
    }

    /// Asks about a member that this node lost nothing of. One answer is enough: who has a link
    /// that is dead and not noticed yet asks by itself.
    pub(crate) fn check_on(&mut self, now: Time, node: NodeId) {
        if self.may_be_suspected(node) && self.suspects.is_none_of(node) && now >= self.withheld_until {
            self.ask_about(now, node, Asked::Last);
        }
    }

    fn may_be_suspected(&self, node: NodeId) -> bool {
        let member = self.members.get(node);
        member.is_some_and(crate::members::is_present)
            // Nobody but its neighbors knows it, and nobody is to be told.
            && self.members.is_inside(node)
            && self.links.up_to(node).is_none()
            && self.leaving == Leaving::No
            && !self.is_resting()
    }

    /// A doubt about a member was passed on: if it does not answer, it is asked about.
    pub(crate) fn suspect_unless_answered(&mut self, now: Time, node: NodeId, within: Duration) {
        let suspect = self.suspects.table.get(&node);
        // A doubt of others is evidence, which this node's own sleep was not.
        let free = suspect.is_none_or(|suspect| suspect.stage == Stage::Excused);
        if free && self.may_be_suspected(node) {
            self.set_suspect(node, Stage::Doubted, now + within, Asked::First);
        }
    }

    fn set_suspect(&mut self, node: NodeId, stage: Stage, due: Time, asked: Asked) -> bool {
        self.suspects.table.insert(node, Suspect { stage, due, asked });
        self.timers.set(Timer::Suspect(node), due);
        true
    }

    fn ask_about(&mut self, now: Time, node: NodeId, asked: Asked) -> bool {
        let links = self.links.flooding_ids();
        self.set_suspect(node, Stage::Asking, now + self.patience(now), asked);
        self.ask(now, node, None, links);
        true
    }

    /// How long answers are waited for.
    fn patience(&self, now: Time) -> Duration {
        let links = self.links.flooding().count();
        let slowest = self.links.flooding().map(|link| link.rtt).max().unwrap_or_default();
        if links == 0 {
            // Nobody is asked: this is how long a neighbor may take to come.
            return ISOLATED_SUSPICION * self.health.factor(now);
        }
        let base = if self.members.alive() <= links + 1 {
            (slowest * 4).max(WAIT_NEAR)
        } else {
            (slowest * 8).max(WAIT_SPREAD)
        };
        // After that the question is forgotten, here and on the way.
        (base.min(WAIT_MAX) * self.health.factor(now)).min(QUESTION_LIFETIME)
    }

    /// Sends a question on, for this node or for the one that asked it.
    fn ask(&mut self, now: Time, node: NodeId, asker: Option<(LinkId, u64)>, links: Vec<LinkId>) {
        if links.is_empty() {
            return;
        }
        // Its own are few, one for each suspect: without them it would accuse unasked.
        if let Some((from, _)) = asker {
            let (room, instead) = self.suspects.room_for(from);
            if !room {
                return self.overloaded("probes");
            }
            if let Some((nonce, node)) = instead {
                self.forget_question(nonce, node);
            }
        }
        // A question keeps its nonce from node to node, so that its copies are known as such.
        let nonce = asker.map_or_else(|| self.chance.number(), |(_, nonce)| nonce);
        let question = Question {
            askers: asker.into_iter().map(|(link, _)| link).collect(),
            first: asker.map(|(link, _)| link),
            since: now,
            answered: false,
        };
        self.suspects.remember((nonce, node), question);
        self.timers.set(Timer::Probe(nonce, node), now + QUESTION_LIFETIME);
        for id in links {
            let Some(link) = self.links.get(id) else { continue };
            let spread = link.compares();
            self.control(id, ControlFrame::Probe { node, nonce, spread });
        }
    }

    /// A copy of a question that was passed on already.
    fn on_copy(&mut self, node: NodeId, nonce: u64, from: LinkId) {
        let Some(question) = self.suspects.questions.get_mut(&(nonce, node)) else { return };
        if question.answered {
            self.answer_probe(from, nonce, true);
        } else if question.askers.len() < ASKERS_MAX && !question.askers.contains(&from) {
            question.askers.push(from);
        }
    }

    pub(crate) fn forget_question(&mut self, nonce: u64, node: NodeId) {
        self.suspects.forget((nonce, node));
        self.timers.cancel(&Timer::Probe(nonce, node));
    }

    /// A link came up. Its peer may know of suspects what those who were asked so far, perhaps
    /// as cut off as this node was, do not: it is asked too, and its answer waited for.
    pub(crate) fn resume_suspicions(&mut self, now: Time, new: LinkId) {
        let asking = |suspect: &Suspect| suspect.stage == Stage::Asking;
        let suspects: Vec<NodeId> =
            self.suspects.table.iter().filter(|(_, s)| asking(s)).map(|(node, _)| *node).collect();
        if suspects.is_empty() {
            return;
        }
        if self.links.flooding().count() == 1 {
            // Whoever was asked is gone, and what they were asked too.
            let own = self.suspects.questions.iter().filter(|(_, question)| question.first.is_none());
            let own: Vec<QuestionKey> = own.map(|(key, _)| *key).collect();
            for (nonce, node) in own {
                self.forget_question(nonce, node);
            }
            for node in suspects {
                self.suspect(now, node);
            }
            return;
        }
        let spread = self.links.get(new).is_some_and(crate::link::Link::compares);
        let until = now + self.patience(now);
        for node in suspects {
            let Some(nonce) = self.suspects.own_question(node) else { continue };
            self.control(new, ControlFrame::Probe { node, nonce, spread });
            if let Some(suspect) = self.suspects.table.get(&node) {
                let (due, asked) = (suspect.due.max(until), suspect.asked);
                self.set_suspect(node, Stage::Asking, due, asked);
            }
        }
    }

    pub(crate) fn on_suspicion_deadline(&mut self, now: Time, node: NodeId) {
        let Some(suspect) = self.suspects.table.remove(&node) else { return };
        if !self.may_be_suspected(node) {
            return;
        }
        let Suspect { stage, due, asked } = suspect;
        let late = now.since(due) > LATE;
        if now < self.withheld_until {
            let stage = if stage == Stage::Excused { stage } else { Stage::Doubted };
            self.set_suspect(node, stage, self.withheld_until, asked);
        } else if stage == Stage::Excused && self.links.flooding().next().is_some() {
            // Its other neighbors miss it if it is gone, and tell.
            self.members.set_linked(node, false);
        } else if matches!(stage, Stage::Asking | Stage::Summoned) && !late {
            self.conclude(now, node);
        } else {
            // An answer may have come while this node was not listening.
            self.ask_about(now, node, asked);
        }
    }

    fn conclude(&mut self, now: Time, node: NodeId) {
        if let Some(member) = self.members.get(node).cloned() {
            self.stats.members_failed += 1;
            self.apply(now, None, &Member { status: MemberStatus::Failed, ..member });
        }
        self.members.set_linked(node, false);
    }

    pub(crate) fn on_probe_result(&mut self, now: Time, nonce: u64, answers: bool) {
        if !answers {
            return; // it has no link to the node: that says nothing
        }
        for key in self.suspects.of_nonce(nonce) {
            let Some(question) = self.suspects.questions.get_mut(&key) else { continue };
            question.answered = true;
            let own = question.first.is_none();
            let askers = std::mem::take(&mut question.askers);
            for link in askers {
                self.answer_probe(link, nonce, true);
            }
            if own {
                self.vouched(now, key.1);
            }
        }
    }

    /// A link to a node came up: whoever asked about it lately is told.
    pub(crate) fn answer_questions(&mut self, node: NodeId) {
        let of_node = self.suspects.questions.iter_mut().filter(|(key, _)| key.1 == node);
        let waiting: Vec<(u64, Vec<LinkId>)> =
            of_node.map(|(key, question)| (key.0, std::mem::take(&mut question.askers))).collect();
        for (nonce, askers) in waiting {
            for link in askers {
                self.answer_probe(link, nonce, true);
            }
        }
    }

    /// Somebody has a link to a suspect.
    fn vouched(&mut self, now: Time, node: NodeId) {
        let Some(suspect) = self.suspects.table.get(&node) else { return };
        if suspect.stage != Stage::Asking {
            return;
        }
        self.stats.suspects_vouched += 1;
        let asked = suspect.asked;
        let enough = self.members.get(node).map(MemberMark::of).is_some_and(|mark| {
            self.suspects.count_vouch(node, (mark.epoch, mark.incarnation)) && self.summon(now, mark)
        });
        match asked {
            _ if enough => {}
            Asked::First => _ = self.set_suspect(node, Stage::Vouched, now + VOUCHED_AGAIN, Asked::Again),
            Asked::Again => _ = self.set_suspect(node, Stage::Vouched, now + VOUCHED_LAST, Asked::Last),
            Asked::Last => {
                self.suspects.clear(node);
                self.timers.cancel(&Timer::Suspect(node));
                self.members.set_linked(node, false);
            }
        }
        // The maintainer will find it again if it is needed.
        self.timers.set_by(Timer::Maintain, now);
    }

    /// A member must say something itself: a doubt goes to everybody. Tells whether one could.
    fn summon(&mut self, now: Time, mark: MemberMark) -> bool {
        if !self.doubt_openly(now, MemberMark { status: MemberStatus::Failed, ..mark }) {
            return false;
        }
        let due = now + SUMMONS + self.answer_spread() + self.patience(now);
        self.set_suspect(mark.node, Stage::Summoned, due, Asked::Last)
    }

    /// A member said something itself: it is no suspect.
    pub(crate) fn acquit(&mut self, node: NodeId) {
        if self.suspects.clear(node) {
            self.stats.suspects_refuted += 1;
            self.timers.cancel(&Timer::Suspect(node));
            // As a suspect it was kept for the link it had.
            if self.links.up_to(node).is_none() {
                self.members.set_linked(node, false);
            }
        }
    }

    /// A neighbor asks about a third node.
    pub(crate) fn on_probe(&mut self, now: Time, from: LinkId, node: NodeId, nonce: u64, spread: bool) {
        let answers = node == self.me.node || self.links.up_to(node).is_some();
        if answers {
            return self.answer_probe(from, nonce, true);
        }
        if !spread {
            return self.answer_probe(from, nonce, false);
        }
        if self.suspects.asks(nonce, node) {
            return self.on_copy(node, nonce, from);
        }
        let others: Vec<LinkId> =
            self.links.iter().filter(|link| link.compares() && link.id != from).map(|link| link.id).collect();
        self.ask(now, node, Some((from, nonce)), others);
    }

    fn answer_probe(&mut self, to: LinkId, nonce: u64, answers: bool) {
        if self.links.get(to).is_some_and(crate::link::Link::is_up) {
            self.control(to, ControlFrame::ProbeResult { nonce, answers });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(nonce: u64) -> QuestionKey {
        (nonce, NodeId::from_bytes([1; 32]))
    }

    fn question(first: u64, millis: u64) -> Question {
        Question {
            askers: Vec::new(),
            first: Some(LinkId(first)),
            since: Time::ZERO + Duration::from_millis(millis),
            answered: false,
        }
    }

    #[test]
    fn a_neighbor_that_asks_without_end_does_not_keep_others_from_asking() {
        let mut suspects = Suspects::default();
        for nonce in 0..QUESTIONS_MAX as u64 {
            assert_eq!(suspects.room_for(LinkId(1)), (true, None));
            suspects.remember(key(nonce), question(1, 5000 - nonce));
        }
        assert_eq!(suspects.room_for(LinkId(1)), (false, None), "as many as there may be");
        // Others take places of its, the oldest question's first, until all have as many.
        for nonce in 5000..9000 {
            let (room, instead) = suspects.room_for(LinkId(2));
            if !room {
                break;
            }
            assert_eq!(instead, Some(key(QUESTIONS_MAX as u64 - 1 - (nonce - 5000))));
            suspects.forget(instead.unwrap());
            suspects.remember(key(nonce), question(2, 0));
            suspects.check();
        }
        let half = QUESTIONS_MAX / 2;
        assert_eq!(suspects.shares.values().copied().collect::<Vec<_>>(), [half, half]);
        let (room, instead) = suspects.room_for(LinkId(3));
        assert!(room && instead.is_some());
    }
}
