//! What nodes send, in bytes, by what it is.

use peerchannel_wire::{ControlFrame, DataFrame};

/// What bytes are sent for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Connections and admission.
    Dial,
    /// Keep-alives of idle connections.
    KeepAlive,
    /// QUIC's acknowledgements.
    Acknowledge,
    /// Batches of messages.
    Flood,
    /// Hop-limited and volatile messages.
    Aside,
    /// Connect, Welcome, Refuse, Disconnect.
    Links,
    /// Ping, pong, probes and their results.
    Probes,
    /// Member records.
    Members,
    /// Comparing member tables, asking for records, and doubts.
    Comparisons,
    /// Telling of nodes that can be dialed.
    Shuffles,
    /// Comparing and announcing positions.
    Digests,
    /// Pulls and their refusals.
    Repair,
    /// Acknowledged positions.
    Positions,
    /// Baselines.
    Baselines,
    /// Everything else on the control lane.
    Other,
}

/// How many kinds there are.
pub(crate) const KINDS: usize = Kind::Other as usize + 1;

/// Their names in reports.
pub(crate) const NAMES: [&str; KINDS] = [
    "dial",
    "keep-alive",
    "quic-ack",
    "flood",
    "aside",
    "links",
    "probes",
    "members",
    "comparisons",
    "shuffles",
    "digests",
    "repair",
    "positions",
    "baselines",
    "other",
];

impl Kind {
    pub(crate) fn of_control(frame: &ControlFrame) -> Self {
        match frame {
            ControlFrame::Connect(_)
            | ControlFrame::Welcome(_)
            | ControlFrame::Refuse(_)
            | ControlFrame::Disconnect(_) => Self::Links,
            ControlFrame::Ping(_)
            | ControlFrame::Pong(_)
            | ControlFrame::Probe { .. }
            | ControlFrame::ProbeResult { .. } => Self::Probes,
            ControlFrame::Members(_) => Self::Members,
            ControlFrame::MemberDigest(_) | ControlFrame::MemberPull(_) | ControlFrame::MemberDoubt(_) => {
                Self::Comparisons
            }
            ControlFrame::Shuffle(_) => Self::Shuffles,
            ControlFrame::Digest(_) | ControlFrame::Announce(_) => Self::Digests,
            ControlFrame::Pull(_) | ControlFrame::Gone(_) | ControlFrame::NotFromMe(_) => Self::Repair,
            ControlFrame::Ack(_) => Self::Positions,
            ControlFrame::Baseline { .. } => Self::Baselines,
            _ => Self::Other,
        }
    }

    pub(crate) fn of_data(frame: &DataFrame) -> Self {
        match frame {
            DataFrame::Flood(_) => Self::Flood,
            DataFrame::Local(_) | DataFrame::Volatile(_) => Self::Aside,
        }
    }
}
