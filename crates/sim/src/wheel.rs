//! What happens next: a timing wheel of events, and one alarm per node.
//!
//! Two wheels of 4096 slots: 131 µs each, which covers half a second, and half a second each,
//! which covers 37 minutes. What is farther away waits in an ordered map. Slots are sorted only when
//! their time comes, so that an event costs a push and its share of a small sort: several times
//! faster than a heap of everything (science.md section 5.2). Within the slot that is being worked off,
//! a small heap takes what is still added.
//!
//! The order is total and independent of the wheel's geometry: (time, node, kind, sequence of
//! insertion), where events come before the alarm. So the same pushes give the same run.
//!
//! An alarm is a node's next deadline. It is a member of an intrusive list of its slot: moving
//! it costs nothing that grows with the number of nodes, and there is never a stale one in a
//! slot. Only one that was drawn into the present slot can be stale; it is recognised by its time.

use std::cmp::{Ordering, Reverse};
use std::collections::{BTreeMap, BinaryHeap};

/// Bits of nanoseconds below a fine slot: 131 µs. At 10^4 nodes with traffic, a slot has some
/// dozen events.
const FINE_BITS: u32 = 17;

/// Bits of the number of slots.
const SLOT_BITS: u32 = 12;

const SLOTS: usize = 1 << SLOT_BITS;

/// Bits of nanoseconds below a coarse slot: 537 ms.
const COARSE_BITS: u32 = FINE_BITS + SLOT_BITS;

/// Room for so many events is kept in a fine slot: 3 MB in all slots.
const SLOT_KEPT: usize = 16;

/// No node, in the lists of alarms.
const NOBODY: u32 = u32::MAX;

/// An event at a node.
#[derive(Debug, Clone, Copy)]
struct Entry<T> {
    at: u64,
    node: u32,
    kind: Kind,
    sequence: u64,
    item: Option<T>,
}

impl<T> Entry<T> {
    /// The order of the run.
    fn key(&self) -> (u64, u32, Kind, u64) {
        (self.at, self.node, self.kind, self.sequence)
    }
}

impl<T> PartialEq for Entry<T> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl<T> Eq for Entry<T> {}

impl<T> PartialOrd for Entry<T> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Entry<T> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Event,
    Alarm,
}

/// What happens next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Next<T> {
    /// When, in ns.
    pub(crate) at: u64,
    /// At which node.
    pub(crate) node: u32,
    /// What; `None` is the node's alarm.
    pub(crate) item: Option<T>,
}

/// Where a node's alarm is.
#[derive(Debug, Clone, Copy)]
struct Alarm {
    at: u64,
    place: Place,
    before: u32,
    after: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Not set.
    Unset,
    /// In the list of a fine slot.
    Fine(u16),
    /// In the list of a coarse slot.
    Coarse(u16),
    /// Among what is far away.
    Far,
    /// In the heap of the present slot.
    Present,
}

/// One wheel: events and heads of alarm lists by slot.
#[derive(Debug)]
struct Ring<T> {
    events: Vec<Vec<Entry<T>>>,
    heads: Vec<u32>,
    // One bit per slot that is not empty, or was not when it was looked at last.
    used: [u64; SLOTS / 64],
}

impl<T> Ring<T> {
    fn new() -> Self {
        Self {
            events: (0..SLOTS).map(|_| Vec::new()).collect(),
            heads: vec![NOBODY; SLOTS],
            used: [0; SLOTS / 64],
        }
    }

    fn mark(&mut self, slot: usize) {
        self.used[slot / 64] |= 1 << (slot % 64);
    }

    /// The first used slot from `from` on, not going round.
    fn first_used(&self, from: usize) -> Option<usize> {
        let mut word = from / 64;
        let mut bits = self.used.get(word)? & (u64::MAX << (from % 64));
        loop {
            if bits != 0 {
                return Some(word * 64 + bits.trailing_zeros() as usize);
            }
            word += 1;
            bits = *self.used.get(word)?;
        }
    }
}

/// Everything that will happen.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    /// The number of the present fine slot since the start. Invariant: nothing outside of
    /// `present` is in it or before it.
    now: u64,
    present: BinaryHeap<Reverse<Entry<T>>>,
    fine: Ring<T>,
    coarse: Ring<T>,
    far: BTreeMap<u64, Vec<Entry<T>>>,
    far_alarms: BTreeMap<u64, u32>,
    alarms: Vec<Alarm>,
    sequence: u64,
    /// Events that wait.
    length: usize,
}

const fn fine_slot(at: u64) -> u64 {
    at >> FINE_BITS
}

const fn index(slot: u64) -> usize {
    (slot & (SLOTS as u64 - 1)) as usize
}

impl<T: Copy> Queue<T> {
    pub(crate) fn new() -> Self {
        Self {
            now: 0,
            present: BinaryHeap::new(),
            fine: Ring::new(),
            coarse: Ring::new(),
            far: BTreeMap::new(),
            far_alarms: BTreeMap::new(),
            alarms: Vec::new(),
            sequence: 0,
            length: 0,
        }
    }

    /// Events that wait, alarms not counted.
    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.length
    }

    /// Adds an event. One in the past happens next.
    pub(crate) fn push(&mut self, at: u64, node: u32, item: T) {
        self.sequence += 1;
        self.length += 1;
        self.place(Entry { at, node, kind: Kind::Event, sequence: self.sequence, item: Some(item) });
    }

    fn place(&mut self, entry: Entry<T>) {
        match self.where_to(entry.at) {
            Place::Present | Place::Unset => self.present.push(Reverse(entry)),
            Place::Fine(slot) => {
                self.fine.events[usize::from(slot)].push(entry);
                self.fine.mark(usize::from(slot));
            }
            Place::Coarse(slot) => {
                self.coarse.events[usize::from(slot)].push(entry);
                self.coarse.mark(usize::from(slot));
            }
            Place::Far => self.far.entry(entry.at >> COARSE_BITS).or_default().push(entry),
        }
    }

    /// Where something of this time belongs now.
    fn where_to(&self, at: u64) -> Place {
        let slot = fine_slot(at);
        let (turn, present_turn) = (slot >> SLOT_BITS, self.now >> SLOT_BITS);
        if slot <= self.now {
            Place::Present
        } else if turn == present_turn {
            Place::Fine(index(slot) as u16)
        } else if turn - present_turn < SLOTS as u64 {
            Place::Coarse(index(turn) as u16)
        } else {
            Place::Far
        }
    }

    /// Sets, moves or clears a node's alarm.
    pub(crate) fn set_alarm(&mut self, node: u32, at: Option<u64>) {
        let slot = node as usize;
        if slot >= self.alarms.len() {
            let unset = Alarm { at: 0, place: Place::Unset, before: NOBODY, after: NOBODY };
            self.alarms.resize(slot + 1, unset);
        }
        let set = self.alarms[slot].place != Place::Unset;
        match at {
            Some(at) if set && self.alarms[slot].at == at => {}
            Some(at) => {
                self.unlink(node);
                self.link(node, at);
            }
            None => self.unlink(node),
        }
    }

    fn link(&mut self, node: u32, at: u64) {
        let place = self.where_to(at);
        let mut alarm = Alarm { at, place, before: NOBODY, after: NOBODY };
        match place {
            Place::Present | Place::Unset => {
                alarm.place = Place::Present;
                self.present.push(Reverse(Entry { at, node, kind: Kind::Alarm, sequence: 0, item: None }));
            }
            Place::Fine(slot) => {
                alarm.after = self.fine.heads[usize::from(slot)];
                self.fine.heads[usize::from(slot)] = node;
                self.fine.mark(usize::from(slot));
            }
            Place::Coarse(slot) => {
                alarm.after = self.coarse.heads[usize::from(slot)];
                self.coarse.heads[usize::from(slot)] = node;
                self.coarse.mark(usize::from(slot));
            }
            Place::Far => {
                let turn = at >> COARSE_BITS;
                alarm.after = self.far_alarms.insert(turn, node).unwrap_or(NOBODY);
            }
        }
        if let Some(after) = self.alarms.get_mut(alarm.after as usize) {
            after.before = node;
        }
        self.alarms[node as usize] = alarm;
    }

    fn unlink(&mut self, node: u32) {
        let Alarm { at, place, before, after } = self.alarms[node as usize];
        self.alarms[node as usize] = Alarm { at: 0, place: Place::Unset, before: NOBODY, after: NOBODY };
        if let Some(after) = self.alarms.get_mut(after as usize) {
            after.before = before;
        }
        if let Some(before) = self.alarms.get_mut(before as usize) {
            before.after = after;
            return;
        }
        match place {
            Place::Fine(slot) => self.fine.heads[usize::from(slot)] = after,
            Place::Coarse(slot) => self.coarse.heads[usize::from(slot)] = after,
            Place::Far if after == NOBODY => {
                self.far_alarms.remove(&(at >> COARSE_BITS));
            }
            Place::Far => {
                self.far_alarms.insert(at >> COARSE_BITS, after);
            }
            // What is in the heap is recognised as stale when it comes up.
            Place::Present | Place::Unset => {}
        }
    }

    /// Takes what happens next, unless it is after `end`.
    pub(crate) fn pop(&mut self, end: u64) -> Option<Next<T>> {
        loop {
            while let Some(Reverse(entry)) = self.present.peek() {
                if entry.at > end {
                    return None;
                }
                let Reverse(entry) = self.present.pop()?;
                let next = Next { at: entry.at, node: entry.node, item: entry.item };
                if entry.kind == Kind::Event {
                    self.length -= 1;
                    return Some(next);
                }
                let alarm = &mut self.alarms[entry.node as usize];
                if alarm.place == Place::Present && alarm.at == entry.at {
                    alarm.place = Place::Unset;
                    return Some(next);
                }
            }
            if !self.advance(end) {
                return None;
            }
        }
    }

    /// Goes to the next slot with something in it; false if there is none up to `end`.
    fn advance(&mut self, end: u64) -> bool {
        loop {
            let from = index(self.now) + 1;
            if let Some(slot) = self.fine.first_used(from) {
                let turn = self.now >> SLOT_BITS;
                let next = (turn << SLOT_BITS) + slot as u64;
                if next > fine_slot(end) {
                    return false;
                }
                self.now = next;
                self.draw(slot);
                if !self.present.is_empty() {
                    return true;
                }
                continue;
            }
            // The fine wheel is worked off: the next turn with something in it.
            let Some(turn) = self.next_turn() else { return false };
            if turn > end >> COARSE_BITS {
                return false;
            }
            self.now = turn << SLOT_BITS;
            self.spread(turn);
            if !self.present.is_empty() {
                return true;
            }
        }
    }

    /// The next turn of the fine wheel with something in it.
    fn next_turn(&self) -> Option<u64> {
        let turn = self.now >> SLOT_BITS;
        let at = index(turn);
        let ahead = self.coarse.first_used(at + 1).map(|slot| slot - at);
        let round = || self.coarse.first_used(0).filter(|slot| *slot < at).map(|slot| slot + SLOTS - at);
        let coarse = ahead.or_else(round).map(|steps| turn + steps as u64);
        let far = self.far.first_key_value().map(|(turn, _)| *turn);
        let far_alarm = self.far_alarms.first_key_value().map(|(turn, _)| *turn);
        coarse.into_iter().chain(far).chain(far_alarm).min()
    }

    /// Moves a fine slot into the present.
    fn draw(&mut self, slot: usize) {
        self.fine.used[slot / 64] &= !(1 << (slot % 64));
        let mut events = std::mem::take(&mut self.fine.events[slot]);
        self.present.extend(events.drain(..).map(Reverse));
        // The memory of the slot is kept for its next turn, that of a burst is not.
        if events.capacity() <= SLOT_KEPT {
            self.fine.events[slot] = events;
        }
        let mut node = std::mem::replace(&mut self.fine.heads[slot], NOBODY);
        while let Some(alarm) = self.alarms.get_mut(node as usize) {
            let (at, after) = (alarm.at, alarm.after);
            *alarm = Alarm { at, place: Place::Present, before: NOBODY, after: NOBODY };
            self.present.push(Reverse(Entry { at, node, kind: Kind::Alarm, sequence: 0, item: None }));
            node = after;
        }
    }

    /// Spreads a coarse slot, and what was far away of the same turn, over the fine wheel.
    fn spread(&mut self, turn: u64) {
        let slot = index(turn);
        self.coarse.used[slot / 64] &= !(1 << (slot % 64));
        let events = std::mem::take(&mut self.coarse.events[slot]);
        let far = self.far.remove(&turn).unwrap_or_default();
        for entry in events.into_iter().chain(far) {
            self.place(entry);
        }
        let coarse = std::mem::replace(&mut self.coarse.heads[slot], NOBODY);
        let far = self.far_alarms.remove(&turn).unwrap_or(NOBODY);
        for mut node in [coarse, far] {
            while let Some(alarm) = self.alarms.get(node as usize) {
                let (at, after) = (alarm.at, alarm.after);
                self.link(node, at);
                node = after;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// The oracle: everything in one ordered set.
    #[derive(Default)]
    struct Plain {
        events: BTreeSet<(u64, u32, Kind, u64, u64)>,
        alarms: BTreeMap<u32, u64>,
        sequence: u64,
        now: u64,
    }

    impl Plain {
        fn push(&mut self, at: u64, node: u32, item: u64) {
            self.sequence += 1;
            self.events.insert((at, node, Kind::Event, self.sequence, item));
        }

        fn set_alarm(&mut self, node: u32, at: Option<u64>) {
            match at {
                Some(at) => self.alarms.insert(node, at),
                None => self.alarms.remove(&node),
            };
        }

        fn pop(&mut self, end: u64) -> Option<Next<u64>> {
            let event = self.events.first().copied();
            let alarm = self.alarms.iter().map(|(node, at)| (*at, *node, Kind::Alarm, 0, 0)).min();
            let next = event.into_iter().chain(alarm).min()?;
            if next.0 > end {
                return None;
            }
            self.now = self.now.max(next.0);
            if next.2 == Kind::Alarm {
                self.alarms.remove(&next.1);
                return Some(Next { at: next.0, node: next.1, item: None });
            }
            self.events.pop_first();
            Some(Next { at: next.0, node: next.1, item: Some(next.4) })
        }
    }

    #[derive(Debug, Clone)]
    enum Step {
        Push { after: u64, node: u32 },
        Alarm { node: u32, after: Option<u64> },
        Pop { end: u64 },
    }

    /// Times that fall into the same slot, the same turn, the coarse wheel, and beyond.
    fn after() -> impl Strategy<Value = u64> {
        prop_oneof![
            0u64..4,
            0u64..1 << FINE_BITS,
            0u64..1 << COARSE_BITS,
            0u64..1 << (COARSE_BITS + SLOT_BITS),
            0u64..1 << (COARSE_BITS + SLOT_BITS + 2),
        ]
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (after(), 0u32..5).prop_map(|(after, node)| Step::Push { after, node }),
            2 => (0u32..5, prop::option::weighted(0.8, after()))
                .prop_map(|(node, after)| Step::Alarm { node, after }),
            4 => after().prop_map(|end| Step::Pop { end }),
        ]
    }

    proptest! {
        #[test]
        fn the_order_is_that_of_one_ordered_set(steps in prop::collection::vec(step(), 1..200)) {
            let (mut queue, mut plain) = (Queue::new(), Plain::default());
            for (item, step) in (0u64..).zip(steps) {
                match step {
                    Step::Push { after, node } => {
                        queue.push(plain.now + after, node, item);
                        plain.push(plain.now + after, node, item);
                    }
                    Step::Alarm { node, after } => {
                        let at = after.map(|after| plain.now + after);
                        queue.set_alarm(node, at);
                        plain.set_alarm(node, at);
                    }
                    Step::Pop { end } => {
                        let end = plain.now + end;
                        prop_assert_eq!(queue.pop(end), plain.pop(end));
                    }
                }
                prop_assert_eq!(queue.len(), plain.events.len());
            }
            while let Some(next) = plain.pop(u64::MAX) {
                prop_assert_eq!(queue.pop(u64::MAX), Some(next));
            }
            prop_assert_eq!(queue.pop(u64::MAX), None);
        }
    }

    #[test]
    fn an_alarm_that_moves_back_does_not_go_off_twice() {
        let mut queue: Queue<u8> = Queue::new();
        queue.push(5, 0, 1);
        queue.set_alarm(0, Some(10));
        assert_eq!(queue.pop(100), Some(Next { at: 5, node: 0, item: Some(1) }));
        queue.set_alarm(0, Some(20));
        assert_eq!(queue.pop(100), Some(Next { at: 20, node: 0, item: None }));
        assert_eq!(queue.pop(100), None);
    }
}
