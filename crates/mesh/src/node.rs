//! One node in one mesh: the state machine's face, and where each input is sent.
//!
//! This file only dispatches. What an input *means* is in the file of its noun: `connect`
//! (links), `maintain`, `kinds`, `swap`, `prune` (whom to link to), `shuffle` (whom to know), `flood` (the way of a message), `repair`,
//! `reconcile`, `publish`, `presence`, `aside`, `direct`.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use peerchannel_wire::{
    ControlFrame, DataFrame, Disconnect, DisconnectReason, Epoch, Features, LinkKind, LinkPurpose,
    MemberName, MemberRecord, MemberStatus, MeshId, NodeId, RefuseReason,
};

use crate::aside::Asides;
use crate::baseline::Baseline;
use crate::candidates::{Candidates, Key};
use crate::chance::Chance;
use crate::config::{Config, ConfigError};
use crate::coordinate::Place;
use crate::direct::Directs;
use crate::filter::{Filter, Slot};
use crate::health::Health;
use crate::inbound::Streams;
use crate::input::{DialId, Input, Lane, LinkId};
use crate::jobs::{Job, Jobs};
use crate::kinds::Neighborhood;
use crate::link::{Level, Link, LinkState, Links};
use crate::members::{MemberView, Members};
use crate::outgoing::Publishing;
use crate::output::{Event, NeighborLoss, Output};
use crate::presence::{Refuting, Withheld};
use crate::reconcile::Summed;
use crate::reservoir::Reservoir;
use crate::retention::Retention;
use crate::rumor::Rumors;
use crate::sampler::Sampler;
use crate::stats::Stats;
use crate::suspend::Suspension;
use crate::suspicion::Suspects;
use crate::time::Time;
use crate::timers::{Timer, Timers};

/// Who this node is in a mesh.
#[derive(Debug, Clone)]
pub struct Me {
    /// The mesh.
    pub mesh: MeshId,
    /// Its id.
    pub node: NodeId,
    /// This join: higher than any earlier one of the same node in this mesh.
    pub epoch: Epoch,
    /// The name it shows.
    pub name: MemberName,
    /// Where it can be dialed.
    pub addresses: Vec<SocketAddr>,
    /// The wall clock in ms since 1970 at the moment given as `now`: advisory, for messages.
    pub wall_ms: u64,
}

/// A neighbor as the application sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NeighborView {
    /// The node.
    pub node: NodeId,
    /// Its remote address.
    pub address: SocketAddr,
    /// The round-trip time: the least of the recent pings, or the connection's until one was
    /// answered.
    pub rtt: Duration,
    /// Whether this node dialed it.
    pub opened_by_us: bool,
    /// Whether the link is far: the node that dialed it drew it uniformly from all it heard of,
    /// or of the past, to mend a split.
    pub far: bool,
    /// What both ends understand beyond the first release of the protocol.
    pub features: Features,
    /// First copies of messages that came from it.
    pub useful: u64,
    /// Further copies that came from it.
    pub duplicates: u64,
}

/// How far leaving has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leaving {
    No,
    /// Own messages wait to be committed.
    Committing,
    /// The farewells are on their way.
    Closing,
    Done,
}

/// What a node is dialed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Errand {
    /// To become a neighbor.
    Neighbor,
    /// For a direct message.
    Direct,
    /// To become a neighbor, and so to mend a split.
    Heal,
    /// To see whether it is there.
    Audit,
}

/// A dial that has not been answered.
#[derive(Debug)]
pub(crate) struct Dial {
    /// The candidate it is for, if it is for one.
    pub(crate) candidate: Option<Key>,
    pub(crate) node: Option<NodeId>,
    /// Why it was made.
    pub(crate) kind: LinkKind,
    pub(crate) errand: Errand,
}

/// The state machine of one node in one mesh. See the crate's front page for the contract.
#[derive(Debug)]
pub struct Node {
    pub(crate) config: Arc<Config>,
    pub(crate) me: Me,
    pub(crate) started: Time,
    pub(crate) record: Option<MemberRecord>,
    pub(crate) incarnation: u32,
    pub(crate) chance: Chance,
    pub(crate) timers: Timers,
    outputs: VecDeque<Output>,
    pub(crate) links: Links,
    pub(crate) dials: BTreeMap<DialId, Dial>,
    next_dial: u64,
    pub(crate) candidates: Candidates,
    /// Where this node is in the space of round-trip times.
    pub(crate) place: Place,
    pub(crate) neighborhood: Neighborhood,
    pub(crate) resolving: bool,
    pub(crate) resolve_pause: Duration,
    pub(crate) members: Members,
    pub(crate) suspects: Suspects,
    pub(crate) health: Health,
    /// Nobody is suspected before: this node was asleep, or its network changed.
    pub(crate) withheld_until: Time,
    /// Until then links are lost because this node was stopped for long, or moved.
    pub(crate) own_fault: bool,
    pub(crate) reservoir: Reservoir,
    pub(crate) withheld: Withheld,
    pub(crate) refuting: Refuting,
    pub(crate) rumors: Rumors,
    pub(crate) suspension: Suspension,
    pub(crate) goodbye_wants_link: bool,
    /// What the application says of this node.
    pub(crate) metadata: Bytes,
    /// Somebody has dialed this node.
    pub(crate) dialable: bool,
    /// When its own record changed last.
    pub(crate) own_changed: Time,
    /// The application was told that the member table is complete.
    pub(crate) snapshot_told: bool,
    pub(crate) baseline: Baseline,
    /// Since when it is looked for while no neighbor knows either.
    pub(crate) baseline_wanted: Option<Time>,
    pub(crate) streams: Streams,
    pub(crate) retention: Retention,
    pub(crate) publishing: Publishing,
    pub(crate) asides: Asides,
    pub(crate) directs: Directs,
    pub(crate) jobs: Jobs,
    pub(crate) filter: Slot,
    /// How long messages have lately taken to come by themselves after they were missed.
    pub(crate) lateness: Duration,
    /// When a position last changed: digests are frequent for a while after.
    pub(crate) active: Time,
    /// What all positions came to when they were last compared. Invariant: none since a
    /// position changed.
    pub(crate) summed: Option<Summed>,
    pub(crate) leaving: Leaving,
    pub(crate) stats: Stats,
    /// Counts the calls of a debug build, to check its invariants.
    pub(crate) calls: u32,
}

impl Node {
    /// A node that has no neighbor yet. Its first orders are to sign its own member record
    /// and to resolve.
    ///
    /// All randomness comes from `seed`; `now` is the moment of the join. Many nodes of one
    /// process can share their configuration.
    ///
    /// # Errors
    /// [`ConfigError`] if the configuration cannot work.
    pub fn new(
        config: impl Into<Arc<Config>>,
        me: Me,
        seed: [u8; 32],
        now: Time,
    ) -> Result<Self, ConfigError> {
        let config: Arc<Config> = config.into();
        config.validate()?;
        let mut chance = Chance::fork(seed, 0);
        let sampler = Sampler::new(&mut chance);
        let mut node = Self {
            reservoir: Reservoir::new(&mut chance),
            started: now,
            record: None,
            incarnation: 0,
            chance,
            timers: Timers::default(),
            outputs: VecDeque::new(),
            links: Links::default(),
            dials: BTreeMap::new(),
            next_dial: 0,
            candidates: Candidates::new(config.passive_max, config.candidates_max),
            place: Place::default(),
            neighborhood: Neighborhood::new(sampler, now),
            resolving: false,
            resolve_pause: Duration::ZERO,
            members: Members::new(me.mesh, config.members_max),
            suspects: Suspects::default(),
            health: Health::default(),
            withheld_until: Time::ZERO,
            own_fault: false,
            withheld: Withheld::default(),
            refuting: Refuting::default(),
            rumors: Rumors::new(now),
            suspension: Suspension::Active,
            goodbye_wants_link: false,
            metadata: Bytes::new(),
            dialable: false,
            own_changed: now,
            snapshot_told: false,
            baseline: Baseline::Unknown,
            baseline_wanted: None,
            streams: Streams::new(config.streams_max, config.channels_per_origin_max),
            retention: Retention::new(config.retention_bytes),
            publishing: Publishing::default(),
            asides: Asides::default(),
            directs: Directs::default(),
            jobs: Jobs::default(),
            filter: Slot::default(),
            lateness: Duration::ZERO,
            active: now,
            summed: None,
            leaving: Leaving::No,
            stats: Stats::default(),
            calls: 0,
            config,
            me,
        };
        node.sign_own_record();
        node.start_maintaining(now);
        node.start_healing(now);
        node.timers.set(Timer::Forget, now + crate::repair::FORGET_INTERVAL);
        Ok(node)
    }

    /// Takes in one fact. Afterwards drain [`poll_output`](Self::poll_output).
    pub fn handle(&mut self, now: Time, input: Input) {
        self.mind_lateness(now);
        match input {
            Input::LinkOpened(opened) => self.on_link_opened(now, &opened),
            Input::DialFailed { dial, address, failure } => self.on_dial_failed(now, dial, address, failure),
            Input::Control { link, frame } => self.on_control(now, link, frame),
            Input::Data { link, frame } => self.on_data(now, link, frame),
            Input::LaneFinished { link } => self.on_lane_finished(now, link),
            Input::QueueHigh { link, lane } => self.on_queue(now, link, lane, Level::High),
            Input::QueueFull { link, lane } => self.on_queue(now, link, lane, Level::Full),
            Input::QueueDrained { link, lane } => self.on_queue(now, link, lane, Level::Low),
            Input::LinkClosed { link, loss } => self.on_link_closed(now, link, NeighborLoss::Lost(loss)),
            Input::Signed { job, signature } => match self.jobs.take(job) {
                Some(Job::SignBatch(channel)) => self.on_batch_signed(now, &channel, Some(signature)),
                Some(Job::SignLocal { message, hops }) => {
                    self.send_local(now, message.sign(Some(signature)), hops);
                    self.goodbye_when_all_said(now);
                }
                Some(Job::SignVolatile { message, remaining_ms }) => {
                    self.send_volatile(now, message.sign(Some(signature)), remaining_ms);
                    self.goodbye_when_all_said(now);
                }
                Some(Job::SignMember(member)) => self.on_record_signed(now, member.sign(signature)),
                _ => {}
            },
            Input::Verified { job, valid } => match self.jobs.take(job) {
                Some(Job::VerifyBatch(flood)) => self.on_batch_verified(now, flood, valid),
                Some(Job::VerifyLocal { from, local }) => self.on_local_verified(now, from, local, valid),
                Some(Job::VerifyVolatile { from, volatile }) => {
                    self.on_volatile_verified(now, from, volatile, valid);
                }
                Some(Job::VerifyMember { from, member }) => self.on_member_verified(now, from, member, valid),
                _ => {}
            },
            Input::Resolved(candidates) => self.on_resolved(now, candidates),
            Input::AddressesChanged(addresses) => {
                if self.me.addresses != addresses {
                    self.me.addresses = addresses;
                    self.dialable = false;
                    self.change_own_record(now, Duration::ZERO);
                }
            }
            Input::Resumed { paused } => self.on_resumed(now, paused),
            Input::NetworkChanged => self.on_network_changed(now),
            Input::Timeout => {}
        }
        self.run_timers(now);
        self.check_invariants();
    }

    /// The next order, in the sequence in which they arose. Call until `None` after every
    /// other call.
    pub fn poll_output(&mut self) -> Option<Output> {
        let output = self.outputs.pop_front();
        if output.is_none() && self.outputs.capacity() > 0 {
            // What a burst needed once is not kept for ever.
            self.outputs = VecDeque::new();
        }
        output
    }

    /// The earliest deadline: call [`handle`](Self::handle) with `Input::Timeout` then. Poll
    /// again after every other call.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Time> {
        self.timers.next()
    }

    /// Replaces the propagation filter; `None` passes everything. Messages judged before
    /// keep their verdict.
    pub fn set_filter(&mut self, filter: Option<Box<dyn Filter>>) {
        self.filter.set(filter);
    }

    /// Counters and sizes.
    #[must_use]
    pub fn stats(&self) -> Stats {
        Stats {
            neighbors: self.links.flooding().count() as u64,
            members: self.members.alive() as u64 + 1,
            retained_bytes: self.retention.bytes() as u64,
            held_back_bytes: self.streams.held_bytes as u64,
            streams: (self.streams.len() + self.publishing.channels.len()) as u64,
            ..self.stats
        }
    }

    /// The members known to take part and those that recently left or failed; this node first.
    /// Above `members_max` a uniform sample of them: see [`members_complete`](Self::members_complete).
    pub fn members(&self) -> impl Iterator<Item = MemberView> {
        let me = MemberView {
            node: self.me.node,
            name: self.me.name.clone(),
            status: if self.leaving == Leaving::No { MemberStatus::Alive } else { MemberStatus::Left },
            suspended: self.is_suspended(),
            epoch: self.me.epoch,
            addresses: self.me.addresses.clone(),
            metadata: self.metadata.clone(),
        };
        std::iter::once(me).chain(self.members.iter().map(MemberView::of))
    }

    /// One member other than this node, if it is known.
    #[must_use]
    pub fn member(&self, node: NodeId) -> Option<MemberView> {
        self.members.get(node).map(MemberView::of)
    }

    /// Whether [`members`](Self::members) tells of every member, rather than of a sample.
    #[must_use]
    pub fn members_complete(&self) -> bool {
        self.members.is_complete()
    }

    /// How many members the mesh has, this node included: counted while the table is complete,
    /// else estimated from the sample, within 15 % in nineteen of twenty cases.
    #[must_use]
    pub fn size_estimate(&self) -> usize {
        self.members.estimate(self.me.node)
    }

    /// The present neighbors.
    pub fn neighbors(&self) -> impl Iterator<Item = NeighborView> {
        self.links.flooding().map(|link| NeighborView {
            node: link.peer,
            address: link.address,
            rtt: link.rtt,
            opened_by_us: link.opened_by_us(),
            far: link.kind == LinkKind::Far,
            features: link.features,
            useful: link.useful,
            duplicates: link.duplicates,
        })
    }

    /// The name a member shows, if it is known.
    #[must_use]
    pub fn name_of(&self, node: NodeId) -> Option<&MemberName> {
        if node == self.me.node {
            return Some(&self.me.name);
        }
        self.members.get(node).map(|member| &member.record.facts().name)
    }

    fn on_control(&mut self, now: Time, id: LinkId, frame: ControlFrame) {
        let Some(link) = self.links.get(id) else { return };
        match (&link.state, frame) {
            (LinkState::Finishing, _) => {}
            (LinkState::Awaiting, ControlFrame::Connect(connect)) if !link.opened_by_us() => {
                self.on_connect(now, id, connect);
            }
            (LinkState::Connecting, ControlFrame::Welcome(welcome)) => self.on_welcome(now, id, welcome),
            (LinkState::Connecting, ControlFrame::Refuse(refuse)) => self.on_refuse(now, id, &refuse),
            (LinkState::Up, frame) => self.on_up_frame(now, id, frame),
            // The peer said goodbye already: what it still asks for is void.
            (LinkState::Draining(_), _) => {}
            _ => self.violation(now, id, "a control frame that this state does not allow"),
        }
    }

    fn on_up_frame(&mut self, now: Time, id: LinkId, frame: ControlFrame) {
        if self.links.get(id).is_some_and(|link| link.purpose == LinkPurpose::Direct)
            && !crate::direct::is_direct(&frame)
        {
            return self.on_frame_of_neighbors(now, id, frame);
        }
        match frame {
            ControlFrame::Disconnect(disconnect) => self.on_disconnect(now, id, &disconnect),
            ControlFrame::Ping(nonce) => self.on_ping(id, nonce),
            ControlFrame::Pong(pong) => {
                self.on_measured(now, id, &pong);
                self.on_pong(now, id, pong.nonce);
            }
            ControlFrame::Probe { node, nonce, spread } => self.on_probe(now, id, node, nonce, spread),
            ControlFrame::ProbeResult { nonce, answers } => self.on_probe_result(now, nonce, answers),
            ControlFrame::Baseline { positions, last } => self.on_baseline(now, id, &positions, last),
            ControlFrame::Digest(ranges) => self.on_digest(now, id, ranges),
            ControlFrame::Announce(ranges) => self.on_announce(now, id, &ranges),
            ControlFrame::Pull(ranges) => self.on_pull(now, id, ranges),
            ControlFrame::Gone(ranges) => self.on_refused_range(now, id, &ranges, crate::GapReason::Gone),
            ControlFrame::NotFromMe(ranges) => {
                self.on_refused_range(now, id, &ranges, crate::GapReason::Filtered);
            }
            ControlFrame::Ack(positions) => self.on_ack(now, id, &positions),
            // Told for the trees to come: the neighbor announces from now on, and pull copes.
            ControlFrame::Congestion { .. } => {}
            ControlFrame::Members(members) => self.on_members(now, id, members),
            ControlFrame::MemberDigest(digest) => self.on_member_digest(now, id, digest),
            ControlFrame::MemberPull(nodes) => self.on_member_pull(now, id, nodes),
            ControlFrame::MemberDoubt(marks) => self.on_member_doubt(now, id, marks),
            ControlFrame::Direct { nonce, payload } => self.on_direct(now, id, nonce, payload),
            ControlFrame::DirectAck { nonce } => self.on_direct_ack(id, nonce),
            ControlFrame::Shuffle(shuffle) => self.on_shuffle(now, id, &shuffle),
            // Its opener left the mesh while our Welcome was on the way.
            ControlFrame::Refuse(refuse)
                if refuse.reason == RefuseReason::LeavingMesh && !self.opened(id) =>
            {
                let reason = DisconnectReason::LeavingMesh;
                self.on_disconnect(now, id, &Disconnect { reason, referrals: refuse.referrals });
            }
            ControlFrame::Connect(_) | ControlFrame::Welcome(_) | ControlFrame::Refuse(_) => {
                self.violation(now, id, "a handshake frame on a link that is up");
            }
        }
    }

    /// A frame that a link for direct messages does not carry. Earlier releases pass a report on
    /// to the member it is about by whatever link they have; messages they never send there.
    fn on_frame_of_neighbors(&mut self, now: Time, id: LinkId, frame: ControlFrame) {
        match frame {
            ControlFrame::Members(mut members) => {
                members.retain(|member| member.record.facts().node == self.me.node);
                self.stats.direct_ignored += u64::from(members.is_empty());
                self.on_members(now, id, members);
            }
            ControlFrame::Probe { .. }
            | ControlFrame::ProbeResult { .. }
            | ControlFrame::Congestion { .. }
            | ControlFrame::MemberDigest(_)
            | ControlFrame::MemberPull(_)
            | ControlFrame::MemberDoubt(_)
            | ControlFrame::Shuffle(_) => self.stats.direct_ignored += 1,
            _ => self.violation(now, id, "a frame of neighbors on a link for direct messages"),
        }
    }

    fn opened(&self, id: LinkId) -> bool {
        self.links.get(id).is_some_and(Link::opened_by_us)
    }

    fn on_data(&mut self, now: Time, id: LinkId, frame: DataFrame) {
        let Some(link) = self.links.get(id) else { return };
        match link.state {
            LinkState::Up | LinkState::Draining(_) => {}
            LinkState::Finishing => return,
            LinkState::Awaiting | LinkState::Connecting | LinkState::Testing { .. } => {
                return self.violation(now, id, "a message before the link was up");
            }
        }
        if link.purpose != LinkPurpose::Neighbor {
            return self.violation(now, id, "a flood on a link for direct messages");
        }
        match frame {
            DataFrame::Flood(flood) => self.on_flood(now, id, flood),
            DataFrame::Local(local) => self.on_local(now, id, local),
            DataFrame::Volatile(volatile) => self.on_volatile(now, id, volatile),
        }
    }

    fn on_queue(&mut self, now: Time, id: LinkId, lane: Lane, level: Level) {
        if level == Level::Full {
            self.stats.queue_full += 1;
        }
        match lane {
            // A lost control frame would leave the two ends in different states.
            Lane::Control if level == Level::Full => {
                self.drop_link(now, id, DisconnectReason::NodeTooSlow);
            }
            Lane::Control => {}
            Lane::Data => self.on_data_level(now, id, level),
        }
    }

    fn run_timers(&mut self, now: Time) {
        while let Some(timer) = self.timers.pop_due(now) {
            match timer {
                Timer::Maintain => self.maintain(now),
                Timer::Prune => self.prune(now),
                Timer::Shuffle => self.shuffle(now),
                Timer::Swap => self.swap(now),
                Timer::Rotate => self.rotate(now),
                Timer::Resolve => self.resolve(now),
                Timer::Forget => self.forget_old(now),
                Timer::Slow => self.check_slow(now),
                Timer::Sign(channel) => self.sign_next(now, &channel),
                Timer::Baseline => self.on_baseline_deadline(now),
                Timer::Leave => self.on_leave_deadline(now),
                Timer::Link(link) => self.on_link_deadline(now, link),
                Timer::Digest(link) => {
                    self.send_digest(now, link);
                    self.compare_members_if_due(now, link);
                }
                Timer::Announce(link) => self.send_announce(link),
                Timer::Serve(link) => self.serve(now, link),
                Timer::Repair(stream) => self.repair(now, &stream),
                Timer::Suspect(node) => self.on_suspicion_deadline(now, node),
                Timer::Probe(nonce, node) => self.forget_question(nonce, node),
                Timer::OwnRecord => self.on_own_record_due(now),
                Timer::Owed(link) => self.pay(now, link),
                Timer::Hint => self.hint(now),
                Timer::Withheld => self.spread_withheld(now),
                Timer::Snapshot => self.members_known(now),
                Timer::Sample => self.refine_sample(now),
                Timer::Confirm => self.on_confirm_deadline(now),
                Timer::Reservoir => self.probe_past(now),
                Timer::Audit => self.audit(now),
                Timer::Direct(token) => self.on_direct_deadline(token),
            }
        }
    }

    pub(crate) fn order(&mut self, output: Output) {
        self.outputs.push_back(output);
    }

    pub(crate) fn tell(&mut self, event: Event) {
        self.order(Output::Event(event));
    }

    pub(crate) fn control(&mut self, link: LinkId, frame: ControlFrame) {
        self.order(Output::Control { link, frame });
    }

    pub(crate) fn overloaded(&mut self, what: &'static str) {
        self.stats.overloads += 1;
        // Once per kind of overload would need memory; once per power of two needs none.
        if self.stats.overloads.is_power_of_two() {
            self.tell(Event::Overloaded(what));
        }
    }

    pub(crate) fn new_dial(&mut self, dial: Dial) -> DialId {
        self.check_dial(&dial);
        let id = DialId(self.next_dial);
        self.next_dial += 1;
        self.dials.insert(id, dial);
        id
    }

    /// The origin's wall clock for a message published now.
    pub(crate) fn wall_ms(&self, now: Time) -> u64 {
        self.me.wall_ms + u64::try_from(now.since(self.started).as_millis()).unwrap_or(u64::MAX)
    }
}
