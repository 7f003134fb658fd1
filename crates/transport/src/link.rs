//! A link: one mesh's use of a connection, as its driver holds it. Never blocks.
//!
//! ```text
//!  ControlStream --into_link--> control only --establish--> all lanes --finish--> draining
//!                                    |                          |                     |
//!                                    +----------- close, reset, violation, drop -----+--> over
//! ```
//!
//! The [`Link`] only pushes into byte-bounded queues. One task per lane writes them to QUIC,
//! at once when the lane is idle and gathered when it is busy. The [`LinkReader`] reads without
//! any task. All tasks of a link end when it is over, and it is over when its last handle is
//! dropped, except that a goodbye under way is still sent, for two seconds at most.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use peerchannel_wire::{DataLane, EncodedFrame, FrameDecoder, LaneHeader, LinkNumber};
use quinn::{RecvStream, SendDatagramError, SendStream};
use thiserror::Error;
use tokio::sync::{Notify, mpsc, watch};

use crate::connection::{Connection, Losses};
use crate::lane::Lane;
use crate::queue::{LaneQueue, PushError, QueueLevel};
use crate::reader::{LinkReader, Unread};
use crate::reason::{CloseReason, LinkLost};
use crate::registry::{Pending, Registration, Route};
use crate::stats::{Meter, Traffic};
use crate::writer;

/// Datagrams that wait for the driver; further ones are dropped (protocol.md section 4:
/// volatile messages are never queued for long).
const DATAGRAMS_MAX: usize = 64;

/// The sending side of a link. Handles are cheap to clone; when the last one is dropped, the
/// link is reset with [`CloseReason::Abandoned`] unless it is finishing.
#[derive(Debug, Clone)]
pub struct Link {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    connection: Connection,
    number: LinkNumber,
    shared: Arc<LinkShared>,
    // What `establish` needs, once.
    unestablished: Mutex<Option<Unestablished>>,
}

#[derive(Debug)]
struct Unestablished {
    pending: Option<Pending>,
    route: Route,
}

/// A link that could not be established.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EstablishError {
    /// It is established already.
    #[error("link is established already")]
    Established,
    /// Another link of this connection has the number: the peer chose it twice.
    #[error("link number {} is in use on this connection", .0.0)]
    NumberInUse(LinkNumber),
    /// The link is over or finishing.
    #[error("link is closed")]
    Closed,
}

/// A datagram that was not sent.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DatagramError {
    /// It does not fit the path at the moment.
    #[error("datagram is longer than {limit} bytes")]
    TooLarge {
        /// The most that fits now, link number included.
        limit: usize,
    },
    /// The peer takes no datagrams.
    #[error("the peer takes no datagrams")]
    Unsupported,
    /// Too many wait to be sent.
    #[error("too many datagrams wait to be sent")]
    Full,
    /// The link or its connection is over.
    #[error("link is closed")]
    Closed,
}

impl Link {
    /// The number of its control stream, which Welcome should assign.
    #[must_use]
    pub fn number(&self) -> LinkNumber {
        self.inner.number
    }

    /// The connection under it.
    #[must_use]
    pub fn connection(&self) -> &Connection {
        &self.inner.connection
    }

    /// Queues one complete frame on a lane. Never waits.
    ///
    /// # Errors
    /// [`PushError`]; the frame was not queued. [`room`](Self::room) tells beforehand: the
    /// encoder of a data lane counts on every frame being sent.
    pub fn push(&self, lane: Lane, frame: EncodedFrame) -> Result<QueueLevel, PushError> {
        let shared = &self.inner.shared;
        let pushed = shared.queue(lane).push(frame);
        if let Err(PushError::Full(_)) = pushed {
            shared.meter.count(|c| c.pushes_refused.add(1));
        }
        pushed
    }

    /// Opens our data lanes and routes the peer's lanes and datagrams of this number here.
    /// For the moment a Welcome is sent or received. Never waits.
    ///
    /// Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`EstablishError`]; nothing changed.
    pub fn establish(&self, number: LinkNumber) -> Result<(), EstablishError> {
        let shared = &self.inner.shared;
        if shared.is_over() || shared.is_finishing() {
            return Err(EstablishError::Closed);
        }
        let mut slot = self.inner.unestablished.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Unestablished { pending, route }) = slot.take() else {
            return Err(EstablishError::Established);
        };
        let registry = self.inner.connection.registry();
        let registration = match registry.register(number, route) {
            Ok(registration) => registration,
            Err(route) => {
                *slot = Some(Unestablished { pending, route });
                return Err(EstablishError::NumberInUse(number));
            }
        };
        drop(slot);
        // Only now: a lane parked for this link must find it registered.
        drop(pending);
        shared.established.store(true, Ordering::Release);
        *shared.registration.lock().unwrap_or_else(PoisonError::into_inner) = Some(registration);
        for lane in [DataLane::Interactive, DataLane::Bulk] {
            shared.queue(lane.into()).open();
            let quic = self.inner.connection.quic().clone();
            let header = LaneHeader { link: number, lane };
            tokio::spawn(writer::write_data(shared.clone(), quic, header));
        }
        Ok(())
    }

    /// Bytes a frame may have to fit into the lane's queue now. Zero while it takes none.
    #[must_use]
    pub fn room(&self, lane: Lane) -> usize {
        self.inner.shared.queue(lane).room()
    }

    /// Bytes queued on a lane and not yet handed to QUIC, with 64 bytes of overhead per frame.
    #[must_use]
    pub fn queued_bytes(&self, lane: Lane) -> usize {
        self.inner.shared.queue(lane).queued_bytes()
    }

    /// The smoothed round-trip time of the connection.
    #[must_use]
    pub fn rtt(&self) -> Duration {
        self.inner.connection.rtt()
    }

    /// What this link carried.
    #[must_use]
    pub fn stats(&self) -> Traffic {
        self.inner.shared.meter.read()
    }

    /// Sends one datagram, link number included, as the wire crate encodes it. It may be lost
    /// or overtake others. Never waits.
    ///
    /// # Errors
    /// [`DatagramError`]; it was not sent.
    pub fn send_datagram(&self, datagram: Bytes) -> Result<(), DatagramError> {
        let shared = &self.inner.shared;
        if shared.is_over() {
            return Err(DatagramError::Closed);
        }
        let quic = self.inner.connection.quic();
        let limit = quic.max_datagram_size().ok_or(DatagramError::Unsupported)?;
        if datagram.len() > limit {
            return Err(DatagramError::TooLarge { limit });
        }
        // quinn would drop the oldest instead.
        if quic.datagram_send_buffer_space() < datagram.len() {
            return Err(DatagramError::Full);
        }
        quic.send_datagram(datagram).map_err(|error| match error {
            SendDatagramError::TooLarge => DatagramError::TooLarge { limit },
            SendDatagramError::UnsupportedByPeer | SendDatagramError::Disabled => DatagramError::Unsupported,
            SendDatagramError::ConnectionLost(_) => DatagramError::Closed,
        })?;
        shared.meter.count(|c| c.datagrams_sent.add(1));
        Ok(())
    }

    /// The longest datagram that can be sent now, link number included; `None` if the peer
    /// takes none. Grows as QUIC discovers the path.
    #[must_use]
    pub fn datagram_limit(&self) -> Option<usize> {
        self.inner.connection.quic().max_datagram_size()
    }

    /// Says goodbye: sends what is queued, ends both data lanes, then sends `last` (a
    /// Disconnect or Refuse) behind the queued control frames and ends the control lane.
    /// Nothing can be pushed any longer. Never waits: the reader and [`over`](Self::over)
    /// tell when it is done ([`LinkLost::Finished`]), after
    /// [`finish_timeout`](crate::EndpointConfig::finish_timeout) at the latest. The goodbye
    /// is sent even if every handle and the reader are dropped meanwhile.
    ///
    /// # Errors
    /// [`PushError::Closed`] if the link is over or finishing already;
    /// [`PushError::TooLong`] if `last` is above the limit of the control lane.
    pub fn finish(&self, last: EncodedFrame) -> Result<(), PushError> {
        let limit = Lane::Control.frame_max();
        if last.len() > limit {
            return Err(PushError::TooLong { length: last.len(), limit });
        }
        self.inner.shared.finish(Goodbye { last, connection: self.inner.connection.clone() })
    }

    /// Resets everything of this link now. The first reason counts.
    pub fn close(&self, reason: CloseReason) {
        self.inner.shared.end(LinkLost::ClosedLocally(reason));
    }

    /// Waits until the link is over. Dropping the future loses nothing.
    ///
    /// The reader may still hold frames that arrived before.
    pub async fn over(&self) -> LinkLost {
        self.inner.shared.over().await
    }

    /// Whether the link is over.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.inner.shared.is_over()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if !self.shared.is_finishing() {
            self.shared.end(LinkLost::ClosedLocally(CloseReason::Abandoned));
        }
    }
}

/// Starts a link on a control stream. Without halves (never the case) it is over at once.
pub(crate) fn start(
    connection: Connection,
    number: LinkNumber,
    halves: Option<(SendStream, RecvStream)>,
    mut decoder: FrameDecoder,
    pending: Option<Pending>,
) -> (Link, LinkReader) {
    let config = connection.config().clone();
    let shared = Arc::new(LinkShared {
        queues: Lane::ALL.map(|lane| LaneQueue::new(lane, config.queues.of(lane))),
        lost: watch::Sender::new(None),
        established: AtomicBool::new(false),
        drained: AtomicU8::new(0),
        notice: Notify::new(),
        goodbye: Mutex::new(GoodbyeState::None),
        registration: Mutex::new(None),
        unread: Mutex::new(None),
        farewell: watch::Sender::new(Farewell::default()),
        meter: Meter::below(&connection.registry().meter),
        losses: connection.losses(),
    });
    shared.queue(Lane::Control).open();
    decoder.set_limit(Lane::Control.frame_max());
    // Both lanes fit, so that handing over never waits.
    let (lanes, lanes_in) = mpsc::channel(2);
    let (datagrams, datagrams_in) = mpsc::channel(DATAGRAMS_MAX);
    let control = match halves {
        Some((send, recv)) => {
            tokio::spawn(writer::write_control(shared.clone(), send, config.finish_timeout));
            Some((recv, decoder))
        }
        None => {
            shared.end(LinkLost::ClosedLocally(CloseReason::Abandoned));
            None
        }
    };
    let reader = LinkReader::new(shared.clone(), &connection, control, lanes_in, datagrams_in);
    let route = Route { link: shared.clone(), lanes, datagrams };
    let unestablished = Mutex::new(Some(Unestablished { pending, route }));
    (Link { inner: Arc::new(Inner { connection, number, shared, unestablished }) }, reader)
}

/// What the handles, the reader and the writers of one link share. Holds no connection, so
/// that a link's tasks keep none open.
#[derive(Debug)]
pub(crate) struct LinkShared {
    queues: [LaneQueue; Lane::ALL.len()],
    // Set once; everything of the link ends with it.
    lost: watch::Sender<Option<LinkLost>>,
    pub(crate) established: AtomicBool,
    // One bit per lane whose notice is due.
    drained: AtomicU8,
    pub(crate) notice: Notify,
    goodbye: Mutex<GoodbyeState>,
    // Held until the reader is done: a lane may find its link after the peer closed its end.
    registration: Mutex<Option<Registration>>,
    // Of a reader that was dropped while our goodbye is under way: to stop the peer's streams
    // now would look to it as if the link were closed before it has the goodbye.
    unread: Mutex<Option<Unread>>,
    pub(crate) farewell: watch::Sender<Farewell>,
    pub(crate) meter: Meter,
    pub(crate) losses: Losses,
}

/// The last frame of a link. Keeps the connection open until it is sent.
#[derive(Debug)]
pub(crate) struct Goodbye {
    pub(crate) last: EncodedFrame,
    #[expect(dead_code, reason = "held, not used")]
    connection: Connection,
}

#[derive(Debug)]
enum GoodbyeState {
    None,
    Ready(Box<Goodbye>),
    Taken,
}

/// How far a goodbye is.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Farewell {
    pub(crate) begun: bool,
    /// Data lanes whose FIN was written.
    pub(crate) ended: usize,
    /// Data lanes the peer's node has in full.
    pub(crate) acknowledged: usize,
}

impl LinkShared {
    pub(crate) fn queue(&self, lane: Lane) -> &LaneQueue {
        &self.queues[lane.index()]
    }

    /// The link is over. The first reason counts.
    pub(crate) fn end(&self, lost: LinkLost) {
        let first = self.lost.send_if_modified(|current| {
            let first = current.is_none();
            if first {
                *current = Some(lost);
            }
            first
        });
        if first {
            for queue in &self.queues {
                queue.close();
            }
            // Dropped outside of the lock: it may hold the last handle of the connection.
            let goodbye = std::mem::replace(&mut *self.goodbye(), GoodbyeState::Taken);
            drop(goodbye);
            let unread = self.unread.lock().unwrap_or_else(PoisonError::into_inner).take();
            if unread.is_some() {
                self.release();
            }
        }
    }

    /// Lanes and datagrams are no longer routed here.
    pub(crate) fn release(&self) {
        let registration = self.registration.lock().unwrap_or_else(PoisonError::into_inner).take();
        drop(registration);
    }

    /// Keeps what a dropped reader left until the goodbye is said.
    pub(crate) fn keep(&self, unread: Unread) {
        *self.unread.lock().unwrap_or_else(PoisonError::into_inner) = Some(unread);
        if self.is_over() {
            // It was said in between.
            let unread = self.unread.lock().unwrap_or_else(PoisonError::into_inner).take();
            drop(unread);
            self.release();
        }
    }

    pub(crate) async fn over(&self) -> LinkLost {
        let mut lost = self.lost.subscribe();
        let over = lost.wait_for(Option::is_some).await.ok().and_then(|lost| lost.clone());
        // The sender lives in `self`: the fallback is never taken.
        over.unwrap_or(LinkLost::ClosedLocally(CloseReason::Abandoned))
    }

    pub(crate) fn lost(&self) -> Option<LinkLost> {
        self.lost.borrow().clone()
    }

    pub(crate) fn is_over(&self) -> bool {
        self.lost.borrow().is_some()
    }

    pub(crate) fn is_finishing(&self) -> bool {
        self.farewell.borrow().begun
    }

    fn finish(&self, goodbye: Goodbye) -> Result<(), PushError> {
        let mut slot = self.goodbye();
        if self.is_over() || !matches!(*slot, GoodbyeState::None) {
            return Err(PushError::Closed);
        }
        *slot = GoodbyeState::Ready(Box::new(goodbye));
        drop(slot);
        self.farewell.send_modify(|farewell| farewell.begun = true);
        for queue in &self.queues {
            queue.finish();
        }
        Ok(())
    }

    pub(crate) fn take_goodbye(&self) -> Option<Box<Goodbye>> {
        match std::mem::replace(&mut *self.goodbye(), GoodbyeState::Taken) {
            GoodbyeState::Ready(goodbye) => Some(goodbye),
            GoodbyeState::None | GoodbyeState::Taken => None,
        }
    }

    fn goodbye(&self) -> std::sync::MutexGuard<'_, GoodbyeState> {
        self.goodbye.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The notice that a lane drained is due.
    pub(crate) fn announce_drained(&self, lane: Lane) {
        self.drained.fetch_or(1 << lane.index(), Ordering::AcqRel);
        self.notice.notify_one();
    }

    /// The most important lane whose notice is due, once.
    pub(crate) fn take_drained(&self) -> Option<Lane> {
        Lane::ALL.into_iter().find(|lane| {
            let bit = 1 << lane.index();
            self.drained.fetch_and(!bit, Ordering::AcqRel) & bit != 0
        })
    }
}
