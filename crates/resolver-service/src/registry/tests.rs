//! The registry under a virtual clock.

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
        let entries = || r.meshes.iter().flat_map(|(key, mesh)| mesh.entries.iter().map(move |e| (key, e)));
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
    assert!(matches!(reply, ResolverReply::Registered { registration: other, .. } if other != registration));
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
    assert_eq!(directory.ask(node(1), &unregister), (ResolverReply::Unregistered, None), "twice is no error");
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
    let mut directory = Directory::new(RegistryConfig { mesh_registrations_max: 1, ..Default::default() });
    let registration = RegistrationId::from_bytes([5; 16]);
    let stored =
        |n| StoredRegistration { mesh: mesh(1), node: node(n), registration, addresses: address(1).into() };
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
