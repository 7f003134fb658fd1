//! Framing of byte streams: a varint length, then that many bytes.
//!
//! The decoder is incremental and takes memory only for bytes that arrived: a peer that
//! announces a long frame and sends nothing costs nothing. docs/protocol.md section 1.

use bytes::{Buf, Bytes, BytesMut};
use prost::encoding::DecodeContext;

use crate::error::DecodeError;

/// Most bytes of a length prefix: enough for every limit of this protocol.
const LENGTH_BYTES_MAX: usize = 4;

/// Frames up to this size get memory of their own; larger ones share the buffer they came in.
/// Who keeps a message keeps that memory, and a buffer grows to 64 KiB and more: one kept chat
/// line must not hold on to all of it. Copying so much costs a fraction of verifying its
/// signature.
const COPIED_MAX: usize = 16 * 1024;

/// Cuts a byte stream into frames.
///
/// Feed it with [`push`](Self::push), then take frames with [`next_frame`](Self::next_frame)
/// until it returns `None`. After an error the stream cannot be resynchronised: every later
/// call returns the same error.
///
/// # Limits
/// Holds at most one incomplete frame (no longer than the limit given) plus what was pushed
/// since the last call that returned `None`.
#[derive(Debug)]
pub struct FrameDecoder {
    buffer: BytesMut,
    limit: usize,
    failed: Option<DecodeError>,
}

impl FrameDecoder {
    /// A decoder that refuses frames longer than `limit` bytes.
    #[must_use]
    pub fn new(limit: usize) -> Self {
        Self { buffer: BytesMut::new(), limit, failed: None }
    }

    /// Appends received bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.failed.is_none() {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// The next complete frame without its length, or `None` if more bytes are needed.
    ///
    /// A frame above 16 KiB shares the decoder's buffer. A smaller one has memory of its own,
    /// so that keeping it keeps nothing else.
    ///
    /// # Errors
    /// [`DecodeError::FrameTooLong`] or [`DecodeError::BadLength`], as soon as the length
    /// prefix is known and before its body arrived.
    pub fn next_frame(&mut self) -> Result<Option<Bytes>, DecodeError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        match split_length(&self.buffer, self.limit) {
            Ok(Some((prefix, length))) if self.buffer.len() - prefix >= length => {
                self.buffer.advance(prefix);
                if length > COPIED_MAX {
                    return Ok(Some(self.buffer.split_to(length).freeze()));
                }
                let frame = Bytes::copy_from_slice(&self.buffer[..length]);
                self.buffer.advance(length);
                Ok(Some(frame))
            }
            Ok(_) => Ok(None),
            Err(error) => {
                self.buffer = BytesMut::new();
                self.failed = Some(error.clone());
                Err(error)
            }
        }
    }

    /// Bytes that wait for the rest of their frame.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.buffer.len()
    }

    /// What arrived after the last complete frame: for a stream that changes its protocol
    /// (admission, then the link). The decoder is empty afterwards.
    #[must_use]
    pub fn take_rest(&mut self) -> Bytes {
        std::mem::take(&mut self.buffer).freeze()
    }

    /// Changes the limit for the frames that follow, as when admission is over.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
    }
}

/// (bytes of the prefix, length of the body), or `None` if the prefix is incomplete.
fn split_length(buffer: &[u8], limit: usize) -> Result<Option<(usize, usize)>, DecodeError> {
    let mut length = 0u64;
    for (index, byte) in buffer.iter().enumerate().take(LENGTH_BYTES_MAX) {
        length |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            return match usize::try_from(length) {
                Ok(length) if length <= limit => Ok(Some((index + 1, length))),
                _ => Err(DecodeError::FrameTooLong { length, limit }),
            };
        }
    }
    if buffer.len() < LENGTH_BYTES_MAX { Ok(None) } else { Err(DecodeError::BadLength) }
}

/// A varint, as in protobuf.
pub(crate) fn put_varint(buffer: &mut BytesMut, mut value: u64) {
    while value >= 0x80 {
        buffer.extend_from_slice(&[value.to_le_bytes()[0] | 0x80]);
        value >>= 7;
    }
    buffer.extend_from_slice(&[value.to_le_bytes()[0]]);
}

/// Bytes of a length-prefixed message of this length.
pub(crate) fn framed_len(length: usize) -> usize {
    prost::length_delimiter_len(length) + length
}

/// How often a field occurs at the top of a protobuf message, without taking memory for it.
pub(crate) fn count_field(mut message: &[u8], field: u32) -> Result<usize, DecodeError> {
    let mut count = 0;
    while !message.is_empty() {
        let (number, wire_type) = prost::encoding::decode_key(&mut message)?;
        count += usize::from(number == field);
        prost::encoding::skip_field(wire_type, number, &mut message, DecodeContext::default())?;
    }
    Ok(count)
}

/// Prefixes one message with its length: a complete frame, ready to send.
pub(crate) fn encode_framed(message: &impl prost::Message) -> Bytes {
    let length = message.encoded_len();
    let mut buffer = BytesMut::with_capacity(length + LENGTH_BYTES_MAX);
    put_varint(&mut buffer, length as u64);
    message.encode_raw(&mut buffer);
    buffer.freeze()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn framed(body: &[u8]) -> Vec<u8> {
        let mut buffer = BytesMut::new();
        put_varint(&mut buffer, body.len() as u64);
        buffer.extend_from_slice(body);
        buffer.to_vec()
    }

    #[test]
    fn a_long_frame_is_refused_before_its_body_arrives() {
        let mut decoder = FrameDecoder::new(100);
        decoder.push(&[0xe5]);
        assert_eq!(decoder.next_frame(), Ok(None));
        decoder.push(&[0x01]);
        let error = DecodeError::FrameTooLong { length: 229, limit: 100 };
        assert_eq!(decoder.next_frame(), Err(error.clone()));
        decoder.push(&[0; 50]);
        assert_eq!(decoder.next_frame(), Err(error), "an error is final");
        assert_eq!(decoder.pending(), 0, "and keeps nothing");
    }

    #[test]
    fn a_kept_frame_keeps_only_its_own_memory() {
        let mut decoder = FrameDecoder::new(100_000);
        for length in [10, 500, COPIED_MAX] {
            decoder.push(&framed(&vec![7; length]));
            decoder.push(&framed(&vec![8; 60_000]));
            let small = decoder.next_frame().unwrap().unwrap();
            let large = decoder.next_frame().unwrap().unwrap();
            assert_eq!((small.len(), large.len()), (length, 60_000));
            let owner = small.try_into_mut().expect("nobody else has a part of it");
            assert!(owner.capacity() <= length, "{} bytes for {length}", owner.capacity());
        }
    }

    #[test]
    fn an_endless_length_is_refused() {
        let mut decoder = FrameDecoder::new(100);
        decoder.push(&[0xff; 4]);
        assert_eq!(decoder.next_frame(), Err(DecodeError::BadLength));
    }

    proptest! {
        #[test]
        fn frames_survive_any_cut(
            bodies in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..300), 0..8),
            cut in 1usize..50,
        ) {
            let stream: Vec<u8> = bodies.iter().flat_map(|b| framed(b)).collect();
            let mut decoder = FrameDecoder::new(300);
            let mut seen = Vec::new();
            for chunk in stream.chunks(cut) {
                decoder.push(chunk);
                while let Some(frame) = decoder.next_frame().unwrap() {
                    seen.push(frame.to_vec());
                }
            }
            prop_assert_eq!(seen, bodies);
            prop_assert_eq!(decoder.pending(), 0);
        }
    }
}
