//! A directory in a process of its own, killed at random moments under registration load:
//! every acknowledged registration is in the store afterwards.
#![allow(clippy::unwrap_used, clippy::panic)] // a failed expectation is the point

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use peerchannel_resolver::{MeshKey, NodeId, Registration, Resolver, ResolverUri, ServiceResolver};
use peerchannel_resolver_service::{DurableStore, Server, ServerConfig, Store};
use peerchannel_security::Identity;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::sync::mpsc;

const MESH: MeshKey = MeshKey::from_bytes([0x22; 32]);

/// The store's file, for the child.
const STORE: &str = "PEERCHANNEL_KILL_TEST_STORE";

/// Five times what one call may take.
const HANG: Duration = Duration::from_secs(25);

const ROUNDS: u16 = 12;
const CLIENTS: u8 = 6;

/// Does nothing unless the parent test gave it a store.
#[tokio::test(flavor = "multi_thread")]
async fn a_child_serves() {
    let Ok(path) = std::env::var(STORE) else { return };
    let mut config = ServerConfig::default();
    config.listen = (Ipv4Addr::LOCALHOST, 0).into();
    config.requests_per_second = 100_000;
    config.requests_burst = 100_000;
    let identity = Identity::from_seed(&[0xd1; 32]);
    let server = Server::start(&identity, config, DurableStore::open(path).unwrap()).await.unwrap();
    println!("serving {}@{}", server.node_id(), server.local_address());
    // Until the parent kills this process, or is gone itself.
    let _ = tokio::task::spawn_blocking(|| std::io::stdin().read_line(&mut String::new())).await;
}

fn start(store: &Path) -> (Child, String) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_child_serves", "--nocapture"])
        .env(STORE, store)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let place = lines.filter_map(|line| Some(line.split_once("serving ")?.1.to_owned())).next();
    (child, format!("service:{}", place.expect("the child serves")))
}

fn client(seed: u8, uri: &str) -> (ServiceResolver, NodeId) {
    let ResolverUri::Service(addresses) = uri.parse().unwrap() else { panic!("{uri}") };
    let identity = Identity::from_seed(&[seed; 32]);
    let node = identity.node_id();
    (ServiceResolver::new(identity, addresses), node)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_sigkill() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_120);
    println!("replay with SEED={seed} (the moments differ a little)");
    let mut rng = SmallRng::seed_from_u64(seed);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("directory.redb");
    // The port each node registered last, by round and count, as acknowledged.
    let mut acknowledged: BTreeMap<NodeId, u16> = BTreeMap::new();
    let mut total = 0;
    for round in 0..ROUNDS {
        let (mut child, uri) = start(&path);
        let (told, mut reports) = mpsc::channel(1024);
        let mut clients = tokio::task::JoinSet::new();
        for number in 1..=CLIENTS {
            let ((resolver, node), told) = (client(number, &uri), told.clone());
            clients.spawn(async move {
                // Ports only grow, so that an older state than acknowledged is noticed.
                for count in 0..1000u16 {
                    let port = 1000 + round * 1000 + count;
                    let addresses = vec![SocketAddr::from(([192, 0, 2, number], port))];
                    let registration = Registration { mesh: MESH, node, addresses };
                    match resolver.register(&registration).await {
                        Ok(_) => drop(told.send((node, port)).await),
                        Err(_) => return,
                    }
                }
            });
        }
        drop(told);
        // On a busy machine a directory may not answer for a while: the clock of the first round
        // starts when everybody was answered, that of the others with the first answer.
        let mut heard = BTreeSet::new();
        while heard.len() < if round == 0 { usize::from(CLIENTS) } else { 1 } {
            let report = tokio::time::timeout(HANG, reports.recv()).await.expect("it hangs");
            let (node, port) = report.expect("a directory that lives answers");
            heard.insert(node);
            acknowledged.insert(node, port);
            total += 1;
        }
        tokio::time::sleep(Duration::from_millis(rng.random_range(20..250))).await;
        child.kill().unwrap();
        child.wait().unwrap();
        // They would try again until their time is up; who was not answered by now will not be.
        clients.shutdown().await;
        while let Some((node, port)) = reports.recv().await {
            acknowledged.insert(node, port);
            total += 1;
        }

        let mut stored = BTreeMap::new();
        let mut store = DurableStore::open(&path).unwrap();
        store.load(&mut |r| stored.extend([(r.node, r.addresses[0].port())])).unwrap();
        for (node, port) in &acknowledged {
            let found = stored.get(node);
            assert!(found >= Some(port), "round {round}, SEED={seed}: {node:?} at {port}, stored {found:?}");
        }
    }
    println!("{ROUNDS} kills, {total} registrations acknowledged, none lost");
    assert_eq!(acknowledged.len(), usize::from(CLIENTS), "the load was real");
}
