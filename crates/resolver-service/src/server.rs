//! The server: a QUIC endpoint, one task per client, one thread for the store.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use peerchannel_security::Identity;
use peerchannel_transport::{BindError, CloseReason, Connection, Endpoint, EndpointConfig};
use peerchannel_wire::{NodeId, RESOLVER_ALPN};
use thiserror::Error;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{self, JoinSet};
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::committer::{self, Commit};
use crate::metrics::{Counters, Metrics};
use crate::registry::{Registry, RegistryConfig};
use crate::session;
use crate::store::{Store, StoreError};

/// How often expired registrations are removed. Until then they are merely not given out.
const EXPIRE_EVERY: Duration = Duration::from_secs(1);

/// Most registrations removed at a time, so that the registry is never locked for long.
const EXPIRE_MAX: usize = 4096;

/// How a [`Server`] is run.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ServerConfig {
    /// Where to listen. Default `[::]:0`: any port, IPv4 and IPv6. Clients need a fixed one.
    pub listen: SocketAddr,
    /// Leases and quotas.
    pub registry: RegistryConfig,
    /// Most clients connected at a time. Default: 10 000 (a guess: about 50 KiB each). A
    /// client stays connected only while it asks.
    pub clients_max: usize,
    /// Most connections of one node key at a time. Default: 16 (a guess): a node may have one
    /// per mesh for the seconds in which it asks, and a restarted node's old one may linger.
    pub client_connections_max: usize,
    /// Requests a client may make per second, on average. Default: 20 (a guess: a node with
    /// twenty meshes that all resolve at once).
    pub requests_per_second: u32,
    /// Requests a client may make at once before that counts. Default: 100.
    pub requests_burst: u32,
    /// A client that asks nothing this long is disconnected. Default: 60 s.
    pub idle_timeout: Duration,
    /// How long [`Server::shutdown`] waits for requests in progress. Default: 5 s.
    pub drain_timeout: Duration,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: EndpointConfig::default().listen,
            registry: RegistryConfig::default(),
            clients_max: 10_000,
            client_connections_max: 16,
            requests_per_second: 20,
            requests_burst: 100,
            idle_timeout: Duration::from_secs(60),
            drain_timeout: Duration::from_secs(5),
        }
    }
}

/// Why a server could not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The address.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The operating system gives no thread.
    #[error("cannot start the thread of the store: {0}")]
    Thread(#[source] std::io::Error),
}

/// A directory service.
///
/// Dropping it stops it at once; what was acknowledged is in the store.
/// [`shutdown`](Self::shutdown) finishes requests in progress first.
#[derive(Debug)]
pub struct Server {
    endpoint: Endpoint,
    node: NodeId,
    shared: Arc<Shared>,
    stop: watch::Sender<bool>,
    /// One task, aborted when dropped.
    accepting: JoinSet<()>,
    storing: std::thread::JoinHandle<()>,
}

/// What all clients' tasks use.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: ServerConfig,
    // A lock, because requests of many clients meet here; held for microseconds, never over
    // an await.
    registry: Mutex<Registry>,
    pub(crate) commits: mpsc::Sender<Commit>,
    pub(crate) counters: Arc<Counters>,
}

impl Shared {
    pub(crate) fn registry(&self) -> MutexGuard<'_, Registry> {
        // The registry does not panic half-way; if it ever did, it is soft state.
        self.registry.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Server {
    /// Loads the store and begins to serve. The identity is the directory's: clients that
    /// know its node key are sure to talk to it. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`ServeError`] says what to do; nothing is left running.
    pub async fn start(
        identity: &Identity,
        config: ServerConfig,
        store: impl Store,
    ) -> Result<Self, ServeError> {
        let mut store: Box<dyn Store> = Box::new(store);
        // The port first: it fails fastest, and a store of another instance must not be read.
        let endpoint = Endpoint::bind(identity, endpoint_config(&config))?;
        let mut registry = Registry::new(config.registry.clone());
        let loaded = task::spawn_blocking(move || {
            let (now, mut dropped) = (Instant::now(), 0usize);
            store.load(&mut |stored| dropped += usize::from(!registry.restore(now, stored)))?;
            if dropped > 0 {
                tracing::warn!(dropped, "stored registrations exceed the limits and are left out");
            }
            Ok((store, registry))
        });
        let (store, registry) = match loaded.await {
            Ok(loaded) => loaded.map_err(ServeError::Store)?,
            Err(panicked) => return Err(ServeError::Thread(std::io::Error::other(panicked))),
        };
        let (kept_in, registrations) = (store.describe(), registry.len());
        let counters = Arc::<Counters>::default();
        let (commits, storing) = committer::start(store, counters.clone()).map_err(ServeError::Thread)?;
        let shared = Arc::new(Shared { config, registry: Mutex::new(registry), commits, counters });
        let (stop, stopped) = watch::channel(false);
        let mut accepting = JoinSet::new();
        accepting.spawn(accept(endpoint.clone(), shared.clone(), stopped));
        let node = identity.node_id();
        tracing::info!(
            address = %endpoint.local_address(), node = %node, store = kept_in, registrations,
            "the directory serves"
        );
        Ok(Self { endpoint, node, shared, stop, accepting, storing })
    }

    /// The address it listens at, its port filled in.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.endpoint.local_address()
    }

    /// Its node key: what clients put before the `@`.
    #[must_use]
    pub const fn node_id(&self) -> NodeId {
        self.node
    }

    /// What it did, in numbers.
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        let (registrations, meshes) = {
            let registry = self.shared.registry();
            (registry.len(), registry.meshes())
        };
        self.shared.counters.read(registrations, meshes)
    }

    /// Takes no more clients, finishes the requests in progress (at most
    /// [`drain_timeout`](ServerConfig::drain_timeout)), tells the clients, closes the store.
    /// Dropping the future stops at once.
    pub async fn shutdown(self) {
        let Self { endpoint, shared, stop, mut accepting, storing, .. } = self;
        let _ = stop.send(true);
        if timeout(shared.config.drain_timeout, accepting.join_next()).await.is_err() {
            tracing::warn!("requests in progress took too long and are dropped");
            accepting.shutdown().await;
        }
        endpoint.close().await;
        // The last sender: the thread stores what is queued and ends.
        drop(shared);
        if task::spawn_blocking(move || storing.join()).await.is_ok_and(|ended| ended.is_ok()) {
            tracing::info!("the directory is closed");
        }
    }
}

/// Accepts clients and removes what expired, until told to stop; then waits for the clients'
/// tasks. Aborting it aborts them.
async fn accept(endpoint: Endpoint, shared: Arc<Shared>, mut stop: watch::Receiver<bool>) {
    // At most `clients_max` tasks, one per connection.
    let mut clients: JoinSet<()> = JoinSet::new();
    // Whose each task is: one that panicked cannot say so any more.
    let mut tasks: HashMap<task::Id, NodeId> = HashMap::new();
    let mut connections: HashMap<NodeId, usize> = HashMap::new();
    let mut ticks = interval(EXPIRE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let stopped = stop.clone();
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            _ = ticks.tick() => expire(&shared),
            Some(gone) = clients.join_next_with_id() => {
                shared.counters.clients.one_less();
                let id = match gone {
                    Ok((id, ())) => id,
                    Err(error) => {
                        tracing::error!(%error, "a client's session ended without a result");
                        error.id()
                    }
                };
                if let Some(node) = tasks.remove(&id)
                    && let Some(count) = connections.get_mut(&node)
                {
                    *count -= 1;
                    if *count == 0 {
                        connections.remove(&node);
                    }
                }
            }
            connection = endpoint.accept() => {
                let Some(connection) = connection else { break };
                let count = connections.entry(connection.peer()).or_default();
                if clients.len() >= shared.config.clients_max
                    || *count >= shared.config.client_connections_max
                {
                    refuse(&shared, &connection);
                    if *count == 0 {
                        connections.remove(&connection.peer());
                    }
                    continue;
                }
                *count += 1;
                shared.counters.connections.add(1);
                shared.counters.clients.add(1);
                let (shared, stopped) = (shared.clone(), stopped.clone());
                let node = connection.peer();
                let task = clients.spawn(async move { session::serve(&shared, &connection, stopped).await });
                tasks.insert(task.id(), node);
            }
        }
    }
    while clients.join_next().await.is_some() {
        shared.counters.clients.one_less();
    }
}

fn refuse(shared: &Shared, connection: &Connection) {
    shared.counters.connections_refused.add(1);
    tracing::debug!(client = %connection.peer().short(), "a client is turned away");
    connection.close(CloseReason::Busy);
}

/// Removes expired registrations, also from the store; not while the store is that busy.
fn expire(shared: &Shared) {
    let Ok(place) = shared.commits.try_reserve() else { return };
    let mut registry = shared.registry();
    let changes = registry.expire(Instant::now(), EXPIRE_MAX);
    if changes.is_empty() {
        return;
    }
    shared.counters.expired.add(changes.len());
    // If storing fails, they come back after a restart for one lifetime: harmless.
    let (done, _) = oneshot::channel();
    place.send(Commit { changes, done });
}

fn endpoint_config(config: &ServerConfig) -> EndpointConfig {
    let mut endpoint = EndpointConfig::default();
    endpoint.listen = config.listen;
    endpoint.alpn = RESOLVER_ALPN.to_vec();
    // One stream per client carries everything; no lanes, no datagrams.
    endpoint.control_streams_max = 1;
    endpoint.data_lanes_max = 2;
    // Requests are small: what one client can make us hold.
    endpoint.stream_window = 64 * 1024;
    endpoint.base_window = 64 * 1024;
    endpoint
}
