//! A control stream before it is a link: admission and the first frames, one at a time.

use bytes::Bytes;
use peerchannel_wire::limits::ADMISSION_FRAME_MAX;
use peerchannel_wire::{DecodeError, FrameDecoder, LinkNumber};
use quinn::{ReadError, RecvStream, SendStream, StoppedError, VarInt, WriteError};
use thiserror::Error;

use crate::connection::Connection;
use crate::lane::Lane;
use crate::link::{self, Link};
use crate::reader::LinkReader;
use crate::reason::{CloseReason, ConnectionLost};
use crate::registry::Pending;

/// Bytes taken from QUIC at a time: a few packets.
const READ_MAX: usize = 4 * 1024;

/// The bidirectional stream by which one mesh uses a connection.
///
/// Frames are awaited one by one, which is right for admission. After it,
/// [`into_link`](Self::into_link) makes it the control lane of a link. Dropping it resets
/// both directions with [`CloseReason::Abandoned`].
#[derive(Debug)]
pub struct ControlStream {
    connection: Connection,
    number: LinkNumber,
    halves: Option<(SendStream, RecvStream)>,
    decoder: FrameDecoder,
    pending: Option<Pending>,
}

/// A control stream that can no longer be used.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum StreamError {
    /// The peer reset or stopped it.
    #[error("closed by the peer: {0}")]
    ClosedByPeer(CloseReason),
    /// The connection under it is over.
    #[error("connection lost: {0}")]
    Connection(ConnectionLost),
    /// The peer sent a frame that is too long or has no valid length.
    #[error("invalid frame from the peer: {0}")]
    Frame(DecodeError),
    /// The peer ended its side inside a frame.
    #[error("the peer ended the stream inside a frame")]
    Truncated,
    /// This side ended the stream already.
    #[error("closed by this node")]
    ClosedLocally,
}

impl ControlStream {
    pub(crate) fn new(connection: Connection, send: SendStream, recv: RecvStream) -> Self {
        // Stream ids of one kind are dense, so a number beyond 2^32 is a billion streams away;
        // it would be refused as in use.
        let id = VarInt::from(send.id()).into_inner();
        let number = LinkNumber(u32::try_from(id).unwrap_or(u32::MAX));
        let _ = send.set_priority(Lane::Control.priority());
        let pending = Some(connection.registry().pending());
        let decoder = FrameDecoder::new(ADMISSION_FRAME_MAX);
        Self { connection, number, halves: Some((send, recv)), decoder, pending }
    }

    /// The number for a link on this stream: from the QUIC stream id, hence the same at both
    /// ends and never used twice on one connection.
    #[must_use]
    pub fn number(&self) -> LinkNumber {
        self.number
    }

    /// The connection under it.
    #[must_use]
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// The longest frame accepted from the peer, in bytes. Default 1 KiB
    /// ([`ADMISSION_FRAME_MAX`]).
    pub fn set_frame_limit(&mut self, limit: usize) {
        self.decoder.set_limit(limit);
    }

    /// Sends one complete frame, length prefix included, as the wire crate encodes it.
    /// Waits for flow control. Dropping the future may leave half a frame on the wire: then
    /// only [`reject`](Self::reject) makes sense.
    ///
    /// # Errors
    /// [`StreamError`]; the stream cannot go on.
    pub async fn send(&mut self, frame: Bytes) -> Result<(), StreamError> {
        let Some((send, _)) = &mut self.halves else { return Err(StreamError::ClosedLocally) };
        send.write_chunk(frame).await.map_err(|error| match error {
            WriteError::Stopped(code) => StreamError::ClosedByPeer(CloseReason::from_code(code.into_inner())),
            WriteError::ConnectionLost(error) => StreamError::Connection(self.connection.lost(&error)),
            WriteError::ClosedStream | WriteError::ZeroRttRejected => StreamError::ClosedLocally,
        })
    }

    /// The body of the next frame, or `None` when the peer ended its side between frames.
    /// Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`StreamError`]; the stream cannot go on.
    pub async fn recv(&mut self) -> Result<Option<Bytes>, StreamError> {
        let Some((_, recv)) = &mut self.halves else { return Err(StreamError::ClosedLocally) };
        loop {
            if let Some(frame) = self.decoder.next_frame().map_err(StreamError::Frame)? {
                return Ok(Some(frame));
            }
            match recv.read_chunk(READ_MAX, true).await {
                Ok(Some(chunk)) => self.decoder.push(&chunk.bytes),
                Ok(None) if self.decoder.pending() > 0 => return Err(StreamError::Truncated),
                Ok(None) => return Ok(None),
                Err(ReadError::Reset(code)) => {
                    return Err(StreamError::ClosedByPeer(CloseReason::from_code(code.into_inner())));
                }
                Err(ReadError::ConnectionLost(error)) => {
                    return Err(StreamError::Connection(self.connection.lost(&error)));
                }
                Err(ReadError::ClosedStream | ReadError::IllegalOrderedRead | ReadError::ZeroRttRejected) => {
                    return Err(StreamError::ClosedLocally);
                }
            }
        }
    }

    /// Makes it the control lane of a link. Bytes received already are the link's first.
    /// The limit of its frames becomes 64 KiB
    /// ([`CONTROL_FRAME_MAX`](peerchannel_wire::limits::CONTROL_FRAME_MAX)).
    ///
    /// Must be called within a tokio runtime.
    #[must_use]
    pub fn into_link(mut self) -> (Link, LinkReader) {
        let decoder = std::mem::replace(&mut self.decoder, FrameDecoder::new(0));
        link::start(self.connection.clone(), self.number, self.halves.take(), decoder, self.pending.take())
    }

    /// Resets both directions now. What was sent and not yet acknowledged may be lost.
    pub fn reject(mut self, reason: CloseReason) {
        self.reset(reason);
    }

    /// Ends gracefully: waits until the peer has everything that was sent, at most
    /// [`finish_timeout`](crate::EndpointConfig::finish_timeout), then stops reading.
    ///
    /// For a last frame that says why, as a refusal. Dropping the future resets the stream.
    pub async fn finish(mut self, reason: CloseReason) {
        if let Some((send, _)) = &mut self.halves {
            let _ = send.finish();
            let acknowledged = send.stopped();
            let within = self.connection.config().finish_timeout;
            let done: Result<Result<_, StoppedError>, _> = tokio::time::timeout(within, acknowledged).await;
            if matches!(done, Ok(Ok(_))) {
                // Everything arrived: only our reading is left to stop.
                if let Some((_, mut recv)) = self.halves.take() {
                    let _ = recv.stop(reason.varint());
                }
            }
        }
        self.reset(reason);
    }

    fn reset(&mut self, reason: CloseReason) {
        if let Some((mut send, mut recv)) = self.halves.take() {
            let _ = send.reset(reason.varint());
            let _ = recv.stop(reason.varint());
        }
    }
}

impl Drop for ControlStream {
    fn drop(&mut self) {
        self.reset(CloseReason::Abandoned);
    }
}
