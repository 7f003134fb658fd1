//! Data lanes: floods and hop-limited messages on uni streams, volatile ones in datagrams.
//!
//! A stream is named in full once per lane and by a small index afterwards. The dictionary
//! belongs to one QUIC stream: [`LaneEncoder`] fills it, [`LaneDecoder`] mirrors it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use bytes::{Buf, Bytes, BytesMut};
use prost::Message as _;

use crate::aside::{Aside, AsideKind};
use crate::batch::Batch;
use crate::error::DecodeError;
use crate::frame::{encode_framed, framed_len, put_varint};
use crate::generated as proto;
use crate::id::LinkNumber;
use crate::limits::{DICTIONARY_MAX, HOP_COUNT_MAX, HOPS_MAX};
use crate::stream::StreamId;

/// A data lane of a link. The control lane is the bidirectional stream itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DataLane {
    /// Messages of ordinary size.
    Interactive,
    /// Large messages, which must not delay the others.
    Bulk,
}

/// The first frame of a uni stream: whose lane it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaneHeader {
    /// The link, as its Welcome numbered it.
    pub link: LinkNumber,
    /// The lane.
    pub lane: DataLane,
}

impl LaneHeader {
    /// Longest encoded header, its length prefix apart.
    pub const LIMIT: usize = 16;

    /// The header as a complete frame.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        let lane = match self.lane {
            DataLane::Interactive => proto::Lane::Interactive,
            DataLane::Bulk => proto::Lane::Bulk,
        };
        encode_framed(&proto::LaneHeader { link_number: self.link.0, lane: lane.into() })
    }

    /// The header from the body of a frame.
    ///
    /// # Errors
    /// [`DecodeError`] if it is not a valid header.
    pub fn decode(body: Bytes) -> Result<Self, DecodeError> {
        let header = proto::LaneHeader::decode(body)?;
        let lane = match proto::Lane::try_from(header.lane) {
            Ok(proto::Lane::Interactive) => DataLane::Interactive,
            Ok(proto::Lane::Bulk) => DataLane::Bulk,
            Ok(proto::Lane::Unspecified) | Err(_) => {
                return Err(DecodeError::Invalid { field: "lane", why: "unknown" });
            }
        };
        Ok(Self { link: LinkNumber(header.link_number), lane })
    }
}

/// A batch on its way over one link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flood {
    /// Origin, epoch and channel.
    pub stream: StreamId,
    /// Links travelled before this one; what arrives is at most 65,535.
    pub hops: u32,
    /// The batch, passed on verbatim and shared by every link it goes to.
    pub batch: Arc<Batch>,
}

/// A hop-limited message on its way over one link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Local {
    /// Links it may still travel after this one; at most 64.
    pub hops_left: u32,
    /// Links travelled before this one; what arrives is at most 65,535.
    pub hops: u32,
    /// The message, passed on verbatim.
    pub message: Aside,
}

/// A volatile message on its way over one link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volatile {
    /// How long it is still worth forwarding, in ms.
    pub remaining_ms: u32,
    /// Links travelled before this one; what arrives is at most 65,535.
    pub hops: u32,
    /// The message, passed on verbatim.
    pub message: Aside,
}

/// What travels on a data lane or in a datagram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataFrame {
    /// On a data lane.
    Flood(Flood),
    /// On the interactive lane.
    Local(Local),
    /// In a datagram.
    Volatile(Volatile),
}

impl DataFrame {
    /// Bytes of the encoded frame, without encoding it: for whoever models a network. A flood
    /// is counted as on a lane that has carried its stream before, under a one-byte index; a
    /// datagram without its link number.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        match self {
            Self::Flood(flood) => {
                let fields = proto::Flood { stream: 1, define: None, hops: flood.hops, batch: Bytes::new() };
                let batch = flood.batch.encoded().len();
                let inner = fields.encoded_len() + 1 + prost::length_delimiter_len(batch) + batch;
                framed_len(1 + framed_len(inner))
            }
            Self::Local(local) => {
                let (content, signature) = local.message.encoded();
                let local = proto::Local { hops_left: local.hops_left, hops: local.hops, content, signature };
                framed_len(1 + framed_len(local.encoded_len()))
            }
            Self::Volatile(volatile) => {
                let (content, signature) = volatile.message.encoded();
                let (remaining_ms, hops) = (volatile.remaining_ms, volatile.hops);
                1 + framed_len(proto::Volatile { remaining_ms, hops, content, signature }.encoded_len())
            }
        }
    }
}

/// An encoded frame in two pieces, so that the large one is shared by all links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedFrame {
    /// Length, hop fields, stream index: this link's own.
    pub head: Bytes,
    /// The verbatim batch or content: shared, never copied.
    pub body: Bytes,
}

impl EncodedFrame {
    /// Bytes on the wire.
    #[must_use]
    pub fn len(&self) -> usize {
        self.head.len() + self.body.len()
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.head.is_empty() && self.body.is_empty()
    }
}

impl From<Bytes> for EncodedFrame {
    fn from(head: Bytes) -> Self {
        Self { head, body: Bytes::new() }
    }
}

/// Encodes the frames of one data lane, in the order they are sent.
///
/// Every encoded frame must be sent: the receiver's dictionary follows this one's.
#[derive(Debug, Default)]
pub struct LaneEncoder {
    indexes: BTreeMap<StreamId, u32>,
    // In order of definition; the oldest index is reused when the dictionary is full.
    defined: VecDeque<StreamId>,
}

impl LaneEncoder {
    /// An encoder for a lane on which nothing was sent yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A flood frame. The batch is not copied.
    pub fn flood(&mut self, flood: &Flood) -> EncodedFrame {
        let (index, define) = self.index(&flood.stream);
        // Built by hand around the shared batch, which must be the last field.
        let fields = proto::Flood { stream: index, define, hops: flood.hops, batch: Bytes::new() };
        let mut inner = BytesMut::with_capacity(fields.encoded_len() + 8);
        fields.encode_raw(&mut inner);
        put_varint(&mut inner, u64::from(FLOOD_BATCH_TAG));
        put_varint(&mut inner, flood.batch.encoded().len() as u64);
        let flood_length = inner.len() + flood.batch.encoded().len();
        let mut oneof = BytesMut::with_capacity(8);
        put_varint(&mut oneof, u64::from(DATA_FLOOD_TAG));
        put_varint(&mut oneof, flood_length as u64);
        let mut head = BytesMut::with_capacity(oneof.len() + inner.len() + 4);
        put_varint(&mut head, (oneof.len() + flood_length) as u64);
        head.extend_from_slice(&oneof);
        head.extend_from_slice(&inner);
        EncodedFrame { head: head.freeze(), body: flood.batch.encoded().clone() }
    }

    /// A frame with a hop-limited message.
    #[must_use]
    pub fn local(&self, local: &Local) -> EncodedFrame {
        let (content, signature) = local.message.encoded();
        let local = proto::Local { hops_left: local.hops_left, hops: local.hops, content, signature };
        encode_framed(&proto::DataFrame { kind: Some(proto::data_frame::Kind::Local(local)) }).into()
    }

    fn index(&mut self, stream: &StreamId) -> (u32, Option<proto::Stream>) {
        if let Some(index) = self.indexes.get(stream) {
            return (*index, None);
        }
        let index = if self.indexes.len() < DICTIONARY_MAX as usize {
            u32::try_from(self.indexes.len()).unwrap_or(DICTIONARY_MAX)
        } else {
            let oldest = self.defined.pop_front();
            oldest.and_then(|oldest| self.indexes.remove(&oldest)).unwrap_or(0)
        };
        self.indexes.insert(stream.clone(), index);
        self.defined.push_back(stream.clone());
        (index, Some(stream.to_proto()))
    }
}

/// Field 15, length-delimited: `Flood.batch`.
const FLOOD_BATCH_TAG: u32 = 15 << 3 | 2;
/// Field 1, length-delimited: `DataFrame.flood`.
const DATA_FLOOD_TAG: u32 = 1 << 3 | 2;

/// Decodes the frames of one data lane, in the order they arrive.
///
/// # Limits
/// The dictionary holds at most 4096 streams; a definition beyond is an error.
#[derive(Debug, Default)]
pub struct LaneDecoder {
    streams: Vec<StreamId>,
}

impl LaneDecoder {
    /// A decoder for a lane on which nothing arrived yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The frame from the body of a length-prefixed frame. Payloads share its memory.
    ///
    /// # Errors
    /// [`DecodeError`] if it is not valid on a data lane; the lane cannot go on then.
    pub fn decode(&mut self, body: Bytes) -> Result<DataFrame, DecodeError> {
        match proto::DataFrame::decode(body)?.kind.ok_or(DecodeError::Missing("data frame"))? {
            proto::data_frame::Kind::Flood(flood) => {
                let stream = self.stream(flood.stream, flood.define.as_ref())?;
                let batch = Arc::new(Batch::decode(flood.batch)?);
                Ok(DataFrame::Flood(Flood { stream, hops: flood.hops.min(HOP_COUNT_MAX), batch }))
            }
            proto::data_frame::Kind::Local(local) => {
                let message = Aside::decode(AsideKind::Local, local.content, &local.signature)?;
                if local.hops_left > HOPS_MAX {
                    return Err(DecodeError::Invalid { field: "hops_left", why: "above 64" });
                }
                let hops = local.hops.min(HOP_COUNT_MAX);
                Ok(DataFrame::Local(Local { hops_left: local.hops_left, hops, message }))
            }
            proto::data_frame::Kind::Volatile(_) => {
                Err(DecodeError::Invalid { field: "data frame", why: "volatile outside a datagram" })
            }
        }
    }

    fn stream(&mut self, index: u32, define: Option<&proto::Stream>) -> Result<StreamId, DecodeError> {
        let slot = index as usize;
        if let Some(define) = define {
            let stream = StreamId::from_proto(define)?;
            if slot < self.streams.len() {
                self.streams[slot] = stream.clone();
            } else if slot == self.streams.len() && index < DICTIONARY_MAX {
                self.streams.push(stream.clone());
            } else {
                return Err(DecodeError::UndefinedStream(index));
            }
            return Ok(stream);
        }
        self.streams.get(slot).cloned().ok_or(DecodeError::UndefinedStream(index))
    }
}

/// A datagram: the link's number, then one volatile message.
#[must_use]
pub fn encode_datagram(link: LinkNumber, volatile: &Volatile) -> Bytes {
    let (content, signature) = volatile.message.encoded();
    let message =
        proto::Volatile { remaining_ms: volatile.remaining_ms, hops: volatile.hops, content, signature };
    let frame = proto::DataFrame { kind: Some(proto::data_frame::Kind::Volatile(message)) };
    let mut buffer = BytesMut::with_capacity(frame.encoded_len() + 5);
    put_varint(&mut buffer, u64::from(link.0));
    frame.encode_raw(&mut buffer);
    buffer.freeze()
}

/// Splits a datagram into its link number and the rest, which [`decode_volatile`] takes.
///
/// # Errors
/// [`DecodeError`] if it does not begin with a link number.
pub fn split_datagram(mut datagram: Bytes) -> Result<(LinkNumber, Bytes), DecodeError> {
    let number = prost::encoding::decode_varint(&mut datagram)?;
    let number =
        u32::try_from(number).map_err(|_| DecodeError::Invalid { field: "link number", why: "too large" })?;
    let rest = datagram.copy_to_bytes(datagram.remaining());
    Ok((LinkNumber(number), rest))
}

/// The volatile message from a datagram without its link number.
///
/// # Errors
/// [`DecodeError`] if it is anything else.
pub fn decode_volatile(body: Bytes) -> Result<Volatile, DecodeError> {
    match proto::DataFrame::decode(body)?.kind {
        Some(proto::data_frame::Kind::Volatile(v)) => Ok(Volatile {
            remaining_ms: v.remaining_ms,
            hops: v.hops.min(HOP_COUNT_MAX),
            message: Aside::decode(AsideKind::Volatile, v.content, &v.signature)?,
        }),
        _ => Err(DecodeError::Invalid { field: "datagram", why: "not a volatile message" }),
    }
}
