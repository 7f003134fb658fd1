//! The passive view: nodes that might become neighbors, and when to try each again.
//!
//! One table. What resolvers named is kept however often it fails; what came by hearsay
//! (referrals, shuffles, member records) is a bounded sample in which a new one takes the place
//! of a random old one, but never of all that worked. From HyParView (section 4.2), with
//! last-good addresses, ages and coordinates.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use peerchannel_wire::limits::NODE_ADDRESSES_MAX;
use peerchannel_wire::{Coordinate, NodeAddress, NodeId, ShuffledNode};

pub(crate) use crate::candidate::{Entry, Key, Source};
use crate::chance::Chance;
use crate::coordinate::Place;
use crate::input::{Candidate, DialId};
use crate::time::Time;

/// First pause after a failed dial, doubled by each further one.
const BACKOFF_FIRST: Duration = Duration::from_millis(500);

/// Longest pause after failed dials while the node has neighbors.
const BACKOFF_MAX: Duration = Duration::from_secs(60);

/// Longest pause while it has none and knows up to ten nodes to try (docs/protocol.md section 3.9).
const BACKOFF_ISOLATED_MIN: Duration = Duration::from_secs(5);

/// The same with sixty and more to try: about two dials a second in all.
const BACKOFF_ISOLATED_MAX: Duration = Duration::from_secs(30);

/// Pause after a refusal that will not change by itself, or after finding oneself.
const BACKOFF_LASTING: Duration = Duration::from_secs(60);

/// Failures in a row that a candidate which came by hearsay is forgiven: one more, and it is dropped.
const FAILURES_MAX: u32 = 6;

/// The same for one that never answered, while there are plenty of others: a dial that nobody
/// answers costs more than a link.
const FAILURES_OF_STRANGERS: u32 = 1;

/// How long a node that was dropped for its failures is not taken up again by hearsay: nodes
/// that cannot be dialed are told of as often as others.
const SHUNNED_FOR: Duration = Duration::from_secs(600);

/// Most nodes shunned at once; when full, the one that is over soonest makes room.
const SHUNNED_MAX: usize = 128;

/// A dial that has not been answered for this long is not counted on: another is made beside it.
const HEDGE: Duration = Duration::from_secs(2);

/// Candidates not heard of for this long are not told to others.
const TOLD_AGE_MAX: Duration = Duration::from_secs(600);

#[derive(Debug)]
pub(crate) struct Candidates {
    table: BTreeMap<Key, Entry>,
    /// How many of them came by hearsay.
    heard: usize,
    heard_max: usize,
    named_max: usize,
    shunned: BTreeMap<NodeId, Time>,
    /// The node has fewer links than it may have: nobody is spared.
    needy: bool,
}

impl Candidates {
    /// Room for `heard_max` by hearsay and `named_max` that resolvers or earlier runs named.
    pub(crate) fn new(heard_max: usize, named_max: usize) -> Self {
        Self {
            table: BTreeMap::new(),
            heard: 0,
            heard_max,
            named_max,
            shunned: BTreeMap::new(),
            needy: false,
        }
    }

    pub(crate) fn add(&mut self, candidate: Candidate, source: Source, now: Time, chance: &mut Chance) {
        let Some(place) = candidate.addresses.first() else { return };
        let key = candidate.node.map_or(Key::Place(*place), Key::Node);
        let addresses = bounded(candidate.addresses);
        let heard_of = self.table.get(&key).is_some_and(|entry| entry.source == Source::Hearsay);
        let named_now = source > Source::Hearsay && self.table.len() - self.heard >= self.named_max;
        if heard_of && named_now && !self.make_room(source, chance) {
            return;
        }
        if let Some(entry) = self.table.get_mut(&key) {
            let named = entry.source > Source::Hearsay;
            self.heard -= usize::from(!named && source > Source::Hearsay);
            entry.source = entry.source.max(source);
            let unknown = addresses.iter().any(|address| !entry.addresses.contains(address));
            if !unknown {
                return;
            }
            // A new address is worth a try at once. What a resolver said is added to, never
            // replaced, by hearsay.
            if source > Source::Hearsay || !named {
                entry.replace_addresses(addresses);
            } else {
                for address in addresses {
                    if !entry.addresses.contains(&address) && entry.addresses.len() < NODE_ADDRESSES_MAX {
                        entry.addresses.push(address);
                    }
                }
            }
            entry.failures = 0;
            entry.not_before = now;
            return;
        }
        if source == Source::Hearsay {
            if candidate.node.is_some_and(|node| self.shuns(node, now)) {
                return;
            }
            if self.heard >= self.heard_max && !self.make_room(source, chance) {
                return;
            }
        } else if self.table.len() - self.heard >= self.named_max && !self.make_room(source, chance) {
            return;
        }
        let entry = Entry {
            addresses,
            good: None,
            found: candidate.node,
            worked: false,
            vouched: false,
            failures: 0,
            not_before: now,
            spared_until: now,
            dialing: None,
            source,
            seen: now,
            seen_age: Duration::ZERO,
            coordinate: None,
            measured: None,
        };
        self.heard += usize::from(source == Source::Hearsay);
        self.table.insert(key, entry);
    }

    /// A shuffle told of it: so it can be dialed, is there, and somewhere.
    /// It was last known to be there so long ago.
    pub(crate) fn vouch(&mut self, node: NodeId, coordinate: Option<Coordinate>, age: Duration, now: Time) {
        if let Some(entry) = self.table.get_mut(&Key::Node(node)) {
            // Hearsay alone says nothing of when somebody saw it.
            let known = entry.vouched || entry.worked;
            if !known || age < entry.age(now) {
                (entry.seen, entry.seen_age) = (now, age);
            }
            entry.vouched = true;
            entry.coordinate = coordinate.or(entry.coordinate);
        }
    }

    /// It was a neighbor, which dialed this node or was dialed.
    pub(crate) fn was_neighbor(
        &mut self,
        node: NodeId,
        dialed: bool,
        coordinate: Option<Coordinate>,
        now: Time,
    ) {
        if let Some(entry) = self.table.get_mut(&Key::Node(node)) {
            entry.worked |= dialed;
            entry.coordinate = coordinate.or(entry.coordinate);
            (entry.seen, entry.seen_age) = (now, Duration::ZERO);
        }
    }

    /// Stops a debug build if an invariant does not hold.
    pub(crate) fn check(&self) {
        let heard = self.table.values().filter(|entry| entry.source == Source::Hearsay).count();
        let named = self.table.len() - heard;
        debug_assert!(heard == self.heard, "{heard} by hearsay, not {}", self.heard);
        debug_assert!(heard <= self.heard_max, "{heard} by hearsay");
        debug_assert!(named <= self.named_max, "{named} named by resolvers");
        debug_assert!(self.shunned.len() <= SHUNNED_MAX, "{} shunned", self.shunned.len());
    }

    /// Whether one more by hearsay would push another out.
    pub(crate) fn is_full(&self) -> bool {
        self.heard >= self.heard_max
    }

    /// One of the same kind of source makes room: a random one of those that failed most often;
    /// if none failed, a random one that never was a neighbor, as long as those that were take
    /// no more than half. A flood of new ones cannot push out all that worked. Says whether one
    /// did: not if all are being dialed.
    fn make_room(&mut self, source: Source, chance: &mut Chance) -> bool {
        let max = if source > Source::Hearsay { self.named_max } else { self.heard_max };
        let of_kind = |entry: &Entry| (entry.source > Source::Hearsay) == (source > Source::Hearsay);
        let free = || self.table.iter().filter(|(_, e)| e.dialing.is_none() && of_kind(e));
        let worst = free().map(|(_, entry)| entry.failures).max().unwrap_or(0);
        let worked = free().filter(|(_, entry)| entry.worked).count();
        let spare_worked = worst == 0 && worked <= max / 2;
        let able = |entry: &Entry| entry.failures == worst && !(spare_worked && entry.worked);
        let keys: Vec<Key> = free().filter(|(_, e)| able(e)).map(|(key, _)| *key).collect();
        let Some(key) = chance.sample(keys, 1).first().copied() else { return false };
        self.drop_entry(key);
        true
    }

    fn drop_entry(&mut self, key: Key) {
        if let Some(entry) = self.table.remove(&key) {
            self.heard -= usize::from(entry.source == Source::Hearsay);
        }
    }

    fn shuns(&mut self, node: NodeId, now: Time) -> bool {
        if self.shunned.get(&node).is_some_and(|until| *until <= now) {
            self.shunned.remove(&node);
        }
        self.shunned.contains_key(&node)
    }

    /// Its addresses changed, or it joined anew: what failed before means nothing.
    pub(crate) fn forgive(&mut self, node: NodeId) {
        self.shunned.remove(&node);
    }

    /// Whom to try now, at most `count` in random order, anchors first. `skip` says whom there
    /// is no need to try.
    pub(crate) fn eligible(
        &self,
        count: usize,
        now: Time,
        chance: &mut Chance,
        skip: impl Fn(NodeId) -> bool,
    ) -> Vec<Key> {
        let ready = || {
            let ready = self.table.iter().filter(|(_, entry)| entry.is_ready(now, self.needy));
            ready.filter(|(_, entry)| !entry.found.is_some_and(&skip))
        };
        let keys = |anchors: bool| {
            let kept = ready().filter(|(_, entry)| (entry.source == Source::Anchor) == anchors);
            kept.map(|(key, _)| *key).collect::<Vec<Key>>()
        };
        let mut chosen = chance.sample(keys(true), count);
        let rest = count - chosen.len();
        chosen.extend(chance.sample(keys(false), rest));
        chosen
    }

    /// The ready candidate with the shortest expected round-trip time, and that time.
    pub(crate) fn nearest(
        &self,
        now: Time,
        place: &Place,
        skip: impl Fn(NodeId) -> bool,
    ) -> Option<(Key, Duration)> {
        let ready = self.table.iter().filter(|(_, entry)| entry.is_ready(now, self.needy));
        ready
            .filter(|(_, entry)| !entry.found.is_some_and(&skip))
            .filter_map(|(key, entry)| {
                let predicted = entry.measured.or_else(|| place.predict(&entry.coordinate?));
                predicted.map(|rtt| (*key, rtt))
            })
            .min_by_key(|(_, rtt)| *rtt)
    }

    /// Whether a node may be dialed now, as far as this table knows.
    pub(crate) fn may_dial(&self, node: NodeId, now: Time) -> bool {
        let shunned = self.shunned.get(&node).is_some_and(|until| *until > now);
        !shunned && self.table.get(&Key::Node(node)).is_none_or(|entry| entry.is_ready(now, self.needy))
    }

    /// Whether a node is known to answer dials, and did not fail to since.
    pub(crate) fn answers(&self, node: NodeId) -> bool {
        let answers = |entry: &Entry| (entry.worked || entry.vouched) && entry.failures == 0;
        self.table.get(&Key::Node(node)).is_some_and(answers)
    }

    /// A few to tell others of, with their ages: only such as can be dialed, as far as is known.
    /// `skip` says of whom there is no need to tell.
    pub(crate) fn to_tell(
        &self,
        count: usize,
        now: Time,
        chance: &mut Chance,
        skip: impl Fn(NodeId) -> bool,
    ) -> Vec<ShuffledNode> {
        let told = self.table.iter().filter_map(|(key, entry)| {
            let Key::Node(node) = key else { return None };
            let age = entry.age(now);
            let dialable = entry.worked || entry.vouched;
            let worth = dialable && entry.failures == 0 && age < TOLD_AGE_MAX && !skip(*node);
            worth.then_some((*node, entry, age))
        });
        let chosen = chance.sample(told.collect(), count);
        let told = |(node, entry, age): (NodeId, &Entry, Duration)| {
            let address = NodeAddress::new(node, entry.addresses.iter().copied())?;
            let age_s = u32::try_from(age.as_secs()).unwrap_or(u32::MAX);
            Some(ShuffledNode { address, coordinate: entry.coordinate, age_s })
        };
        chosen.into_iter().filter_map(told).collect()
    }

    /// Where one is dialed first.
    pub(crate) fn place_of(&self, key: &Key) -> Option<SocketAddr> {
        self.table.get(key)?.addresses.first().copied()
    }

    /// When the next one may be tried.
    pub(crate) fn next_try(&self, skip: impl Fn(NodeId) -> bool) -> Option<Time> {
        self.table
            .values()
            .filter(|entry| entry.dialing.is_none() && !entry.found.is_some_and(&skip))
            .map(|entry| entry.ready_at(self.needy))
            .min()
    }

    pub(crate) fn dial(&mut self, key: Key, dial: DialId, now: Time) -> Option<Candidate> {
        let entry = self.table.get_mut(&key)?;
        entry.dialing = Some((dial, now));
        let node = if let Key::Node(node) = key { Some(node) } else { None };
        Some(Candidate { node, addresses: entry.addresses.clone() })
    }

    pub(crate) fn dialing(&self) -> usize {
        self.table.values().filter(|entry| entry.dialing.is_some()).count()
    }

    /// Dials that may still be expected to bring a link soon.
    pub(crate) fn promising(&self, now: Time) -> usize {
        let young = |entry: &&Entry| entry.dialing.is_some_and(|(_, since)| now.since(since) < HEDGE);
        self.table.values().filter(young).count()
    }

    /// When the next dial stops being promising.
    pub(crate) fn next_hedge(&self, now: Time) -> Option<Time> {
        let dialing = self.table.values().filter_map(|entry| entry.dialing);
        dialing.map(|(_, since)| since + HEDGE).filter(|at| *at > now).min()
    }

    pub(crate) fn succeeded(&mut self, key: Key, peer: NodeId, address: SocketAddr, now: Time) {
        if let Some(entry) = self.table.get_mut(&key) {
            entry.dialing = None;
            entry.failures = 0;
            entry.found = Some(peer);
            entry.worked = true;
            entry.good = Some(address);
            (entry.seen, entry.seen_age) = (now, Duration::ZERO);
            if let Some(index) = entry.addresses.iter().position(|known| *known == address) {
                entry.addresses.swap(0, index);
            }
        }
    }

    /// What a trial link to a node measured.
    pub(crate) fn note_measured(&mut self, node: NodeId, rtt: Duration) {
        for entry in self.table.values_mut().filter(|entry| entry.found == Some(node)) {
            entry.measured = Some(rtt);
        }
    }

    /// Notes a failure. `pause` replaces the usual backoff. Says whether the node was given up.
    pub(crate) fn failed(
        &mut self,
        key: Key,
        pause: Option<Duration>,
        isolated: bool,
        now: Time,
        chance: &mut Chance,
    ) -> bool {
        let many = self.heard > self.heard_max / 2 && !isolated;
        let isolated_max = self.isolated_max();
        let Some(entry) = self.table.get_mut(&key) else { return false };
        entry.dialing = None;
        entry.failures += 1;
        // A node that moved may have left its place to another.
        if let Key::Place(_) = key {
            entry.found = None;
        }
        let most = if many && !entry.worked { FAILURES_OF_STRANGERS } else { FAILURES_MAX + 1 };
        if entry.failures >= most && entry.source == Source::Hearsay {
            self.drop_entry(key);
            if let (true, Key::Node(node)) = (many, key) {
                self.shun(node, now);
            }
            return true;
        }
        let max = if isolated { isolated_max } else { BACKOFF_MAX };
        let usual = (BACKOFF_FIRST * 2u32.saturating_pow(entry.failures.min(16) - 1)).min(max);
        entry.not_before = now + pause.unwrap_or_else(|| chance.jitter(usual));
        false
    }

    fn shun(&mut self, node: NodeId, now: Time) {
        if self.shunned.len() >= SHUNNED_MAX {
            let soonest = self.shunned.iter().min_by_key(|(_, until)| **until).map(|(node, _)| *node);
            if let Some(node) = soonest {
                self.shunned.remove(&node);
            }
        }
        self.shunned.insert(node, now + SHUNNED_FOR);
    }

    pub(crate) fn failed_for_long(&mut self, key: Key, now: Time, chance: &mut Chance) {
        self.failed(key, Some(BACKOFF_LASTING), false, now, chance);
    }

    /// The longest pause of a node without neighbors: the more there are to try, the longer.
    fn isolated_max(&self) -> Duration {
        let share = u32::try_from(self.table.len()).unwrap_or(u32::MAX) / 2;
        (Duration::from_secs(1) * share).clamp(BACKOFF_ISOLATED_MIN, BACKOFF_ISOLATED_MAX)
    }

    /// Without neighbors, nobody waits longer than the isolated backoff, and nobody is shunned.
    pub(crate) fn hurry(&mut self, now: Time) {
        self.shunned.clear();
        let max = self.isolated_max();
        for entry in self.table.values_mut() {
            entry.not_before = entry.not_before.min(now + max);
        }
    }

    /// A node that said goodbye is not to be dialed; one that was dropped not at once.
    pub(crate) fn pause(&mut self, node: NodeId, until: Time) {
        for entry in self.table.values_mut().filter(|entry| entry.found == Some(node)) {
            entry.not_before = entry.not_before.max(until);
        }
    }

    /// A node that one of the two dropped for having too many links, or that refused as busy.
    pub(crate) fn spare(&mut self, node: NodeId, until: Time) {
        for entry in self.table.values_mut().filter(|entry| entry.found == Some(node)) {
            entry.spared_until = entry.spared_until.max(until);
        }
    }

    /// Says whether the node has fewer links than it may have.
    pub(crate) fn set_needy(&mut self, needy: bool) {
        self.needy = needy;
    }

    pub(crate) fn remove(&mut self, node: NodeId) {
        self.drop_entry(Key::Node(node));
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }
}

/// The first of them, each once: all of a candidate's addresses are dialed, and who names them
/// may name any number.
fn bounded(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let mut kept = Vec::with_capacity(addresses.len().min(NODE_ADDRESSES_MAX));
    for address in addresses {
        if kept.len() < NODE_ADDRESSES_MAX && !kept.contains(&address) {
            kept.push(address);
        }
    }
    kept
}

#[cfg(test)]
mod tests;
