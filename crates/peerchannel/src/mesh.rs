//! A handle of a joined mesh.

use std::marker::PhantomData;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use peerchannel_mesh::Filter;
use peerchannel_wire::{ChannelName, Epoch, MemberName, MeshId, MeshName, NameError, NodeId};
use tokio::sync::{Semaphore, SemaphorePermit, mpsc, oneshot, watch};

use crate::channel::Channel;
use crate::command::Command;
use crate::error::{DirectError, InviteError, Left, MetadataError};
use crate::join::Join;
use crate::registry::Registry;
use crate::status::{MemberInfo, MeshSize, MeshStats, Status};
use crate::subscription::{Directs, Events, Subscription};
use crate::typed::TypedChannel;

/// Most publishers that wait for the mesh at a time; further ones wait for a place among
/// them. Each holds one payload, which is the caller's own memory (a guess).
pub(crate) const PUBLISHERS_MAX: usize = 1024;

/// A joined mesh: this node is a member until it leaves.
///
/// Cheap to clone. Dropping the last handle (channels and subscriptions count) leaves
/// abruptly, as a crash would: the others find out by themselves. [`leave`](Self::leave) says
/// goodbye.
#[derive(Clone)]
pub struct Mesh {
    inner: Arc<Inner>,
}

/// What does not change while a mesh is joined.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) mesh_name: MeshName,
    pub(crate) mesh: MeshId,
    pub(crate) node: NodeId,
    pub(crate) name: MemberName,
    pub(crate) epoch: Epoch,
    pub(crate) local_address: SocketAddr,
}

pub(crate) struct Inner {
    facts: Arc<Facts>,
    commands: mpsc::Sender<Command>,
    registry: Arc<Registry>,
    online: watch::Receiver<bool>,
    publishers: Semaphore,
}

impl Mesh {
    /// Joins a mesh by its name with a node of its own; see [`Join`] for the options. At
    /// least one credential option is needed.
    ///
    /// ```no_run
    /// # async fn example() -> peerchannel::Result<()> {
    /// use peerchannel::Mesh;
    ///
    /// let mesh = Mesh::join("kitchen").password("violet anchor tundra pickle orbit lamp").name("ann").await?;
    /// mesh.channel("chat").publish("hello").await?;
    /// mesh.leave().await;
    /// # Ok(())
    /// # }
    /// ```
    pub fn join(name: impl Into<String>) -> Join {
        Join::new(name.into(), None)
    }

    pub(crate) fn new(
        facts: Arc<Facts>,
        commands: mpsc::Sender<Command>,
        registry: Arc<Registry>,
        online: watch::Receiver<bool>,
    ) -> Self {
        let publishers = Semaphore::new(PUBLISHERS_MAX);
        Self { inner: Arc::new(Inner { facts, commands, registry, online, publishers }) }
    }

    /// A channel of this mesh, by its name: 1 to 127 bytes of UTF-8, case-sensitive. Nothing
    /// is sent and nothing needs to exist. With a name that cannot be used every publish
    /// fails and says so; [`try_channel`](Self::try_channel) is for names from outside the
    /// program.
    #[must_use]
    pub fn channel(&self, name: impl AsRef<str>) -> Channel {
        Channel::new(self.clone(), ChannelName::new(name.as_ref()))
    }

    /// A channel of this mesh, its name checked.
    ///
    /// # Errors
    /// [`NameError`] says what is wrong with the name.
    pub fn try_channel(&self, name: impl AsRef<str>) -> Result<Channel, NameError> {
        Ok(Channel::new(self.clone(), Ok(ChannelName::new(name.as_ref())?)))
    }

    /// A channel of protobuf messages of one type.
    #[must_use]
    pub fn channel_of<T: prost::Message + Default>(&self, name: impl AsRef<str>) -> TypedChannel<T> {
        TypedChannel::new(self.channel(name))
    }

    /// Subscribes to the messages of every channel; see [`Channel::subscribe`].
    pub fn subscribe_all(&self) -> Subscription {
        Subscription::new(self.inner.registry.messages(None), self.clone())
    }

    /// Subscribes to what happens in the mesh. The first subscription begins with the join,
    /// later ones with the call.
    pub fn events(&self) -> Events {
        Events::new(self.inner.registry.events(), self.clone())
    }

    /// Subscribes to direct messages to this node.
    pub fn directs(&self) -> Directs {
        Directs::new(self.inner.registry.directs(), self.clone())
    }

    /// Sends a message of at most 32 KiB to one member alone and waits until its node
    /// acknowledged it.
    ///
    /// Dropping the future does not take the message back.
    ///
    /// # Errors
    /// [`DirectError`] says whether it may have arrived all the same.
    pub async fn send_direct(&self, to: NodeId, payload: impl Into<Bytes> + Send) -> Result<(), DirectError> {
        let (reply, answer) = oneshot::channel();
        self.command(Command::Direct { to, payload: payload.into(), reply }).await?;
        answer.await.map_err(|_| Left)?
    }

    /// Sets the propagation filter: it decides about every message, once, whether it is
    /// delivered here and whether it is passed on. Without one, both.
    ///
    /// # Errors
    /// [`Left`].
    pub async fn set_filter(&self, filter: impl Filter + 'static) -> Result<(), Left> {
        self.command(Command::SetFilter(Some(Box::new(filter)))).await
    }

    /// Removes the propagation filter.
    ///
    /// # Errors
    /// [`Left`].
    pub async fn clear_filter(&self) -> Result<(), Left> {
        self.command(Command::SetFilter(None)).await
    }

    /// Asks the resolvers and tries to have one more link, as after a change of network.
    ///
    /// # Errors
    /// [`Left`].
    pub async fn refresh(&self) -> Result<(), Left> {
        self.command(Command::Refresh).await
    }

    /// Takes a break from the mesh without leaving it: says goodbye to every neighbor and looks
    /// for none until [`resume`](Self::resume). The others keep this node as a member that is
    /// suspended. What is published meanwhile is held, within a limit. Without effect if the
    /// node is suspended already.
    ///
    /// Returns when the break is ordered; [`MeshEvent::Offline`](crate::MeshEvent::Offline)
    /// tells when the last link is closed, if the node was online.
    ///
    /// # Errors
    /// [`Left`].
    pub async fn suspend(&self) -> Result<(), Left> {
        self.command(Command::Suspend).await
    }

    /// Ends a break. What the others published meanwhile is recovered as far as somebody still
    /// has it, and the rest is reported as gaps. Without effect if the node is not suspended.
    ///
    /// Returns when that is ordered; [`wait_online`](Self::wait_online) waits for a neighbor.
    ///
    /// # Errors
    /// [`Left`].
    pub async fn resume(&self) -> Result<(), Left> {
        self.command(Command::Resume).await
    }

    /// Says something of this node to every member, in place of what was said before: a role,
    /// a presence text, a version. At most 512 bytes, which every member keeps; members of the
    /// first release do not see it. Changes within a tenth of a second are one; if there are
    /// more than one a second, they may take seconds to spread.
    ///
    /// The others are told by [`MeshEvent::MemberChanged`](crate::MeshEvent::MemberChanged),
    /// and find it in [`members`](Self::members).
    ///
    /// # Errors
    /// [`MetadataError`], and nothing changes.
    pub async fn set_metadata(&self, metadata: impl Into<Bytes> + Send) -> Result<(), MetadataError> {
        let metadata = metadata.into();
        Ok(self.ask(|reply| Command::SetMetadata { metadata, reply }).await??)
    }

    /// Who takes part, as far as this node knows, itself included; with those that recently
    /// left or failed. In a mesh of more members than `members_max` a sample:
    /// [`size`](Self::size) says so. Up to date from
    /// [`MeshEvent::MembersKnown`](crate::MeshEvent::MembersKnown) on.
    ///
    /// # Errors
    /// [`Left`].
    pub async fn members(&self) -> Result<Vec<MemberInfo>, Left> {
        self.ask(Command::Members).await
    }

    /// How many members the mesh has, and whether [`members`](Self::members) tells of each.
    ///
    /// # Errors
    /// [`Left`].
    pub async fn size(&self) -> Result<MeshSize, Left> {
        self.ask(Command::Size).await
    }

    /// How this node stands in the mesh: links, addresses, resolvers.
    ///
    /// # Errors
    /// [`Left`].
    pub async fn status(&self) -> Result<Status, Left> {
        self.ask(Command::Status).await
    }

    /// What was counted since the mesh was joined.
    ///
    /// # Errors
    /// [`Left`].
    pub async fn stats(&self) -> Result<MeshStats, Left> {
        self.ask(Command::Stats).await
    }

    /// Whether this node has a neighbor.
    #[must_use]
    pub fn is_online(&self) -> bool {
        *self.inner.online.borrow()
    }

    /// Waits until this node has a neighbor. Cancel safe.
    ///
    /// # Errors
    /// [`Left`].
    pub async fn wait_online(&self) -> Result<(), Left> {
        let mut online = self.inner.online.clone();
        online.wait_for(|online| *online).await.map(|_| ()).map_err(|_| Left)
    }

    /// A ticket: a text with this mesh's name and addresses of nodes in it, signed by this
    /// node. It says where the mesh is, not what the password is. It ends after `lifetime`;
    /// without one, never.
    ///
    /// # Errors
    /// [`InviteError`] if nobody could be dialed.
    pub async fn invite(&self, lifetime: Option<Duration>) -> Result<String, InviteError> {
        self.ask(|reply| Command::Invite { lifetime, reply }).await?
    }

    /// Says goodbye and waits until that is done: at most 2 s, of which up to one for own
    /// messages to be committed. Every handle, channel and subscription ends with it. Leaving
    /// twice does no harm.
    ///
    /// Dropping the future does not stop the leaving.
    pub async fn leave(&self) {
        // A mesh that is left already has nobody to take the command.
        let _ = self.command(Command::Leave).await;
        self.inner.commands.closed().await;
    }

    /// The mesh's name.
    #[must_use]
    pub fn mesh_name(&self) -> &MeshName {
        &self.inner.facts.mesh_name
    }

    /// The mesh's id: of its name and its kind of credential.
    #[must_use]
    pub fn mesh_id(&self) -> MeshId {
        self.inner.facts.mesh
    }

    /// This node's id.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        self.inner.facts.node
    }

    /// The name this node shows in the mesh.
    #[must_use]
    pub fn name(&self) -> &MemberName {
        &self.inner.facts.name
    }

    /// This node's join of the mesh.
    #[must_use]
    pub fn epoch(&self) -> Epoch {
        self.inner.facts.epoch
    }

    /// The UDP address this node listens at.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.inner.facts.local_address
    }

    pub(crate) fn registry(&self) -> &Registry {
        &self.inner.registry
    }

    pub(crate) async fn command(&self, command: Command) -> Result<(), Left> {
        self.inner.commands.send(command).await.map_err(|_| Left)
    }

    pub(crate) async fn publisher_place(&self) -> Result<SemaphorePermit<'_>, Left> {
        // Never closed: the error cannot occur.
        self.inner.publishers.acquire().await.map_err(|_| Left)
    }

    async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, Left> {
        let (reply, answer) = oneshot::channel();
        self.command(question(reply)).await?;
        answer.await.map_err(|_| Left)
    }
}

impl std::fmt::Debug for Mesh {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let facts = &self.inner.facts;
        write!(f, "Mesh({}, {}@{})", facts.mesh_name, facts.node.short(), facts.epoch.get())
    }
}

#[allow(dead_code)]
const fn is_send_and_sync<T: Send + Sync>(_: PhantomData<T>) {}
const _: () = is_send_and_sync(PhantomData::<Mesh>);
