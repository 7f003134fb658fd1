//! Propagation filters: the application's say in what is delivered and passed on.

use std::fmt;

use bytes::Bytes;
use peerchannel_wire::{ChannelName, NodeId};

/// Where a message that a filter looks at came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origination {
    /// Published by this node.
    Local,
    /// Received from a neighbor.
    Remote,
}

/// What a filter decides about one message.
///
/// A verdict without `Remote` also bars serving the message later, by pull or digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Verdict {
    /// Neither delivered here nor passed on.
    None,
    /// Delivered here, not passed on.
    Local,
    /// Passed on, not delivered here.
    Remote,
    /// Delivered here and passed on: what happens without a filter.
    #[default]
    LocalAndRemote,
}

impl Verdict {
    /// Whether the message is delivered on this node.
    #[must_use]
    pub const fn delivers(self) -> bool {
        matches!(self, Self::Local | Self::LocalAndRemote)
    }

    /// Whether the message is passed on to other nodes.
    #[must_use]
    pub const fn propagates(self) -> bool {
        matches!(self, Self::Remote | Self::LocalAndRemote)
    }
}

/// The message a filter looks at. It can be seen, not changed.
#[derive(Debug, Clone, Copy)]
pub struct FilterView<'a> {
    /// The channel it was published in.
    pub channel: &'a ChannelName,
    /// The node that published it.
    pub origin: NodeId,
    /// Its body.
    pub payload: &'a Bytes,
    /// Whether this node published it.
    pub origination: Origination,
}

/// An application's propagation filter: synchronous and pure. It runs on the path of every
/// message, so it must be quick; it is asked once per message and never about duplicates.
pub trait Filter: Send {
    /// Decides about one message.
    fn judge(&mut self, message: &FilterView<'_>) -> Verdict;
}

impl<F: FnMut(&FilterView<'_>) -> Verdict + Send> Filter for F {
    fn judge(&mut self, message: &FilterView<'_>) -> Verdict {
        self(message)
    }
}

/// The filter in use; none passes everything.
#[derive(Default)]
pub(crate) struct Slot(Option<Box<dyn Filter>>);

impl Slot {
    pub(crate) fn set(&mut self, filter: Option<Box<dyn Filter>>) {
        self.0 = filter;
    }

    pub(crate) fn judge(&mut self, message: &FilterView<'_>) -> Verdict {
        self.0.as_mut().map_or(Verdict::LocalAndRemote, |filter| filter.judge(message))
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Filter(set)" } else { "Filter(none)" })
    }
}
