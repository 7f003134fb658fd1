//! A node: one UDP port and one identity, in any number of meshes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use peerchannel_mesh::Candidate;
use peerchannel_security::{Admission, EpochSource, Gate, Identity, IdentityFile, Offer};
use peerchannel_transport::{DatagramSocket, Endpoint, EndpointConfig};
use peerchannel_wire::{Epoch, Features, MeshId, MeshName, NodeId, is_dialable};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::admit;
use crate::anchors;
use crate::driver::Arrival;
use crate::error::{JoinError, StartError};
use crate::invite::wall_ms;
use crate::join::Join;
use crate::network;
use crate::pool::Pool;
use crate::registry::Registry;

/// How long closing waits until everyone was told: some round trips. It would wait for dials
/// that nobody answers, too, and a process that is told to end does so within 2 s.
const CLOSE_TIMEOUT: Duration = Duration::from_millis(200);

/// How to start a [`Node`]: options, then [`start`](Self::start).
#[derive(Debug, Default)]
#[must_use = "options do nothing until `start`"]
pub struct NodeOptions {
    listen: Option<SocketAddr>,
    socket: Option<Arc<dyn DatagramSocket>>,
    advertise: Vec<SocketAddr>,
    identity: IdentityChoice,
    withheld: Features,
}

#[derive(Debug, Default)]
enum IdentityChoice {
    #[default]
    Ephemeral,
    Key(Identity),
    File(PathBuf),
}

impl NodeOptions {
    /// The defaults: any port of all interfaces, a new identity.
    pub fn new() -> Self {
        Self::default()
    }

    /// Where to listen; port 0 is any.
    pub fn listen(mut self, address: SocketAddr) -> Self {
        self.listen = Some(address);
        self
    }

    /// A socket to use in place of one of the system's: a proxy, a tunnel, a simulated network.
    /// `listen` has no meaning then. Others are told the socket's own address unless
    /// [`advertise`](Self::advertise) gives one.
    ///
    /// All of a node follows tokio's clock, so that under `tokio::time::pause` a whole mesh
    /// runs in virtual time; only the dates of epochs and messages are the machine's.
    pub fn socket(mut self, socket: impl DatagramSocket) -> Self {
        self.socket = Some(Arc::new(socket));
        self
    }

    /// An address under which others can dial the node, instead of the ones of its
    /// interfaces: for a forwarded port. May be given repeatedly.
    pub fn advertise(mut self, address: SocketAddr) -> Self {
        self.advertise.push(address);
        self
    }

    /// The file of the node's identity, created if it is missing and locked while in use.
    pub fn identity(mut self, path: impl Into<PathBuf>) -> Self {
        self.identity = IdentityChoice::File(path.into());
        self
    }

    /// An identity that the program keeps itself. Its epochs follow the clock: after a restart
    /// with a clock that was set back, other members refuse it as stale.
    pub fn identity_key(mut self, identity: Identity) -> Self {
        self.identity = IdentityChoice::Key(identity);
        self
    }

    /// The optional features this node offers to others; default all that this release knows.
    /// A node that offers fewer behaves towards everybody as an earlier release would:
    /// [`Features::NONE`] is the first. For rolling a new release out, or back, in two steps,
    /// and for testing that. Bits this release does not know are not offered.
    pub fn offer(mut self, features: Features) -> Self {
        self.withheld = !features;
        self
    }

    /// Binds the port and starts the node. It takes part in no mesh yet.
    ///
    /// Must be called within a tokio runtime. Dropping the future starts nothing.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(self) -> Result<Node, StartError> {
        if let Some(address) = self.advertise.iter().find(|address| !is_dialable(address)) {
            return Err(StartError::Advertise(*address));
        }
        let (identity, epochs) = match self.identity {
            IdentityChoice::Ephemeral => (Identity::generate(), EpochSource::ephemeral()),
            IdentityChoice::Key(identity) => (identity, EpochSource::ephemeral()),
            IdentityChoice::File(path) => {
                // Reads, and perhaps writes and syncs, a few small files.
                let file = blocking(move || IdentityFile::open(path)).await??;
                (file.identity().clone(), EpochSource::Stored(Box::new(file)))
            }
        };
        let mut config = EndpointConfig::default();
        if let Some(listen) = self.listen {
            config.listen = listen;
        }
        config.close_timeout = CLOSE_TIMEOUT;
        let owns_port = self.socket.is_none();
        let endpoint = match self.socket {
            Some(socket) => Endpoint::with_socket(&identity, config, socket)?,
            None => Endpoint::bind(&identity, config)?,
        };
        let local_address = endpoint.local_address();
        let mut offer = Offer::default();
        offer.features = offer.features & !self.withheld;
        let state = Arc::new(NodeState {
            id: identity.node_id(),
            offer,
            identity,
            endpoint,
            local_address,
            owns_port,
            advertise: self.advertise,
            meshes: Mutex::default(),
            reserved: Mutex::default(),
            gate: Mutex::new(Gate::new()),
            started: Instant::now(),
            pool: Pool::default(),
            network: watch::Sender::new(0),
            tasks: Mutex::default(),
        });
        state.spawn(admit::accept_connections(state.clone()));
        // A socket of the caller's has the caller's idea of a network.
        if owns_port && network::matters(local_address) {
            state.spawn(network::watch(state.network.clone()));
        }
        let has_file = epochs.file().is_some();
        Ok(Node { owner: Arc::new(Owner { state, has_file, epochs: Arc::new(Mutex::new(epochs)) }) })
    }
}

/// A node: one UDP port and one identity. It joins any number of meshes, whose connections
/// are shared where two nodes have several meshes in common.
///
/// [`Mesh::join`](crate::Mesh::join) makes one for a single mesh. Cheap to clone; the port
/// closes with the last handle and the last mesh.
#[derive(Clone)]
pub struct Node {
    owner: Arc<Owner>,
}

/// Ends the node's tasks when the last handle is gone; they themselves hold the state only.
struct Owner {
    state: Arc<NodeState>,
    /// Whether the identity has a file.
    has_file: bool,
    /// Held while that file is written and synced: only for tasks that may block.
    epochs: Arc<Mutex<EpochSource>>,
}

impl Node {
    /// A node with default options.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start() -> Result<Self, StartError> {
        NodeOptions::new().start().await
    }

    /// Options for a node.
    pub fn options() -> NodeOptions {
        NodeOptions::new()
    }

    /// Joins a mesh by its name over this node; see [`Join`] for the options.
    pub fn join(&self, name: impl Into<String>) -> Join {
        Join::new(name.into(), Some(self.clone()))
    }

    /// The node's id: its public key.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        self.owner.state.id
    }

    /// The UDP address it listens at.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.owner.state.local_address
    }

    /// Closes every connection and the port, and waits until that is done: a fraction of a
    /// second.
    /// Leave the meshes first: to their other members this looks like a crash.
    ///
    /// Dropping the future leaves the rest to the drop of the last handle.
    pub async fn close(&self) {
        let mut tasks = std::mem::take(&mut *self.owner.state.lock(&self.owner.state.tasks));
        tasks.shutdown().await;
        self.owner.state.endpoint.close().await;
    }

    pub(crate) fn state(&self) -> &Arc<NodeState> {
        &self.owner.state
    }

    /// The epoch of a new join: stored before it is given out. Writes and syncs a small file
    /// where the identity has one.
    pub(crate) async fn next_epoch(&self, mesh: MeshId) -> Result<Epoch, StartError> {
        let epochs = self.owner.epochs.clone();
        let epoch = blocking(move || {
            epochs.lock().unwrap_or_else(PoisonError::into_inner).next_epoch(&mesh, wall_ms())
        });
        Ok(epoch.await??)
    }
}

impl Node {
    /// Whether the identity has a file, so that anchors can be kept.
    pub(crate) fn has_file(&self) -> bool {
        self.owner.has_file
    }

    /// The anchors of an earlier run in a mesh.
    pub(crate) async fn anchors(&self, mesh: MeshId) -> Vec<Candidate> {
        let node = self.clone();
        let load = move || node.lock_epochs().file().map(|file| anchors::load(file, &mesh));
        blocking(load).await.ok().flatten().unwrap_or_default()
    }

    /// Keeps the anchors of a mesh for a later run. What was begun is done even if the future is
    /// dropped.
    pub(crate) async fn keep_anchors(&self, mesh: MeshId, anchors: Vec<Candidate>) {
        let node = self.clone();
        let store = move || {
            if let Some(file) = node.lock_epochs().file() {
                anchors::store(file, &mesh, &anchors);
            }
        };
        // A runtime that ends meanwhile leaves the anchors of before.
        let _ = blocking(store).await;
    }

    fn lock_epochs(&self) -> MutexGuard<'_, EpochSource> {
        self.owner.epochs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        self.state.lock(&self.state.tasks).abort_all();
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Node({} at {})", self.node_id().short(), self.local_address())
    }
}

/// What a node's tasks and drivers share.
pub(crate) struct NodeState {
    pub(crate) id: NodeId,
    pub(crate) offer: Offer,
    pub(crate) identity: Identity,
    pub(crate) endpoint: Endpoint,
    pub(crate) local_address: SocketAddr,
    // The local address is a port of this machine, and not a socket that was given.
    pub(crate) owns_port: bool,
    pub(crate) advertise: Vec<SocketAddr>,
    meshes: Mutex<BTreeMap<MeshId, Arc<MeshEntry>>>,
    // Meshes being joined or joined: one join of each at a time.
    reserved: Mutex<BTreeSet<MeshId>>,
    pub(crate) gate: Mutex<Gate>,
    started: Instant,
    pub(crate) pool: Pool,
    // Counts the changes of the machine's network.
    pub(crate) network: watch::Sender<u64>,
    // One per connection, and those that accept connections and
    // watch the network.
    tasks: Mutex<JoinSet<()>>,
}

/// A joined mesh as admission sees it.
pub(crate) struct MeshEntry {
    pub(crate) admission: Admission,
    pub(crate) inbox: mpsc::Sender<Arrival>,
    pub(crate) registry: Arc<Registry>,
}

impl NodeState {
    /// Runs a task for as long as the node lives.
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.lock(&self.tasks);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(task);
    }

    /// Time since the node started: the clock of admission.
    pub(crate) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    pub(crate) fn gate(&self) -> MutexGuard<'_, Gate> {
        self.lock(&self.gate)
    }

    pub(crate) fn mesh(&self, mesh: &MeshId) -> Option<Arc<MeshEntry>> {
        self.lock(&self.meshes).get(mesh).cloned()
    }

    pub(crate) fn meshes(&self) -> Vec<Arc<MeshEntry>> {
        self.lock(&self.meshes).values().cloned().collect()
    }

    fn lock<'a, T>(&self, mutex: &'a Mutex<T>) -> MutexGuard<'a, T> {
        mutex.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to join a mesh over a node, until it is dropped.
pub(crate) struct Reservation {
    state: Arc<NodeState>,
    mesh: MeshId,
}

impl Reservation {
    pub(crate) fn new(node: &Node, mesh: MeshId, name: &MeshName) -> Result<Self, JoinError> {
        let state = node.state().clone();
        if !state.lock(&state.reserved).insert(mesh) {
            return Err(JoinError::AlreadyJoined { mesh: name.as_str().to_owned() });
        }
        Ok(Self { state, mesh })
    }

    /// From here on peers are admitted to the mesh.
    pub(crate) fn open(&self, entry: MeshEntry) {
        self.state.lock(&self.state.meshes).insert(self.mesh, Arc::new(entry));
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.state.lock(&self.state.meshes).remove(&self.mesh);
        self.state.lock(&self.state.reserved).remove(&self.mesh);
    }
}

/// Runs what blocks for a while off the executor.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, std::io::Error> {
    tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other)
}
