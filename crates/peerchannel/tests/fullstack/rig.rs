//! Many whole nodes on a simulated network, and what they saw.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use peerchannel::{Identity, Incoming, MemberLoss, Mesh, MeshEvent, Node, NodeId};
use peerchannel_simnet::{Conditions, Network, Traffic};
use rand::RngExt;
use rand::{SeedableRng, seq::IteratorRandom};
use rand_chacha::ChaCha8Rng;
use tokio::time::{Instant, sleep_until};

use crate::directory::Directory;
use crate::places::Places;
use crate::schedule::{JITTER, JOINING, NODES, UPLINK};

pub(crate) struct Rig {
    pub(crate) network: Network,
    pub(crate) begin: Instant,
    pub(crate) members: Vec<Option<Member>>,
    pub(crate) seen: Arc<Mutex<Seen>>,
    pub(crate) chance: ChaCha8Rng,
}

pub(crate) struct Member {
    pub(crate) mesh: Mesh,
    pub(crate) id: NodeId,
    _node: Node,
}

/// What all nodes saw.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// From the start of each node to its first neighbor.
    pub(crate) joining: Vec<Duration>,
    /// When the last node had one.
    pub(crate) all_online: Duration,
    published: Vec<Instant>,
    /// Delays by message.
    pub(crate) deliveries: BTreeMap<u32, Vec<Duration>>,
    /// Neighbors lost: by whom, which, when.
    pub(crate) neighbors_down: Vec<(usize, NodeId, Instant)>,
    /// Members that failed: by whom, which, when.
    pub(crate) members_down: Vec<(usize, NodeId, Instant)>,
    /// Things that must not happen.
    pub(crate) wrong: Vec<String>,
}

impl Rig {
    /// Starts the nodes and waits until each has a neighbor.
    pub(crate) async fn start(seed: u64) -> Self {
        let mut chance = ChaCha8Rng::seed_from_u64(seed);
        let places = Places::new(NODES, &mut chance);
        let conditions = Conditions { jitter: JITTER, uplink: Some(UPLINK), ..Conditions::default() };
        let network = Network::new(seed, conditions, move |a, b| places.delay(a, b));
        let directory = Directory::new(ChaCha8Rng::seed_from_u64(chance.random()));
        let begin = Instant::now();
        let mut rig = Self { network, begin, members: Vec::new(), seen: Arc::default(), chance };
        for index in 0..NODES {
            sleep_until(begin + JOINING.mul_f64(index as f64 / NODES as f64)).await;
            let member = rig.join(index, &directory).await;
            rig.members.push(Some(member));
        }
        for member in rig.members.iter().flatten() {
            member.mesh.wait_online().await.unwrap();
        }
        rig.seen().all_online = begin.elapsed();
        rig
    }

    async fn join(&mut self, index: usize, directory: &Directory) -> Member {
        let started = Instant::now();
        let socket = self.network.socket(Places::address(index));
        let identity = Identity::from_seed(&self.chance.random());
        let node = Node::options().identity_key(identity).socket(socket).start().await.unwrap();
        let name = format!("n{index}");
        let mesh = node.join("rig").open().name(name).custom_resolver(directory.clone()).await.unwrap();
        let (mut events, mut inbox) = (mesh.events(), mesh.subscribe_all());
        // Both end with the mesh.
        let seen = self.seen.clone();
        tokio::spawn(async move {
            let mut online = false;
            while let Some(event) = events.next().await {
                let (now, mut seen) = (Instant::now(), seen.lock().unwrap());
                match event {
                    MeshEvent::Online if !online => {
                        online = true;
                        seen.joining.push(now - started);
                    }
                    MeshEvent::NeighborDown { node, .. } => seen.neighbors_down.push((index, node, now)),
                    MeshEvent::MemberDown { node, reason: MemberLoss::Failed, .. } => {
                        seen.members_down.push((index, node, now));
                    }
                    _ => {}
                }
            }
        });
        let seen = self.seen.clone();
        tokio::spawn(async move {
            while let Some(incoming) = inbox.next().await {
                let (now, mut seen) = (Instant::now(), seen.lock().unwrap());
                match incoming {
                    Incoming::Message(message) => {
                        let number = u32::from_be_bytes(message.payload[..4].try_into().unwrap());
                        let delay = now - seen.published[number as usize];
                        seen.deliveries.entry(number).or_default().push(delay);
                    }
                    other => seen.wrong.push(format!("node {index}: {other:?}")),
                }
            }
        });
        let id = node.node_id();
        Member { mesh, id, _node: node }
    }

    pub(crate) fn seen(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap()
    }

    /// Waits until a time since the beginning.
    pub(crate) async fn until(&self, seconds: u64) {
        sleep_until(self.begin + Duration::from_secs(seconds)).await;
    }

    /// What each node has sent so far.
    pub(crate) fn sent(&self) -> Vec<Traffic> {
        (0..self.members.len()).map(|index| self.network.sent(Places::address(index))).collect()
    }

    /// Neighbors of each node that runs.
    pub(crate) async fn degrees(&self) -> Vec<usize> {
        let mut degrees = Vec::new();
        for member in self.members.iter().flatten() {
            degrees.push(member.mesh.status().await.unwrap().neighbors.len());
        }
        degrees
    }

    /// First and further copies of messages that came in at all nodes.
    pub(crate) async fn copies(&self) -> (u64, u64) {
        let (mut first, mut further) = (0, 0);
        for member in self.members.iter().flatten() {
            let stats = member.mesh.stats().await.unwrap().mesh;
            first += stats.delivered;
            further += stats.duplicates;
        }
        (first, further)
    }

    /// Publishes at random times for so long, by random ones of so many publishers.
    pub(crate) async fn publish(&mut self, per_second: f64, publishers: usize, bytes: usize, seconds: u64) {
        let publishers = (0..self.members.len()).sample(&mut self.chance, publishers);
        let (begin, until) = (Instant::now(), Duration::from_secs(seconds));
        let mut at = Duration::ZERO;
        loop {
            let even: f64 = self.chance.random_range(f64::MIN_POSITIVE..1.0);
            at += Duration::from_secs_f64(-even.ln() / per_second);
            if at > until {
                return sleep_until(begin + until).await;
            }
            sleep_until(begin + at).await;
            let publisher = publishers.iter().copied().choose(&mut self.chance).unwrap();
            let number = {
                let mut seen = self.seen();
                seen.published.push(Instant::now());
                u32::try_from(seen.published.len() - 1).unwrap()
            };
            let mut payload = number.to_be_bytes().to_vec();
            payload.resize(bytes, 0xa5);
            let channel = self.members[publisher].as_ref().unwrap().mesh.channel("c");
            channel.publish(Bytes::from(payload)).await.unwrap();
        }
    }

    pub(crate) fn published(&self) -> usize {
        self.seen().published.len()
    }

    /// A random node dies without a word: which, and how many neighbors it had.
    pub(crate) async fn kill_one(&mut self) -> (NodeId, usize) {
        let up = (0..NODES).filter(|index| self.members[*index].is_some());
        let index = up.choose(&mut self.chance).unwrap();
        let member = self.members[index].take().unwrap();
        let neighbors = member.mesh.status().await.unwrap().neighbors.len();
        self.network.silence(Places::address(index));
        (member.id, neighbors)
    }
}
