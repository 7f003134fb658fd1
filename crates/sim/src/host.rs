//! A place where a node runs: its process, its identity, what it can do, and what befalls it.

use std::collections::VecDeque;

use peerchannel_mesh::{Candidate, Node};
use peerchannel_wire::NodeId;

use crate::ledger::Received;
use crate::place::Place;
use crate::world::Event;

/// A place where one node at a time runs.
#[derive(Debug)]
pub(crate) struct Host {
    /// The process, while it runs and is not being called.
    pub(crate) core: Option<Box<Node>>,
    /// Whether a process runs.
    pub(crate) up: bool,
    pub(crate) id: NodeId,
    /// Counts the strangers that took this place.
    pub(crate) identity: u32,
    /// Counts the processes that ran here.
    pub(crate) life: u32,
    /// The epoch of the present process.
    pub(crate) epoch: u64,
    pub(crate) place: Place,
    pub(crate) dialable: bool,
    /// Offers none of the optional features.
    pub(crate) older: bool,
    /// How often its address changed.
    pub(crate) moves: u16,
    /// What sending a byte takes, in ns, times 1024.
    pub(crate) byte_time: u64,
    /// Until when the uplink is busy, as each lane sees it.
    pub(crate) uplink_free: [u64; 3],
    /// Ends of links at this place, those of dead processes included: slot and side.
    pub(crate) links: Vec<u32>,
    /// Handshakes of others that are under way here.
    pub(crate) handshakes: u32,
    pub(crate) standing: Standing,
    /// How many walls of its own cut it off entirely.
    pub(crate) cut: u16,
    pub(crate) life_story: LifeStory,
    /// What the process that ended kept for the next.
    pub(crate) anchors: Vec<Candidate>,
    pub(crate) received: Received,
    /// The process is leaving, and ends when that is done.
    pub(crate) leaving: bool,
    /// It said that it left: to be taken down when its last orders are carried out.
    pub(crate) done: bool,
}

/// Whether and how slowly a process handles what comes.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    /// Since when it stands still.
    pub(crate) paused: Option<u64>,
    /// When it last went on.
    pub(crate) went_on: Option<u64>,
    /// What it takes for each event, if it is slow, in ns.
    pub(crate) handling: u64,
    /// Until when it is busy with the last.
    pub(crate) busy_until: u64,
    /// What came meanwhile.
    pub(crate) waiting: VecDeque<Event>,
    /// It will look at that.
    pub(crate) woken: bool,
}

/// What happened to the present process, or the one that ran last.
#[derive(Debug, Default)]
pub(crate) struct LifeStory {
    pub(crate) started: u64,
    /// When it had its first neighbor.
    pub(crate) online: Option<u64>,
    /// Since when it has none, after it had one.
    pub(crate) alone: Option<u64>,
    /// When it said goodbye or was told to leave.
    pub(crate) left: Option<u64>,
    /// The index of its crash or goodbye.
    pub(crate) departure: Option<u32>,
    /// Neighbors now, as it told.
    pub(crate) neighbors: u32,
    /// Bytes sent, of all kinds.
    pub(crate) sent: u64,
    /// Bad signatures it counted up to the last look.
    pub(crate) faults: u64,
    /// Deadlines handled since the last look.
    pub(crate) deadlines: u32,
}

impl Host {
    /// Whether this process runs.
    pub(crate) fn lives(&self, life: u32) -> bool {
        self.up && self.life == life
    }

    /// Whether what comes has to wait.
    pub(crate) fn is_busy(&self, now: u64) -> bool {
        let standing = &self.standing;
        standing.paused.is_some()
            || (standing.handling > 0 && (standing.busy_until > now || !standing.waiting.is_empty()))
    }

    /// When bytes pushed now on a lane have left, at the speed of the uplink. Lanes before it
    /// go first.
    pub(crate) fn occupy_uplink(&mut self, lane: usize, bytes: u64, now: u64) -> u64 {
        let takes = (bytes * self.byte_time) >> 10;
        let leaves = self.uplink_free[lane].max(now) + takes;
        self.uplink_free[lane] = leaves;
        for later in &mut self.uplink_free[lane + 1..] {
            *later = (*later).max(now) + takes;
        }
        leaves
    }
}

/// What sending a byte takes, in ns, times 1024.
pub(crate) fn byte_time(uplink_bits: u64) -> u64 {
    8 * 1024 * 1_000_000_000 / uplink_bits.max(1)
}
