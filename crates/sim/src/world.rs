//! The world of one run: the clock, what happens next, and to whom.
//!
//! One thread, one queue. Each event belongs to a node; what a process has to handle itself
//! waits while the process stands still or is busy. What an event means is in the file of its
//! noun: `dial`, `send` (frames), `silence` (how links end without a word), `life` (processes),
//! `obey` (a node's orders), `script` (what is made to happen), `look` (samples and checks).

mod dial;
mod life;
mod look;
mod obey;
mod script;
mod send;
mod settled;
mod silence;
mod tell;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use peerchannel_mesh::{Candidate, Config, Input, Time};
use peerchannel_wire::ChannelName;

use crate::dice::Dice;
use crate::directory::Directory;
use crate::host::Host;
use crate::ledger::Ledger;
use crate::link::{EndRef, Links, Packet};
use crate::outcome::Outcome;
use crate::plan::{Plan, PlanError};
use crate::slab::Slab;
use crate::watch::Watch;
use crate::wheel::{Next, Queue};

use self::dial::{Dial, DialRef};
use self::script::Wall;

/// The node of events that belong to none: after all nodes at the same moment.
const NOBODY: u32 = u32::MAX - 1;

/// A deadline that is due already is handled after this pause at the earliest, as a real
/// driver's is, so that virtual time goes on.
const ALARM_PAUSE: u64 = 100_000;

/// The channel everything is published in.
const CHANNEL: &str = "sim";

/// Something that happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// A packet arrives.
    Arrive(u32),
    /// A deadline that had to wait.
    Alarm,
    /// A dial's first packet arrives.
    DialArrives(DialRef),
    /// A dial is admitted.
    DialAdmits(DialRef),
    /// The node that dialed learns what came of it.
    DialEnds(DialRef),
    /// The node that dialed gives up, if nothing came of it.
    DialLate(DialRef),
    /// A silent end may have to give up.
    Idle(EndRef),
    /// Something comes again to a silent end.
    Hear(EndRef),
    /// The peer's process knows of no such connection.
    Reset(EndRef),
    /// A goodbye was taken.
    Closed(EndRef),
    /// A queue may have drained.
    Drained(EndRef, u8),
    /// The resolver's answer.
    Resolved(u32),

    /// A busy or resting process looks at what came.
    Wake,
    /// Held packets are sent again.
    Release(EndRef),
    /// A process starts. Whether a stranger takes the place.
    Start { stranger: bool },
    /// The process of this life goes, by churn.
    Depart(u32),
    /// A lease runs out.
    Lease(u32),
    /// The process of this life registers, if it reaches the directory.
    Register(u32),
    /// A process begins to stand still, by this entry of the script.
    Pause(u32),
    /// A process goes on.
    Resume(u32),
    /// A swizzled node is cut off.
    Cut,
    /// A swizzled node is free.
    Uncut,
    /// A node of a rolling restart goes down, by this entry of the script.
    Restart(u32),

    /// Somebody publishes.
    Publish,
    /// The mesh is looked at.
    Sample,
    /// An entry of the script begins.
    Script(u32),
    /// An entry of the script is over.
    ScriptEnds(u32),
    /// A message should have reached everyone.
    Due(u32),
    /// Nodes begin to come and go.
    ChurnBegins,
}

impl Event {
    /// Whether the process itself has to handle it.
    fn is_for_process(self) -> bool {
        matches!(
            self,
            Self::Arrive(_)
                | Self::Alarm
                | Self::DialArrives(_)
                | Self::DialAdmits(_)
                | Self::DialEnds(_)
                | Self::Idle(_)
                | Self::Reset(_)
                | Self::Closed(_)
                | Self::Drained(..)
                | Self::Resolved(_)
        )
    }
}

/// A question to the resolver that is under way.
#[derive(Debug)]
struct Question {
    life: u32,
    answer: Vec<Candidate>,
}

/// Thousands of nodes, the network between them, and a clock.
#[derive(Debug)]
pub struct World {
    plan: Plan,
    /// The plan's, shared by all nodes.
    config: Arc<Config>,
    now: u64,
    end: u64,
    queue: Queue<Event>,
    hosts: Vec<Host>,
    up: u32,
    links: Links,
    packets: Slab<Packet>,
    dials: Slab<Dial>,
    dial_serial: u32,
    questions: Slab<Question>,
    directory: Directory,
    walls: Vec<Wall>,
    /// Nodes that are cut off by themselves.
    cut_off: u32,
    /// Nodes made slow: by which entry of the script, and who.
    slowed: Vec<(u32, u32)>,
    publishers: Vec<u32>,
    /// When the last scripted fault is over, in ns.
    faults_end: u64,
    /// Facts that arose while orders were carried out.
    facts: VecDeque<Input>,
    channel: ChannelName,
    ledger: Ledger,
    watch: Watch,
    handled: u64,
    net_dice: Dice,
    life_dice: Dice,
    script_dice: Dice,
    resolver_dice: Dice,
    traffic_dice: Dice,
    churning: bool,
}

/// Nanoseconds of a duration; plans are far shorter than the 584 years that fit.
fn ns(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl World {
    /// Carries a plan out. Takes as long as it takes: some 10 ms for each node that joins, and
    /// then, with a message a second, some 0.1 ms for each node and virtual second.
    ///
    /// # Errors
    /// [`PlanError`] if the plan cannot be carried out.
    pub fn run(plan: Plan) -> Result<Outcome, PlanError> {
        let started = Instant::now();
        let mut world = Self::new(plan)?;
        while let Some(next) = world.queue.pop(world.end) {
            world.take(next);
        }
        world.now = world.end;
        world.finish();
        Ok(world.tell(started.elapsed()))
    }

    fn new(plan: Plan) -> Result<Self, PlanError> {
        plan.validate()?;
        let dice = |purpose| Dice::fork(plan.seed, purpose);
        let channel =
            ChannelName::new(CHANNEL).map_err(|error| PlanError { field: "name", why: error.to_string() })?;
        let mut world = Self {
            config: Arc::new(plan.config.clone()),
            now: 0,
            end: ns(plan.duration),
            queue: Queue::new(),
            hosts: Vec::new(),
            up: 0,
            links: Links::default(),
            packets: Slab::default(),
            dials: Slab::default(),
            dial_serial: 0,
            questions: Slab::default(),
            directory: Directory::default(),
            walls: Vec::new(),
            cut_off: 0,
            slowed: Vec::new(),
            publishers: Vec::new(),
            faults_end: 0,
            facts: VecDeque::new(),
            channel,
            ledger: Ledger::default(),
            watch: Watch::default(),
            handled: 0,
            net_dice: dice("network"),
            life_dice: dice("life"),
            script_dice: dice("script"),
            resolver_dice: dice("resolver"),
            traffic_dice: dice("traffic"),
            churning: false,
            plan,
        };
        world.directory.mood = world.plan.resolver.mood;
        world.set_the_scene();
        Ok(world)
    }

    fn take(&mut self, next: Next<Event>) {
        self.now = self.now.max(next.at);
        self.handled += 1;
        let event = next.item.unwrap_or(Event::Alarm);
        if event.is_for_process() {
            let now = self.now;
            let Some(host) = self.hosts.get_mut(next.node as usize) else { return };
            if host.is_busy(now) {
                host.standing.waiting.push_back(event);
                self.dial_waits(event);
                self.wake_later(next.node);
                return;
            }
            if host.standing.handling > 0 {
                host.standing.busy_until = now + host.standing.handling;
            }
        }
        self.happen(next.node, event);
    }

    /// A busy process looks again when it is done with the present event.
    fn wake_later(&mut self, node: u32) {
        let standing = &mut self.hosts[node as usize].standing;
        if !standing.woken && standing.paused.is_none() {
            standing.woken = true;
            self.queue.push(standing.busy_until.max(self.now), node, Event::Wake);
        }
    }

    /// A process that is not standing still takes what waited, one thing at a time if it is slow.
    fn wake(&mut self, node: u32) {
        self.hosts[node as usize].standing.woken = false;
        loop {
            let host = &mut self.hosts[node as usize];
            if host.standing.paused.is_some() {
                return;
            }
            if host.standing.handling > 0 && host.standing.busy_until > self.now {
                return self.wake_later(node);
            }
            let Some(event) = host.standing.waiting.pop_front() else { return };
            if host.standing.handling > 0 {
                host.standing.busy_until = self.now + host.standing.handling;
            }
            self.happen(node, event);
        }
    }

    fn happen(&mut self, node: u32, event: Event) {
        match event {
            Event::Arrive(packet) => self.arrive(packet),
            Event::Alarm => self.alarm(node),
            Event::DialArrives(dial) => self.dial_arrives(dial),
            Event::DialAdmits(dial) => self.dial_admits(dial),
            Event::DialEnds(dial) => self.dial_ends(dial),
            Event::DialLate(dial) => self.dial_is_late(dial),
            Event::Idle(end) => self.idle(end),
            Event::Hear(end) => self.hear_again(end),
            Event::Reset(end) => self.reset(end),
            Event::Closed(end) => self.closed(end),
            Event::Drained(end, lane) => self.drained(end, lane),
            Event::Resolved(question) => self.resolved(node, question),
            Event::Wake => self.wake(node),
            Event::Release(end) => self.release(end),
            Event::Start { stranger } => self.start(node, stranger),
            Event::Depart(life) => self.depart(node, life),
            Event::Lease(life) => self.lease_ends(node, life),
            Event::Register(life) => self.register(node, life),
            Event::Pause(script) => self.pause(node, script),
            Event::Resume(script) => self.resume(node, script),
            Event::Cut => self.cut(node),
            Event::Uncut => self.uncut(node),
            Event::Restart(script) => self.restart(node, script),
            Event::Publish => self.publish(),
            Event::Sample => self.sample(),
            Event::Script(script) => self.script_begins(script),
            Event::ScriptEnds(script) => self.script_ends(script),
            Event::Due(message) => self.due(message),
            Event::ChurnBegins => self.churn_begins(),
        }
    }

    fn time(&self) -> Time {
        Time::from_nanos(self.now)
    }

    /// Somebody publishes, and the next one is set.
    fn publish(&mut self) {
        let traffic = &self.plan.traffic;
        let until = traffic.until.map_or(self.end.saturating_sub(10_000_000_000), ns);
        let wait = self.traffic_dice.exponential() / traffic.per_second;
        let next = self.now + ns(Duration::from_secs_f64(wait.min(1e6)));
        if next < until {
            self.queue.push(next, NOBODY, Event::Publish);
        }
        let chosen = self.traffic_dice.below(self.publishers.len());
        let Some(publisher) = self.publishers.get(chosen).copied() else { return };
        let host = &self.hosts[publisher as usize];
        if host.up && !host.leaving && host.standing.paused.is_none() {
            let payload = self.ledger.payload(traffic.payload_bytes);
            self.publish_at(publisher, payload);
        }
    }

    fn publish_at(&mut self, index: u32, payload: Bytes) {
        let Some(mut core) = self.hosts[index as usize].core.take() else { return };
        match core.publish(self.time(), &self.channel, payload) {
            Ok(published) => self.note_published(index, &published),
            Err(_) => self.watch.counts.publish_refused += 1,
        }
        self.drain(index, core);
    }
}
