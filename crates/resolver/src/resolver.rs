//! The [`Resolver`] trait and the values that pass through it.
//!
//! A resolver finds addresses and announces ours. It never dials, never judges who is useful
//! and never retries: the [`Registrar`](crate::Registrar) and the mesh decide when to ask
//! again. The calls are those of Peer Channel's resolver contract (register, refresh, update,
//! unregister, resolve); what differs is that none of them can disable a resolver for good.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Duration;

use peerchannel_wire::{MeshKey, NodeId};
use thiserror::Error;

/// A future on the heap: what makes [`Resolver`] usable as `dyn Resolver`.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Finds the first addresses of a mesh, and lets others find ours.
///
/// One resolver may serve several meshes and outlives them, so every call names the mesh, by
/// a [`MeshKey`] from which the mesh's name cannot be told.
///
/// # Rules for callers
/// * Every call may be dropped at any time: nothing is lost but the call.
/// * Limit the time of every call; a resolver may take as long as its network does.
/// * What comes back is a rumour. Who answers at an address proves who it is by TLS and
///   admission, never by having been resolved.
///
/// # Writing one
/// Only [`resolve`](Self::resolve) and [`describe`](Self::describe) are required. A resolver
/// that merely knows addresses stops there. This one reads them from a file that somebody
/// else maintains, one per line:
///
/// ```
/// use std::path::PathBuf;
/// use peerchannel_resolver::{BoxFuture, Found, MeshKey, Resolver, ResolverError};
///
/// #[derive(Debug)]
/// struct FileResolver(PathBuf);
///
/// impl Resolver for FileResolver {
///     fn resolve(&self, _mesh: MeshKey, max: usize) -> BoxFuture<'_, Result<Vec<Found>, ResolverError>> {
///         Box::pin(async move {
///             // A file is quick; what may block for long belongs on `spawn_blocking`.
///             let text = std::fs::read_to_string(&self.0).map_err(|error| ResolverError::Machine {
///                 reason: format!("cannot read {}: {error}", self.0.display()),
///             })?;
///             Ok(text.lines().filter_map(|line| line.parse().ok()).map(Found::at).take(max).collect())
///         })
///     }
///
///     fn describe(&self) -> String {
///         format!("the addresses in {}", self.0.display())
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let path = std::env::temp_dir().join(format!("peerchannel-doc-{}", std::process::id()));
/// std::fs::write(&path, "192.0.2.7:4000\nnot an address\n[2001:db8::7]:4000\n")?;
/// let resolver: Box<dyn Resolver> = Box::new(FileResolver(path.clone()));
/// let found = resolver.resolve(MeshKey::from_bytes([1; 32]), 10).await?;
/// assert_eq!(found.len(), 2);
/// assert_eq!(found[0].addresses, ["192.0.2.7:4000".parse()?]);
/// # std::fs::remove_file(path)?;
/// # Ok(())
/// # }
/// ```
///
/// A resolver that also *announces* implements [`register`](Self::register),
/// [`refresh`](Self::refresh), [`update`](Self::update) and [`unregister`](Self::unregister).
/// A registration is named by its mesh and its node. Answer [`ResolverError::NotFound`] to the
/// refresh of one you do not hold, and the caller registers again. Hold no lock across an
/// `.await`, keep nothing half-done when a future is dropped there, and bound what you store
/// of others' data.
pub trait Resolver: fmt::Debug + Send + Sync + 'static {
    /// Other nodes of `mesh`: at most `max` of them, in no particular order, chosen at random
    /// where more are known. Empty means that nobody was found, which is no error.
    ///
    /// # Errors
    /// [`ResolverError`], by blame.
    fn resolve(&self, mesh: MeshKey, max: usize) -> BoxFuture<'_, Result<Vec<Found>, ResolverError>>;

    /// What this resolver asks and where, for logs and people: `LAN (mDNS)`,
    /// `directory at 192.0.2.7:4000`. No secrets.
    fn describe(&self) -> String;

    /// Announces a node. Registering again replaces. The default announces nothing.
    ///
    /// # Errors
    /// [`ResolverError`], by blame.
    fn register<'a>(&'a self, registration: &'a Registration) -> BoxFuture<'a, Result<Lease, ResolverError>> {
        let _ = registration;
        Box::pin(std::future::ready(Ok(Lease::PERMANENT)))
    }

    /// Keeps a registration alive; its addresses are what they were.
    ///
    /// # Errors
    /// [`ResolverError::NotFound`] if it is gone: register again. Else by blame.
    fn refresh<'a>(&'a self, registration: &'a Registration) -> BoxFuture<'a, Result<Lease, ResolverError>> {
        let _ = registration;
        Box::pin(std::future::ready(Ok(Lease::PERMANENT)))
    }

    /// Replaces the addresses of a registration; registers if it is gone.
    ///
    /// # Errors
    /// [`ResolverError`], by blame.
    fn update<'a>(&'a self, registration: &'a Registration) -> BoxFuture<'a, Result<Lease, ResolverError>> {
        self.register(registration)
    }

    /// Takes a registration back, as when leaving. One that is gone already is no error.
    ///
    /// # Errors
    /// [`ResolverError`], by blame; the registration then ends with its lease.
    fn unregister<'a>(&'a self, registration: &'a Registration) -> BoxFuture<'a, Result<(), ResolverError>> {
        let _ = registration;
        Box::pin(std::future::ready(Ok(())))
    }

    /// Whether nodes found here may tell each other about third ones. A directory that shapes
    /// the mesh itself says no. Does not ask the network: the last thing known.
    fn can_share_referrals(&self) -> bool {
        true
    }
}

/// What a node announces: where it can be dialed for one mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// The mesh.
    pub mesh: MeshKey,
    /// The node: the identity of whoever registers.
    pub node: NodeId,
    /// Where it can be dialed, best first; resolvers use the first 16 that are usable.
    pub addresses: Vec<SocketAddr>,
}

/// How long a registration stays without being refreshed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a registration ends with its lease"]
pub struct Lease {
    /// From now on; `None` if there is nothing to refresh.
    pub lifetime: Option<Duration>,
}

impl Lease {
    /// Nothing to refresh.
    pub const PERMANENT: Self = Self { lifetime: None };

    /// Ends after `lifetime`.
    pub const fn of(lifetime: Duration) -> Self {
        Self { lifetime: Some(lifetime) }
    }
}

/// A place to dial.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The node that is said to be there; unknown for addresses that a person wrote down.
    pub node: Option<NodeId>,
    /// Where, best first; never empty.
    pub addresses: Vec<SocketAddr>,
}

impl Found {
    /// Somebody at an address.
    #[must_use]
    pub fn at(address: SocketAddr) -> Self {
        Self { node: None, addresses: vec![address] }
    }
}

/// Why a resolver could not do what was asked, by blame.
///
/// None of these ends a resolver's life: the next call starts afresh.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ResolverError {
    /// The network or the other side was too slow. Whether a registration arrived is not
    /// known; registering again does no harm.
    #[error("{what} did not answer within {} s", after.as_secs_f32())]
    TimedOut {
        /// Who was asked.
        what: String,
        /// How long it was waited for.
        after: Duration,
    },
    /// The network, or nobody is there: a name that does not resolve, a closed port.
    #[error("cannot reach {what}: {reason}")]
    Unreachable {
        /// Who was asked.
        what: String,
        /// What happened.
        reason: String,
    },
    /// The directory at the given address is not the one that was named by its key. Nothing
    /// was asked of it.
    #[error("{what} is not the directory it should be: it has another node key than {expected}")]
    WrongDirectory {
        /// Who was asked.
        what: String,
        /// The key it should have had.
        expected: NodeId,
    },
    /// The directory says no: too many registrations, or too many requests. Ask less often.
    #[error("{what} refuses: {reason}")]
    Quota {
        /// Who was asked.
        what: String,
        /// What it says.
        reason: String,
    },
    /// The directory cannot do it at the moment: it shuts down, or its store fails.
    #[error("{what} cannot do it at the moment: {reason}")]
    Unavailable {
        /// Who was asked.
        what: String,
        /// What it says.
        reason: String,
    },
    /// The registration is gone: register again.
    #[error("the registration is unknown: register again")]
    NotFound,
    /// The other side broke the protocol. The connection to it was closed.
    #[error("{what} broke the protocol: {reason}")]
    Misbehaved {
        /// Who was asked.
        what: String,
        /// What it did.
        reason: String,
    },
    /// The caller: what was asked makes no sense, as registering without a usable address.
    #[error("the request makes no sense: {reason}")]
    BadRequest {
        /// What is wrong with it.
        reason: String,
    },
    /// A ticket that has ended. Ask the inviter for a new one.
    #[error("the ticket has expired: ask for a new one")]
    TicketExpired,
    /// This machine: no network, a missing permission, a socket that cannot be opened.
    #[error("this machine cannot do it: {reason}")]
    Machine {
        /// What is missing.
        reason: String,
    },
}

/// At most `max` of `found`, chosen at random.
pub(crate) fn sample(mut found: Vec<Found>, max: usize) -> Vec<Found> {
    use rand::seq::SliceRandom as _;
    if found.len() > max {
        let (chosen, _) = found.partial_shuffle(&mut rand::rng(), max);
        return chosen.to_vec();
    }
    found
}
