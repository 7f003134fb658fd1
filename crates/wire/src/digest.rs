//! Digests: comparing two nodes' positions by fingerprints over ranges of streams.
//!
//! The streams are ordered; a range of that order whose fingerprints agree is done, one whose
//! fingerprints differ is split or listed (range-based set reconciliation, Meyer 2022).

use bytes::Bytes;

use crate::error::{DecodeError, limit};
use crate::generated as proto;
use crate::id::array;
use crate::limits::POSITIONS_MAX;
use crate::stream::{Position, StreamId, positions_from_proto, positions_to_proto};

/// 16 bytes that agree exactly when two lists of positions do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 16]);

impl Fingerprint {
    /// The fingerprint of positions given in the order of their streams.
    pub fn of<'a>(positions: impl IntoIterator<Item = (&'a StreamId, crate::id::Sequence)>) -> Self {
        let mut hasher = blake3::Hasher::new();
        for (stream, contiguous) in positions {
            hasher.update(stream.origin.as_bytes());
            hasher.update(&stream.epoch.get().to_be_bytes());
            hasher.update(&(stream.channel.as_str().len() as u64).to_be_bytes());
            hasher.update(stream.channel.as_str().as_bytes());
            hasher.update(&contiguous.get().to_be_bytes());
        }
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Self(bytes)
    }
}

/// What a digest says of one range of streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DigestContent {
    /// "Mine have this fingerprint."
    Fingerprint(Fingerprint),
    /// "Mine are these", at most 256.
    Positions {
        /// The positions.
        positions: Vec<Position>,
        /// The sender wants the receiver's own of this range.
        reply: bool,
    },
}

/// One range of a digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DigestRange {
    /// Inclusive; `None` = from the first stream.
    pub from: Option<StreamId>,
    /// Exclusive; `None` = to the last stream.
    pub until: Option<StreamId>,
    /// What the sender says of it.
    pub content: DigestContent,
}

impl DigestRange {
    pub(crate) fn to_proto(&self) -> proto::DigestRange {
        let (fingerprint, positions, reply) = match &self.content {
            DigestContent::Fingerprint(f) => (Bytes::copy_from_slice(&f.0), Vec::new(), false),
            DigestContent::Positions { positions, reply } => {
                (Bytes::new(), positions_to_proto(positions), *reply)
            }
        };
        proto::DigestRange {
            from: self.from.as_ref().map(StreamId::to_proto),
            until: self.until.as_ref().map(StreamId::to_proto),
            fingerprint,
            positions,
            reply,
        }
    }

    pub(crate) fn from_proto(message: &proto::DigestRange) -> Result<Self, DecodeError> {
        limit("positions", message.positions.len(), POSITIONS_MAX)?;
        let content = if message.fingerprint.is_empty() {
            let positions = positions_from_proto(&message.positions)?;
            DigestContent::Positions { positions, reply: message.reply }
        } else {
            DigestContent::Fingerprint(Fingerprint(array("fingerprint", &message.fingerprint)?))
        };
        let from = message.from.as_ref().map(StreamId::from_proto).transpose()?;
        let until = message.until.as_ref().map(StreamId::from_proto).transpose()?;
        if let (Some(from), Some(until)) = (&from, &until)
            && from >= until
        {
            return Err(DecodeError::Invalid { field: "digest range", why: "empty" });
        }
        Ok(Self { from, until, content })
    }
}
