//! Serverless multiparty messaging.

mod addresses;
mod admit;
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
    CommitError, DirectError, Error, InviteError, JoinError, Left, PublishError, Result, StartError,
};
pub use events::{MeshEvent, Refusal, neighbor_loss_text};
pub use join::Join;
pub use mesh::Mesh;
pub use message::{Direct, Gap, Incoming, IncomingDirect, Lane, Message};
pub use node::{Node, NodeOptions};
pub use status::{MemberInfo, MeshStats, NeighborInfo, ResolverInfo, Status};
pub use subscription::{Directs, Events, Subscribed, Subscription};
pub use typed::{TypedChannel, TypedIncoming, TypedSubscription};

pub use bytes::Bytes;
pub use peerchannel_mesh::{
    Config as MeshConfig, ConfigError, DirectError as DirectFailure, Filter, FilterView, GapReason, LinkLoss,
    MemberLoss, NeighborLoss, Origination, PublishError as PublishRejection, Stats, Verdict,
};
pub use peerchannel_security::{Identity, IdentityError, PasswordError, StretchError};
pub use peerchannel_transport::BindError;
pub use peerchannel_wire::{
    ChannelName, Epoch, MemberName, MemberStatus, MeshId, MeshName, NameError, NodeId, ParseNodeIdError,
    ParseTicketError, Sequence, Ticket, TicketError,
};
pub use prost;

/// Resolvers: finding the first addresses of a mesh, and writing one's own way of doing that.
pub mod resolver {
    pub use peerchannel_resolver::{
        BoxFuture, Found, Lease, MeshKey, Registration, Resolver, ResolverError, ResolverUri,
        parse_resolver_uri,
    };
}
