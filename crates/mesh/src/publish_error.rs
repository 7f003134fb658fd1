//! Why a publish was not accepted.

use peerchannel_wire::{Sequence, StreamId};
use thiserror::Error;

/// An accepted message: it is numbered, retained, and on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// Origin, epoch and channel.
    pub stream: StreamId,
    /// Its number in the stream (of its own lane). Zero if the propagation filter kept it on
    /// this node.
    pub sequence: Sequence,
}

/// Why a message was not accepted. Nothing was changed: it may be tried again.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The message is over the limit of its lane.
    #[error("the message has {size} bytes, one of its kind may have {limit}: split it")]
    TooLarge {
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// Too much is unacknowledged, or a neighbor's queue is full. `Event::PublishReady` tells
    /// when to try again.
    #[error("the neighbors have not yet taken what was published before: try again when ready")]
    Busy,
    /// No neighbor yet, and what may be held for the first one is used up.
    #[error("no neighbor yet and {held} of {limit} bytes are held for the first one: wait until online")]
    HeldFull {
        /// Bytes held.
        held: usize,
        /// The limit.
        limit: usize,
    },
    /// The key of a volatile message is over the limit.
    #[error("the key has {size} bytes, the limit is {limit}")]
    KeyTooLong {
        /// Its size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// More links than a hop-limited message may travel.
    #[error("a message may travel at most {limit} links, not {hops}")]
    TooManyHops {
        /// What was asked.
        hops: u32,
        /// The limit.
        limit: u32,
    },
    /// More channels than one node may publish in.
    #[error("{0} channels are in use by this node, which is the limit: publish in fewer")]
    TooManyChannels(usize),
    /// The node is leaving the mesh.
    #[error("the node is leaving the mesh")]
    Leaving,
}
