//! Who is registered where, for how long: the memory and the judgement of a directory.
//!
//! Sans-IO: time and chance are arguments, and what must be stored before a client may be
//! told is returned as an order ([`Answer::AfterCommit`]). A record belongs to the node that
//! made it: it is found by the node key of the connection, so nobody can touch another's
//! (in the original, whoever knew a GUID could). Expired records are never given out, a
//! caller is never told of itself, and a choice is made without repetition: three faults of
//! the original's service.
//!
//! # Time
//! Leases run on a monotonic clock, so that a jump of the wall clock ends nobody's. Refreshes
//! are therefore not stored; after a restart every stored record gets one whole lifetime, in
//! which a client that refreshes at half-life comes by. What
//! really died is given out for at most that long.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use peerchannel_wire::limits::{LEASE_MAX, LEASE_MIN, RESOLVED_NODES_MAX};
use peerchannel_wire::{
    MeshKey, NodeAddress, NodeId, RegistrationId, ResolverRefusal, ResolverRefusalKind, ResolverReply,
    ResolverRequest,
};
use rand::{Rng, RngExt as _};

use crate::store::{Change, StoredRegistration};

/// How a directory is run.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RegistryConfig {
    /// How long a registration stays without a refresh; clients refresh at half of it.
    /// 1 s to 24 h, brought into that range. Default: 10 min (Peer Channel's value).
    pub lifetime: Duration,
    /// Most registrations of one client, which is the number of meshes it is in. Default: 64
    /// (a guess: a busy person's, tenfold).
    pub client_registrations_max: usize,
    /// Most registrations in one mesh. Default: 100 000: ten times the members a node keeps
    /// in its table; a mesh needs no more to be joined.
    pub mesh_registrations_max: usize,
    /// Most registrations in all. Default: 1 000 000, about 500 MB.
    pub registrations_max: usize,
    /// Tells clients that the service alone decides who connects to whom: they pass no
    /// referrals. Default: false.
    pub control_mesh_shape: bool,
}

impl Default for RegistryConfig {
    fn default() -> Self {
        Self {
            lifetime: Duration::from_mins(10),
            client_registrations_max: 64,
            mesh_registrations_max: 100_000,
            registrations_max: 1_000_000,
            control_mesh_shape: false,
        }
    }
}

/// What to do with a request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "the client waits"]
pub enum Answer {
    /// Send it.
    Reply(ResolverReply),
    /// Store the change durably, then send the reply. If storing fails, say so instead; the
    /// client then tries again.
    AfterCommit {
        /// What to store.
        change: Change,
        /// What to say then.
        reply: ResolverReply,
    },
}

/// The registrations of a directory.
///
/// ```
/// use std::time::Instant;
/// use peerchannel_resolver_service::{Answer, Registry, RegistryConfig};
/// use peerchannel_wire::{MeshKey, NodeId, ResolverReply, ResolverRequest};
///
/// let mut registry = Registry::new(RegistryConfig::default());
/// let (mesh, now, mut rng) = (MeshKey::from_bytes([1; 32]), Instant::now(), rand::rng());
/// let (ann, bob) = (NodeId::from_bytes([2; 32]), NodeId::from_bytes([3; 32]));
///
/// let request = ResolverRequest::Register { mesh, addresses: vec!["192.0.2.7:4000".parse()?] };
/// assert!(matches!(registry.handle(now, ann, &request, &mut rng), Answer::AfterCommit { .. }));
///
/// let resolve = ResolverRequest::Resolve { mesh, nodes_max: 10 };
/// let Answer::Reply(ResolverReply::Resolved(nodes)) = registry.handle(now, bob, &resolve, &mut rng)
///     else { return Err("a list".into()) };
/// assert_eq!(nodes[0].node(), ann);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Registry {
    config: RegistryConfig,
    // Hash maps with random keys: clients choose the mesh keys.
    meshes: HashMap<MeshKey, Mesh>,
    /// Registrations per client. Invariant: no zeros; sums up to `count`.
    clients: HashMap<NodeId, usize>,
    /// Invariant: exactly one entry per registration, with its `expires`.
    expiries: BTreeSet<(Instant, MeshKey, NodeId)>,
    count: usize,
}

/// The registrations of one mesh, where the n-th can be had at once.
#[derive(Debug, Default)]
struct Mesh {
    entries: Vec<Entry>,
    /// Where a node's entry is. Invariant: one per entry.
    index: HashMap<NodeId, usize>,
}

#[derive(Debug)]
struct Entry {
    node: NodeId,
    registration: RegistrationId,
    addresses: Box<[SocketAddr]>,
    expires: Instant,
}

impl Registry {
    /// An empty directory.
    #[must_use]
    pub fn new(mut config: RegistryConfig) -> Self {
        config.lifetime = config.lifetime.clamp(LEASE_MIN, LEASE_MAX);
        Self { config, meshes: HashMap::new(), clients: HashMap::new(), expiries: BTreeSet::new(), count: 0 }
    }

    /// How many registrations there are, those that expired since the last
    /// [`expire`](Self::expire) included.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// How many meshes have registrations.
    #[must_use]
    pub fn meshes(&self) -> usize {
        self.meshes.len()
    }

    /// Takes back a stored registration after a restart, with one whole lifetime from `now`.
    /// Returns false if there is no room for it: the limits were lowered.
    pub fn restore(&mut self, now: Instant, stored: StoredRegistration) -> bool {
        if self.quota(stored.mesh, stored.node).is_err() {
            return false;
        }
        self.insert(now, stored);
        true
    }

    /// Judges one request of `client`, the node key of its connection.
    pub fn handle(
        &mut self,
        now: Instant,
        client: NodeId,
        request: &ResolverRequest,
        rng: &mut impl Rng,
    ) -> Answer {
        match request {
            ResolverRequest::Register { mesh, addresses } => {
                self.register(now, *mesh, client, addresses, rng)
            }
            ResolverRequest::Update { mesh, registration, addresses } => {
                if self.entry(now, *mesh, client).is_some_and(|e| e.registration == *registration) {
                    self.replace(now, *mesh, client, *registration, addresses)
                } else {
                    self.register(now, *mesh, client, addresses, rng)
                }
            }
            ResolverRequest::Refresh { mesh, registration } => {
                let lifetime = self.refresh(now, *mesh, client, *registration);
                Answer::Reply(ResolverReply::Refreshed(lifetime))
            }
            ResolverRequest::Unregister { mesh, registration } => {
                if self.entry(now, *mesh, client).is_some_and(|e| e.registration == *registration) {
                    self.remove(*mesh, client);
                    let change = Change::Remove { mesh: *mesh, node: client };
                    return Answer::AfterCommit { change, reply: ResolverReply::Unregistered };
                }
                Answer::Reply(ResolverReply::Unregistered)
            }
            ResolverRequest::Resolve { mesh, nodes_max } => {
                let max = usize::try_from(*nodes_max).unwrap_or(usize::MAX).min(RESOLVED_NODES_MAX);
                Answer::Reply(ResolverReply::Resolved(self.sample(now, *mesh, client, max, rng)))
            }
            ResolverRequest::Settings => Answer::Reply(ResolverReply::Settings {
                control_mesh_shape: self.config.control_mesh_shape,
                lifetime: self.config.lifetime,
            }),
        }
    }

    /// Forgets at most `max` registrations whose lease is over, and says what to remove from
    /// the store. Fewer than `max` means that none is left.
    pub fn expire(&mut self, now: Instant, max: usize) -> Vec<Change> {
        let mut changes = Vec::new();
        while changes.len() < max {
            match self.expiries.first() {
                Some(&(expires, mesh, node)) if expires <= now => {
                    self.remove(mesh, node);
                    changes.push(Change::Remove { mesh, node });
                }
                _ => break,
            }
        }
        changes
    }

    /// When the next lease is over.
    #[must_use]
    pub fn next_expiry(&self) -> Option<Instant> {
        self.expiries.first().map(|(expires, ..)| *expires)
    }

    fn register(
        &mut self,
        now: Instant,
        mesh: MeshKey,
        node: NodeId,
        addresses: &[SocketAddr],
        rng: &mut impl Rng,
    ) -> Answer {
        if let Err(refusal) = self.quota(mesh, node) {
            return Answer::Reply(ResolverReply::Refused(refusal));
        }
        let registration = RegistrationId::from_bytes(rng.random());
        self.replace(now, mesh, node, registration, addresses)
    }

    fn replace(
        &mut self,
        now: Instant,
        mesh: MeshKey,
        node: NodeId,
        registration: RegistrationId,
        addresses: &[SocketAddr],
    ) -> Answer {
        let stored = StoredRegistration { mesh, node, registration, addresses: addresses.into() };
        self.insert(now, stored.clone());
        let reply = ResolverReply::Registered { registration, lifetime: self.config.lifetime };
        Answer::AfterCommit { change: Change::Put(stored), reply }
    }

    /// The new lifetime, or `None` if there is no such registration.
    fn refresh(
        &mut self,
        now: Instant,
        mesh: MeshKey,
        node: NodeId,
        registration: RegistrationId,
    ) -> Option<Duration> {
        let lifetime = self.config.lifetime;
        let entries = self.meshes.get_mut(&mesh)?;
        let entry = entries.entries.get_mut(*entries.index.get(&node)?)?;
        if entry.registration != registration || entry.expires <= now {
            return None;
        }
        self.expiries.remove(&(entry.expires, mesh, node));
        entry.expires = now + lifetime;
        self.expiries.insert((entry.expires, mesh, node));
        Some(lifetime)
    }

    /// A random choice without repetition, by the first steps of a Fisher-Yates shuffle that
    /// moves nothing: the exchanged places are kept aside. The work grows with `max`, not
    /// with the mesh, but for expired entries, which are removed every second.
    fn sample(
        &self,
        now: Instant,
        mesh: MeshKey,
        client: NodeId,
        max: usize,
        rng: &mut impl Rng,
    ) -> Vec<NodeAddress> {
        let Some(mesh) = self.meshes.get(&mesh) else { return Vec::new() };
        let (mut moved, mut chosen) = (HashMap::new(), Vec::new());
        for step in 0..mesh.entries.len() {
            if chosen.len() == max {
                break;
            }
            let drawn = rng.random_range(step..mesh.entries.len());
            let here = moved.get(&step).copied().unwrap_or(step);
            let place = moved.insert(drawn, here).unwrap_or(drawn);
            let Some(entry) = mesh.entries.get(place) else { continue };
            if entry.node != client && entry.expires > now {
                chosen.extend(NodeAddress::new(entry.node, entry.addresses.iter().copied()));
            }
        }
        chosen
    }

    /// The registration of a node, if its lease is not over.
    fn entry(&self, now: Instant, mesh: MeshKey, node: NodeId) -> Option<&Entry> {
        let mesh = self.meshes.get(&mesh)?;
        mesh.entries.get(*mesh.index.get(&node)?).filter(|entry| entry.expires > now)
    }

    /// Whether one more registration is allowed; one that replaces another always is.
    fn quota(&self, mesh: MeshKey, node: NodeId) -> Result<(), ResolverRefusal> {
        let in_mesh = self.meshes.get(&mesh);
        if in_mesh.is_some_and(|mesh| mesh.index.contains_key(&node)) {
            return Ok(());
        }
        let of_client = self.clients.get(&node).copied().unwrap_or(0);
        let in_mesh = in_mesh.map_or(0, |mesh| mesh.entries.len());
        let checks = [
            (of_client, self.config.client_registrations_max, "this client"),
            (in_mesh, self.config.mesh_registrations_max, "this mesh"),
            (self.count, self.config.registrations_max, "this directory"),
        ];
        match checks.into_iter().find(|(count, max, _)| count >= max) {
            Some((_, max, whose)) => Err(ResolverRefusal {
                kind: ResolverRefusalKind::Quota,
                detail: format!("{whose} has {max} registrations, the most it may have"),
            }),
            None => Ok(()),
        }
    }

    /// Adds or replaces.
    fn insert(&mut self, now: Instant, stored: StoredRegistration) {
        let StoredRegistration { mesh, node, registration, addresses } = stored;
        self.remove(mesh, node);
        let expires = now + self.config.lifetime;
        let entries = self.meshes.entry(mesh).or_default();
        entries.index.insert(node, entries.entries.len());
        entries.entries.push(Entry { node, registration, addresses, expires });
        self.expiries.insert((expires, mesh, node));
        *self.clients.entry(node).or_default() += 1;
        self.count += 1;
    }

    fn remove(&mut self, mesh: MeshKey, node: NodeId) {
        let Some(entries) = self.meshes.get_mut(&mesh) else { return };
        let Some(place) = entries.index.remove(&node) else { return };
        let entry = entries.entries.swap_remove(place);
        if let Some(moved) = entries.entries.get(place) {
            entries.index.insert(moved.node, place);
        }
        if entries.entries.is_empty() {
            self.meshes.remove(&mesh);
        }
        self.expiries.remove(&(entry.expires, mesh, node));
        if let Some(count) = self.clients.get_mut(&node) {
            *count -= 1;
            if *count == 0 {
                self.clients.remove(&node);
            }
        }
        self.count -= 1;
    }
}

#[cfg(test)]
mod tests;
