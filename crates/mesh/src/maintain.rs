//! The maintainer: whom to link to, whom to drop, when to ask the resolvers.
//!
//! Small meshes are complete graphs; larger ones keep every node between the low and the high
//! limit (docs/protocol.md section 3). It never waits: each run orders dials and sets the
//! time of the next.

use std::time::Duration;

use peerchannel_wire::{DisconnectReason, LinkPurpose};

use crate::candidates::Key;
use crate::input::Candidate;
use crate::node::{Dial, Node};
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

/// Most dials at once.
const DIALS_MAX: usize = 16;

impl Node {
    pub(crate) fn start_maintaining(&mut self, now: Time) {
        self.resolve_soon(now);
        self.timers.set(Timer::Maintain, now);
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
        if self.is_closing() {
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
                self.candidates.add(candidate, true, now, &mut self.chance);
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

    /// Neighbors that a node of this mesh should have, as far as its size is known.
    fn wanted_at_least(&self) -> usize {
        self.config.neighbors_low.min(self.members.alive()).max(1)
    }

    /// Neighbors to look for: everyone in a small mesh, the target in a large one.
    pub(crate) fn wanted(&self) -> usize {
        if self.members.alive() < self.config.full_mesh() {
            self.config.neighbors_high
        } else {
            self.config.neighbors_target
        }
    }

    pub(crate) fn maintain(&mut self, now: Time) {
        if self.is_closing() {
            return;
        }
        self.prune(now);
        let linked = self.links.iter().filter(|link| link.counts()).count();
        let dialing = self.candidates.dialing();
        let wanted = self.wanted().saturating_sub(linked + dialing).min(DIALS_MAX.saturating_sub(dialing));
        if wanted > 0 {
            let links = &self.links;
            let keys = self.candidates.eligible(wanted, now, &mut self.chance, |node| links.reaches(node));
            for key in keys {
                self.dial(key);
            }
        }
        let links = &self.links;
        // With enough links nobody is waited for: the next loss starts a run at once.
        let next = if wanted > 0 { self.candidates.next_try(|node| links.reaches(node)) } else { None };
        let soonest = now + Duration::from_millis(50);
        let next = next.map_or(now + MAINTAIN_INTERVAL, |at| at.max(soonest).min(now + MAINTAIN_INTERVAL));
        self.timers.set(Timer::Maintain, next);
    }

    fn dial(&mut self, key: Key) {
        let node = if let Key::Node(node) = key { Some(node) } else { None };
        let dial = self.new_dial(Dial { candidate: Some(key), node });
        if let Some(candidate) = self.candidates.dial(key, dial) {
            self.order(Output::Dial { dial, candidate });
        } else {
            self.dials.remove(&dial);
        }
    }

    /// Drops the least useful neighbors above the limit. Utility is the share of first copies;
    /// a quiet mesh drops the newest.
    fn prune(&mut self, now: Time) {
        loop {
            let flooding = self.links.flooding();
            let mut ranked: Vec<_> = flooding
                .map(|link| {
                    let total = link.useful + link.duplicates;
                    let utility = (link.useful * 1000).checked_div(total).unwrap_or(0);
                    (utility, std::cmp::Reverse(link.since), link.id)
                })
                .collect();
            if ranked.len() <= self.config.neighbors_high {
                return;
            }
            ranked.sort_unstable();
            let Some((_, _, id)) = ranked.first().copied() else { return };
            self.drop_link(now, id, DisconnectReason::NotUsefulNeighbor);
        }
    }

    pub(crate) fn member_places_changed(&mut self, now: Time) {
        self.timers.set_by(Timer::Maintain, now);
    }

    /// Links that carry direct messages only.
    pub(crate) fn dial_for_direct(&mut self, node: peerchannel_wire::NodeId, candidate: Candidate) {
        debug_assert!(
            self.links.iter().all(|l| l.peer != node || l.purpose == LinkPurpose::Direct || !l.is_up())
        );
        let dial = self.new_dial(Dial { candidate: None, node: Some(node) });
        self.order(Output::Dial { dial, candidate });
    }
}
