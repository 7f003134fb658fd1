//! Shuffles: a few nodes on a random walk, so that passive views stay fresh and mixed.
//!
//! Push only: where the walk ends its nodes are taken in, and nobody answers. A relay takes in
//! two of them. From HyParView (section 4.3) and the limited push of Brahms
//! (docs/protocol.md section 3.8).

use std::time::Duration;

use peerchannel_wire::{ControlFrame, Features, LinkKind, NodeAddress, Shuffle, ShuffledNode};

use crate::candidates::Source;
use crate::input::LinkId;
use crate::link::Link;
use crate::node::Node;
use crate::time::Time;
use crate::timers::Timer;

/// Pause between two shuffles of a node that joined lately, lengthened or shortened by half.
const PAUSE_YOUNG: Duration = Duration::from_secs(10);

/// Pause later on. One shuffle has about 480 bytes with all headers and travels four links, so
/// that a node sends 4 x 480 / 30 = 64 B/s of its 450 for them.
const PAUSE: Duration = Duration::from_secs(30);

/// How long a node is young.
const YOUNG: Duration = Duration::from_secs(120);

/// Links a shuffle travels. On random links of degree four, and taken in by two of its nodes at
/// each relay, more would only cost more: HyParView's 6 reach no more nodes of interest.
const HOPS: u32 = 4;

/// Neighbors a shuffle tells of.
const ACTIVE: usize = 2;

/// Candidates it tells of.
const PASSIVE: usize = 3;

/// How many nodes a relay takes in.
const TAKEN_BY_RELAYS: usize = 2;

/// Shuffles that may come by one link at once, and how soon one more may: an honest node sends
/// or relays about one in ten seconds by each link even in a crowd.
const CREDIT_MAX: u32 = 16;
const CREDIT_PAUSE: Duration = Duration::from_millis(500);

/// What a neighbor may still send.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Credit {
    left: u32,
    since: Time,
}

impl Credit {
    pub(crate) const fn new(now: Time) -> Self {
        Self { left: CREDIT_MAX, since: now }
    }

    fn take(&mut self, now: Time) -> bool {
        let earned = now.since(self.since).as_millis() / CREDIT_PAUSE.as_millis();
        if earned > 0 {
            self.left = self.left.saturating_add(u32::try_from(earned).unwrap_or(CREDIT_MAX)).min(CREDIT_MAX);
            self.since = now;
        }
        let able = self.left > 0;
        self.left = self.left.saturating_sub(1);
        able
    }
}

impl Node {
    pub(crate) fn start_shuffling(&mut self, now: Time) {
        let first = now + half_jitter(PAUSE_YOUNG, &mut self.chance);
        self.timers.set(Timer::Shuffle, first);
    }

    pub(crate) fn shuffle(&mut self, now: Time) {
        if self.is_closing() {
            return;
        }
        let young = now.since(self.started) < YOUNG;
        let pause = if young { PAUSE_YOUNG } else { PAUSE };
        let next = now + half_jitter(pause, &mut self.chance);
        self.timers.set(Timer::Shuffle, next);
        if !self.is_large() {
            return;
        }
        let Some(to) = self.shuffle_link(None) else { return };
        // Only who can be dialed is told of: a dial that nobody answers is what costs most.
        let mut nodes = Vec::new();
        if self.neighborhood.dialable {
            let me = NodeAddress::new(self.me.node, self.me.addresses.iter().copied());
            let coordinate = self.place.told();
            nodes.extend(me.map(|address| ShuffledNode { address, coordinate, age_s: 0 }));
        }
        nodes.extend(self.neighbors_to_tell(to));
        let links = &self.links;
        let linked = |node| links.reaches(node);
        nodes.extend(self.candidates.to_tell(PASSIVE, now, &mut self.chance, linked));
        if !nodes.is_empty() {
            self.stats.shuffles_sent += 1;
            self.control(to, ControlFrame::Shuffle(Shuffle::new(HOPS - 1, nodes)));
        }
    }

    /// Neighbors that this node dialed: others can dial them too.
    fn neighbors_to_tell(&mut self, except: LinkId) -> Vec<ShuffledNode> {
        let dialed = |link: &&Link| link.id != except && link.opened_by_us();
        let links: Vec<LinkId> = self.links.flooding().filter(dialed).map(|link| link.id).collect();
        let chosen = self.chance.sample(links, ACTIVE);
        let links = chosen.into_iter().filter_map(|id| self.links.get(id));
        links
            .filter_map(|link| {
                let address = self.address_of(link)?;
                Some(ShuffledNode { address, coordinate: link.coordinate, age_s: 0 })
            })
            .collect()
    }

    /// A random far link whose peer knows shuffles, or any such link if there is none.
    fn shuffle_link(&mut self, except: Option<LinkId>) -> Option<LinkId> {
        let able = |link: &&Link| Some(link.id) != except && link.features.contains(Features::NEIGHBORHOOD);
        let far = self.links.flooding().filter(able).filter(|link| link.kind == LinkKind::Far);
        let mut links: Vec<LinkId> = far.map(|link| link.id).collect();
        if links.is_empty() {
            links = self.links.flooding().filter(able).map(|link| link.id).collect();
        }
        self.chance.sample(links, 1).pop()
    }

    pub(crate) fn on_shuffle(&mut self, now: Time, from: LinkId, shuffle: &Shuffle) {
        if !self.speaks(from, Features::NEIGHBORHOOD) {
            return self.violation(now, from, "a shuffle without the feature");
        }
        if !self.links.get_mut(from).is_some_and(|link| link.shuffles.take(now)) {
            return self.overloaded("shuffles");
        }
        self.stats.shuffles_received += 1;
        let onward = shuffle.further().and_then(|next| Some((self.shuffle_link(Some(from))?, next)));
        let taken = if onward.is_some() { TAKEN_BY_RELAYS } else { shuffle.nodes().len() };
        for node in self.chance.sample(shuffle.nodes().iter().collect(), taken) {
            self.take_shuffled(now, node);
        }
        if let Some((to, next)) = onward {
            self.control(to, ControlFrame::Shuffle(next));
        }
    }

    fn take_shuffled(&mut self, now: Time, told: &ShuffledNode) {
        let node = told.address.node();
        self.neighborhood.sampler.feed(&told.address);
        if node == self.me.node || self.links.reaches(node) {
            return;
        }
        self.hear_of(now, &told.address, Source::Hearsay);
        let age = Duration::from_secs(told.age_s.into());
        self.candidates.vouch(node, told.coordinate, age, now);
    }
}

/// `base` lengthened or shortened by up to a half.
fn half_jitter(base: Duration, chance: &mut crate::chance::Chance) -> Duration {
    let thousandths = 500 + u32::try_from(chance.below(1001)).unwrap_or(500);
    base * thousandths / 1000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credit_runs_out_and_comes_back() {
        let mut now = Time::ZERO;
        let mut credit = Credit::new(now);
        let taken = (0..100).filter(|_| credit.take(now)).count();
        assert_eq!(taken, CREDIT_MAX as usize);
        now = now + CREDIT_PAUSE * 3;
        assert_eq!((0..100).filter(|_| credit.take(now)).count(), 3);
        now = now + CREDIT_PAUSE * 1000;
        assert_eq!((0..100).filter(|_| credit.take(now)).count(), CREDIT_MAX as usize);
    }
}
