//! The Peer Channel directory server: registry, leases, durable store.
