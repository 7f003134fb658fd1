//! The receiving side of one lane: bytes from QUIC to frames, paid for with permits.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use peerchannel_wire::{DecodeError, FrameDecoder};
use quinn::{ConnectionError, ReadError, RecvStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::reason::CloseReason;

/// Chunks taken from QUIC at a time, each about a packet: some 90 KB.
const READ_CHUNKS: usize = 64;

/// What a frame costs beside its bytes, so that many tiny frames are bounded too.
const FRAME_COST: usize = 64;

/// Bytes of received frames the driver holds. The lane reads no more while too many are held;
/// dropping it lets the lane go on.
#[derive(Debug)]
pub struct InFlight {
    _permit: Option<OwnedSemaphorePermit>,
}

impl InFlight {
    /// Holds nothing.
    pub(crate) fn free() -> Self {
        Self { _permit: None }
    }
}

/// What a lane's next step brought.
#[derive(Debug)]
pub(crate) enum Step {
    Frames(Vec<Bytes>, InFlight),
    /// The peer ended it, between two frames.
    Finished,
    /// The peer ended it inside a frame.
    Truncated,
    Reset(CloseReason),
    Invalid(DecodeError),
    Lost(ConnectionError),
}

#[derive(Debug)]
pub(crate) struct InLane {
    stream: RecvStream,
    decoder: FrameDecoder,
    // Complete frames that wait for a permit. Invariant: nothing is read while there are any.
    ready: VecDeque<Bytes>,
    // What follows the ready frames.
    end: Option<End>,
    budget: Arc<Semaphore>,
    budget_max: usize,
    over: bool,
}

#[derive(Debug)]
enum End {
    Finished,
    Invalid(DecodeError),
}

impl InLane {
    pub(crate) fn new(stream: RecvStream, decoder: FrameDecoder, budget_max: usize) -> Self {
        let mut lane = Self {
            stream,
            decoder,
            ready: VecDeque::new(),
            end: None,
            budget: Arc::new(Semaphore::new(budget_max)),
            budget_max,
            over: false,
        };
        lane.cut();
        lane
    }

    /// Whether a step was anything but frames: there are no more.
    pub(crate) fn is_over(&self) -> bool {
        self.over
    }

    /// Stops the peer's sending.
    pub(crate) fn stop(&mut self, reason: CloseReason) {
        let _ = self.stream.stop(reason.varint());
    }

    /// The next step. Dropping the future loses nothing.
    pub(crate) async fn step(&mut self) -> Step {
        loop {
            if !self.ready.is_empty() {
                return self.hand_out().await;
            }
            if let Some(end) = self.end.take() {
                self.over = true;
                return match end {
                    End::Finished if self.decoder.pending() > 0 => Step::Truncated,
                    End::Finished => Step::Finished,
                    End::Invalid(error) => Step::Invalid(error),
                };
            }
            let mut chunks: [Bytes; READ_CHUNKS] = std::array::from_fn(|_| Bytes::new());
            match self.stream.read_chunks(&mut chunks).await {
                Ok(Some(count)) => {
                    for chunk in chunks.iter().take(count) {
                        self.decoder.push(chunk);
                    }
                    self.cut();
                }
                Ok(None) => self.end = Some(End::Finished),
                Err(error) => {
                    self.over = true;
                    return match error {
                        ReadError::Reset(code) => Step::Reset(CloseReason::from_code(code.into_inner())),
                        ReadError::ConnectionLost(error) => Step::Lost(error),
                        // Our own doing: nothing more comes.
                        ReadError::ClosedStream
                        | ReadError::IllegalOrderedRead
                        | ReadError::ZeroRttRejected => Step::Finished,
                    };
                }
            }
        }
    }

    fn cut(&mut self) {
        loop {
            match self.decoder.next_frame() {
                Ok(Some(frame)) => self.ready.push_back(frame),
                Ok(None) => return,
                Err(error) => {
                    self.end = Some(End::Invalid(error));
                    return;
                }
            }
        }
    }

    /// As many ready frames as there are permits for, at least one.
    async fn hand_out(&mut self) -> Step {
        let first = self.ready.front().map_or(0, |frame| self.cost(frame));
        // The semaphore is never closed.
        let mut permit = self.budget.clone().acquire_many_owned(first).await.ok();
        let mut frames = Vec::with_capacity(self.ready.len());
        frames.extend(self.ready.pop_front());
        while let Some(next) = self.ready.front() {
            let Ok(more) = self.budget.clone().try_acquire_many_owned(self.cost(next)) else { break };
            if let Some(permit) = &mut permit {
                permit.merge(more);
            }
            frames.extend(self.ready.pop_front());
        }
        Step::Frames(frames, InFlight { _permit: permit })
    }

    fn cost(&self, frame: &Bytes) -> u32 {
        // A frame larger than the budget takes all of it.
        let cost = (frame.len() + FRAME_COST).min(self.budget_max);
        u32::try_from(cost).unwrap_or(u32::MAX)
    }
}
