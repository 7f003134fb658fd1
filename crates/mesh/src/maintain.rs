//! The maintainer: whom to link to, whom to drop, when to ask the resolvers.
//!
//! Small meshes are complete graphs; larger ones keep every node between the low and the high
//! limit (docs/protocol.md section 3). It never waits: each run orders dials and sets the
//! time of the next.

use std::time::Duration;

use peerchannel_wire::{LinkKind, LinkPurpose, NodeAddress};

use crate::candidates::{Key, Source};
use crate::input::{Candidate, DialId};
use crate::node::{Dial, Errand, Node};
use crate::output::Output;
use crate::time::Time;
use crate::timers::Timer;

/// First pause between two questions to the resolvers, doubled by each further one.
const RESOLVE_FIRST: Duration = Duration::from_secs(1);

/// Longest pause while the node has no neighbor (docs/protocol.md section 3).
const RESOLVE_ISOLATED_MAX: Duration = Duration::from_secs(30);

/// Longest pause while it has fewer neighbors than it wants.
const RESOLVE_HUNGRY_MAX: Duration = Duration::from_secs(60);

/// How often a link that this node needs is looked for at least.
const MAINTAIN_INTERVAL: Duration = Duration::from_secs(5);

/// The same with all the links it wants.
const SATISFIED_INTERVAL: Duration = Duration::from_secs(60);

/// Pause between two dials of a node that has enough links to work, but fewer than it wants: a
/// node that joins dials others too, and may dial this one (a guess, tuned by simulation).
const TOP_UP_PAUSE: Duration = Duration::from_secs(10);

/// The same, one link above the low limit or more.
const TOP_UP_PAUSE_ABOVE: Duration = Duration::from_secs(60);

/// How long after its join a node that has a neighbor does with one link less than its low limit:
/// others that join dial it meanwhile, and what it dials and what they dial would be too many.
/// And before it knows how large the mesh is it would dial as many as a small one has.
/// Simulated, `churn-10` with 300 nodes: 12 links made per departure, 15 without.
const ARRIVAL: Duration = Duration::from_secs(6);

/// How often the pause doubles while those that are dialed do not become neighbors: who has
/// enough links to work does not press those that have enough as well.
const TOP_UP_DOUBLINGS: u32 = 3;

/// A node that has had fewer links than its low limit for so long says so to those it dials:
/// they take it in beyond their high limit. A newcomer finds others meanwhile.
const LACKING: Duration = Duration::from_secs(5);

/// A node that found nobody in this time is counted as one that retries in isolation.
const ALONE_FOR_LONG: Duration = Duration::from_secs(5);

/// Most dials at once.
const DIALS_MAX: usize = 16;

impl Node {
    pub(crate) fn start_maintaining(&mut self, now: Time) {
        self.resolve_soon(now);
        self.timers.set(Timer::Maintain, now);
        self.start_shuffling(now);
        self.start_swapping(now);
    }

    /// Asks the resolvers and looks for one more neighbor, now.
    pub fn refresh(&mut self, now: Time) {
        self.candidates.hurry(now);
        self.resolve_soon(now);
        self.maintain(now);
    }

    /// Starts over with short pauses.
    pub(crate) fn resolve_soon(&mut self, now: Time) {
        self.resolve_pause = RESOLVE_FIRST;
        // An answer that is under way sets the next time, soon.
        if !self.resolving {
            self.resolve(now);
        }
    }

    /// The time has come to ask, or to ask again where no answer came.
    pub(crate) fn resolve(&mut self, now: Time) {
        if self.is_closing() || self.is_resting() {
            return;
        }
        self.resolving = true;
        self.order(Output::Resolve);
        // The driver always answers, and the answer sets the time; this is for one that forgets.
        self.timers.set(Timer::Resolve, now + RESOLVE_HUNGRY_MAX);
    }

    pub(crate) fn on_resolved(&mut self, now: Time, candidates: Vec<Candidate>) {
        self.resolving = false;
        for candidate in candidates {
            if candidate.node != Some(self.me.node) {
                self.resolved_one(now, candidate);
            }
        }
        let neighbors = self.links.flooding().count();
        let max = if neighbors == 0 {
            RESOLVE_ISOLATED_MAX
        } else if neighbors < self.wanted_at_least() {
            RESOLVE_HUNGRY_MAX
        } else {
            self.config.resolve_interval
        };
        // Even a satisfied node asks a few times after its join: nodes that start together
        // may at first find only some of each other.
        let pause = self.chance.jitter(self.resolve_pause.min(max));
        self.resolve_pause =
            (self.resolve_pause * 2).min(self.config.resolve_interval.max(RESOLVE_HUNGRY_MAX));
        self.timers.set(Timer::Resolve, now + pause);
        self.maintain(now);
    }

    fn resolved_one(&mut self, now: Time, candidate: Candidate) {
        let address = candidate.node.and_then(|node| NodeAddress::new(node, candidate.addresses.clone()));
        if let Some(address) = address {
            self.neighborhood.sampler.feed(&address);
        }
        self.candidates.add(candidate, Source::Resolver, now, &mut self.chance);
    }

    /// Neighbors that a node of this mesh should have, as far as its size is known.
    fn wanted_at_least(&self) -> usize {
        self.config.neighbors_low.min(self.members.alive()).max(1)
    }

    /// Neighbors to look for: everyone in a small mesh, the target in a large one.
    pub(crate) fn wanted(&self) -> usize {
        if self.is_small() { self.config.neighbors_high } else { self.config.neighbors_target }
    }

    pub(crate) fn maintain(&mut self, now: Time) {
        if self.is_closing() || self.is_resting() {
            return;
        }
        self.shed(now);
        self.note_lack(now);
        let linked = self.links.iter().filter(|link| link.counts()).count();
        self.candidates.set_needy(linked < self.config.neighbors_low);
        let mut hungry = false;
        for _ in 0..DIALS_MAX {
            hungry = self.wants_to_dial(now) && self.candidates.dialing() < DIALS_MAX;
            if !hungry {
                break;
            }
            let kind = self.kind_wanted(now);
            let key = self.choose(now, kind);
            let dialed = key.and_then(|key| self.dial(now, key, kind)).is_some();
            // Also where there is nobody to dial: else it would be due again at once.
            if self.neighborhood.top_up.is_some_and(|at| at <= now) {
                self.neighborhood.top_up = None;
                self.neighborhood.vain_top_ups += u32::from(dialed);
            }
            if !dialed {
                break;
            }
        }
        let interval = if hungry { MAINTAIN_INTERVAL } else { SATISFIED_INTERVAL };
        let links = &self.links;
        let times = [
            // With enough links nobody is waited for: the next loss starts a run at once.
            if hungry { self.candidates.next_try(|node| links.reaches(node)) } else { None },
            self.candidates.next_hedge(now),
            self.neighborhood.top_up,
            self.next_shed(now),
            self.arrives_until().filter(|end| *end > now),
        ];
        let next = times.into_iter().flatten().min();
        let soonest = now + Duration::from_millis(50);
        let next = next.map_or(now + interval, |at| at.max(soonest).min(now + interval));
        self.timers.set(Timer::Maintain, next);
    }

    /// Whether one more dial should be made now: at once below the low limit; between it and
    /// the target one in a while, as others may dial this node meanwhile.
    fn wants_to_dial(&mut self, now: Time) -> bool {
        let linked = self.links.iter().filter(|link| link.counts() && (link.is_up() || link.opened_by_us()));
        let have = linked.count() + self.candidates.promising(now);
        let mending = self.links.flooding().filter(|link| link.mends(now)).count();
        if self.arrives_until().is_some_and(|end| now < end) {
            return have < self.links_at_first();
        }
        if !self.is_large() {
            self.neighborhood.top_up = None;
            return have < self.wanted();
        }
        let missing = have < self.wanted()
            || (self.own_far_missing() > 0
                // At the limit one more is dialed, and another goes when it is up.
                && have.saturating_sub(mending) <= self.neighbors_max_now()
                && self.kind_wanted(now) == LinkKind::Far);
        if !missing {
            self.neighborhood.top_up = None;
            return false;
        }
        if have < self.config.neighbors_low {
            return true;
        }
        let pause = self.top_up_pause(have);
        match self.neighborhood.top_up {
            // What was set for more links than are left now is too late.
            Some(at) if at <= now + pause * 5 / 4 => at <= now,
            _ => {
                self.neighborhood.top_up = Some(now + self.chance.jitter(pause));
                false
            }
        }
    }

    /// With more links than the low limit there is less haste, and with every dial in vain.
    fn top_up_pause(&self, have: usize) -> Duration {
        let pause = if have > self.config.neighbors_low { TOP_UP_PAUSE_ABOVE } else { TOP_UP_PAUSE };
        pause * 2u32.pow(self.neighborhood.vain_top_ups.min(TOP_UP_DOUBLINGS))
    }

    /// Notes how long this node has had too few links.
    fn note_lack(&mut self, now: Time) {
        let arrives = self.arrives_until().is_some_and(|end| now < end);
        let lacks = self.links.flooding().count() < self.config.neighbors_low && !arrives;
        let since = lacks.then(|| self.neighborhood.below_low.unwrap_or(now));
        self.neighborhood.below_low = since;
        self.neighborhood.lacking = since.is_some_and(|since| now.since(since) >= LACKING);
    }

    /// Until when this node does with few links: for a while after its join, once it has any, and
    /// unless it knows all the members of a small mesh.
    fn arrives_until(&self) -> Option<Time> {
        let knows_few = self.snapshot_told && self.is_small();
        let linked = self.links.flooding().next().is_some();
        (linked && !knows_few).then(|| self.started + ARRIVAL)
    }

    /// Links to make at once by a node that has just joined.
    fn links_at_first(&self) -> usize {
        let low = self.config.neighbors_low;
        low.saturating_sub(1).max(2).min(low)
    }

    /// Orders a dial of a candidate that no link leads to.
    pub(crate) fn dial(&mut self, now: Time, key: Key, kind: LinkKind) -> Option<DialId> {
        let node = if let Key::Node(node) = key { Some(node) } else { None };
        debug_assert!(node.is_none_or(|node| !self.links.reaches(node)), "no neighbor is dialed");
        let dial = self.new_dial(Dial { candidate: Some(key), node, kind, errand: Errand::Neighbor });
        let Some(candidate) = self.candidates.dial(key, dial, now) else {
            self.dials.remove(&dial);
            return None;
        };
        if self.links.flooding().next().is_none() && now.since(self.started) > ALONE_FOR_LONG {
            self.stats.isolated_retries += 1;
        }
        self.order(Output::Dial { dial, candidate });
        Some(dial)
    }

    pub(crate) fn member_places_changed(&mut self, now: Time) {
        if self.links.flooding().count() < self.wanted() {
            self.timers.set_by(Timer::Maintain, now);
        }
    }

    /// Links that carry direct messages only.
    pub(crate) fn dial_for_direct(&mut self, node: peerchannel_wire::NodeId, candidate: Candidate) {
        debug_assert!(
            self.links.iter().all(|l| l.peer != node || l.purpose == LinkPurpose::Direct || !l.is_up())
        );
        let errand = Errand::Direct;
        let dial = self.new_dial(Dial { candidate: None, node: Some(node), kind: LinkKind::Near, errand });
        self.order(Output::Dial { dial, candidate });
    }
}
