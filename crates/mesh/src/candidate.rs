//! One node that might become a neighbor: what is known of it, and when to try it again.
//!
//! An entry of the passive view; which entries there are is the table's business
//! (`candidates`).

use std::net::SocketAddr;
use std::time::Duration;

use peerchannel_wire::limits::NODE_ADDRESSES_MAX;
use peerchannel_wire::{Coordinate, NodeId};

use crate::input::DialId;
use crate::time::Time;

/// How a candidate is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    Node(NodeId),
    /// A place whose node is not known in advance.
    Place(SocketAddr),
}

/// Who named a candidate; a later one is the better witness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Source {
    /// Another member.
    Hearsay,
    /// A resolver: kept however often it fails.
    Resolver,
    /// This node itself, in an earlier run: kept, and tried first by a node without neighbors.
    Anchor,
}

/// What is known of one candidate.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The last good one first, as long as it is named.
    pub(crate) addresses: Vec<SocketAddr>,
    /// Where it last answered.
    pub(crate) good: Option<SocketAddr>,
    /// Who answered at a place.
    pub(crate) found: Option<NodeId>,
    /// It was linked once.
    pub(crate) worked: bool,
    /// Another member says that it can be dialed.
    pub(crate) vouched: bool,
    pub(crate) failures: u32,
    pub(crate) not_before: Time,
    /// Until when it is left alone although it would answer: one of the two had too many links.
    /// A node that has too few dials it all the same.
    pub(crate) spared_until: Time,
    /// Since when it is being dialed.
    pub(crate) dialing: Option<(DialId, Time)>,
    pub(crate) source: Source,
    /// When it was last known to be there.
    pub(crate) seen: Time,
    /// How long ago that was when it was heard.
    pub(crate) seen_age: Duration,
    pub(crate) coordinate: Option<Coordinate>,
    /// What a trial of it measured: better than any prediction.
    pub(crate) measured: Option<Duration>,
}

impl Entry {
    /// How long ago it was last known to be there.
    pub(crate) fn age(&self, now: Time) -> Duration {
        now.since(self.seen) + self.seen_age
    }

    /// Whether it may be dialed now; `needy`: by a node that has too few links.
    pub(crate) fn is_ready(&self, now: Time, needy: bool) -> bool {
        self.dialing.is_none() && self.ready_at(needy) <= now
    }

    /// Takes what a resolver says now, but keeps the address that worked: first if it is still
    /// named, else last.
    pub(crate) fn replace_addresses(&mut self, addresses: Vec<SocketAddr>) {
        self.addresses = addresses;
        let Some(good) = self.good else { return };
        if let Some(index) = self.addresses.iter().position(|address| *address == good) {
            self.addresses[..=index].rotate_right(1);
        } else {
            self.addresses.truncate(NODE_ADDRESSES_MAX - 1);
            self.addresses.push(good);
        }
    }

    pub(crate) fn ready_at(&self, needy: bool) -> Time {
        if needy { self.not_before } else { self.not_before.max(self.spared_until) }
    }
}
