//! A userspace network between processes on loopback: each node is known to the others by an
//! address of the relay, which passes datagrams on, or does not.
//!
//! Node X is known as `R_X`. What Y sends to `R_X` arrives at X as if it came from `R_Y`, so that
//! both ends agree about each other's addresses and a cut is a cut for both.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// A relay for some nodes, each with a side.
pub(crate) struct Relay {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    // By the node's index: the socket others know it by, and its side.
    ports: Vec<(UdpSocket, usize)>,
    nodes: Mutex<Nodes>,
    cut: AtomicBool,
    over: AtomicBool,
}

#[derive(Default)]
struct Nodes {
    addresses: BTreeMap<usize, SocketAddr>,
    indices: BTreeMap<SocketAddr, usize>,
}

impl Relay {
    /// A relay for nodes of these sides.
    pub(crate) fn new(sides: &[usize]) -> Self {
        let port = |side: &usize| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
            (socket, *side)
        };
        let shared = Arc::new(Shared {
            ports: sides.iter().map(port).collect(),
            nodes: Mutex::default(),
            cut: AtomicBool::new(false),
            over: AtomicBool::new(false),
        });
        let threads = (0..sides.len())
            .map(|index| {
                let shared = shared.clone();
                std::thread::spawn(move || shared.pass_on(index))
            })
            .collect();
        Self { shared, threads }
    }

    /// How the others know a node.
    pub(crate) fn address(&self, index: usize) -> String {
        self.shared.ports[index].0.local_addr().unwrap().to_string()
    }

    /// A node listens here. Nothing of it is passed on before.
    pub(crate) fn attach(&self, index: usize, address: &str) {
        let address: SocketAddr = address.parse().unwrap();
        let mut nodes = self.shared.nodes.lock().unwrap();
        nodes.addresses.insert(index, address);
        nodes.indices.insert(address, index);
    }

    /// Whether nothing passes between the sides.
    pub(crate) fn cut(&self, cut: bool) {
        self.shared.cut.store(cut, Ordering::Relaxed);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

impl Shared {
    /// Passes on what others send to a node.
    fn pass_on(&self, to: usize) {
        let (socket, side) = &self.ports[to];
        let mut datagram = vec![0; 65_536];
        while !self.over.load(Ordering::Relaxed) {
            // A time-out, or news of a datagram that found nobody.
            let Ok((length, sender)) = socket.recv_from(&mut datagram) else { continue };
            let nodes = self.nodes.lock().unwrap();
            let (Some(from), Some(target)) =
                (nodes.indices.get(&sender).copied(), nodes.addresses.get(&to).copied())
            else {
                continue;
            };
            drop(nodes);
            let (way, side_of_sender) = &self.ports[from];
            if side == side_of_sender || !self.cut.load(Ordering::Relaxed) {
                let _ = way.send_to(&datagram[..length], target);
            }
        }
    }
}
