//! Channels: named paths inside a mesh.

use std::time::Duration;

use bytes::Bytes;
use peerchannel_mesh::VOLATILE_LIFETIME;
use peerchannel_wire::{ChannelName, Epoch, NameError, Sequence};
use tokio::sync::{oneshot, watch};

use crate::command::{Accepted, Command, Patience, PublishLane, PublishOrder};
use crate::error::{CommitError, Left, PublishError};
use crate::mesh::Mesh;
use crate::subscription::Subscription;

/// A named path inside a mesh. Cheap to clone; counts as a handle of the mesh.
///
/// Channels need no set-up: whoever publishes or subscribes under a name uses it. Names are
/// 1 to 127 bytes of UTF-8, case-sensitive. A channel of a name that cannot be used fails at
/// every publish, and its subscriptions end at once; [`Mesh::try_channel`] tells before.
#[derive(Debug, Clone)]
pub struct Channel {
    mesh: Mesh,
    name: Result<ChannelName, NameError>,
}

/// How far the own messages of a channel are committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Commitment {
    pub(crate) through: Sequence,
}

impl Channel {
    pub(crate) const fn new(mesh: Mesh, name: Result<ChannelName, NameError>) -> Self {
        Self { mesh, name }
    }

    /// The channel's name.
    ///
    /// # Errors
    /// [`NameError`] if the name that was given cannot be used.
    pub const fn name(&self) -> Result<&ChannelName, &NameError> {
        self.name.as_ref()
    }

    /// Publishes a message to every member of the mesh: each gets it exactly once and in the
    /// order of this node, or is told exactly what it missed.
    ///
    /// Returns when the message is *accepted*: numbered, retained, on its way. Waits while
    /// the neighbors have not taken enough of what was published before; callers that wait
    /// are served in their order. Without a neighbor yet, messages are held for the first
    /// one, up to `held_alone_bytes`.
    ///
    /// Cancel safe: a message whose future is dropped before it returned either was accepted
    /// or is not published at all.
    ///
    /// # Errors
    /// [`PublishError`]; a message over the limit names it.
    pub async fn publish(&self, payload: impl Into<Bytes> + Send) -> Result<Published, PublishError> {
        let accepted = self.order(payload.into(), PublishLane::Reliable, Patience::Wait).await?;
        Ok(Published::new(accepted))
    }

    /// Like [`publish`](Self::publish), but fails at once where that would wait.
    ///
    /// # Errors
    /// [`PublishError::Rejected`] with `Busy` where `publish` would wait.
    pub async fn try_publish(&self, payload: impl Into<Bytes> + Send) -> Result<Published, PublishError> {
        let accepted = self.order(payload.into(), PublishLane::Reliable, Patience::Fail).await?;
        Ok(Published::new(accepted))
    }

    /// Publishes a message to the nodes within `hops` links only; 0 is this node alone (which
    /// it reaches with echo on), 64 the most. Best effort: not numbered among the reliable
    /// ones, not repaired. At most 32 KiB.
    ///
    /// # Errors
    /// [`PublishError`].
    pub async fn publish_within(
        &self,
        hops: u32,
        payload: impl Into<Bytes> + Send,
    ) -> Result<Sent, PublishError> {
        let accepted = self.order(payload.into(), PublishLane::Local { hops }, Patience::Wait).await?;
        Ok(Sent::new(&accepted))
    }

    /// Publishes a value that is only worth something now, as a cursor or a meter reading:
    /// at most once, unordered, never queued; of one key only the latest is delivered. It is
    /// forwarded for at most a second. Must fit into a datagram, about 1 KiB; keys have at
    /// most 64 bytes.
    ///
    /// # Errors
    /// [`PublishError::DatagramTooLarge`] names the limit.
    pub async fn publish_volatile(
        &self,
        key: impl Into<Bytes> + Send,
        payload: impl Into<Bytes> + Send,
    ) -> Result<Sent, PublishError> {
        self.publish_volatile_for(VOLATILE_LIFETIME, key, payload).await
    }

    /// Like [`publish_volatile`](Self::publish_volatile) with a lifetime of one's own.
    ///
    /// # Errors
    /// [`PublishError::DatagramTooLarge`] names the limit.
    pub async fn publish_volatile_for(
        &self,
        lifetime: Duration,
        key: impl Into<Bytes> + Send,
        payload: impl Into<Bytes> + Send,
    ) -> Result<Sent, PublishError> {
        let lane = PublishLane::Volatile { key: key.into(), lifetime };
        let accepted = self.order(payload.into(), lane, Patience::Wait).await?;
        Ok(Sent::new(&accepted))
    }

    /// Subscribes to the channel: from here on every message of it, in its author's order.
    /// What came within a second of the join and nobody heard goes to the first subscription
    /// that would have.
    pub fn subscribe(&self) -> Subscription {
        let registry = self.mesh.registry();
        let receiver = match &self.name {
            Ok(name) => registry.messages(Some(name)),
            Err(_) => registry.ended(),
        };
        Subscription::new(receiver, self.mesh.clone())
    }

    async fn order(
        &self,
        payload: Bytes,
        lane: PublishLane,
        patience: Patience,
    ) -> Result<Accepted, PublishError> {
        let channel = self.name.clone()?;
        // Held until the answer is here: it bounds how many publishers the driver keeps
        // waiting, and hands out places in the order of the calls.
        let _place = self.mesh.publisher_place().await?;
        let (reply, answer) = oneshot::channel();
        let order = PublishOrder { channel, payload, lane, patience, reply };
        self.mesh.command(Command::Publish(order)).await?;
        answer.await.map_err(|_| Left)?
    }
}

/// An accepted message of this node.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Published {
    /// This node's join.
    pub epoch: Epoch,
    /// The message's number in the channel; zero if the propagation filter kept it on this
    /// node.
    pub sequence: Sequence,
    commitment: Option<watch::Receiver<Commitment>>,
}

impl Published {
    fn new(accepted: Accepted) -> Self {
        Self {
            epoch: accepted.published.stream.epoch,
            sequence: accepted.published.sequence,
            commitment: accepted.commitment,
        }
    }

    /// Waits until the message is *committed*: a neighbor's node has it, so that it reaches
    /// every member even if this node is gone the next moment. Returns at once for a message
    /// that the propagation filter kept on this node.
    ///
    /// Cancel safe.
    ///
    /// # Errors
    /// [`CommitError::Left`] if the mesh was left before.
    pub async fn committed(&self) -> Result<(), CommitError> {
        let Some(mut commitment) = self.commitment.clone() else { return Ok(()) };
        match commitment.wait_for(|commitment| commitment.through >= self.sequence).await {
            Ok(_) => Ok(()),
            Err(_) => Err(CommitError::Left),
        }
    }
}

/// A message sent outside the reliable sequence: nothing more will be known about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Sent {
    /// This node's join.
    pub epoch: Epoch,
    /// The message's number in the channel and lane.
    pub sequence: Sequence,
}

impl Sent {
    const fn new(accepted: &Accepted) -> Self {
        Self { epoch: accepted.published.stream.epoch, sequence: accepted.published.sequence }
    }
}
