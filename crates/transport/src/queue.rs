//! The outgoing queue of one lane: bounded in bytes, never waits, says when it drained.
//!
//! The driver pushes, one writer task takes. A push that finds the queue above half or full
//! arms a notice; the notice is given exactly once, when the queue has fallen below a quarter,
//! so that a driver that stopped pushing knows when to go on and is not woken in between.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use peerchannel_wire::EncodedFrame;
use thiserror::Error;
use tokio::sync::Notify;

use crate::lane::Lane;

/// Bytes written to QUIC in one call (docs/protocol.md section 1: a guess).
const WRITE_BYTES_MAX: usize = 64 * 1024;

/// Pieces up to this size are copied into one buffer: cheaper than a reference-counted slice
/// of their own in QUIC's send buffer (a guess).
const COPY_BYTES_MAX: usize = 256;

/// What a queued frame costs beside its bytes, so that many tiny frames are bounded too: two
/// `Bytes` and their allocations.
const FRAME_COST: usize = 64;

/// How full a lane's queue is after a push.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum QueueLevel {
    /// At most half full.
    Low,
    /// Above half: the driver should push less. A
    /// [`LinkEvent::Drained`](crate::LinkEvent::Drained) follows.
    High,
}

/// A frame that was not queued.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PushError {
    /// The queue has no room for this frame now. A
    /// [`LinkEvent::Drained`](crate::LinkEvent::Drained) follows; the frame is given back.
    #[error("queue is full")]
    Full(EncodedFrame),
    /// The frame is longer than the lane allows: a mistake of the caller.
    #[error("frame of {length} bytes, the limit of this lane is {limit}")]
    TooLong {
        /// Its bytes.
        length: usize,
        /// The lane's limit.
        limit: usize,
    },
    /// Data lanes are not open before [`Link::establish`](crate::Link::establish).
    #[error("link is not established")]
    NotEstablished,
    /// The link is over or finishing.
    #[error("link is closed")]
    Closed,
}

#[derive(Debug)]
pub(crate) struct LaneQueue {
    lane: Lane,
    capacity: usize,
    state: Mutex<State>,
    // One consumer: a stored permit is enough.
    wake: Notify,
}

#[derive(Debug)]
struct State {
    frames: VecDeque<EncodedFrame>,
    // Invariant: the cost of `frames` plus what the writer took and has not yet written.
    bytes: usize,
    phase: Phase,
    // A push saw the queue above half; the notice is due when it falls below a quarter.
    armed: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Shut,
    Open,
    Finishing,
    Closed,
}

/// What the writer takes at a time.
#[derive(Debug)]
pub(crate) struct Batch {
    pub(crate) pieces: Vec<Bytes>,
    pub(crate) frames: usize,
    pub(crate) bytes: usize,
}

enum Taken {
    Batch(Batch),
    Ended,
    Nothing,
}

impl LaneQueue {
    pub(crate) fn new(lane: Lane, capacity: usize) -> Self {
        let state = State { frames: VecDeque::new(), bytes: 0, phase: Phase::Shut, armed: false };
        Self { lane, capacity, state: Mutex::new(state), wake: Notify::new() }
    }

    pub(crate) fn open(&self) {
        let mut state = self.lock();
        if state.phase == Phase::Shut {
            state.phase = Phase::Open;
        }
    }

    pub(crate) fn push(&self, frame: EncodedFrame) -> Result<QueueLevel, PushError> {
        // Four bytes of length prefix come on top of the lane's limit.
        let limit = self.lane.frame_max() + 4;
        let length = frame.len();
        if length > limit {
            return Err(PushError::TooLong { length, limit: self.lane.frame_max() });
        }
        let mut state = self.lock();
        match state.phase {
            Phase::Open => {}
            Phase::Shut => return Err(PushError::NotEstablished),
            Phase::Finishing | Phase::Closed => return Err(PushError::Closed),
        }
        let cost = length + FRAME_COST;
        if state.bytes + cost > self.capacity {
            state.armed = true;
            return Err(PushError::Full(frame));
        }
        state.bytes += cost;
        state.frames.push_back(frame);
        let level = if state.bytes > self.capacity / 2 { QueueLevel::High } else { QueueLevel::Low };
        state.armed |= level == QueueLevel::High;
        drop(state);
        self.wake.notify_one();
        Ok(level)
    }

    /// No more pushes; what is queued is still sent.
    pub(crate) fn finish(&self) {
        let mut state = self.lock();
        if state.phase != Phase::Closed {
            state.phase = Phase::Finishing;
        }
        drop(state);
        self.wake.notify_one();
    }

    /// No more pushes; what is queued is discarded.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.phase = Phase::Closed;
        state.frames = VecDeque::new();
        state.bytes = 0;
        state.armed = false;
        drop(state);
        self.wake.notify_one();
    }

    /// Everything queued, up to 64 KiB; waits for something. `None` once finishing or closed
    /// and empty. Dropping the future loses nothing.
    pub(crate) async fn next(&self) -> Option<Batch> {
        loop {
            match self.take() {
                Taken::Batch(batch) => return Some(batch),
                Taken::Ended => return None,
                Taken::Nothing => self.wake.notified().await,
            }
        }
    }

    fn take(&self) -> Taken {
        let mut state = self.lock();
        if !state.frames.is_empty() {
            Taken::Batch(gather(&mut state.frames))
        } else if matches!(state.phase, Phase::Finishing | Phase::Closed) {
            Taken::Ended
        } else {
            Taken::Nothing
        }
    }

    /// Tells that a batch was written. Whether the notice is due now.
    pub(crate) fn written(&self, batch: &Batch) -> bool {
        let mut state = self.lock();
        state.bytes = state.bytes.saturating_sub(batch.bytes + batch.frames * FRAME_COST);
        let due = state.armed && state.bytes < self.capacity / 4 && state.phase == Phase::Open;
        state.armed &= !due;
        due
    }

    pub(crate) fn queued_bytes(&self) -> usize {
        self.lock().bytes
    }

    pub(crate) fn room(&self) -> usize {
        let state = self.lock();
        if state.phase != Phase::Open {
            return 0;
        }
        (self.capacity - state.bytes).saturating_sub(FRAME_COST)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn gather(queue: &mut VecDeque<EncodedFrame>) -> Batch {
    let mut batch = Batch { pieces: Vec::new(), frames: 0, bytes: 0 };
    let mut small = BytesMut::new();
    while let Some(frame) = queue.front() {
        if batch.frames > 0 && batch.bytes + frame.len() > WRITE_BYTES_MAX {
            break;
        }
        let Some(frame) = queue.pop_front() else { break };
        batch.frames += 1;
        batch.bytes += frame.len();
        for piece in [frame.head, frame.body] {
            if piece.len() <= COPY_BYTES_MAX {
                small.extend_from_slice(&piece);
            } else {
                if !small.is_empty() {
                    batch.pieces.push(small.split().freeze());
                }
                batch.pieces.push(piece);
            }
        }
    }
    if !small.is_empty() {
        batch.pieces.push(small.freeze());
    }
    batch
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(length: usize) -> EncodedFrame {
        EncodedFrame { head: Bytes::from_static(b"h"), body: Bytes::from(vec![7; length - 1]) }
    }

    fn queue(capacity: usize) -> LaneQueue {
        let queue = LaneQueue::new(Lane::Interactive, capacity);
        queue.open();
        queue
    }

    #[tokio::test]
    async fn the_notice_comes_once_below_a_quarter() {
        let queue = queue(100_000);
        assert_eq!(queue.push(frame(49_000)), Ok(QueueLevel::Low));
        assert_eq!(queue.push(frame(30_000)), Ok(QueueLevel::High));
        let room = queue.room();
        assert_eq!(queue.push(frame(room + 1)), Err(PushError::Full(frame(room + 1))));
        let first = queue.next().await.unwrap();
        assert_eq!((first.frames, first.bytes), (1, 49_000));
        assert!(!queue.written(&first), "30 of 100 are left");
        assert!(queue.written(&queue.next().await.unwrap()));
        assert_eq!(queue.push(frame(10)), Ok(QueueLevel::Low));
        assert!(!queue.written(&queue.next().await.unwrap()), "nothing was refused since");
        assert_eq!(queue.queued_bytes(), 0);
    }

    #[tokio::test]
    async fn a_batch_is_bounded_and_keeps_the_order() {
        let queue = queue(1 << 20);
        for length in [40_000, 20_000, 20_000, 2] {
            queue.push(frame(length)).unwrap();
        }
        assert_eq!(queue.next().await.unwrap().bytes, 60_000);
        let batch = queue.next().await.unwrap();
        assert_eq!((batch.frames, batch.bytes), (2, 20_002));
        assert_eq!(batch.pieces.iter().map(Bytes::len).sum::<usize>(), 20_002);
    }

    #[tokio::test]
    async fn a_finishing_queue_gives_what_it_has_and_takes_no_more() {
        let queue = queue(1000);
        queue.push(frame(10)).unwrap();
        queue.finish();
        assert_eq!(queue.push(frame(10)), Err(PushError::Closed));
        assert!(queue.next().await.is_some());
        assert!(queue.next().await.is_none());
    }

    #[test]
    fn frames_above_the_lanes_limit_are_the_callers_mistake() {
        let queue = queue(1 << 20);
        assert!(matches!(queue.push(frame(200_000)), Err(PushError::TooLong { length: 200_000, .. })));
    }

    #[test]
    fn data_lanes_are_shut_at_first() {
        let queue = LaneQueue::new(Lane::Bulk, 1 << 20);
        assert_eq!(queue.push(frame(10)), Err(PushError::NotEstablished));
        assert_eq!(queue.room(), 0);
    }
}
