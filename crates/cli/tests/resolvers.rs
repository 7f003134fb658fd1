//! Resolvers that are down, slow, lying or empty, under a mesh that runs.

#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests.

mod common;

use std::collections::BTreeSet;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use common::{ONLINE, Place, Proc, peerchannel, timing};
use serde_json::{Value, json};

/// How long the mesh is watched: several pauses of every loop that tries again.
const WATCHED: Duration = Duration::from_secs(30);

/// A message among neighbors that are well, on a busy machine.
const DELIVERED: Duration = Duration::from_secs(2);

/// Processor time of one node while it is watched, debug build: a loop that spins takes all of
/// it.
const CPU_MAX: Duration = Duration::from_millis(1500);

/// Handshakes that a node may begin with one dead address while it is watched: pauses grow from
/// a second, and five of them fill half a minute.
const DIALS_MAX: usize = 8;

/// A place where nobody answers, and that counts who knocks.
struct Silence {
    address: String,
    // The connection ids that handshakes began with: one per attempt.
    attempts: Arc<Mutex<BTreeSet<Vec<u8>>>>,
    over: Arc<AtomicBool>,
    counting: Option<JoinHandle<()>>,
}

impl Silence {
    fn new() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let address = socket.local_addr().unwrap().to_string();
        let (attempts, over) = (Arc::<Mutex<BTreeSet<Vec<u8>>>>::default(), Arc::<AtomicBool>::default());
        let (seen, ended) = (attempts.clone(), over.clone());
        let counting = std::thread::spawn(move || {
            let mut datagram = [0; 2048];
            while !ended.load(Ordering::Relaxed) {
                let Ok(length) = socket.recv(&mut datagram) else { continue };
                // A long header: flags, version, length of the destination's id, the id
                // (RFC 9000 section 17.2).
                if length > 26 && datagram[0] & 0x80 != 0 {
                    let id = datagram[6..6 + usize::from(datagram[5]).min(20)].to_vec();
                    seen.lock().unwrap().insert(id);
                }
            }
        });
        Self { address, attempts, over, counting: Some(counting) }
    }

    fn attempts(&self) -> usize {
        self.attempts.lock().unwrap().len()
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = self.counting.take().unwrap().join();
    }
}

fn directory(place: &Place, name: &str) -> (Proc, String) {
    let mut command =
        peerchannel(["resolver", "serve", "--json", "--listen", "127.0.0.1:0", "--store", "memory"]);
    command.arg("--identity").arg(place.path(name));
    let service = Proc::start(name, command);
    let uri = service.wait("listening", ONLINE).event["resolver"].as_str().unwrap().to_owned();
    (service, uri)
}

#[test]
fn resolvers_that_are_down_slow_lying_or_empty_stop_no_mesh_and_never_spin() {
    let place = Place::new();
    // Down: nobody has the port. Slow: somebody has it and says nothing.
    let closed = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (down, dead, slow) = (format!("service:{closed}"), Silence::new(), Silence::new());
    // Stopped: it serves, and then it does not.
    let (stopped, stopped_uri) = directory(&place, "stopped.key");
    // Lying: addresses of nobody, of another mesh, and of a program that is no node of any.
    let elsewhere = {
        let mut command = peerchannel(["node", "elsewhere", "--json", "--open", "--listen", "127.0.0.1:0"]);
        command.args(["--resolver", "static:127.0.0.1:9"]);
        Proc::start("elsewhere", command)
    };
    let (_other, other_uri) = directory(&place, "other.key");
    let foreign = other_uri.split_once('@').unwrap().1.to_owned();
    let lying = format!("static:{},{},{foreign},{closed}", dead.address, elsewhere.addr());
    let slow_uri = format!("service:{}", slow.address);

    let mut nodes = Vec::<Proc>::new();
    for name in ["ann", "bob", "cleo"] {
        let mut more = vec!["--resolver", &down, "--resolver", &slow_uri, "--resolver", &stopped_uri];
        // This one is empty but for who asks it.
        more.extend(["--resolver", &other_uri, "--resolver", &lying]);
        let first = nodes.first().map(|first| format!("static:{}", first.addr()));
        if let Some(first) = &first {
            more.extend(["--resolver", first]);
        }
        nodes.push(place.node_at(name, &more));
    }
    for node in &mut nodes {
        node.wait_neighbors(2, ONLINE);
    }
    #[cfg(unix)]
    stopped.signal("STOP");
    let marks: Vec<usize> = nodes.iter().map(Proc::mark).collect();
    let before: Vec<Option<Duration>> = nodes.iter().map(Proc::cpu).collect();
    let (dials, started) = (dead.attempts(), Instant::now());

    let mut slowest = Duration::ZERO;
    for round in 0..u32::MAX {
        if started.elapsed() >= WATCHED {
            break;
        }
        // What a program may do that is not content with its neighbors.
        if round % 5 == 0 {
            nodes[2].send(&json!({ "cmd": "refresh" }));
        }
        let sent = Instant::now();
        let text = format!("round {round}");
        nodes[0].send(&json!({ "cmd": "publish", "channel": "c", "payload": text }));
        for node in &nodes[1..] {
            let seen = node.wait_from(0, "message", DELIVERED, |event| event["payload"] == json!(text));
            slowest = slowest.max(seen.at - sent);
        }
        std::thread::sleep(Duration::from_secs(1).saturating_sub(sent.elapsed()));
    }
    timing("a message beside resolvers that fail", DELIVERED, slowest);
    for ((node, mark), before) in nodes.iter().zip(marks).zip(before) {
        for seen in &node.events()[mark..] {
            let kind = seen.event["event"].as_str().unwrap();
            assert!(!["offline", "neighbor_down", "member_down", "gap"].contains(&kind), "{}", seen.event);
        }
        if let (Some(before), Some(now)) = (before, node.cpu()) {
            timing("processor time of a node in 30 s", CPU_MAX, now - before);
            assert!(now - before < CPU_MAX * 3, "it spins: {:?} in {WATCHED:?}", now - before);
        }
    }
    let dials = dead.attempts() - dials;
    assert!(dials <= DIALS_MAX * nodes.len(), "{dials} handshakes with an address of nobody");
    eprintln!("{dials} handshakes with an address of nobody in {WATCHED:?}");
    // What is wrong is told once.
    for node in &nodes {
        let failed: Vec<Value> = node.all("resolver_failed");
        let of = |address: &str| {
            failed.iter().filter(|event| event["resolver"].as_str().unwrap().contains(address)).count()
        };
        for address in [&closed.to_string(), &slow.address] {
            assert_eq!(of(address), 1, "{failed:?}");
        }
        assert!(failed.len() <= 4, "{failed:?}");
    }
    // Resolvers that can do nothing more do not keep anybody from leaving.
    let leaving = Instant::now();
    nodes[0].send(&json!({ "cmd": "leave" }));
    nodes[0].wait_end(Duration::from_secs(2));
    timing("leaving beside resolvers that fail", Duration::from_secs(2), leaving.elapsed());
}
