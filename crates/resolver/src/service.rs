//! The directory service's client: `service:[NODEKEY@]HOST:PORT[,…]`.
//!
//! One task owns the connection and sends one request after the other, so that dropping a
//! call never leaves half a request on the wire. The connection is kept while it is used. A
//! directory that is down, slow or restarted costs the calls of that time, never the
//! resolver (in the original one time-out ended it for good).

mod client;
mod connect;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use peerchannel_security::Identity;
use peerchannel_wire::{
    MeshKey, NodeId, RegistrationId, ResolverRefusal, ResolverRefusalKind, ResolverReply, ResolverRequest,
};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::resolver::{BoxFuture, Found, Lease, Registration, Resolver, ResolverError, sample};
use crate::service::client::Job;
use crate::uri::ServiceAddress;

/// How long one call may take, all tries and addresses included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Most calls that wait for the task; further ones wait for a place, within their time.
const WAITING_MAX: usize = 64;

/// Finds nodes through a directory service and registers ours there.
///
/// With a node key the directory is authenticated: another one at its address is refused
/// before anything is asked. Without a key whoever answers is believed, and a warning says
/// so once. Of several addresses the one that worked last is tried first, the others follow
/// within fractions of a second.
///
/// The node registers under its own identity, which no other node can touch. Addresses that
/// mean nothing to others (link-local ones, and loopback ones unless the directory is on this
/// machine) are not registered.
///
/// Each call takes at most 5 s. The task and the connection end with the resolver.
#[derive(Debug)]
pub struct ServiceResolver {
    setup: Arc<Setup>,
    /// To the task; replaced if the task's runtime is gone.
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    /// The names of our registrations. One entry per mesh and node of this process.
    registrations: Mutex<BTreeMap<(MeshKey, NodeId), RegistrationId>>,
}

/// What the task needs, too.
#[derive(Debug)]
struct Setup {
    identity: Identity,
    addresses: Vec<ServiceAddress>,
    /// As the directory said last.
    can_share_referrals: AtomicBool,
}

impl ServiceResolver {
    /// Uses the directory at these addresses under a node's identity. Nothing happens on the
    /// network before the first call.
    #[must_use]
    pub fn new(identity: Identity, addresses: impl IntoIterator<Item = ServiceAddress>) -> Self {
        let addresses: Vec<ServiceAddress> = addresses.into_iter().collect();
        if addresses.iter().any(|address| address.node.is_none()) {
            tracing::warn!(
                "a directory service is used without its node key, so it is not authenticated; \
                 write service:NODEKEY@HOST:PORT"
            );
        }
        let setup = Setup { identity, addresses, can_share_referrals: AtomicBool::new(true) };
        Self { setup: Arc::new(setup), jobs: Mutex::default(), registrations: Mutex::default() }
    }

    async fn ask(&self, request: ResolverRequest) -> Result<ResolverReply, ResolverError> {
        let deadline = Instant::now() + REQUEST_TIMEOUT;
        let (reply, answer) = oneshot::channel();
        let jobs = self.jobs()?;
        let timed_out = || ResolverError::TimedOut { what: self.describe(), after: REQUEST_TIMEOUT };
        let asked = async {
            // The task gives up at the deadline too, and may be the first to notice it.
            let ended = || match Instant::now() < deadline {
                true => ResolverError::Machine { reason: "the runtime is shutting down".to_owned() },
                false => ResolverError::TimedOut { what: self.describe(), after: REQUEST_TIMEOUT },
            };
            jobs.send(Job { request, deadline, reply }).await.map_err(|_| ended())?;
            match answer.await {
                Ok(answer) => answer,
                // The task gives a call up at the same moment, and may be the first to notice.
                Err(_) if Instant::now() >= deadline => Err(timed_out()),
                Err(_) => Err(ended()),
            }
        };
        match timeout_at(deadline, asked).await {
            Ok(Ok(ResolverReply::Refused(refusal))) => Err(self.refused(refusal)),
            Ok(answer) => answer,
            Err(_) => Err(timed_out()),
        }
    }

    /// The task's queue; starts the task if there is none.
    fn jobs(&self) -> Result<mpsc::Sender<Job>, ResolverError> {
        let mut jobs = lock(&self.jobs);
        if let Some(jobs) = jobs.as_ref().filter(|jobs| !jobs.is_closed()) {
            return Ok(jobs.clone());
        }
        let runtime = tokio::runtime::Handle::try_current()
            .map_err(|_| ResolverError::Machine { reason: "there is no tokio runtime here".to_owned() })?;
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        // One task per resolver: it ends when the last sender is gone, ours.
        runtime.spawn(client::run(self.setup.clone(), receiver));
        *jobs = Some(sender.clone());
        Ok(sender)
    }

    async fn announce(&self, registration: &Registration) -> Result<Lease, ResolverError> {
        self.check(registration)?;
        let (mesh, addresses) = (registration.mesh, registration.addresses.clone());
        let key = (mesh, registration.node);
        let known = lock(&self.registrations).get(&key).copied();
        let request = match known {
            Some(registration) => ResolverRequest::Update { mesh, registration, addresses },
            None => ResolverRequest::Register { mesh, addresses },
        };
        match self.ask(request).await? {
            ResolverReply::Registered { registration, lifetime } => {
                lock(&self.registrations).insert(key, registration);
                Ok(Lease::of(lifetime))
            }
            other => Err(self.unexpected(&other)),
        }
    }

    async fn prolong(&self, registration: &Registration) -> Result<Lease, ResolverError> {
        let key = (registration.mesh, registration.node);
        let Some(known) = lock(&self.registrations).get(&key).copied() else {
            return Err(ResolverError::NotFound);
        };
        match self.ask(ResolverRequest::Refresh { mesh: registration.mesh, registration: known }).await? {
            ResolverReply::Refreshed(Some(lifetime)) => Ok(Lease::of(lifetime)),
            ResolverReply::Refreshed(None) => {
                lock(&self.registrations).remove(&key);
                Err(ResolverError::NotFound)
            }
            other => Err(self.unexpected(&other)),
        }
    }

    async fn withdraw(&self, registration: &Registration) -> Result<(), ResolverError> {
        let key = (registration.mesh, registration.node);
        let Some(known) = lock(&self.registrations).remove(&key) else { return Ok(()) };
        match self.ask(ResolverRequest::Unregister { mesh: registration.mesh, registration: known }).await? {
            ResolverReply::Unregistered => Ok(()),
            other => Err(self.unexpected(&other)),
        }
    }

    async fn look_up(&self, mesh: MeshKey, max: usize) -> Result<Vec<Found>, ResolverError> {
        let nodes_max = u32::try_from(max).unwrap_or(u32::MAX);
        match self.ask(ResolverRequest::Resolve { mesh, nodes_max }).await? {
            ResolverReply::Resolved(nodes) => {
                let found =
                    nodes.iter().map(|n| Found { node: Some(n.node()), addresses: n.addresses().to_vec() });
                // A directory may send more than was asked for; nobody need take it.
                Ok(sample(found.collect(), max))
            }
            other => Err(self.unexpected(&other)),
        }
    }

    /// The directory knows a client by its node key alone, so it can only speak for itself.
    fn check(&self, registration: &Registration) -> Result<(), ResolverError> {
        let ours = self.setup.identity.node_id();
        if registration.node == ours {
            return Ok(());
        }
        let (theirs, ours) = (registration.node.short(), ours.short());
        Err(ResolverError::BadRequest {
            reason: format!("node {theirs} cannot be registered with the identity of node {ours}"),
        })
    }

    fn refused(&self, refusal: ResolverRefusal) -> ResolverError {
        let (what, reason) = (self.describe(), refusal.detail);
        match refusal.kind {
            ResolverRefusalKind::Quota => ResolverError::Quota { what, reason },
            ResolverRefusalKind::Unavailable => ResolverError::Unavailable { what, reason },
            ResolverRefusalKind::NotFound => ResolverError::NotFound,
            ResolverRefusalKind::Malformed => {
                ResolverError::BadRequest { reason: format!("{what} says: {reason}") }
            }
        }
    }

    fn unexpected(&self, reply: &ResolverReply) -> ResolverError {
        tracing::debug!(?reply, "a reply of another kind than asked for");
        ResolverError::Misbehaved {
            what: self.describe(),
            reason: "it answered something else than was asked".to_owned(),
        }
    }
}

impl Resolver for ServiceResolver {
    fn resolve(&self, mesh: MeshKey, max: usize) -> BoxFuture<'_, Result<Vec<Found>, ResolverError>> {
        Box::pin(self.look_up(mesh, max))
    }

    fn describe(&self) -> String {
        let hosts: Vec<String> = self.setup.addresses.iter().map(|a| a.host.to_string()).collect();
        let trust =
            if self.setup.addresses.iter().all(|a| a.node.is_some()) { "" } else { " (not authenticated)" };
        format!("directory at {}{trust}", hosts.join(", "))
    }

    fn register<'a>(&'a self, registration: &'a Registration) -> BoxFuture<'a, Result<Lease, ResolverError>> {
        Box::pin(self.announce(registration))
    }

    fn refresh<'a>(&'a self, registration: &'a Registration) -> BoxFuture<'a, Result<Lease, ResolverError>> {
        Box::pin(self.prolong(registration))
    }

    fn unregister<'a>(&'a self, registration: &'a Registration) -> BoxFuture<'a, Result<(), ResolverError>> {
        Box::pin(self.withdraw(registration))
    }

    fn can_share_referrals(&self) -> bool {
        self.setup.can_share_referrals.load(Ordering::Relaxed)
    }
}

/// Only registered addresses that mean something where the directory is.
fn worth_registering(addresses: &[SocketAddr], directory: SocketAddr) -> Vec<SocketAddr> {
    let here = directory.ip().to_canonical().is_loopback();
    let useful = |address: &&SocketAddr| match address.ip().to_canonical() {
        ip if ip.is_loopback() => here,
        std::net::IpAddr::V4(ip) => !ip.is_link_local(),
        // Their scope does not travel.
        std::net::IpAddr::V6(ip) => !ip.is_unicast_link_local(),
    };
    addresses.iter().filter(useful).copied().collect()
}

/// A poisoned lock guards maps and handles here, which no panic leaves half-changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use super::*;

    #[test]
    fn only_addresses_that_mean_something_elsewhere_are_registered() {
        let addresses: Vec<SocketAddr> =
            ["127.0.0.1:1", "[::1]:2", "169.254.1.1:3", "[fe80::1]:4", "192.0.2.7:5", "[2001:db8::7]:6"]
                .map(|a| a.parse().unwrap())
                .to_vec();
        let away = worth_registering(&addresses, "198.51.100.1:9".parse().unwrap());
        assert_eq!(away, addresses[4..]);
        let here = worth_registering(&addresses, "[::ffff:127.0.0.1]:9".parse().unwrap());
        assert_eq!(here, [&addresses[..2], &addresses[4..]].concat());
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_that_is_polled_too_late_has_timed_out() {
        let silent = [0; 2].map(|_| std::net::UdpSocket::bind("127.0.0.1:0").unwrap());
        let addresses = silent
            .each_ref()
            .map(|socket| ServiceAddress { host: socket.local_addr().unwrap().into(), node: None });
        let resolver = ServiceResolver::new(Identity::from_seed(&[1; 32]), addresses);
        let mut call = resolver.resolve(MeshKey::from_bytes([1; 32]), 1);
        assert!(std::future::poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await.is_pending());
        // The task gives the call up before its caller looks again, as on a busy machine.
        tokio::time::sleep(REQUEST_TIMEOUT + Duration::from_secs(1)).await;
        let error = call.await.unwrap_err();
        assert!(matches!(error, ResolverError::TimedOut { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_node_registers_only_itself() {
        let resolver = ServiceResolver::new(Identity::from_seed(&[1; 32]), []);
        let registration = Registration {
            mesh: MeshKey::from_bytes([1; 32]),
            node: NodeId::from_bytes([9; 32]),
            addresses: vec!["192.0.2.7:5".parse().unwrap()],
        };
        let error = resolver.register(&registration).await.unwrap_err();
        assert!(matches!(error, ResolverError::BadRequest { .. }), "{error}");
    }
}
