//! The resolvers of one mesh: opening them, and telling the application how they fare.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use peerchannel_resolver::{
    BoxFuture, Found, LanOptions, LanResolver, Lease, MeshKey, ParseResolverUriError, Registration, Resolver,
    ResolverError, ResolverUri, ServiceResolver, StaticResolver, TicketResolver, parse_resolver_uri,
};
use peerchannel_security::{Identity, verify};
use peerchannel_wire::{MeshName, Ticket};

use crate::error::JoinError;
use crate::events::MeshEvent;
use crate::invite::wall_ms;
use crate::registry::Registry;
use crate::status::ResolverInfo;

/// A resolver as the user chose it.
pub(crate) enum ResolverChoice {
    Uri(String),
    Ticket(String),
    Custom(Arc<dyn Resolver>),
}

/// A choice that was understood and can be used for the mesh.
pub(crate) enum CheckedChoice {
    Uri(ResolverUri),
    Custom(Arc<dyn Resolver>),
}

impl ResolverChoice {
    /// Checks everything that can be wrong with a choice, for this mesh.
    pub(crate) fn check(self, mesh: &MeshName) -> Result<CheckedChoice, JoinError> {
        let uri = match self {
            Self::Custom(resolver) => return Ok(CheckedChoice::Custom(resolver)),
            Self::Ticket(text) => ResolverUri::Ticket(Box::new(text.trim().parse()?)),
            Self::Uri(text) => match parse_resolver_uri(&text) {
                Ok(uri) => uri,
                Err(ParseResolverUriError::Ticket(error)) => return Err(error.into()),
                Err(error) => return Err(JoinError::Resolver { resolver: text, why: error.to_string() }),
            },
        };
        if let ResolverUri::Ticket(ticket) = &uri {
            check_ticket(ticket, mesh)?;
        }
        Ok(CheckedChoice::Uri(uri))
    }
}

impl CheckedChoice {
    /// Makes the resolver. Nothing is asked of the network yet.
    pub(crate) fn open(self, identity: &Identity) -> Result<Arc<dyn Resolver>, JoinError> {
        let uri = match self {
            Self::Custom(resolver) => return Ok(resolver),
            Self::Uri(uri) => uri,
        };
        Ok(match uri {
            ResolverUri::Lan => Arc::new(LanResolver::new(LanOptions::default())),
            ResolverUri::Static(hosts) => Arc::new(StaticResolver::new(hosts)),
            ResolverUri::Ticket(ticket) => Arc::new(TicketResolver::new(*ticket)),
            ResolverUri::Service(addresses) => Arc::new(ServiceResolver::new(identity.clone(), addresses)),
            other => {
                let why = "not available in this version".to_owned();
                return Err(JoinError::Resolver { resolver: other.to_string(), why });
            }
        })
    }
}

fn check_ticket(ticket: &Ticket, mesh: &MeshName) -> Result<(), JoinError> {
    let facts = ticket.facts();
    if facts.mesh != *mesh {
        let (ticket, mesh) = (facts.mesh.as_str().to_owned(), mesh.as_str().to_owned());
        return Err(JoinError::TicketOfOtherMesh { ticket, mesh });
    }
    if ticket.is_expired(wall_ms()) {
        return Err(JoinError::TicketExpired);
    }
    if !verify(&facts.inviter, ticket.transcript().as_bytes(), ticket.signature()) {
        return Err(JoinError::TicketForged);
    }
    Ok(())
}

/// How the resolvers of one mesh fare. Changes are told as events, once each.
pub(crate) struct Health {
    registry: Arc<Registry>,
    resolvers: Mutex<Vec<ResolverInfo>>,
}

impl Health {
    pub(crate) fn new(registry: Arc<Registry>) -> Arc<Self> {
        Arc::new(Self { registry, resolvers: Mutex::default() })
    }

    /// The resolver, watched from here on.
    pub(crate) fn watch(self: &Arc<Self>, resolver: Arc<dyn Resolver>) -> Arc<dyn Resolver> {
        let mut resolvers = self.resolvers.lock().unwrap_or_else(PoisonError::into_inner);
        resolvers.push(ResolverInfo { resolver: resolver.describe(), error: None });
        Arc::new(Watched { resolver, index: resolvers.len() - 1, health: self.clone() })
    }

    pub(crate) fn report(&self) -> Vec<ResolverInfo> {
        self.resolvers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note<T>(&self, index: usize, result: &Result<T, ResolverError>) {
        // An unknown registration is an answer: it is made again.
        let (error, is_grave) = match result {
            Ok(_) | Err(ResolverError::NotFound) => (None, false),
            // Somebody else answers in the directory's place.
            Err(error @ ResolverError::WrongDirectory { .. }) => (Some(error.to_string()), true),
            Err(error) => (Some(error.to_string()), false),
        };
        let mut resolvers = self.resolvers.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(info) = resolvers.get_mut(index) else { return };
        let event = match (&info.error, &error) {
            (Some(_), None) => Some(MeshEvent::ResolverRecovered { resolver: info.resolver.clone() }),
            // One that is down is so in changing words: unreachable, then silent, then refused.
            (before, Some(error)) if before.is_none() || (is_grave && before.as_ref() != Some(error)) => {
                Some(MeshEvent::ResolverFailed { resolver: info.resolver.clone(), error: error.clone() })
            }
            _ => None,
        };
        info.error = error;
        drop(resolvers);
        if let Some(event) = event {
            tracing::debug!(%event, "resolver");
            self.registry.event(event);
        }
    }
}

/// A resolver whose answers are noted.
struct Watched {
    resolver: Arc<dyn Resolver>,
    index: usize,
    health: Arc<Health>,
}

impl Watched {
    async fn noted<T>(&self, call: BoxFuture<'_, Result<T, ResolverError>>) -> Result<T, ResolverError> {
        let result = call.await;
        self.health.note(self.index, &result);
        result
    }
}

impl fmt::Debug for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.resolver.fmt(f)
    }
}

impl Resolver for Watched {
    fn resolve(&self, mesh: MeshKey, max: usize) -> BoxFuture<'_, Result<Vec<Found>, ResolverError>> {
        Box::pin(self.noted(self.resolver.resolve(mesh, max)))
    }

    fn describe(&self) -> String {
        self.resolver.describe()
    }

    fn register<'a>(&'a self, registration: &'a Registration) -> BoxFuture<'a, Result<Lease, ResolverError>> {
        Box::pin(self.noted(self.resolver.register(registration)))
    }

    fn refresh<'a>(&'a self, registration: &'a Registration) -> BoxFuture<'a, Result<Lease, ResolverError>> {
        Box::pin(self.noted(self.resolver.refresh(registration)))
    }

    fn update<'a>(&'a self, registration: &'a Registration) -> BoxFuture<'a, Result<Lease, ResolverError>> {
        Box::pin(self.noted(self.resolver.update(registration)))
    }

    fn unregister<'a>(&'a self, registration: &'a Registration) -> BoxFuture<'a, Result<(), ResolverError>> {
        Box::pin(self.noted(self.resolver.unregister(registration)))
    }

    fn can_share_referrals(&self) -> bool {
        self.resolver.can_share_referrals()
    }
}
