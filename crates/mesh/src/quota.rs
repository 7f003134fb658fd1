//! Who may become a neighbor by dialing this node.
//!
//! Nearly everyone, up to the high limit. Beyond it those who say that they lack links: a node that
//! cannot be dialed depends on those that can. A full node refuses, with referrals. For one that has
//! no neighbor at all another makes room, but only now and then, and not just any: anyone can say
//! that of itself (docs/protocol.md sections 3.1 and 3.4).

use std::time::Duration;

use peerchannel_wire::{Connect, Features, LinkKind, RefuseReason};

use crate::input::LinkId;
use crate::link::{Link, Urgency};
use crate::node::Node;
use crate::time::Time;

/// Links above the target with which a node still takes part in others' trials: one comes in for
/// each that goes out, but not at the same time.
const TRIALS_ABOVE_TARGET: usize = 1;

/// Pause between two neighbors that make room for nodes without any. Who is refused meanwhile is
/// told of ten others, who have pauses of their own (a guess).
const EVICTION_PAUSE: Duration = Duration::from_secs(2);

/// For this long a neighbor that had no other makes no room: it has found others by then (a guess).
const URGENT_KEPT: Duration = Duration::from_secs(10);

/// The part of the limit that neighbors for whom others made room may have: so many of the others
/// a crowd that calls itself urgent can drive out, however long it goes on (a guess).
const URGENT_SHARE: usize = 4;

/// What becomes of a Connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// There is room.
    Free,
    /// There is none, but its sender has no other neighbor: this one makes room.
    Instead(LinkId),
    /// There is none.
    Refused(RefuseReason),
}

impl Node {
    /// Whether there is room for a Connect beside `others` neighbors.
    pub(crate) fn room_for(
        &mut self,
        now: Time,
        id: LinkId,
        connect: &Connect,
        neighbors: Vec<LinkId>,
    ) -> Room {
        let (max, others) = (self.neighbors_max_now(), neighbors.len());
        if connect.urgent && others < max {
            return Room::Free;
        }
        if connect.urgent
            && let Some(other) = self.make_room(now, neighbors)
        {
            return Room::Instead(other);
        }
        // The last places are kept for far links of our own choice, if there is anyone to dial.
        // That a link is far its opener says: it takes none of them by that.
        let kept = if self.candidates.len() > 0 { self.own_far_missing() } else { 0 };
        if others >= max {
            self.stats.refused_full += 1;
            return Room::Refused(RefuseReason::NodeBusy);
        }
        if others + kept >= max {
            self.stats.refused_by_quota += 1;
            return Room::Refused(RefuseReason::NodeBusy);
        }
        // Who has enough links elsewhere has others to go to. Older releases cannot say.
        let lacking = connect.lacking || !self.speaks(id, Features::NEIGHBORHOOD);
        if self.is_large() && !lacking && others >= self.config.neighbors_high {
            self.stats.refused_full += 1;
            return Room::Refused(RefuseReason::NodeBusy);
        }
        // Who only looks for something better does not burden a node that has enough, unless
        // it looks better from here too.
        let enough = others > self.wanted() + TRIALS_ABOVE_TARGET;
        if connect.kind == LinkKind::Trial && enough && !self.looks_near(id, connect) {
            self.stats.refused_trials += 1;
            return Room::Refused(RefuseReason::NodeBusy);
        }
        Room::Free
    }

    /// A random neighbor that makes room for a node without any (HyParView section 4.2): never a
    /// far one of this node's own choice, nor one that came for the same reason just now.
    fn make_room(&mut self, now: Time, neighbors: Vec<LinkId>) -> Option<LinkId> {
        if self.neighborhood.evicted.is_some_and(|at| now.since(at) < EVICTION_PAUSE) {
            return None;
        }
        let made = |link: &Link| link.urgency == Urgency::MadeRoom;
        let of_others = self.links.flooding().filter(|link| made(link)).count();
        let their_turn = of_others >= (self.neighbors_max_now() / URGENT_SHARE).max(1);
        let able = |link: &Link| {
            let young = link.urgency != Urgency::None && now.since(link.since) < URGENT_KEPT;
            !self.is_own_far(link) && !young && !link.mends(now) && (made(link) || !their_turn)
        };
        let able: Vec<LinkId> =
            neighbors.into_iter().filter(|id| self.links.get(*id).is_some_and(able)).collect();
        self.chance.sample(able, 1).first().copied()
    }

    fn looks_near(&self, id: LinkId, connect: &Connect) -> bool {
        let predicted = connect.coordinate.and_then(|theirs| self.place.predict(&theirs));
        let slowest = self
            .links
            .flooding()
            .filter(|link| link.id != id && self.is_replaceable(link))
            .map(|link| link.rtt)
            .max();
        predicted
            .is_some_and(|predicted| slowest.is_some_and(|slowest| crate::swap::gains(predicted, slowest)))
    }
}
