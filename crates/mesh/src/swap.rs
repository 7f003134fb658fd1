//! Nearer neighbors for slower ones, and now and then another far one.
//!
//! A swap uses the room between the target and the limit instead of a negotiation between four
//! nodes, as X-BOT (SRDS 2009) has it: dial the candidate that coordinates promise most of,
//! measure it, then drop the slowest near link if the new one is better by a fifth and the other
//! end can spare the old one; else drop the new one. What is dropped elsewhere in consequence
//! is left to the pruning of those who have too many.
//!
//! ```text
//!           a candidate promises enough           it is up
//!   Idle ─────────────────────────────> Dialing ────────────> Measuring
//!    ^                                     │ failed, refused      │ three pings, or too late:
//!    └─────────────────────────────────────┴──────────────────────┘ one of the two is dropped
//! ```

use std::time::Duration;

use peerchannel_wire::{DisconnectReason, Features, LinkKind};

use crate::input::{DialId, LinkId};
use crate::link::Link;
use crate::node::Node;
use crate::time::Time;
use crate::timers::Timer;

/// Pause between two attempts while they succeed (docs/protocol.md section 3.7).
pub(crate) const PAUSE_FIRST: Duration = Duration::from_secs(10);

/// Longest pause while no candidate promises anything: to look costs nothing but a wake.
const PAUSE_IDLE_MAX: Duration = Duration::from_secs(60);

/// Longest pause while attempts fail.
const PAUSE_FAILED_MAX: Duration = Duration::from_secs(600);

/// Trials a node may make soon after it joined: enough to replace each near link once.
const TRIALS_AT_FIRST: u32 = 4;

/// How often it may make one more. What is a gain here is often a loss elsewhere, and without
/// this the nodes of a settled mesh go on taking each other's neighbors for ever: simulated, 300
/// nodes made 4 links a second, each with a handshake of about 8 KB on both sides.
const TRIAL_EARNED: Duration = Duration::from_secs(600);

/// A link is not replaced before it lived this long: nothing swings to and fro.
pub(crate) const LIVED: Duration = Duration::from_secs(30);

/// Pings a new link is judged by.
const PINGS: u32 = 3;

/// Pause between two looks at a link that is being measured.
const LOOK: Duration = Duration::from_millis(250);

/// A link that is not measured by then is dropped.
const MEASURE_LIMIT: Duration = Duration::from_secs(10);

/// Smallest gain worth a swap, whatever its share: on a local network a fifth is noise.
const GAIN_MIN: Duration = Duration::from_millis(1);

/// How often a far link is replaced by another that the sampler names
/// (docs/protocol.md section 3.5).
const ROTATION: Duration = Duration::from_secs(1200);

/// Whether one round-trip time is so much shorter than another that a swap pays: by a fifth
/// (X-BOT's hysteresis), and by a millisecond.
pub(crate) fn gains(new: Duration, old: Duration) -> bool {
    new * 10 <= old * 8 && old.saturating_sub(new) >= GAIN_MIN
}

/// How far a swap has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Swap {
    Idle,
    Dialing(DialId),
    Measuring { link: LinkId, until: Time },
}

/// How many trials a node may still make.
#[derive(Debug)]
pub(crate) struct Trials {
    left: u32,
    earned: Time,
}

impl Trials {
    pub(crate) const fn new(now: Time) -> Self {
        Self { left: TRIALS_AT_FIRST, earned: now }
    }

    fn any(&mut self, now: Time) -> bool {
        if now.since(self.earned) >= TRIAL_EARNED {
            self.earned = now;
            self.left = (self.left + 1).min(TRIALS_AT_FIRST);
        }
        self.left > 0
    }

    fn spend(&mut self) {
        self.left = self.left.saturating_sub(1);
    }
}

impl Node {
    pub(crate) fn start_swapping(&mut self, now: Time) {
        let first = now + self.chance.jitter(LIVED);
        self.timers.set(Timer::Swap, first);
        let rotation = now + self.chance.jitter(ROTATION);
        self.timers.set(Timer::Rotate, rotation);
    }

    pub(crate) fn swap(&mut self, now: Time) {
        match self.neighborhood.swap {
            Swap::Idle => self.look_for_nearer(now),
            // The dial's end will set the next time.
            Swap::Dialing(_) => self.timers.set(Timer::Swap, now + PAUSE_IDLE_MAX),
            Swap::Measuring { link, until } => self.judge_trial(now, link, until),
        }
    }

    fn look_for_nearer(&mut self, now: Time) {
        let linked = self.links.iter().filter(|link| link.counts()).count();
        let able = self.is_large()
            && self.neighborhood.trials.any(now)
            && !self.is_closing()
            && !self.is_resting()
            && linked >= self.wanted()
            && linked < self.neighbors_max_now();
        let links = &self.links;
        let nearest = self.candidates.nearest(now, &self.place, |node| links.reaches(node));
        if able
            && let Some(slowest) = self.slowest(now, None).map(|link| link.rtt)
            && let Some((key, predicted)) = nearest
            && gains(predicted, slowest)
        {
            if let Some(dial) = self.dial(now, key, LinkKind::Trial) {
                self.neighborhood.swap = Swap::Dialing(dial);
                self.neighborhood.trials.spend();
            }
            return self.timers.set(Timer::Swap, now + PAUSE_IDLE_MAX);
        }
        self.wait_for_swap(now, PAUSE_IDLE_MAX);
    }

    /// The next attempt comes after a pause, which grows while nothing is gained.
    fn wait_for_swap(&mut self, now: Time, most: Duration) {
        self.neighborhood.swap = Swap::Idle;
        let pause = self.neighborhood.swap_pause;
        if pause < most {
            self.neighborhood.swap_pause = (pause * 2).min(most);
        }
        let next = now + self.chance.jitter(pause);
        self.timers.set(Timer::Swap, next);
    }

    /// The slowest link that may make way for a nearer one and whose peer can do without it.
    fn slowest(&self, now: Time, except: Option<LinkId>) -> Option<&Link> {
        self.links
            .flooding()
            .filter(|link| Some(link.id) != except && self.is_replaceable(link))
            .filter(|link| now.since(link.since) >= LIVED && link.round_trips.count() >= PINGS)
            .filter(|link| link.balance.is_some_and(|balance| balance.spare > 0))
            .max_by_key(|link| (link.rtt, link.id))
    }

    /// A link we dialed is up.
    pub(crate) fn dialed_link_is_up(&mut self, now: Time, id: LinkId, dial: DialId) {
        self.neighborhood.vain_top_ups = 0;
        if self.neighborhood.swap == Swap::Dialing(dial) {
            self.neighborhood.swap = Swap::Measuring { link: id, until: now + MEASURE_LIMIT };
            self.timers.set(Timer::Swap, now + LOOK);
        } else if let Some(link) = self.links.get_mut(id)
            && link.kind == LinkKind::Trial
        {
            link.kind = LinkKind::Near;
        }
        if self.neighborhood.rotation == Some(dial) {
            self.neighborhood.rotation = None;
            self.finish_rotation(now, id);
        }
    }

    /// A dial, or the link it brought, came to nothing.
    pub(crate) fn dial_came_to_nothing(&mut self, now: Time, dial: Option<DialId>, link: Option<LinkId>) {
        let trial = match self.neighborhood.swap {
            Swap::Idle => false,
            Swap::Dialing(id) => Some(id) == dial,
            Swap::Measuring { link: id, .. } => Some(id) == link,
        };
        if trial {
            self.stats.swaps_failed += 1;
            self.wait_for_swap(now, PAUSE_FAILED_MAX);
        }
        if dial.is_some() && self.neighborhood.rotation == dial {
            self.neighborhood.rotation = None;
        }
    }

    fn judge_trial(&mut self, now: Time, id: LinkId, until: Time) {
        let Some(link) = self.links.get(id).filter(|link| link.carries_floods()) else {
            return self.dial_came_to_nothing(now, None, Some(id));
        };
        let (peer, measured, pings) = (link.peer, link.rtt, link.round_trips.count());
        if pings < PINGS && now < until {
            self.measure(now, id);
            // What the old one's peer can spare must be fresh when it is decided.
            if let Some(old) = self.slowest(now, Some(id)).map(|link| link.id) {
                self.ask_balance(now, old);
            }
            return self.timers.set(Timer::Swap, now + LOOK);
        }
        self.candidates.note_measured(peer, measured);
        let old = self.slowest(now, Some(id)).filter(|old| pings >= PINGS && gains(measured, old.rtt));
        let old = old.map(|link| link.id);
        if let Some(link) = self.links.get_mut(id) {
            link.kind = LinkKind::Near;
        }
        self.neighborhood.swap = Swap::Idle;
        if let Some(old) = old {
            self.stats.swaps += 1;
            self.neighborhood.swap_pause = PAUSE_FIRST;
            self.drop_link(now, old, DisconnectReason::NotUsefulNeighbor);
            self.wait_for_swap(now, PAUSE_FIRST);
        } else {
            self.stats.swaps_failed += 1;
            if self.links.flooding().count() > self.wanted() {
                self.drop_link(now, id, DisconnectReason::NotUsefulNeighbor);
            }
            self.wait_for_swap(now, PAUSE_FAILED_MAX);
        }
    }

    // ---- rotation ----------------------------------------------------------

    /// Replaces one far link, so that whoever surrounds this node does not do so for ever.
    pub(crate) fn rotate(&mut self, now: Time) {
        let next = now + self.chance.jitter(ROTATION);
        self.timers.set(Timer::Rotate, next);
        let full = self.links.flooding().count() >= self.neighbors_max_now();
        if !self.is_large() || self.is_closing() || self.is_resting() || full {
            return;
        }
        if let Some(key) = self.choose(now, LinkKind::Far) {
            self.neighborhood.rotation = self.dial(now, key, LinkKind::Far);
        }
    }

    /// The new far link is up: the youngest other one of ours makes way, if there are enough
    /// and its peer can spare it. The oldest ones are anchors.
    fn finish_rotation(&mut self, now: Time, new: LinkId) {
        self.stats.rotations += 1;
        if self.own_far_links() <= self.own_far_min() || self.links.flooding().count() <= self.wanted() {
            return;
        }
        let old = self
            .links
            .flooding()
            .filter(|link| link.id != new && link.kind == LinkKind::Far && link.opened_by_us())
            .filter(|link| now.since(link.since) >= LIVED)
            .filter(|link| {
                let old_release = !link.features.contains(Features::NEIGHBORHOOD);
                old_release || link.balance.is_some_and(|balance| balance.spare > 0)
            })
            .max_by_key(|link| (link.since, link.id))
            .map(|link| link.id);
        if let Some(old) = old {
            self.drop_link(now, old, DisconnectReason::NotUsefulNeighbor);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trials_run_out_and_are_earned_slowly() {
        let mut trials = Trials::new(Time::ZERO);
        let mut made = 0;
        for second in 0..3600 {
            if trials.any(Time::ZERO + Duration::from_secs(second)) {
                trials.spend();
                made += 1;
            }
        }
        assert_eq!(made, 4 + 5);
    }

    #[test]
    fn a_gain_is_a_fifth_and_a_millisecond() {
        let check = |new: u64, old: u64, expected: bool| {
            assert_eq!(
                gains(Duration::from_micros(new), Duration::from_micros(old)),
                expected,
                "{new} {old}"
            );
        };
        check(80_000, 100_000, true);
        check(81_000, 100_000, false);
        check(100_000, 80_000, false);
        check(200, 900, false);
        check(0, 1_000, true);
        check(5_000, 5_000, false);
    }
}
