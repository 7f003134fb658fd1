//! The Peer Channel directory server: registry, leases, durable store.

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
