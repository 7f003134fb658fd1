//! A mesh of real processes whose nodes are replaced one by one by a newer release, and back.
//!
//! The older release is this one with all optional features withheld, which is what a node of
//! the first release offers. With the path of a recorded older command in PEERCHANNEL_OLDER
//! that one takes its place.

#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use common::{ONLINE, Place, Proc, timing};
use serde_json::json;

/// A node that was replaced is back within this time.
const BACK: Duration = Duration::from_secs(5);

/// A message among neighbors that are well, on a busy machine.
const DELIVERED: Duration = Duration::from_secs(2);

const NODES: usize = 6;

/// The messages each node sends between two replacements.
const BURST: u64 = 10;

/// Which release a node is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Release {
    Older,
    Newer,
}

struct Mesh {
    place: Place,
    nodes: Vec<Proc>,
    // What the nodes published that are here now, by id and epoch.
    published: BTreeMap<(String, u64), u64>,
    // Processes that ended, to be judged with the others.
    gone: Vec<Proc>,
}

impl Mesh {
    fn start(release: Release) -> Self {
        let mut mesh = Self { place: Place::new(), nodes: vec![], published: BTreeMap::new(), gone: vec![] };
        for index in 0..NODES {
            let node = mesh.node(index, release);
            mesh.nodes.push(node);
        }
        mesh.wait_complete();
        mesh
    }

    fn node(&self, index: usize, release: Release) -> Proc {
        let addresses: Vec<String> =
            self.nodes.iter().enumerate().filter(|(i, _)| *i != index).map(|(_, n)| n.addr()).collect();
        let known: Vec<&str> = addresses.iter().map(String::as_str).collect();
        let identity = self.place.path(&format!("n{index}.key"));
        let resolver =
            format!("static:{}", if known.is_empty() { "127.0.0.1:9".into() } else { known.join(",") });
        let more = ["--identity", identity.to_str().unwrap(), "--resolver", &resolver];
        let name = format!("n{index}");
        match (release, std::env::var_os("PEERCHANNEL_OLDER")) {
            (Release::Newer, _) => self.place.node_at(&name, &more),
            (Release::Older, Some(binary)) => self.place.node_of(Path::new(&binary), &name, &more),
            (Release::Older, None) => {
                self.place.node_at(&name, &[&more[..], &["--features", "none"]].concat())
            }
        }
    }

    fn wait_complete(&mut self) {
        for node in &mut self.nodes {
            node.wait_neighbors(NODES as u64 - 1, ONLINE);
        }
    }

    /// Replaces a node by one with these features, in the middle of traffic.
    fn replace(&mut self, index: usize, release: Release) {
        self.talk(None);
        let started = Instant::now();
        self.nodes[index].send(&json!({ "cmd": "leave" }));
        // The others go on while it leaves and comes back.
        self.talk(Some(index));
        assert_eq!(self.nodes[index].wait_end(BACK).0.code(), Some(0));
        let next = self.node(index, release);
        self.talk(Some(index));
        next.wait("online", BACK);
        timing("a node is replaced under traffic", BACK, started.elapsed());
        self.gone.push(std::mem::replace(&mut self.nodes[index], next));
        self.wait_complete();
    }

    /// Everybody publishes, except one.
    fn talk(&mut self, except: Option<usize>) {
        for (index, node) in self.nodes.iter_mut().enumerate().filter(|(index, _)| Some(*index) != except) {
            let epoch = epoch(node);
            for _ in 0..BURST {
                let count = self.published.entry((node.id(), epoch)).or_default();
                *count += 1;
                let payload = format!("{index} {count}");
                node.send(&json!({ "cmd": "publish", "channel": "c", "payload": payload }));
            }
        }
    }

    /// Waits until every node has the latest of all streams that are still published.
    fn settle(&self) {
        for node in &self.nodes {
            for other in self.nodes.iter().filter(|other| other.id() != node.id()) {
                let epoch = epoch(other);
                let last = self.published[&(other.id(), epoch)];
                node.wait_from(0, "message", DELIVERED, |event| {
                    event["from"] == other.id() && event["epoch"] == epoch && event["seq"] == last
                });
            }
        }
    }

    /// Order, once, no loss and no gap, for every process that ever took part.
    fn check(&self) {
        for node in self.nodes.iter().chain(&self.gone) {
            assert_eq!(node.all("gap"), Vec::<serde_json::Value>::new());
            assert_eq!(node.all("lagged"), Vec::<serde_json::Value>::new());
            let joined = epoch(node);
            let mut next: BTreeMap<(String, u64), u64> = BTreeMap::new();
            for message in node.all("message") {
                let key = (message["from"].as_str().unwrap().to_owned(), message["epoch"].as_u64().unwrap());
                let (sequence, began_later) = (message["seq"].as_u64().unwrap(), key.1 > joined);
                match next.insert(key, sequence) {
                    Some(before) => assert_eq!(sequence, before + 1, "{message}"),
                    // Of what began before it came it may miss the beginning.
                    None => assert!(sequence == 1 || !began_later, "{message}"),
                }
            }
            // A process gets something of each stream that went on after it came, so of each
            // that began later, unless it left before.
            let here = self.nodes.iter().any(|other| other.pid() == node.pid());
            for (stream, _) in self.published.iter().filter(|(s, _)| here && s.1 > joined && s.0 != node.id())
            {
                assert!(next.contains_key(stream), "nothing of {stream:?} came");
            }
            // Whoever is here to the end has each stream to its end.
            for (stream, last) in next.iter().filter(|_| here) {
                assert_eq!(last, &self.published[stream], "{stream:?} ended early");
            }
        }
        let ids: BTreeSet<String> = self.nodes.iter().map(Proc::id).collect();
        assert_eq!(ids.len(), NODES);
    }
}

/// The join of a process.
fn epoch(node: &Proc) -> u64 {
    node.wait("listening", ONLINE).event["epoch"].as_u64().unwrap()
}

#[test]
fn nodes_are_replaced_one_by_one_by_a_newer_release_and_back() {
    let mut mesh = Mesh::start(Release::Older);
    for index in 0..NODES {
        mesh.replace(index, Release::Newer);
    }
    mesh.talk(None);
    mesh.settle();
    for index in (0..NODES).rev() {
        mesh.replace(index, Release::Older);
    }
    mesh.talk(None);
    mesh.settle();
    mesh.check();
}
