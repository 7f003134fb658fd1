//! What can go wrong, by operation, and one umbrella for programs that only use `?`.

use std::error::Error as _;
use std::fmt;
use std::net::SocketAddr;

use peerchannel_mesh::{ConfigError, MetadataTooLong};
use peerchannel_security::{IdentityError, PasswordError, StretchError};
use peerchannel_transport::BindError;
use peerchannel_wire::{NameError, ParseTicketError, TicketError};
use thiserror::Error;

/// Any error of this crate, for `fn main() -> peerchannel::Result<()>`.
///
/// `Debug` prints the text for people as well, because that is what Rust prints when `main`
/// returns an error.
#[derive(Error)]
#[non_exhaustive]
pub enum Error {
    /// Joining a mesh.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// Starting a node.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Publishing.
    #[error(transparent)]
    Publish(#[from] PublishError),
    /// Waiting for a message to be committed.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// Sending a direct message.
    #[error(transparent)]
    Direct(#[from] DirectError),
    /// Making a ticket.
    #[error(transparent)]
    Invite(#[from] InviteError),
    /// A name that cannot be used.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The mesh was left.
    #[error(transparent)]
    Left(#[from] Left),
    /// The program's own input and output, so that one `Result` serves it all.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")?;
        let mut source = self.source();
        while let Some(cause) = source {
            write!(f, ": {cause}")?;
            source = cause.source();
        }
        Ok(())
    }
}

/// `std::result::Result` with this crate's [`enum@Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The mesh was left, or its last handle dropped: nothing can be asked of it any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the mesh was left: join it again")]
pub struct Left;

/// Why a mesh was not joined. Nothing was left behind: it may be tried again.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum JoinError {
    /// No way of admission was chosen.
    #[error(
        "joining {mesh:?} needs a credential: give a password (`.password(..)`), \
         or ask for a mesh that anyone may join by name (`.open()`); a ticket (`.ticket(..)`) \
         says where to find the mesh and still needs one of the two"
    )]
    NoCredential {
        /// The mesh's name.
        mesh: String,
    },
    /// Both a password and `open` were asked for.
    #[error("a mesh has a password or is open, not both: remove `.password(..)` or `.open()`")]
    TwoCredentials,
    /// The password is empty, too long or too easy to guess.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// Not enough memory to stretch the password.
    #[error(transparent)]
    Stretch(#[from] StretchError),
    /// The mesh's or the member's name cannot be used.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The configuration cannot work.
    #[error("the configuration cannot work: {0}")]
    Config(#[from] ConfigError),
    /// A text that is not a ticket.
    #[error("the ticket cannot be used: {0}")]
    Ticket(#[from] ParseTicketError),
    /// A ticket with a signature that is not its inviter's.
    #[error("the ticket was not signed by the inviter it names: ask for a new one")]
    TicketForged,
    /// A ticket that has ended.
    #[error("the ticket has expired: ask for a new one")]
    TicketExpired,
    /// A ticket of another mesh.
    #[error("the ticket is for the mesh {ticket:?}, not {mesh:?}: join that one")]
    TicketOfOtherMesh {
        /// The mesh the ticket names.
        ticket: String,
        /// The mesh to be joined.
        mesh: String,
    },
    /// A resolver that does not exist, or with an address that is none.
    #[error("resolver {resolver:?}: {why}")]
    Resolver {
        /// The resolver, as it was given.
        resolver: String,
        /// What is wrong with it, and what is possible.
        why: String,
    },
    /// The node could not be started.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The node takes part in this mesh already.
    #[error("this node takes part in the mesh {mesh:?} already: use that handle, or leave it first")]
    AlreadyJoined {
        /// The mesh's name.
        mesh: String,
    },
    /// An option that belongs to the node was given to a join over an existing node.
    #[error("{option} belongs to the node: give it to `NodeOptions`, not to `join`")]
    OptionOfNode {
        /// The option.
        option: &'static str,
    },
}

/// Why a node was not started. Nothing was left behind: it may be tried again.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// The UDP port could not be had.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// An address to advertise that nobody could dial.
    #[error("{0} cannot be advertised: it needs a port and the address of one host")]
    Advertise(SocketAddr),
    /// The identity file could not be used.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The runtime is shutting down.
    #[error("the async runtime cannot run blocking work: {0}")]
    Io(#[from] std::io::Error),
}

/// Why a message was not published. Nothing was changed: it may be tried again.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum PublishError {
    /// The channel's name cannot be used.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The mesh did not accept the message; the source says why.
    #[error(transparent)]
    Rejected(#[from] peerchannel_mesh::PublishError),
    /// A volatile message that does not fit into one datagram of every link.
    #[error("the volatile message has {size} bytes encoded, a datagram holds {limit} here: send less")]
    DatagramTooLarge {
        /// Its encoded size in bytes.
        size: usize,
        /// The smallest limit of the present links in bytes.
        limit: usize,
    },
    /// The mesh was left.
    #[error(transparent)]
    Left(#[from] Left),
}

/// Why it is not certain that a message will survive this node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum CommitError {
    /// The mesh was left before a neighbor acknowledged the message.
    #[error("the mesh was left before a neighbor acknowledged the message: it may be lost")]
    Left,
}

/// Why a direct message did not arrive for certain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DirectError {
    /// The source says why.
    #[error(transparent)]
    Failed(#[from] peerchannel_mesh::DirectError),
    /// The mesh was left.
    #[error(transparent)]
    Left(#[from] Left),
}

/// Why this node's metadata was not set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MetadataError {
    /// It is too long.
    #[error(transparent)]
    TooLong(#[from] MetadataTooLong),
    /// The mesh was left.
    #[error(transparent)]
    Left(#[from] Left),
}

/// Why a ticket cannot be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum InviteError {
    /// The source says why.
    #[error(transparent)]
    Ticket(#[from] TicketError),
    /// The mesh was left.
    #[error(transparent)]
    Left(#[from] Left),
}
