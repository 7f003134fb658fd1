//! Every deadline of a node in one table; the driver sees only the earliest.

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
    /// To answer an indirect probe in the negative.
    Probe(u64),
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
}

#[derive(Debug, Default)]
pub(crate) struct Timers {
    // Invariant: `at` and `order` hold the same pairs.
    at: BTreeMap<Timer, Time>,
    order: BTreeSet<(Time, Timer)>,
}

impl Timers {
    pub(crate) fn set(&mut self, timer: Timer, at: Time) {
        self.cancel(&timer);
        self.order.insert((at, timer.clone()));
        self.at.insert(timer, at);
    }

    /// Brings a deadline forward, never back.
    pub(crate) fn set_by(&mut self, timer: Timer, at: Time) {
        if self.at.get(&timer).is_none_or(|set| at < *set) {
            self.set(timer, at);
        }
    }

    pub(crate) fn is_set(&self, timer: &Timer) -> bool {
        self.at.contains_key(timer)
    }

    pub(crate) fn cancel(&mut self, timer: &Timer) {
        if let Some(at) = self.at.remove(timer) {
            self.order.remove(&(at, timer.clone()));
        }
    }

    pub(crate) fn cancel_link(&mut self, link: LinkId) {
        for timer in [
            Timer::Link(link),
            Timer::Digest(link),
            Timer::Announce(link),
            Timer::Serve(link),
            Timer::Owed(link),
        ] {
            self.cancel(&timer);
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Timer> {
        self.at.keys()
    }

    /// Stops a debug build if an invariant does not hold.
    pub(crate) fn check(&self) {
        debug_assert!(self.at.len() == self.order.len(), "deadlines without an order");
        debug_assert!(self.at.iter().all(|(timer, at)| self.order.contains(&(*at, timer.clone()))));
    }

    pub(crate) fn next(&self) -> Option<Time> {
        self.order.first().map(|(at, _)| *at)
    }

    pub(crate) fn pop_due(&mut self, now: Time) -> Option<Timer> {
        let (at, _) = self.order.first()?;
        if *at > now {
            return None;
        }
        let (_, timer) = self.order.pop_first()?;
        self.at.remove(&timer);
        Some(timer)
    }
}

#[cfg(test)]
mod tests {
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
}
