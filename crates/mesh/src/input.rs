//! Everything that can happen to a node: facts, in the past tense.

use std::net::SocketAddr;
use std::time::Duration;

use peerchannel_wire::{AdmissionRefusal, ControlFrame, DataFrame, Features, LinkNumber, NodeId, Signature};

/// A link to one neighbor, numbered by the driver and never reused within a node's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// An attempt to reach a node, numbered by the core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DialId(pub(crate) u64);

/// A piece of signature work, numbered by the core.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub(crate) u64);

/// Where to look for a node: its addresses, and its id if that is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The node that must answer there; `None` accepts any.
    pub node: Option<NodeId>,
    /// Where to dial, best first.
    pub addresses: Vec<SocketAddr>,
}

/// An admitted control stream: the peer proved the mesh's credential, and so did we.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkOpened {
    /// The link's id from here on.
    pub link: LinkId,
    /// The authenticated node at the other end.
    pub peer: NodeId,
    /// The dial this fulfils, if this node opened the stream.
    pub dial: Option<DialId>,
    /// The remote socket address.
    pub address: SocketAddr,
    /// What the streams and datagrams of this link would begin with.
    pub number: LinkNumber,
    /// The connection's round-trip time so far.
    pub rtt: Duration,
    /// What both ends offered at admission.
    pub features: Features,
}

/// A lane of a link, as queues see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    /// Control frames.
    Control,
    /// Messages: the interactive and the bulk lane together.
    Data,
}

/// Why a dial brought no link. The text fields are for people.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum DialFailure {
    /// Nobody answered, or not in time.
    Unreachable(String),
    /// Somebody answered who is not the node that was dialed.
    WrongNode(NodeId),
    /// The node itself answered.
    Oneself,
    /// Admission was refused: by us or by the other side.
    Refused {
        /// Why.
        reason: AdmissionRefusal,
        /// When the other side asked to be tried again.
        retry_after: Option<Duration>,
    },
}

/// Why a link ended without a goodbye.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum LinkLoss {
    /// Nothing came for the idle time-out.
    TimedOut,
    /// The peer's transport said that it knows of no such connection: it restarted.
    Reset,
    /// The peer closed the stream or the connection.
    ClosedByPeer(String),
    /// Received bytes were not valid frames.
    BadFrame(String),
    /// This side closed it.
    ClosedLocally,
}

/// A fact the driver tells the core. One call of `Node::handle` takes one.
#[derive(Debug)]
pub enum Input {
    /// A control stream was admitted.
    LinkOpened(LinkOpened),
    /// A dial failed.
    DialFailed {
        /// The dial.
        dial: DialId,
        /// The address it was tried at last, for the event.
        address: Option<SocketAddr>,
        /// Why.
        failure: DialFailure,
    },
    /// A control frame arrived.
    Control {
        /// On this link.
        link: LinkId,
        /// The frame.
        frame: ControlFrame,
    },
    /// A data frame or datagram arrived.
    Data {
        /// On this link.
        link: LinkId,
        /// The frame.
        frame: DataFrame,
    },
    /// The peer finished a data lane.
    LaneFinished {
        /// On this link.
        link: LinkId,
    },
    /// A queue rose above half: what is pushed from here on may be refused.
    QueueHigh {
        /// Of this link.
        link: LinkId,
        /// The lane.
        lane: Lane,
    },
    /// A frame was refused and dropped because its queue is full.
    QueueFull {
        /// Of this link.
        link: LinkId,
        /// The lane.
        lane: Lane,
    },
    /// A queue that was high or full has fallen below a quarter.
    QueueDrained {
        /// Of this link.
        link: LinkId,
        /// The lane.
        lane: Lane,
    },
    /// The link is gone. Nothing more comes from it.
    LinkClosed {
        /// The link.
        link: LinkId,
        /// Why.
        loss: LinkLoss,
    },
    /// An ordered signature is ready.
    Signed {
        /// The order.
        job: JobId,
        /// The signature.
        signature: Signature,
    },
    /// An ordered verification is done.
    Verified {
        /// The order.
        job: JobId,
        /// Whether the signature is valid.
        valid: bool,
    },
    /// Resolvers answered (perhaps with nothing).
    Resolved(Vec<Candidate>),
    /// The addresses under which this node can be dialed have changed.
    AddressesChanged(Vec<SocketAddr>),
    /// The node did not run for a while: the machine slept, or the process was stopped.
    /// Neighbors may have given it up, and its addresses may have changed.
    Resumed {
        /// How long, as far as the driver can tell.
        paused: Duration,
    },
    /// Network interfaces or routes changed: links may be dead, other nodes within reach.
    NetworkChanged,
    /// The deadline of `Node::poll_timeout` has come. Spurious ones are harmless.
    Timeout,
}
