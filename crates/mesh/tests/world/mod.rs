//! A small deterministic world for tests: nodes, links with delay, a virtual clock.
//!
//! It plays the driver: it carries frames between nodes *encoded and decoded*, so that the
//! codec is on the path, does signatures by a stand-in (a keyed hash would add nothing here),
//! and lets a test drop, cut or slow links. Same seed, same run.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    missing_debug_implementations,
    clippy::unwrap_used,
    clippy::large_enum_variant,
    reason = "a test fixture of which each test file uses its part"
)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use peerchannel_mesh::{
    Candidate, Config, Delivery, DialFailure, Event, Input, Lane, LinkId, LinkLoss, LinkOpened, Me, Node,
    Output, Time,
};
use peerchannel_wire::{
    AdmissionRefusal, ChannelName, ControlFrame, DataFrame, DataLane, Epoch, Features, FrameDecoder,
    LaneDecoder, LaneEncoder, LinkNumber, MemberFacts, MemberName, MemberRecord, MeshId, NodeId, Signature,
    Transcript, decode_volatile, encode_datagram, limits, split_datagram,
};

pub const DELAY: Duration = Duration::from_millis(5);

/// One end of a link.
struct End {
    node: usize,
    link: LinkId,
    encoders: BTreeMap<DataLane, LaneEncoder>,
    decoders: BTreeMap<DataLane, LaneDecoder>,
}

struct Wire {
    number: LinkNumber,
    ends: [End; 2],
    /// Frames are dropped silently: a dead cable, noticed only when the test breaks the link.
    dead: bool,
}

enum Happening {
    Control { wire: usize, to: usize, bytes: Bytes },
    Data { wire: usize, to: usize, lane: DataLane, bytes: Bytes },
    Datagram { wire: usize, to: usize, bytes: Bytes },
    LanesFinished { wire: usize, to: usize },
    Gone { wire: usize, to: usize, loss: LinkLoss },
    Input { node: usize, input: Input },
}

pub struct Member {
    pub node: Option<Node>,
    pub id: NodeId,
    pub epoch: u64,
    pub config: Config,
    pub delivered: Vec<Delivery>,
    pub events: Vec<Event>,
    /// Whom the resolver names to it.
    pub knows: Vec<usize>,
}

pub struct World {
    pub now: Time,
    pub members: Vec<Member>,
    wires: Vec<Wire>,
    by_link: BTreeMap<(usize, LinkId), usize>,
    queue: BTreeMap<(Time, u64), Happening>,
    order: u64,
    next_link: u64,
    /// Pairs that cannot reach each other.
    pub cut: BTreeSet<(usize, usize)>,
    /// Invariant checks of every delivery: (receiver, stream) -> last sequence.
    last: BTreeMap<(usize, String), u64>,
    forged: bool,
    frames: u64,
    /// Of each node: dials, and questions to resolvers.
    actions: BTreeMap<usize, u64>,
    /// Questions and answers about suspects since a test cleared them.
    pub sent: Vec<(usize, LinkId, ControlFrame)>,
    /// Nodes that answer but have not joined the mesh yet.
    pub unjoined: BTreeSet<usize>,
    /// Wires, in the order they were made, that take longer than others.
    pub slow: BTreeMap<usize, Duration>,
    /// One-way delays between nodes beyond the usual.
    pub distance: BTreeMap<(usize, usize), Duration>,
    /// What each node offers.
    pub features: fn(usize) -> Features,
    /// Something of the neighborhood feature was sent on a link without it.
    pub spoke_without_feature: bool,
    /// Nodes whose process is stopped, and what waits for them.
    stopped: BTreeMap<usize, Vec<Happening>>,
}

pub fn channel(name: &str) -> ChannelName {
    ChannelName::new(name).unwrap()
}

pub fn address(index: usize) -> SocketAddr {
    ([127, 0, 0, 1], 1000 + u16::try_from(index).unwrap()).into()
}

pub fn node_id(index: usize) -> NodeId {
    NodeId::from_bytes([u8::try_from(index + 1).unwrap(); 32])
}

/// A stand-in for Ed25519: bound to signer and content, which is all the core relies on.
pub fn sign(signer: NodeId, transcript: &Transcript) -> Signature {
    let mut bytes = [0u8; 64];
    for (index, byte) in transcript.as_bytes().iter().enumerate() {
        let slot = index % 64;
        bytes[slot] =
            bytes[slot].wrapping_mul(31).wrapping_add(*byte).wrapping_add(signer.as_bytes()[index % 32]);
    }
    Signature::from_bytes(bytes)
}

impl World {
    pub fn new(count: usize, config: &Config) -> Self {
        let mut world = Self {
            now: Time::ZERO,
            members: Vec::new(),
            wires: Vec::new(),
            by_link: BTreeMap::new(),
            queue: BTreeMap::new(),
            order: 0,
            next_link: 0,
            cut: BTreeSet::new(),
            last: BTreeMap::new(),
            forged: false,
            frames: 0,
            actions: BTreeMap::new(),
            sent: Vec::new(),
            unjoined: BTreeSet::new(),
            slow: BTreeMap::new(),
            distance: BTreeMap::new(),
            features: |_| Features::SUPPORTED,
            spoke_without_feature: false,
            stopped: BTreeMap::new(),
        };
        for _ in 0..count {
            world.add(config, Vec::new());
        }
        world
    }

    /// One more member, to be started, whose resolver names those to it.
    pub fn add(&mut self, config: &Config, knows: Vec<usize>) {
        self.members.push(Member {
            node: None,
            id: node_id(self.members.len()),
            epoch: 0,
            config: config.clone(),
            delivered: Vec::new(),
            events: Vec::new(),
            knows,
        });
    }

    /// Everyone is told of everyone, and starts.
    pub fn full(count: usize, config: &Config) -> Self {
        let mut world = Self::new(count, config);
        for index in 0..count {
            world.members[index].knows = (0..count).filter(|other| *other != index).collect();
            world.start(index);
        }
        world
    }

    /// Each is told of the one before; limits keep it a line. `ring` closes it.
    pub fn line(count: usize, ring: bool) -> Self {
        let mut config = Config::default();
        (config.neighbors_low, config.neighbors_target, config.neighbors_high) = (1, 2, 2);
        config.full_mesh_members_max = 1;
        let mut world = Self::new(count, &config);
        for a in 0..count {
            for b in 0..count {
                let adjacent = a.abs_diff(b) == 1 || (ring && a.abs_diff(b) == count - 1);
                if a != b && !adjacent {
                    world.cut.insert((a, b));
                }
            }
        }
        for index in 0..count {
            world.members[index].knows = if index > 0 { vec![index - 1] } else { Vec::new() };
            if ring && index == count - 1 {
                world.members[index].knows.push(0);
            }
            world.start(index);
        }
        world
    }

    pub fn start(&mut self, index: usize) {
        let member = &mut self.members[index];
        member.epoch += 1;
        let mut seed = [0; 32];
        seed[0] = u8::try_from(index).unwrap();
        seed[1] = u8::try_from(member.epoch).unwrap();
        let me = Me {
            mesh: MeshId::from_bytes([9; 32]),
            node: member.id,
            epoch: Epoch::new(member.epoch).unwrap(),
            name: MemberName::new(&format!("n{index}")).unwrap(),
            addresses: vec![address(index)],
            wall_ms: 1_000_000,
        };
        member.node = Some(Node::new(member.config.clone(), me, seed, self.now).unwrap());
        self.drain(index);
    }

    /// The process dies; its neighbors learn it only when `notice` has passed.
    pub fn kill(&mut self, index: usize, notice: Duration) {
        self.kill_unevenly(index, notice, Duration::ZERO);
    }

    /// The same, but the neighbors notice one by one, this far apart.
    pub fn kill_unevenly(&mut self, index: usize, mut notice: Duration, apart: Duration) {
        self.members[index].node = None;
        for wire in 0..self.wires.len() {
            for end in 0..2 {
                if self.wires[wire].ends[end].node == index && !self.wires[wire].dead {
                    self.wires[wire].dead = true;
                    let at = self.now + notice;
                    self.later(at, Happening::Gone { wire, to: 1 - end, loss: LinkLoss::TimedOut });
                    let other = &self.wires[wire].ends[1 - end];
                    if self.by_link.contains_key(&(other.node, other.link)) {
                        notice += apart;
                    }
                }
            }
        }
    }

    /// The process is stopped: it hears nothing and does nothing.
    pub fn stop(&mut self, index: usize) {
        self.stopped.insert(index, Vec::new());
    }

    /// It goes on, with what waited for it.
    pub fn cont(&mut self, index: usize) {
        for happening in self.stopped.remove(&index).unwrap_or_default() {
            self.later(self.now, happening);
        }
    }

    /// A stopped node's neighbors notice.
    pub fn give_up(&mut self, index: usize) {
        for other in 0..self.members.len() {
            if other != index {
                self.break_link(index, other);
            }
        }
    }

    fn whom(&self, happening: &Happening) -> usize {
        match happening {
            Happening::Input { node, .. } => *node,
            Happening::Control { wire, to, .. }
            | Happening::Data { wire, to, .. }
            | Happening::Datagram { wire, to, .. }
            | Happening::LanesFinished { wire, to }
            | Happening::Gone { wire, to, .. } => self.wires[*wire].ends[*to].node,
        }
    }

    /// Breaks the link between two nodes: what is on the way is lost, both ends are told.
    pub fn break_link(&mut self, a: usize, b: usize) {
        for wire in 0..self.wires.len() {
            let ends = [self.wires[wire].ends[0].node, self.wires[wire].ends[1].node];
            if !self.wires[wire].dead && (ends == [a, b] || ends == [b, a]) {
                self.wires[wire].dead = true;
                for to in 0..2 {
                    self.later(self.now, Happening::Gone { wire, to, loss: LinkLoss::TimedOut });
                }
            }
        }
    }

    /// Breaks the link between two nodes: `a` is told, `b` is not.
    pub fn lose_end(&mut self, a: usize, b: usize) {
        for wire in 0..self.wires.len() {
            let ends = [self.wires[wire].ends[0].node, self.wires[wire].ends[1].node];
            if !self.wires[wire].dead && (ends == [a, b] || ends == [b, a]) {
                self.wires[wire].dead = true;
                let to = usize::from(ends == [b, a]);
                self.later(self.now, Happening::Gone { wire, to, loss: LinkLoss::ClosedLocally });
            }
        }
    }

    /// What `a` calls its link to `b`.
    pub fn link(&self, a: usize, b: usize) -> LinkId {
        let known = |(node, link): &(usize, LinkId), wire: usize| {
            let ends = &self.wires[wire].ends;
            *node == a && ends.iter().any(|end| end.node == b) && ends.iter().any(|end| end.link == *link)
        };
        self.by_link.iter().find(|(key, wire)| known(key, **wire)).unwrap().0.1
    }

    /// The cable between two nodes swallows everything from now on, unnoticed.
    pub fn swallow(&mut self, a: usize, b: usize) {
        for wire in &mut self.wires {
            let ends = [wire.ends[0].node, wire.ends[1].node];
            if ends == [a, b] || ends == [b, a] {
                wire.dead = true;
            }
        }
    }

    /// Both ends of every dead cable find out now.
    pub fn notice_dead(&mut self) {
        for wire in 0..self.wires.len() {
            if self.wires[wire].dead {
                for to in 0..2 {
                    self.later(self.now, Happening::Gone { wire, to, loss: LinkLoss::TimedOut });
                }
            }
        }
    }

    /// Frames sent so far.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    /// What a node said of itself when it started.
    pub fn record(&self, index: usize) -> MemberRecord {
        let member = &self.members[index];
        let name = MemberName::new(&format!("n{index}")).unwrap();
        let facts = MemberFacts::new(member.id, Epoch::new(member.epoch.max(1)).unwrap(), 0, name);
        let unsigned = MemberFacts { addresses: vec![address(index)], ..facts }.unsigned();
        let transcript = unsigned.transcript(&MeshId::from_bytes([9; 32]));
        unsigned.sign(sign(member.id, &transcript))
    }

    /// How often a node dialed somebody or asked its resolvers.
    pub fn actions(&self, index: usize) -> u64 {
        self.actions.get(&index).copied().unwrap_or(0)
    }

    pub fn linked(&self, a: usize, b: usize) -> bool {
        let id = self.members[b].id;
        self.members[a].node.as_ref().is_some_and(|node| node.neighbors().any(|n| n.node == id))
    }

    pub fn neighbors(&self, index: usize) -> usize {
        self.members[index].node.as_ref().map_or(0, |node| node.neighbors().count())
    }

    pub fn node(&mut self, index: usize) -> &mut Node {
        self.members[index].node.as_mut().unwrap()
    }

    pub fn publish(&mut self, index: usize, text: &str) {
        let now = self.now;
        let payload = Bytes::from(text.to_owned());
        self.node(index).publish(now, &channel("c"), payload).unwrap();
        self.drain(index);
    }

    /// Whether the message was accepted.
    pub fn try_publish(&mut self, index: usize, text: &str) -> bool {
        let now = self.now;
        let payload = Bytes::from(text.to_owned());
        let accepted = self.node(index).publish(now, &channel("c"), payload).is_ok();
        self.drain(index);
        accepted
    }

    pub fn with(&mut self, index: usize, act: impl FnOnce(&mut Node, Time)) {
        let now = self.now;
        act(self.node(index), now);
        self.drain(index);
    }

    pub fn input(&mut self, index: usize, input: Input) {
        let now = self.now;
        self.node(index).handle(now, input);
        self.drain(index);
    }

    pub fn link_to(&self, a: usize, b: usize) -> Option<LinkId> {
        self.wires.iter().filter(|w| !w.dead).find_map(|wire| {
            let [x, y] = &wire.ends;
            match () {
                () if (x.node, y.node) == (a, b) => Some(x.link),
                () if (y.node, x.node) == (a, b) => Some(y.link),
                () => None,
            }
        })
    }

    /// Signatures made from now on are wrong.
    pub fn forge(&mut self) {
        self.forged = true;
    }

    pub fn texts(&self, index: usize) -> Vec<String> {
        self.members[index]
            .delivered
            .iter()
            .map(|d| String::from_utf8_lossy(&d.payload).into_owned())
            .collect()
    }

    pub fn saw(&self, index: usize, what: impl Fn(&Event) -> bool) -> bool {
        self.members[index].events.iter().any(what)
    }

    pub fn gaps(&self) -> usize {
        self.members.iter().flat_map(|m| &m.events).filter(|e| matches!(e, Event::Gap { .. })).count()
    }

    /// Runs until `done`, at most `limit` of virtual time. Panics with the state if it never is.
    pub fn run_until(&mut self, limit: Duration, what: &str, done: impl Fn(&Self) -> bool) {
        let end = self.now + limit;
        while !done(self) {
            assert!(self.step(end), "not within {limit:?}: {what} (at {:?})", self.now);
        }
    }

    pub fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.step(end) {}
        self.now = end;
    }

    /// The next thing that happens, if it is before `end`.
    fn step(&mut self, end: Time) -> bool {
        let timer = (0..self.members.len())
            .filter(|i| !self.stopped.contains_key(i))
            .filter_map(|i| self.members[i].node.as_ref()?.poll_timeout().map(|at| (at, i)))
            .min();
        let queued = self.queue.first_key_value().map(|((at, _), _)| *at);
        match (timer, queued) {
            (Some((at, index)), queued) if queued.is_none_or(|q| at < q) => {
                if at > end {
                    return false;
                }
                self.now = self.now.max(at);
                self.input(index, Input::Timeout);
                true
            }
            (_, Some(at)) if at <= end => {
                self.now = self.now.max(at);
                let (_, happening) = self.queue.pop_first().unwrap();
                self.happen(happening);
                true
            }
            _ => false,
        }
    }

    fn later(&mut self, at: Time, happening: Happening) {
        self.order += 1;
        self.queue.insert((at, self.order), happening);
    }

    fn happen(&mut self, happening: Happening) {
        let whom = self.whom(&happening);
        if let Some(waiting) = self.stopped.get_mut(&whom) {
            return waiting.push(happening);
        }
        match happening {
            Happening::Input { node, input } => {
                if self.members[node].node.is_some() {
                    self.input(node, input);
                }
            }
            Happening::Control { wire, to, bytes } => {
                if let Some((node, link)) = self.receiver(wire, to) {
                    let frame = ControlFrame::decode(unframe(&bytes, limits::CONTROL_FRAME_MAX)).unwrap();
                    self.input(node, Input::Control { link, frame });
                }
            }
            Happening::Data { wire, to, lane, bytes } => {
                if let Some((node, link)) = self.receiver(wire, to) {
                    let decoder = self.wires[wire].ends[to].decoders.entry(lane).or_default();
                    let frame = decoder.decode(unframe(&bytes, limits::BULK_FRAME_MAX)).unwrap();
                    self.input(node, Input::Data { link, frame });
                }
            }
            Happening::Datagram { wire, to, bytes } => {
                if let Some((node, link)) = self.receiver(wire, to) {
                    let (_, body) = split_datagram(bytes).unwrap();
                    let frame = DataFrame::Volatile(decode_volatile(body).unwrap());
                    self.input(node, Input::Data { link, frame });
                }
            }
            Happening::LanesFinished { wire, to } => {
                if let Some((node, link)) = self.receiver(wire, to) {
                    self.input(node, Input::LaneFinished { link });
                    self.input(node, Input::LaneFinished { link });
                }
            }
            Happening::Gone { wire, to, loss } => {
                let end = &self.wires[wire].ends[to];
                let (node, link) = (end.node, end.link);
                if self.by_link.remove(&(node, link)).is_some() && self.members[node].node.is_some() {
                    self.input(node, Input::LinkClosed { link, loss });
                }
            }
        }
    }

    fn receiver(&self, wire: usize, to: usize) -> Option<(usize, LinkId)> {
        let end = &self.wires[wire].ends[to];
        let known = self.by_link.contains_key(&(end.node, end.link));
        (known && !self.wires[wire].dead && self.members[end.node].node.is_some())
            .then_some((end.node, end.link))
    }

    fn drain(&mut self, index: usize) {
        let mut outputs = VecDeque::new();
        loop {
            while let Some(output) = self.members[index].node.as_mut().and_then(Node::poll_output) {
                outputs.push_back(output);
            }
            let Some(output) = outputs.pop_front() else { return };
            self.obey(index, output);
        }
    }

    fn obey(&mut self, index: usize, output: Output) {
        if matches!(output, Output::Dial { .. } | Output::Resolve) {
            *self.actions.entry(index).or_default() += 1;
        }
        let id = self.members[index].id;
        match output {
            Output::Sign { job, transcript } => {
                let mut signature = sign(id, &transcript);
                if self.forged {
                    signature = Signature::from_bytes([0xee; 64]);
                }
                self.input(index, Input::Signed { job, signature });
            }
            Output::Verify { job, signer, transcript, signature } => {
                let valid = sign(signer, &transcript) == signature;
                self.input(index, Input::Verified { job, valid });
            }
            Output::Resolve => {
                let candidates = self.members[index]
                    .knows
                    .iter()
                    .map(|other| Candidate { node: None, addresses: vec![address(*other)] })
                    .collect();
                let input = Input::Resolved(candidates);
                self.later(self.now + DELAY, Happening::Input { node: index, input });
            }
            Output::Dial { dial, candidate } => self.dial(index, dial, &candidate),
            Output::Control { link, frame } => self.send_control(index, link, &frame),
            Output::Data { link, frame } => self.send_data(index, link, &frame),
            Output::Establish { .. } => {}
            Output::Finish { link, farewell } => {
                let Some(wire) = self.by_link.get(&(index, link)).copied() else { return };
                let to = self.other(wire, index, link);
                self.later(self.arrival(wire), Happening::LanesFinished { wire, to });
                self.send_control(index, link, &farewell.into());
                self.by_link.remove(&(index, link));
                self.input(index, Input::LinkClosed { link, loss: LinkLoss::ClosedLocally });
                let loss = LinkLoss::ClosedByPeer("finished".into());
                self.later(self.arrival(wire), Happening::Gone { wire, to, loss });
            }
            Output::Close { link, cause } => {
                let Some(wire) = self.by_link.remove(&(index, link)) else { return };
                let to = self.other(wire, index, link);
                let loss = LinkLoss::ClosedByPeer(format!("closed: {cause:?}"));
                self.later(self.arrival(wire), Happening::Gone { wire, to, loss });
            }
            Output::Deliver(delivery) => self.deliver(index, delivery),
            Output::Event(event) => self.members[index].events.push(event),
        }
    }

    fn dial(&mut self, index: usize, dial: peerchannel_mesh::DialId, candidate: &Candidate) {
        let target = usize::from(candidate.addresses[0].port()) - 1000;
        let reachable = target < self.members.len()
            && self.members[target].node.is_some()
            && !self.stopped.contains_key(&target)
            && !self.cut.contains(&(index, target));
        let failure = if target == index {
            Some(DialFailure::Oneself)
        } else if self.unjoined.contains(&target) {
            Some(DialFailure::Refused { reason: AdmissionRefusal::UnknownMesh, retry_after: None })
        } else if !reachable {
            Some(DialFailure::Unreachable("cut".into()))
        } else if candidate.node.is_some_and(|node| node != self.members[target].id) {
            Some(DialFailure::WrongNode(self.members[target].id))
        } else {
            None
        };
        if let Some(failure) = failure {
            let input = Input::DialFailed { dial, address: Some(candidate.addresses[0]), failure };
            return self.later(self.now + DELAY, Happening::Input { node: index, input });
        }
        let number = LinkNumber(u32::try_from(self.wires.len()).unwrap());
        let mut end = |node| {
            self.next_link += 1;
            let link = LinkId(self.next_link);
            End { node, link, encoders: BTreeMap::new(), decoders: BTreeMap::new() }
        };
        let ends = [end(index), end(target)];
        let wire = self.wires.len();
        for (side, dial) in [(0, Some(dial)), (1, None)] {
            let (node, link) = (ends[side].node, ends[side].link);
            let other = ends[1 - side].node;
            self.by_link.insert((node, link), wire);
            let input = Input::LinkOpened(LinkOpened {
                link,
                peer: self.members[other].id,
                dial,
                address: address(other),
                number,
                rtt: DELAY * 2,
                features: (self.features)(index) & (self.features)(target),
            });
            self.later(self.now + DELAY * 2, Happening::Input { node, input });
        }
        self.wires.push(Wire { number, ends, dead: false });
    }

    fn arrival(&self, wire: usize) -> Time {
        let [a, b] = &self.wires[wire].ends;
        let distance = self.distance.get(&(a.node, b.node)).copied().unwrap_or_default();
        self.now + DELAY + distance + self.slow.get(&wire).copied().unwrap_or_default()
    }

    fn other(&self, wire: usize, node: usize, link: LinkId) -> usize {
        let first = &self.wires[wire].ends[0];
        usize::from(first.node == node && first.link == link)
    }

    fn send_control(&mut self, index: usize, link: LinkId, frame: &ControlFrame) {
        if matches!(frame, ControlFrame::Probe { .. } | ControlFrame::ProbeResult { .. }) {
            self.sent.push((index, link, frame.clone()));
        }
        let Some(wire) = self.by_link.get(&(index, link)).copied() else { return };
        self.frames += 1;
        let [a, b] = &self.wires[wire].ends;
        if !((self.features)(a.node) & (self.features)(b.node)).contains(Features::NEIGHBORHOOD) {
            self.spoke_without_feature |= match frame {
                ControlFrame::Shuffle(_) => true,
                ControlFrame::Pong(pong) => pong.coordinate.is_some() || pong.balance.is_some(),
                ControlFrame::Connect(connect) => connect.coordinate.is_some(),
                ControlFrame::Welcome(welcome) => welcome.coordinate.is_some(),
                _ => false,
            };
        }
        let bytes = frame.encode();
        assert!(bytes.len() <= limits::CONTROL_FRAME_MAX, "a control frame of {} bytes", bytes.len());
        let to = self.other(wire, index, link);
        self.later(self.arrival(wire), Happening::Control { wire, to, bytes });
    }

    fn send_data(&mut self, index: usize, link: LinkId, frame: &DataFrame) {
        let Some(wire) = self.by_link.get(&(index, link)).copied() else { return };
        let to = self.other(wire, index, link);
        let lane = match frame {
            DataFrame::Flood(flood) if flood.batch.is_bulk() => DataLane::Bulk,
            _ => DataLane::Interactive,
        };
        self.frames += 1;
        let number = self.wires[wire].number;
        let encoder = self.wires[wire].ends[1 - to].encoders.entry(lane).or_default();
        let encoded = match frame {
            DataFrame::Flood(flood) => encoder.flood(flood),
            DataFrame::Local(local) => encoder.local(local),
            DataFrame::Volatile(volatile) => {
                let bytes = encode_datagram(number, volatile);
                return self.later(self.arrival(wire), Happening::Datagram { wire, to, bytes });
            }
        };
        let bytes = Bytes::from([encoded.head, encoded.body].concat());
        self.later(self.arrival(wire), Happening::Data { wire, to, lane, bytes });
    }

    /// Every delivery of every test is checked: in order, once, or after an exact gap.
    fn deliver(&mut self, index: usize, delivery: Delivery) {
        if delivery.lane == peerchannel_mesh::DeliveryLane::Reliable && !delivery.own {
            let key = (index, format!("{:?}/{}", delivery.stream, self.members[index].epoch));
            if let Some(last) = self.last.get(&key) {
                let gap = self.members[index].events.iter().any(|event| {
                    matches!(event, Event::Gap { stream, first, last: end, .. }
                        if *stream == delivery.stream && first.get() == last + 1 && end.get() + 1 == delivery.sequence.get())
                });
                assert!(
                    delivery.sequence.get() == last + 1 || gap,
                    "node {index}: {:?} after {last} without a gap",
                    delivery.sequence
                );
            }
            self.last.insert(key, delivery.sequence.get());
        }
        self.members[index].delivered.push(delivery);
    }

    pub fn queue_level(&mut self, a: usize, b: usize, full: bool) {
        let link = self.link_to(a, b).unwrap();
        let lane = Lane::Data;
        self.input(
            a,
            if full { Input::QueueFull { link, lane } } else { Input::QueueDrained { link, lane } },
        );
    }
}

fn unframe(bytes: &[u8], limit: usize) -> Bytes {
    let mut decoder = FrameDecoder::new(limit);
    decoder.push(bytes);
    let frame = decoder.next_frame().unwrap().unwrap();
    assert_eq!(decoder.pending(), 0);
    frame
}

/// A frame as it arrives after it was sent.
pub fn through_codec(frame: &ControlFrame) -> ControlFrame {
    ControlFrame::decode(unframe(&frame.encode(), limits::CONTROL_FRAME_MAX)).unwrap()
}
