//! Serverless multiparty messaging: named meshes, channels, exactly-once delivery in order.
//!
//! A **node** joins a **mesh** by its name and password. There is no server: nodes find each
//! other on the local network, by an invitation, or by a directory, and keep links to a few
//! **neighbors**. What one member publishes in a **channel** reaches every other member
//! exactly once and in the publisher's order, or the member is told exactly what it missed.
//!
//! This example runs: two nodes in one process, which find each other by an address. Between
//! machines of one network leave the `listen` and `resolver` lines out.
//!
//! ```
//! use peerchannel::{Mesh, Result};
//!
//! # #[tokio::main]
//! # async fn main() -> Result<()> {
//! let password = "violet anchor tundra pickle orbit lamp"; // six random words
//! let here = "127.0.0.1:0".parse().expect("an address");
//!
//! let ann = Mesh::join("kitchen").password(password).name("ann").listen(here).await?;
//! let near_ann = format!("static:{}", ann.local_address());
//! let bob = Mesh::join("kitchen").password(password).name("bob").listen(here).resolver(near_ann).await?;
//!
//! let mut inbox = bob.channel("chat").subscribe();
//! ann.channel("chat").publish("the tea is ready").await?; // held until a neighbor is there
//! if let Some(incoming) = inbox.next().await {
//!     assert_eq!(incoming.to_string(), "ann: the tea is ready");
//! }
//! bob.leave().await; // says goodbye; dropping the handles would look like a crash
//! # Ok(())
//! # }
//! ```
//!
//! # What there is
//! * [`Mesh::join`] returns [`Join`]: options, then `.await`. Every option has a good default,
//!   except that a credential must be chosen. Joining works without a network: the node goes
//!   on looking, and [`Mesh::events`] tells how that goes.
//! * [`Channel`]: [`publish`](Channel::publish) and [`subscribe`](Channel::subscribe).
//!   [`Published::committed`] waits until the message survives this node. Messages for nearby
//!   nodes only ([`publish_within`](Channel::publish_within)) and values that are worth
//!   something only now ([`publish_volatile`](Channel::publish_volatile)) have lanes of their
//!   own. [`Mesh::channel_of`] is for protobuf messages.
//! * [`Mesh::send_direct`] reaches one member alone.
//! * [`Mesh::members`] tells who is there, with a text or bytes that each member says of
//!   itself ([`Mesh::set_metadata`]); [`Mesh::suspend`] takes a break without leaving.
//! * [`Node`] joins several meshes over one port and one identity.
//! * A [`Filter`] decides what this node delivers and passes on; a
//!   [`Resolver`](resolver::Resolver) of one's own finds nodes where only the program can look.
//!
//! # What to rely on
//! * **Loss is visible.** A subscription yields [`Incoming::Gap`] for messages that no longer
//!   exist anywhere near, and [`Incoming::Lagged`] for those it was too slow to take.
//! * **Nobody waits for a slow reader or neighbor.** Each queue is bounded in bytes: between
//!   nodes the slow one is served later, between the mesh and the program the oldest items go.
//!   Only [`publish`](Channel::publish) waits, while the neighbors have not yet taken what this
//!   node published before.
//! * **Members are proven.** Every link is encrypted and both its ends know the password;
//!   every message carries its author's signature. A wrong password is refused, and gives
//!   nothing away that could be tried offline.
//! * **Handles end things.** Meshes, channels and subscriptions are handles; with the last one
//!   all tasks of the mesh end. [`Mesh::leave`] says goodbye first, within 2 s.
//!
//! # What is beneath
//! One task per mesh, the *driver*, owns a pure state machine (`peerchannel-mesh`) that makes
//! every decision about neighbors and messages. The driver gives it facts, carries out its
//! orders over QUIC (`peerchannel-transport`, `peerchannel-security`, `peerchannel-resolver`),
//! and never awaits a neighbor.

mod addresses;
mod admit;
mod anchors;
mod channel;
mod command;
mod config;
mod driver;
mod error;
mod events;
mod filter;
mod invite;
mod join;
mod mesh;
mod message;
mod network;
mod node;
mod pool;
mod queue;
mod registry;
mod resolvers;
mod status;
mod subscription;
mod typed;

pub use channel::{Channel, Published, Sent};
pub use config::Config;
pub use error::{
    CommitError, DirectError, Error, InviteError, JoinError, Left, MetadataError, PublishError, Result,
    StartError,
};
pub use events::{MeshEvent, Refusal, neighbor_loss_text};
pub use join::Join;
pub use mesh::Mesh;
pub use message::{Direct, Gap, Incoming, IncomingDirect, Lane, Message};
pub use node::{Node, NodeOptions};
pub use status::{MemberInfo, MeshSize, MeshStats, NeighborInfo, ResolverInfo, Status};
pub use subscription::{Directs, Events, Subscribed, Subscription};
pub use typed::{TypedChannel, TypedIncoming, TypedSubscription};

pub use bytes::Bytes;
pub use peerchannel_mesh::{
    Config as MeshConfig, ConfigError, DirectError as DirectFailure, Filter, FilterView, GapReason, LinkLoss,
    MemberLoss, MetadataTooLong, NeighborLoss, Origination, PublishError as PublishRejection, Stats, Verdict,
};
pub use peerchannel_security::{Identity, IdentityError, PasswordError, StretchError};
pub use peerchannel_transport::{BindError, DatagramSocket};
pub use peerchannel_wire::{
    ChannelName, DisconnectReason, Epoch, Features, MemberName, MemberStatus, MeshId, MeshName, NameError,
    NodeId, ParseNodeIdError, ParseTicketError, Sequence, Ticket, TicketError,
};
pub use prost;

/// Resolvers: finding the first addresses of a mesh, and writing one's own way of doing that.
pub mod resolver {
    pub use peerchannel_resolver::{
        BoxFuture, Found, Lease, MeshKey, Registration, Resolver, ResolverError, ResolverUri,
        parse_resolver_uri,
    };
}
