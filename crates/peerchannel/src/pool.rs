//! The node's connections by the node at the other end: one serves all meshes of the two.
//!
//! A connection is served by one task, which accepts its control streams, and kept while a
//! link or an admission uses it and a little longer.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use dashmap::DashMap;
use peerchannel_transport::Connection;
use peerchannel_wire::NodeId;
use tokio::sync::Notify;

/// How long an unused connection is kept: longer than the pause between a refusal and the
/// next attempt, or between an old link's end and its replacement's beginning (a guess).
pub(crate) const LINGER: Duration = Duration::from_secs(2);

/// Most connections kept per node at the other end: one each way when both dial at once, and
/// one of a process that was restarted meanwhile.
const CONNECTIONS_PER_NODE_MAX: usize = 4;

/// The connections of a node.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    connections: DashMap<NodeId, Vec<Pooled>>,
}

#[derive(Debug)]
struct Pooled {
    connection: Connection,
    uses: Arc<Uses>,
}

/// How many links and admissions use a connection.
#[derive(Debug, Default)]
pub(crate) struct Uses {
    count: AtomicUsize,
    changed: Notify,
}

/// Keeps a connection from being closed as unused.
#[derive(Debug)]
pub(crate) struct Use {
    uses: Arc<Uses>,
}

impl Pool {
    /// The latest connection to a node, if there is one that lives: an older one may be of a
    /// process that is gone, which is only noticed when nothing comes from it for a while.
    pub(crate) fn get(&self, node: NodeId) -> Option<(Connection, Use)> {
        let pooled = self.connections.get(&node)?;
        let alive = pooled.iter().rev().find(|pooled| !pooled.connection.is_closed())?;
        Some((alive.connection.clone(), Use::new(&alive.uses)))
    }

    /// Adds a connection; `None` if there are too many to that node.
    pub(crate) fn add(&self, connection: Connection) -> Option<Use> {
        let mut pooled = self.connections.entry(connection.peer()).or_default();
        pooled.retain(|pooled| !pooled.connection.is_closed());
        if pooled.len() >= CONNECTIONS_PER_NODE_MAX {
            return None;
        }
        let uses = Arc::default();
        let usage = Use::new(&uses);
        pooled.push(Pooled { connection, uses });
        Some(usage)
    }

    /// Removes a connection, unless somebody uses it and `even_if_used` is not set. Whether
    /// it is removed.
    pub(crate) fn remove(&self, connection: &Connection, even_if_used: bool) -> bool {
        let mut removed = true;
        self.connections.remove_if_mut(&connection.peer(), |_, pooled| {
            pooled.retain(|pooled| {
                let keep = pooled.connection.id() != connection.id()
                    || (!even_if_used && pooled.uses.count.load(Ordering::Acquire) > 0);
                removed &= !keep || pooled.connection.id() != connection.id();
                keep
            });
            pooled.is_empty()
        });
        removed
    }
}

impl Use {
    /// One more. The pool does it with its entry locked, so that an expiring connection is
    /// not handed out.
    pub(crate) fn new(uses: &Arc<Uses>) -> Self {
        uses.count.fetch_add(1, Ordering::AcqRel);
        uses.changed.notify_one();
        Self { uses: uses.clone() }
    }

    /// The count it is part of.
    pub(crate) fn uses(&self) -> &Arc<Uses> {
        &self.uses
    }
}

impl Drop for Use {
    fn drop(&mut self) {
        self.uses.count.fetch_sub(1, Ordering::AcqRel);
        self.uses.changed.notify_one();
    }
}

impl Uses {
    /// Waits until the connection was unused for a while. One waiter at a time.
    pub(crate) async fn lingered(&self) {
        loop {
            if self.count.load(Ordering::Acquire) > 0 {
                self.changed.notified().await;
            } else if tokio::time::timeout(LINGER, self.changed.notified()).await.is_err()
                && self.count.load(Ordering::Acquire) == 0
            {
                return;
            }
        }
    }
}
