//! The lanes of a link and their order of importance.

use peerchannel_wire::DataLane;
use peerchannel_wire::limits::{BULK_FRAME_MAX, CONTROL_FRAME_MAX, INTERACTIVE_FRAME_MAX};

/// One of the three byte streams of a link, most important first (docs/protocol.md section 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// What the two neighbors say to each other: the bidirectional stream.
    Control,
    /// Messages of ordinary size: a stream each way.
    Interactive,
    /// Large messages, which must not delay the others: a stream each way.
    Bulk,
}

impl Lane {
    /// Every lane, most important first.
    pub const ALL: [Self; 3] = [Self::Control, Self::Interactive, Self::Bulk];

    /// The longest frame of this lane in bytes, its length prefix apart.
    #[must_use]
    pub const fn frame_max(self) -> usize {
        match self {
            Self::Control => CONTROL_FRAME_MAX,
            Self::Interactive => INTERACTIVE_FRAME_MAX,
            Self::Bulk => BULK_FRAME_MAX,
        }
    }

    /// QUIC's stream priority: the higher is sent first.
    pub(crate) const fn priority(self) -> i32 {
        match self {
            Self::Control => 2,
            Self::Interactive => 1,
            Self::Bulk => 0,
        }
    }

    pub(crate) const fn index(self) -> usize {
        match self {
            Self::Control => 0,
            Self::Interactive => 1,
            Self::Bulk => 2,
        }
    }
}

impl From<DataLane> for Lane {
    fn from(lane: DataLane) -> Self {
        match lane {
            DataLane::Interactive => Self::Interactive,
            DataLane::Bulk => Self::Bulk,
        }
    }
}
