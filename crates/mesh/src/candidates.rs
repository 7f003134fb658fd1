//! Candidates: nodes that might become neighbors, and when to try each again.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use peerchannel_wire::NodeId;
use peerchannel_wire::limits::NODE_ADDRESSES_MAX;

use crate::chance::Chance;
use crate::input::{Candidate, DialId};
use crate::time::Time;

/// First pause after a failed dial, doubled by each further one.
const BACKOFF_FIRST: Duration = Duration::from_millis(500);

/// Longest pause after failed dials while the node has neighbors.
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// Longest pause while it has none: docs/protocol.md section 3, isolation.
const BACKOFF_ISOLATED_MAX: Duration = Duration::from_secs(5);

/// Pause after a refusal that will not change by itself, or after finding oneself.
const BACKOFF_LASTING: Duration = Duration::from_secs(60);

/// Failures after which a candidate that came by hearsay is dropped.
const FAILURES_MAX: u32 = 6;

/// How a candidate is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Node(NodeId),
    /// A place whose node is not known in advance.
    Place(SocketAddr),
}

#[derive(Debug)]
pub(crate) struct Entry {
    addresses: Vec<SocketAddr>,
    /// Who answered at a place.
    found: Option<NodeId>,
    failures: u32,
    not_before: Time,
    dialing: Option<DialId>,
    /// A resolver named it: kept however often it fails.
    resolved: bool,
}

#[derive(Debug)]
pub(crate) struct Candidates {
    table: BTreeMap<Key, Entry>,
    max: usize,
}

impl Candidates {
    pub(crate) fn new(max: usize) -> Self {
        Self { table: BTreeMap::new(), max }
    }

    pub(crate) fn add(&mut self, candidate: Candidate, resolved: bool, now: Time, chance: &mut Chance) {
        let Some(place) = candidate.addresses.first() else { return };
        let key = candidate.node.map_or(Key::Place(*place), Key::Node);
        if let Some(entry) = self.table.get_mut(&key) {
            let unknown = candidate.addresses.iter().any(|address| !entry.addresses.contains(address));
            if !unknown {
                entry.resolved |= resolved;
                return;
            }
            // A new address is worth a try at once. What a resolver said is added to, never
            // replaced, by hearsay.
            if resolved || !entry.resolved {
                entry.addresses = candidate.addresses;
            } else {
                for address in candidate.addresses {
                    if !entry.addresses.contains(&address) && entry.addresses.len() < NODE_ADDRESSES_MAX {
                        entry.addresses.push(address);
                    }
                }
            }
            entry.resolved |= resolved;
            entry.failures = 0;
            entry.not_before = now;
            return;
        }
        if self.table.len() >= self.max {
            self.make_room(chance);
        }
        let entry = Entry {
            addresses: candidate.addresses,
            found: candidate.node,
            failures: 0,
            not_before: now,
            dialing: None,
            resolved,
        };
        self.table.insert(key, entry);
    }

    /// A random one of those that failed most often makes room: a flood of new addresses
    /// cannot push out all that worked.
    fn make_room(&mut self, chance: &mut Chance) {
        let free = || self.table.iter().filter(|(_, entry)| entry.dialing.is_none());
        let worst = free().map(|(_, entry)| entry.failures).max().unwrap_or(0);
        let keys: Vec<Key> = free().filter(|(_, e)| e.failures == worst).map(|(key, _)| *key).collect();
        if let Some(key) = chance.sample(keys, 1).first() {
            self.table.remove(key);
        }
    }

    /// Whom to try now, at most `count` in random order. `skip` says whom there is no need to try.
    pub(crate) fn eligible(
        &self,
        count: usize,
        now: Time,
        chance: &mut Chance,
        skip: impl Fn(NodeId) -> bool,
    ) -> Vec<Key> {
        let keys: Vec<Key> = self
            .table
            .iter()
            .filter(|(_, entry)| entry.dialing.is_none() && entry.not_before <= now)
            .filter(|(_, entry)| !entry.found.is_some_and(&skip))
            .map(|(key, _)| *key)
            .collect();
        chance.sample(keys, count)
    }

    /// When the next one may be tried.
    pub(crate) fn next_try(&self, skip: impl Fn(NodeId) -> bool) -> Option<Time> {
        self.table
            .values()
            .filter(|entry| entry.dialing.is_none() && !entry.found.is_some_and(&skip))
            .map(|entry| entry.not_before)
            .min()
    }

    pub(crate) fn dial(&mut self, key: Key, dial: DialId) -> Option<Candidate> {
        let entry = self.table.get_mut(&key)?;
        entry.dialing = Some(dial);
        let node = if let Key::Node(node) = key { Some(node) } else { None };
        Some(Candidate { node, addresses: entry.addresses.clone() })
    }

    pub(crate) fn dialing(&self) -> usize {
        self.table.values().filter(|entry| entry.dialing.is_some()).count()
    }

    pub(crate) fn succeeded(&mut self, key: Key, peer: NodeId) {
        if let Some(entry) = self.table.get_mut(&key) {
            entry.dialing = None;
            entry.failures = 0;
            entry.found = Some(peer);
        }
    }

    /// Notes a failure. `pause` replaces the usual backoff.
    pub(crate) fn failed(
        &mut self,
        key: Key,
        pause: Option<Duration>,
        isolated: bool,
        now: Time,
        chance: &mut Chance,
    ) {
        let Some(entry) = self.table.get_mut(&key) else { return };
        entry.dialing = None;
        entry.failures += 1;
        // A node that moved may have left its place to another.
        if let Key::Place(_) = key {
            entry.found = None;
        }
        if entry.failures > FAILURES_MAX && !entry.resolved {
            self.table.remove(&key);
            return;
        }
        let max = if isolated { BACKOFF_ISOLATED_MAX } else { BACKOFF_MAX };
        let usual = (BACKOFF_FIRST * 2u32.saturating_pow(entry.failures.min(16) - 1)).min(max);
        entry.not_before = now + pause.unwrap_or_else(|| chance.jitter(usual));
    }

    pub(crate) fn failed_for_long(&mut self, key: Key, now: Time, chance: &mut Chance) {
        self.failed(key, Some(BACKOFF_LASTING), false, now, chance);
    }

    /// Without neighbors, nobody waits longer than the isolated backoff.
    pub(crate) fn hurry(&mut self, now: Time) {
        for entry in self.table.values_mut() {
            entry.not_before = entry.not_before.min(now + BACKOFF_ISOLATED_MAX);
        }
    }

    /// A node that said goodbye is not to be dialed; one that was dropped not at once.
    pub(crate) fn pause(&mut self, node: NodeId, until: Time) {
        for entry in self.table.values_mut().filter(|entry| entry.found == Some(node)) {
            entry.not_before = entry.not_before.max(until);
        }
    }

    pub(crate) fn remove(&mut self, node: NodeId) {
        self.table.remove(&Key::Node(node));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(n: u8) -> NodeId {
        NodeId::from_bytes([n; 32])
    }

    fn candidate(n: u8) -> Candidate {
        Candidate { node: Some(node(n)), addresses: vec![([127, 0, 0, 1], u16::from(n) + 1).into()] }
    }

    #[test]
    fn failures_back_off_and_a_new_address_is_tried_at_once() {
        let mut chance = Chance::fork([0; 32], 0);
        let mut candidates = Candidates::new(8);
        candidates.add(candidate(1), false, Time::ZERO, &mut chance);
        let key = candidates.eligible(9, Time::ZERO, &mut chance, |_| false)[0];
        candidates.dial(key, DialId(1));
        assert!(candidates.eligible(9, Time::ZERO, &mut chance, |_| false).is_empty(), "being dialed");
        candidates.failed(key, None, false, Time::ZERO, &mut chance);
        let next = candidates.next_try(|_| false).unwrap();
        assert!(next > Time::ZERO && next < Time::ZERO + Duration::from_secs(1), "{next:?}");
        let moved = Candidate { addresses: vec![([127, 0, 0, 1], 99).into()], ..candidate(1) };
        candidates.add(moved, false, Time::ZERO, &mut chance);
        assert_eq!(candidates.eligible(9, Time::ZERO, &mut chance, |_| false), [key]);
    }

    #[test]
    fn hearsay_adds_to_what_a_resolver_said_and_another_order_is_no_news() {
        let mut chance = Chance::fork([0; 32], 0);
        let mut candidates = Candidates::new(8);
        let (a, b, c) = (([127, 0, 0, 1], 1).into(), ([127, 0, 0, 1], 2).into(), ([127, 0, 0, 1], 3).into());
        let mut add = |addresses: Vec<SocketAddr>, resolved| {
            let candidate = Candidate { node: Some(node(1)), addresses };
            candidates.add(candidate, resolved, Time::ZERO, &mut chance);
            (candidates.table[&Key::Node(node(1))].addresses.clone(), candidates.table.len())
        };
        assert_eq!(add(vec![a, b], true).0, [a, b]);
        assert_eq!(add(vec![b, a], false).0, [a, b]);
        assert_eq!(add(vec![c], false), (vec![a, b, c], 1));
        assert_eq!(add(vec![c, a, ([127, 0, 0, 1], 4).into()], true).0[0], c);
    }

    #[test]
    fn hearsay_is_dropped_after_many_failures_a_resolved_one_is_kept() {
        let mut chance = Chance::fork([0; 32], 0);
        let mut candidates = Candidates::new(8);
        candidates.add(candidate(1), false, Time::ZERO, &mut chance);
        candidates.add(candidate(2), true, Time::ZERO, &mut chance);
        for _ in 0..=FAILURES_MAX {
            for n in [1, 2] {
                candidates.failed(Key::Node(node(n)), None, false, Time::ZERO, &mut chance);
            }
        }
        assert_eq!(candidates.table.keys().copied().collect::<Vec<_>>(), [Key::Node(node(2))]);
        candidates.hurry(Time::ZERO);
        assert!(candidates.next_try(|_| false).unwrap() <= Time::ZERO + BACKOFF_ISOLATED_MAX);
    }

    #[test]
    fn the_table_is_bounded_and_gives_up_the_worst() {
        let mut chance = Chance::fork([0; 32], 0);
        let mut candidates = Candidates::new(8);
        for n in 1..=8 {
            candidates.add(candidate(n), true, Time::ZERO, &mut chance);
        }
        candidates.failed(Key::Node(node(3)), None, false, Time::ZERO, &mut chance);
        candidates.add(candidate(9), true, Time::ZERO, &mut chance);
        assert_eq!(candidates.table.len(), 8);
        assert!(!candidates.table.contains_key(&Key::Node(node(3))));
    }
}
