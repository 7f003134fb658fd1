//! Why connections and links end: the codes that travel, and what they mean here.

use std::fmt;

use peerchannel_wire::DecodeError;
use quinn::{ConnectionError, VarInt};
use thiserror::Error;

use crate::lane::Lane;

/// Why a side closed a connection or a link. Travels as the QUIC application error code
/// (docs/protocol.md section 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// 0: dropped without saying why, as when a process ends.
    Abandoned,
    /// 1: the endpoint closes.
    Shutdown,
    /// 2: no link needs it any longer.
    Unused,
    /// 3: the other side did what the protocol does not allow.
    ProtocolViolation,
    /// 4: the other side sent a frame longer than its lane allows.
    FrameTooLong,
    /// 5: a data lane or datagram for a link that is not there.
    UnknownLink,
    /// 6: not admitted, or not wanted as a neighbor; a frame said why.
    Refused,
    /// 7: another link or connection between the two nodes is kept.
    Duplicate,
    /// 8: the other side takes too long to take what is sent.
    TooSlow,
    /// 9: a deadline passed: admission, the header of a lane, the end of a link.
    DeadlinePassed,
    /// 10: too much to do at the moment; try again later.
    Busy,
    /// A code this version does not know.
    Unknown(u64),
}

impl CloseReason {
    /// The code on the wire. An unknown code beyond QUIC's range (2^62) becomes its maximum.
    #[must_use]
    pub const fn code(self) -> u64 {
        match self {
            Self::Abandoned => 0,
            Self::Shutdown => 1,
            Self::Unused => 2,
            Self::ProtocolViolation => 3,
            Self::FrameTooLong => 4,
            Self::UnknownLink => 5,
            Self::Refused => 6,
            Self::Duplicate => 7,
            Self::TooSlow => 8,
            Self::DeadlinePassed => 9,
            Self::Busy => 10,
            Self::Unknown(code) => code,
        }
    }

    /// The reason of a code.
    #[must_use]
    pub const fn from_code(code: u64) -> Self {
        match code {
            0 => Self::Abandoned,
            1 => Self::Shutdown,
            2 => Self::Unused,
            3 => Self::ProtocolViolation,
            4 => Self::FrameTooLong,
            5 => Self::UnknownLink,
            6 => Self::Refused,
            7 => Self::Duplicate,
            8 => Self::TooSlow,
            9 => Self::DeadlinePassed,
            10 => Self::Busy,
            code => Self::Unknown(code),
        }
    }

    pub(crate) fn varint(self) -> VarInt {
        VarInt::from_u64(self.code()).unwrap_or(VarInt::MAX)
    }
}

impl fmt::Display for CloseReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::Abandoned => "abandoned without a reason",
            Self::Shutdown => "shutting down",
            Self::Unused => "no longer needed",
            Self::ProtocolViolation => "protocol violation",
            Self::FrameTooLong => "frame too long",
            Self::UnknownLink => "unknown link",
            Self::Refused => "refused",
            Self::Duplicate => "duplicate",
            Self::TooSlow => "too slow",
            Self::DeadlinePassed => "deadline passed",
            Self::Busy => "busy",
            Self::Unknown(code) => return write!(f, "unknown reason {code}"),
        };
        f.write_str(text)
    }
}

/// Why a connection is over. Every link and stream on it is over too.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConnectionLost {
    /// Nothing was heard from the peer for the idle time-out: it died or cannot be reached.
    #[error("nothing heard from the peer")]
    IdleTimeout,
    /// The peer does not know the connection: it was restarted.
    #[error("the peer was restarted")]
    Reset,
    /// The peer closed it.
    #[error("closed by the peer: {0}")]
    ClosedByPeer(CloseReason),
    /// We closed it.
    #[error("closed by this node: {0}")]
    ClosedLocally(CloseReason),
    /// One of the two QUIC or TLS stacks gave up.
    #[error("broken: {0}")]
    Transport(String),
}

impl ConnectionLost {
    pub(crate) fn new(error: &ConnectionError, local: Option<CloseReason>) -> Self {
        match error {
            ConnectionError::TimedOut => Self::IdleTimeout,
            ConnectionError::Reset => Self::Reset,
            ConnectionError::ApplicationClosed(close) => {
                Self::ClosedByPeer(CloseReason::from_code(close.error_code.into_inner()))
            }
            ConnectionError::LocallyClosed => Self::ClosedLocally(local.unwrap_or(CloseReason::Shutdown)),
            other => Self::Transport(other.to_string()),
        }
    }
}

/// What a peer did on a link that the protocol does not allow. The link is reset; its
/// connection and the other links on it live on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Violation {
    /// A frame that is too long, or a length that is none.
    #[error("{lane:?} lane: {error}")]
    Frame {
        /// Where.
        lane: Lane,
        /// What.
        error: DecodeError,
    },
    /// A stream ended inside a frame.
    #[error("{0:?} lane ended inside a frame")]
    Truncated(Lane),
    /// A second stream for a lane that has one.
    #[error("second stream for the {0:?} lane")]
    SecondLane(Lane),
}

impl Violation {
    pub(crate) fn reason(&self) -> CloseReason {
        match self {
            Self::Frame { error: DecodeError::FrameTooLong { .. }, .. } => CloseReason::FrameTooLong,
            _ => CloseReason::ProtocolViolation,
        }
    }
}

/// Why a link is over. Its connection may live on.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum LinkLost {
    /// [`Link::finish`](crate::Link::finish) is done: the peer's node has everything, or closed
    /// the link when it had read the goodbye.
    #[error("finished by this node")]
    Finished,
    /// The peer finished: everything it sent was delivered before this.
    #[error("finished by the peer")]
    FinishedByPeer,
    /// Our goodbye took too long; the rest was discarded.
    #[error("finishing took too long")]
    FinishTimedOut,
    /// We closed the link, or dropped its last handle.
    #[error("closed by this node: {0}")]
    ClosedLocally(CloseReason),
    /// The peer reset the link.
    #[error("closed by the peer: {0}")]
    ClosedByPeer(CloseReason),
    /// The peer broke the protocol, and we reset the link.
    #[error("protocol violation by the peer: {0}")]
    Violation(Violation),
    /// The connection under the link is over.
    #[error("connection lost: {0}")]
    Connection(ConnectionLost),
}

impl LinkLost {
    /// The code with which our streams end.
    pub(crate) fn reason(&self) -> CloseReason {
        match self {
            Self::Finished | Self::FinishedByPeer => CloseReason::Unused,
            Self::FinishTimedOut => CloseReason::DeadlinePassed,
            Self::ClosedLocally(reason) => *reason,
            Self::ClosedByPeer(_) | Self::Connection(_) => CloseReason::Abandoned,
            Self::Violation(violation) => violation.reason(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_one_reason() {
        for code in 0..20 {
            assert_eq!(CloseReason::from_code(code).code(), code);
        }
        assert_eq!(CloseReason::Unknown(u64::MAX).varint(), VarInt::MAX);
    }
}
