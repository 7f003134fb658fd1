//! Member digests: comparing two nodes' member tables by sums over ranges of node ids.
//!
//! As with [stream digests](crate::DigestRange), ranges that agree are done and others are
//! split or listed. The difference is the fingerprint: a *sum* of one hash per member, so that
//! a table of thousands keeps it up to date at each change instead of hashing itself anew.

use bytes::Bytes;

use crate::error::{DecodeError, limit};
use crate::generated as proto;
use crate::id::{Epoch, MeshId, NodeId, array};
use crate::limits::POSITIONS_MAX;
use crate::member::{Member, MemberStatus, status_from_proto, status_to_proto};

/// What is known of a member, without its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemberMark {
    /// The node.
    pub node: NodeId,
    /// Its join.
    pub epoch: Epoch,
    /// Its latest statement.
    pub incarnation: u32,
    /// Its state, as the sender believes.
    pub status: MemberStatus,
}

impl MemberMark {
    /// The mark of a member whose record is at hand.
    #[must_use]
    pub fn of(member: &Member) -> Self {
        let facts = member.record.facts();
        Self { node: facts.node, epoch: facts.epoch, incarnation: facts.incarnation, status: member.status }
    }

    /// Where a node stands in the order by which every member of a mesh chooses the same
    /// sample: uniform over ids, different in every mesh.
    #[must_use]
    pub fn place(mesh: &MeshId, node: &NodeId) -> u64 {
        let mut hasher = blake3::Hasher::new();
        hasher.update(b"peerchannel/1 sample");
        hasher.update(mesh.as_bytes());
        hasher.update(node.as_bytes());
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        u64::from_be_bytes(bytes)
    }

    pub(crate) fn to_proto(self) -> proto::MemberMark {
        proto::MemberMark {
            node: Bytes::copy_from_slice(self.node.as_bytes()),
            epoch: self.epoch.get(),
            incarnation: self.incarnation,
            status: status_to_proto(self.status).into(),
        }
    }

    pub(crate) fn from_proto(message: &proto::MemberMark) -> Result<Self, DecodeError> {
        Ok(Self {
            node: NodeId::decode("node", &message.node)?,
            epoch: Epoch::decode(message.epoch)?,
            incarnation: message.incarnation,
            status: status_from_proto(message.status)?,
        })
    }
}

/// A sum over marks in any order: equal where the marks are, and changed by one addition or
/// subtraction when a mark comes or goes.
///
/// 128 bits keep honest tables apart. A member that searches for ids whose marks cancel out
/// could hide a difference; what that hides is found by the next probe of the member itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct MemberSum {
    // The halves of one number, the higher first: tables hold one sum per member, and a `u128`
    // would have each padded to 16 bytes more.
    halves: [u64; 2],
    count: u32,
}

impl MemberSum {
    /// The sum of one mark.
    #[must_use]
    pub fn of(mark: &MemberMark) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(mark.node.as_bytes());
        hasher.update(&mark.epoch.get().to_be_bytes());
        hasher.update(&mark.incarnation.to_be_bytes());
        hasher.update(&[match mark.status {
            MemberStatus::Alive => 0,
            MemberStatus::Left => 1,
            MemberStatus::Failed => 2,
        }]);
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Self::from_number(u128::from_be_bytes(bytes), 1)
    }

    const fn from_number(number: u128, count: u32) -> Self {
        Self { halves: [(number >> 64) as u64, number as u64], count }
    }

    const fn number(self) -> u128 {
        (self.halves[0] as u128) << 64 | self.halves[1] as u128
    }

    /// With another sum's marks too.
    #[must_use]
    pub const fn plus(self, other: Self) -> Self {
        Self::from_number(self.number().wrapping_add(other.number()), self.count.wrapping_add(other.count))
    }

    /// Without another sum's marks.
    #[must_use]
    pub const fn minus(self, other: Self) -> Self {
        Self::from_number(self.number().wrapping_sub(other.number()), self.count.wrapping_sub(other.count))
    }

    /// How many marks it is of.
    #[must_use]
    pub const fn count(self) -> u32 {
        self.count
    }
}

/// What a member digest says of one range of node ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberContent {
    /// "Mine have this sum."
    Sum(MemberSum),
    /// "Mine are these", at most 256.
    Marks {
        /// The marks.
        marks: Vec<MemberMark>,
        /// The sender wants the receiver's own of this range.
        reply: bool,
    },
}

/// One range of a member digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberRange {
    /// Inclusive; `None` = from the first node id.
    pub from: Option<NodeId>,
    /// Exclusive; `None` = to the last node id.
    pub until: Option<NodeId>,
    /// What the sender says of it.
    pub content: MemberContent,
}

/// A comparison of member tables, or a part of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberDigest {
    /// The sender keeps members whose hash is below (7/8)^level of all; 0 = everybody.
    pub level: u32,
    /// How many it keeps, itself included.
    pub members: u32,
    /// The ranges, at most 256.
    pub ranges: Vec<MemberRange>,
}

impl MemberDigest {
    pub(crate) fn to_proto(&self) -> proto::MemberDigest {
        proto::MemberDigest {
            level: self.level,
            members: self.members,
            ranges: self.ranges.iter().map(MemberRange::to_proto).collect(),
        }
    }

    pub(crate) fn from_proto(message: &proto::MemberDigest) -> Result<Self, DecodeError> {
        limit("member digest", message.ranges.len(), POSITIONS_MAX)?;
        let ranges: Result<Vec<_>, _> = message.ranges.iter().map(MemberRange::from_proto).collect();
        Ok(Self { level: message.level, members: message.members, ranges: ranges? })
    }
}

impl MemberRange {
    fn to_proto(&self) -> proto::MemberRange {
        let (sum, count, marks, reply) = match &self.content {
            MemberContent::Sum(sum) => {
                (Bytes::copy_from_slice(&sum.number().to_be_bytes()), sum.count, Vec::new(), false)
            }
            MemberContent::Marks { marks, reply } => (Bytes::new(), 0, marks_to_proto(marks), *reply),
        };
        let id =
            |node: Option<NodeId>| node.map_or_else(Bytes::new, |n| Bytes::copy_from_slice(n.as_bytes()));
        proto::MemberRange { from: id(self.from), until: id(self.until), sum, count, marks, reply }
    }

    fn from_proto(message: &proto::MemberRange) -> Result<Self, DecodeError> {
        let id = |bytes: &Bytes| (!bytes.is_empty()).then(|| NodeId::decode("node", bytes)).transpose();
        let (from, until) = (id(&message.from)?, id(&message.until)?);
        if let (Some(from), Some(until)) = (from, until)
            && from >= until
        {
            return Err(DecodeError::Invalid { field: "member range", why: "empty" });
        }
        let content = if message.sum.is_empty() {
            MemberContent::Marks { marks: marks_from_proto(&message.marks)?, reply: message.reply }
        } else {
            let sum = u128::from_be_bytes(array("sum", &message.sum)?);
            MemberContent::Sum(MemberSum::from_number(sum, message.count))
        };
        Ok(Self { from, until, content })
    }
}

pub(crate) fn marks_to_proto(marks: &[MemberMark]) -> Vec<proto::MemberMark> {
    marks.iter().map(|mark| mark.to_proto()).collect()
}

pub(crate) fn marks_from_proto(marks: &[proto::MemberMark]) -> Result<Vec<MemberMark>, DecodeError> {
    limit("marks", marks.len(), POSITIONS_MAX)?;
    marks.iter().map(MemberMark::from_proto).collect()
}

pub(crate) fn nodes_from_proto(nodes: &[Bytes]) -> Result<Vec<NodeId>, DecodeError> {
    limit("nodes", nodes.len(), POSITIONS_MAX)?;
    nodes.iter().map(|node| NodeId::decode("node", node)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sum_follows_its_marks_and_knows_every_field() {
        let mark = |n: u8, incarnation, status| MemberMark {
            node: NodeId::from_bytes([n; 32]),
            epoch: Epoch::new(7).unwrap(),
            incarnation,
            status,
        };
        let of = |n, i, s| MemberSum::of(&mark(n, i, s));
        let (a, b) = (of(1, 0, MemberStatus::Alive), of(2, 5, MemberStatus::Failed));
        assert_eq!(a.plus(b), b.plus(a));
        assert_eq!(a.plus(b).minus(a), b);
        assert_eq!(a.minus(a), MemberSum::default());
        assert_eq!(a.plus(b).count(), 2);
        for other in
            [of(3, 0, MemberStatus::Alive), of(1, 1, MemberStatus::Alive), of(1, 0, MemberStatus::Left)]
        {
            assert_ne!(a, other);
        }
    }
}
