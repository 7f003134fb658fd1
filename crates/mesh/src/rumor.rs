//! Rumors: where many members change at once, each change is told in full to a few neighbors,
//! and to the others by its mark.
//!
//! ```text
//!   change ── few lately ──────────────> its record, to every neighbor, at once
//!     │
//!     └────── many lately ─> its record, to three neighbors
//!                   │ 0.5 s later, on links this node opened    ┐ its mark, unless the
//!                   └ 1 s later, on the other links             ┘ neighbor told of it first
//! ```
//! In a flood of records over all links each node receives each record from nearly every
//! neighbor; of three copies nineteen of twenty nodes get one. Who sees the mark of a member it
//! lacks pulls the record. One end of a link waits longer, so that only one of the two tells
//! the other. Whatever is lost on the way is found by the comparison of tables (push with three
//! and then tell by digest: Demers et al. 1987, Plumtree; docs/protocol.md section 5.2).

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use peerchannel_wire::NodeId;

use crate::input::LinkId;
use crate::time::Time;

/// How many neighbors get the record: with three, 94 % of a large mesh receive it.
pub(crate) const EAGER: usize = 3;

/// Changes that may go to all neighbors at once: a small mesh forms, somebody joins.
const CALM_MAX: u32 = 16;

/// One more such change each time. A change in 200 ms costs a node with eight neighbors some
/// 8 KB/s.
const CALM_PAUSE: Duration = Duration::from_millis(200);

/// How long the records have time to arrive before marks are sent: a few links' delay.
const HINT_AFTER: Duration = Duration::from_millis(500);

/// Marks are sent this often, so that several share a frame.
pub(crate) const HINT_PAUSE: Duration = Duration::from_millis(250);

/// Most rumors at once: a second of 4096 changes. Beyond, the oldest is left to the comparison.
const RUMORS_MAX: usize = 4096;

/// A record that was pulled is not pulled from another before this.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// Most records pulled at once. Beyond, they are pulled again from everyone who has them.
const ASKED_MAX: usize = 1024;

#[derive(Debug)]
struct Rumor {
    node: NodeId,
    at: Time,
    // Links over which it needs no telling: few, as a node has few.
    knowing: Vec<LinkId>,
}

/// What changed in the last second, and who was told.
#[derive(Debug)]
pub(crate) struct Rumors {
    // Oldest first. They are numbered: the first one is `first`.
    queue: VecDeque<Rumor>,
    first: u64,
    // Up to here they were told on links this node opened.
    half_told: u64,
    // The number of the latest about each member; earlier ones are void.
    latest: BTreeMap<NodeId, u64>,
    asked: BTreeMap<NodeId, Time>,
    calm: u32,
    calmer: Time,
    /// When a whole table was asked for, by a node that knows none yet.
    pub(crate) snapshot_asked: Option<Time>,
}

impl Rumors {
    pub(crate) const fn new(now: Time) -> Self {
        Self {
            queue: VecDeque::new(),
            first: 0,
            half_told: 0,
            latest: BTreeMap::new(),
            asked: BTreeMap::new(),
            calm: CALM_MAX,
            calmer: now,
            snapshot_asked: None,
        }
    }

    /// Whether few members changed lately. Asking counts as a change.
    pub(crate) fn is_calm(&mut self, now: Time) -> bool {
        let earned = now.since(self.calmer).as_millis() / CALM_PAUSE.as_millis();
        if earned > 0 {
            self.calm = self.calm.saturating_add(u32::try_from(earned).unwrap_or(CALM_MAX)).min(CALM_MAX);
            self.calmer = now;
        }
        let calm = self.calm > 0;
        self.calm = self.calm.saturating_sub(1);
        calm
    }

    /// A member changed, and these know or are told.
    pub(crate) fn add(&mut self, node: NodeId, now: Time, knowing: Vec<LinkId>) {
        if self.queue.len() >= RUMORS_MAX {
            self.pop();
        }
        self.latest.insert(node, self.first + self.queue.len() as u64);
        self.queue.push_back(Rumor { node, at: now, knowing });
    }

    /// The change was told to all: nothing is left to tell.
    pub(crate) fn forget(&mut self, node: NodeId) {
        self.latest.remove(&node);
    }

    /// The neighbor told it itself.
    pub(crate) fn note_known(&mut self, node: NodeId, link: LinkId) {
        let Some(rumor) = self.latest.get(&node).and_then(|number| self.index(*number)) else { return };
        if let Some(rumor) = self.queue.get_mut(rumor)
            && !rumor.knowing.contains(&link)
        {
            rumor.knowing.push(link);
        }
    }

    /// Whom to tell of which members now. Of each link, whether this node opened it.
    pub(crate) fn due(&mut self, now: Time, links: &[(LinkId, bool)]) -> BTreeMap<LinkId, Vec<NodeId>> {
        let mut hints: BTreeMap<LinkId, Vec<NodeId>> = BTreeMap::new();
        let mut tell = |latest: &BTreeMap<NodeId, u64>, number: u64, rumor: &Rumor, ours: bool| {
            if latest.get(&rumor.node) == Some(&number) {
                let others =
                    links.iter().filter(|(id, opened)| *opened == ours && !rumor.knowing.contains(id));
                others.for_each(|(id, _)| hints.entry(*id).or_default().push(rumor.node));
            }
        };
        self.half_told = self.half_told.max(self.first);
        while let Some(rumor) = self.index(self.half_told).and_then(|index| self.queue.get(index))
            && now >= rumor.at + HINT_AFTER
        {
            tell(&self.latest, self.half_told, rumor, true);
            self.half_told += 1;
        }
        while let Some(rumor) = self.queue.front()
            && now >= rumor.at + HINT_AFTER * 2
        {
            tell(&self.latest, self.first, rumor, false);
            self.pop();
        }
        hints
    }

    /// When something is due next.
    pub(crate) fn next(&self) -> Option<Time> {
        let half = self.index(self.half_told.max(self.first)).and_then(|index| self.queue.get(index));
        let half = half.map(|rumor| rumor.at + HINT_AFTER);
        let whole = self.queue.front().map(|rumor| rumor.at + HINT_AFTER * 2);
        half.into_iter().chain(whole).min()
    }

    /// Whether to pull a record, of which a neighbor showed the mark. Asking notes that it is.
    pub(crate) fn may_ask(&mut self, node: NodeId, now: Time) -> bool {
        if self.asked.get(&node).is_some_and(|at| now.since(*at) < ASK_AGAIN) {
            return false;
        }
        if self.asked.len() >= ASKED_MAX {
            self.asked.retain(|_, at| now.since(*at) < ASK_AGAIN);
        }
        if self.asked.len() < ASKED_MAX {
            self.asked.insert(node, now);
        }
        true
    }

    /// The record came.
    pub(crate) fn note_heard(&mut self, node: NodeId) {
        self.asked.remove(&node);
    }

    fn pop(&mut self) {
        if let Some(rumor) = self.queue.pop_front() {
            if self.latest.get(&rumor.node) == Some(&self.first) {
                self.latest.remove(&rumor.node);
            }
            self.first += 1;
        }
    }

    fn index(&self, number: u64) -> Option<usize> {
        number.checked_sub(self.first).and_then(|index| usize::try_from(index).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: LinkId = LinkId(1);
    const THEIRS: LinkId = LinkId(2);
    const LINKS: [(LinkId, bool); 2] = [(OURS, true), (THEIRS, false)];

    fn node(n: u8) -> NodeId {
        NodeId::from_bytes([n; 32])
    }

    fn at(ms: u64) -> Time {
        Time::ZERO + Duration::from_millis(ms)
    }

    fn told(rumors: &mut Rumors, ms: u64) -> Vec<(LinkId, Vec<NodeId>)> {
        rumors.due(at(ms), &LINKS).into_iter().collect()
    }

    #[test]
    fn the_end_that_opened_a_link_tells_first_and_nobody_is_told_what_it_said() {
        let mut rumors = Rumors::new(Time::ZERO);
        rumors.add(node(1), at(0), vec![]);
        rumors.add(node(2), at(100), vec![OURS]);
        rumors.add(node(3), at(200), vec![]);
        rumors.note_known(node(3), THEIRS);
        assert_eq!((rumors.next(), told(&mut rumors, 499)), (Some(at(500)), vec![]));
        assert_eq!(told(&mut rumors, 800), [(OURS, vec![node(1), node(3)])]);
        assert_eq!(told(&mut rumors, 900), []);
        assert_eq!(
            (rumors.next(), told(&mut rumors, 2000)),
            (Some(at(1000)), vec![(THEIRS, vec![node(1), node(2)])])
        );
        assert_eq!((rumors.next(), rumors.latest.len()), (None, 0));
    }

    #[test]
    fn only_the_latest_change_of_a_member_is_told() {
        let mut rumors = Rumors::new(Time::ZERO);
        rumors.add(node(1), at(0), vec![OURS]);
        rumors.add(node(1), at(300), vec![THEIRS]);
        rumors.add(node(2), at(300), vec![]);
        rumors.forget(node(2));
        assert_eq!(told(&mut rumors, 600), []);
        assert_eq!(told(&mut rumors, 800), [(OURS, vec![node(1)])]);
        assert_eq!(told(&mut rumors, 5000), []);
    }

    #[test]
    fn rumors_and_pulls_are_bounded_and_pulls_are_repeated_after_a_while() {
        let mut rumors = Rumors::new(Time::ZERO);
        for n in 0..10_000_u64 {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&n.to_be_bytes());
            rumors.add(NodeId::from_bytes(id), at(n), vec![]);
            assert!(rumors.may_ask(NodeId::from_bytes(id), at(0)));
        }
        assert_eq!((rumors.queue.len(), rumors.latest.len()), (RUMORS_MAX, RUMORS_MAX));
        assert_eq!(rumors.asked.len(), ASKED_MAX);
        let first = NodeId::from_bytes([0; 32]);
        assert!(!rumors.may_ask(first, at(1999)) && rumors.may_ask(first, at(2000)));
        rumors.note_heard(first);
        assert!(rumors.may_ask(first, at(2001)));
        let told: usize = rumors.due(at(60_000), &LINKS).values().map(Vec::len).sum();
        assert_eq!(told, 2 * RUMORS_MAX);
    }

    #[test]
    fn calm_ends_with_many_changes_and_comes_back() {
        let mut rumors = Rumors::new(Time::ZERO);
        assert_eq!((0..100).filter(|_| rumors.is_calm(at(0))).count(), CALM_MAX as usize);
        assert_eq!((0..100).filter(|_| rumors.is_calm(at(600))).count(), 3);
        assert_eq!((0..100).filter(|_| rumors.is_calm(at(60_000))).count(), CALM_MAX as usize);
    }
}
