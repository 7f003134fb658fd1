//! Everything that can wake a driver.

use std::net::SocketAddr;
use std::time::Duration;

use peerchannel_mesh::{Candidate, DialFailure, DialId, Lane, LinkId, LinkLoss};
use peerchannel_transport::{ControlStream, InFlight, Link, LinkReader};
use peerchannel_wire::{ControlFrame, DataFrame, Features, NodeId};

use crate::command::Command;
use crate::pool::Use;

/// Why the driver woke up.
pub(super) enum Wake {
    /// A handle wants something.
    Command(Command),
    /// The last handle was dropped.
    Abandoned,
    /// A link, or an admission, has news.
    Arrival(Arrival),
    /// One of the driver's tasks ended.
    Done(Result<(tokio::task::Id, Done), tokio::task::JoinError>),
    /// A task of a resolver ended.
    RegistrarDone,
    /// The machine's network changed.
    NetworkChanged,
    /// The core's deadline, signature work that waits, or the end of a leave.
    Deadline,
}

/// What others put into the driver's inbox.
pub(crate) enum Arrival {
    /// A peer was admitted.
    Opened(Box<Opened>),
    /// A link has news.
    Link { link: LinkId, news: News },
}

/// News of a link. Frames come with the transport's permit, which bounds the bytes in the
/// inbox: it is dropped when the core has the frames.
pub(crate) enum News {
    Control {
        frames: Vec<ControlFrame>,
        permit: InFlight,
    },
    Data {
        frames: Vec<DataFrame>,
        permit: InFlight,
    },
    Volatile(Box<DataFrame>),
    LaneFinished,
    Drained(peerchannel_transport::Lane),
    /// The link is over.
    Closed(LinkLoss),
}

/// An admitted control stream, made a link.
pub(crate) struct Opened {
    pub(super) dial: Option<DialId>,
    pub(super) link: Link,
    pub(super) reader: LinkReader,
    pub(super) peer: NodeId,
    pub(super) address: SocketAddr,
    pub(super) rtt: Duration,
    pub(super) features: Features,
    pub(super) usage: Use,
}

impl Opened {
    pub(crate) fn new(dial: Option<DialId>, control: ControlStream, features: Features, usage: Use) -> Self {
        let connection = control.connection();
        let (peer, address, rtt) = (connection.peer(), connection.remote_address(), connection.rtt());
        let (link, reader) = control.into_link();
        Self { dial, link, reader, peer, address, rtt, features, usage }
    }
}

/// What a task of the driver is for, to tell the core should it end without a result.
#[derive(Debug, Clone, Copy)]
pub(super) enum Purpose {
    Dial(DialId),
    Resolve,
    Read(LinkId),
    KeepAnchors,
}

/// How a task of the driver ended.
pub(super) enum Done {
    Dialed(Box<Opened>),
    DialFailed {
        dial: DialId,
        address: Option<SocketAddr>,
        failure: DialFailure,
    },
    Resolved(Vec<Candidate>),
    /// What it had to say is in the inbox.
    Read,
    AnchorsKept,
}

/// The core's name for a lane of the transport.
pub(super) const fn core_lane(lane: peerchannel_transport::Lane) -> Lane {
    match lane {
        peerchannel_transport::Lane::Control => Lane::Control,
        peerchannel_transport::Lane::Interactive | peerchannel_transport::Lane::Bulk => Lane::Data,
    }
}

/// The core's name for a place a resolver found.
pub(super) fn candidate(found: peerchannel_resolver::Found) -> Candidate {
    Candidate { node: found.node, addresses: found.addresses }
}
