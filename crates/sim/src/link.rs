//! A connection between two nodes as the model sees it: lanes, silence, and what is held back.
//!
//! ```text
//!            both ends open                          one end gone
//!   opened ──────────────────> one end hears nothing ────────────> half open ──> freed
//!                │   ^              │ (peer dead, standing              │
//!                │   └── hears again┘  still, or behind a wall)         │ idle time-out, or a
//!                └── closed by either end, at once or with a goodbye ───┘ stateless reset
//! ```
//! QUIC's idle rule is computed, not simulated: while both ends hear each other nothing happens
//! here, however long they are idle. Only when an end stops hearing is a look scheduled for the
//! first moment at which it may give up.

use std::collections::VecDeque;

use peerchannel_mesh::LinkId;
use peerchannel_wire::{ControlFrame, DataFrame, Flood, LaneDecoder, LaneEncoder};

use crate::slab::Slab;
use crate::transport::{
    ACK_DELAY, FRAME_COST, IDLE_TIMEOUT, KEEP_ALIVE, KEEP_ALIVE_OF_DIALER, QUEUE_BYTES, STREAM_WINDOW,
};

/// The lanes of a link by number.
pub(crate) const CONTROL: usize = 0;
/// The interactive lane.
pub(crate) const INTERACTIVE: usize = 1;
/// The bulk lane.
pub(crate) const BULK: usize = 2;

pub(crate) const KEEP_ALIVE_NS: u64 = KEEP_ALIVE.as_nanos() as u64;
const KEEP_ALIVE_OF_DIALER_NS: u64 = KEEP_ALIVE_OF_DIALER.as_nanos() as u64;
const ACK_DELAY_NS: u64 = ACK_DELAY.as_nanos() as u64;
pub(crate) const IDLE_NS: u64 = IDLE_TIMEOUT.as_nanos() as u64;

/// One end of one connection, so that events can name it after it is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct EndRef {
    pub(crate) slot: u32,
    pub(crate) serial: u32,
    /// 0 dialed, 1 was dialed.
    pub(crate) side: u8,
}

impl EndRef {
    /// The link's id at this end. Grows with every link that is made.
    pub(crate) fn id(self) -> LinkId {
        LinkId(u64::from(self.serial) << 32 | u64::from(self.slot) << 1 | u64::from(self.side))
    }

    pub(crate) const fn from_id(id: LinkId) -> Self {
        Self { slot: (id.0 as u32) >> 1, serial: (id.0 >> 32) as u32, side: (id.0 & 1) as u8 }
    }

    pub(crate) const fn other(self) -> Self {
        Self { side: 1 - self.side, ..self }
    }
}

/// A connection with one link on it.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) serial: u32,
    /// One-way delay, handling included, in ns.
    pub(crate) delay: u64,
    pub(crate) ends: [End; 2],
    /// One end moved away: no packet finds the other any more.
    pub(crate) severed: bool,
    /// Until when keep-alives are accounted for.
    pub(crate) accounted: u64,
}

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct End {
    pub(crate) host: u32,
    /// Which run of the host's process.
    pub(crate) life: u32,
    pub(crate) open: bool,
    /// When the process died under it: what had not left then is lost.
    pub(crate) died: Option<u64>,
    /// The core knows of it.
    pub(crate) known: bool,
    /// Data lanes are open.
    pub(crate) established: bool,
    /// The goodbye is on its way: nothing more is sent.
    pub(crate) finishing: bool,
    /// Nothing comes from the peer at present.
    pub(crate) silent: bool,
    /// When something came last.
    pub(crate) heard: u64,
    /// When something that wants an answer was sent first since; zero if nothing was.
    pub(crate) asked: u64,
    /// When something was sent last.
    pub(crate) said: u64,
    /// When an acknowledgement was sent last.
    pub(crate) acknowledged: u64,
    /// How long after the last packet came this end sends a keep-alive.
    keep_alive: u64,
    pub(crate) lanes: [Lane; 3],
    /// Packets towards this end that were lost at a wall and are sent again when it falls.
    pub(crate) held: Vec<u32>,
    /// Messages that overtook the Welcome: the transport keeps a lane until its link is up.
    pub(crate) parked: Vec<u32>,
    pub(crate) codec: Option<Box<Codec>>,
}

/// One lane in one direction.
#[derive(Debug, Default)]
pub(crate) struct Lane {
    /// Nothing arrives before: streams keep their order.
    pub(crate) arrives: u64,
    /// What waits for the wire; absent while nothing does.
    backlog: Option<Box<Backlog>>,
}

/// Frames that have not left yet.
#[derive(Debug, Default)]
struct Backlog {
    // (when it leaves QUIC's send window, its bytes), in order.
    frames: VecDeque<(u64, u64)>,
    bytes: u64,
    // The core was told that it is high or full.
    told: bool,
}

/// What a push found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pushed {
    Low,
    /// It rose above half, and the core has to be told.
    High,
}

impl Lane {
    /// Whether a frame of these bytes has room.
    pub(crate) fn has_room(&mut self, lane: usize, bytes: u64, now: u64) -> bool {
        self.leave(now);
        let waiting = self.backlog.as_ref().map_or(0, |backlog| backlog.bytes);
        waiting.saturating_sub(STREAM_WINDOW) + bytes + FRAME_COST <= QUEUE_BYTES[lane]
    }

    /// Notes a frame that leaves later than now.
    pub(crate) fn push(&mut self, lane: usize, bytes: u64, leaves: u64) -> Pushed {
        let backlog = self.backlog.get_or_insert_default();
        backlog.frames.push_back((leaves, bytes + FRAME_COST));
        backlog.bytes += bytes + FRAME_COST;
        if backlog.bytes.saturating_sub(STREAM_WINDOW) > QUEUE_BYTES[lane] / 2 && !backlog.told {
            backlog.told = true;
            return Pushed::High;
        }
        Pushed::Low
    }

    /// Notes that the core was told of a full queue.
    pub(crate) fn refuse(&mut self) {
        self.backlog.get_or_insert_default().told = true;
    }

    /// Whether the core waits to be told that it drained.
    pub(crate) fn waits(&self) -> bool {
        self.backlog.as_ref().is_some_and(|backlog| backlog.told)
    }

    /// When the queue will be below a quarter, if the core waits for it; `None` if that is not
    /// known, because a wall holds everything.
    pub(crate) fn drains(&self, lane: usize) -> Option<u64> {
        let backlog = self.backlog.as_ref()?;
        let mut bytes = backlog.bytes;
        let limit = STREAM_WINDOW + QUEUE_BYTES[lane] / 4;
        let leaving = backlog.frames.iter().find(|(_, frame)| {
            bytes = bytes.saturating_sub(*frame);
            bytes < limit
        });
        leaving.map(|(at, _)| *at).filter(|at| *at != u64::MAX)
    }

    /// Takes note of what has left. True if the core has to be told that the queue drained.
    pub(crate) fn drained(&mut self, lane: usize, now: u64) -> bool {
        self.leave(now);
        let Some(backlog) = &mut self.backlog else { return false };
        let due = backlog.told && backlog.bytes < STREAM_WINDOW + QUEUE_BYTES[lane] / 4;
        if due {
            backlog.told = false;
            if backlog.frames.is_empty() {
                self.backlog = None;
            }
        }
        due
    }

    /// What a wall held leaves now.
    pub(crate) fn freed(&mut self, now: u64) {
        if let Some(backlog) = &mut self.backlog {
            for (leaves, _) in &mut backlog.frames {
                *leaves = (*leaves).min(now);
            }
        }
    }

    fn leave(&mut self, now: u64) {
        let Some(backlog) = &mut self.backlog else { return };
        while let Some((leaves, bytes)) = backlog.frames.front() {
            if *leaves > now {
                return;
            }
            backlog.bytes = backlog.bytes.saturating_sub(*bytes);
            backlog.frames.pop_front();
        }
        if !backlog.told {
            self.backlog = None;
        }
    }
}

/// The encoders and decoders of one end, where frames really are encoded.
#[derive(Debug, Default)]
pub(crate) struct Codec {
    pub(crate) encoders: [LaneEncoder; 2],
    pub(crate) decoders: [LaneDecoder; 2],
}

/// What is on its way.
#[derive(Debug)]
pub(crate) struct Packet {
    pub(crate) to: EndRef,
    pub(crate) sent: u64,
    pub(crate) content: Content,
}

/// What a packet brings.
#[derive(Debug)]
pub(crate) enum Content {
    Control(Box<ControlFrame>),
    Flood(Flood),
    Aside(Box<DataFrame>),
    /// The same in bytes, of this lane.
    Encoded(usize, bytes::Bytes),
    /// A datagram in bytes.
    Datagram(bytes::Bytes),
    /// The data lanes end, then this comes last.
    Farewell(Box<ControlFrame>),
    /// Everything of the link was reset.
    Closed(&'static str),
}

impl Content {
    /// Whether it travels on a data lane.
    pub(crate) const fn is_message(&self) -> bool {
        matches!(self, Self::Flood(_) | Self::Aside(_) | Self::Encoded(INTERACTIVE | BULK, _))
    }
}

impl End {
    pub(crate) fn new(host: u32, life: u32, now: u64) -> Self {
        Self {
            host,
            life,
            open: true,
            died: None,
            known: false,
            established: false,
            finishing: false,
            silent: false,
            heard: now,
            asked: 0,
            said: now,
            acknowledged: 0,
            // Counted from the acknowledgement of what came. `Links::add` knows who dialed.
            keep_alive: KEEP_ALIVE_NS + ACK_DELAY_NS,
            lanes: Default::default(),
            held: Vec::new(),
            parked: Vec::new(),
            codec: None,
        }
    }

    /// Notes that something is sent.
    pub(crate) fn speak(&mut self, now: u64) {
        if self.asked <= self.heard {
            self.asked = now;
        }
        self.said = now;
    }

    /// Notes that something came.
    pub(crate) fn hear(&mut self, now: u64) {
        self.heard = self.heard.max(now);
    }

    /// From now on nothing comes. The last packet came when the connection was last in use,
    /// or when a keep-alive was last exchanged after that.
    pub(crate) fn fall_silent(&mut self, now: u64, delay: u64) {
        self.silent = true;
        let answered = self.said + 2 * delay;
        let used = if answered <= now { self.heard.max(answered) } else { self.heard };
        let idle = now.saturating_sub(used);
        let period = keep_alive_period(delay);
        self.heard = used + idle / period * period;
    }

    /// When it gives up if nothing comes: QUIC arms the idle timer when a packet comes and
    /// again when the first packet that wants an answer is sent after that, which is a
    /// keep-alive at the latest.
    pub(crate) fn gives_up(&self) -> u64 {
        self.asks() + IDLE_NS
    }

    /// When it sent the first packet that wants an answer since something came, or will send it.
    pub(crate) fn asks(&self) -> u64 {
        let ping = self.heard + self.keep_alive;
        if self.asked > self.heard { self.asked.min(ping) } else { ping }
    }
}

/// From one keep-alive of the side that dialed to the next: its timer starts anew when the
/// acknowledgement comes.
const fn keep_alive_period(delay: u64) -> u64 {
    KEEP_ALIVE_OF_DIALER_NS + 2 * delay + ACK_DELAY_NS
}

impl Link {
    /// The ends, ours first.
    pub(crate) fn ends(&self, side: u8) -> (&End, &End) {
        let [dialer, dialed] = &self.ends;
        if side == 0 { (dialer, dialed) } else { (dialed, dialer) }
    }

    /// Keep-alive exchanges since the last call, a PING of the side that dialed and the other's
    /// acknowledgement: one whenever nothing was sent for the interval.
    pub(crate) fn keep_alives(&mut self, now: u64) -> u64 {
        let used = self.ends[0].said.max(self.ends[1].said);
        let period = keep_alive_period(self.delay);
        let count = now.saturating_sub(self.accounted.max(used)) / period;
        self.accounted = self.accounted.max(used) + count * period;
        count
    }
}

/// All connections.
#[derive(Debug, Default)]
pub(crate) struct Links {
    // Each by itself: what a flash crowd made and lost leaves only its place behind.
    slab: Slab<Box<Link>>,
    serial: u32,
}

impl Links {
    pub(crate) fn add(&mut self, delay: u64, mut ends: [End; 2], now: u64) -> EndRef {
        ends[0].keep_alive = KEEP_ALIVE_OF_DIALER_NS;
        self.serial += 1;
        let serial = self.serial;
        let link = Link { serial, delay, ends, severed: false, accounted: now };
        let slot = self.slab.insert(Box::new(link));
        EndRef { slot, serial, side: 0 }
    }

    pub(crate) fn get(&self, end: EndRef) -> Option<&Link> {
        self.slab.get(end.slot).map(|link| &**link).filter(|link| link.serial == end.serial)
    }

    pub(crate) fn get_mut(&mut self, end: EndRef) -> Option<&mut Link> {
        self.slab.get_mut(end.slot).map(|link| &mut **link).filter(|link| link.serial == end.serial)
    }

    pub(crate) fn end_mut(&mut self, end: EndRef) -> Option<&mut End> {
        self.get_mut(end).map(|link| &mut link.ends[usize::from(end.side)])
    }

    pub(crate) fn remove(&mut self, end: EndRef) -> Option<Box<Link>> {
        self.get(end)?;
        self.slab.take(end.slot)
    }

    /// Every link there is, by the end that dialed.
    pub(crate) fn all(&self) -> Vec<EndRef> {
        self.slab.iter().map(|(slot, link)| EndRef { slot, serial: link.serial, side: 0 }).collect()
    }

    pub(crate) fn in_slot(&mut self, slot: u32) -> Option<&mut Link> {
        self.slab.get_mut(slot).map(|link| &mut **link)
    }

    pub(crate) fn slots(&self) -> std::ops::Range<u32> {
        self.slab.places()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn silent_at(heard: u64, said: u64, now: u64) -> End {
        let mut end = End::new(0, 1, 0);
        end.hear(heard);
        end.speak(said);
        end.fall_silent(now, 0);
        end
    }

    #[test]
    fn a_dead_peer_is_given_up_between_the_idle_time_out_and_a_keep_alive_more() {
        for now in 0..50 {
            let died = now * SECOND / 7;
            let end = silent_at(0, 0, died);
            let after = end.gives_up() - died;
            assert!(
                after > IDLE_NS && after <= IDLE_NS + KEEP_ALIVE_NS + ACK_DELAY_NS,
                "{after} after {died}"
            );
        }
    }

    #[test]
    fn what_is_sent_first_after_the_silence_starts_the_clock() {
        let mut end = silent_at(0, 0, SECOND);
        assert_eq!(end.gives_up(), KEEP_ALIVE_NS + ACK_DELAY_NS + IDLE_NS);
        end.speak(2 * SECOND);
        assert_eq!(end.gives_up(), 2 * SECOND + IDLE_NS);
        end.speak(5 * SECOND / 2);
        assert_eq!(end.gives_up(), 2 * SECOND + IDLE_NS, "only the first");
    }

    #[test]
    fn ids_name_the_end_they_were_made_from() {
        for end in [EndRef { slot: 7, serial: 9, side: 1 }, EndRef { slot: 1 << 30, serial: 1, side: 0 }] {
            assert_eq!(EndRef::from_id(end.id()), end);
        }
    }

    #[test]
    fn a_queue_tells_once_when_it_rises_and_once_when_it_drained() {
        let mut lane = Lane::default();
        let frame = 100_000;
        let (mut highs, mut pushed) = (0, 0);
        while lane.has_room(INTERACTIVE, frame, 0) {
            pushed += 1;
            highs += u64::from(lane.push(INTERACTIVE, frame, pushed) == Pushed::High);
        }
        assert_eq!((pushed, highs), (20, 1), "two MiB in frames of 100 kB");
        lane.refuse();
        let at = lane.drains(INTERACTIVE).unwrap();
        assert!(!lane.drained(INTERACTIVE, at - 1));
        assert!(lane.drained(INTERACTIVE, at));
        assert!(!lane.drained(INTERACTIVE, at));
        assert!(!lane.drained(INTERACTIVE, 100) && lane.backlog.is_none());
    }

    #[test]
    fn keep_alives_are_counted_once_per_idle_interval() {
        let mut links = Links::default();
        let end = links.add(0, [End::new(0, 1, 0), End::new(1, 1, 0)], 0);
        let link = links.get_mut(end).unwrap();
        assert_eq!(link.keep_alives(10 * SECOND), 3);
        assert_eq!(link.keep_alives(21 * SECOND / 2), 0);
        link.ends[0].speak(11 * SECOND);
        assert_eq!((link.keep_alives(13 * SECOND), link.keep_alives(14 * SECOND)), (0, 1));
    }
}
