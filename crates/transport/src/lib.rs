//! Authenticated QUIC links between two Peer Channel nodes: lanes, framing, byte-bounded
//! queues, datagrams.
//!
//! # The idea
//! An [`Endpoint`] is one UDP port with one node identity. Two nodes share one [`Connection`],
//! on which each proved the key that is its id. Every mesh the two have in common uses the
//! connection through a control stream of its own: a [`ControlStream`] during admission, then
//! a [`Link`] with its [`LinkReader`].
//!
//! A link has three [`Lane`]s, each a long-lived stream, never a stream per message: control,
//! interactive, bulk. [`Link::push`] puts a frame into a lane's queue and never waits; a full
//! queue is an answer, not a delay, so that one slow neighbor cannot stall its driver.
//! [`LinkReader::recv`] gives back frames in bulk, with an [`InFlight`] permit that holds the
//! peer back while its frames are not dealt with. Volatile messages go in datagrams.
//!
//! # Promises
//! - Frames of one lane arrive in order, once, whole; lanes do not wait for each other.
//! - A lane nobody reads blocks neither another lane nor another link of the connection.
//! - Whatever a peer sends, memory is bounded: windows, queues, parked lanes, handshakes.
//! - A peer that breaks the framing loses that link; other links and meshes go on.
//! - Dropping the last handle of anything ends it, tasks included.
//!
//! # Left to others
//! What frames mean, who may become a neighbor, what to do when a queue is full: the mesh's.
//! Who may join: admission's, in the security crate. The rules are those of docs/protocol.md
//! section 1.
//!
//! # Example
//! ```
//! use std::net::Ipv4Addr;
//!
//! use bytes::Bytes;
//! use peerchannel_security::Identity;
//! use peerchannel_transport::{Endpoint, EndpointConfig, Lane, LinkEvent};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let (ann, bob) = (Identity::generate(), Identity::generate());
//! let mut config = EndpointConfig::default();
//! config.listen = (Ipv4Addr::LOCALHOST, 0).into();
//! let here = Endpoint::bind(&ann, config.clone())?;
//! let there = Endpoint::bind(&bob, config)?;
//!
//! // Ann dials Bob and opens a link; admission and Welcome are left out here.
//! let connection = here.connect(there.local_address(), Some(bob.node_id())).await?;
//! let (link, _reader) = connection.open_control().await?.into_link();
//! link.push(Lane::Control, Bytes::from_static(b"\x05hello").into())?;
//!
//! let accepted = there.accept().await.ok_or("closed")?;
//! assert_eq!(accepted.peer(), ann.node_id());
//! let (_link, mut reader) = accepted.accept_control().await?.into_link();
//! match reader.recv().await {
//!     LinkEvent::Frames { lane: Lane::Control, frames, .. } => assert_eq!(frames[0], "hello"),
//!     other => return Err(format!("{other:?}").into()),
//! }
//! # Ok(())
//! # }
//! ```

#[cfg(not(any(feature = "aws-lc-rs", feature = "ring")))]
compile_error!(
    "peerchannel-transport needs a TLS provider: enable the feature `aws-lc-rs` (default) or `ring`"
);

mod accept;
mod config;
mod connection;
mod connection_id;
mod control;
mod datagram_socket;
mod endpoint;
mod gate;
mod inlane;
mod lane;
mod link;
mod queue;
mod quic;
mod reader;
mod reason;
mod registry;
mod socket;
mod stats;
mod writer;

pub use config::{ALPN, EndpointConfig, InvalidConfig, LaneLimits};
pub use connection::{Connection, ExportError};
pub use control::{ControlStream, StreamError};
pub use datagram_socket::DatagramSocket;
pub use endpoint::{BindError, ConnectError, Endpoint};
pub use inlane::InFlight;
pub use lane::Lane;
pub use link::{DatagramError, EstablishError, Link};
pub use queue::{PushError, QueueLevel};
pub use reader::{LinkEvent, LinkReader};
pub use reason::{CloseReason, ConnectionLost, LinkLost, Violation};
pub use stats::{ConnectionStats, EndpointStats, Traffic};

/// The README's program compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
