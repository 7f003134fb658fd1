//! The LAN resolver: nodes of one local network find each other with nothing set up.
//!
//! Multicast DNS (RFC 6762) with DNS service discovery (RFC 6763), by the `mdns-sd` crate.
//! Each registration is one instance of the service type `_peerchannel._udp.local.`, on IPv4
//! and IPv6 and all interfaces at once (the original knew one link-local scope only). The
//! mesh appears as a blinded tag, never by its name; the node by its id, since whoever is
//! dialed must be known by its key.
//!
//! Anyone on the network can announce anything under any node's id. That is harmless: who
//! does not hold the key fails in TLS. Nothing is asked of others than the local network.

mod browser;
mod cache;
mod record;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use mdns_sd::ServiceDaemon;
use peerchannel_wire::MeshKey;
use tokio::time::{timeout, timeout_at};

use crate::lan::browser::{Browser, lock};
use crate::lan::record::service_of;
use crate::resolver::{BoxFuture, Found, Lease, Registration, Resolver, ResolverError, sample};

/// The service type under which nodes announce themselves.
const SERVICE_TYPE: &str = "_peerchannel._udp.local.";

/// How long a resolve waits for the first answer: answers come within 120 ms (RFC 6762
/// section 6), and a node that starts at the same moment needs about a second to announce
/// itself (measured over a veth pair: 0.9 s).
const FIRST_ANSWER: Duration = Duration::from_millis(1500);

/// How long after the last question a resolve that found somebody waits for more: the
/// random delay of answers (RFC 6762 section 6), twice.
const MORE_ANSWERS: Duration = Duration::from_millis(250);

/// How long a goodbye may take: it is one packet, handed to the daemon's thread.
const GOODBYE: Duration = Duration::from_millis(500);

/// Most registrations of one resolver: meshes that one process takes part in, times a few
/// identities. Each costs a name that is defended on the network.
const REGISTRATIONS_MAX: usize = 256;

/// How to use the local network.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct LanOptions {
    /// Names of the interfaces to use, such as `eth0`. Empty (the default) means all that
    /// are up, loopback included, so that processes of one machine without a network find
    /// each other too. An address is only announced on an interface of its own network.
    pub interfaces: Vec<String>,
    /// The UDP port. Default: 5353 (RFC 6762), shared with other responders of the machine.
    pub port: u16,
}

impl Default for LanOptions {
    fn default() -> Self {
        Self { interfaces: Vec::new(), port: mdns_sd::MDNS_PORT }
    }
}

/// Finds nodes on the local network by mDNS and announces ours.
///
/// Nothing happens on the network before the first call. Announcements are withdrawn by
/// [`unregister`](Resolver::unregister) and when the resolver is dropped.
///
/// # Limits
/// Remembers 1024 instances seen on the network (the oldest make room for new ones) and holds
/// 256 registrations. One thread, and two tasks on the runtime of the first call.
///
/// ```no_run
/// use peerchannel_resolver::{LanOptions, LanResolver, MeshKey, Resolver};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let lan = LanResolver::new(LanOptions::default());
/// for place in lan.resolve(MeshKey::from_bytes([7; 32]), 8).await? {
///     println!("{:?} at {:?}", place.node, place.addresses);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct LanResolver {
    options: LanOptions,
    daemon: Mutex<Option<Daemon>>,
}

/// The thread of `mdns-sd` and what listens to it.
struct Daemon {
    service: ServiceDaemon,
    browser: Arc<Browser>,
}

impl LanResolver {
    /// A resolver that has not touched the network yet.
    #[must_use]
    pub fn new(options: LanOptions) -> Self {
        Self { options, daemon: Mutex::new(None) }
    }

    /// Runs `act` with the daemon, which is started if there is none. Never awaits inside.
    fn with_daemon<T>(
        &self,
        act: impl FnOnce(&Daemon) -> Result<T, ResolverError>,
    ) -> Result<T, ResolverError> {
        let mut daemon = lock(&self.daemon);
        match &*daemon {
            Some(daemon) => {
                daemon.browser.ensure_running(&daemon.service)?;
                act(daemon)
            }
            None => act(daemon.insert(Daemon::start(&self.options)?)),
        }
    }

    fn announce(&self, registration: &Registration) -> Result<Lease, ResolverError> {
        let service = service_of(registration)?;
        self.with_daemon(|daemon| {
            let key = (registration.mesh, registration.node);
            let mut announced = daemon.browser.announced();
            if announced.len() >= REGISTRATIONS_MAX && !announced.contains_key(&key) {
                return Err(ResolverError::BadRequest {
                    reason: format!("one LAN resolver holds at most {REGISTRATIONS_MAX} registrations"),
                });
            }
            daemon.service.register(service.clone()).map_err(machine)?;
            announced.insert(key, service);
            Ok(Lease::PERMANENT)
        })
    }

    async fn browse(&self, mesh: MeshKey, max: usize) -> Result<Vec<Found>, ResolverError> {
        let browser = self.with_daemon(|daemon| {
            if daemon.browser.others(mesh).is_empty() {
                daemon.browser.ask_again(&daemon.service)?;
            }
            Ok(daemon.browser.clone())
        })?;
        if timeout(FIRST_ANSWER, browser.wait_until(|| !browser.others(mesh).is_empty())).await.is_ok() {
            // Young questions may have more answers on their way; old ones have not.
            let more = browser.asked() + MORE_ANSWERS;
            let _ = timeout_at(more, browser.wait_until(|| browser.others(mesh).len() >= max)).await;
        }
        Ok(sample(browser.others(mesh), max))
    }

    async fn withdraw(&self, registration: &Registration) -> Result<(), ResolverError> {
        let goodbye = {
            let daemon = lock(&self.daemon);
            let Some(daemon) = &*daemon else { return Ok(()) };
            let key = (registration.mesh, registration.node);
            let mut announced = daemon.browser.announced();
            let Some(service) = announced.get(&key) else { return Ok(()) };
            let goodbye = daemon.service.unregister(service.get_fullname()).map_err(machine)?;
            announced.remove(&key);
            goodbye
        };
        // Sent by the daemon's thread in any case; waited for so that a process may exit.
        let _ = timeout(GOODBYE, goodbye.recv_async()).await;
        Ok(())
    }

    fn holds(&self, registration: &Registration) -> bool {
        let key = (registration.mesh, registration.node);
        lock(&self.daemon).as_ref().is_some_and(|daemon| daemon.browser.announced().contains_key(&key))
    }
}

impl Resolver for LanResolver {
    fn resolve(&self, mesh: MeshKey, max: usize) -> BoxFuture<'_, Result<Vec<Found>, ResolverError>> {
        Box::pin(self.browse(mesh, max))
    }

    fn describe(&self) -> String {
        match self.options.interfaces.as_slice() {
            [] => "LAN (mDNS on all interfaces)".to_owned(),
            names => format!("LAN (mDNS on {})", names.join(", ")),
        }
    }

    fn register<'a>(&'a self, registration: &'a Registration) -> BoxFuture<'a, Result<Lease, ResolverError>> {
        Box::pin(async { self.announce(registration) })
    }

    fn refresh<'a>(&'a self, registration: &'a Registration) -> BoxFuture<'a, Result<Lease, ResolverError>> {
        let known = self.holds(registration);
        Box::pin(std::future::ready(if known { Ok(Lease::PERMANENT) } else { Err(ResolverError::NotFound) }))
    }

    fn unregister<'a>(&'a self, registration: &'a Registration) -> BoxFuture<'a, Result<(), ResolverError>> {
        Box::pin(self.withdraw(registration))
    }
}

impl Daemon {
    fn start(options: &LanOptions) -> Result<Self, ResolverError> {
        let service = ServiceDaemon::new_with_port(options.port).map_err(machine)?;
        if !options.interfaces.is_empty() {
            service.disable_interface(mdns_sd::IfKind::All).map_err(machine)?;
            let names: Vec<&str> = options.interfaces.iter().map(String::as_str).collect();
            service.enable_interface(names).map_err(machine)?;
        }
        let browser = Arc::new(Browser::default());
        browser.ensure_running(&service)?;
        Ok(Self { service, browser })
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.browser.stop();
        // Its thread withdraws what is announced, then ends.
        if let Err(error) = self.service.shutdown() {
            tracing::debug!(%error, "the mDNS thread could not be told to end");
        }
    }
}

impl std::fmt::Debug for Daemon {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Daemon").field("browser", &self.browser).finish_non_exhaustive()
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err wants")]
fn machine(error: mdns_sd::Error) -> ResolverError {
    ResolverError::Machine { reason: format!("mDNS: {error}") }
}
