//! A stage for one node: the test plays everybody else.
//!
//! What a world of many nodes does by itself a test says here: who opens a link and of what
//! kind, what a peer answers to a dial, what its pongs tell. Everything the node does is
//! written down with its time. Virtual time; same seed, same run.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    missing_debug_implementations,
    clippy::unwrap_used,
    clippy::large_enum_variant,
    reason = "a test fixture of which each test file uses its part"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use peerchannel_mesh::{
    Candidate, CloseCause, Config, DialFailure, DialId, Event, Farewell, Input, LinkId, LinkLoss, LinkOpened,
    Me, Node, Output, Time,
};
use peerchannel_wire::{
    Balance, ChannelName, Connect, ControlFrame, Coordinate, DataFrame, Disconnect, DisconnectReason, Epoch,
    Features, Flood, LinkKind, LinkNumber, LinkPurpose, Member, MemberFacts, MemberName, MemberRecord,
    MemberStatus, MeshId, NodeId, Pong, Refuse, RefuseReason, Sequence, Signature, StreamId, UnsignedBatch,
    Welcome,
};

pub const SECOND: Duration = Duration::from_secs(1);

/// The node on the stage, if nothing else is said. Its id is less than those of its peers.
pub const ME: NodeId = NodeId::from_bytes([0x55; 32]);

/// A node whose id is greater than those of its peers.
pub const GREATER: NodeId = NodeId::from_bytes([0xff; 32]);

/// What a peer does when it is dialed.
#[derive(Debug, Clone)]
pub enum Answer {
    /// It becomes a neighbor.
    Welcome,
    /// It refuses to.
    Refuse(RefuseReason),
    /// The dial fails.
    Fail(DialFailure),
    /// Nothing.
    Hang,
    /// It admits the link and says nothing.
    Silent,
    /// It admits the link and closes it without a word.
    Shut,
}

/// What the node did.
#[derive(Debug, Clone)]
pub enum Did {
    Dial(DialId),
    /// Sent a control frame that is no farewell.
    Send(ControlFrame),
    /// Ended a link with a last word.
    End(Farewell),
    Close(CloseCause),
}

pub struct Stage {
    pub now: Time,
    pub node: Node,
    /// What the node did, when, and with whom.
    pub log: Vec<(Time, u16, Did)>,
    /// When it asked its resolvers.
    pub resolved: Vec<Time>,
    pub events: Vec<Event>,
    /// Round trips to peers, if not 10 ms.
    pub rtt: BTreeMap<u16, Duration>,
    /// What pongs of peers tell, if not that they can lose no link.
    pub balance: BTreeMap<u16, Balance>,
    pub place: BTreeMap<u16, Coordinate>,
    /// What peers do when they are dialed, if not to fail.
    pub answers: BTreeMap<u16, Answer>,
    /// Peers whose records say that and where they can be dialed.
    pub addressed: BTreeSet<u16>,
    /// Where, if not on this machine.
    pub at: BTreeMap<u16, SocketAddr>,
    /// Peers that do not answer pings.
    pub mute: BTreeSet<u16>,
    /// Peers know of nobody who is gone.
    pub vouch: bool,
    pub features: Features,
    /// Whom the resolvers name.
    pub named: Vec<u16>,
    links: BTreeMap<LinkId, u16>,
    // In the order they came up.
    up: Vec<LinkId>,
    queue: BTreeMap<(Time, u64), Input>,
    order: u64,
}

/// A peer, by its number.
pub fn id(n: u16) -> NodeId {
    let mut bytes = [0xee; 32];
    bytes[..2].copy_from_slice(&(0x8000 | n).to_be_bytes());
    NodeId::from_bytes(bytes)
}

pub fn number(node: NodeId) -> u16 {
    u16::from_be_bytes([node.as_bytes()[0], node.as_bytes()[1]]) & 0x7fff
}

pub fn goodbye(reason: DisconnectReason) -> ControlFrame {
    ControlFrame::Disconnect(Disconnect { reason, referrals: vec![] })
}

impl Stage {
    pub fn new(config: &Config) -> Self {
        Self::seeded(config, 1)
    }

    pub fn seeded(config: &Config, seed: u8) -> Self {
        Self::of(ME, config, seed)
    }

    pub fn of(node: NodeId, config: &Config, seed: u8) -> Self {
        let me = Me {
            mesh: MeshId::from_bytes([9; 32]),
            node,
            epoch: Epoch::new(1).unwrap(),
            name: MemberName::default(),
            addresses: vec![([127, 0, 0, 1], 999).into()],
            wall_ms: 0,
        };
        let mut stage = Self {
            now: Time::ZERO,
            node: Node::new(config.clone(), me, [seed; 32], Time::ZERO).unwrap(),
            log: Vec::new(),
            resolved: Vec::new(),
            events: Vec::new(),
            rtt: BTreeMap::new(),
            balance: BTreeMap::new(),
            place: BTreeMap::new(),
            answers: BTreeMap::new(),
            addressed: BTreeSet::new(),
            at: BTreeMap::new(),
            mute: BTreeSet::new(),
            vouch: true,
            features: Features::SUPPORTED,
            named: Vec::new(),
            links: BTreeMap::new(),
            up: Vec::new(),
            queue: BTreeMap::new(),
            order: 0,
        };
        stage.drain();
        stage
    }

    /// A node of which nothing but its links is looked at: it checks no random members.
    pub fn without_audits(mut config: Config) -> Self {
        config.audit_interval = 86_400 * SECOND;
        Self::new(&config)
    }

    // ---- what others do ----------------------------------------------------

    pub fn address(&self, n: u16) -> SocketAddr {
        self.at.get(&n).copied().unwrap_or_else(|| ([127, 0, 0, 1], 2000 + n).into())
    }

    pub fn candidate(&self, n: u16) -> Candidate {
        Candidate { node: Some(id(n)), addresses: vec![self.address(n)] }
    }

    pub fn record(&self, n: u16, epoch: u64) -> MemberRecord {
        let facts = MemberFacts::new(id(n), Epoch::new(epoch).unwrap(), 0, MemberName::default());
        let addresses = if self.addressed.contains(&n) { vec![self.address(n)] } else { vec![] };
        let dialable = !addresses.is_empty();
        MemberFacts { addresses, dialable, ..facts }.unsigned().sign(Signature::from_bytes([7; 64]))
    }

    pub fn connect(&self, n: u16) -> Connect {
        Connect {
            epoch: Epoch::new(1).unwrap(),
            purpose: LinkPurpose::Neighbor,
            joining: false,
            urgent: false,
            kind: LinkKind::Near,
            coordinate: None,
            healing: false,
            lacking: true,
            member: self.record(n, 1),
        }
    }

    /// A peer opens a link and says nothing yet.
    pub fn admitted(&mut self, n: u16) -> LinkId {
        let link = self.new_link(n);
        let opened = self.opened(n, link, None);
        self.input(Input::LinkOpened(opened));
        link
    }

    /// A peer opens a link and sends its Connect, with these changes.
    pub fn opens(&mut self, n: u16, change: impl FnOnce(&mut Connect)) -> LinkId {
        let link = self.admitted(n);
        let mut connect = self.connect(n);
        change(&mut connect);
        self.control(link, ControlFrame::Connect(connect));
        link
    }

    /// Peers open near links, one each.
    pub fn near(&mut self, peers: impl IntoIterator<Item = u16>) {
        for n in peers {
            self.opens(n, |_| ());
        }
    }

    /// A peer that is a neighbor says goodbye.
    pub fn leaves(&mut self, n: u16, reason: DisconnectReason) {
        let link = self.link(n);
        self.control(link, goodbye(reason));
        self.input(Input::LaneFinished { link });
        self.input(Input::LaneFinished { link });
    }

    pub fn control(&mut self, link: LinkId, frame: ControlFrame) {
        self.input(Input::Control { link, frame });
    }

    /// The link breaks.
    pub fn lose(&mut self, n: u16) {
        let link = self.link(n);
        self.links.remove(&link);
        self.input(Input::LinkClosed { link, loss: LinkLoss::TimedOut });
    }

    /// The node hears of members with which it has no link.
    pub fn teach(&mut self, by: u16, members: impl IntoIterator<Item = u16>) {
        self.report(by, members, MemberStatus::Alive);
    }

    /// A neighbor says what became of members.
    pub fn report(&mut self, by: u16, members: impl IntoIterator<Item = u16>, status: MemberStatus) {
        let said = |n| Member { status, record: self.record(n, 1) };
        let members: Vec<Member> = members.into_iter().map(said).collect();
        let link = self.link(by);
        self.control(link, ControlFrame::Members(members));
    }

    /// Messages of a stranger, from this one on.
    pub fn flood(&self, first: u64, count: usize) -> DataFrame {
        let payloads = vec![Bytes::from_static(b"x"); count];
        let batch = UnsignedBatch::new(Sequence::new(first).unwrap(), 0, payloads).unwrap().sign(None);
        let (origin, epoch) = (id(0x7000), Epoch::new(1).unwrap());
        let stream = StreamId { origin, epoch, channel: ChannelName::new("c").unwrap() };
        DataFrame::Flood(Flood { stream, hops: 1, batch: Arc::new(batch) })
    }

    /// A neighbor passes them on.
    pub fn floods(&mut self, by: u16, first: u64, count: usize) {
        let (link, frame) = (self.link(by), self.flood(first, count));
        self.input(Input::Data { link, frame });
    }

    /// Resolvers name peers.
    pub fn name(&mut self, peers: impl IntoIterator<Item = u16>) {
        let candidates = peers.into_iter().map(|n| self.candidate(n)).collect();
        self.input(Input::Resolved(candidates));
    }

    pub fn input(&mut self, input: Input) {
        self.node.handle(self.now, input);
        self.drain();
    }

    // ---- what is seen ------------------------------------------------------

    /// The link to a neighbor: the last that came up.
    pub fn link(&self, n: u16) -> LinkId {
        let up = self.neighbors();
        assert!(up.contains(&n), "{n} is no neighbor of {up:?}");
        *self.up.iter().rfind(|link| self.links.get(link) == Some(&n)).unwrap()
    }

    pub fn neighbors(&self) -> Vec<u16> {
        let mut peers: Vec<u16> = self.node.neighbors().map(|n| number(n.node)).collect();
        peers.sort_unstable();
        peers
    }

    pub fn is_neighbor(&self, n: u16) -> bool {
        self.neighbors().contains(&n)
    }

    /// The far neighbors that the node chose itself.
    pub fn own_far(&self) -> Vec<u16> {
        let own = self.node.neighbors().filter(|n| n.far && n.opened_by_us);
        own.map(|n| number(n.node)).collect()
    }

    /// When it dialed whom, in order.
    pub fn dials(&self) -> Vec<(Time, u16)> {
        self.log.iter().filter(|(.., did)| matches!(did, Did::Dial(_))).map(|(at, n, _)| (*at, *n)).collect()
    }

    pub fn dials_of(&self, n: u16) -> Vec<Time> {
        self.dials().into_iter().filter(|(_, peer)| *peer == n).map(|(at, _)| at).collect()
    }

    /// For what it dialed whom, as said in `Connect`.
    pub fn connects(&self) -> Vec<(Time, u16, LinkKind)> {
        let connects = self.log.iter().filter_map(|(at, n, did)| match did {
            Did::Send(ControlFrame::Connect(connect)) => Some((*at, *n, connect.kind)),
            _ => None,
        });
        connects.collect()
    }

    /// When it dropped whom, and why.
    pub fn drops(&self) -> Vec<(Time, u16, DisconnectReason)> {
        let drops = self.log.iter().filter_map(|(at, n, did)| match did {
            Did::End(Farewell::Disconnect(goodbye)) => Some((*at, *n, goodbye.reason)),
            _ => None,
        });
        drops.collect()
    }

    pub fn refusals(&self) -> Vec<(u16, RefuseReason)> {
        let refusals = self.log.iter().filter_map(|(_, n, did)| match did {
            Did::End(Farewell::Refuse(refuse)) => Some((*n, refuse.reason)),
            _ => None,
        });
        refusals.collect()
    }

    pub fn closes(&self) -> Vec<(Time, u16, CloseCause)> {
        let closes = self.log.iter().filter_map(|(at, n, did)| match did {
            Did::Close(cause) => Some((*at, *n, *cause)),
            _ => None,
        });
        closes.collect()
    }

    /// When it sent a peer a frame like this.
    pub fn sent(&self, n: u16, like: impl Fn(&ControlFrame) -> bool) -> Vec<Time> {
        let sent = self
            .log
            .iter()
            .filter(|(_, peer, did)| *peer == n && matches!(did, Did::Send(frame) if like(frame)));
        sent.map(|(at, ..)| *at).collect()
    }

    /// What the node answers a ping of a neighbor.
    pub fn ping(&mut self, n: u16) -> Pong {
        let link = self.link(n);
        self.control(link, ControlFrame::Ping(42));
        let pong = self.log.iter().rev().find_map(|(.., did)| match did {
            Did::Send(ControlFrame::Pong(pong)) if pong.nonce == 42 => Some(*pong),
            _ => None,
        });
        pong.unwrap()
    }

    /// A neighbor says what links it could lose, unasked.
    pub fn pong(&mut self, n: u16, balance: Balance) {
        let link = self.link(n);
        let pong = Pong { nonce: 0, coordinate: None, balance: Some(balance) };
        self.control(link, ControlFrame::Pong(pong));
    }

    // ---- time --------------------------------------------------------------

    pub fn run_for(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.step(end) {}
        self.now = end;
    }

    /// Runs until `done`, at most so long.
    pub fn run_until(&mut self, limit: Duration, what: &str, done: impl Fn(&Self) -> bool) {
        let end = self.now + limit;
        while !done(self) {
            assert!(self.step(end), "not within {limit:?}: {what} (at {:?})", self.now);
        }
    }

    fn step(&mut self, end: Time) -> bool {
        let timer = self.node.poll_timeout();
        let queued = self.queue.first_key_value().map(|((at, _), _)| *at);
        let Some(at) = timer.into_iter().chain(queued).min().filter(|at| *at <= end) else { return false };
        self.now = self.now.max(at);
        if queued == Some(at) {
            let (_, input) = self.queue.pop_first().unwrap();
            if self.is_known(&input) {
                self.input(input);
            }
        } else {
            self.input(Input::Timeout);
        }
        true
    }

    fn is_known(&self, input: &Input) -> bool {
        match input {
            Input::Control { link, .. } | Input::LinkClosed { link, .. } => self.links.contains_key(link),
            _ => true,
        }
    }

    fn later(&mut self, after: Duration, input: Input) {
        self.order += 1;
        self.queue.insert((self.now + after, self.order), input);
    }

    fn round_trip(&self, n: u16) -> Duration {
        self.rtt.get(&n).copied().unwrap_or(SECOND / 100)
    }

    fn new_link(&mut self, n: u16) -> LinkId {
        self.order += 1;
        let link = LinkId(self.order);
        self.links.insert(link, n);
        link
    }

    fn opened(&self, n: u16, link: LinkId, dial: Option<DialId>) -> LinkOpened {
        LinkOpened {
            link,
            peer: id(n),
            dial,
            address: self.address(n),
            number: LinkNumber(1),
            rtt: self.round_trip(n),
            features: self.features,
        }
    }

    fn drain(&mut self) {
        while let Some(output) = self.node.poll_output() {
            self.obey(output);
        }
    }

    fn obey(&mut self, output: Output) {
        match output {
            Output::Sign { job, .. } => {
                self.input(Input::Signed { job, signature: Signature::from_bytes([7; 64]) });
            }
            Output::Verify { job, .. } => self.input(Input::Verified { job, valid: true }),
            Output::Resolve => {
                self.resolved.push(self.now);
                let named = self.named.iter().map(|n| self.candidate(*n)).collect();
                self.later(SECOND / 100, Input::Resolved(named));
            }
            Output::Dial { dial, candidate } => self.dialed(dial, &candidate),
            Output::Control { link, frame } => {
                let Some(n) = self.links.get(&link).copied() else { return };
                self.answer(link, n, &frame);
                self.log.push((self.now, n, Did::Send(frame)));
            }
            Output::Finish { link, farewell } => {
                let Some(n) = self.links.get(&link).copied() else { return };
                self.log.push((self.now, n, Did::End(farewell)));
                self.later(self.round_trip(n), Input::LinkClosed { link, loss: LinkLoss::ClosedLocally });
            }
            Output::Close { link, cause } => {
                let Some(n) = self.links.remove(&link) else { return };
                self.log.push((self.now, n, Did::Close(cause)));
            }
            Output::Establish { link, .. } => self.up.push(link),
            Output::Event(event) => self.events.push(event),
            _ => {}
        }
    }

    fn dialed(&mut self, dial: DialId, candidate: &Candidate) {
        let n = number(candidate.node.unwrap());
        self.log.push((self.now, n, Did::Dial(dial)));
        let wait = self.round_trip(n);
        let failure = match self.answers.get(&n).cloned() {
            Some(Answer::Hang) => return,
            Some(Answer::Fail(failure)) => failure,
            None => DialFailure::Unreachable("nobody".into()),
            Some(Answer::Welcome | Answer::Refuse(_) | Answer::Silent | Answer::Shut) => {
                let link = self.new_link(n);
                let opened = self.opened(n, link, Some(dial));
                return self.later(wait, Input::LinkOpened(opened));
            }
        };
        self.later(wait, Input::DialFailed { dial, address: Some(self.address(n)), failure });
    }

    fn answer(&mut self, link: LinkId, n: u16, frame: &ControlFrame) {
        let wait = self.round_trip(n);
        let reply = match frame {
            ControlFrame::Connect(_) => match self.answers.get(&n).cloned() {
                Some(Answer::Welcome) => ControlFrame::Welcome(Welcome {
                    epoch: Epoch::new(1).unwrap(),
                    joining: false,
                    member: self.record(n, 1),
                    link_number: LinkNumber(1),
                    referrals: vec![],
                    coordinate: None,
                }),
                Some(Answer::Refuse(reason)) => ControlFrame::Refuse(Refuse { reason, referrals: vec![] }),
                Some(Answer::Shut) => {
                    let loss = LinkLoss::ClosedByPeer("without a word".into());
                    return self.later(wait, Input::LinkClosed { link, loss });
                }
                _ => return,
            },
            ControlFrame::Ping(nonce) if !self.mute.contains(&n) => {
                let balance = self.balance.get(&n).copied().unwrap_or(Balance { spare: 0, surplus: 0 });
                let coordinate = self.place.get(&n).copied();
                let speaks = self.features.contains(Features::NEIGHBORHOOD);
                let said = Pong { nonce: *nonce, coordinate, balance: Some(balance) };
                ControlFrame::Pong(if speaks { said } else { Pong::plain(*nonce) })
            }
            ControlFrame::Probe { nonce, .. } if self.vouch => {
                ControlFrame::ProbeResult { nonce: *nonce, answers: true }
            }
            _ => return,
        };
        self.later(wait, Input::Control { link, frame: reply });
    }
}
