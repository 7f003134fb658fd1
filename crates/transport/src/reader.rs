//! What a link tells its driver: frames, datagrams, notices, the end.
//!
//! The reader has no task of its own: it reads while [`LinkReader::recv`] is awaited. So a
//! driver that does not ask is not sent anything, and QUIC's flow control passes that on to
//! the peer. Lanes are asked in the order of their importance.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use peerchannel_wire::{ControlFrame, FrameDecoder};
use quinn::RecvStream;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

use crate::config::LaneLimits;
use crate::connection::Connection;
use crate::inlane::{InFlight, InLane, Step};
use crate::lane::Lane;
use crate::link::LinkShared;
use crate::reason::{CloseReason, LinkLost, Violation};
use crate::registry::IncomingLane;

/// Something that happened on a link.
#[derive(Debug)]
#[non_exhaustive]
pub enum LinkEvent {
    /// Frames arrived: the bodies of all complete frames there were, in order.
    Frames {
        /// On this lane.
        lane: Lane,
        /// Without their length prefixes. They share the memory of one read.
        frames: Vec<Bytes>,
        /// To be held as long as the frames are.
        permit: InFlight,
    },
    /// A datagram arrived; without its link number.
    Datagram(Bytes),
    /// The peer ended this data lane; all its frames were delivered.
    LaneFinished(Lane),
    /// A lane that was above half or refused a push is now below a quarter.
    Drained(Lane),
    /// The link is over. The last event: later calls return it again.
    Closed(LinkLost),
}

/// The receiving side of a link. Dropping it ends the link unless a goodbye is under way.
#[derive(Debug)]
pub struct LinkReader {
    shared: Arc<LinkShared>,
    limits: LaneLimits,
    finish_timeout: Duration,
    control: Option<InLane>,
    interactive: Option<InLane>,
    bulk: Option<InLane>,
    lanes: mpsc::Receiver<Box<IncomingLane>>,
    datagrams: mpsc::Receiver<Bytes>,
    // A Disconnect, and what came behind it, that waits for the end of the data lanes.
    held: Option<(Vec<Bytes>, InFlight)>,
    // The peer ended its control lane well: it closed nothing, whatever it no longer reads.
    finished_by_peer: bool,
    // The end of the link is known; what arrived before is delivered until then.
    deadline: Option<Instant>,
    closed: Option<LinkLost>,
}

/// What one turn of the loop in `recv` brought.
enum Turn {
    Lane(Lane, Step),
    NewLane(Box<IncomingLane>),
    Datagram(Bytes),
    Noticed,
    Over,
    DeadlinePassed,
}

impl LinkReader {
    pub(crate) fn new(
        shared: Arc<LinkShared>,
        connection: &Connection,
        control: Option<(RecvStream, FrameDecoder)>,
        lanes: mpsc::Receiver<Box<IncomingLane>>,
        datagrams: mpsc::Receiver<Bytes>,
    ) -> Self {
        let config = connection.config();
        let limits = config.in_flight;
        Self {
            shared,
            limits,
            finish_timeout: config.finish_timeout,
            control: control.map(|(stream, decoder)| InLane::new(stream, decoder, limits.control)),
            interactive: None,
            bulk: None,
            lanes,
            datagrams,
            held: None,
            finished_by_peer: false,
            deadline: None,
            closed: None,
        }
    }

    /// The next event. Dropping the future loses nothing.
    ///
    /// When the peer or the connection ended the link, what had arrived before is still
    /// delivered. A Disconnect is delivered after all frames of the data lanes
    /// (docs/protocol.md section 1), unless these do not end within
    /// [`finish_timeout`](crate::EndpointConfig::finish_timeout).
    pub async fn recv(&mut self) -> LinkEvent {
        loop {
            if let Some(lost) = &self.closed {
                return LinkEvent::Closed(lost.clone());
            }
            if let Some(lost) = self.shared.lost().filter(ends_at_once) {
                return self.close(lost);
            }
            if let Some(lane) = self.shared.take_drained() {
                return LinkEvent::Drained(lane);
            }
            if self.data_is_over()
                && let Some(event) = self.release_held()
            {
                return event;
            }
            if let Some(lost) = self.end_if_complete() {
                return self.close(lost);
            }
            // Checked here too: a peer that never stops sending must not put the end off.
            let turn = match self.deadline {
                Some(deadline) if Instant::now() >= deadline => Turn::DeadlinePassed,
                _ => self.turn().await,
            };
            if let Some(event) = self.take(turn) {
                return event;
            }
        }
    }

    async fn turn(&mut self) -> Turn {
        let deadline = self.deadline;
        let ending = deadline.is_some();
        // Nothing of control may overtake what is held.
        let control = self.control.as_mut().filter(|_| self.held.is_none());
        tokio::select! {
            biased;
            () = self.shared.notice.notified() => Turn::Noticed,
            step = step(control) => Turn::Lane(Lane::Control, step),
            Some(lane) = self.lanes.recv() => Turn::NewLane(lane),
            step = step(self.interactive.as_mut()) => Turn::Lane(Lane::Interactive, step),
            Some(datagram) = self.datagrams.recv() => Turn::Datagram(datagram),
            step = step(self.bulk.as_mut()) => Turn::Lane(Lane::Bulk, step),
            _ = self.shared.over(), if !ending || self.shared.lost().is_none() => Turn::Over,
            () = sleep_or_never(deadline) => Turn::DeadlinePassed,
        }
    }

    fn take(&mut self, turn: Turn) -> Option<LinkEvent> {
        match turn {
            Turn::Lane(lane, step) => return self.take_step(lane, step),
            Turn::NewLane(lane) => {
                let IncomingLane { header, stream, decoder } = *lane;
                let lane = Lane::from(header.lane);
                let incoming = InLane::new(stream, decoder, self.limits.of(lane));
                match lane {
                    Lane::Bulk => self.bulk = Some(incoming),
                    Lane::Interactive | Lane::Control => self.interactive = Some(incoming),
                }
            }
            Turn::Datagram(datagram) => {
                self.shared.meter.count(|c| c.datagrams_received.add(1));
                return Some(LinkEvent::Datagram(datagram));
            }
            Turn::Noticed => {}
            Turn::Over => self.begin_ending(),
            Turn::DeadlinePassed => {
                // A Disconnect whose sender never ended its data lanes, or a link whose
                // streams did not all end.
                self.deadline = None;
                if let Some(event) = self.release_held() {
                    return Some(event);
                }
                // Our own goodbye has a deadline of its own.
                if !self.shared.is_finishing() {
                    self.shared.end(LinkLost::FinishedByPeer);
                    let lost = self.shared.lost().unwrap_or(LinkLost::FinishedByPeer);
                    return Some(self.close(lost));
                }
            }
        }
        None
    }

    fn take_step(&mut self, lane: Lane, step: Step) -> Option<LinkEvent> {
        match step {
            Step::Frames(frames, permit) => {
                let bytes = frames.iter().map(Bytes::len).sum::<usize>();
                self.shared.meter.count(|c| {
                    c.frames_received.add(frames.len() as u64);
                    c.bytes_received.add(bytes as u64);
                });
                return self.hold_or_deliver(lane, frames, permit);
            }
            Step::Finished if lane == Lane::Control => {
                self.finished_by_peer = true;
                self.begin_ending();
            }
            Step::Finished => return Some(LinkEvent::LaneFinished(lane)),
            Step::Truncated => self.shared.end(LinkLost::Violation(Violation::Truncated(lane))),
            Step::Invalid(error) => self.shared.end(LinkLost::Violation(Violation::Frame { lane, error })),
            // Our goodbye is under way, and the peer answers it by closing: the writers find out
            // whether it has everything.
            Step::Reset(_) if self.shared.is_finishing() => {}
            Step::Reset(reason) => {
                self.shared.end(LinkLost::ClosedByPeer(reason));
                let lost = self.shared.lost().unwrap_or(LinkLost::ClosedByPeer(reason));
                return Some(self.close(lost));
            }
            Step::Lost(error) => self.shared.end(LinkLost::Connection(self.shared.losses.lost(&error))),
        }
        None
    }

    /// "Disconnect takes effect after the data streams' FIN" (docs/protocol.md section 1).
    fn hold_or_deliver(&mut self, lane: Lane, mut frames: Vec<Bytes>, permit: InFlight) -> Option<LinkEvent> {
        let goodbye = frames.iter().position(|frame| ControlFrame::is_disconnect(frame));
        let Some(position) = goodbye.filter(|_| lane == Lane::Control && !self.data_is_over()) else {
            return Some(LinkEvent::Frames { lane, frames, permit });
        };
        let rest = frames.split_off(position);
        self.held = Some((rest, permit));
        self.begin_ending();
        let permit = InFlight::free();
        (!frames.is_empty()).then_some(LinkEvent::Frames { lane, frames, permit })
    }

    fn release_held(&mut self) -> Option<LinkEvent> {
        let (frames, permit) = self.held.take()?;
        Some(LinkEvent::Frames { lane: Lane::Control, frames, permit })
    }

    /// From now on the rest is delivered, but not for longer than the deadline.
    fn begin_ending(&mut self) {
        if self.deadline.is_none() {
            self.deadline = Some(Instant::now() + self.finish_timeout);
        }
    }

    /// Whether no more data frames can come: both lanes ended, or none was ever open.
    fn data_is_over(&self) -> bool {
        let over = |lane: &Option<InLane>| lane.as_ref().is_some_and(InLane::is_over);
        !self.shared.established.load(Ordering::Acquire) || (over(&self.interactive) && over(&self.bulk))
    }

    /// The reason of the end, once everything that arrived was delivered.
    fn end_if_complete(&mut self) -> Option<LinkLost> {
        let control_is_over = self.control.as_ref().is_none_or(InLane::is_over);
        if !control_is_over || self.held.is_some() || !self.lanes.is_empty() {
            return None;
        }
        match self.shared.lost() {
            Some(_) if self.finished_by_peer && self.data_is_over() => Some(LinkLost::FinishedByPeer),
            Some(lost @ LinkLost::Connection(_)) => {
                // On a lost connection a lane that never came will not come.
                let drained = |lane: &Option<InLane>| lane.as_ref().is_none_or(InLane::is_over);
                (drained(&self.interactive) && drained(&self.bulk)).then_some(lost)
            }
            Some(lost) => self.data_is_over().then_some(lost),
            // Our own goodbye is under way, and ends the link when it is done.
            None if self.shared.is_finishing() => None,
            None => self.data_is_over().then(|| {
                self.shared.end(LinkLost::FinishedByPeer);
                self.shared.lost().unwrap_or(LinkLost::FinishedByPeer)
            }),
        }
    }

    fn close(&mut self, lost: LinkLost) -> LinkEvent {
        self.stop(lost.reason());
        self.shared.release();
        self.held = None;
        self.closed = Some(lost.clone());
        LinkEvent::Closed(lost)
    }

    fn stop(&mut self, reason: CloseReason) {
        for mut lane in [self.control.take(), self.interactive.take(), self.bulk.take()].into_iter().flatten()
        {
            lane.stop(reason);
        }
        self.lanes.close();
        while let Ok(mut lane) = self.lanes.try_recv() {
            let _ = lane.stream.stop(reason.varint());
        }
    }
}

impl Drop for LinkReader {
    fn drop(&mut self) {
        if self.shared.is_finishing() {
            let lanes = [self.control.take(), self.interactive.take(), self.bulk.take()];
            let incoming = std::mem::replace(&mut self.lanes, mpsc::channel(1).1);
            return self.shared.keep(Unread { _lanes: lanes, _incoming: incoming });
        }
        self.shared.end(LinkLost::ClosedLocally(CloseReason::Abandoned));
        self.stop(self.shared.lost().map_or(CloseReason::Abandoned, |lost| lost.reason()));
        self.shared.release();
    }
}

/// The peer's streams of a link that nobody reads any longer; they are stopped with it.
#[derive(Debug)]
pub(crate) struct Unread {
    _lanes: [Option<InLane>; Lane::ALL.len()],
    _incoming: mpsc::Receiver<Box<IncomingLane>>,
}

/// Ends that are ours, or that make what arrived worthless.
fn ends_at_once(lost: &LinkLost) -> bool {
    !matches!(lost, LinkLost::ClosedByPeer(_) | LinkLost::Connection(_))
}

async fn step(lane: Option<&mut InLane>) -> Step {
    match lane {
        Some(lane) if !lane.is_over() => lane.step().await,
        _ => pending().await,
    }
}

async fn sleep_or_never(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => pending().await,
    }
}
