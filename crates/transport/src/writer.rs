//! The tasks that write a link's lanes to QUIC: one per lane, no timers.
//!
//! An idle lane is written at once. While a write waits for flow control, frames gather in the
//! queue and go out together: batching without delay (docs/protocol.md section 1).

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use peerchannel_wire::LaneHeader;
use quinn::{SendStream, StoppedError, VarInt, WriteError};

use crate::lane::Lane;
use crate::link::LinkShared;
use crate::reason::{CloseReason, LinkLost};

/// Data lanes of a link.
const DATA_LANES: usize = 2;

/// Writes the control lane until the link is over; says the goodbye.
pub(crate) async fn write_control(link: Arc<LinkShared>, stream: SendStream, finish_timeout: Duration) {
    let stopped = stream.stopped();
    let lost = tokio::select! {
        biased;
        _ = link.over() => return,
        lost = unasked_end(&link, stopped) => lost,
        () = goodbye_deadline(&link, finish_timeout) => LinkLost::FinishTimedOut,
        done = control(OutStream::new(link.clone(), stream)) => match done {
            Ok(()) => LinkLost::Finished,
            Err(lost) => lost,
        },
    };
    link.end(lost);
}

async fn control(mut out: OutStream) -> Result<(), LinkLost> {
    out.pump(Lane::Control).await?;
    let link = out.link.clone();
    let Some(goodbye) = link.take_goodbye() else { return Err(LinkLost::Finished) };
    let lanes = if link.established.load(Ordering::Acquire) { DATA_LANES } else { 0 };
    let mut farewell = link.farewell.subscribe();
    // "Disconnect takes effect after the data streams' FIN" (docs/protocol.md section 1).
    let _ = farewell.wait_for(|farewell| farewell.ended >= lanes).await;
    let bytes = goodbye.last.len() as u64;
    out.write(&mut [goodbye.last.head.clone(), goodbye.last.body.clone()]).await?;
    link.meter.count(|c| {
        c.frames_sent.add(1);
        c.bytes_sent.add(bytes);
    });
    out.finish().await?;
    let _ = farewell.wait_for(|farewell| farewell.acknowledged >= lanes).await;
    Ok(())
}

/// The end of the link as an idle writer sees it: the connection is gone, or the peer reads no
/// more. After a goodbye the latter is an answer, which `control` judges.
async fn unasked_end(
    link: &LinkShared,
    stopped: impl Future<Output = Result<Option<VarInt>, StoppedError>>,
) -> LinkLost {
    match stopped.await {
        Ok(Some(code)) if !link.is_finishing() => {
            LinkLost::ClosedByPeer(CloseReason::from_code(code.into_inner()))
        }
        Err(StoppedError::ConnectionLost(error)) => LinkLost::Connection(link.losses.lost(&error)),
        Ok(_) | Err(StoppedError::ZeroRttRejected) => pending().await,
    }
}

async fn goodbye_deadline(link: &LinkShared, finish_timeout: Duration) {
    let _ = link.farewell.subscribe().wait_for(|farewell| farewell.begun).await;
    tokio::time::sleep(finish_timeout).await;
}

/// Opens and writes one data lane until the link is over.
pub(crate) async fn write_data(link: Arc<LinkShared>, quic: quinn::Connection, header: LaneHeader) {
    tokio::select! {
        biased;
        _ = link.over() => {}
        lost = data(&link, &quic, header) => link.end(lost),
    }
}

/// Returns only if the lane failed.
async fn data(link: &Arc<LinkShared>, quic: &quinn::Connection, header: LaneHeader) -> LinkLost {
    let lane = Lane::from(header.lane);
    let stream = match quic.open_uni().await {
        Ok(stream) => stream,
        Err(error) => return LinkLost::Connection(link.losses.lost(&error)),
    };
    let _ = stream.set_priority(lane.priority());
    let mut out = OutStream::new(link.clone(), stream);
    let written = async {
        out.write(&mut [header.encode()]).await?;
        out.pump(lane).await?;
        out.end();
        link.farewell.send_modify(|farewell| farewell.ended += 1);
        out.finish().await
    };
    match written.await {
        Ok(()) => link.farewell.send_modify(|farewell| farewell.acknowledged += 1),
        Err(lost) => return lost,
    }
    pending().await
}

/// A stream of ours that is reset with the link's reason unless it ended well.
struct OutStream {
    link: Arc<LinkShared>,
    stream: SendStream,
    acknowledged: bool,
}

impl OutStream {
    fn new(link: Arc<LinkShared>, stream: SendStream) -> Self {
        Self { link, stream, acknowledged: false }
    }

    /// Writes the queue of a lane until it finishes.
    async fn pump(&mut self, lane: Lane) -> Result<(), LinkLost> {
        let link = self.link.clone();
        let queue = link.queue(lane);
        while let Some(mut batch) = queue.next().await {
            self.write(&mut batch.pieces).await?;
            link.meter.count(|c| {
                c.frames_sent.add(batch.frames as u64);
                c.bytes_sent.add(batch.bytes as u64);
                c.writes.add(1);
            });
            if queue.written(&batch) {
                link.announce_drained(lane);
            }
        }
        Ok(())
    }

    async fn write(&mut self, pieces: &mut [Bytes]) -> Result<(), LinkLost> {
        self.stream.write_all_chunks(pieces).await.map_err(|error| match error {
            WriteError::Stopped(code) => LinkLost::ClosedByPeer(CloseReason::from_code(code.into_inner())),
            WriteError::ConnectionLost(error) => LinkLost::Connection(self.link.losses.lost(&error)),
            WriteError::ClosedStream | WriteError::ZeroRttRejected => {
                LinkLost::ClosedLocally(CloseReason::Abandoned)
            }
        })
    }

    /// Writes the FIN.
    fn end(&mut self) {
        let _ = self.stream.finish();
    }

    /// Writes the FIN and waits until the peer's node has everything, or wants no more of it.
    async fn finish(&mut self) -> Result<(), LinkLost> {
        self.end();
        match self.stream.stopped().await {
            Ok(_) => {
                self.acknowledged = true;
                Ok(())
            }
            Err(StoppedError::ConnectionLost(error)) => {
                Err(LinkLost::Connection(self.link.losses.lost(&error)))
            }
            Err(StoppedError::ZeroRttRejected) => Err(LinkLost::ClosedLocally(CloseReason::Abandoned)),
        }
    }
}

impl Drop for OutStream {
    fn drop(&mut self) {
        if !self.acknowledged {
            let reason = self.link.lost().map_or(CloseReason::Abandoned, |lost| lost.reason());
            let _ = self.stream.reset(reason.varint());
        }
    }
}
