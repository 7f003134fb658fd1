//! Who may become a neighbor by dialing this node.
//!
//! Nearly everyone, up to the limit: a node that cannot be dialed depends on those that can. A
//! full node refuses, with referrals, except one that has no neighbor at all
//! (docs/protocol.md sections 3.1 and 3.4).

use peerchannel_wire::{Connect, LinkKind, RefuseReason};

use crate::input::LinkId;
use crate::node::Node;

/// Links above the target with which a node still takes part in others' trials: one comes in for
/// each that goes out, but not at the same time.
const TRIALS_ABOVE_TARGET: usize = 1;

/// What becomes of a Connect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// There is room.
    Free,
    /// There is none, but its sender has no other neighbor: another makes room.
    Urgent,
    /// There is none.
    Refused(RefuseReason),
}

impl Node {
    /// Whether there is room for a Connect beside `others` neighbors.
    pub(crate) fn room_for(&mut self, id: LinkId, connect: &Connect, others: usize) -> Room {
        let max = self.neighbors_max_now();
        if connect.urgent {
            return if others >= max { Room::Urgent } else { Room::Free };
        }
        // The last places are kept for far links of our own choice, if there is anyone to dial.
        let kept = if self.candidates.len() > 0 { self.own_far_missing() } else { 0 };
        if others >= max {
            self.stats.refused_full += 1;
            return Room::Refused(RefuseReason::NodeBusy);
        }
        if connect.kind != LinkKind::Far && others + kept >= max {
            self.stats.refused_by_quota += 1;
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
