//! What a node says about itself and its mesh when asked.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use peerchannel_mesh::Stats;
use peerchannel_wire::{Epoch, MemberName, MemberStatus, MeshName, NodeId};

/// A member as this node knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemberInfo {
    /// The node.
    pub node: NodeId,
    /// The name it shows; may be empty.
    pub name: MemberName,
    /// Whether it is there.
    pub status: MemberStatus,
    /// Its latest join known here.
    pub epoch: Epoch,
    /// Where it says it can be dialed.
    pub addresses: Vec<SocketAddr>,
    /// It takes a break: a member without links that comes back or leaves.
    pub suspended: bool,
    /// What its application says of it; see [`Mesh::set_metadata`](crate::Mesh::set_metadata).
    pub metadata: Bytes,
    /// It is this node.
    pub own: bool,
}

/// A neighbor: the node at the other end of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NeighborInfo {
    /// The node.
    pub node: NodeId,
    /// Its remote address.
    pub address: SocketAddr,
    /// The link's round-trip time: the least of the latest few measured.
    pub rtt: Duration,
    /// Whether the link is far: to a node drawn at random, as half of the links of a large mesh
    /// are. The others are near: to the nodes with the shortest round trips.
    pub far: bool,
    /// Messages it brought first.
    pub useful: u64,
    /// Messages it brought that were here already.
    pub duplicates: u64,
}

/// How many members a mesh has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct MeshSize {
    /// Members that take part, this node included.
    pub members: usize,
    /// Whether this node knows each of them. If not, it knows a sample of them, and the number
    /// is an estimate: within 15 % in nineteen of twenty cases.
    pub complete: bool,
}

/// A resolver in use.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct ResolverInfo {
    /// The resolver, as it was given.
    pub resolver: String,
    /// What went wrong the last time; `None` while it answers.
    pub error: Option<String>,
}

/// How a node stands in its mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Status {
    /// The mesh.
    pub mesh: MeshName,
    /// This node.
    pub node: NodeId,
    /// The name this node shows.
    pub name: MemberName,
    /// This node's join.
    pub epoch: Epoch,
    /// Whether it has a neighbor.
    pub online: bool,
    /// Whether it takes a break; see [`Mesh::suspend`](crate::Mesh::suspend).
    pub suspended: bool,
    /// How many members there are.
    pub size: MeshSize,
    /// The UDP address its node listens at.
    pub local_address: SocketAddr,
    /// Where others are told to dial it.
    pub advertised: Vec<SocketAddr>,
    /// Its neighbors.
    pub neighbors: Vec<NeighborInfo>,
    /// Its resolvers.
    pub resolvers: Vec<ResolverInfo>,
}

/// What was counted since the mesh was joined, and a few present sizes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct MeshStats {
    /// What the mesh counts: members, deliveries, duplicates, repairs, retention.
    pub mesh: Stats,
    /// Bytes received on the links of this mesh, framing included, QUIC's own apart.
    pub bytes_in: u64,
    /// Bytes handed to the links of this mesh, framing included, QUIC's own apart.
    pub bytes_out: u64,
    /// Bytes waiting in the queues of the links now.
    pub queue_bytes: u64,
    /// Volatile messages not sent because they did not fit into a datagram or none could be
    /// sent at that moment.
    pub datagrams_dropped: u64,
    /// Panics of the propagation filter.
    pub filter_panics: u64,
}
