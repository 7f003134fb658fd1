//! Streams of other origins: what is complete, what waits, who has what is missing.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use peerchannel_wire::{Epoch, NodeId, Sequence, StreamId};

use crate::input::LinkId;
use crate::output::GapReason;
use crate::sources::Sources;
use crate::stream_list::StreamList;
use crate::time::Time;

/// Most separate ranges a stream remembers as barred by the filter. Beyond, the oldest is
/// answered as gone instead.
const BARRED_MAX: usize = 64;

/// Most ranges asked for in one pull.
pub(crate) const PULL_RANGES_MAX: usize = 32;

/// A message that arrived, waiting for an earlier one.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) payload: Bytes,
    pub(crate) hops: u32,
    pub(crate) published_ms: u64,
    /// What the filter said about delivering it here.
    pub(crate) deliver: bool,
}

/// What a waiting message costs beyond its payload, so that empty ones are bounded too.
const HELD_OVERHEAD: usize = 128;

impl Held {
    /// Bytes it takes of the hold-back.
    pub(crate) fn cost(&self) -> usize {
        self.payload.len() + HELD_OVERHEAD
    }
}

/// The search for missing messages of one stream.
#[derive(Debug)]
pub(crate) struct Repair {
    /// The first missing message; refusals below are about it.
    pub(crate) missing: Sequence,
    /// When the search for it began, or last made progress.
    pub(crate) since: Time,
    /// The neighbor asked last.
    pub(crate) asked: Option<LinkId>,
    /// Neighbors asked in this round.
    pub(crate) tried: BTreeSet<LinkId>,
    /// Neighbors whose position said since then that it is not missing there. Of others that
    /// sent what comes after it, nobody knows.
    pub(crate) shown: BTreeSet<LinkId>,
    /// Neighbors that cannot serve it, why, and up to which sequence.
    pub(crate) refused: BTreeMap<LinkId, (GapReason, Sequence)>,
    /// Since when every announcer has refused.
    pub(crate) refused_by_all: Option<Time>,
}

impl Repair {
    pub(crate) fn new(missing: Sequence, now: Time) -> Self {
        Self {
            missing,
            since: now,
            asked: None,
            tried: BTreeSet::new(),
            shown: BTreeSet::new(),
            refused: BTreeMap::new(),
            refused_by_all: None,
        }
    }
}

/// One stream of another origin.
#[derive(Debug)]
pub(crate) struct Inbound {
    /// Every message up to here was delivered, is history, or was reported as a gap.
    pub(crate) contiguous: Sequence,
    // Invariant: every key is above `contiguous`, once the baseline is known.
    held: BTreeMap<Sequence, Held>,
    /// First and last sequence of batches whose signature is being verified, and their senders.
    pub(crate) verifying: BTreeMap<Sequence, (Sequence, Vec<LinkId>)>,
    /// How far each neighbor can probably serve.
    pub(crate) sources: Sources,
    // Ranges a filter barred from propagating, ascending.
    barred: Vec<(Sequence, Sequence)>,
    pub(crate) repair: Option<Box<Repair>>,
    pub(crate) progress: Time,
    /// A message of it was authentic: it is not just a neighbor's word.
    pub(crate) proven: bool,
}

impl Inbound {
    pub(crate) fn new(baseline: Sequence, now: Time) -> Self {
        Self {
            contiguous: baseline,
            held: BTreeMap::new(),
            verifying: BTreeMap::new(),
            sources: Sources::default(),
            barred: Vec::new(),
            repair: None,
            progress: now,
            proven: false,
        }
    }

    /// Whether the message is here, was here, or was given up.
    pub(crate) fn has(&self, sequence: Sequence) -> bool {
        sequence <= self.contiguous || self.held.contains_key(&sequence)
    }

    /// Whether every message of the range is.
    pub(crate) fn has_all(&self, first: Sequence, last: Sequence) -> bool {
        if last <= self.contiguous {
            return true;
        }
        let from = first.max(self.contiguous.next());
        let wanted = last.get() - from.get() + 1;
        self.held.range(from..=last).count() as u64 == wanted
    }

    /// The signature of a batch was looked at. Gives who sent it.
    pub(crate) fn verified(&mut self, first: Sequence) -> Option<Vec<LinkId>> {
        let (_, sources) = self.verifying.remove(&first)?;
        if self.verifying.is_empty() {
            // As with `held`.
            self.verifying = BTreeMap::new();
        }
        Some(sources)
    }

    pub(crate) fn hold(&mut self, sequence: Sequence, held: Held) {
        self.held.insert(sequence, held);
    }

    /// The next message in order, if it is here.
    pub(crate) fn pop_next(&mut self) -> Option<(Sequence, Held)> {
        let next = self.contiguous.next();
        let held = self.held.remove(&next)?;
        self.contiguous = next;
        if self.held.is_empty() {
            // An emptied map keeps a leaf, which is more than the rest of the stream takes.
            self.held = BTreeMap::new();
        }
        Some((next, held))
    }

    /// Moves on past what is history or a gap. Returns the hold-back bytes it freed.
    pub(crate) fn skip_to(&mut self, position: Sequence) -> usize {
        if position <= self.contiguous {
            return 0;
        }
        let rest = self.held.split_off(&position.next());
        let dropped = std::mem::replace(&mut self.held, rest);
        self.contiguous = position;
        dropped.values().map(Held::cost).sum()
    }

    /// The furthest any neighbor can serve.
    pub(crate) fn known_through(&self) -> Sequence {
        let announced = self.sources.furthest();
        let held = self.held.last_key_value().map(|(s, _)| *s).unwrap_or_default();
        announced.max(held).max(self.contiguous)
    }

    /// The first missing message, if any neighbor has shown that it exists.
    pub(crate) fn first_missing(&self) -> Option<Sequence> {
        (self.known_through() > self.contiguous).then(|| self.contiguous.next())
    }

    /// The missing ranges up to `through`, at most [`PULL_RANGES_MAX`]; what is being verified
    /// is not missing.
    pub(crate) fn missing(&self, through: Sequence) -> Vec<(Sequence, Sequence)> {
        let mut ranges = Vec::new();
        let mut next = self.contiguous.next();
        while next <= through && ranges.len() < PULL_RANGES_MAX {
            if let Some((last, _)) = self.verifying.get(&next) {
                next = last.next();
                continue;
            }
            if self.held.contains_key(&next) {
                next = next.next();
                continue;
            }
            let held = self.held.range(next..).next().map(|(s, _)| s.previous());
            let verifying = self.verifying.range(next..).next().map(|(s, _)| s.previous());
            let end = held.into_iter().chain(verifying).fold(through, Sequence::min);
            ranges.push((next, end));
            next = end.next();
        }
        ranges
    }

    /// The last of the messages missing in a row from the next one on; none if the next one
    /// is being verified.
    pub(crate) fn first_gap_end(&self) -> Option<Sequence> {
        let missing = self.missing(self.known_through());
        missing.first().filter(|(first, _)| *first == self.contiguous.next()).map(|(_, last)| *last)
    }

    pub(crate) fn bar(&mut self, sequence: Sequence) {
        match self.barred.last_mut() {
            Some((_, last)) if last.next() == sequence => *last = sequence,
            _ => {
                if self.barred.len() == BARRED_MAX {
                    self.barred.remove(0);
                }
                self.barred.push((sequence, sequence));
            }
        }
    }

    /// The end of the barred range that holds this message.
    pub(crate) fn barred_through(&self, sequence: Sequence) -> Option<Sequence> {
        self.barred
            .iter()
            .find(|(first, last)| *first <= sequence && sequence <= *last)
            .map(|(_, last)| *last)
    }

    pub(crate) fn held_bytes(&self) -> usize {
        self.held.values().map(Held::cost).sum()
    }

    pub(crate) fn forget_link(&mut self, link: LinkId) {
        self.sources.forget(link);
        for (_, sources) in self.verifying.values_mut() {
            sources.retain(|source| *source != link);
        }
        if let Some(repair) = &mut self.repair {
            repair.refused.remove(&link);
            repair.tried.remove(&link);
            repair.shown.remove(&link);
            if repair.asked == Some(link) {
                repair.asked = None;
            }
        }
    }
}

/// What a stream is followed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Evidence {
    /// A neighbor says that it exists.
    Said,
    /// A message of it arrived. When there is no room, one that was only said to exist goes.
    Carried,
}

/// Why a stream is not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unfollowed {
    /// Of an epoch that is over.
    Stale,
    /// A limit is reached.
    Full,
}

/// All streams of other origins.
#[derive(Debug)]
pub(crate) struct Streams {
    table: StreamList<Inbound>,
    /// Epochs up to these are over: their streams were forgotten.
    floors: BTreeMap<NodeId, Epoch>,
    /// Bytes in all hold-backs.
    pub(crate) held_bytes: usize,
    streams_max: usize,
    per_origin_max: usize,
}

impl Streams {
    pub(crate) fn new(streams_max: usize, per_origin_max: usize) -> Self {
        Self {
            table: StreamList::default(),
            floors: BTreeMap::new(),
            held_bytes: 0,
            streams_max,
            per_origin_max,
        }
    }

    pub(crate) fn get(&self, id: &StreamId) -> Option<&Inbound> {
        self.table.get(id)
    }

    pub(crate) fn get_mut(&mut self, id: &StreamId) -> Option<&mut Inbound> {
        self.table.get_mut(id)
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&StreamId, &Inbound)> {
        self.table.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&StreamId, &mut Inbound)> {
        self.table.iter_mut()
    }

    /// Stops a debug build if an invariant does not hold.
    pub(crate) fn check(&self) {
        let held: usize = self.table.iter().map(|(_, inbound)| inbound.held_bytes()).sum();
        debug_assert!(held == self.held_bytes, "{held} bytes are held back, not {}", self.held_bytes);
        debug_assert!(self.floors.len() <= self.streams_max, "{} floors", self.floors.len());
    }

    /// Makes sure a stream is followed; a new one begins after `baseline`.
    pub(crate) fn follow(
        &mut self,
        id: &StreamId,
        baseline: Sequence,
        evidence: Evidence,
        now: Time,
    ) -> Result<&mut Inbound, Unfollowed> {
        let place = match self.table.place(id) {
            Ok(place) => place,
            Err(place) => {
                self.make_room(id, place, evidence)?;
                self.table.insert(id.clone(), Inbound::new(baseline, now))
            }
        };
        Ok(self.table.at_mut(place))
    }

    /// Makes room for a stream that belongs at a place, if that is allowed and necessary.
    fn make_room(&mut self, id: &StreamId, place: usize, evidence: Evidence) -> Result<(), Unfollowed> {
        if self.floors.get(&id.origin).is_some_and(|floor| id.epoch <= *floor) {
            return Err(Unfollowed::Stale);
        }
        let siblings = || {
            let same =
                |(other, _): &(&StreamId, &Inbound)| other.origin == id.origin && other.epoch == id.epoch;
            let (before, after) = self.table.around(place);
            after.take_while(same).chain(before.take_while(same))
        };
        let unproven = |(_, inbound): &(&StreamId, &Inbound)| !inbound.proven;
        let crowded = siblings().count() >= self.per_origin_max;
        let evicted = if crowded {
            siblings().find(unproven)
        } else if self.table.len() >= self.streams_max {
            self.table.iter().find(unproven)
        } else {
            return Ok(());
        };
        match evicted.map(|(id, _)| id.clone()) {
            Some(evicted) if evidence == Evidence::Carried => {
                self.table.remove(&evicted);
                Ok(())
            }
            _ => Err(Unfollowed::Full),
        }
    }

    /// Forgets a stream for good: nothing of its epoch or an earlier one is followed again.
    pub(crate) fn retire(&mut self, id: &StreamId) {
        let Some(inbound) = self.table.remove(id) else { return };
        self.held_bytes -= inbound.held_bytes();
        let floor = self.floors.entry(id.origin).or_insert(id.epoch);
        *floor = (*floor).max(id.epoch);
        // One entry per origin that ever ended here: bounded like the streams themselves.
        // The lowest epoch is the oldest join: least likely to be heard of again.
        if self.floors.len() > self.streams_max
            && let Some(oldest) = self.floors.iter().min_by_key(|(_, epoch)| **epoch).map(|(node, _)| *node)
        {
            self.floors.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seq(n: u64) -> Sequence {
        Sequence::new(n).unwrap()
    }

    fn held() -> Held {
        Held { payload: Bytes::from_static(b"x"), hops: 1, published_ms: 0, deliver: true }
    }

    fn inbound(contiguous: u64, held_back: &[u64]) -> Inbound {
        let mut inbound = Inbound::new(seq(contiguous), Time::ZERO);
        for n in held_back {
            inbound.hold(seq(*n), held());
        }
        inbound
    }

    fn missing(inbound: &Inbound, through: u64) -> Vec<(u64, u64)> {
        inbound.missing(seq(through)).into_iter().map(|(a, b)| (a.get(), b.get())).collect()
    }

    #[test]
    fn missing_ranges_lie_between_what_is_held() {
        assert_eq!(missing(&inbound(2, &[4, 5, 8]), 10), [(3, 3), (6, 7), (9, 10)]);
        assert_eq!(missing(&inbound(2, &[]), 2), []);
        assert_eq!(missing(&inbound(2, &[3]), 3), []);
        let mut verifying = inbound(0, &[6]);
        verifying.verifying.insert(seq(2), (seq(4), vec![]));
        assert_eq!(missing(&verifying, 7), [(1, 1), (5, 5), (7, 7)]);
        assert_eq!(verifying.first_gap_end(), Some(seq(1)));
        verifying.skip_to(seq(1));
        assert_eq!(verifying.first_gap_end(), None, "what is being verified is no gap");
    }

    #[test]
    fn messages_leave_in_order_and_once() {
        let mut inbound = inbound(0, &[1, 2, 4]);
        let mut out = Vec::new();
        while let Some((sequence, _)) = inbound.pop_next() {
            out.push(sequence.get());
        }
        assert_eq!(out, [1, 2]);
        assert!(inbound.has(seq(2)) && !inbound.has(seq(3)) && inbound.has(seq(4)));
        assert!(!inbound.has_all(seq(1), seq(4)));
        inbound.skip_to(seq(3));
        assert_eq!(inbound.pop_next().map(|(s, _)| s.get()), Some(4));
        assert!(inbound.has_all(seq(1), seq(4)));
    }

    #[test]
    fn barred_ranges_merge_and_are_bounded() {
        let mut inbound = inbound(0, &[]);
        for n in 1..=3 {
            inbound.bar(seq(n));
        }
        assert_eq!(inbound.barred_through(seq(1)), Some(seq(3)));
        for n in 0..100 {
            inbound.bar(seq(10 + 2 * n));
        }
        assert_eq!(inbound.barred.len(), BARRED_MAX);
        assert_eq!(inbound.barred_through(seq(1)), None);
    }

    #[test]
    fn a_retired_epoch_never_comes_back() {
        let id = |epoch, channel: &str| StreamId {
            origin: NodeId::from_bytes([1; 32]),
            epoch: Epoch::new(epoch).unwrap(),
            channel: peerchannel_wire::ChannelName::new(channel).unwrap(),
        };
        let mut streams = Streams::new(100, 2);
        for channel in ["a", "b"] {
            streams.follow(&id(5, channel), Sequence::ZERO, Evidence::Carried, Time::ZERO).unwrap().proven =
                true;
        }
        let follow = |streams: &mut Streams, id| {
            streams.follow(&id, Sequence::ZERO, Evidence::Carried, Time::ZERO).map(|_| ())
        };
        assert_eq!(follow(&mut streams, id(5, "c")), Err(Unfollowed::Full));
        streams.retire(&id(5, "a"));
        assert_eq!(follow(&mut streams, id(5, "a")), Err(Unfollowed::Stale));
        assert_eq!(follow(&mut streams, id(4, "z")), Err(Unfollowed::Stale));
        assert_eq!(follow(&mut streams, id(6, "a")), Ok(()));
    }

    #[test]
    fn streams_that_were_only_said_to_exist_make_room_for_real_ones() {
        let id = |channel: &str| StreamId {
            origin: NodeId::from_bytes([1; 32]),
            epoch: Epoch::new(1).unwrap(),
            channel: peerchannel_wire::ChannelName::new(channel).unwrap(),
        };
        let mut streams = Streams::new(100, 2);
        let mut follow =
            |id: &StreamId, evidence| streams.follow(id, Sequence::ZERO, evidence, Time::ZERO).is_ok();
        assert!(follow(&id("lie"), Evidence::Said) && follow(&id("another"), Evidence::Said));
        assert!(!follow(&id("more"), Evidence::Said));
        assert!(follow(&id("real"), Evidence::Carried));
        assert_eq!(streams.len(), 2);
    }
}
