//! This node's own streams: numbering, gathering into batches, and who acknowledged what.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use peerchannel_wire::limits::{BATCH_BYTES_MAX, BATCH_MESSAGES_MAX};
use peerchannel_wire::{ChannelName, Sequence, UnsignedBatch};

use crate::time::Time;

/// Batches of one stream that are signed at once; after that many, messages gather for the
/// rest of [`PACE`]. Each batch costs every receiver a signature check, about 50 µs (measured),
/// so an unpaced loop of small messages would be bound by that alone.
const BURST: usize = 4;

/// See [`BURST`]. A message that stands alone is never delayed.
const PACE: Duration = Duration::from_millis(1);

/// What a message costs of the window at least, so that empty ones are bounded too.
const MESSAGE_COST_MIN: usize = 64;

/// Bytes that are worth a signature of their own however soon.
const WORTH_SIGNING: usize = BATCH_BYTES_MAX / 4;

/// One channel this node publishes in.
#[derive(Debug, Default)]
pub(crate) struct Outgoing {
    /// The last accepted message.
    pub(crate) accepted: Sequence,
    /// The last message whose batch is signed, retained and sent.
    pub(crate) flooded: Sequence,
    /// The last message some neighbor acknowledged.
    pub(crate) committed: Sequence,
    /// The last message every neighbor that keeps up acknowledged.
    confirmed: Sequence,
    // Accepted, not yet in a batch.
    gathering: VecDeque<Bytes>,
    gathered_bytes: usize,
    // When the last few batches were ordered; at most BURST.
    ordered: VecDeque<Time>,
    signing: Option<UnsignedBatch>,
    // (last sequence, bytes) of batches above `confirmed`.
    unconfirmed: VecDeque<(Sequence, usize)>,
    /// Payload bytes above `confirmed`, small messages counted as [`MESSAGE_COST_MIN`].
    pub(crate) unconfirmed_bytes: usize,
    /// The last local and volatile message.
    pub(crate) local: Sequence,
    pub(crate) volatile: Sequence,
}

impl Outgoing {
    /// Numbers a message.
    pub(crate) fn accept(&mut self, payload: Bytes) -> Sequence {
        self.accepted = self.accepted.next();
        let cost = payload.len().max(MESSAGE_COST_MIN);
        self.unconfirmed_bytes += cost;
        self.unconfirmed.push_back((self.accepted, cost));
        self.gathered_bytes += payload.len();
        self.gathering.push_back(payload);
        self.accepted
    }

    /// When the next batch may be signed, if it is worth waiting for more messages.
    pub(crate) fn gather_until(&self, now: Time) -> Option<Time> {
        let first = self.ordered.front().filter(|_| self.ordered.len() == BURST)?;
        let until = *first + PACE;
        (now < until && self.gathered_bytes < WORTH_SIGNING).then_some(until)
    }

    /// The next batch to sign, if none is being signed and something is waiting.
    pub(crate) fn next_batch(&mut self, now: Time, published_ms: u64) -> Option<&UnsignedBatch> {
        if self.signing.is_some() || self.gathering.is_empty() {
            return None;
        }
        let first = self.accepted.get() - self.gathering.len() as u64 + 1;
        let mut bytes = 0;
        let mut payloads = Vec::new();
        while let Some(payload) = self.gathering.front() {
            let full = bytes + payload.len() > BATCH_BYTES_MAX || payloads.len() == BATCH_MESSAGES_MAX;
            if full && !payloads.is_empty() {
                break;
            }
            bytes += payload.len();
            payloads.extend(self.gathering.pop_front());
        }
        self.gathered_bytes -= bytes;
        self.ordered.push_back(now);
        if self.ordered.len() > BURST {
            self.ordered.pop_front();
        }
        let batch = UnsignedBatch::new(Sequence::new(first)?, published_ms, payloads)?;
        Some(self.signing.insert(batch))
    }

    /// The batch that was being signed.
    pub(crate) fn take_signing(&mut self) -> Option<UnsignedBatch> {
        self.signing.take()
    }

    /// Notes that every neighbor that keeps up has acknowledged up to `through`.
    pub(crate) fn confirm(&mut self, through: Sequence) {
        self.confirmed = self.confirmed.max(through.min(self.accepted));
        while let Some((last, bytes)) = self.unconfirmed.front() {
            if *last > self.confirmed {
                break;
            }
            self.unconfirmed_bytes -= bytes;
            self.unconfirmed.pop_front();
        }
    }
}

/// All channels this node publishes in.
#[derive(Debug, Default)]
pub(crate) struct Publishing {
    pub(crate) channels: BTreeMap<ChannelName, Outgoing>,
    /// A publish was turned away: tell when it is worth trying again.
    pub(crate) refused: bool,
}

impl Publishing {
    pub(crate) fn unconfirmed_bytes(&self) -> usize {
        self.channels.values().map(|outgoing| outgoing.unconfirmed_bytes).sum()
    }

    pub(crate) fn all_committed(&self) -> bool {
        self.channels.values().all(|outgoing| outgoing.committed == outgoing.accepted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_gather_while_a_batch_is_signed() {
        let mut outgoing = Outgoing::default();
        outgoing.accept(Bytes::from_static(b"1"));
        assert!(outgoing.next_batch(Time::ZERO, 0).is_some());
        for _ in 0..3 {
            outgoing.accept(Bytes::from_static(b"x"));
        }
        assert!(outgoing.next_batch(Time::ZERO, 0).is_none(), "one at a time, so that order is kept");
        assert_eq!(outgoing.take_signing().unwrap().sign(None).last().get(), 1);
        outgoing.next_batch(Time::ZERO, 0);
        let batch = outgoing.take_signing().unwrap().sign(None);
        assert_eq!((batch.first().get(), batch.last().get()), (2, 4));
    }

    #[test]
    fn a_burst_of_batches_makes_the_next_messages_gather_for_a_moment() {
        let mut outgoing = Outgoing::default();
        for _ in 0..BURST {
            outgoing.accept(Bytes::from_static(b"x"));
            assert_eq!(outgoing.gather_until(Time::ZERO), None, "the first ones go at once");
            outgoing.next_batch(Time::ZERO, 0);
            outgoing.take_signing();
        }
        outgoing.accept(Bytes::from_static(b"x"));
        let until = Time::ZERO + PACE;
        assert_eq!(outgoing.gather_until(Time::ZERO), Some(until));
        assert_eq!(outgoing.gather_until(until), None);
        outgoing.accept(Bytes::from(vec![0; WORTH_SIGNING]));
        assert_eq!(outgoing.gather_until(Time::ZERO), None, "enough gathered already");
    }

    #[test]
    fn a_batch_is_cut_by_bytes_but_never_empty() {
        let mut outgoing = Outgoing::default();
        for _ in 0..3 {
            outgoing.accept(Bytes::from(vec![0; BATCH_BYTES_MAX / 2 + 1]));
        }
        outgoing.accept(Bytes::from(vec![0; BATCH_BYTES_MAX * 2]));
        let mut counts = Vec::new();
        while outgoing.next_batch(Time::ZERO, 0).is_some() {
            counts.push(outgoing.take_signing().unwrap().sign(None).count());
        }
        assert_eq!(counts, [1, 1, 1, 1]);
    }

    #[test]
    fn confirmed_bytes_leave_the_window() {
        let mut outgoing = Outgoing::default();
        for _ in 0..4 {
            outgoing.accept(Bytes::from_static(b"12345"));
        }
        outgoing.confirm(Sequence::new(3).unwrap());
        outgoing.confirm(Sequence::new(1).unwrap());
        assert_eq!(outgoing.unconfirmed_bytes, MESSAGE_COST_MIN, "small ones count too");
        outgoing.confirm(Sequence::new(99).unwrap());
        assert_eq!(outgoing.unconfirmed_bytes, 0);
    }
}
