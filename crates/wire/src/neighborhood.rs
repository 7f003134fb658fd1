//! What neighbors tell each other so that both find better ones: coordinates, spare links, shuffles.
//!
//! All of it belongs to [`Features::NEIGHBORHOOD`](crate::Features::NEIGHBORHOOD). A coordinate
//! is a claim: it may help to choose whom to dial, and never proves anything
//! (docs/protocol.md section 3).

use std::time::Duration;

use crate::address::NodeAddress;
use crate::error::{DecodeError, limit};
use crate::generated as proto;
use crate::limits::{COORDINATE_MAX_US, SHUFFLE_HOPS_MAX, SHUFFLED_NODES_MAX};

/// A place in a space in which distances are round-trip times: a plane, and a height for the
/// last mile that every path of the node crosses (Vivaldi, SIGCOMM 2004).
///
/// Invariant: no part is beyond 10 s, the error is at most 1000 per mille.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Coordinate {
    x: i32,
    y: i32,
    height: u32,
    error: u32,
}

/// The error of a node that knows nothing of its place.
const ERROR_MAX: u32 = 1000;

impl Coordinate {
    /// A place given in microseconds, with its error in per mille. What is out of range is
    /// brought to the nearest value that is not.
    #[must_use]
    pub fn new(x: i32, y: i32, height: u32, error: u32) -> Self {
        let most = COORDINATE_MAX_US.cast_signed();
        Self {
            x: x.clamp(-most, most),
            y: y.clamp(-most, most),
            height: height.min(COORDINATE_MAX_US),
            error: error.min(ERROR_MAX),
        }
    }

    /// The first axis of the plane, in microseconds.
    #[must_use]
    pub const fn x(&self) -> i32 {
        self.x
    }

    /// The second axis, in microseconds.
    #[must_use]
    pub const fn y(&self) -> i32 {
        self.y
    }

    /// The last mile, there and back, in microseconds.
    #[must_use]
    pub const fn height(&self) -> u32 {
        self.height
    }

    /// How far its node trusts it: 0 = exact, 1000 = not at all. Per mille.
    #[must_use]
    pub const fn error(&self) -> u32 {
        self.error
    }

    /// The round-trip time between two places, as far as coordinates can tell.
    #[must_use]
    pub fn distance(&self, other: &Self) -> Duration {
        let square = |a: i32, b: i32| {
            let difference = u64::from(a.abs_diff(b));
            difference * difference
        };
        let plane = (square(self.x, other.x) + square(self.y, other.y)).isqrt();
        Duration::from_micros(plane + u64::from(self.height) + u64::from(other.height))
    }

    pub(crate) fn to_proto(self) -> proto::Coordinate {
        proto::Coordinate { x: self.x, y: self.y, height: self.height, error: self.error }
    }

    pub(crate) fn from_proto(message: proto::Coordinate) -> Result<Self, DecodeError> {
        let valid = Self::new(message.x, message.y, message.height, message.error);
        if valid.to_proto() == message {
            Ok(valid)
        } else {
            Err(DecodeError::Invalid { field: "coordinate", why: "out of range" })
        }
    }

    pub(crate) fn from_field(message: Option<proto::Coordinate>) -> Result<Option<Self>, DecodeError> {
        message.map(Self::from_proto).transpose()
    }
}

/// How many links a node could lose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Balance {
    /// Before it is short of neighbors: above its low limit.
    pub spare: u32,
    /// Before it has fewer than it wants: above its target.
    pub surplus: u32,
}

/// Answers a ping.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pong {
    /// The ping's.
    pub nonce: u64,
    /// Where the sender believes to be.
    pub coordinate: Option<Coordinate>,
    /// What links the sender could do without.
    pub balance: Option<Balance>,
}

impl Pong {
    /// The answer of a node that says nothing of itself.
    #[must_use]
    pub const fn plain(nonce: u64) -> Self {
        Self { nonce, coordinate: None, balance: None }
    }

    pub(crate) fn to_proto(self) -> proto::Pong {
        let balance = |b: Balance| proto::Balance { spare: b.spare, surplus: b.surplus };
        proto::Pong {
            nonce: self.nonce,
            coordinate: self.coordinate.map(Coordinate::to_proto),
            balance: self.balance.map(balance),
        }
    }

    pub(crate) fn from_proto(message: proto::Pong) -> Result<Self, DecodeError> {
        let balance = |b: proto::Balance| Balance { spare: b.spare, surplus: b.surplus };
        Ok(Self {
            nonce: message.nonce,
            coordinate: Coordinate::from_field(message.coordinate)?,
            balance: message.balance.map(balance),
        })
    }
}

/// Why the opener of a link wants this neighbor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum LinkKind {
    /// To have enough neighbors, near ones where there is a choice.
    #[default]
    Near,
    /// Picked uniformly from all members it heard of: what keeps the mesh in one piece.
    Far,
    /// It has enough neighbors, and looks for one that is nearer than its slowest.
    Trial,
}

impl LinkKind {
    pub(crate) const fn to_proto(self) -> proto::LinkKind {
        match self {
            Self::Near => proto::LinkKind::Near,
            Self::Far => proto::LinkKind::Far,
            Self::Trial => proto::LinkKind::Trial,
        }
    }

    /// A kind that a later release may add is a link like any other.
    pub(crate) fn from_proto(kind: i32) -> Self {
        match proto::LinkKind::try_from(kind) {
            Ok(proto::LinkKind::Far) => Self::Far,
            Ok(proto::LinkKind::Trial) => Self::Trial,
            Ok(proto::LinkKind::Near) | Err(_) => Self::Near,
        }
    }
}

/// A node that a shuffle tells of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShuffledNode {
    /// The node and where it was dialed, or says it can be.
    pub address: NodeAddress,
    /// Where it believes to be.
    pub coordinate: Option<Coordinate>,
    /// Seconds since it was last known to be there.
    pub age_s: u32,
}

/// Tells of a few nodes, and walks on.
///
/// Invariant: at most 8 hops, at most 16 nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shuffle {
    hops_left: u32,
    nodes: Vec<ShuffledNode>,
}

impl Shuffle {
    /// A shuffle that may travel so many more links (at most 8). Nodes beyond the 16th are
    /// left out.
    #[must_use]
    pub fn new(hops_left: u32, mut nodes: Vec<ShuffledNode>) -> Self {
        nodes.truncate(SHUFFLED_NODES_MAX);
        Self { hops_left: hops_left.min(SHUFFLE_HOPS_MAX), nodes }
    }

    /// Links it may still travel.
    #[must_use]
    pub const fn hops_left(&self) -> u32 {
        self.hops_left
    }

    /// The nodes it tells of.
    #[must_use]
    pub fn nodes(&self) -> &[ShuffledNode] {
        &self.nodes
    }

    /// The same, one link further; `None` if its walk ends here.
    #[must_use]
    pub fn further(&self) -> Option<Self> {
        let hops_left = self.hops_left.checked_sub(1)?;
        Some(Self { hops_left, nodes: self.nodes.clone() })
    }

    pub(crate) fn to_proto(&self) -> proto::Shuffle {
        let node = |node: &ShuffledNode| proto::ShuffledNode {
            node: Some(node.address.to_proto()),
            coordinate: node.coordinate.map(Coordinate::to_proto),
            age_s: node.age_s,
        };
        proto::Shuffle { hops_left: self.hops_left, nodes: self.nodes.iter().map(node).collect() }
    }

    pub(crate) fn from_proto(message: &proto::Shuffle) -> Result<Self, DecodeError> {
        limit("shuffled nodes", message.nodes.len(), SHUFFLED_NODES_MAX)?;
        if message.hops_left > SHUFFLE_HOPS_MAX {
            return Err(DecodeError::Invalid { field: "hops left", why: "more than 8" });
        }
        let node = |node: &proto::ShuffledNode| {
            let address = node.node.as_ref().ok_or(DecodeError::Missing("shuffled node"))?;
            Ok(ShuffledNode {
                address: NodeAddress::from_proto(address)?,
                coordinate: Coordinate::from_field(node.coordinate)?,
                age_s: node.age_s,
            })
        };
        let nodes: Result<Vec<_>, DecodeError> = message.nodes.iter().map(node).collect();
        Ok(Self { hops_left: message.hops_left, nodes: nodes? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_distance_is_that_in_the_plane_and_both_heights() {
        let a = Coordinate::new(0, 3_000, 500, 100);
        let b = Coordinate::new(4_000, 0, 250, 100);
        assert_eq!(a.distance(&b), Duration::from_micros(5_750));
        assert_eq!(b.distance(&a), a.distance(&b));
        let far = |sign: i32| Coordinate::new(i32::MAX * sign, i32::MAX * sign, u32::MAX, u32::MAX);
        assert!(far(1).distance(&far(-1)) < Duration::from_secs(50), "bounded");
    }

    #[test]
    fn a_coordinate_out_of_range_is_refused() {
        let check = |message: proto::Coordinate| {
            assert!(Coordinate::from_proto(message).is_err(), "{message:?}");
        };
        let fine = proto::Coordinate { x: -10_000_000, y: 10_000_000, height: 10_000_000, error: 1000 };
        assert!(Coordinate::from_proto(fine).is_ok());
        check(proto::Coordinate { x: 10_000_001, ..fine });
        check(proto::Coordinate { y: i32::MIN, ..fine });
        check(proto::Coordinate { height: u32::MAX, ..fine });
        check(proto::Coordinate { error: 1001, ..fine });
    }

    #[test]
    fn a_shuffle_that_is_too_long_or_goes_too_far_is_refused() {
        let address = NodeAddress::new(crate::NodeId::from_bytes([1; 32]), ["192.0.2.1:1".parse().unwrap()]);
        let node = ShuffledNode { address: address.unwrap(), coordinate: None, age_s: 0 };
        let shuffle = Shuffle::new(99, vec![node; 99]);
        let message = shuffle.to_proto();
        assert_eq!((message.hops_left, message.nodes.len()), (SHUFFLE_HOPS_MAX, SHUFFLED_NODES_MAX));
        assert_eq!(Shuffle::from_proto(&message), Ok(shuffle));
        let mut long = message.clone();
        long.nodes.push(message.nodes[0].clone());
        assert!(Shuffle::from_proto(&long).is_err());
        assert!(Shuffle::from_proto(&proto::Shuffle { hops_left: 9, ..message }).is_err());
    }

    #[test]
    fn a_shuffle_ends_its_walk() {
        let mut shuffle = Some(Shuffle::new(2, vec![]));
        let mut hops = 0;
        while let Some(next) = shuffle {
            hops += 1;
            shuffle = next.further();
        }
        assert_eq!(hops, 3, "sent once, passed on twice");
    }

    #[test]
    fn a_kind_of_a_later_release_is_near() {
        for kind in [LinkKind::Near, LinkKind::Far, LinkKind::Trial] {
            assert_eq!(LinkKind::from_proto(kind.to_proto().into()), kind);
        }
        assert_eq!(LinkKind::from_proto(77), LinkKind::Near);
    }
}
