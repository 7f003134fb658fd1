//! Retention: verbatim batches kept to serve others, bounded by bytes.
//!
//! When full, the origin that holds the most gives up its oldest batch, by sequence and among
//! its streams by when it came: a loud origin cannot push out the quiet ones (docs/protocol.md
//! section 4, retention).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use peerchannel_wire::{Batch, Body, NodeId, Sequence, StreamId};

use crate::stream_list::StreamList;

/// What a batch costs beyond its bytes: map entries and reference counts.
const ENTRY_OVERHEAD: usize = 128;

#[derive(Debug, Clone)]
pub(crate) struct Retained {
    pub(crate) batch: Arc<Batch>,
    /// Links it had travelled when it reached this node.
    pub(crate) hops: u32,
}

/// Batches of one stream by their first sequence, each with when it was kept.
type Ring = BTreeMap<Sequence, (u64, Retained)>;

/// The rings of one mesh.
#[derive(Debug)]
pub(crate) struct Retention {
    limit: usize,
    bytes: usize,
    next: u64,
    // Invariant: no ring is empty.
    rings: StreamList<Ring>,
    // Bytes by origin.
    origins: BTreeMap<NodeId, usize>,
    // Invariant: one entry per origin, with its bytes.
    largest: BTreeSet<(usize, NodeId)>,
}

impl Retention {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            bytes: 0,
            next: 0,
            rings: StreamList::default(),
            origins: BTreeMap::new(),
            largest: BTreeSet::new(),
        }
    }

    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Keeps a batch. Of two with the same first sequence the one with more payloads stays.
    pub(crate) fn keep(&mut self, stream: &StreamId, retained: Retained) {
        let first = retained.batch.first();
        if let Some((_, old)) = self.rings.get(stream).and_then(|ring| ring.get(&first)) {
            if payloads(&old.batch) >= payloads(&retained.batch) {
                return;
            }
            self.remove(stream, first);
        }
        let age = self.next;
        self.next += 1;
        self.count(stream.origin, cost(&retained), 0);
        let place = self.rings.place(stream);
        let place = place.unwrap_or_else(|_| self.rings.insert(stream.clone(), Ring::new()));
        self.rings.at_mut(place).insert(first, (age, retained));
        self.shrink();
    }

    /// The batch that holds this message.
    pub(crate) fn find(&self, stream: &StreamId, sequence: Sequence) -> Option<&Retained> {
        let (_, (_, retained)) = self.rings.get(stream)?.range(..=sequence).next_back()?;
        (retained.batch.last() >= sequence).then_some(retained)
    }

    /// The first sequence after this one that is retained.
    pub(crate) fn next_after(&self, stream: &StreamId, sequence: Sequence) -> Option<Sequence> {
        self.rings.get(stream)?.range(sequence.next()..).next().map(|(first, _)| *first)
    }

    /// Drops everything of a stream.
    pub(crate) fn forget(&mut self, stream: &StreamId) {
        let Some(ring) = self.rings.remove(stream) else { return };
        let bytes = ring.values().map(|(_, retained)| cost(retained)).sum();
        self.count(stream.origin, 0, bytes);
    }

    fn shrink(&mut self) {
        while self.bytes > self.limit {
            let Some((_, origin)) = self.largest.last().copied() else { return };
            let Some((stream, first)) = self.oldest(origin) else { return };
            self.remove(&stream, first);
        }
    }

    /// Of the first batches of an origin's streams, the one that is here for the longest time.
    fn oldest(&self, origin: NodeId) -> Option<(StreamId, Sequence)> {
        let firsts = self.rings.of_origin(origin).filter_map(|(stream, ring)| {
            let (first, (age, _)) = ring.first_key_value()?;
            Some((*age, stream, *first))
        });
        firsts.min().map(|(_, stream, first)| (stream.clone(), first))
    }

    fn remove(&mut self, stream: &StreamId, first: Sequence) {
        let Some(ring) = self.rings.get_mut(stream) else { return };
        let Some((_, retained)) = ring.remove(&first) else { return };
        if ring.is_empty() {
            self.rings.remove(stream);
        }
        self.count(stream.origin, 0, cost(&retained));
    }

    /// Moves an origin's share.
    fn count(&mut self, origin: NodeId, more: usize, less: usize) {
        let share = self.origins.entry(origin).or_default();
        self.largest.remove(&(*share, origin));
        *share = *share + more - less;
        self.bytes = self.bytes + more - less;
        if *share == 0 {
            self.origins.remove(&origin);
        } else {
            self.largest.insert((*share, origin));
        }
    }
}

fn cost(retained: &Retained) -> usize {
    retained.batch.encoded().len() + ENTRY_OVERHEAD
}

fn payloads(batch: &Batch) -> usize {
    batch.messages().filter(|(_, body)| matches!(body, Body::Payload(_))).count()
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use peerchannel_wire::{ChannelName, Epoch, UnsignedBatch};

    use super::*;

    fn stream(origin: u8) -> StreamId {
        StreamId {
            origin: NodeId::from_bytes([origin; 32]),
            epoch: Epoch::new(1).unwrap(),
            channel: ChannelName::new("c").unwrap(),
        }
    }

    fn retained(first: u64, bodies: &[usize]) -> Retained {
        let bodies = bodies.iter().map(|size| Bytes::from(vec![0; *size])).collect();
        let batch = UnsignedBatch::new(Sequence::new(first).unwrap(), 0, bodies).unwrap().sign(None);
        Retained { batch: Arc::new(batch), hops: 0 }
    }

    fn seq(n: u64) -> Sequence {
        Sequence::new(n).unwrap()
    }

    #[test]
    fn a_message_is_found_inside_its_batch() {
        let mut ring = Retention::new(1 << 20);
        ring.keep(&stream(1), retained(5, &[1, 1, 1]));
        assert!(ring.find(&stream(1), seq(4)).is_none());
        assert_eq!(ring.find(&stream(1), seq(7)).unwrap().batch.first(), seq(5));
        assert!(ring.find(&stream(1), seq(8)).is_none());
        assert_eq!(ring.next_after(&stream(1), seq(2)), Some(seq(5)));
        ring.forget(&stream(1));
        assert_eq!(ring.bytes(), 0);
    }

    #[test]
    fn the_loudest_origin_loses_its_oldest_first() {
        let mut ring = Retention::new(10_000);
        ring.keep(&stream(1), retained(1, &[500]));
        for first in 1..=30 {
            ring.keep(&stream(2), retained(first, &[1000]));
            assert!(ring.bytes() <= 10_000);
        }
        assert!(ring.find(&stream(1), seq(1)).is_some(), "the quiet origin keeps its message");
        assert!(ring.find(&stream(2), seq(1)).is_none());
        assert!(ring.find(&stream(2), seq(30)).is_some());
    }

    #[test]
    fn the_fuller_of_two_copies_stays() {
        let mut ring = Retention::new(1 << 20);
        let full = retained(1, &[10, 10]);
        let part = Retained { batch: Arc::new(full.batch.withhold(|s| s == seq(1)).unwrap()), hops: 0 };
        ring.keep(&stream(1), part.clone());
        ring.keep(&stream(1), full);
        ring.keep(&stream(1), part);
        let kept = &ring.find(&stream(1), seq(1)).unwrap().batch;
        assert_eq!(payloads(kept), 2);
    }
}
