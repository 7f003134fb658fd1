//! Which neighbor goes when there are too many.
//!
//! Above the limit one goes at once. Between the target and the limit one goes now and then, and
//! only if its peer can do without the link too: it is asked just before. Who brings messages
//! first stays; in a quiet mesh the farthest of the near links goes
//! (docs/protocol.md section 3.4).

use std::time::Duration;

use peerchannel_wire::{Balance, DisconnectReason, LinkKind};

use crate::input::LinkId;
use crate::link::Link;
use crate::node::Node;
use crate::swap::LIVED;
use crate::time::Time;
use crate::timers::Timer;

/// Pause between two attempts to drop one link too many, divided by how many there are.
const PRUNE_PAUSE: Duration = Duration::from_secs(10);

/// The same above the high limit. A node with 32 links, which a crowd makes of the first, is
/// below it after some ten seconds (with the pause above, and parts of no less than 1.25 s, it
/// took half a minute).
const PRUNE_PAUSE_ABOVE_HIGH: Duration = Duration::from_secs(5);

/// Above the high limit even younger links may go, once there was time to hear from them.
const LIVED_ABOVE_HIGH: Duration = Duration::from_secs(3);

/// A peer that said this long ago that it needs its links is asked again by a node above the
/// high limit: in a crowd that joins everybody has found more by then.
const SAID_LONG_AGO: Duration = Duration::from_secs(5);

/// The same of a peer that was asked often: where nearly all nodes cannot be dialed, those that can
/// stay above their limit, and nobody has links to spare.
const SAID_OFTEN: Duration = Duration::from_secs(60);

/// Copies of messages from which on their shares say something of a link.
const COPIES_MIN: u64 = 64;

/// A link that brings more than this share of first copies (per mille) is useful: with eight
/// equal links each brings 125.
const USEFUL: u64 = 250;

impl Node {
    /// Drops the least useful neighbors above the limit, at once. Utility is the share of first
    /// copies; of equals the newest goes. Far links of its own choice go last.
    pub(crate) fn shed(&mut self, now: Time) {
        // What mends a split comes on top for its time: nobody else goes for it.
        for link in self.links.iter_mut().filter(|link| link.is_up() && !link.mends(now)) {
            link.debt.heals_until = None;
        }
        let most = self.neighbors_at_most();
        while self.links.flooding().count() > most {
            let ranked = self.links.flooding().map(|link| {
                let far = self.is_large() && !self.is_replaceable(link);
                (
                    link.mends(now),
                    self.is_own_far(link),
                    far,
                    useful_share(link).unwrap_or(0),
                    std::cmp::Reverse(link.since),
                    link.id,
                )
            });
            let Some((.., id)) = ranked.min() else { return };
            self.drop_link(now, id, DisconnectReason::NotUsefulNeighbor);
        }
        self.prune_soon(now);
    }

    /// When the next of the links above the limit has had its time.
    pub(crate) fn next_shed(&self, now: Time) -> Option<Time> {
        if self.links.flooding().count() <= self.neighbors_max_now() {
            return None;
        }
        let times = self.links.flooding().filter_map(|link| link.debt.heals_until);
        times.filter(|until| *until > now).min()
    }

    /// Starts pruning if there are more links than wanted.
    fn prune_soon(&mut self, now: Time) {
        let surplus = self.lasting_links(now).saturating_sub(self.wanted());
        if surplus > 0 && self.is_large() && !self.timers.is_set(&Timer::Prune) {
            let pause = if self.is_burdened(now) { PRUNE_PAUSE_ABOVE_HIGH } else { PRUNE_PAUSE };
            let pause = pause / u32::try_from(surplus.min(32)).unwrap_or(1);
            let next = now + self.chance.jitter(pause);
            self.timers.set(Timer::Prune, next);
        }
    }

    /// One link too many is looked at, and its peer asked.
    pub(crate) fn prune(&mut self, now: Time) {
        if self.is_closing() || !self.is_large() {
            return;
        }
        if let Some(id) = self.least_useful(now) {
            if self.links.get(id).is_some_and(|link| link.balance.is_some()) {
                self.neighborhood.pruning = Some(id);
                self.ask_balance(now, id);
            } else {
                self.drop_pruned(now, id);
            }
        }
        self.prune_soon(now);
    }

    /// The peer of a link that is to be pruned has answered.
    pub(crate) fn prune_answered(&mut self, now: Time, id: LinkId) {
        if self.neighborhood.pruning != Some(id) {
            return;
        }
        self.neighborhood.pruning = None;
        if self.links.get(id).is_some_and(|link| link.carries_floods() && self.can_go(now, link)) {
            self.drop_pruned(now, id);
        }
    }

    fn drop_pruned(&mut self, now: Time, id: LinkId) {
        self.stats.pruned += 1;
        self.drop_link(now, id, DisconnectReason::NotUsefulNeighbor);
    }

    fn least_useful(&self, now: Time) -> Option<LinkId> {
        let able = self.links.flooding().filter(|link| self.is_too_much(now, link));
        let worth_asking = able.filter(|link| self.is_spared(now, link) || self.may_have_changed(now, link));
        worth_asking
            .min_by_key(|link| {
                let useful = useful_share(link).is_some_and(|share| share > USEFUL);
                // Who said that it can do without comes before those that may have changed.
                (
                    !self.is_spared(now, link),
                    !came_to_mend(now, link),
                    useful,
                    link.kind == LinkKind::Far,
                    std::cmp::Reverse(link.rtt),
                    link.id,
                )
            })
            .map(|link| link.id)
    }

    /// Whether both ends can do without a link.
    fn can_go(&self, now: Time, link: &Link) -> bool {
        self.is_too_much(now, link) && self.is_spared(now, link)
    }

    /// Links without those that mend a split: for these nobody goes, whoever opens them.
    fn lasting_links(&self, now: Time) -> usize {
        self.links.flooding().filter(|link| !link.mends(now)).count()
    }

    /// Whether this node has more links than its high limit; where there is no place beyond it for
    /// those that lack links, as many.
    fn is_burdened(&self, now: Time) -> bool {
        let (have, high) = (self.lasting_links(now), self.config.neighbors_high);
        have > high || (have == high && self.config.dialable_high == high)
    }

    /// Whether this end can do without a link.
    fn is_too_much(&self, now: Time, link: &Link) -> bool {
        let burdened = self.is_burdened(now);
        // What another chose for its own safety is its to give up, unless it is too much.
        let chosen = link.kind == LinkKind::Far && !link.opened_by_us();
        let able = self.is_replaceable(link) || (burdened && chosen) || came_to_mend(now, link);
        let lived = now.since(link.since) >= if burdened { LIVED_ABOVE_HIGH } else { LIVED };
        self.lasting_links(now) > self.wanted() && able && lived && !link.mends(now)
    }

    /// Whether the other end can do without it, as far as it said.
    fn is_spared(&self, now: Time, link: &Link) -> bool {
        let burdened = self.is_burdened(now);
        match link.balance {
            // It came on top of the others, and by now knows whom else to link to.
            _ if came_to_mend(now, link) => true,
            // A peer that has just what it wants would dial another in its place, which has too
            // many then: below the high limit such a link stays, or the mesh never comes to rest.
            Some(Balance { surplus, spare }) => surplus > 0 || (burdened && spare > 0),
            // An older release does not say.
            None => burdened,
        }
    }

    /// Above the high limit, whether the other end may have more links than when it last said.
    fn may_have_changed(&self, now: Time, link: &Link) -> bool {
        let pause = if link.round_trips.is_full() { SAID_OFTEN } else { SAID_LONG_AGO };
        self.is_burdened(now) && link.balance.is_some() && now.since(link.measured) >= pause
    }
}

/// Whether another node opened a link to mend a split and has had the time for it. Anyone can say
/// that it does: of links too many these go first.
fn came_to_mend(now: Time, link: &Link) -> bool {
    link.debt.heals_until.is_some_and(|until| until <= now) && !link.opened_by_us()
}

/// First copies per thousand, once there were enough to tell.
fn useful_share(link: &Link) -> Option<u64> {
    let copies = link.useful + link.duplicates;
    (copies >= COPIES_MIN).then(|| link.useful * 1000 / copies)
}
