//! Member records: what a node says of itself, signed, and what others say of its state.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;

use crate::address::{NodeAddress, socket_to_proto, sockets_from_proto};
use crate::error::{DecodeError, limit};
use crate::frame::framed_len;
use crate::generated as proto;
use crate::id::{Epoch, MeshId, NodeId, Signature};
use crate::limits::{MEMBER_FACTS_MAX, MEMBER_METADATA_MAX, NODE_ADDRESSES_MAX};
use crate::name::MemberName;
use crate::transcript::Transcript;

const CONTEXT: &str = "peerchannel/1 member";

/// What a node says of itself in one mesh.
///
/// Of two records of one node the one with the higher (epoch, incarnation) is newer. Only
/// the node itself raises its incarnation: to announce a change, or to refute a report that
/// it failed (SWIM section 4.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberFacts {
    /// The node.
    pub node: NodeId,
    /// Its join.
    pub epoch: Epoch,
    /// Raised by the node at each change within a join.
    pub incarnation: u32,
    /// The name it shows.
    pub name: MemberName,
    /// Where it can be dialed, best first; may be empty (at most 16).
    pub addresses: Vec<SocketAddr>,
    /// What its application says of it: at most 512 bytes, empty if nothing.
    pub metadata: Bytes,
    /// Somebody has dialed it and reached it in this join.
    pub dialable: bool,
    /// It takes a break: it has no links, and does not count as failed.
    pub suspended: bool,
}

impl MemberFacts {
    /// Facts of a node of which nothing but its name is known: no addresses, no metadata.
    #[must_use]
    pub const fn new(node: NodeId, epoch: Epoch, incarnation: u32, name: MemberName) -> Self {
        Self {
            node,
            epoch,
            incarnation,
            name,
            addresses: Vec::new(),
            metadata: Bytes::new(),
            dialable: false,
            suspended: false,
        }
    }

    /// Encodes the facts: what the node signs and others pass on verbatim. Addresses beyond
    /// the 16th and metadata beyond the 512th byte are left out.
    #[must_use]
    pub fn unsigned(mut self) -> UnsignedMember {
        self.addresses.truncate(NODE_ADDRESSES_MAX);
        self.metadata.truncate(MEMBER_METADATA_MAX);
        let encoded = proto::MemberFacts {
            node: Bytes::copy_from_slice(self.node.as_bytes()),
            epoch: self.epoch.get(),
            incarnation: self.incarnation,
            name: self.name.as_str().to_owned(),
            addresses: self.addresses.iter().map(socket_to_proto).collect(),
            metadata: self.metadata.clone(),
            dialable: self.dialable,
            suspended: self.suspended,
        }
        .encode_to_vec();
        UnsignedMember { facts: self, encoded: encoded.into() }
    }
}

/// Encoded facts that are not signed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsignedMember {
    facts: MemberFacts,
    encoded: Bytes,
}

impl UnsignedMember {
    /// What the node signs.
    #[must_use]
    pub fn transcript(&self, mesh: &MeshId) -> Transcript {
        transcript(mesh, &self.encoded)
    }

    /// Completes the record.
    #[must_use]
    pub fn sign(self, signature: Signature) -> MemberRecord {
        MemberRecord(Arc::new(Signed { facts: self.facts, encoded: self.encoded, signature }))
    }
}

/// Facts with the signature of the node they are about. Cheap to clone: it never changes, and
/// every table and frame that holds it shares it.
#[derive(Debug, Clone)]
pub struct MemberRecord(Arc<Signed>);

impl PartialEq for MemberRecord {
    /// Word for word: the facts say no more than the bytes they were read from.
    fn eq(&self, other: &Self) -> bool {
        let same = || self.0.signature == other.0.signature && self.0.encoded == other.0.encoded;
        Arc::ptr_eq(&self.0, &other.0) || same()
    }
}

impl Eq for MemberRecord {}

#[derive(Debug)]
struct Signed {
    facts: MemberFacts,
    encoded: Bytes,
    signature: Signature,
}

impl MemberRecord {
    /// What the node says of itself; to be believed once the signature verified.
    #[must_use]
    pub fn facts(&self) -> &MemberFacts {
        &self.0.facts
    }

    /// The signature by the node's key.
    #[must_use]
    pub fn signature(&self) -> &Signature {
        &self.0.signature
    }

    /// What the signature must cover.
    #[must_use]
    pub fn transcript(&self, mesh: &MeshId) -> Transcript {
        transcript(mesh, &self.0.encoded)
    }

    /// The node with the addresses it gave; `None` if it gave none that can be dialed.
    #[must_use]
    pub fn address(&self) -> Option<NodeAddress> {
        NodeAddress::new(self.0.facts.node, self.0.facts.addresses.iter().copied())
    }

    /// Bytes the record takes on the wire.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        self.0.encoded.len() + 64
    }

    pub(crate) fn to_proto(&self) -> proto::MemberRecord {
        proto::MemberRecord {
            facts: self.0.encoded.clone(),
            signature: Bytes::copy_from_slice(self.0.signature.as_bytes()),
        }
    }

    pub(crate) fn from_field(message: Option<&proto::MemberRecord>) -> Result<Self, DecodeError> {
        let message = message.ok_or(DecodeError::Missing("member"))?;
        let signature = Signature::decode(&message.signature)?;
        limit("member facts", message.facts.len(), MEMBER_FACTS_MAX)?;
        // A copy: a record lives long and must not pin the frame it came in.
        let encoded = Bytes::copy_from_slice(&message.facts);
        let facts = facts_from(encoded.clone())?;
        Ok(Self(Arc::new(Signed { facts, encoded, signature })))
    }
}

fn facts_from(encoded: Bytes) -> Result<MemberFacts, DecodeError> {
    let facts = proto::MemberFacts::decode(encoded)?;
    limit("metadata", facts.metadata.len(), MEMBER_METADATA_MAX)?;
    Ok(MemberFacts {
        node: NodeId::decode("node", &facts.node)?,
        epoch: Epoch::decode(facts.epoch)?,
        incarnation: facts.incarnation,
        name: MemberName::new(&facts.name)
            .map_err(|_| DecodeError::Invalid { field: "name", why: "not a valid member name" })?,
        addresses: sockets_from_proto(&facts.addresses)?,
        metadata: facts.metadata,
        dialable: facts.dialable,
        suspended: facts.suspended,
    })
}

/// What is known of a member's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MemberStatus {
    /// It takes part.
    Alive,
    /// It said goodbye.
    Left,
    /// It stopped answering. Refuted by a record with a higher incarnation.
    Failed,
}

/// A member record and the state its sender believes it to be in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The state.
    pub status: MemberStatus,
    /// The record it is about.
    pub record: MemberRecord,
}

impl Member {
    /// Bytes of the protobuf message: a status and a record, all keys of one byte.
    pub(crate) fn message_len(&self) -> usize {
        let Signed { encoded, signature, .. } = &*self.record.0;
        let record = 1 + framed_len(encoded.len()) + 1 + framed_len(signature.as_bytes().len());
        2 + 1 + framed_len(record)
    }

    pub(crate) fn to_proto(&self) -> proto::Member {
        proto::Member { status: status_to_proto(self.status).into(), record: Some(self.record.to_proto()) }
    }

    /// What a neighbor passes on; `None` if the facts are not valid. Whom they are about wrote
    /// and signed them. The neighbor may be of a release that takes them for valid, and is not
    /// at fault.
    pub(crate) fn from_proto(message: &proto::Member) -> Result<Option<Self>, DecodeError> {
        let status = status_from_proto(message.status)?;
        let record = message.record.as_ref().ok_or(DecodeError::Missing("member"))?;
        Signature::decode(&record.signature)?;
        Ok(MemberRecord::from_field(Some(record)).ok().map(|record| Self { status, record }))
    }
}

pub(crate) fn status_to_proto(status: MemberStatus) -> proto::MemberStatus {
    match status {
        MemberStatus::Alive => proto::MemberStatus::Alive,
        MemberStatus::Left => proto::MemberStatus::Left,
        MemberStatus::Failed => proto::MemberStatus::Failed,
    }
}

pub(crate) fn status_from_proto(status: i32) -> Result<MemberStatus, DecodeError> {
    match proto::MemberStatus::try_from(status) {
        Ok(proto::MemberStatus::Alive) => Ok(MemberStatus::Alive),
        Ok(proto::MemberStatus::Left) => Ok(MemberStatus::Left),
        Ok(proto::MemberStatus::Failed) => Ok(MemberStatus::Failed),
        Ok(proto::MemberStatus::Unspecified) | Err(_) => {
            Err(DecodeError::Invalid { field: "status", why: "unknown" })
        }
    }
}

fn transcript(mesh: &MeshId, encoded: &[u8]) -> Transcript {
    let mut transcript = Transcript::new(CONTEXT, Some(mesh));
    transcript.part(encoded);
    transcript
}

#[cfg(test)]
mod tests {
    use super::*;

    fn statement(facts: &[u8]) -> proto::Member {
        let signature = Bytes::from_static(&[7; 64]);
        let record = proto::MemberRecord { facts: Bytes::copy_from_slice(facts), signature };
        proto::Member { status: proto::MemberStatus::Alive.into(), record: Some(record) }
    }

    /// Valid facts, followed by a field of this many bytes that this release does not know.
    fn facts_with_unknown(size: usize) -> Vec<u8> {
        let node = NodeId::from_bytes([1; 32]);
        let facts = MemberFacts::new(node, Epoch::new(1).unwrap(), 0, MemberName::default());
        let mut encoded = facts.unsigned().encoded.to_vec();
        let room = u16::try_from(size).unwrap();
        // Field 100, of bytes, with a length of two bytes.
        encoded.extend([0xa2, 0x06, room.to_le_bytes()[0] | 0x80, u8::try_from(room >> 7).unwrap()]);
        encoded.resize(encoded.len() + size, 0);
        encoded
    }

    #[test]
    fn fields_of_a_later_release_are_kept_up_to_a_limit() {
        let kept = Member::from_proto(&statement(&facts_with_unknown(1000))).unwrap().unwrap();
        assert!(kept.record.encoded_len() > 1000);
        let huge = statement(&facts_with_unknown(MEMBER_FACTS_MAX));
        let error = MemberRecord::from_field(huge.record.as_ref()).unwrap_err();
        assert!(matches!(error, DecodeError::TooLong { field: "member facts", .. }), "{error}");
    }

    #[test]
    fn who_passes_on_what_another_wrote_is_not_at_fault_for_it() {
        let metadata = Bytes::from(vec![1; MEMBER_METADATA_MAX + 1]);
        let too_much = proto::MemberFacts { metadata, ..Default::default() }.encode_to_vec();
        for facts in [facts_with_unknown(MEMBER_FACTS_MAX), too_much, vec![], vec![0xff; 9]] {
            assert_eq!(Member::from_proto(&statement(&facts)), Ok(None));
        }
        // These the neighbor writes itself.
        let mut unsigned = statement(&facts_with_unknown(0));
        unsigned.record.as_mut().unwrap().signature = Bytes::new();
        assert!(Member::from_proto(&unsigned).is_err());
        assert!(Member::from_proto(&proto::Member { status: 99, ..statement(&[]) }).is_err());
        assert!(Member::from_proto(&proto::Member { record: None, ..statement(&[]) }).is_err());
    }
}
