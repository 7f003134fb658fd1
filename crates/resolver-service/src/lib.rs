//! The Peer Channel directory: the server that tells the nodes of a mesh where others are.
//!
//! A mesh needs no server. But nodes spread over the Internet must hear of one another
//! somewhere, and who wants to run that place runs this. A directory knows meshes by derived
//! keys, not by their names, sees no message, and is needed only while somebody joins: when
//! it is down, meshes go on.
//!
//! # What it does
//! A node **registers** its addresses in a mesh and gets a **lease** (10 min); it
//! **refreshes** before half of that has passed, **updates** its addresses when they change
//! and **unregisters** when it leaves. Others **resolve**: they get up to 32 nodes of the mesh
//! at random, never themselves, never an expired one.
//!
//! # What it promises
//! * **Nobody touches another's record.** A client is the node key of its TLS connection.
//! * **Acknowledged means stored.** With a [`DurableStore`] a registration is answered after
//!   its commit is on the disk. What arrives during one fsync shares the next.
//! * **A restart loses no client.** Every stored registration then has one whole lifetime,
//!   in which its owner refreshes.
//! * **Everything is bounded**: registrations per client, per mesh and in all, connections,
//!   requests per second, frames, queues. What goes over a limit gets a typed refusal.
//! * **A client's misdeed is its own**: its connection is closed with a reason, and no other.
//!
//! # The parts
//! [`Registry`] judges, without IO, clock or chance of its own. A [`Store`] remembers:
//! [`MemoryStore`] nothing, [`DurableStore`] one file; write your own for a shared database.
//! [`Server`] joins them over QUIC. The client is `ServiceResolver` in the crate
//! `peerchannel-resolver`; the protocol is docs/protocol.md section 6.
//!
//! # Example
//! ```
//! use std::net::Ipv4Addr;
//!
//! use peerchannel_resolver::{MeshKey, Registration, Resolver, ResolverUri, ServiceResolver};
//! use peerchannel_resolver_service::{DurableStore, Server, ServerConfig};
//! use peerchannel_security::Identity;
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let place = tempfile::tempdir()?;
//! let store = DurableStore::open(place.path().join("directory.redb"))?;
//! let mut config = ServerConfig::default();
//! config.listen = (Ipv4Addr::LOCALHOST, 0).into();
//! let server = Server::start(&Identity::generate(), config, store).await?;
//!
//! // What the operator tells the users.
//! let uri = format!("service:{}@{}", server.node_id(), server.local_address());
//! let ResolverUri::Service(addresses) = uri.parse()? else { return Err("a service".into()) };
//!
//! let mesh = MeshKey::from_bytes([7; 32]);
//! let (ann, bob) = (Identity::generate(), Identity::generate());
//! let registration =
//!     Registration { mesh, node: ann.node_id(), addresses: vec!["127.0.0.1:4000".parse()?] };
//! let lease = ServiceResolver::new(ann, addresses.clone()).register(&registration).await?;
//! assert!(lease.lifetime.is_some());
//!
//! let found = ServiceResolver::new(bob, addresses).resolve(mesh, 8).await?;
//! assert_eq!(found[0].node, Some(registration.node));
//! server.shutdown().await;
//! # Ok(())
//! # }
//! ```

mod committer;
mod durable;
mod metrics;
mod rate;
mod registry;
mod server;
mod session;
mod store;

pub use durable::DurableStore;
pub use metrics::Metrics;
pub use registry::{Answer, Registry, RegistryConfig};
pub use server::{ServeError, Server, ServerConfig};
pub use store::{Change, MemoryStore, Store, StoreError, StoredRegistration};
