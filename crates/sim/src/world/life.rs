//! Processes: how they start, leave, crash, stand still, and come and go by themselves.

use std::collections::BTreeMap;
use std::time::Duration;

use peerchannel_mesh::{Input, Me, Node, Time};
use peerchannel_wire::{Epoch, MemberName, MeshId};

use super::{Event, NOBODY, World, ns};
use crate::dice::{Dice, mix};
use crate::host::{Host, LifeStory, Standing, byte_time};
use crate::ledger::Received;
use crate::link::EndRef;
use crate::place::{Place, address, node_id};
use crate::plan::{Happening, Join};
use crate::transport::{ANCHORS_KEPT_AFTER, REGISTER_PAUSE, RESUME_NOTICED};
use crate::watch::{Departure, seconds};

/// The wall clock at the start of a run: epochs and dates are as long as real ones.
const WALL_CLOCK_MS: u64 = 1_800_000_000_000;

impl World {
    /// Everything that is certain to happen.
    pub(super) fn set_the_scene(&mut self) {
        let nodes = u32::try_from(self.plan.nodes).unwrap_or(u32::MAX);
        for index in 0..nodes {
            self.add_host();
            let at = match self.plan.join {
                Join::AtOnce => 0,
                Join::Over(span) => ns(span) * u64::from(index) / u64::from(nodes),
            };
            self.queue.push(at, index, Event::Start { stranger: false });
        }
        let mut dice = Dice::fork(self.plan.seed, "publishers");
        let mut all: Vec<u32> = (0..nodes).collect();
        dice.shuffle(&mut all);
        all.truncate(self.plan.traffic.publishers);
        self.publishers = all;
        if self.plan.traffic.per_second > 0.0 {
            self.queue.push(ns(self.plan.traffic.from), NOBODY, Event::Publish);
        }
        self.queue.push(ns(self.plan.sample_every), NOBODY, Event::Sample);
        for (script, event) in (0u32..).zip(&self.plan.events) {
            self.queue.push(ns(event.at), NOBODY, Event::Script(script));
            self.faults_end = self.faults_end.max(ns(event.at + event.what.lasts()));
        }
        if let Some(churn) = self.plan.churn {
            self.queue.push(ns(churn.from), NOBODY, Event::ChurnBegins);
            self.faults_end = self.faults_end.max(self.churn_ends());
        }
    }

    /// A place for one more node.
    pub(super) fn add_host(&mut self) -> u32 {
        let index = u32::try_from(self.hosts.len()).unwrap_or(u32::MAX);
        let dice = &mut self.life_dice;
        let place = Place::draw(&self.plan.map, self.hosts.len(), dice);
        let dialable = !dice.chance(self.plan.undialable) || index == 0;
        let older = dice.chance(self.plan.older);
        let weights: f64 = self.plan.bandwidth.iter().map(|class| class.weight).sum();
        let mut roll = dice.unit() * weights;
        let class = self.plan.bandwidth.iter().find(|class| {
            roll -= class.weight;
            roll < 0.0
        });
        let uplink = class.or(self.plan.bandwidth.first()).map_or(1_000_000_000, |class| class.uplink_bits);
        self.hosts.push(Host {
            core: None,
            up: false,
            id: node_id(self.plan.seed, index, 0),
            identity: 0,
            life: 0,
            epoch: 0,
            place,
            dialable,
            older,
            moves: 0,
            byte_time: byte_time(uplink),
            uplink_free: [0; 3],
            links: Vec::new(),
            handshakes: 0,
            standing: Standing::default(),
            cut: 0,
            life_story: LifeStory::default(),
            anchors: Vec::new(),
            received: Received::default(),
            leaving: false,
            done: false,
        });
        index
    }

    pub(super) fn start(&mut self, index: u32, stranger: bool) {
        let now = self.now;
        let host = &mut self.hosts[index as usize];
        if host.up {
            return;
        }
        if stranger {
            host.identity += 1;
            host.id = node_id(self.plan.seed, index, host.identity);
        }
        host.life += 1;
        host.up = true;
        (host.leaving, host.done) = (false, false);
        let wall_ms = WALL_CLOCK_MS + now / 1_000_000;
        host.epoch = wall_ms.max(host.epoch + 1);
        host.standing = Standing { handling: host.standing.handling, ..Standing::default() };
        host.handshakes = 0;
        host.received = Received::default();
        host.life_story = LifeStory { started: now, ..LifeStory::default() };
        let (id, life, epoch) = (host.id, host.life, host.epoch);
        let place = address(index, host.place.region, host.moves);
        let mut seed = [0; 32];
        for (number, part) in (0u64..).zip(seed.chunks_exact_mut(8)) {
            let own = mix(self.plan.seed ^ (u64::from(index) << 32 | u64::from(life)));
            part.copy_from_slice(&mix(own ^ number).to_le_bytes());
        }
        let me = Me {
            mesh: MeshId::from_bytes([9; 32]),
            node: id,
            epoch: name_epoch(epoch),
            name: MemberName::new(&format!("n{index}")).unwrap_or_default(),
            addresses: vec![place],
            wall_ms,
        };
        self.up += 1;
        self.watch.counts.arrivals += 1;
        self.watch.recent.arrivals += 1;
        self.watch.write(8, now, index, u64::from(life));
        self.register(index, life);
        // The configuration was checked with the plan.
        if let Ok(mut core) = Node::new(self.config.clone(), me, seed, Time::from_nanos(now)) {
            let anchors = std::mem::take(&mut self.hosts[index as usize].anchors);
            if !stranger && !anchors.is_empty() {
                core.add_anchors(Time::from_nanos(now), anchors);
            }
            self.drain(index, Box::new(core));
        }
        // What is left of the process before is unknown to this one.
        for (end, open) in self.links_of(index) {
            if !open {
                self.listen(end.other());
            }
        }
        if self.churning {
            self.plan_departure(index, false);
        }
    }

    /// The process dies without a word.
    pub(super) fn crash(&mut self, index: u32, mark: Option<usize>) {
        let now = self.now;
        if !self.hosts[index as usize].up {
            return;
        }
        self.note_departure(index, true, mark);
        self.watch.counts.crashes += 1;
        let life = self.hosts[index as usize].life;
        self.queue.push(now + ns(self.plan.resolver.lease), index, Event::Lease(life));
        self.take_down(index);
        for (end, open) in self.links_of(index) {
            if open {
                if let Some(ours) = self.links.end_mut(end) {
                    ours.died = Some(now);
                }
                self.end_closes(end);
            }
        }
    }

    fn note_departure(&mut self, index: u32, crash: bool, mark: Option<usize>) {
        let number = u32::try_from(self.watch.departures.len()).unwrap_or(u32::MAX);
        self.watch.departures.push(Departure {
            node: index,
            at: self.now,
            crash,
            mark,
            told: BTreeMap::new(),
        });
        self.hosts[index as usize].life_story.departure = Some(number);
    }

    /// The node leaves in good order; one that stands still crashes instead.
    pub(super) fn leave(&mut self, index: u32, mark: Option<usize>) {
        let host = &mut self.hosts[index as usize];
        if !host.up || host.leaving {
            return;
        }
        if host.standing.paused.is_some() {
            return self.crash(index, mark);
        }
        host.leaving = true;
        host.life_story.left = Some(self.now);
        self.note_departure(index, false, mark);
        self.watch.counts.leaves += 1;
        self.directory.unregister(index);
        let Some(mut core) = self.hosts[index as usize].core.take() else { return };
        core.leave(self.time());
        self.drain(index, core);
    }

    /// The node has left: its process ends, its transport says the last goodbyes.
    pub(super) fn ended(&mut self, index: u32, core: Box<Node>) {
        self.hosts[index as usize].core = Some(core);
        self.take_down(index);
        for (end, open) in self.links_of(index) {
            let finishing = self.links.end_mut(end).is_some_and(|end| end.finishing);
            if open && !finishing {
                self.end_closes(end);
            }
        }
    }

    fn take_down(&mut self, index: u32) {
        let now = self.now;
        let host = &mut self.hosts[index as usize];
        host.up = false;
        if let Some(core) = host.core.take() {
            self.watch.note_stats(&core.stats());
            if now - host.life_story.started >= ns(ANCHORS_KEPT_AFTER) {
                host.anchors = core.anchors();
            }
        }
        let waiting = std::mem::take(&mut host.standing.waiting);
        host.standing.paused = None;
        host.received = Received::default();
        let lived = now - host.life_story.started;
        if lived > 1_000_000_000 {
            self.watch.rate.add(host.life_story.sent as f64 / seconds(lived));
        }
        if let Some(since) = host.life_story.alone.take() {
            self.watch.isolation.add(seconds(now - since));
        }
        for event in waiting {
            // Who dialed gives up by its own clock.
            if let Event::Arrive(packet) = event {
                self.packets.take(packet);
            }
        }
        self.watch.uptime += u128::from(lived);
        self.watch.recent.departures += 1;
        self.watch.write(9, now, index, 0);
        self.up -= 1;
        self.queue.set_alarm(index, None);
    }

    pub(super) fn lease_ends(&mut self, index: u32, life: u32) {
        let host = &self.hosts[index as usize];
        if host.life == life && (!host.up || self.off_directory(index)) {
            self.directory.unregister(index);
        }
    }

    /// Whether a wall is between a node and the directory, which stands where the first node does.
    pub(super) fn off_directory(&self, index: u32) -> bool {
        self.hosts[index as usize].cut > 0 || self.walled(index, 0) || self.walled(0, index)
    }

    pub(super) fn register(&mut self, index: u32, life: u32) {
        if self.hosts[index as usize].lives(life) && !self.off_directory(index) {
            self.directory.register(index);
        }
    }

    /// A wall rose: who is behind it is not heard of any more, and its lease runs out.
    pub(super) fn let_leases_run(&mut self) {
        let at = self.now + ns(self.plan.resolver.lease);
        for (index, life) in self.lives() {
            if self.off_directory(index) {
                self.queue.push(at, index, Event::Lease(life));
            }
        }
    }

    /// A wall fell: whose lease ran out registers again, at the next of its tries.
    pub(super) fn register_again(&mut self) {
        for (index, life) in self.lives() {
            let at = self.now + ns(self.resolver_dice.part(REGISTER_PAUSE));
            self.queue.push(at, index, Event::Register(life));
        }
    }

    fn lives(&self) -> Vec<(u32, u32)> {
        (0u32..)
            .zip(&self.hosts)
            .filter(|(_, host)| host.up)
            .map(|(index, host)| (index, host.life))
            .collect()
    }

    // ---- standing still ----------------------------------------------------

    pub(super) fn stand_still(&mut self, index: u32) {
        let now = self.now;
        let host = &mut self.hosts[index as usize];
        if host.up && host.standing.paused.is_none() {
            host.standing.paused = Some(now);
            self.listen_around(index);
        }
    }

    /// The process goes on with what waited. Its connections hear first what came meanwhile,
    /// and look at their idle timers then, as those of the transport do (docs/protocol.md
    /// section 1): only a peer that fell silent itself is given up.
    pub(super) fn go_on(&mut self, index: u32) {
        let now = self.now;
        let host = &mut self.hosts[index as usize];
        let Some(since) = host.standing.paused.take() else { return };
        let paused = Duration::from_nanos(now - since);
        host.standing.busy_until = now;
        host.standing.went_on = Some(now);
        let up = host.up;
        self.listen_around(index);
        if up && paused >= RESUME_NOTICED {
            self.watch.reached("a node noticed that it had stood still");
            self.feed(index, Input::Resumed { paused });
        }
        self.wake(index);
    }

    /// The node's address changes.
    pub(super) fn move_away(&mut self, index: u32, migrates: bool) {
        let host = &mut self.hosts[index as usize];
        if !host.up {
            return;
        }
        host.moves += 1;
        let place = address(index, host.place.region, host.moves);
        if !migrates {
            let ends: Vec<EndRef> = self.links_of(index).into_iter().map(|(end, _)| end).collect();
            for end in ends {
                if let Some(link) = self.links.get_mut(end) {
                    link.severed = true;
                }
            }
            self.listen_around(index);
        }
        self.feed(index, Input::NetworkChanged);
        self.feed(index, Input::AddressesChanged(vec![place]));
    }

    // ---- churn -------------------------------------------------------------

    /// When nodes stop to come and go.
    pub(super) fn churn_ends(&self) -> u64 {
        let Some(churn) = self.plan.churn else { return 0 };
        let settle = self.plan.checks.delta.map_or(0, ns);
        churn.until.map_or(self.end.saturating_sub(settle), ns)
    }

    pub(super) fn churn_begins(&mut self) {
        self.churning = true;
        for index in 0..u32::try_from(self.hosts.len()).unwrap_or(u32::MAX) {
            if self.hosts[index as usize].up {
                self.plan_departure(index, true);
            }
        }
    }

    /// Draws the session of a node, or the rest of it if it is under way.
    fn plan_departure(&mut self, index: u32, under_way: bool) {
        let Some(churn) = self.plan.churn.filter(|churn| churn.per_minute > 0.0) else { return };
        let scale = 60.0 / churn.per_minute / mean_of_weibull(churn.shape);
        let drawn = if under_way {
            self.life_dice.weibull_rest(churn.shape)
        } else {
            self.life_dice.weibull(churn.shape)
        };
        let at = self.now + ns(Duration::from_secs_f64((scale * drawn).clamp(0.001, 1e7)));
        if at < self.churn_ends() {
            let life = self.hosts[index as usize].life;
            self.queue.push(at, index, Event::Depart(life));
        }
    }

    pub(super) fn depart(&mut self, index: u32, life: u32) {
        let Some(churn) = self.plan.churn.filter(|_| self.hosts[index as usize].lives(life)) else { return };
        if self.life_dice.chance(churn.clean) {
            self.leave(index, None);
        } else {
            self.crash(index, None);
        }
        let stranger = !self.life_dice.chance(churn.returning);
        // A goodbye takes up to two seconds.
        let absence = churn.absence.max(Duration::from_millis(2500));
        self.queue.push(self.now + ns(absence), index, Event::Start { stranger });
    }
}

/// The mean of a Weibull distribution of scale 1: Γ(1 + 1/shape), by Lanczos' approximation.
fn mean_of_weibull(shape: f64) -> f64 {
    const COEFFICIENTS: [f64; 8] = [
        676.520_368_121_885_1,
        -1_259.139_216_722_402_8,
        771.323_428_777_653_1,
        -176.615_029_162_140_6,
        12.507_343_278_686_905,
        -0.138_571_095_265_720_12,
        9.984_369_578_019_572e-6,
        1.505_632_735_149_311_6e-7,
    ];
    let x = shape.recip();
    let mut sum = 0.999_999_999_999_809_9;
    for (index, coefficient) in (1u32..).zip(COEFFICIENTS) {
        sum += coefficient / (x + f64::from(index));
    }
    let t = x + 7.5;
    std::f64::consts::TAU.sqrt() * t.powf(x + 0.5) * (-t).exp() * sum
}

/// Epochs are wall-clock milliseconds: below 2^53 for a quarter of a million years.
fn name_epoch(number: u64) -> Epoch {
    Epoch::new(number).expect("runs last less than half a year")
}

impl Happening {
    /// Until when after its beginning it is a fault.
    fn lasts(&self) -> Duration {
        match self {
            Self::Crash { .. } | Self::Leave { .. } | Self::Move { .. } => Duration::ZERO,
            Self::Join { over, .. } => *over,
            Self::RollingRestart { over, down, .. } => *over + *down,
            Self::RegionLoss { back, .. } => back.unwrap_or_default(),
            Self::Partition { lasts, .. }
            | Self::RegionCut { lasts, .. }
            | Self::OneWay { lasts, .. }
            | Self::Resolver { lasts, .. }
            | Self::Pause { lasts, .. }
            | Self::Slow { lasts, .. }
            | Self::Swizzle { lasts, .. } => *lasts,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_of_weibull() {
        for (shape, mean) in [(1.0, 1.0), (0.5, 2.0), (2.0, 0.886_226_925_45)] {
            let got = mean_of_weibull(shape);
            assert!((got - mean).abs() < 1e-9, "{shape}: {got}");
        }
    }
}
