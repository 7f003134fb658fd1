//! What handles ask of the driver.

use std::time::Duration;

use bytes::Bytes;
use peerchannel_mesh::{Filter, MetadataTooLong};
use peerchannel_wire::{ChannelName, NodeId};
use tokio::sync::{oneshot, watch};

use crate::channel::Commitment;
use crate::error::{DirectError, InviteError, PublishError};
use crate::status::{MemberInfo, MeshSize, MeshStats, Status};

/// An order or a question of a handle.
pub(crate) enum Command {
    /// Publish a message.
    Publish(PublishOrder),
    /// Send a direct message.
    Direct { to: NodeId, payload: Bytes, reply: oneshot::Sender<Result<(), DirectError>> },
    /// Replace the propagation filter.
    SetFilter(Option<Box<dyn Filter>>),
    /// Ask the resolvers and try one more link.
    Refresh,
    /// Take a break.
    Suspend,
    /// End it.
    Resume,
    /// Say something of this node to all members.
    SetMetadata { metadata: Bytes, reply: oneshot::Sender<Result<(), MetadataTooLong>> },
    /// Say goodbye; the driver ends when that is done.
    Leave,
    /// Who is there?
    Members(oneshot::Sender<Vec<MemberInfo>>),
    /// How many are there?
    Size(oneshot::Sender<MeshSize>),
    /// How is this node?
    Status(oneshot::Sender<Status>),
    /// A ticket, please.
    Invite { lifetime: Option<Duration>, reply: oneshot::Sender<Result<String, InviteError>> },
    /// What was counted?
    Stats(oneshot::Sender<MeshStats>),
}

/// A message to publish.
pub(crate) struct PublishOrder {
    pub(crate) channel: ChannelName,
    pub(crate) payload: Bytes,
    pub(crate) lane: PublishLane,
    pub(crate) patience: Patience,
    /// Closed when the caller no longer waits: the message is then not published.
    pub(crate) reply: oneshot::Sender<Result<Accepted, PublishError>>,
}

/// By which way to publish.
#[derive(Debug, Clone)]
pub(crate) enum PublishLane {
    Reliable,
    Local { hops: u32 },
    Volatile { key: Bytes, lifetime: Duration },
}

/// What to do while the mesh is busy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Patience {
    /// Wait, in order.
    Wait,
    /// Fail at once.
    Fail,
}

/// The driver's answer to a publish.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) published: peerchannel_mesh::Published,
    /// How far the channel's own messages are committed; `None` outside the reliable lane.
    pub(crate) commitment: Option<watch::Receiver<Commitment>>,
}
