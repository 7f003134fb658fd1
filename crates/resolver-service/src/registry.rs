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
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng as _;
    use rand::rngs::SmallRng;

    use super::*;

    const LIFETIME: Duration = Duration::from_mins(10);

    fn mesh(byte: u8) -> MeshKey {
        MeshKey::from_bytes([byte; 32])
    }

    fn node(number: u16) -> NodeId {
        let [a, b] = number.to_be_bytes();
        let mut bytes = [7; 32];
        (bytes[0], bytes[1]) = (a, b);
        NodeId::from_bytes(bytes)
    }

    fn address(port: u16) -> Vec<SocketAddr> {
        vec![SocketAddr::from(([192, 0, 2, 7], port))]
    }

    struct Directory {
        registry: Registry,
        now: Instant,
        rng: SmallRng,
    }

    impl Directory {
        fn new(config: RegistryConfig) -> Self {
            Self { registry: Registry::new(config), now: Instant::now(), rng: SmallRng::seed_from_u64(1) }
        }

        fn ask(&mut self, client: NodeId, request: &ResolverRequest) -> (ResolverReply, Option<Change>) {
            match self.registry.handle(self.now, client, request, &mut self.rng) {
                Answer::Reply(reply) => (reply, None),
                Answer::AfterCommit { change, reply } => (reply, Some(change)),
            }
        }

        fn register(&mut self, mesh: MeshKey, client: NodeId) -> Result<RegistrationId, ResolverRefusal> {
            match self.ask(client, &ResolverRequest::Register { mesh, addresses: address(1) }).0 {
                ResolverReply::Registered { registration, lifetime } => {
                    assert_eq!(lifetime, LIFETIME);
                    Ok(registration)
                }
                ResolverReply::Refused(refusal) => Err(refusal),
                other => panic!("{other:?}"),
            }
        }

        fn resolve(&mut self, mesh: MeshKey, client: NodeId, nodes_max: u32) -> Vec<NodeId> {
            match self.ask(client, &ResolverRequest::Resolve { mesh, nodes_max }) {
                (ResolverReply::Resolved(nodes), None) => nodes.iter().map(NodeAddress::node).collect(),
                other => panic!("{other:?}"),
            }
        }

        fn check_invariants(&self) {
            let r = &self.registry;
            let entries =
                || r.meshes.iter().flat_map(|(key, mesh)| mesh.entries.iter().map(move |e| (key, e)));
            assert_eq!(r.count, entries().count());
            assert_eq!(r.count, r.expiries.len());
            assert_eq!(r.count, r.clients.values().sum::<usize>());
            assert!(r.clients.values().all(|count| *count > 0));
            assert!(entries().all(|(key, e)| r.expiries.contains(&(e.expires, *key, e.node))));
            for mesh in r.meshes.values() {
                assert!(!mesh.entries.is_empty());
                assert_eq!(mesh.entries.len(), mesh.index.len());
                assert!(mesh.index.iter().all(|(node, place)| mesh.entries[*place].node == *node));
            }
        }
    }

    #[test]
    fn what_is_registered_is_found_by_others_until_it_expires() {
        let mut directory = Directory::new(RegistryConfig::default());
        directory.register(mesh(1), node(1)).unwrap();
        assert_eq!(directory.resolve(mesh(1), node(2), 5), [node(1)]);
        assert_eq!(directory.resolve(mesh(1), node(1), 5), [], "not by itself");
        assert_eq!(directory.resolve(mesh(2), node(2), 5), [], "not elsewhere");
        directory.now += LIFETIME;
        assert_eq!(directory.resolve(mesh(1), node(2), 5), [], "expired, though not yet removed");
        assert_eq!(
            directory.registry.expire(directory.now, 10),
            [Change::Remove { mesh: mesh(1), node: node(1) }]
        );
        assert!(directory.registry.is_empty());
        directory.check_invariants();
    }

    #[test]
    fn a_refresh_prolongs_and_needs_no_commit() {
        let mut directory = Directory::new(RegistryConfig::default());
        let registration = directory.register(mesh(1), node(1)).unwrap();
        let refresh = ResolverRequest::Refresh { mesh: mesh(1), registration };
        for _ in 0..5 {
            directory.now += LIFETIME / 2;
            assert_eq!(directory.ask(node(1), &refresh), (ResolverReply::Refreshed(Some(LIFETIME)), None));
            assert_eq!(directory.registry.expire(directory.now, 10), []);
        }
        directory.now += LIFETIME;
        assert_eq!(directory.ask(node(1), &refresh), (ResolverReply::Refreshed(None), None), "too late");
        directory.check_invariants();
    }

    #[test]
    fn nobody_touches_anothers_record() {
        let mut directory = Directory::new(RegistryConfig::default());
        let registration = directory.register(mesh(1), node(1)).unwrap();
        let refresh = ResolverRequest::Refresh { mesh: mesh(1), registration };
        assert_eq!(directory.ask(node(2), &refresh).0, ResolverReply::Refreshed(None));
        let unregister = ResolverRequest::Unregister { mesh: mesh(1), registration };
        assert_eq!(directory.ask(node(2), &unregister), (ResolverReply::Unregistered, None));
        let update = ResolverRequest::Update { mesh: mesh(1), registration, addresses: address(9) };
        let (reply, _) = directory.ask(node(2), &update);
        assert!(
            matches!(reply, ResolverReply::Registered { registration: other, .. } if other != registration)
        );
        assert_eq!(directory.resolve(mesh(1), node(3), 5).len(), 2);
        directory.check_invariants();
    }

    #[test]
    fn an_update_replaces_the_addresses_under_the_same_id() {
        let mut directory = Directory::new(RegistryConfig::default());
        let registration = directory.register(mesh(1), node(1)).unwrap();
        let update = ResolverRequest::Update { mesh: mesh(1), registration, addresses: address(9) };
        let (reply, change) = directory.ask(node(1), &update);
        assert_eq!(reply, ResolverReply::Registered { registration, lifetime: LIFETIME });
        let expected =
            StoredRegistration { mesh: mesh(1), node: node(1), registration, addresses: address(9).into() };
        assert_eq!(change, Some(Change::Put(expected)));
        assert_eq!(directory.registry.len(), 1);
    }

    #[test]
    fn unregistering_removes_and_is_stored() {
        let mut directory = Directory::new(RegistryConfig::default());
        let registration = directory.register(mesh(1), node(1)).unwrap();
        let unregister = ResolverRequest::Unregister { mesh: mesh(1), registration };
        let change = Some(Change::Remove { mesh: mesh(1), node: node(1) });
        assert_eq!(directory.ask(node(1), &unregister), (ResolverReply::Unregistered, change));
        assert_eq!(
            directory.ask(node(1), &unregister),
            (ResolverReply::Unregistered, None),
            "twice is no error"
        );
        directory.check_invariants();
    }

    #[test]
    fn quotas_name_whose_they_are_and_replacing_is_always_allowed() {
        let mut directory = Directory::new(RegistryConfig {
            client_registrations_max: 2,
            mesh_registrations_max: 3,
            registrations_max: 5,
            ..Default::default()
        });
        let refused = |result: Result<RegistrationId, ResolverRefusal>, whose: &str| {
            let refusal = result.unwrap_err();
            assert_eq!(refusal.kind, ResolverRefusalKind::Quota);
            assert!(refusal.detail.contains(whose), "{}", refusal.detail);
        };
        for m in [1, 2] {
            directory.register(mesh(m), node(1)).unwrap();
        }
        refused(directory.register(mesh(3), node(1)), "this client has 2");
        for n in [2, 3] {
            directory.register(mesh(1), node(n)).unwrap();
        }
        refused(directory.register(mesh(1), node(4)), "this mesh has 3");
        directory.register(mesh(2), node(4)).unwrap();
        refused(directory.register(mesh(3), node(5)), "this directory has 5");
        directory.register(mesh(1), node(1)).unwrap();
        directory.check_invariants();
    }

    #[test]
    fn a_choice_is_random_without_repetition_and_skips_the_dead() {
        let mut directory = Directory::new(RegistryConfig::default());
        for n in 0..50 {
            directory.register(mesh(1), node(n)).unwrap();
        }
        directory.now += LIFETIME / 2;
        for n in 50..100 {
            directory.register(mesh(1), node(n)).unwrap();
        }
        directory.now += LIFETIME / 2; // the first fifty have expired
        let mut seen = BTreeSet::new();
        for _ in 0..200 {
            let chosen = directory.resolve(mesh(1), node(99), 10);
            assert_eq!(chosen.len(), 10);
            assert_eq!(chosen.iter().collect::<BTreeSet<_>>().len(), 10, "no repetition");
            seen.extend(chosen);
        }
        assert_eq!(seen, (50..99).map(node).collect(), "everyone alive but the caller is chosen some time");
        assert_eq!(directory.resolve(mesh(1), node(99), u32::MAX).len(), RESOLVED_NODES_MAX);
        assert_eq!(directory.resolve(mesh(1), node(99), 0), []);
    }

    #[test]
    fn restored_registrations_get_a_whole_lifetime() {
        let mut directory =
            Directory::new(RegistryConfig { mesh_registrations_max: 1, ..Default::default() });
        let registration = RegistrationId::from_bytes([5; 16]);
        let stored = |n| StoredRegistration {
            mesh: mesh(1),
            node: node(n),
            registration,
            addresses: address(1).into(),
        };
        assert!(directory.registry.restore(directory.now, stored(1)));
        assert!(!directory.registry.restore(directory.now, stored(2)), "no room");
        directory.now += LIFETIME * 9 / 10;
        let refresh = ResolverRequest::Refresh { mesh: mesh(1), registration };
        assert_eq!(directory.ask(node(1), &refresh).0, ResolverReply::Refreshed(Some(LIFETIME)));
    }

    proptest! {
        #[test]
        fn the_tables_agree_after_any_requests(
            steps in prop::collection::vec((0u8..6, 0u8..3, 0u16..6, 0u64..400), 1..200),
        ) {
            let mut directory = Directory::new(RegistryConfig {
                client_registrations_max: 2,
                mesh_registrations_max: 4,
                ..Default::default()
            });
            let mut last = RegistrationId::from_bytes([0; 16]);
            for (kind, m, n, seconds) in steps {
                directory.now += Duration::from_secs(seconds);
                let (mesh, registration) = (mesh(m), last);
                let request = match kind {
                    0 | 1 => ResolverRequest::Register { mesh, addresses: address(1) },
                    2 => ResolverRequest::Refresh { mesh, registration },
                    3 => ResolverRequest::Update { mesh, registration, addresses: address(2) },
                    4 => ResolverRequest::Unregister { mesh, registration },
                    _ => {
                        directory.registry.expire(directory.now, 2);
                        ResolverRequest::Settings
                    }
                };
                if let (ResolverReply::Registered { registration, .. }, _) = directory.ask(node(n), &request) {
                    last = registration;
                }
                directory.check_invariants();
            }
        }
    }
}
