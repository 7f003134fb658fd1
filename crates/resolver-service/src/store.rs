//! Where registrations survive a restart: the [`Store`] trait and the store that keeps none.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use peerchannel_wire::{MeshKey, NodeId, RegistrationId};
use thiserror::Error;

/// A registration as it is stored. Its expiry is not: see [`Registry`](crate::Registry).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredRegistration {
    /// The mesh.
    pub mesh: MeshKey,
    /// The node that registered, by its own key.
    pub node: NodeId,
    /// The registration's name.
    pub registration: RegistrationId,
    /// Where the node can be dialed: 1 to 16.
    pub addresses: Box<[SocketAddr]>,
}

/// One change of what is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Adds a registration or replaces the one of the same mesh and node.
    Put(StoredRegistration),
    /// Removes the registration of a node in a mesh; none is no error.
    Remove {
        /// The mesh.
        mesh: MeshKey,
        /// The node.
        node: NodeId,
    },
}

/// Keeps registrations over a restart.
///
/// All calls come from one thread and may block it. A directory acknowledges a registration
/// only after [`commit`](Self::commit) returned, so a store decides what "durable" means, and
/// its documentation says what can be lost.
pub trait Store: fmt::Debug + Send + 'static {
    /// Gives every stored registration to `each`. Called once, before any commit.
    ///
    /// # Errors
    /// [`StoreError`]; the directory then does not start.
    fn load(&mut self, each: &mut dyn FnMut(StoredRegistration)) -> Result<(), StoreError>;

    /// Stores all changes in their order, all or none; durable when it returns.
    ///
    /// # Errors
    /// [`StoreError`]; all or none of it was stored, nobody knows which, and a later commit may
    /// succeed.
    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError>;

    /// What it is, for logs and people.
    fn describe(&self) -> String;
}

/// Why a store cannot be opened, read or written. Every message names the file.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StoreError {
    /// Another process has it open.
    #[error("the store {} is in use: stop the other directory service or choose another file", .path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// The file is not a store or was damaged.
    #[error(
        "{} is not an intact store ({detail}): move it away and start again; \
         clients register anew within minutes",
        .path.display()
    )]
    Corrupted {
        /// The file.
        path: PathBuf,
        /// What was found.
        detail: String,
    },
    /// Written by another version.
    #[error(
        "the store {} has format {found}, this program knows format 1: use the program that wrote it",
        .path.display()
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
    },
    /// The operating system: no such directory, no permission, disk full.
    #[error("cannot use the store {}: {detail}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        detail: String,
    },
}

/// Keeps nothing: after a restart the directory is empty, and clients are found again when
/// they next refresh (which answers "not found", so that they register anew).
#[derive(Debug, Default, Clone, Copy)]
pub struct MemoryStore;

impl Store for MemoryStore {
    fn load(&mut self, _each: &mut dyn FnMut(StoredRegistration)) -> Result<(), StoreError> {
        Ok(())
    }

    fn commit(&mut self, _changes: &[Change]) -> Result<(), StoreError> {
        Ok(())
    }

    fn describe(&self) -> String {
        "memory".to_owned()
    }
}
