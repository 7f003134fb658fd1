//! Streams, positions in them, and ranges of their messages.

use std::fmt;

use bytes::Bytes;

use crate::error::{DecodeError, limit};
use crate::generated as proto;
use crate::id::{Epoch, NodeId, Sequence};
use crate::limits::POSITIONS_MAX;
use crate::name::ChannelName;

/// One origin's messages in one channel during one join: the unit of order
/// (protocol.md section 4). Ordered by (origin, epoch, channel), the order of digests.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    /// The node that published.
    pub origin: NodeId,
    /// Its join.
    pub epoch: Epoch,
    /// The channel.
    pub channel: ChannelName,
}

impl StreamId {
    pub(crate) fn to_proto(&self) -> proto::Stream {
        proto::Stream {
            origin: Bytes::copy_from_slice(self.origin.as_bytes()),
            epoch: self.epoch.get(),
            channel: self.channel.as_str().to_owned(),
        }
    }

    pub(crate) fn from_proto(message: &proto::Stream) -> Result<Self, DecodeError> {
        Ok(Self {
            origin: NodeId::decode("origin", &message.origin)?,
            epoch: Epoch::decode(message.epoch)?,
            channel: channel(&message.channel)?,
        })
    }

    pub(crate) fn from_field(message: Option<&proto::Stream>) -> Result<Self, DecodeError> {
        Self::from_proto(message.ok_or(DecodeError::Missing("stream"))?)
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.origin.short(), self.epoch.get(), self.channel)
    }
}

fn channel(name: &str) -> Result<ChannelName, DecodeError> {
    ChannelName::new(name)
        .map_err(|_| DecodeError::Invalid { field: "channel", why: "not a valid channel name" })
}

/// How far a stream is complete at some node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Position {
    /// The stream.
    pub stream: StreamId,
    /// Every message up to this one is held, was held, or was reported as a gap.
    pub contiguous: Sequence,
}

impl Position {
    fn to_proto(&self) -> proto::Position {
        proto::Position { stream: Some(self.stream.to_proto()), contiguous: self.contiguous.get() }
    }

    fn from_proto(message: &proto::Position) -> Result<Self, DecodeError> {
        Ok(Self {
            stream: StreamId::from_field(message.stream.as_ref())?,
            contiguous: Sequence::decode("contiguous", message.contiguous)?,
        })
    }
}

pub(crate) fn positions_to_proto(positions: &[Position]) -> Vec<proto::Position> {
    positions.iter().map(Position::to_proto).collect()
}

pub(crate) fn positions_from_proto(messages: &[proto::Position]) -> Result<Vec<Position>, DecodeError> {
    limit("positions", messages.len(), POSITIONS_MAX)?;
    messages.iter().map(Position::from_proto).collect()
}

/// Consecutive messages of one stream, both ends included.
///
/// Invariant: `1 <= first <= last`.
#[derive(Clone, PartialEq, Eq)]
pub struct StreamRange {
    stream: StreamId,
    first: Sequence,
    last: Sequence,
}

impl StreamRange {
    /// A range; `None` if it is empty or begins before the first message.
    #[must_use]
    pub fn new(stream: StreamId, first: Sequence, last: Sequence) -> Option<Self> {
        (Sequence::ZERO < first && first <= last).then_some(Self { stream, first, last })
    }

    /// The stream.
    #[must_use]
    pub const fn stream(&self) -> &StreamId {
        &self.stream
    }

    /// The first message.
    #[must_use]
    pub const fn first(&self) -> Sequence {
        self.first
    }

    /// The last message.
    #[must_use]
    pub const fn last(&self) -> Sequence {
        self.last
    }

    fn to_proto(&self) -> proto::StreamRange {
        proto::StreamRange {
            stream: Some(self.stream.to_proto()),
            first: self.first.get(),
            last: self.last.get(),
        }
    }

    fn from_proto(message: &proto::StreamRange) -> Result<Self, DecodeError> {
        let stream = StreamId::from_field(message.stream.as_ref())?;
        let first = Sequence::decode("first", message.first)?;
        let last = Sequence::decode("last", message.last)?;
        Self::new(stream, first, last).ok_or(DecodeError::Invalid { field: "range", why: "empty" })
    }
}

impl fmt::Debug for StreamRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}[{}..={}]", self.stream, self.first, self.last)
    }
}

pub(crate) fn ranges_to_proto(ranges: &[StreamRange]) -> Vec<proto::StreamRange> {
    ranges.iter().map(StreamRange::to_proto).collect()
}

pub(crate) fn ranges_from_proto(messages: &[proto::StreamRange]) -> Result<Vec<StreamRange>, DecodeError> {
    limit("ranges", messages.len(), POSITIONS_MAX)?;
    messages.iter().map(StreamRange::from_proto).collect()
}
