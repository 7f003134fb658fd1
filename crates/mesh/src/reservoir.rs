//! The reservoir: members of the past, remembered for the day the mesh falls apart.
//!
//! A clean split is invisible to the views of its halves: each forgets the other. So a node
//! keeps a uniform sample of all members it ever heard of, with their last good addresses,
//! which nothing pushes out but a member's own goodbye over its link to this node, many failed
//! dials, or another of the sample. What others say of a member, that it left or failed, bears
//! no signature of it and changes nothing here. Those of the sample that the node does not know
//! as alive are dialed one by one, rarely, and often while a split is suspected; who answers is
//! linked, and the comparison of tables does the rest (docs/protocol.md section 3.11). A node
//! that is alone dials all of them, beside its candidates.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use peerchannel_wire::{LinkKind, MemberRecord, NodeId};

use crate::chance::Chance;
use crate::connect::HEALING_MAX;
use crate::input::Candidate;
use crate::node::{Dial, Errand, Node};
use crate::output::Output;
use crate::time::Time;
use crate::timers::Timer;

/// Members remembered: of two halves that lived together each remembers a hundred of the
/// other. About 10 KB beside their records, which the member table has too while it is complete.
pub(crate) const RESERVOIR_MAX: usize = 256;

/// Most addresses that are dialed of each.
const ADDRESSES_MAX: usize = 4;

/// Pause between two dials while nothing is wrong.
const PROBE_INTERVAL: Duration = Duration::from_secs(30);

/// Pause while a split is suspected: ten dials, of which each finds the other half with even
/// odds, are done in 20 s.
const PROBE_INTERVAL_SPLIT: Duration = Duration::from_secs(2);

/// First pause after a failed dial of one member, doubled by each further one.
const BACKOFF_FIRST: Duration = Duration::from_secs(20);

/// Longest such pause.
const BACKOFF_MAX: Duration = Duration::from_secs(3600);

/// Pause while a split is suspected: the other half may be back any moment.
const BACKOFF_SPLIT: Duration = Duration::from_secs(20);

/// Failed dials in a row that a member is forgiven, over half a day: at one more it makes room for
/// another. Those made while a split is suspected do not count.
const FAILURES_MAX: u32 = 18;

/// How long a split stays suspected: the longest one that must heal fast (10 min), with room.
const SUSPECTED_FOR: Duration = Duration::from_secs(1800);

/// Links lost without a goodbye within this time are counted together.
const LOSSES_WITHIN: Duration = Duration::from_secs(30);

/// Members that failed within this time are counted together: two periods of the estimate.
const FAILURES_WITHIN: Duration = Duration::from_secs(120);

/// Most losses remembered: more than anyone has links.
const LOSSES_MAX: usize = 64;

#[derive(Debug)]
struct Past {
    record: MemberRecord,
    failures: u32,
    not_before: Time,
    dialing: bool,
}

#[derive(Debug)]
pub(crate) struct Reservoir {
    // By a secret number each node id is given: the least 256 are a uniform sample of all
    // that were ever offered, however often each was (min-wise sampling, Brahms).
    table: BTreeMap<u64, Past>,
    secret: u64,
    losses: VecDeque<Time>,
    failures: (Time, usize),
    suspected_until: Time,
}

impl Reservoir {
    pub(crate) fn new(chance: &mut Chance) -> Self {
        Self {
            table: BTreeMap::new(),
            secret: chance.number(),
            losses: VecDeque::new(),
            failures: (Time::ZERO, 0),
            suspected_until: Time::ZERO,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    fn key(&self, node: NodeId) -> u64 {
        // SplitMix64 over the id's words, keyed: uniform, and not to be guessed from outside.
        node.as_bytes().chunks_exact(8).fold(self.secret, |state, chunk| {
            let mut word = [0; 8];
            word.copy_from_slice(chunk);
            let mut z = (state ^ u64::from_le_bytes(word)).wrapping_add(0x9e37_79b9_7f4a_7c15);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        })
    }

    /// A member that was seen alive, and says where it can be dialed.
    pub(crate) fn remember(&mut self, record: &MemberRecord, now: Time) {
        let key = self.key(record.facts().node);
        let full = self.table.len() >= RESERVOIR_MAX;
        if let Some(past) = self.table.get_mut(&key) {
            (past.record, past.failures, past.not_before) = (record.clone(), 0, now);
            return;
        }
        if full && self.table.last_key_value().is_some_and(|(last, _)| *last < key) {
            return;
        }
        if full {
            self.table.pop_last();
        }
        let past = Past { record: record.clone(), failures: 0, not_before: now, dialing: false };
        self.table.insert(key, past);
    }

    /// It said itself that it leaves: there is nobody to find.
    pub(crate) fn forget(&mut self, node: NodeId) {
        let key = self.key(node);
        self.table.remove(&key);
    }

    /// `hurry`: the mesh may be split, or it is this node that is away. Then a failure says little.
    pub(crate) fn failed(&mut self, node: NodeId, hurry: bool, now: Time, chance: &mut Chance) {
        let key = self.key(node);
        let Some(past) = self.table.get_mut(&key) else { return };
        past.dialing = false;
        // That nobody beyond a break answers says nothing about who is there.
        past.failures += u32::from(!hurry);
        let longer = 2u32.saturating_pow(past.failures.clamp(1, 16) - 1);
        let pause = if hurry { BACKOFF_SPLIT } else { (BACKOFF_FIRST * longer).min(BACKOFF_MAX) };
        past.not_before = now + chance.jitter(pause);
        if past.failures > FAILURES_MAX {
            self.table.remove(&key);
        }
    }

    pub(crate) fn answered(&mut self, node: NodeId, now: Time) {
        let key = self.key(node);
        if let Some(past) = self.table.get_mut(&key) {
            (past.dialing, past.failures, past.not_before) = (false, 0, now + BACKOFF_FIRST);
        }
    }

    pub(crate) fn suspects_split(&self, now: Time) -> bool {
        now < self.suspected_until
    }

    /// A link was lost without a goodbye while this many others stayed. Tells whether a split
    /// is suspected for it.
    pub(crate) fn lost_link(&mut self, now: Time, left: usize) -> bool {
        self.losses.retain(|at| now.since(*at) < LOSSES_WITHIN);
        if self.losses.len() < LOSSES_MAX {
            self.losses.push_back(now);
        }
        let lost = self.losses.len();
        let suspicious = lost * 4 >= lost + left && (lost >= 2 || left == 0);
        suspicious && self.suspect_split(now)
    }

    /// A member failed while this many others are alive. Tells whether a split is suspected.
    pub(crate) fn lost_member(&mut self, now: Time, left: usize) -> bool {
        if now.since(self.failures.0) >= FAILURES_WITHIN {
            self.failures = (now, 0);
        }
        self.failures.1 += 1;
        let lost = self.failures.1;
        lost >= 2 && lost * 4 >= lost + left && self.suspect_split(now)
    }

    fn suspect_split(&mut self, now: Time) -> bool {
        let new = !self.suspects_split(now);
        self.suspected_until = now + SUSPECTED_FOR;
        if new {
            self.hurry(now);
        }
        new
    }

    fn hurry(&mut self, now: Time) {
        for past in self.table.values_mut() {
            past.not_before = past.not_before.min(now + BACKOFF_SPLIT);
        }
    }

    /// Whom to dial now: a random one of those for whom `wanted` says so.
    fn next(&mut self, now: Time, chance: &mut Chance, wanted: impl Fn(NodeId) -> bool) -> Option<Candidate> {
        let ready = |past: &Past| !past.dialing && past.not_before <= now && wanted(past.record.facts().node);
        let keys: Vec<u64> = self.table.iter().filter(|(_, past)| ready(past)).map(|(key, _)| *key).collect();
        let key = *chance.sample(keys, 1).first()?;
        let past = self.table.get_mut(&key)?;
        let address = past.record.address()?;
        past.dialing = true;
        let addresses = address.addresses().iter().copied().take(ADDRESSES_MAX).collect();
        Some(Candidate { node: Some(address.node()), addresses })
    }
}

impl Node {
    pub(crate) fn start_healing(&mut self, now: Time) {
        let at = now + self.chance.jitter(PROBE_INTERVAL);
        self.timers.set(Timer::Reservoir, at);
        let at = now + self.chance.jitter(self.config.audit_interval);
        self.timers.set(Timer::Audit, at);
    }

    /// Dials a member of the past.
    pub(crate) fn probe_past(&mut self, now: Time) {
        if self.is_closing() || self.is_resting() {
            return;
        }
        // Who is alone may know them as alive, and have given up all its candidates.
        let alone = self.links.flooding().next().is_none();
        let (members, links, dials) = (&self.members, &self.links, &self.dials);
        let wanted = |node| {
            let lost = alone || (members.is_inside(node) && !members.is_alive(node));
            lost && !links.reaches(node) && !dials.values().any(|dial| dial.node == Some(node))
        };
        // More would drop others when they come up.
        let room = links.flooding().count() < self.neighbors_max_now() + HEALING_MAX;
        if room && let Some(candidate) = self.reservoir.next(now, &mut self.chance, wanted) {
            self.stats.reservoir_probes += 1;
            let dial = self.new_dial(Dial {
                candidate: None,
                node: candidate.node,
                kind: LinkKind::Far,
                errand: Errand::Heal,
            });
            self.order(Output::Dial { dial, candidate });
        }
        let hurry = self.seeks_past(now);
        let pause = self.chance.jitter(if hurry { PROBE_INTERVAL_SPLIT } else { PROBE_INTERVAL });
        self.timers.set(Timer::Reservoir, now + pause);
    }

    /// Whether members of the past are dialed in haste: a split is suspected, or there is no
    /// neighbor while somebody is remembered.
    pub(crate) fn seeks_past(&self, now: Time) -> bool {
        let alone = self.links.flooding().next().is_none() && self.reservoir.len() > 0;
        alone || self.reservoir.suspects_split(now)
    }

    /// The last neighbor is gone.
    pub(crate) fn seek_past(&mut self, now: Time) {
        self.reservoir.hurry(now);
        let at = now + self.chance.jitter(PROBE_INTERVAL_SPLIT);
        self.timers.set_by(Timer::Reservoir, at);
    }

    /// Links or members went all at once: the mesh may have fallen apart.
    pub(crate) fn split_suspected(&mut self, now: Time) {
        self.stats.splits_suspected += 1;
        let at = now + self.chance.jitter(PROBE_INTERVAL_SPLIT);
        self.timers.set_by(Timer::Reservoir, at);
        self.resolve_soon(now);
    }
}

#[cfg(test)]
mod tests {
    use peerchannel_wire::{Epoch, MemberFacts, MemberName, Signature};

    use super::*;

    fn record(n: u16) -> MemberRecord {
        let mut id = [0; 32];
        id[..2].copy_from_slice(&n.to_be_bytes());
        let (node, epoch) = (NodeId::from_bytes(id), Epoch::new(1).unwrap());
        let addresses = vec![([127, 0, 0, 1], 1 + n).into()];
        let facts = MemberFacts { addresses, ..MemberFacts::new(node, epoch, 0, MemberName::default()) };
        facts.unsigned().sign(Signature::from_bytes([0; 64]))
    }

    #[test]
    fn it_keeps_a_uniform_sample_however_often_each_is_seen() {
        let mut early = 0;
        for seed in 0..20 {
            let mut chance = Chance::fork([seed; 32], 0);
            let mut reservoir = Reservoir::new(&mut chance);
            for round in 0..4 {
                for n in 0..2000 {
                    // The later half is seen once, the earlier again and again.
                    if round == 0 || n < 1000 {
                        reservoir.remember(&record(n), Time::ZERO);
                    }
                }
            }
            assert_eq!(reservoir.table.len(), RESERVOIR_MAX);
            let first = |past: &&Past| past.record.facts().addresses[0].port() <= 1000;
            early += reservoir.table.values().filter(first).count();
        }
        assert!((2300..2820).contains(&early), "{early} of {}", 20 * RESERVOIR_MAX);
    }

    #[test]
    fn the_dead_are_dialed_ever_less_and_those_that_left_never() {
        let mut chance = Chance::fork([0; 32], 0);
        let mut reservoir = Reservoir::new(&mut chance);
        reservoir.remember(&record(1), Time::ZERO);
        let node = record(1).facts().node;
        let (mut now, mut dials) = (Time::ZERO, 0);
        while now < Time::ZERO + Duration::from_secs(36_000) {
            if reservoir.next(now, &mut chance, |_| true).is_some() {
                dials += 1;
                reservoir.failed(node, false, now, &mut chance);
            }
            now = now + Duration::from_secs(30);
        }
        assert!((10..25).contains(&dials), "{dials} in ten hours");
        reservoir.remember(&record(1), now);
        reservoir.forget(node);
        assert!(reservoir.next(now, &mut chance, |_| true).is_none());
    }

    #[test]
    fn a_split_however_long_makes_nobody_forget_the_other_half() {
        let mut chance = Chance::fork([0; 32], 0);
        let mut reservoir = Reservoir::new(&mut chance);
        reservoir.remember(&record(1), Time::ZERO);
        let (node, mut now) = (record(1).facts().node, Time::ZERO);
        for dial in 0..200 {
            now = now + 2 * BACKOFF_SPLIT;
            assert!(reservoir.next(now, &mut chance, |_| true).is_some(), "dial {dial}");
            reservoir.failed(node, true, now, &mut chance);
        }
        // Not suspected any more: the half day begins.
        reservoir.failed(node, false, now, &mut chance);
        assert_eq!(reservoir.len(), 1);
    }

    #[test]
    fn many_losses_at_once_look_like_a_split_and_single_ones_do_not() {
        let at = |secs| Time::ZERO + Duration::from_secs(secs);
        let mut reservoir = Reservoir::new(&mut Chance::fork([0; 32], 0));
        assert!(!reservoir.lost_link(at(100), 7));
        assert!(!reservoir.lost_link(at(200), 7));
        assert!(reservoir.lost_link(at(210), 6), "two of eight");
        assert!(!reservoir.lost_link(at(211), 5), "suspected already");
        assert!(reservoir.suspects_split(at(800)) && !reservoir.suspects_split(at(3000)));
        for n in 0..9 {
            assert!(!reservoir.lost_member(at(4000 + n), 99 - n as usize));
        }
        assert!((9..40).any(|n| reservoir.lost_member(at(4010), 99 - n)), "a quarter");
    }
}
