//! Batches: consecutive messages of one stream under one signature.
//!
//! A batch is encoded once, by its origin, and passed on verbatim: relays never re-encode it.
//! The signature covers the header as it was encoded and the *hash* of each body, so that a
//! body may be replaced by its hash and the rest still verifies (docs/protocol.md section 4).

use bytes::Bytes;
use prost::Message as _;

use crate::error::{DecodeError, limit};
use crate::frame::count_field;
use crate::generated as proto;
use crate::id::{MeshId, Sequence, Signature};
use crate::limits::{BATCH_BYTES_MAX, BATCH_MESSAGES_MAX, INTERACTIVE_BODY_MAX, MESSAGE_MAX};
use crate::stream::StreamId;
use crate::transcript::Transcript;

const CONTEXT: &str = "peerchannel/1 batch";
/// `Batch.bodies`
const BODIES_FIELD: u32 = 3;

/// A body, or the hash that stands for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// The message as published.
    Payload(Bytes),
    /// BLAKE3 of a body that was left out on the way.
    Withheld([u8; 32]),
}

impl Body {
    fn hash(&self) -> [u8; 32] {
        match self {
            Self::Payload(payload) => *blake3::hash(payload).as_bytes(),
            Self::Withheld(hash) => *hash,
        }
    }
}

/// A batch whose content is fixed but which is not signed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsignedBatch {
    header: Header,
    bodies: Vec<Body>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Header {
    encoded: Bytes,
    first: Sequence,
    published_ms: u64,
}

impl UnsignedBatch {
    /// A batch of the messages `first`, `first + 1`, … in the order given.
    ///
    /// Returns `None` if there is no payload, more than [`BATCH_MESSAGES_MAX`], more than
    /// [`MESSAGE_MAX`] bytes of them, or `first` is zero: callers gather within those limits.
    #[must_use]
    pub fn new(first: Sequence, published_ms: u64, payloads: Vec<Bytes>) -> Option<Self> {
        let count = u32::try_from(payloads.len()).ok()?;
        let bytes: usize = payloads.iter().map(Bytes::len).sum();
        let too_much = payloads.len() > BATCH_MESSAGES_MAX || bytes > MESSAGE_MAX;
        if first == Sequence::ZERO || payloads.is_empty() || too_much {
            return None;
        }
        let header = proto::BatchHeader { first: first.get(), count, published_ms };
        Some(Self {
            header: Header { encoded: header.encode_to_vec().into(), first, published_ms },
            bodies: payloads.into_iter().map(Body::Payload).collect(),
        })
    }

    /// What the origin signs.
    #[must_use]
    pub fn transcript(&self, mesh: &MeshId, stream: &StreamId) -> Transcript {
        transcript(mesh, stream, &self.header.encoded, &self.bodies)
    }

    /// Completes the batch; `None` where the mesh runs without origin authentication.
    #[must_use]
    pub fn sign(self, signature: Option<Signature>) -> Batch {
        let encoded = proto::Batch {
            header: self.header.encoded.clone(),
            signature: Signature::encode_optional(signature.as_ref()),
            bodies: self
                .bodies
                .iter()
                .map(|body| match body {
                    Body::Payload(payload) => payload.clone(),
                    Body::Withheld(hash) => Bytes::copy_from_slice(hash),
                })
                .collect(),
            withheld: Vec::new(),
        }
        .encode_to_vec();
        Batch { header: self.header, bodies: self.bodies, signature, encoded: encoded.into() }
    }
}

/// A batch as it travels and is retained.
///
/// Invariant: at least one message; the last sequence does not exceed the largest; the
/// encoded form is exactly what the origin (or the relay that withheld bodies) produced.
#[derive(Clone, PartialEq, Eq)]
pub struct Batch {
    header: Header,
    bodies: Vec<Body>,
    signature: Option<Signature>,
    encoded: Bytes,
}

impl Batch {
    /// The sequence of the first message.
    #[must_use]
    pub const fn first(&self) -> Sequence {
        self.header.first
    }

    /// The sequence of the last message.
    #[must_use]
    pub fn last(&self) -> Sequence {
        self.header.first.plus(self.bodies.len() as u64 - 1)
    }

    /// How many messages it holds; at least one.
    #[must_use]
    pub fn count(&self) -> usize {
        self.bodies.len()
    }

    /// The origin's wall clock in ms since 1970: advisory, never used for order.
    #[must_use]
    pub const fn published_ms(&self) -> u64 {
        self.header.published_ms
    }

    /// The bodies with their sequences, in order.
    pub fn messages(&self) -> impl Iterator<Item = (Sequence, &Body)> {
        let first = self.header.first;
        self.bodies.iter().enumerate().map(move |(index, body)| (first.plus(index as u64), body))
    }

    /// The signature; `None` where the mesh runs without origin authentication.
    #[must_use]
    pub const fn signature(&self) -> Option<&Signature> {
        self.signature.as_ref()
    }

    /// What the signature must cover.
    #[must_use]
    pub fn transcript(&self, mesh: &MeshId, stream: &StreamId) -> Transcript {
        transcript(mesh, stream, &self.header.encoded, &self.bodies)
    }

    /// The verbatim bytes: what is passed on and what retention counts.
    #[must_use]
    pub const fn encoded(&self) -> &Bytes {
        &self.encoded
    }

    /// Whether a body is so large that the batch belongs on the bulk lane.
    #[must_use]
    pub fn is_bulk(&self) -> bool {
        self.encoded.len() > INTERACTIVE_BODY_MAX + BATCH_BYTES_MAX
            || self.bodies.iter().any(|b| matches!(b, Body::Payload(p) if p.len() > INTERACTIVE_BODY_MAX))
    }

    /// Bytes of the payloads it holds.
    #[must_use]
    pub fn payload_bytes(&self) -> usize {
        self.bodies.iter().map(|b| if let Body::Payload(p) = b { p.len() } else { 0 }).sum()
    }

    /// The batch with the bodies of some messages replaced by their hashes; the signature
    /// still verifies. `None` if no payload would be left.
    #[must_use]
    pub fn withhold(&self, withheld: impl Fn(Sequence) -> bool) -> Option<Self> {
        let bodies: Vec<Body> = self
            .messages()
            .map(
                |(sequence, body)| {
                    if withheld(sequence) { Body::Withheld(body.hash()) } else { body.clone() }
                },
            )
            .collect();
        if !bodies.iter().any(|body| matches!(body, Body::Payload(_))) {
            return None;
        }
        let mut message = proto::Batch {
            header: self.header.encoded.clone(),
            signature: Signature::encode_optional(self.signature.as_ref()),
            ..Default::default()
        };
        for (index, body) in (0u32..).zip(&bodies) {
            message.bodies.push(match body {
                Body::Payload(payload) => payload.clone(),
                Body::Withheld(hash) => {
                    message.withheld.push(index);
                    Bytes::copy_from_slice(hash)
                }
            });
        }
        let encoded = message.encode_to_vec().into();
        Some(Self { header: self.header.clone(), bodies, signature: self.signature, encoded })
    }

    pub(crate) fn decode(encoded: Bytes) -> Result<Self, DecodeError> {
        // Counted before they are taken apart: an empty body is 2 bytes here, 32 in memory.
        limit("batch", count_field(&encoded, BODIES_FIELD)?, BATCH_MESSAGES_MAX)?;
        let message = proto::Batch::decode(encoded.clone())?;
        let header = proto::BatchHeader::decode(message.header.clone())?;
        limit("withheld", message.withheld.len(), message.bodies.len())?;
        if message.bodies.is_empty() || header.count as usize != message.bodies.len() {
            return Err(DecodeError::Invalid { field: "count", why: "not the number of bodies, or zero" });
        }
        let first = Sequence::decode("first", header.first)?;
        if first == Sequence::ZERO {
            return Err(DecodeError::Invalid { field: "first", why: "sequences begin at 1" });
        }
        Sequence::decode("last", header.first + u64::from(header.count) - 1)?;
        let signature = Signature::decode_optional(&message.signature)?;
        let mut bodies = Vec::with_capacity(message.bodies.len());
        for body in message.bodies {
            limit("body", body.len(), MESSAGE_MAX)?;
            bodies.push(Body::Payload(body));
        }
        for index in message.withheld {
            let slot = bodies
                .get_mut(index as usize)
                .ok_or(DecodeError::Invalid { field: "withheld", why: "no such body" })?;
            if let Body::Payload(hash) = slot {
                *slot = Body::Withheld(crate::id::array("withheld hash", hash)?);
            }
        }
        let header = Header { encoded: message.header, first, published_ms: header.published_ms };
        Ok(Self { header, bodies, signature, encoded })
    }
}

impl std::fmt::Debug for Batch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Batch[{}..={}, {} bytes]", self.first(), self.last(), self.encoded.len())
    }
}

fn transcript(mesh: &MeshId, stream: &StreamId, header: &[u8], bodies: &[Body]) -> Transcript {
    let mut transcript = Transcript::new(CONTEXT, Some(mesh));
    transcript.stream(stream);
    transcript.part(header);
    for body in bodies {
        transcript.part(&body.hash());
    }
    transcript
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Epoch, NodeId};
    use crate::name::ChannelName;

    fn stream() -> StreamId {
        StreamId {
            origin: NodeId::from_bytes([3; 32]),
            epoch: Epoch::new(9).unwrap(),
            channel: ChannelName::new("chat").unwrap(),
        }
    }

    fn batch(payloads: &[&str]) -> UnsignedBatch {
        let payloads = payloads.iter().map(|p| Bytes::copy_from_slice(p.as_bytes())).collect();
        UnsignedBatch::new(Sequence::new(5).unwrap(), 77, payloads).unwrap()
    }

    #[test]
    fn a_batch_round_trips_and_keeps_its_transcript() {
        let mesh = MeshId::from_bytes([1; 32]);
        let unsigned = batch(&["a", "", "ccc"]);
        let before = unsigned.transcript(&mesh, &stream());
        let sent = unsigned.sign(Some(Signature::from_bytes([7; 64])));
        let received = Batch::decode(sent.encoded().clone()).unwrap();
        assert_eq!(received, sent);
        assert_eq!(received.transcript(&mesh, &stream()), before);
        assert_eq!((received.first().get(), received.last().get()), (5, 7));
    }

    #[test]
    fn a_withheld_body_leaves_the_transcript_unchanged() {
        let mesh = MeshId::from_bytes([1; 32]);
        let sent = batch(&["secret", "plain"]).sign(None);
        let relayed = sent.withhold(|sequence| sequence.get() == 5).unwrap();
        let received = Batch::decode(relayed.encoded().clone()).unwrap();
        assert_eq!(received, relayed);
        assert!(matches!(received.messages().next(), Some((_, Body::Withheld(_)))));
        assert_eq!(received.transcript(&mesh, &stream()), sent.transcript(&mesh, &stream()));
        assert_eq!(sent.withhold(|_| true), None, "nothing is left to send");
    }

    #[test]
    fn any_change_of_mesh_stream_or_body_changes_the_transcript() {
        let mesh = MeshId::from_bytes([1; 32]);
        let base = batch(&["a", "b"]).transcript(&mesh, &stream());
        let other_channel = StreamId { channel: ChannelName::new("chat2").unwrap(), ..stream() };
        let others = [
            batch(&["a", "b"]).transcript(&MeshId::from_bytes([2; 32]), &stream()),
            batch(&["a", "b"]).transcript(&mesh, &other_channel),
            batch(&["ab", ""]).transcript(&mesh, &stream()),
            batch(&["b", "a"]).transcript(&mesh, &stream()),
        ];
        assert!(others.iter().all(|other| *other != base));
    }

    #[test]
    fn impossible_batches_are_refused() {
        let decode = |message: &proto::Batch| Batch::decode(message.encode_to_vec().into());
        let header = |first, count| -> Bytes {
            proto::BatchHeader { first, count, published_ms: 0 }.encode_to_vec().into()
        };
        let bodies = vec![Bytes::from_static(b"x")];
        for (first, count) in [(0, 1), (1, 0), (1, 2), (u64::MAX, 1), (crate::limits::SEQUENCE_MAX + 1, 1)] {
            let message =
                proto::Batch { header: header(first, count), bodies: bodies.clone(), ..Default::default() };
            assert!(decode(&message).is_err(), "first {first} count {count}");
        }
        let message = proto::Batch { header: header(1, 1), bodies, withheld: vec![4], ..Default::default() };
        assert!(decode(&message).is_err());
    }
}
