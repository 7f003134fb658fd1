//! What a directory did, in numbers.

use std::sync::atomic::{AtomicU64, Ordering};

use peerchannel_wire::ResolverRequest;

/// The numbers of a [`Server`](crate::Server) since its start, read at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metrics {
    /// Clients connected now.
    pub clients: u64,
    /// Registrations now.
    pub registrations: u64,
    /// Meshes with registrations now.
    pub meshes: u64,
    /// Connections that were served.
    pub connections: u64,
    /// Connections turned away: too many in all, or of one client.
    pub connections_refused: u64,
    /// Requests to register.
    pub registers: u64,
    /// Requests to refresh.
    pub refreshes: u64,
    /// Requests to update.
    pub updates: u64,
    /// Requests to unregister.
    pub unregisters: u64,
    /// Requests to resolve.
    pub resolves: u64,
    /// Requests for the settings.
    pub settings: u64,
    /// Requests refused by a quota on registrations.
    pub quota_refusals: u64,
    /// Requests refused because a client asked too often.
    pub throttled: u64,
    /// Clients disconnected for what the protocol does not allow.
    pub violations: u64,
    /// Registrations whose lease ended.
    pub expired: u64,
    /// Commits of the store.
    pub commits: u64,
    /// Commits that failed.
    pub commits_failed: u64,
    /// Changes stored; divided by `commits`, how many shared one.
    pub changes_committed: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, count: usize) {
        self.0.fetch_add(count as u64, Ordering::Relaxed);
    }

    pub(crate) fn one_less(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The counters behind [`Metrics`].
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) clients: Counter,
    pub(crate) connections: Counter,
    pub(crate) connections_refused: Counter,
    registers: Counter,
    refreshes: Counter,
    updates: Counter,
    unregisters: Counter,
    resolves: Counter,
    settings: Counter,
    pub(crate) quota_refusals: Counter,
    pub(crate) throttled: Counter,
    pub(crate) violations: Counter,
    pub(crate) expired: Counter,
    pub(crate) commits: Counter,
    pub(crate) commits_failed: Counter,
    pub(crate) changes_committed: Counter,
}

impl Counters {
    pub(crate) fn asked(&self, request: &ResolverRequest) {
        let counter = match request {
            ResolverRequest::Register { .. } => &self.registers,
            ResolverRequest::Refresh { .. } => &self.refreshes,
            ResolverRequest::Update { .. } => &self.updates,
            ResolverRequest::Unregister { .. } => &self.unregisters,
            ResolverRequest::Resolve { .. } => &self.resolves,
            ResolverRequest::Settings => &self.settings,
        };
        counter.add(1);
    }

    pub(crate) fn read(&self, registrations: usize, meshes: usize) -> Metrics {
        Metrics {
            clients: self.clients.read(),
            registrations: registrations as u64,
            meshes: meshes as u64,
            connections: self.connections.read(),
            connections_refused: self.connections_refused.read(),
            registers: self.registers.read(),
            refreshes: self.refreshes.read(),
            updates: self.updates.read(),
            unregisters: self.unregisters.read(),
            resolves: self.resolves.read(),
            settings: self.settings.read(),
            quota_refusals: self.quota_refusals.read(),
            throttled: self.throttled.read(),
            violations: self.violations.read(),
            expired: self.expired.read(),
            commits: self.commits.read(),
            commits_failed: self.commits_failed.read(),
            changes_committed: self.changes_committed.read(),
        }
    }
}
