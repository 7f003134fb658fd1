//! Links: one entry per admitted control stream, from its first frame to its last.
//!
//! ```text
//!                LinkOpened
//!                    v           their Connect: an older link is to be tested
//!     ┌────────── Awaiting ──────────────────────────────────────> Testing
//!     │ we opened:   │    │                                        │     │
//!     │ our record   │    └─ their Connect is refused ─┐           │     │ the older one
//!     │ is signed    │                                 │           │     │ answers: Refuse
//!     v              │ their Connect:                  │           │     │
//! Connecting         │ Welcome                         │           │     │
//!     │    │ Welcome v              Welcome            │           │     │
//!     │    └───────> Up <──────────────────────────────┼───────────┘     │
//!     │ Refuse       │  │                              │ it is silent    │
//!     v              │  └─ we send Disconnect ─────> Finishing <─────────┘
//!   closed           │                                 │ sent, or after 4 s
//!                    │ Disconnect came                 v
//!                    v                               closed
//!                 Draining ── both lanes finished, or after 2 s ──> closed
//! ```
//! What is neither up nor refused 10 s after it was opened is closed, and so is, in every state,
//! what breaks. A frame that a state does not allow closes the link; in Draining control frames
//! are void, in Finishing all frames (docs/protocol.md section 3). A duplicate that its peer
//! dropped stays in Draining while the link that replaces it is being made.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use peerchannel_wire::{
    Balance, ChannelName, Connect, Coordinate, DisconnectReason, Epoch, Features, LinkKind, LinkNumber,
    LinkPurpose, NodeId, Position, Sequence, StreamId, StreamRange,
};

use crate::coordinate::RoundTrips;
use crate::gossip::Debt;
use crate::input::{DialId, LinkId};
use crate::output::NeighborLoss;
use crate::shuffle::Credit;
use crate::time::Time;

/// Most ranges a neighbor's pulls may leave waiting. A pull beyond drops the oldest: the
/// neighbor asks again.
pub(crate) const SERVING_MAX: usize = 256;

/// Most streams with something to announce on a link; beyond, the digest tells.
pub(crate) const ANNOUNCE_MAX: usize = 256;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LinkState {
    /// They opened it; their Connect is due. Also: we opened it and our record is not signed yet.
    Awaiting,
    /// We sent Connect.
    Connecting,
    /// Their Connect waits for a test of the older link to the same node.
    Testing { old: LinkId, connect: Box<Connect> },
    /// Frames of every kind may travel.
    Up,
    /// Their Disconnect came; their data lanes may still bring messages.
    Draining(DisconnectReason),
    /// Our farewell is on its way; nothing more is sent or believed.
    Finishing,
}

/// How full the queue of data frames is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Low,
    High,
    Full,
}

/// How a link that was opened by the other side came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Urgency {
    /// Its opener had other neighbors, or we opened it.
    None,
    /// Its opener had no other neighbor.
    Urgent,
    /// The same, and another neighbor made room for it.
    MadeRoom,
}

/// One link. What every frame and every look at all links asks for comes first and stays
/// together: two cache lines of about ten.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Link {
    pub(crate) id: LinkId,
    pub(crate) state: LinkState,
    pub(crate) peer: NodeId,
    pub(crate) purpose: LinkPurpose,
    /// Why its opener wanted it. A trial that was passed is near.
    pub(crate) kind: LinkKind,
    pub(crate) level: Level,
    /// We told the neighbor that we announce instead of pushing.
    pub(crate) told_congested: bool,
    /// A neighbor that does not keep up no longer slows `publish` down.
    pub(crate) slow: bool,
    /// It is over, and only stands for its peer until the link that replaces it is up.
    pub(crate) replaced: bool,
    pub(crate) lanes_finished: u8,
    /// The round-trip time: the connection's until the first ping was answered, then the
    /// least of the recent ones.
    pub(crate) rtt: Duration,
    /// First copies of messages that came by this link.
    pub(crate) useful: u64,
    /// Further copies.
    pub(crate) duplicates: u64,
    pub(crate) epoch: Option<Epoch>,
    pub(crate) dial: Option<DialId>,
    pub(crate) since: Time,
    pub(crate) digest_interval: Duration,
    pub(crate) address: SocketAddr,
    pub(crate) number: LinkNumber,
    /// What both ends understand beyond the first release.
    pub(crate) features: Features,
    /// Why it will be reported down, if that was decided before it closed.
    pub(crate) verdict: Option<NeighborLoss>,
    /// It joined knowing as little as we: it is owed a baseline, with our own streams as they
    /// stood when the link came up.
    pub(crate) owed_baseline: Option<Vec<Position>>,
    /// Ranges accepted while the level was not low, to be announced.
    pub(crate) announce: BTreeMap<StreamId, (Sequence, Sequence)>,
    /// Ranges the neighbor pulled and that are still to be served.
    pub(crate) serving: VecDeque<StreamRange>,
    /// Own streams: what the neighbor acknowledged.
    pub(crate) acked: BTreeMap<ChannelName, Sequence>,
    /// When the neighbor last acknowledged something new, or had nothing to acknowledge.
    pub(crate) progress: Time,
    /// What is owed to the neighbor of the member table.
    pub(crate) debt: Debt,
    /// The nonce and time of a test that was not answered yet.
    pub(crate) ping: Option<(u64, Time)>,
    /// The same of a ping that measures the link.
    pub(crate) measuring: Option<(u64, Time)>,
    /// When it was last measured.
    pub(crate) measured: Time,
    /// What pings took.
    pub(crate) round_trips: RoundTrips,
    /// Where the neighbor says it is.
    pub(crate) coordinate: Option<Coordinate>,
    /// What links the neighbor says it could lose.
    pub(crate) balance: Option<Balance>,
    /// Shuffles the neighbor may still send.
    pub(crate) shuffles: Credit,
    /// Whether its opener had no other neighbor, and if another link was dropped for it.
    pub(crate) urgency: Urgency,
}

impl Link {
    pub(crate) fn opened_by_us(&self) -> bool {
        self.dial.is_some()
    }

    pub(crate) fn is_up(&self) -> bool {
        matches!(self.state, LinkState::Up)
    }

    /// Whether messages may be sent on it: an up link between neighbors.
    pub(crate) fn carries_floods(&self) -> bool {
        self.is_up() && self.purpose == LinkPurpose::Neighbor
    }

    /// Whether the application counts its peer as a neighbor: up, or still draining.
    pub(crate) fn is_present(&self) -> bool {
        let present = matches!(self.state, LinkState::Up | LinkState::Draining(_));
        present && self.purpose == LinkPurpose::Neighbor
    }

    /// Whether it counts towards the neighbor limits, now or soon.
    pub(crate) fn counts(&self) -> bool {
        self.purpose == LinkPurpose::Neighbor
            && matches!(
                self.state,
                LinkState::Awaiting | LinkState::Connecting | LinkState::Testing { .. } | LinkState::Up
            )
    }

    /// Notes that the neighbor should hear of a range it was not sent.
    pub(crate) fn note_unsent(&mut self, stream: &StreamId, first: Sequence, last: Sequence) {
        if let Some(range) = self.announce.get_mut(stream) {
            range.0 = range.0.min(first);
            range.1 = range.1.max(last);
        } else if self.announce.len() < ANNOUNCE_MAX {
            self.announce.insert(stream.clone(), (first, last));
        }
    }
}

/// All links of a node in one mesh.
///
/// A node has about ten: a search through a short list costs less than a walk down a tree, and
/// each link lies by itself, so that a look at the others touches only their first lines.
#[derive(Debug, Default)]
pub(crate) struct Links {
    // Invariant: ascending by id, each link under its own.
    table: Vec<(LinkId, Box<Link>)>,
}

impl Links {
    pub(crate) fn insert(&mut self, link: Link) {
        let (id, link) = (link.id, Box::new(link));
        match self.place(id) {
            Ok(place) => self.table[place].1 = link,
            Err(place) => self.table.insert(place, (id, link)),
        }
    }

    pub(crate) fn remove(&mut self, id: LinkId) -> Option<Box<Link>> {
        let place = self.place(id).ok()?;
        Some(self.table.remove(place).1)
    }

    pub(crate) fn get(&self, id: LinkId) -> Option<&Link> {
        let place = self.place(id).ok()?;
        Some(&self.table[place].1)
    }

    pub(crate) fn get_mut(&mut self, id: LinkId) -> Option<&mut Link> {
        let place = self.place(id).ok()?;
        Some(&mut self.table[place].1)
    }

    fn place(&self, id: LinkId) -> Result<usize, usize> {
        self.table.binary_search_by_key(&id, |(id, _)| *id)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Link> {
        self.table.iter().map(|(_, link)| &**link)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Link> {
        self.table.iter_mut().map(|(_, link)| &mut **link)
    }

    /// Links that carry floods, in order of their ids.
    pub(crate) fn flooding(&self) -> impl Iterator<Item = &Link> {
        self.iter().filter(|link| link.carries_floods())
    }

    pub(crate) fn flooding_ids(&self) -> Vec<LinkId> {
        self.flooding().map(|link| link.id).collect()
    }

    /// Whether the application counts a node as a neighbor.
    pub(crate) fn has_neighbor(&self, peer: NodeId) -> bool {
        self.iter().any(|link| link.peer == peer && link.is_present())
    }

    /// Whether it counts anyone as a neighbor.
    pub(crate) fn has_neighbors(&self) -> bool {
        self.iter().any(Link::is_present)
    }

    /// The up link to a node; of two, the one that carries floods.
    pub(crate) fn up_to(&self, peer: NodeId) -> Option<&Link> {
        let up = || self.iter().filter(move |link| link.peer == peer && link.is_up());
        up().find(|link| link.carries_floods()).or_else(|| up().next())
    }

    /// Whether a link to this node is up or being made.
    pub(crate) fn reaches(&self, peer: NodeId) -> bool {
        self.iter().any(|link| link.peer == peer && link.counts())
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.table.is_empty()
    }
}
