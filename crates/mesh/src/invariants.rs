//! Invariants: what is true of a node between any two calls, whatever its peers send.
//!
//! Checked in debug builds at the end of every call that changes the node, so that each test
//! and each simulated run is a proof attempt. A release build has none of it. What costs more
//! than a look at each link is checked at every 64th call. The rules are those of
//! docs/protocol.md section 3 and the limits that the constants name; a broken one is an error
//! of this crate, never of a peer.

use std::collections::BTreeSet;

use peerchannel_wire::NodeId;

use crate::connect::{HEALING_MAX, LINKS_MAX};
use crate::link::{ANNOUNCE_MAX, LinkState, SERVING_MAX};
use crate::node::{Dial, Errand, Leaving, Node};
use crate::timers::Timer;

/// What is expensive is looked at once in so many calls.
const RARELY: u32 = 64;

impl Node {
    /// Stops a debug build in which something does not hold.
    pub(crate) fn check_invariants(&mut self) {
        if !cfg!(debug_assertions) {
            return;
        }
        self.calls = self.calls.wrapping_add(1);
        self.check_links();
        self.check_limits();
        if self.calls.is_multiple_of(RARELY) {
            self.check_timers();
            self.candidates.check();
            self.members.check();
            self.streams.check();
            self.suspects.check();
            self.timers.check();
        }
    }

    /// Section 3: with whom there is a link, and how many there are.
    fn check_links(&self) {
        debug_assert!(self.links.len() <= LINKS_MAX, "{} links", self.links.len());
        let mut neighbors: BTreeSet<NodeId> = BTreeSet::new();
        for link in self.links.iter() {
            debug_assert!(link.peer != self.me.node, "a link to oneself");
            debug_assert!(!link.is_up() || link.epoch.is_some(), "an up link of no epoch");
            debug_assert!(link.serving.len() <= SERVING_MAX, "{} ranges to serve", link.serving.len());
            debug_assert!(link.announce.len() <= ANNOUNCE_MAX, "{} ranges to tell", link.announce.len());
            if let LinkState::Testing { old, .. } = &link.state {
                debug_assert!(*old != link.id, "a link tests itself");
                debug_assert!(self.timers.is_set(&Timer::Link(link.id)), "a test without an end");
            }
            if link.carries_floods() {
                debug_assert!(neighbors.insert(link.peer), "two links to {}", link.peer.short());
                debug_assert!(self.suspects.is_none_of(link.peer), "a neighbor is a suspect");
            }
        }
        let most = self.config.dialable_high + HEALING_MAX;
        debug_assert!(neighbors.len() <= most, "{} neighbors of {most}", neighbors.len());
        debug_assert!(neighbors.is_empty() || !self.is_resting(), "neighbors of a suspended node");
        debug_assert!(neighbors.is_empty() || !self.is_closing(), "neighbors of a node that left");
        let present = self.links.iter().filter(|link| link.is_present()).count();
        debug_assert!(neighbors.len() <= present, "neighbors that the application does not know");
    }

    /// Everything that peers can make grow.
    fn check_limits(&self) {
        let config = &self.config;
        let within = |what: &str, size: usize, max: usize| {
            debug_assert!(size <= max, "{what}: {size} of at most {max}");
        };
        within("bytes retained", self.retention.bytes(), config.retention_bytes);
        within("bytes held back", self.streams.held_bytes, config.hold_back_bytes + config.max_message);
        within("streams", self.streams.len(), config.streams_max);
        self.jobs.check();
        within("members of the past", self.reservoir.len(), crate::reservoir::RESERVOIR_MAX);
        within("members", self.members.len(), 2 * config.members_max + LINKS_MAX);
        within("suspects", self.suspects.len(), self.members.len());
    }

    /// Every deadline has something it is for.
    fn check_timers(&self) {
        if self.leaving == Leaving::Done {
            return;
        }
        for timer in self.timers.iter() {
            let stands = match &timer {
                Timer::Link(id)
                | Timer::Digest(id)
                | Timer::Announce(id)
                | Timer::Serve(id)
                | Timer::Owed(id) => self.links.get(*id).is_some(),
                Timer::Suspect(node) => !self.suspects.is_none_of(*node),
                Timer::Probe(nonce, node) => self.suspects.asks(*nonce, *node),
                _ => true,
            };
            debug_assert!(stands, "a deadline for nothing: {timer:?}");
        }
        for link in self.links.iter().filter(|link| !link.is_up()) {
            // Whatever is not up yet, or no longer, ends by itself (section 3.1).
            debug_assert!(self.timers.is_set(&Timer::Link(link.id)), "{:?} without an end", link.state);
        }
    }

    /// Section 3.8: a node with a link to it is never dialed.
    pub(crate) fn check_dial(&self, dial: &Dial) {
        if dial.errand != Errand::Direct {
            let reached = dial.node.is_some_and(|node| self.links.reaches(node));
            debug_assert!(!reached, "a neighbor is dialed: {:?}", dial.errand);
        }
        debug_assert!(dial.node != Some(self.me.node), "a node dials itself");
        debug_assert!(!self.is_closing() && !self.is_resting(), "a node that is going dials");
    }
}
