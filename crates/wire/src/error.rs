//! Why received bytes were not a valid frame.

use thiserror::Error;

/// Received bytes that are not a valid frame of this protocol.
///
/// The fault is always the sender's: a correct encoder cannot produce such bytes.
/// Nothing was changed by the attempt to decode them.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The frame says it is longer than its lane allows.
    #[error("frame of {length} bytes, the limit here is {limit}")]
    FrameTooLong {
        /// What the length prefix says.
        length: u64,
        /// The limit of this lane.
        limit: usize,
    },
    /// The length prefix is not a varint of at most four bytes.
    #[error("frame length is not a valid varint")]
    BadLength,
    /// The bytes are not the protobuf message that belongs here.
    #[error("not a valid protobuf message: {0}")]
    Protobuf(String),
    /// A field that must be there is absent, or an unknown frame kind was sent.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A field has a value outside its domain.
    #[error("{field} is invalid: {why}")]
    Invalid {
        /// The field.
        field: &'static str,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A list or field is longer than its limit.
    #[error("{field} has {length} entries or bytes, the limit is {limit}")]
    TooLong {
        /// The field.
        field: &'static str,
        /// Its length.
        length: usize,
        /// The limit.
        limit: usize,
    },
    /// A data frame uses a stream index that was never defined on its lane.
    #[error("stream index {0} was not defined on this lane")]
    UndefinedStream(u32),
}

impl From<prost::DecodeError> for DecodeError {
    fn from(error: prost::DecodeError) -> Self {
        Self::Protobuf(error.to_string())
    }
}

/// Checks a length against its limit.
pub(crate) fn limit(field: &'static str, length: usize, limit: usize) -> Result<(), DecodeError> {
    if length > limit { Err(DecodeError::TooLong { field, length, limit }) } else { Ok(()) }
}
