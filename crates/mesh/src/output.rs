//! Everything a node wants done: orders, in the imperative, and what it tells its owner.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use peerchannel_wire::{
    ChannelName, ControlFrame, DataFrame, Disconnect, DisconnectReason, Epoch, LinkNumber, MemberName,
    NodeId, Refuse, RefuseReason, Sequence, Signature, StreamId, Transcript,
};

use crate::input::{Candidate, DialFailure, DialId, JobId, LinkId, LinkLoss};

/// An order to the driver. `Node::poll_output` hands them out in the order they arose.
#[derive(Debug)]
pub enum Output {
    /// Reach a node and be admitted; answer with `LinkOpened` or `DialFailed`.
    Dial {
        /// To be named in the answer.
        dial: DialId,
        /// Whom, and where.
        candidate: Candidate,
    },
    /// The link is up: open its data lanes and accept the peer's.
    Establish {
        /// The link.
        link: LinkId,
        /// What its streams and datagrams begin with.
        number: LinkNumber,
    },
    /// Send a control frame.
    Control {
        /// On this link.
        link: LinkId,
        /// The frame.
        frame: ControlFrame,
    },
    /// Send a data frame: a volatile message as a datagram, a bulk batch on the bulk lane,
    /// everything else on the interactive lane.
    Data {
        /// On this link.
        link: LinkId,
        /// The frame.
        frame: DataFrame,
    },
    /// End the link in good order: what is queued is still sent, the data lanes are finished,
    /// then the farewell goes out.
    Finish {
        /// The link.
        link: LinkId,
        /// The last frame.
        farewell: Farewell,
    },
    /// End the link at once.
    Close {
        /// The link.
        link: LinkId,
        /// Why, for the peer.
        cause: CloseCause,
    },
    /// Ask the resolvers; answer with `Resolved`.
    Resolve,
    /// Sign with the node's identity; answer with `Signed`.
    Sign {
        /// To be named in the answer.
        job: JobId,
        /// What to sign.
        transcript: Transcript,
    },
    /// Check a signature; answer with `Verified`.
    Verify {
        /// To be named in the answer.
        job: JobId,
        /// Whose signature it should be.
        signer: NodeId,
        /// What it should cover.
        transcript: Transcript,
        /// The signature.
        signature: Signature,
    },
    /// Hand a message to the application.
    Deliver(Delivery),
    /// Tell the application.
    Event(Event),
}

/// Why a link is ended at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CloseCause {
    /// Everything was said on it.
    Done,
    /// There is no room for it, or the node is leaving.
    Unwanted,
    /// The peer broke the protocol before the link was up.
    Violation,
    /// The peer did not do in time what the protocol asks for.
    TooLate,
}

/// The last frame of a link that ends in good order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Farewell {
    /// The link was up.
    Disconnect(Disconnect),
    /// The link was never up.
    Refuse(Refuse),
}

impl From<Farewell> for ControlFrame {
    fn from(farewell: Farewell) -> Self {
        match farewell {
            Farewell::Disconnect(disconnect) => Self::Disconnect(disconnect),
            Farewell::Refuse(refuse) => Self::Refuse(refuse),
        }
    }
}

/// By which way a message came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryLane {
    /// In order, exactly once or reported as a gap.
    Reliable,
    /// Hop-limited.
    Local {
        /// Links it could still have travelled.
        hops_left: u32,
    },
    /// Best effort, only the latest value of a key.
    Volatile,
}

/// A message for the application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Origin, epoch and channel.
    pub stream: StreamId,
    /// Its number in the stream (of its own lane). Zero for an own message that the
    /// propagation filter kept on this node.
    pub sequence: Sequence,
    /// By which way it came.
    pub lane: DeliveryLane,
    /// Links travelled; 0 for own messages.
    pub hops: u32,
    /// The origin's wall clock in ms since 1970: advisory.
    pub published_ms: u64,
    /// The key of a volatile message.
    pub key: Bytes,
    /// The body.
    pub payload: Bytes,
    /// Published by this node (echo).
    pub own: bool,
}

/// Why messages of a stream will never be delivered here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GapReason {
    /// Every neighbor that had them has dropped them from its retention.
    Gone,
    /// Propagation filters of all neighbors bar serving them.
    Filtered,
    /// Nobody served them within the repair limit.
    TimedOut,
}

/// Why a member is no longer there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MemberLoss {
    /// It said goodbye.
    Left,
    /// It stopped answering.
    Failed,
}

/// Why a neighbor is no longer one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NeighborLoss {
    /// It said goodbye, for this reason.
    Disconnected(DisconnectReason),
    /// This node said goodbye, for this reason.
    Dropped(DisconnectReason),
    /// The link broke.
    Lost(LinkLoss),
}

/// Why a direct message did not arrive for certain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DirectError {
    /// No such member is known.
    #[error("no member with this id is known: it may have left, or not be known here yet")]
    UnknownMember,
    /// This node takes a break and has no links.
    #[error("this node is suspended: it sends nothing before it resumes")]
    Suspended,
    /// The member takes a break and has no links.
    #[error("the member is suspended: nobody reaches it before it resumes")]
    MemberSuspended,
    /// The member cannot be reached.
    #[error("the member could not be reached at any of its addresses")]
    Unreachable,
    /// The link broke before the member's node acknowledged; it may have arrived.
    #[error("the link broke before the member acknowledged the message; it may have arrived")]
    Lost,
    /// Over the limit.
    #[error("the message has {size} bytes, a direct message may have {limit}")]
    TooLarge {
        /// Its size.
        size: usize,
        /// The limit.
        limit: usize,
    },
    /// Too many direct messages wait for an acknowledgement.
    #[error("{0} direct messages wait for an acknowledgement already: wait for some of them")]
    TooMany(usize),
    /// The node is leaving the mesh.
    #[error("the node is leaving the mesh")]
    Leaving,
}

/// What a node tells its owner. Nothing needs an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The first neighbor is up.
    Online,
    /// The last neighbor is gone.
    Offline,
    /// A node became a neighbor.
    NeighborUp {
        /// The node.
        node: NodeId,
        /// Its remote address.
        address: SocketAddr,
    },
    /// A neighbor is one no longer.
    NeighborDown {
        /// The node.
        node: NodeId,
        /// Why.
        loss: NeighborLoss,
    },
    /// A node takes part: it joined, or came back with a new epoch.
    ///
    /// Above `members_max` it is told of the sample only, and not of members that the sample
    /// drops or takes in because the mesh grew or shrank: `Node::members` tells who is in it. For
    /// five minutes after it widened, those that join in what it added are not told either.
    MemberUp {
        /// The node.
        node: NodeId,
        /// The name it shows.
        name: MemberName,
        /// Its join.
        epoch: Epoch,
    },
    /// A member says something new of itself: its name, its addresses, its metadata, or that it
    /// suspends or resumes. `Node::members` tells what.
    MemberChanged {
        /// The node.
        node: NodeId,
        /// The name it shows now.
        name: MemberName,
    },
    /// The node was told of the members that its first neighbor knows: what `Node::members`
    /// tells from here on is up to date. Once in a join.
    MembersKnown {
        /// How many members the mesh has, this node included.
        members: usize,
        /// Whether each of them is in the table; if not, the number is an estimate.
        complete: bool,
    },
    /// A member is gone: it left or failed. That a sample dropped it is not told; and that one
    /// left which a sample took in is told, although its coming was not.
    MemberDown {
        /// The node.
        node: NodeId,
        /// The name it showed.
        name: MemberName,
        /// Why.
        loss: MemberLoss,
    },
    /// A dial was refused or failed for a reason a person should know.
    DialFailed {
        /// The node, where known.
        node: Option<NodeId>,
        /// Where it was tried.
        address: Option<SocketAddr>,
        /// Why.
        failure: DialFailure,
    },
    /// A node that was dialed is in the mesh but would not be a neighbor.
    ConnectRefused {
        /// The node.
        node: NodeId,
        /// Its remote address.
        address: SocketAddr,
        /// Why.
        reason: RefuseReason,
    },
    /// Messages of a stream will never be delivered here: exactly these.
    Gap {
        /// The stream.
        stream: StreamId,
        /// The first missing.
        first: Sequence,
        /// The last missing.
        last: Sequence,
        /// Why.
        reason: GapReason,
    },
    /// Own messages of a channel are committed up to a sequence: a neighbor has them.
    Committed {
        /// The channel.
        channel: ChannelName,
        /// The last committed one.
        through: Sequence,
    },
    /// This node has left, and nobody acknowledged these of its messages: they are lost unless
    /// somebody received them without saying so.
    Uncommitted {
        /// The channel.
        channel: ChannelName,
        /// The first of them.
        first: Sequence,
        /// The last of them.
        last: Sequence,
    },
    /// After `PublishError::Busy`: it is worth trying again.
    PublishReady,
    /// A direct message.
    Direct {
        /// The member that sent it.
        from: NodeId,
        /// The message.
        payload: Bytes,
    },
    /// A direct message of this node arrived, or not.
    DirectDone {
        /// What `Node::send_direct` returned.
        token: u64,
        /// Whether the member's node acknowledged it.
        result: Result<(), DirectError>,
    },
    /// A neighbor, or a node that wanted to become one, broke the protocol: the link is closed.
    Misbehaved {
        /// The node.
        node: NodeId,
        /// What it did.
        what: &'static str,
    },
    /// Something could not be kept because a limit was reached; counted in the statistics.
    Overloaded(&'static str),
    /// The node has left: all links are closed.
    Left,
}

/// How long a volatile message is worth forwarding if the application does not say.
pub const VOLATILE_LIFETIME: Duration = Duration::from_secs(1);
