//! Every deadline of a node in one table; the driver sees only the earliest.
//!
//! It is asked for the earliest with every frame, and set or moved far more seldom: so the
//! earliest is kept, and what changes looks for the next one in small arrays. Deadlines of the
//! node have a fixed place, those of links one per link and purpose; the others, of which there
//! may be thousands, are ordered. Several that are due at once go in the order of [`Timer`].

use std::collections::{BTreeMap, BTreeSet};

use peerchannel_wire::{ChannelName, NodeId, StreamId};

use crate::input::LinkId;
use crate::time::Time;

/// What a deadline is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Timer {
    /// To look for neighbors, or to drop one too many.
    Maintain,
    /// To drop one neighbor of too many.
    Prune,
    /// To tell others of a few nodes.
    Shuffle,
    /// To look for a nearer neighbor, or to judge one.
    Swap,
    /// To replace a far neighbor.
    Rotate,
    /// To ask the resolvers again.
    Resolve,
    /// To forget tombstones and streams that ended long ago.
    Forget,
    /// To look for neighbors that no longer keep up with own messages.
    Slow,
    /// To sign what has gathered in a channel.
    Sign(ChannelName),
    /// To begin without a baseline.
    Baseline,
    /// To stop waiting while leaving.
    Leave,
    /// To give up a handshake, a duplicate's test, or a farewell.
    Link(LinkId),
    /// To compare positions with a neighbor.
    Digest(LinkId),
    /// To announce what was not pushed.
    Announce(LinkId),
    /// To go on serving pulls.
    Serve(LinkId),
    /// To ask for what is missing.
    Repair(StreamId),
    /// To decide about a member that stopped answering.
    Suspect(NodeId),
    /// To forget a question, by its nonce and whom it is about.
    Probe(u64, NodeId),
    /// To give up a direct message.
    Direct(u64),
    /// To sign a change of this node's own record.
    OwnRecord,
    /// To send a neighbor what it is owed of member records.
    Owed(LinkId),
    /// To pass on changes of members that changed too often.
    Withheld,
    /// To take the member table as complete.
    Snapshot,
    /// To keep a finer sample of a mesh that shrank.
    Sample,
    /// To give up links that did not answer after a pause.
    Confirm,
    /// To dial a member of the past.
    Reservoir,
    /// To check a member to which there is no link.
    Audit,
    /// To tell neighbors by marks of members that changed.
    Hint,
}

/// No deadline.
const NEVER: Time = Time::from_nanos(u64::MAX);

/// The timers a node has once, in their order.
const OWN: [Timer; 18] = [
    Timer::Maintain,
    Timer::Prune,
    Timer::Shuffle,
    Timer::Swap,
    Timer::Rotate,
    Timer::Resolve,
    Timer::Forget,
    Timer::Slow,
    Timer::Baseline,
    Timer::Leave,
    Timer::OwnRecord,
    Timer::Withheld,
    Timer::Snapshot,
    Timer::Sample,
    Timer::Confirm,
    Timer::Reservoir,
    Timer::Audit,
    Timer::Hint,
];

/// The timers each link has once, in their order.
const OF_LINK: [fn(LinkId) -> Timer; 5] =
    [Timer::Link, Timer::Digest, Timer::Announce, Timer::Serve, Timer::Owed];

/// Where a timer's deadline is.
enum Slot {
    Own(usize),
    Link(LinkId, usize),
    Ordered,
}

impl Timer {
    fn slot(&self) -> Slot {
        Slot::Own(match self {
            Self::Maintain => 0,
            Self::Prune => 1,
            Self::Shuffle => 2,
            Self::Swap => 3,
            Self::Rotate => 4,
            Self::Resolve => 5,
            Self::Forget => 6,
            Self::Slow => 7,
            Self::Baseline => 8,
            Self::Leave => 9,
            Self::OwnRecord => 10,
            Self::Withheld => 11,
            Self::Snapshot => 12,
            Self::Sample => 13,
            Self::Confirm => 14,
            Self::Reservoir => 15,
            Self::Audit => 16,
            Self::Hint => 17,
            Self::Link(link) => return Slot::Link(*link, 0),
            Self::Digest(link) => return Slot::Link(*link, 1),
            Self::Announce(link) => return Slot::Link(*link, 2),
            Self::Serve(link) => return Slot::Link(*link, 3),
            Self::Owed(link) => return Slot::Link(*link, 4),
            Self::Sign(_) | Self::Repair(_) | Self::Suspect(_) | Self::Probe(..) | Self::Direct(_) => {
                return Slot::Ordered;
            }
        })
    }
}

/// The deadlines of a node. One at the end of time (584 years) is none.
#[derive(Debug)]
pub(crate) struct Timers {
    // Invariant: the earliest of all below; `NEVER` if there is none.
    next: Time,
    own: [Time; OWN.len()],
    // Invariant: ascending by link, no row without a deadline.
    links: Vec<(LinkId, [Time; OF_LINK.len()])>,
    ordered: Ordered,
}

impl Default for Timers {
    fn default() -> Self {
        Self { next: NEVER, own: [NEVER; OWN.len()], links: Vec::new(), ordered: Ordered::default() }
    }
}

impl Timers {
    pub(crate) fn set(&mut self, timer: Timer, at: Time) {
        let before = self.put(timer, at);
        self.settle(before, at);
    }

    /// Brings a deadline forward, never back.
    pub(crate) fn set_by(&mut self, timer: Timer, at: Time) {
        if at < self.at(&timer) {
            self.set(timer, at);
        }
    }

    pub(crate) fn is_set(&self, timer: &Timer) -> bool {
        self.at(timer) != NEVER
    }

    pub(crate) fn cancel(&mut self, timer: &Timer) {
        let before = match timer.slot() {
            Slot::Own(index) => std::mem::replace(&mut self.own[index], NEVER),
            Slot::Link(link, index) => match self.row(link) {
                Ok(row) => self.clear_of_link(row, index),
                Err(_) => NEVER,
            },
            Slot::Ordered => self.ordered.cancel(timer),
        };
        self.settle(before, NEVER);
    }

    pub(crate) fn cancel_link(&mut self, link: LinkId) {
        if let Ok(row) = self.row(link) {
            self.links.remove(row);
            self.next = self.earliest();
        }
    }

    /// Every timer that is set.
    pub(crate) fn iter(&self) -> impl Iterator<Item = Timer> {
        let own = OWN.iter().zip(&self.own).filter(|(_, at)| **at != NEVER).map(|(timer, _)| timer.clone());
        let of_links = self.links.iter().flat_map(|(link, row)| {
            OF_LINK.iter().zip(row).filter(|(_, at)| **at != NEVER).map(|(timer, _)| timer(*link))
        });
        own.chain(of_links).chain(self.ordered.at.keys().cloned())
    }

    /// Stops a debug build if an invariant does not hold.
    pub(crate) fn check(&self) {
        let Ordered { at, order } = &self.ordered;
        debug_assert!(self.next == self.earliest(), "not the earliest deadline");
        debug_assert!(self.links.is_sorted_by_key(|(link, _)| *link), "links out of order");
        debug_assert!(at.len() == order.len(), "deadlines without an order");
        debug_assert!(at.iter().all(|(timer, at)| order.contains(&(*at, timer.clone()))));
    }

    pub(crate) fn next(&self) -> Option<Time> {
        (self.next != NEVER).then_some(self.next)
    }

    pub(crate) fn pop_due(&mut self, now: Time) -> Option<Timer> {
        if self.next > now || self.next == NEVER {
            return None;
        }
        let timer = self.first()?;
        self.cancel(&timer);
        Some(timer)
    }

    /// When a timer is due.
    fn at(&self, timer: &Timer) -> Time {
        match timer.slot() {
            Slot::Own(index) => self.own[index],
            Slot::Link(link, index) => self.row(link).map_or(NEVER, |row| self.links[row].1[index]),
            Slot::Ordered => self.ordered.at.get(timer).copied().unwrap_or(NEVER),
        }
    }

    /// Writes a deadline; gives the one that it replaces.
    fn put(&mut self, timer: Timer, at: Time) -> Time {
        match timer.slot() {
            Slot::Own(index) => std::mem::replace(&mut self.own[index], at),
            Slot::Link(link, index) => {
                let row = self.row(link).unwrap_or_else(|row| {
                    self.links.insert(row, (link, [NEVER; OF_LINK.len()]));
                    row
                });
                std::mem::replace(&mut self.links[row].1[index], at)
            }
            Slot::Ordered => self.ordered.set(timer, at),
        }
    }

    /// Keeps `next` after one deadline moved.
    fn settle(&mut self, before: Time, after: Time) {
        if after <= self.next {
            self.next = after;
        } else if before == self.next && before != NEVER {
            self.next = self.earliest();
        }
    }

    fn earliest(&self) -> Time {
        let own = self.own.iter().copied();
        let links = self.links.iter().flat_map(|(_, row)| row.iter().copied());
        own.chain(links).chain(self.ordered.next()).min().unwrap_or(NEVER)
    }

    /// The first of those that are due at `next`, in the order of timers.
    fn first(&self) -> Option<Timer> {
        let due = |at: &Time| *at == self.next;
        let own = OWN.iter().zip(&self.own).find(|(_, at)| due(at)).map(|(timer, _)| timer.clone());
        let of_links = self.links.iter().flat_map(|(link, row)| {
            OF_LINK.iter().zip(row).filter(|(_, at)| due(at)).map(|(timer, _)| timer(*link))
        });
        let ordered = self.ordered.order.first().filter(|(at, _)| due(at)).map(|(_, timer)| timer.clone());
        own.into_iter().chain(of_links).chain(ordered).min()
    }

    fn row(&self, link: LinkId) -> Result<usize, usize> {
        self.links.binary_search_by_key(&link, |(link, _)| *link)
    }

    fn clear_of_link(&mut self, row: usize, index: usize) -> Time {
        let deadlines = &mut self.links[row].1;
        let before = std::mem::replace(&mut deadlines[index], NEVER);
        if deadlines.iter().all(|at| *at == NEVER) {
            self.links.remove(row);
        }
        before
    }
}

/// Deadlines of which there may be many.
#[derive(Debug, Default)]
struct Ordered {
    // Invariant: `at` and `order` hold the same pairs.
    at: BTreeMap<Timer, Time>,
    order: BTreeSet<(Time, Timer)>,
}

impl Ordered {
    fn set(&mut self, timer: Timer, at: Time) -> Time {
        let before = self.cancel(&timer);
        if at != NEVER {
            self.order.insert((at, timer.clone()));
            self.at.insert(timer, at);
        }
        before
    }

    fn cancel(&mut self, timer: &Timer) -> Time {
        let Some(at) = self.at.remove(timer) else { return NEVER };
        self.order.remove(&(at, timer.clone()));
        at
    }

    fn next(&self) -> Option<Time> {
        self.order.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_earliest_comes_first_and_once() {
        let at = Time::from_nanos;
        let mut timers = Timers::default();
        timers.set(Timer::Resolve, at(20));
        timers.set(Timer::Maintain, at(10));
        timers.set(Timer::Maintain, at(30));
        timers.set_by(Timer::Maintain, at(15));
        timers.set_by(Timer::Maintain, at(99));
        assert_eq!(timers.next(), Some(at(15)));
        assert_eq!(timers.pop_due(at(14)), None);
        assert_eq!(timers.pop_due(at(50)), Some(Timer::Maintain));
        assert_eq!(timers.pop_due(at(50)), Some(Timer::Resolve));
        assert_eq!((timers.pop_due(at(50)), timers.next()), (None, None));
    }

    #[test]
    fn every_timer_has_its_own_place_and_the_places_are_in_order() {
        assert!(OWN.windows(2).all(|pair| pair[0] < pair[1]));
        for (index, timer) in OWN.iter().enumerate() {
            assert!(matches!(timer.slot(), Slot::Own(own) if own == index), "{timer:?}");
        }
        for (index, timer) in OF_LINK.iter().enumerate() {
            let timer = timer(LinkId(7));
            assert!(matches!(timer.slot(), Slot::Link(LinkId(7), own) if own == index), "{timer:?}");
        }
    }

    fn any_timer() -> impl Strategy<Value = Timer> {
        prop_oneof![
            (0..OWN.len()).prop_map(|index| OWN[index].clone()),
            (0..OF_LINK.len(), 0..4u64).prop_map(|(index, link)| OF_LINK[index](LinkId(link))),
            (0..4u64).prop_map(|nonce| Timer::Probe(nonce, NodeId::from_bytes([1; 32]))),
            (0..4u64).prop_map(Timer::Direct),
            (0..4u8).prop_map(|node| Timer::Suspect(NodeId::from_bytes([node; 32]))),
        ]
    }

    proptest! {
        /// The naive table is a set of pairs, ordered by time and timer.
        #[test]
        fn it_does_what_an_ordered_set_does(
            steps in prop::collection::vec((0..5u8, any_timer(), 0..20u64), 0..120),
        ) {
            let (mut timers, mut naive) = (Timers::default(), BTreeMap::<Timer, Time>::new());
            for (step, timer, at) in steps {
                let at = Time::from_nanos(at);
                match step {
                    0 => {
                        timers.set(timer.clone(), at);
                        naive.insert(timer, at);
                    }
                    1 => {
                        timers.set_by(timer.clone(), at);
                        let entry = naive.entry(timer).or_insert(at);
                        *entry = (*entry).min(at);
                    }
                    2 => {
                        timers.cancel(&timer);
                        naive.remove(&timer);
                    }
                    3 => {
                        let link = LinkId(at.as_nanos() % 4);
                        timers.cancel_link(link);
                        naive.retain(|timer, _| !OF_LINK.iter().any(|of_link| of_link(link) == *timer));
                    }
                    _ => {
                        let first = naive.iter().map(|(timer, at)| (*at, timer.clone())).min();
                        let due = first.filter(|(first, _)| *first <= at).map(|(_, timer)| timer);
                        prop_assert_eq!(timers.pop_due(at), due.clone());
                        due.map(|timer| naive.remove(&timer));
                    }
                }
                prop_assert_eq!(timers.next(), naive.values().min().copied());
                for timer in naive.keys() {
                    prop_assert!(timers.is_set(timer));
                }
                prop_assert_eq!(
                    timers.links.len(),
                    (0..4).filter(|link| OF_LINK.iter().any(|t| naive.contains_key(&t(LinkId(*link))))).count()
                );
            }
        }
    }
}
