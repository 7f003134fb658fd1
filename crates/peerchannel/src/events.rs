//! What happens in a mesh, beside messages: links, members, refusals, resolvers.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use peerchannel_mesh::{DialFailure, LinkLoss, MemberLoss, NeighborLoss};
use peerchannel_wire::{
    AdmissionRefusal, ChannelName, DisconnectReason, Epoch, MemberName, NodeId, RefuseReason, Sequence,
};

use crate::message::{Author, Printable};
use crate::queue::Queued;
use crate::status::MeshSize;

/// Something that happened in a mesh. `Display` is one line for people.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum MeshEvent {
    /// The first neighbor is up: what is published reaches someone.
    Online,
    /// The last neighbor is gone. The node keeps trying to find one.
    Offline,
    /// A node became a neighbor.
    NeighborUp {
        /// The node.
        node: NodeId,
        /// Its remote address.
        address: SocketAddr,
    },
    /// A neighbor is one no longer. Often that is no loss: a node gives up links that it has too
    /// many of, and goes on as a member.
    NeighborDown {
        /// The node.
        node: NodeId,
        /// Why; [`neighbor_loss_text`] says it in words.
        reason: NeighborLoss,
    },
    /// A member joined, or came back with a new epoch.
    ///
    /// In a mesh of more than `members_max` members the node keeps a sample of them, and is told
    /// of these only. What the sample drops or takes in because the mesh grew or shrank is told
    /// neither here nor by `MemberDown`: [`Mesh::members`](crate::Mesh::members) has it. For
    /// five minutes after the sample widened, those that join in what it added are not told
    /// here either.
    MemberUp {
        /// The node.
        node: NodeId,
        /// The name it shows; may be empty.
        name: MemberName,
        /// Its join.
        epoch: Epoch,
    },
    /// A member says something new of itself: its name, its metadata, its addresses; or it takes
    /// or ends a break.
    MemberChanged {
        /// The node.
        node: NodeId,
        /// The name it shows now.
        name: MemberName,
        /// Whether it takes a break.
        suspended: bool,
        /// What its application says of it; see [`Mesh::set_metadata`](crate::Mesh::set_metadata).
        metadata: Bytes,
    },
    /// [`Mesh::members`](crate::Mesh::members) is up to date from here on: the first neighbor
    /// told of the members it knows. Once in a join.
    MembersKnown {
        /// How many there are.
        size: MeshSize,
    },
    /// A member is gone.
    MemberDown {
        /// The node.
        node: NodeId,
        /// The name it showed.
        name: MemberName,
        /// Whether it said goodbye.
        reason: MemberLoss,
    },
    /// The mesh was left, and nobody acknowledged these of this node's messages: they are lost
    /// unless somebody received them without saying so. One event per channel, the last.
    Uncommitted {
        /// The channel.
        channel: ChannelName,
        /// The first of them.
        first: Sequence,
        /// The last of them.
        last: Sequence,
    },
    /// A node that this one dialed would not admit it or would not be its neighbor.
    Refused {
        /// The node, where known.
        node: Option<NodeId>,
        /// Where it was tried, where known.
        address: Option<SocketAddr>,
        /// Why.
        reason: Refusal,
    },
    /// A node dialed this one and was not admitted.
    TurnedAway {
        /// The node.
        node: NodeId,
        /// Its remote address.
        address: SocketAddr,
        /// Why.
        reason: Refusal,
        /// How many others were turned away since the last such event: they are reported at
        /// most once a second, so that strangers cannot drown other events.
        others: u64,
    },
    /// Nobody answered at an address this node was told to try. It goes on trying: told once,
    /// and again when something else happens there, or when the mesh was found or lost since.
    Unreachable {
        /// The node, where known.
        node: Option<NodeId>,
        /// Where it was tried last, where known.
        address: Option<SocketAddr>,
        /// What the network said.
        detail: String,
    },
    /// A resolver does not answer. It is asked again; told once until it answers, or until
    /// somebody else answers in its place.
    ResolverFailed {
        /// The resolver, as it was given.
        resolver: String,
        /// What went wrong.
        error: String,
    },
    /// A resolver that had failed answers again.
    ResolverRecovered {
        /// The resolver, as it was given.
        resolver: String,
    },
    /// This node did not run for a while: the machine slept, or the process was stopped. It
    /// looks for neighbors that gave it up meanwhile.
    Paused {
        /// For how long, as far as it can tell: at least 2 s. A stopped process counts from the
        /// first thing that it would have done meanwhile.
        lasted: Duration,
    },
    /// The machine has other addresses than before, or has had none for 5 s, and the node sees to
    /// its links. Told at most every 5 s.
    NetworkChanged {
        /// Where others are told to dial it now. Empty while the machine has no address that
        /// they could: the mesh still knows the last ones.
        addresses: Vec<SocketAddr>,
    },
    /// After a change of the network: the machine no longer has the address this node was told to
    /// listen at. Nobody reaches it, and it reaches nobody, until the address comes back. A node
    /// that listens at all interfaces follows the network instead.
    ListenAddressLost {
        /// Where it listens.
        address: SocketAddr,
    },
    /// The propagation filter panicked; the message in hand went nowhere ([`Verdict::None`](crate::Verdict::None)).
    FilterPanicked,
    /// Something could not be kept because a limit was reached; counted in the statistics.
    Overloaded(&'static str),
    /// This node has left the mesh. The last event.
    Left,
    /// This subscription was read too slowly: so many of its oldest events were dropped.
    Lagged(u64),
}

/// Why one node did not take another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Refusal {
    /// The password is wrong, or someone sits between the two nodes.
    BadCredential,
    /// The dialed node does not know a mesh of this name with this kind of credential.
    UnknownMesh,
    /// Too many admissions at once, or too many failures from that network.
    Busy,
    /// The two nodes have no protocol version in common.
    Version,
    /// Something was sent that does not belong there.
    Malformed,
    /// Admission took too long.
    TimedOut,
    /// Another node answered than the one that was dialed.
    WrongNode(NodeId),
    /// The dialed node is this node itself, or has a copy of its key.
    Oneself,
    /// The dialed node has as many neighbors as it may have.
    NodeBusy,
    /// There is a link between the two nodes already.
    DuplicateNeighbor,
    /// A later join of this node is known there: a node with the same key runs elsewhere, or
    /// this machine's clock was set back.
    StaleEpoch,
    /// The dialed node is leaving.
    LeavingMesh,
    /// Anything else, in words.
    Other(String),
}

impl From<AdmissionRefusal> for Refusal {
    fn from(refusal: AdmissionRefusal) -> Self {
        match refusal {
            AdmissionRefusal::UnknownMesh => Self::UnknownMesh,
            AdmissionRefusal::BadCredential => Self::BadCredential,
            AdmissionRefusal::Busy => Self::Busy,
            AdmissionRefusal::Version => Self::Version,
            AdmissionRefusal::Malformed => Self::Malformed,
            AdmissionRefusal::TimedOut => Self::TimedOut,
            AdmissionRefusal::Duplicate => Self::Oneself,
            other => Self::Other(format!("{other:?}")),
        }
    }
}

impl From<RefuseReason> for Refusal {
    fn from(reason: RefuseReason) -> Self {
        match reason {
            RefuseReason::NodeBusy => Self::NodeBusy,
            RefuseReason::DuplicateNeighbor => Self::DuplicateNeighbor,
            RefuseReason::DuplicateNodeId => Self::Oneself,
            RefuseReason::StaleEpoch => Self::StaleEpoch,
            RefuseReason::LeavingMesh => Self::LeavingMesh,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::BadCredential => "bad credential: the passwords differ",
            Self::UnknownMesh => "no mesh of this name with this kind of credential there",
            Self::Busy => "busy: too many admissions at once",
            Self::Version => "no protocol version in common: one of the two is too old",
            Self::Malformed => "a malformed frame during admission",
            Self::TimedOut => "admission took too long",
            Self::WrongNode(node) => return write!(f, "another node answered: {}", node.short()),
            Self::Oneself => "that is this node itself, or one with a copy of its key",
            Self::NodeBusy => "it has as many neighbors as it may have",
            Self::DuplicateNeighbor => "there is a link to it already",
            Self::StaleEpoch => "a later join of this node is known there",
            Self::LeavingMesh => "it is leaving the mesh",
            Self::Other(text) => text,
        })
    }
}

impl MeshEvent {
    /// The event that a failed dial is for the application.
    pub(crate) fn from_dial_failure(
        node: Option<NodeId>,
        address: Option<SocketAddr>,
        failure: DialFailure,
    ) -> Self {
        match failure {
            DialFailure::WrongNode(other) => {
                Self::Refused { node, address, reason: Refusal::WrongNode(other) }
            }
            DialFailure::Oneself => Self::Refused { node, address, reason: Refusal::Oneself },
            DialFailure::Refused { reason, .. } => {
                Self::Refused { node, address, reason: Refusal::from(reason) }
            }
            DialFailure::Unreachable(detail) => Self::Unreachable { node, address, detail },
            other => Self::Unreachable { node, address, detail: format!("{other:?}") },
        }
    }
}

/// A reason for losing a neighbor, in words.
#[must_use]
pub fn neighbor_loss_text(loss: &NeighborLoss) -> String {
    let reason = |reason: &DisconnectReason| match reason {
        DisconnectReason::LeavingMesh => "leaving the mesh",
        DisconnectReason::NotUsefulNeighbor => "more links than wanted, and this one is needed least",
        DisconnectReason::DuplicateNeighbor => "duplicate link",
        DisconnectReason::NodeTooSlow => "too slow",
        DisconnectReason::ProtocolViolation => "protocol violation",
        DisconnectReason::Idle => "idle",
        DisconnectReason::Suspended => "suspended",
    };
    match loss {
        NeighborLoss::Disconnected(why) => format!("it ended the link: {}", reason(why)),
        NeighborLoss::Dropped(why) => format!("this node ended the link: {}", reason(why)),
        NeighborLoss::Lost(loss) => match loss {
            LinkLoss::TimedOut => "lost: nothing came from it in time".to_owned(),
            // Of a process that was restarted, and of one that slept or was asleep in the eyes
            // of the other.
            LinkLoss::Reset => {
                "lost: it no longer knows the connection, after a restart or a pause of one of the two"
                    .to_owned()
            }
            LinkLoss::ClosedByPeer(why) if why.is_empty() => "lost: it closed the link".to_owned(),
            LinkLoss::ClosedByPeer(why) => format!("lost: it closed the link: {why}"),
            LinkLoss::BadFrame(why) => format!("closed: it sent an invalid frame: {why}"),
            LinkLoss::ClosedLocally => "closed here".to_owned(),
            other => format!("lost: {other:?}"),
        },
    }
}

impl fmt::Display for MeshEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Online => f.write_str("online"),
            Self::Offline => f.write_str("offline: no neighbor, trying to find one"),
            Self::NeighborUp { node, address } => write!(f, "neighbor {} at {address}", node.short()),
            Self::NeighborDown { node, reason } => {
                write!(f, "{} is no neighbor any more: {}", node.short(), neighbor_loss_text(reason))
            }
            Self::MemberUp { node, name, .. } => write!(f, "{} is here", Author { name, node: *node }),
            Self::MemberChanged { node, name, suspended, metadata } => {
                let author = Author { name, node: *node };
                match std::str::from_utf8(metadata) {
                    _ if *suspended => write!(f, "{author} takes a break"),
                    Ok(text) if !text.is_empty() => write!(f, "{author}: {}", Printable(text)),
                    _ => write!(f, "{author} changed"),
                }
            }
            Self::MembersKnown { size: MeshSize { members, complete: true } } => {
                write!(f, "{members} members")
            }
            Self::MembersKnown { size } => write!(f, "about {} members", size.members),
            Self::MemberDown { node, name, reason } => {
                let author = Author { name, node: *node };
                match reason {
                    MemberLoss::Left => write!(f, "{author} left"),
                    MemberLoss::Failed => write!(f, "{author} is gone without a goodbye"),
                }
            }
            Self::Uncommitted { channel, first, last } => {
                write!(f, "left before anybody acknowledged messages {first} to {last} in {channel}")
            }
            Self::Refused { node, address, reason } => {
                write!(f, "{} refused: {reason}", Place { node: *node, address: *address })
            }
            Self::TurnedAway { node, address, reason, others } => {
                write!(f, "{} at {address} was not admitted: {reason}", node.short())?;
                if *others > 0 { write!(f, " (and {others} others)") } else { Ok(()) }
            }
            Self::Unreachable { node, address, detail } => {
                write!(f, "{} cannot be reached: {detail}", Place { node: *node, address: *address })
            }
            Self::ResolverFailed { resolver, error } => {
                // Most errors begin with the resolver's name.
                if !error.contains(resolver.as_str()) {
                    write!(f, "{resolver}: ")?;
                }
                write!(f, "{error}; it is tried again")
            }
            Self::ResolverRecovered { resolver } => write!(f, "{resolver} answers again"),
            Self::Paused { lasted } => write!(f, "back after a pause of {:.0} s", lasted.as_secs_f64()),
            Self::NetworkChanged { addresses } => {
                f.write_str("the network changed; this node is at")?;
                if addresses.is_empty() {
                    f.write_str(" no address that others could dial")?;
                }
                addresses.iter().try_for_each(|address| write!(f, " {address}"))
            }
            Self::ListenAddressLost { address } => write!(
                f,
                "this machine no longer has the address {} that this node listens at: listen at \
                 0.0.0.0:{port} or [::]:{port} to follow the network",
                address.ip(),
                port = address.port()
            ),
            Self::FilterPanicked => f.write_str("the propagation filter panicked: a message went nowhere"),
            Self::Overloaded(what) => write!(f, "a limit was reached: {what}"),
            Self::Left => f.write_str("left the mesh"),
            Self::Lagged(missed) => write!(f, "{missed} events missed: read too slowly"),
        }
    }
}

struct Place {
    node: Option<NodeId>,
    address: Option<SocketAddr>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.node, self.address) {
            (Some(node), Some(address)) => write!(f, "{} at {address}", node.short()),
            (Some(node), None) => f.write_str(&node.short()),
            (None, Some(address)) => write!(f, "{address}"),
            (None, None) => f.write_str("a node"),
        }
    }
}

impl Queued for MeshEvent {
    fn lagged(missed: u64) -> Self {
        Self::Lagged(missed)
    }

    fn size(&self) -> usize {
        let beyond = match self {
            Self::MemberChanged { metadata, .. } => metadata.len(),
            _ => 0,
        };
        size_of::<Self>() + beyond
    }
}
