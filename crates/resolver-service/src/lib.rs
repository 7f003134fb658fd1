//! The Peer Channel directory server: registry, leases, durable store.

mod durable;
mod registry;
mod store;

pub use durable::DurableStore;
pub use registry::{Answer, Registry, RegistryConfig};
pub use store::{Change, MemoryStore, Store, StoreError, StoredRegistration};
