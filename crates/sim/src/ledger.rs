//! What was published, and who has it: at most once, in order, and in the end everyone.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use peerchannel_mesh::Delivery;
use peerchannel_wire::{Sequence, StreamId};

use crate::place::index_of;

/// A published message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Message {
    /// The index of its stream.
    pub(crate) stream: u32,
    /// Its number in the stream.
    pub(crate) sequence: u64,
    /// When, in ns.
    pub(crate) at: u64,
    /// Other nodes that ran when it was published.
    pub(crate) others: u32,
    /// How many of those have it, none of which has restarted.
    pub(crate) reached: u32,
    /// One-way delay to the farthest of them, in ns.
    pub(crate) farthest: u64,
}

/// The messages of one origin in one of its lives.
#[derive(Debug)]
pub(crate) struct Stream {
    pub(crate) origin: u32,
    pub(crate) life: u32,
    pub(crate) messages: Vec<u32>,
    /// A neighbor of the origin has them up to here.
    pub(crate) committed: u64,
}

/// What one process has received.
#[derive(Debug, Default)]
pub(crate) struct Received {
    // One bit per message.
    got: Vec<u64>,
    // Reported as gaps.
    missed: Vec<u64>,
    // By stream: the last sequence delivered or reported.
    positions: Vec<u32>,
}

/// A delivery that should not have been.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wrong {
    pub(crate) rule: &'static str,
    pub(crate) text: String,
}

/// All messages of a run.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) messages: Vec<Message>,
    pub(crate) streams: Vec<Stream>,
    by_name: BTreeMap<(u32, u64), u32>,
}

impl Ledger {
    /// The body of the next message: its number, then filling.
    pub(crate) fn payload(&self, bytes: usize) -> Bytes {
        let number = u32::try_from(self.messages.len()).unwrap_or(u32::MAX);
        let mut payload = BytesMut::zeroed(bytes.max(4));
        payload[..4].copy_from_slice(&number.to_le_bytes());
        payload.freeze()
    }

    /// Notes that the message whose body was made last was accepted. Its number.
    pub(crate) fn published(
        &mut self,
        stream: &StreamId,
        sequence: Sequence,
        (origin, life): (u32, u32),
        message: Message,
    ) -> u32 {
        let number = u32::try_from(self.messages.len()).unwrap_or(u32::MAX);
        let key = (origin, stream.epoch.get());
        let streams = &mut self.streams;
        let index = *self.by_name.entry(key).or_insert_with(|| {
            streams.push(Stream { origin, life, messages: Vec::new(), committed: 0 });
            u32::try_from(streams.len() - 1).unwrap_or(u32::MAX)
        });
        streams[index as usize].messages.push(number);
        self.messages.push(Message { stream: index, sequence: sequence.get(), ..message });
        number
    }

    /// Notes that an origin's neighbor has its messages up to a sequence.
    pub(crate) fn committed(&mut self, origin: u32, epoch: u64, through: Sequence) {
        if let Some(stream) = self.by_name.get(&(origin, epoch)) {
            let stream = &mut self.streams[*stream as usize];
            stream.committed = stream.committed.max(through.get());
        }
    }

    /// The message a body belongs to.
    pub(crate) fn number(&self, payload: &Bytes) -> Option<u32> {
        let number = u32::from_le_bytes(*payload.first_chunk()?);
        ((number as usize) < self.messages.len()).then_some(number)
    }

    /// Takes note of a delivery; gives the message.
    pub(crate) fn delivered(&self, received: &mut Received, delivery: &Delivery) -> Result<u32, Wrong> {
        let wrong = |rule, text| Err(Wrong { rule, text });
        let Some(number) = self.number(&delivery.payload) else {
            return wrong("only what was published", format!("{:?} was not", delivery.stream));
        };
        let message = &self.messages[number as usize];
        let stream = &self.streams[message.stream as usize];
        let sequence = delivery.sequence.get();
        if stream.origin != index_of(&delivery.stream.origin) || message.sequence != sequence {
            return wrong(
                "only what was published",
                format!("{:?} number {sequence} has another body than was published", delivery.stream),
            );
        }
        if !set(&mut received.got, number) {
            return wrong("at most once", format!("{:?} number {sequence} came twice", delivery.stream));
        }
        let last = position(received, message.stream);
        let before = u64::from(*last);
        *last = u32::try_from(sequence).unwrap_or(u32::MAX);
        if before != 0 && sequence != before + 1 {
            return wrong(
                "in order or after a gap",
                format!("{:?} number {sequence} came after {before}", delivery.stream),
            );
        }
        Ok(number)
    }

    /// Takes note of a reported gap; gives how many messages it covers.
    pub(crate) fn gap(
        &self,
        received: &mut Received,
        stream: &StreamId,
        first: Sequence,
        last: Sequence,
    ) -> Result<u64, Wrong> {
        let key = (index_of(&stream.origin), stream.epoch.get());
        let Some(index) = self.by_name.get(&key) else {
            let text = format!("a gap in {stream:?}, of which nothing was published");
            return Err(Wrong { rule: "only real gaps", text });
        };
        let messages = &self.streams[*index as usize].messages;
        for sequence in first.get()..=last.get() {
            let number = usize::try_from(sequence - 1).ok().and_then(|place| messages.get(place));
            let Some(number) = number else {
                let text = format!("a gap at {stream:?} number {sequence}, which was not published");
                return Err(Wrong { rule: "only real gaps", text });
            };
            set(&mut received.missed, *number);
        }
        let position = position(received, *index);
        let before = u64::from(*position);
        *position = u32::try_from(last.get()).unwrap_or(u32::MAX);
        if before != 0 && first.get() != before + 1 {
            let text = format!("a gap from {} in {stream:?} after {before}", first.get());
            return Err(Wrong { rule: "in order or after a gap", text });
        }
        Ok(last.get() + 1 - first.get())
    }
}

impl Received {
    /// Whether it has the message.
    pub(crate) fn has(&self, number: u32) -> bool {
        is_set(&self.got, number)
    }

    /// Whether it was told that the message will never come.
    pub(crate) fn misses(&self, number: u32) -> bool {
        is_set(&self.missed, number)
    }
}

fn position(received: &mut Received, stream: u32) -> &mut u32 {
    let index = stream as usize;
    if index >= received.positions.len() {
        received.positions.resize(index + 1, 0);
    }
    &mut received.positions[index]
}

/// Whether it was not set before.
fn set(bits: &mut Vec<u64>, number: u32) -> bool {
    let (word, bit) = ((number / 64) as usize, 1 << (number % 64));
    if word >= bits.len() {
        bits.resize(word + 1, 0);
    }
    let new = bits[word] & bit == 0;
    bits[word] |= bit;
    new
}

fn is_set(bits: &[u64], number: u32) -> bool {
    bits.get((number / 64) as usize).is_some_and(|word| word & (1 << (number % 64)) != 0)
}

#[cfg(test)]
mod tests {
    use peerchannel_mesh::DeliveryLane;
    use peerchannel_wire::{ChannelName, Epoch};

    use super::*;
    use crate::place::node_id;

    fn stream() -> StreamId {
        StreamId {
            origin: node_id(1, 3, 0),
            epoch: Epoch::new(5).unwrap(),
            channel: ChannelName::new("sim").unwrap(),
        }
    }

    fn ledger(count: u64) -> (Ledger, Vec<Bytes>) {
        let mut ledger = Ledger::default();
        let mut bodies = Vec::new();
        for sequence in 1..=count {
            bodies.push(ledger.payload(16));
            let message = Message { stream: 0, sequence: 0, at: 0, others: 9, reached: 0, farthest: 0 };
            ledger.published(&stream(), Sequence::new(sequence).unwrap(), (3, 1), message);
        }
        (ledger, bodies)
    }

    fn delivery(sequence: u64, payload: &Bytes) -> Delivery {
        Delivery {
            stream: stream(),
            sequence: Sequence::new(sequence).unwrap(),
            lane: DeliveryLane::Reliable,
            hops: 1,
            published_ms: 0,
            key: Bytes::new(),
            payload: payload.clone(),
            own: false,
        }
    }

    fn rule(result: Result<u32, Wrong>) -> &'static str {
        result.err().map_or("", |wrong| wrong.rule)
    }

    #[test]
    fn what_comes_twice_or_out_of_order_is_noticed() {
        let (ledger, bodies) = ledger(5);
        let mut received = Received::default();
        assert_eq!(ledger.delivered(&mut received, &delivery(2, &bodies[1])), Ok(1));
        assert_eq!(rule(ledger.delivered(&mut received, &delivery(2, &bodies[1]))), "at most once");
        assert_eq!(
            rule(ledger.delivered(&mut received, &delivery(4, &bodies[3]))),
            "in order or after a gap"
        );
        assert_eq!(
            rule(ledger.delivered(&mut received, &delivery(5, &bodies[0]))),
            "only what was published"
        );
        assert!(received.has(1) && !received.has(0) && !received.misses(2));
    }

    #[test]
    fn a_gap_stands_for_what_it_covers() {
        let (ledger, bodies) = ledger(5);
        let (mut received, at) = (Received::default(), |n| Sequence::new(n).unwrap());
        assert_eq!(ledger.delivered(&mut received, &delivery(1, &bodies[0])), Ok(0));
        assert_eq!(ledger.gap(&mut received, &stream(), at(2), at(3)), Ok(2));
        assert!(received.misses(1) && received.misses(2) && !received.misses(3));
        assert_eq!(ledger.delivered(&mut received, &delivery(4, &bodies[3])), Ok(3));
        assert!(ledger.gap(&mut received, &stream(), at(5), at(6)).is_err(), "6 was never published");
    }
}
