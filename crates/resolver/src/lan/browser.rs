//! The bridge from the mDNS thread to tokio: one task keeps the cache up to date, another
//! repeats our announcements where a network interface came up.
//!
//! The thread's events come through its own bounded channels (1000 events). If a task falls
//! behind that far, the daemon ends the subscription; the task then subscribes anew, and the
//! daemon repeats what it knows.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mdns_sd::{DaemonEvent, ServiceDaemon, ServiceEvent, ServiceInfo};
use peerchannel_wire::{MeshKey, NodeId};
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::Instant;

use crate::lan::cache::Cache;
use crate::lan::record::{self, Tag};
use crate::lan::{SERVICE_TYPE, machine};
use crate::resolver::{Found, ResolverError};

/// Pause before subscribing anew after a subscription ended.
const AGAIN: Duration = Duration::from_secs(1);

/// Shortest time between two questions of ours: RFC 6762 section 5.2 wants a second, and
/// answers take at most half of one.
const ASK_AGAIN: Duration = Duration::from_secs(2);

/// What we announce, by mesh and node.
pub(super) type Announced = BTreeMap<(MeshKey, NodeId), ServiceInfo>;

/// Follows what the local network says.
#[derive(Debug, Default)]
pub(super) struct Browser {
    shared: Arc<Shared>,
    tasks: Mutex<Option<Tasks>>,
}

#[derive(Default)]
struct Shared {
    cache: Mutex<Cache>,
    changed: Notify,
    announced: Mutex<Announced>,
}

#[derive(Debug)]
struct Tasks {
    /// When the network was last asked.
    asked: Instant,
    browsing: AbortHandle,
    watching: AbortHandle,
}

impl Browser {
    /// Starts the tasks on the current runtime, also if the runtime they ran on is gone.
    pub(super) fn ensure_running(&self, service: &ServiceDaemon) -> Result<(), ResolverError> {
        let mut tasks = lock(&self.tasks);
        if tasks.as_ref().is_some_and(|t| !t.browsing.is_finished() && !t.watching.is_finished()) {
            return Ok(());
        }
        if let Some(old) = tasks.take() {
            old.abort();
        }
        let browsing = self.browse(service)?;
        // One of each per browser: aborted when replaced and by `stop`.
        let watching = tokio::spawn(reannounce(service.clone(), self.shared.clone())).abort_handle();
        *tasks = Some(Tasks { asked: Instant::now(), browsing, watching });
        Ok(())
    }

    /// Asks the network once more if the last question is old: a cable may have been plugged
    /// in since, or an answer lost, and the daemon's own questions soon become rare.
    pub(super) fn ask_again(&self, service: &ServiceDaemon) -> Result<(), ResolverError> {
        if let Some(tasks) = &mut *lock(&self.tasks)
            && tasks.asked.elapsed() >= ASK_AGAIN
        {
            tasks.browsing.abort();
            tasks.browsing = self.browse(service)?;
            tasks.asked = Instant::now();
        }
        Ok(())
    }

    /// Called by futures only, so on a runtime; checked, because nothing enforces it.
    fn browse(&self, service: &ServiceDaemon) -> Result<AbortHandle, ResolverError> {
        let runtime = tokio::runtime::Handle::try_current()
            .map_err(|_| ResolverError::Machine { reason: "there is no tokio runtime here".to_owned() })?;
        let events = service.browse(SERVICE_TYPE).map_err(machine)?;
        Ok(runtime.spawn(follow(service.clone(), events, self.shared.clone())).abort_handle())
    }

    /// When the network was last asked.
    pub(super) fn asked(&self) -> Instant {
        lock(&self.tasks).as_ref().map_or_else(Instant::now, |tasks| tasks.asked)
    }

    /// What we announce: repeated on interfaces that come up. Not to be held over an await.
    pub(super) fn announced(&self) -> MutexGuard<'_, Announced> {
        lock(&self.shared.announced)
    }

    /// The nodes of one mesh that were heard of, without ours.
    pub(super) fn others(&self, mesh: MeshKey) -> Vec<Found> {
        let mut found = lock(&self.shared.cache).found(Tag::of(mesh));
        let announced = self.announced();
        found.retain(|f| f.node.is_none_or(|node| !announced.contains_key(&(mesh, node))));
        found
    }

    /// Returns as soon as `condition` holds; it is looked at after each change.
    pub(super) async fn wait_until(&self, condition: impl Fn() -> bool) {
        loop {
            // Enabled before looking, so that no change falls in between.
            let mut changed = std::pin::pin!(self.shared.changed.notified());
            changed.as_mut().enable();
            if condition() {
                return;
            }
            changed.await;
        }
    }

    /// Ends the tasks.
    pub(super) fn stop(&self) {
        if let Some(tasks) = lock(&self.tasks).take() {
            tasks.abort();
        }
    }
}

impl Tasks {
    fn abort(&self) {
        self.browsing.abort();
        self.watching.abort();
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("announced", &lock(&self.announced).len()).finish_non_exhaustive()
    }
}

/// A poisoned lock guards maps and handles here, which no panic leaves half-changed.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn follow(service: ServiceDaemon, mut events: mdns_sd::Receiver<ServiceEvent>, shared: Arc<Shared>) {
    loop {
        while let Ok(event) = events.recv_async().await {
            match event {
                ServiceEvent::ServiceResolved(resolved) => match record::parse(&resolved) {
                    Some((tag, found)) => {
                        tracing::trace!(name = %resolved.fullname, "heard of a node");
                        lock(&shared.cache).insert(&resolved.fullname, tag, found);
                    }
                    None => {
                        tracing::debug!(name = %resolved.fullname, "an announcement makes no sense");
                        continue;
                    }
                },
                ServiceEvent::ServiceRemoved(_, name) => lock(&shared.cache).remove(&name),
                _ => continue,
            }
            shared.changed.notify_waiters();
        }
        tokio::time::sleep(AGAIN).await;
        match service.browse(SERVICE_TYPE) {
            Ok(again) => events = again,
            Err(mdns_sd::Error::DaemonShutdown) => return,
            Err(error) => tracing::debug!(%error, "browsing the local network is tried again"),
        }
    }
}

/// Repeats our announcements when an address comes up. The daemon does so by itself only for
/// services that announce every address of the machine; ours announce what they are told.
async fn reannounce(service: ServiceDaemon, shared: Arc<Shared>) {
    loop {
        match service.monitor() {
            Ok(events) => {
                while let Ok(event) = events.recv_async().await {
                    match event {
                        DaemonEvent::IpAdd(address) => {
                            tracing::debug!(%address, "announcing on a new address");
                            // Under the lock, so that nothing is announced that was just
                            // withdrawn; handing an order to the thread does not block.
                            for announcement in lock(&shared.announced).values() {
                                if let Err(error) = service.register(announcement.clone()) {
                                    tracing::debug!(%error, "an announcement could not be repeated");
                                }
                            }
                        }
                        DaemonEvent::Error(error) => tracing::debug!(%error, "mDNS"),
                        _ => {}
                    }
                }
            }
            Err(mdns_sd::Error::DaemonShutdown) => return,
            Err(error) => tracing::debug!(%error, "watching the interfaces is tried again"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}
