//! The small numbers and keys that name things: nodes, meshes, epochs, messages.

use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use thiserror::Error;

use crate::error::DecodeError;
use crate::limits::SEQUENCE_MAX;

/// A node's name for life: its Ed25519 public key (32 bytes, RFC 8032).
///
/// Displayed as 64 lower-case hex digits; [`NodeId::short`] is for people.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId([u8; 32]);

impl NodeId {
    /// Wraps the bytes of a public key. Whether they are a point of the curve is for the
    /// verifier to find out: TLS and signatures both fail on a key that is none.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes of the public key.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first ten hex digits: enough for a person to tell members apart.
    #[must_use]
    pub fn short(&self) -> String {
        let mut text = self.to_string();
        text.truncate(10);
        text
    }

    pub(crate) fn decode(field: &'static str, bytes: &Bytes) -> Result<Self, DecodeError> {
        Ok(Self(array(field, bytes)?))
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NodeId({})", self.short())
    }
}

/// A text that is not a node id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("a node id is 64 hex digits")]
pub struct ParseNodeIdError;

impl FromStr for NodeId {
    type Err = ParseNodeIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0u8; 32];
        if text.len() != 64 {
            return Err(ParseNodeIdError);
        }
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let high = char::from(pair[0]).to_digit(16).ok_or(ParseNodeIdError)?;
            let low = char::from(pair[1]).to_digit(16).ok_or(ParseNodeIdError)?;
            *byte = u8::try_from(high << 4 | low).map_err(|_| ParseNodeIdError)?;
        }
        Ok(Self(bytes))
    }
}

/// A mesh, as the protocol sees it: derived from its name and the kind of credential,
/// so that two meshes of one name under different credentials differ (protocol.md section 2).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MeshId([u8; 32]);

impl MeshId {
    /// Wraps 32 derived bytes; the derivation is in the security crate.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for MeshId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MeshId({:02x}{:02x}{:02x}{:02x}…)", self.0[0], self.0[1], self.0[2], self.0[3])
    }
}

/// One join of one mesh by one node. A later join has a higher epoch (protocol.md section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(u64);

impl Epoch {
    /// An epoch from its number; `None` above 2^53 - 1, which no wall clock in
    /// milliseconds reaches and no JSON number holds.
    #[must_use]
    pub const fn new(number: u64) -> Option<Self> {
        if number <= SEQUENCE_MAX { Some(Self(number)) } else { None }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    pub(crate) fn decode(number: u64) -> Result<Self, DecodeError> {
        Self::new(number).ok_or(DecodeError::Invalid { field: "epoch", why: "above 2^53 - 1" })
    }
}

/// The number of a message in its stream: contiguous from 1. Zero stands for "none yet"
/// where a position is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Sequence(u64);

impl Sequence {
    /// The position before the first message.
    pub const ZERO: Self = Self(0);

    /// A sequence from its number; `None` above 2^53 - 1.
    #[must_use]
    pub const fn new(number: u64) -> Option<Self> {
        if number <= SEQUENCE_MAX { Some(Self(number)) } else { None }
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The next one. Saturates at the largest, which no stream reaches.
    #[must_use]
    pub const fn next(self) -> Self {
        self.plus(1)
    }

    /// `count` further on; saturates at the largest.
    #[must_use]
    pub const fn plus(self, count: u64) -> Self {
        let sum = self.0.saturating_add(count);
        if sum > SEQUENCE_MAX { Self(SEQUENCE_MAX) } else { Self(sum) }
    }

    /// The one before; zero stays zero.
    #[must_use]
    pub const fn previous(self) -> Self {
        Self(self.0.saturating_sub(1))
    }

    pub(crate) fn decode(field: &'static str, number: u64) -> Result<Self, DecodeError> {
        Self::new(number).ok_or(DecodeError::Invalid { field, why: "above 2^53 - 1" })
    }
}

impl fmt::Display for Sequence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An Ed25519 signature (64 bytes, RFC 8032). Whether it is valid, the security crate says.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature([u8; 64]);

impl Signature {
    /// Wraps the 64 bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 64]) -> Self {
        Self(bytes)
    }

    /// The 64 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 64] {
        &self.0
    }

    pub(crate) fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        Ok(Self(array("signature", bytes)?))
    }

    /// Empty bytes mean "not signed": a mesh without origin authentication.
    pub(crate) fn decode_optional(bytes: &Bytes) -> Result<Option<Self>, DecodeError> {
        if bytes.is_empty() { Ok(None) } else { Self::decode(bytes).map(Some) }
    }

    pub(crate) fn encode_optional(signature: Option<&Self>) -> Bytes {
        signature.map(|s| Bytes::copy_from_slice(&s.0)).unwrap_or_default()
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signature({:02x}{:02x}…)", self.0[0], self.0[1])
    }
}

/// Names a link on its connection: every uni stream and datagram begins with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkNumber(pub u32);

/// Exactly `N` bytes, or an error that names the field.
pub(crate) fn array<const N: usize>(field: &'static str, bytes: &[u8]) -> Result<[u8; N], DecodeError> {
    bytes.try_into().map_err(|_| DecodeError::Invalid { field, why: "wrong number of bytes" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_id_round_trips_as_text() {
        let id = NodeId::from_bytes(std::array::from_fn(|i| u8::try_from(i * 7).unwrap()));
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.short().len(), 10);
    }

    #[test]
    fn texts_that_are_no_node_ids_are_refused() {
        for text in ["", "ab", &"g".repeat(64), &"é".repeat(32), &"a".repeat(65)] {
            assert_eq!(text.parse::<NodeId>(), Err(ParseNodeIdError), "{text}");
        }
    }

    #[test]
    fn sequences_saturate_instead_of_wrapping() {
        let last = Sequence::new(SEQUENCE_MAX).unwrap();
        assert_eq!(last.next(), last);
        assert_eq!(Sequence::ZERO.previous(), Sequence::ZERO);
        assert_eq!(Sequence::new(SEQUENCE_MAX + 1), None);
    }
}
