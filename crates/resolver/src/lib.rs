//! Finding the first addresses of a Peer Channel mesh, and letting others find ours.
//!
//! A mesh has no server, yet a node that wants to join must first hear of one other node.
//! Everything that can tell it is a [`Resolver`]. Choose by who runs what:
//!
//! | Resolver | For | Needs |
//! |---|---|---|
//! | [`StaticResolver`] | a few hosts that stay where they are | their addresses |
//! | [`TicketResolver`] | an invitation by mail or chat | the ticket |
//! | [`LanResolver`] | machines of one local network, nothing to set up | multicast |
//! | [`ServiceResolver`] | nodes anywhere, by a directory of your own | a directory service |
//! | [`CompositeResolver`] | several of these at once | |
//!
//! What people type on a command line, `static:192.0.2.7:4000` and the like, is read by
//! [`parse_resolver_uri`]. To write a resolver of your own, see [`Resolver`].
//!
//! A resolver that announces needs somebody to keep the announcement alive: that is
//! [`keep_registered`], a loop around the [`Registrar`], which decides without a clock or a
//! socket when to refresh and when to try again. Nothing a resolver does, not even a hundred
//! time-outs in a row, disables it.
//!
//! ```
//! use std::time::Duration;
//! use peerchannel_resolver::{MeshKey, Resolver, StaticResolver};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // The mesh as a resolver knows it: derived from the mesh id, so that no name leaks.
//! let mesh = MeshKey::from_bytes([7; 32]);
//! let resolver = StaticResolver::new(["127.0.0.1:4000".parse()?, "no-such-host.invalid:4000".parse()?]);
//!
//! // The caller limits the time; dropping the future loses nothing.
//! let found = tokio::time::timeout(Duration::from_secs(10), resolver.resolve(mesh, 8)).await??;
//! for place in found {
//!     println!("{} knows {:?}", resolver.describe(), place.addresses);
//! }
//! # Ok(())
//! # }
//! ```
//!
//! What a resolver returns is a rumour: who really answers at an address is established by
//! TLS and admission, never by a resolver. The protocol rules are in docs/protocol.md
//! section 6.

mod composite;
mod ended;
mod fixed;
mod host;
mod invited;
mod keep;
mod lan;
mod registrar;
mod resolver;
mod service;
mod uri;

pub use composite::CompositeResolver;
pub use fixed::StaticResolver;
pub use host::{HostPort, ParseHostPortError};
pub use invited::TicketResolver;
pub use keep::{Announcement, keep_registered};
pub use lan::{LanOptions, LanResolver};
pub use peerchannel_wire::{MeshKey, NodeId};
pub use registrar::{Registrar, RegistrarStep};
pub use resolver::{BoxFuture, Found, Lease, Registration, Resolver, ResolverError};
pub use service::ServiceResolver;
pub use uri::{ParseResolverUriError, ResolverUri, ServiceAddress, parse_resolver_uri};
