//! A real directory and real clients over QUIC on loopback.
#![allow(clippy::unwrap_used, clippy::unwrap_in_result, clippy::panic)] // a failed expectation is the point

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use peerchannel_resolver::{
    Announcement, MeshKey, NodeId, Registration, Resolver, ResolverError, ResolverUri, ServiceResolver,
    keep_registered,
};
use peerchannel_resolver_service::{
    Change, DurableStore, MemoryStore, RegistryConfig, Server, ServerConfig, Store, StoreError,
    StoredRegistration,
};
use peerchannel_security::Identity;
use peerchannel_transport::{CloseReason, Connection, ConnectionLost, Endpoint, EndpointConfig};
use peerchannel_wire::{RESOLVER_ALPN, ResolverReply, ResolverRequest};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};

const MESH: MeshKey = MeshKey::from_bytes([0x11; 32]);

fn config() -> ServerConfig {
    let mut config = ServerConfig::default();
    config.listen = (Ipv4Addr::LOCALHOST, 0).into();
    config
}

fn directory_identity() -> Identity {
    Identity::from_seed(&[0xd1; 32])
}

async fn serve(config: ServerConfig, store: impl Store) -> Server {
    Server::start(&directory_identity(), config, store).await.unwrap()
}

/// A node that knows the directory, as a user would name it.
struct Node {
    resolver: Arc<ServiceResolver>,
    registration: Registration,
}

fn client(seed: u8, uri: &str) -> Node {
    let ResolverUri::Service(addresses) = uri.parse().unwrap() else { panic!("{uri}") };
    let identity = Identity::from_seed(&[seed; 32]);
    let node = identity.node_id();
    let addresses_of_node = vec![SocketAddr::from(([127, 0, 0, 1], 4000 + u16::from(seed)))];
    Node {
        resolver: Arc::new(ServiceResolver::new(identity, addresses)),
        registration: Registration { mesh: MESH, node, addresses: addresses_of_node },
    }
}

fn uri_of(server: &Server) -> String {
    format!("service:{}@{}", server.node_id(), server.local_address())
}

impl Node {
    async fn register(&self) -> Result<Option<Duration>, ResolverError> {
        Ok(self.resolver.register(&self.registration).await?.lifetime)
    }

    async fn others(&self) -> Vec<NodeId> {
        let mut nodes: Vec<NodeId> =
            self.resolver.resolve(MESH, 10).await.unwrap().iter().filter_map(|found| found.node).collect();
        nodes.sort();
        nodes
    }
}

/// How much longer than stated a thing may take before a test gives it up as hung: what
/// happens is tested here, how fast is measured elsewhere, on a machine with nothing else to
/// do.
const HANG_FACTOR: u32 = 5;

/// How long a call may take: five seconds, and a moment to notice.
const CALL: Duration = Duration::from_secs(6);

/// What a future comes to, unless it hangs.
async fn within<T>(stated: Duration, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(stated * HANG_FACTOR, future).await.expect("it hangs")
}

async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let start = Instant::now();
    while !holds().await {
        assert!(start.elapsed() < Duration::from_secs(20) * HANG_FACTOR, "{what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registration_lives_from_register_to_unregister() {
    let server = serve(config(), MemoryStore).await;
    let (ann, bob) = (client(1, &uri_of(&server)), client(2, &uri_of(&server)));
    assert_eq!(ann.resolver.refresh(&ann.registration).await, Err(ResolverError::NotFound));
    assert_eq!(ann.register().await, Ok(Some(Duration::from_mins(10))));
    assert_eq!(bob.register().await, Ok(Some(Duration::from_mins(10))));

    let found = bob.resolver.resolve(MESH, 10).await.unwrap();
    assert_eq!(found.len(), 1, "not itself: {found:?}");
    assert_eq!(found[0].node, Some(ann.registration.node));
    assert_eq!(found[0].addresses, ann.registration.addresses);
    assert_eq!(bob.resolver.resolve(MeshKey::from_bytes([9; 32]), 10).await, Ok(vec![]));

    assert!(ann.resolver.refresh(&ann.registration).await.unwrap().lifetime.is_some());
    let mut moved = ann.registration.clone();
    moved.addresses = vec!["127.0.0.1:9999".parse().unwrap()];
    let _ = ann.resolver.update(&moved).await.unwrap();
    assert_eq!(bob.resolver.resolve(MESH, 10).await.unwrap()[0].addresses, moved.addresses);

    ann.resolver.unregister(&moved).await.unwrap();
    assert_eq!(bob.others().await, []);
    ann.resolver.unregister(&moved).await.unwrap();
    assert!(ann.resolver.can_share_referrals());

    let metrics = server.metrics();
    assert_eq!(
        (metrics.registers, metrics.updates, metrics.unregisters, metrics.registrations),
        (2, 1, 1, 1)
    );
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn registrations_and_clients_survive_a_restart_on_a_durable_store() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("directory.redb");
    let mut config = config();
    let server = serve(config.clone(), DurableStore::open(&path).unwrap()).await;
    config.listen = server.local_address();
    let uri = uri_of(&server);
    let (ann, bob) = (client(1, &uri), client(2, &uri));
    ann.register().await.unwrap();
    bob.register().await.unwrap();
    // As a crash would: no drain, no goodbye. The store's file is free when its thread ended.
    drop(server);
    let mut store = None;
    eventually("the file is free", async || {
        store = DurableStore::open(&path).ok();
        store.is_some()
    })
    .await;
    let mut server = None;
    let store = store.unwrap();
    // The port is free when the old endpoint's last task ended.
    let mut store = Some(store);
    eventually("the port is free", async || {
        let taken = match store.take() {
            Some(store) => store,
            None => match DurableStore::open(&path) {
                Ok(store) => store,
                Err(_) => return false,
            },
        };
        server = Server::start(&directory_identity(), config.clone(), taken).await.ok();
        server.is_some()
    })
    .await;
    let server = server.unwrap();
    assert_eq!(server.metrics().registrations, 2);
    // The same resolver objects go on, and the registrations are the same.
    assert_eq!(bob.others().await, [ann.registration.node]);
    assert!(ann.resolver.refresh(&ann.registration).await.is_ok());
    let carol = client(3, &uri);
    assert_eq!(carol.others().await.len(), 2);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forgetful_directory_is_told_again() {
    let mut config = config();
    // Refreshed every two seconds or so: the machine may stand still for as long again.
    config.registry.lifetime = Duration::from_secs(5);
    let server = serve(config.clone(), MemoryStore).await;
    config.listen = server.local_address();
    let uri = uri_of(&server);
    let (ann, bob) = (client(1, &uri), client(2, &uri));
    let announcement = Announcement { addresses: ann.registration.addresses.clone(), wakes: 0 };
    let (announced, receiver) = watch::channel(announcement);
    let kept =
        tokio::spawn(keep_registered(ann.resolver.clone(), ann.registration.clone(), receiver, |_, _| {}));
    eventually("registered", async || bob.others().await == [ann.registration.node]).await;
    server.shutdown().await;

    let mut server = None;
    eventually("the port is free", async || {
        server = Server::start(&directory_identity(), config.clone(), MemoryStore).await.ok();
        server.is_some()
    })
    .await;
    eventually("registered again", async || {
        bob.resolver.resolve(MESH, 5).await.is_ok_and(|found| found.len() == 1)
    })
    .await;
    // Outlives its lease, by refreshing.
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(bob.others().await, [ann.registration.node]);
    drop(announced);
    kept.await.unwrap();
    assert_eq!(bob.others().await, [], "taken back at the end");
    server.unwrap().shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn quotas_are_typed_errors() {
    let mut config = config();
    config.registry = RegistryConfig::default();
    config.registry.mesh_registrations_max = 1;
    config.requests_per_second = 1;
    config.requests_burst = 6;
    let server = serve(config, MemoryStore).await;
    let (ann, bob) = (client(1, &uri_of(&server)), client(2, &uri_of(&server)));
    ann.register().await.unwrap();
    match bob.register().await {
        Err(ResolverError::Quota { reason, .. }) => assert!(reason.contains("this mesh has 1"), "{reason}"),
        other => panic!("{other:?}"),
    }
    let mut throttled = None;
    for _ in 0..10 {
        if let Err(error) = bob.resolver.resolve(MESH, 1).await {
            throttled = Some(error);
        }
    }
    assert!(matches!(&throttled, Some(ResolverError::Quota { .. })), "{throttled:?}");
    assert!(throttled.unwrap().to_string().contains("ask less often"));
    let metrics = server.metrics();
    assert_eq!(metrics.quota_refusals, 1);
    assert!(metrics.throttled > 0);
    server.shutdown().await;
}

/// A peer that speaks QUIC and this protocol's ALPN, and then does as it likes.
async fn raw(server: &Server) -> (Endpoint, Connection) {
    let mut config = EndpointConfig::default();
    config.listen = (Ipv4Addr::LOCALHOST, 0).into();
    config.alpn = RESOLVER_ALPN.to_vec();
    let endpoint = Endpoint::bind(&Identity::generate(), config).unwrap();
    let connection = endpoint.connect(server.local_address(), Some(server.node_id())).await.unwrap();
    (endpoint, connection)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_does_wrong_closes_that_client_only() {
    let server = serve(config(), MemoryStore).await;
    let ann = client(1, &uri_of(&server));
    ann.register().await.unwrap();
    let garbage: [&'static [u8]; 4] = [
        &[0xff; 64],                  // no length
        &[0x84, 0x80, 0x01, 0, 0, 0], // longer than any request
        &[4, 0xff, 0xff, 0xff, 0xff], // no message
        &[3, 0x08, 1, 0x6a],          // an unknown kind
    ];
    for bytes in garbage {
        let (_endpoint, connection) = raw(&server).await;
        let mut stream = connection.open_control().await.unwrap();
        stream.send(Bytes::from_static(bytes)).await.unwrap();
        let lost = within(Duration::from_secs(5), connection.closed()).await;
        assert_eq!(lost, ConnectionLost::ClosedByPeer(CloseReason::ProtocolViolation), "{bytes:?}");
    }
    assert_eq!(server.metrics().violations, 4);
    assert!(ann.resolver.refresh(&ann.registration).await.is_ok());

    // The same without a fault, so that the test tests what it says.
    let (_endpoint, connection) = raw(&server).await;
    let mut stream = connection.open_control().await.unwrap();
    stream.set_frame_limit(1024);
    stream.send(ResolverRequest::Settings.encode(7)).await.unwrap();
    let reply = ResolverReply::decode(stream.recv().await.unwrap().unwrap()).unwrap();
    assert!(matches!(reply, (7, ResolverReply::Settings { control_mesh_shape: false, .. })));
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_cannot_take_all_places() {
    let mut config = config();
    config.client_connections_max = 1;
    config.clients_max = 2;
    let server = serve(config, MemoryStore).await;
    let (endpoint, first) = raw(&server).await;
    eventually("served", async || server.metrics().clients == 1).await;
    let second = endpoint.connect(server.local_address(), None).await.unwrap();
    assert_eq!(second.closed().await, ConnectionLost::ClosedByPeer(CloseReason::Busy));
    let ann = client(1, &uri_of(&server));
    ann.register().await.unwrap();
    first.close(CloseReason::Unused);
    eventually("gone", async || server.metrics().clients == 1).await;
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_with_another_key_is_refused() {
    let server = serve(config(), MemoryStore).await;
    let other = Identity::from_seed(&[0xee; 32]).node_id();
    let ann = client(1, &format!("service:{other}@{}", server.local_address()));
    match ann.register().await {
        Err(ResolverError::WrongDirectory { expected, .. }) => assert_eq!(expected, other),
        unexpected => panic!("{unexpected:?}"),
    }
    assert_eq!(server.metrics().registers, 0);
    let bob = client(2, &format!("service:{}", server.local_address()));
    bob.register().await.unwrap();
    assert!(bob.resolver.describe().contains("not authenticated"));
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_address_is_passed_over() {
    let server = serve(config(), MemoryStore).await;
    // Taken, but never answered: a socket that nobody reads.
    let dead = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let uri = format!(
        "service:{}@{},no-such-host.invalid:1,{}",
        server.node_id(),
        dead.local_addr().unwrap(),
        server.local_address()
    );
    let ann = client(1, &uri);
    // Well within one call, which takes at most five seconds and fails after that.
    within(CALL, ann.register()).await.unwrap();
    server.shutdown().await;
}

/// A way to a directory that takes its time: what it passes on arrives this much later.
const WAY: Duration = Duration::from_millis(250);

/// Passes datagrams on in both directions, in order, between one client and a directory.
async fn relay(place: UdpSocket, directory: SocketAddr) {
    let out = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    // What was sent before there was a way is lost.
    let mut bytes = [0; 2048];
    while place.try_recv_from(&mut bytes).is_ok() {}
    let (mut bytes_back, mut client) = ([0; 2048], None);
    let (travel, mut travelling) = mpsc::unbounded_channel::<(Instant, Vec<u8>, SocketAddr)>();
    let (place, out) = (&place, &out);
    let arrive = async {
        while let Some((due, datagram, to)) = travelling.recv().await {
            tokio::time::sleep_until(due.into()).await;
            let from = if to == directory { out } else { place };
            let _ = from.send_to(&datagram, to).await;
        }
    };
    let depart = async {
        loop {
            let (datagram, to) = tokio::select! {
                Ok((length, from)) = place.recv_from(&mut bytes) => {
                    client = Some(from);
                    (bytes[..length].to_vec(), directory)
                }
                Ok((length, _)) = out.recv_from(&mut bytes_back) => {
                    let Some(client) = client else { continue };
                    (bytes_back[..length].to_vec(), client)
                }
            };
            travel.send((Instant::now() + WAY, datagram, to)).unwrap();
        }
    };
    tokio::join!(arrive, depart);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_hangs_costs_a_time_out_and_nothing_more() {
    let mut config = EndpointConfig::default();
    config.listen = (Ipv4Addr::LOCALHOST, 0).into();
    config.alpn = RESOLVER_ALPN.to_vec();
    let hanging = Endpoint::bind(&directory_identity(), config).unwrap();
    let accepting = hanging.clone();
    let held = tokio::spawn(async move {
        let mut connections = Vec::new();
        while let Some(connection) = accepting.accept().await {
            connections.push(connection);
        }
    });
    // The other directory is far away, and there is no way to it until the first call is over:
    // that one has to meet the directory that hangs.
    let server = serve(self::config(), MemoryStore).await;
    let place = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let (key, far) = (server.node_id(), place.local_addr().unwrap());
    let ann = client(1, &format!("service:{key}@{},{far}", hanging.local_address()));
    let error = within(CALL, ann.register()).await.unwrap_err();
    assert!(matches!(error, ResolverError::TimedOut { .. }), "{error}");
    let way = tokio::spawn(relay(place, server.local_address()));
    // The next call goes to the other address, although the near one would answer sooner.
    within(CALL, ann.register()).await.unwrap();
    assert_eq!(server.metrics().registers, 1);
    way.abort();
    held.abort();
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_directory_is_an_error_in_time_and_found_when_it_comes() {
    // Kept, so that nobody else takes the port meanwhile.
    let kept = std::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let place = kept.local_addr().unwrap();
    let ann = client(1, &format!("service:{}@{place}", directory_identity().node_id()));
    assert!(within(CALL, ann.register()).await.is_err());
    let mut config = config();
    config.listen = place;
    drop(kept);
    let server = serve(config, MemoryStore).await;
    eventually("found", async || ann.register().await.is_ok()).await;
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_registrations_share_a_commit() {
    let directory = tempfile::tempdir().unwrap();
    let store = DurableStore::open(directory.path().join("directory.redb")).unwrap();
    let server = serve(config(), store).await;
    let uri = uri_of(&server);
    let nodes: Vec<Node> = (1..=40).map(|seed| client(seed, &uri)).collect();
    let tasks: Vec<_> =
        nodes.into_iter().map(|node| tokio::spawn(async move { (node.register().await, node).0 })).collect();
    for task in tasks {
        assert!(task.await.unwrap().is_ok());
    }
    let metrics = server.metrics();
    assert_eq!(metrics.changes_committed, 40);
    println!("40 registrations in {} commits", metrics.commits);
    assert_eq!(metrics.registrations, 40);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shaping_directory_forbids_referrals() {
    let mut config = config();
    config.registry.control_mesh_shape = true;
    let server = serve(config, MemoryStore).await;
    let ann = client(1, &uri_of(&server));
    ann.register().await.unwrap();
    assert!(!ann.resolver.can_share_referrals());
    server.shutdown().await;
}

/// Fails the first commits, then keeps nothing.
#[derive(Debug)]
struct Flaky {
    failures: u32,
}

impl Store for Flaky {
    fn load(&mut self, _: &mut dyn FnMut(StoredRegistration)) -> Result<(), StoreError> {
        Ok(())
    }
    fn commit(&mut self, _: &[Change]) -> Result<(), StoreError> {
        if self.failures == 0 {
            return Ok(());
        }
        self.failures -= 1;
        Err(StoreError::Io { path: "flaky".into(), detail: "no space left on device".into() })
    }
    fn describe(&self) -> String {
        "flaky".into()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_acknowledged_that_was_not_stored() {
    let server = serve(config(), Flaky { failures: 2 }).await;
    let ann = client(1, &uri_of(&server));
    for _ in 0..2 {
        let error = ann.register().await.unwrap_err();
        assert!(matches!(error, ResolverError::Unavailable { .. }), "{error}");
    }
    ann.register().await.unwrap();
    assert_eq!(server.metrics().commits_failed, 2);
    server.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_waits_for_requests_not_for_idle_clients() {
    let mut config = config();
    // A drain that waited for an idle client would hang, not be cut short.
    config.drain_timeout = Duration::from_hours(1);
    let server = serve(config, MemoryStore).await;
    let nodes: Vec<Node> = (1..=8).map(|seed| client(seed, &uri_of(&server))).collect();
    for node in &nodes {
        node.register().await.unwrap();
    }
    let (_endpoint, silent) = raw(&server).await;
    within(Duration::from_secs(3), server.shutdown()).await;
    assert_eq!(silent.closed().await, ConnectionLost::ClosedByPeer(CloseReason::Shutdown));
    assert!(nodes[0].register().await.is_err());
}
