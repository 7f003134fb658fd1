//! Member digests: neighbors compare their member tables, and two parts of a mesh become one.
//!
//! As with streams ([`reconcile`](crate::reconcile)), sums over ranges are compared, ranges
//! that differ are split, and small ones are listed. What one end lacks or knows an older
//! state of, it is sent. Where one end says *failed* and the other *alive* of the same
//! statement, neither is right by rank: the member itself is asked, by a *doubt* that is
//! passed on to everybody once, and its next statement settles it at both ends. So a mesh that
//! was split, and whose halves buried each other, mends at the cost of one statement per
//! member, and nobody is reported as failed for it again (docs/protocol.md section 5.3).

use std::time::Duration;

use peerchannel_wire::limits::POSITIONS_MAX;
use peerchannel_wire::{
    ControlFrame, MemberContent, MemberDigest, MemberMark, MemberRange, MemberStatus, MemberSum, NodeId,
};

use crate::compared::Range;
use crate::input::LinkId;
use crate::members::rank_of;
use crate::node::{Leaving, Node};
use crate::output::Event;
use crate::table::Row;
use crate::time::Time;
use crate::timers::Timer;

/// Pause between two comparisons on a link that agreed: below the longest pause of stream
/// digests, with one of which each travels.
const COMPARE_AGREED: Duration = Duration::from_secs(22);

/// The same after a difference was found.
const COMPARE_AGAIN: Duration = Duration::from_secs(5);

/// Up to this many marks are listed at once; more are split into parts.
const LISTED: usize = 64;

/// Into how many parts a range is split.
const PARTS: usize = 16;

/// A table with no more members than this in a range is told the whole range unasked.
const NEARLY_EMPTY: u32 = 4;

/// A doubt about one member is passed on this often at most: long enough for its answer.
const DOUBT_PAUSE: Duration = Duration::from_secs(10);

/// A doubt that the member did not answer becomes a suspicion after this and the longest time
/// its answer may take.
const DOUBT_LIMIT: Duration = Duration::from_secs(3);

/// Doubts that a neighbor may bring at once, beside one of every member: two halves that buried
/// each other meet at one link.
const DOUBTS_BURST: usize = 64;

/// In this time all of them come back.
const DOUBTS_WINDOW: Duration = Duration::from_secs(300);

/// Longest time over which the answers to doubts are spread, and what each member adds to it:
/// a thousand members that were all called failed answer within two seconds.
const ANSWER_SPREAD_MAX: Duration = Duration::from_secs(5);
const ANSWER_SPREAD: Duration = Duration::from_millis(2);

/// A node that was told nothing to compare with takes its table as complete after this.
pub(crate) const SNAPSHOT_LIMIT: Duration = Duration::from_secs(5);

/// How long a newcomer waits for the table of its first neighbor before it asks others.
const SNAPSHOT_TURN: Duration = Duration::from_secs(2);

/// Most marks in a frame of hints: what `by_weight` allows with some room.
const HINTS_MAX: usize = 200;

/// Marks with their sums, in the order of ids.
type Marks = Vec<(MemberMark, MemberSum)>;

impl Node {
    /// A link is up: both ends learn what the other knows. The end that opened it begins.
    pub(crate) fn start_members(&mut self, now: Time, id: LinkId) {
        if !self.snapshot_told && !self.timers.is_set(&Timer::Snapshot) {
            self.timers.set(Timer::Snapshot, now + SNAPSHOT_LIMIT);
        }
        let Some(link) = self.links.get_mut(id) else { return };
        let (compares, ours) = (link.compares(), link.opened_by_us());
        let heals = link.debt.heals_until.is_some();
        if heals && ours {
            self.stats.reservoir_merges += 1;
        }
        if !compares {
            // An older node: every member, those that are gone included, as it does.
            let nodes: Vec<NodeId> = self.members.iter().map(|m| m.record.facts().node).collect();
            return self.owe_records(now, id, nodes);
        }
        // A newcomer asks one neighbor at a time for the whole table.
        let asked = self.rumors.snapshot_asked.is_some_and(|at| now.since(at) < SNAPSHOT_TURN);
        if ours && !self.snapshot_told && asked && !heals {
            if let Some(link) = self.links.get_mut(id) {
                link.debt.compare_at = now + SNAPSHOT_TURN;
            }
        } else if ours {
            self.rumors.snapshot_asked = Some(now);
            self.compare_members(now, id);
        } else if let Some(link) = self.links.get_mut(id) {
            link.debt.compare_at = now + COMPARE_AGAIN;
        }
        self.start_paying(now, id);
    }

    /// Compares tables on a link, if it is time.
    pub(crate) fn compare_members_if_due(&mut self, now: Time, id: LinkId) {
        if self.links.get(id).is_some_and(|link| now >= link.debt.compare_at) {
            self.compare_members(now, id);
        }
    }

    pub(crate) fn compare_members(&mut self, now: Time, id: LinkId) {
        let Some(link) = self.links.get_mut(id).filter(|link| link.compares()) else { return };
        link.debt.compare_at = now + if link.debt.agreed { COMPARE_AGREED } else { COMPARE_AGAIN };
        if link.debt.differs {
            let at = link.debt.compare_at;
            self.timers.set_by(Timer::Digest(id), at);
        }
        let level = self.members.level();
        let content = MemberContent::Sum(self.sum_of_range(now, level, (None, None)));
        self.send_member_ranges(id, level, vec![MemberRange { from: None, until: None, content }]);
    }

    /// Marks of members that changed: whoever lacks one pulls its record.
    pub(crate) fn send_hints(&mut self, id: LinkId, marks: &[MemberMark]) {
        for marks in marks.chunks(HINTS_MAX) {
            let content = MemberContent::Marks { marks: marks.to_vec(), reply: false };
            let level = self.members.level();
            self.send_member_ranges(id, level, vec![MemberRange { from: None, until: None, content }]);
        }
    }

    /// Sends ranges with the level they were looked at: an answer to a neighbor that keeps a
    /// coarser sample is about that sample, or the two would begin anew with every frame.
    fn send_member_ranges(&mut self, id: LinkId, level: u32, ranges: Vec<MemberRange>) {
        let members = u32::try_from(self.members.alive() + 1).unwrap_or(u32::MAX);
        for ranges in by_weight(ranges) {
            self.control(id, ControlFrame::MemberDigest(MemberDigest { level, members, ranges }));
        }
    }

    /// The sum of this node's marks of a range, its own included.
    fn sum_of_range(&mut self, now: Time, level: u32, range: Range) -> MemberSum {
        let sum = self.members.sum(level, range, now);
        self.own_mark(level, range).map_or(sum, |own| sum.plus(MemberSum::of(&own)))
    }

    /// This node's marks of a range in order, its own included.
    fn marks(&self, now: Time, level: u32, range: Range) -> Marks {
        let compared = self.members.compared(level, range, now);
        let mut marks: Marks = compared.map(|row| (MemberMark::of(&row.member), row.sum)).collect();
        if let Some(own) = self.own_mark(level, range) {
            let at = marks.partition_point(|(other, _)| other.node < own.node);
            marks.insert(at, (own, MemberSum::of(&own)));
        }
        marks
    }

    /// This node's own mark, where a range and a level hold it.
    fn own_mark(&self, level: u32, (from, until): Range) -> Option<MemberMark> {
        let me = self.me.node;
        let inside = from.is_none_or(|f| f <= me) && until.is_none_or(|u| me < u);
        // Its place is judged at this node's own level: a coarser one only asks for less.
        if !inside || !self.members.is_inside_at(me, level) {
            return None;
        }
        let facts = self.record.as_ref()?.facts();
        let (epoch, incarnation) = (facts.epoch, facts.incarnation);
        Some(MemberMark { node: me, epoch, incarnation, status: MemberStatus::Alive })
    }

    pub(crate) fn on_member_digest(&mut self, now: Time, from: LinkId, digest: MemberDigest) {
        if !self.links.get(from).is_some_and(crate::link::Link::compares) {
            return;
        }
        if !are_in_order(&digest.ranges) {
            return self.violation(now, from, "ranges of a member digest out of order");
        }
        self.hear_level(now, from, &digest);
        if digest.ranges.is_empty() {
            return self.note_agreement(now, from, true);
        }
        let mine = self.members.level();
        let level = mine.max(digest.level);
        let mut answer = Vec::new();
        let mut coarser = false;
        for range in digest.ranges {
            let ids = (range.from, range.until);
            let part = ids != (None, None);
            if part && digest.level == mine {
                // Parts are looked at only of tables that differ.
                self.note_difference(now, from);
            }
            match range.content {
                // Its sum is over members this node does not keep: it is told this node's.
                MemberContent::Sum(_) if digest.level < mine => coarser |= ids == (None, None),
                MemberContent::Sum(theirs) => {
                    let ours = self.sum_of_range(now, level, ids);
                    let same = ours == theirs;
                    if ids == (None, None) {
                        self.note_agreement(now, from, same);
                    }
                    if same {
                        self.tell_agreement(from, level);
                        continue;
                    }
                    if theirs.count() <= NEARLY_EMPTY && ours.count() as usize > LISTED {
                        self.owe_all(now, from, level, ids);
                    } else {
                        answer.extend(narrower(&self.marks(now, level, ids), ids));
                    }
                }
                MemberContent::Marks { marks: theirs, reply } => {
                    let whole = reply.then_some(ids);
                    let (same, conflicts) = self.settle_marks(now, from, level, &theirs, whole);
                    if same && whole == Some((None, None)) {
                        self.note_agreement(now, from, true);
                        self.tell_agreement(from, level);
                    }
                    if !conflicts.is_empty() {
                        let content = MemberContent::Marks { marks: conflicts, reply: false };
                        answer.push(MemberRange { from: ids.0, until: ids.1, content });
                    }
                }
            }
        }
        if coarser {
            self.compare_members(now, from);
        }
        self.send_member_ranges(from, level, answer);
    }

    /// Takes over the level of most neighbors, if they see a far larger mesh. One of them alone
    /// could make this node forget whom it knows.
    fn hear_level(&mut self, now: Time, from: LinkId, digest: &MemberDigest) {
        let whole =
            |range: &MemberRange| range.until.is_none() && matches!(range.content, MemberContent::Sum(_));
        // An answer is at the coarser of two levels, only a question at its sender's own.
        if !digest.ranges.iter().any(|range| range.from.is_none() && whole(range)) {
            return;
        }
        let full = (digest.members as usize).saturating_mul(4) >= self.config.members_max;
        if let Some(link) = self.links.get_mut(from) {
            link.debt.claims = Some((digest.level, full));
        }
        if let Some(level) = self.claimed_level(true).filter(|level| *level > self.members.level() + 1) {
            self.members.set_level(level);
            self.timers.set_by(Timer::Sample, now + COMPARE_AGAIN);
        }
    }

    /// The level in the middle of those that neighbors claim; of two, the lower. Of those whose
    /// table is not full it may be left open how far they should go.
    pub(crate) fn claimed_level(&self, full_only: bool) -> Option<u32> {
        let claims = self.links.flooding().filter_map(|link| link.debt.claims);
        let mut levels: Vec<u32> =
            claims.map(|(level, full)| if full || !full_only { level } else { 0 }).collect();
        levels.sort_unstable();
        levels.get(levels.len().saturating_sub(1) / 2).copied()
    }

    /// Who begins on a new link learns that there is nothing to learn; later it need not know.
    fn tell_agreement(&mut self, id: LinkId, level: u32) {
        let Some(link) = self.links.get_mut(id) else { return };
        if !std::mem::replace(&mut link.debt.agreement_told, true) {
            let members = u32::try_from(self.members.alive() + 1).unwrap_or(u32::MAX);
            self.control(id, ControlFrame::MemberDigest(MemberDigest { level, members, ranges: vec![] }));
        }
    }

    fn note_agreement(&mut self, now: Time, id: LinkId, same: bool) {
        let Some(link) = self.links.get_mut(id) else { return };
        link.debt.agreed = same;
        if same {
            link.debt.differs = false;
            self.members_known(now);
        } else {
            self.note_difference(now, id);
        }
    }

    /// Tables differ: they are compared until they do not, and then both ends are told.
    fn note_difference(&mut self, now: Time, id: LinkId) {
        let Some(link) = self.links.get_mut(id) else { return };
        link.debt.differs = true;
        link.debt.agreement_told = false;
        link.debt.compare_at = link.debt.compare_at.min(now + COMPARE_AGAIN);
        let at = link.debt.compare_at;
        self.timers.set_by(Timer::Digest(id), at);
    }

    /// What a joining node was to be told of the members, it was told.
    pub(crate) fn members_known(&mut self, _now: Time) {
        if !std::mem::replace(&mut self.snapshot_told, true) {
            self.timers.cancel(&Timer::Snapshot);
            let members = self.members.estimate(self.me.node);
            self.tell(Event::MembersKnown { members, complete: self.members.is_complete() });
        }
    }

    /// Tells a neighbor the whole range, but what it says itself meanwhile.
    fn owe_all(&mut self, now: Time, id: LinkId, level: u32, range: Range) {
        self.stats.members_merged += 1;
        if let Some(link) = self.links.get_mut(id) {
            link.debt.compare_after = true;
        }
        let nodes: Vec<NodeId> = self.members.compared(level, range, now).map(Row::node).collect();
        self.owe_records(now, id, nodes);
    }

    /// Compares a neighbor's marks with this node's. Tells whether nothing differs, and those of
    /// this node that call failed whom the neighbor calls alive. `whole` is the range of which the marks are all it
    /// has; it then wants to hear of what differs.
    fn settle_marks(
        &mut self,
        now: Time,
        from: LinkId,
        level: u32,
        theirs: &[MemberMark],
        whole: Option<Range>,
    ) -> (bool, Vec<MemberMark>) {
        let (mut owed, mut wanted, mut conflicts) = (Vec::new(), Vec::new(), Vec::new());
        for mark in theirs {
            let known = if mark.node == self.me.node {
                self.own_mark(level, (None, None))
            } else {
                self.members.compared_mark(mark.node, level, now)
            };
            match known {
                None if self.members.get(mark.node).is_some() || mark.node == self.me.node => {
                    // Known, but too long gone or too far out to be compared.
                    self.doubt_if_buried(now, from, mark);
                }
                None if self.members.is_inside(mark.node) => wanted.push(mark.node),
                None => {}
                Some(known) if (known.epoch, known.incarnation) == (mark.epoch, mark.incarnation) => {
                    match (known.status, mark.status) {
                        (MemberStatus::Alive, MemberStatus::Failed) => self.doubt(now, from, *mark),
                        (MemberStatus::Failed, MemberStatus::Alive) if whole.is_some() => {
                            conflicts.push(known);
                        }
                        (MemberStatus::Left, MemberStatus::Alive | MemberStatus::Failed) => {
                            owed.push(mark.node);
                        }
                        (MemberStatus::Alive | MemberStatus::Failed, MemberStatus::Left) => {
                            wanted.push(mark.node);
                        }
                        (ours, theirs) if ours == theirs => self.settle(from, mark.node),
                        _ => {}
                    }
                }
                Some(known) if rank_of(&known) > rank_of(mark) => owed.push(mark.node),
                Some(_) => wanted.push(mark.node),
            }
        }
        if let Some(range) = whole {
            let mut theirs: Vec<NodeId> = theirs.iter().map(|mark| mark.node).collect();
            theirs.sort_unstable();
            let lacks = |node: &NodeId| theirs.binary_search(node).is_err();
            owed.extend(self.members.compared(level, range, now).map(Row::node).filter(lacks));
            owed.extend(self.own_mark(level, range).map(|own| own.node).filter(lacks));
        }
        if whole.is_none() {
            // Of what just changed several neighbors tell at once: the first is asked.
            wanted.retain(|node| self.rumors.may_ask(*node, now));
        }
        let differ = owed.len() + wanted.len() > 0;
        if differ {
            self.stats.members_merged += 1;
        }
        self.owe_records(now, from, owed);
        for chunk in wanted.chunks(POSITIONS_MAX) {
            self.control(from, ControlFrame::MemberPull(chunk.to_vec()));
        }
        (!differ && conflicts.is_empty(), conflicts)
    }

    pub(crate) fn on_member_pull(&mut self, now: Time, from: LinkId, nodes: Vec<NodeId>) {
        let known: Vec<NodeId> = nodes
            .into_iter()
            .filter(|node| *node == self.me.node || self.members.get(*node).is_some())
            .collect();
        self.owe_records(now, from, known);
    }

    // ---- doubts ------------------------------------------------------------

    /// A neighbor knows as alive whom this node buried long ago.
    fn doubt_if_buried(&mut self, now: Time, from: LinkId, theirs: &MemberMark) {
        let Some(known) = self.members.get(theirs.node).map(MemberMark::of) else { return };
        if known.status == MemberStatus::Failed && rank_of(&known) > rank_of(theirs) {
            self.owe_doubt(now, from, known);
        } else if rank_of(theirs) > rank_of(&known) {
            self.control(from, ControlFrame::MemberPull(vec![theirs.node]));
        }
    }

    /// Somebody says that a member failed whom this node knows as alive: the member is asked.
    pub(crate) fn doubt(&mut self, now: Time, from: LinkId, mark: MemberMark) {
        if mark.node == self.me.node {
            return self.answer_doubt(now, &mark);
        }
        if self.may_doubt(now, from, mark.node) {
            self.stats.members_doubted += 1;
            self.pass_doubt(now, from, mark);
            let within = DOUBT_LIMIT + self.answer_spread();
            self.suspect_unless_answered(now, mark.node, within);
        }
    }

    /// This node itself wants to hear from a member. Tells whether there is anybody to pass it on.
    pub(crate) fn doubt_openly(&mut self, now: Time, mark: MemberMark) -> bool {
        let others: Vec<LinkId> = self.links.flooding().filter(|l| l.compares()).map(|l| l.id).collect();
        for id in &others {
            self.owe_doubt(now, *id, mark);
        }
        // Its answer serves for what others ask meanwhile.
        self.members.may_doubt(mark.node, DOUBT_PAUSE, now);
        !others.is_empty()
    }

    /// Whether a doubt is passed on: each costs the mesh a flood, and its answer another.
    fn may_doubt(&mut self, now: Time, from: LinkId, node: NodeId) -> bool {
        if !self.members.may_doubt(node, DOUBT_PAUSE, now) {
            return false;
        }
        let burst = DOUBTS_BURST + self.members.len();
        let link = self.links.get_mut(from);
        let able = link.is_some_and(|link| link.debt.questioned.take(now, burst, DOUBTS_WINDOW));
        if !able {
            self.overloaded("doubts about members");
        }
        able
    }

    fn pass_doubt(&mut self, now: Time, from: LinkId, mark: MemberMark) {
        let others: Vec<LinkId> =
            self.links.iter().filter(|l| l.compares() && l.id != from).map(|l| l.id).collect();
        for id in others {
            self.owe_doubt(now, id, mark);
        }
    }

    pub(crate) fn on_member_doubt(&mut self, now: Time, from: LinkId, marks: Vec<MemberMark>) {
        for mark in marks {
            if mark.node == self.me.node {
                self.answer_doubt(now, &mark);
                continue;
            }
            let Some(known) = self.members.get(mark.node).map(MemberMark::of) else { continue };
            if mark.status != MemberStatus::Failed || known.status != MemberStatus::Alive {
                continue;
            }
            if rank_of(&known) > rank_of(&mark) {
                self.owe_records(now, from, [mark.node]);
            } else if known.epoch == mark.epoch
                && known.incarnation == mark.incarnation
                && self.may_doubt(now, from, mark.node)
            {
                self.pass_doubt(now, from, mark);
            }
        }
    }

    /// Somebody says that this node failed. Of many that are asked at once each takes its time.
    fn answer_doubt(&mut self, now: Time, mark: &MemberMark) {
        let current = (self.me.epoch, self.incarnation);
        if (mark.epoch, mark.incarnation) != current || self.leaving != Leaving::No {
            return;
        }
        let spread = self.answer_spread();
        let within = self.chance.within(spread);
        self.refute_within(now, within);
    }

    pub(crate) fn answer_spread(&self) -> Duration {
        let members = u32::try_from(self.members.alive()).unwrap_or(u32::MAX);
        (ANSWER_SPREAD * members.min(10_000)).min(ANSWER_SPREAD_MAX)
    }
}

/// Whether each range begins where the one before ends, or after: what is asked of a node once
/// costs it one look at its table.
fn are_in_order(ranges: &[MemberRange]) -> bool {
    ranges.windows(2).all(|pair| match pair {
        [a, b] => a.until.is_some() && b.from.is_some() && a.until <= b.from,
        _ => true,
    })
}

/// What to say of a range whose sums differ.
fn narrower(marks: &[(MemberMark, MemberSum)], (from, until): Range) -> Vec<MemberRange> {
    let list = marks.len() <= LISTED;
    let size = if list { LISTED } else { marks.len().div_ceil(PARTS) };
    let parts: Vec<&[(MemberMark, MemberSum)]> =
        if marks.is_empty() { vec![&[]] } else { marks.chunks(size).collect() };
    let start = |index: usize| parts.get(index).and_then(|part| part.first()).map(|(mark, _)| mark.node);
    parts
        .iter()
        .enumerate()
        .map(|(index, part)| MemberRange {
            from: if index == 0 { from } else { start(index) },
            until: if index + 1 == parts.len() { until } else { start(index + 1) },
            content: if list {
                MemberContent::Marks { marks: part.iter().map(|(mark, _)| *mark).collect(), reply: true }
            } else {
                MemberContent::Sum(part.iter().fold(MemberSum::default(), |sum, (_, one)| sum.plus(*one)))
            },
        })
        .collect()
}

/// Frames of at most 256 marks each, so that every frame keeps its limit.
fn by_weight(ranges: Vec<MemberRange>) -> Vec<Vec<MemberRange>> {
    let mut frames: Vec<Vec<MemberRange>> = Vec::new();
    let mut weight = POSITIONS_MAX;
    for range in ranges {
        let own = match &range.content {
            MemberContent::Sum(_) => 4,
            MemberContent::Marks { marks, .. } => marks.len() + 4,
        };
        if weight + own > POSITIONS_MAX {
            frames.push(Vec::new());
            weight = 0;
        }
        weight += own;
        if let Some(frame) = frames.last_mut() {
            frame.push(range);
        }
    }
    frames
}

#[cfg(test)]
mod tests {
    use peerchannel_wire::Epoch;

    use super::*;

    fn marks(count: u64) -> Marks {
        (0..count)
            .map(|n| {
                let mut id = [0; 32];
                id[..8].copy_from_slice(&n.to_be_bytes());
                let mark = MemberMark {
                    node: NodeId::from_bytes(id),
                    epoch: Epoch::new(1).unwrap(),
                    incarnation: 0,
                    status: MemberStatus::Alive,
                };
                (mark, MemberSum::of(&mark))
            })
            .collect()
    }

    #[test]
    fn parts_cover_the_range_without_a_hole() {
        for count in [0, 1, 63, 64, 65, 1000, 10_001] {
            let parts = narrower(&marks(count), (None, None));
            assert!(parts.len() <= PARTS);
            assert_eq!((parts[0].from, parts[parts.len() - 1].until), (None, None));
            assert!(are_in_order(&parts));
            assert!(!are_in_order(&[parts.clone(), parts.clone()].concat()));
            assert!(parts.windows(2).all(|pair| pair[0].until == pair[1].from && pair[0].until.is_some()));
            let total: u64 = parts
                .iter()
                .map(|part| match &part.content {
                    MemberContent::Sum(sum) => u64::from(sum.count()),
                    MemberContent::Marks { marks, .. } => marks.len() as u64,
                })
                .sum();
            assert_eq!(total, count);
        }
    }

    #[test]
    fn frames_keep_their_limit() {
        let all = marks(64);
        let ranges: Vec<MemberRange> = (0..40).flat_map(|_| narrower(&all, (None, None))).collect();
        for ranges in by_weight(ranges) {
            let digest = MemberDigest { level: 0, members: 0, ranges };
            let frame = ControlFrame::MemberDigest(digest).encode();
            assert!(frame.len() < peerchannel_wire::limits::CONTROL_FRAME_MAX);
        }
    }
}
