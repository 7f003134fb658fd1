//! The thread that owns the store: what arrives while one commit runs shares the next.
//!
//! No clock and no batch size to tune: an idle store commits a lone registration at once, a
//! busy one gathers as many as came in during an fsync.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;

use tokio::sync::{mpsc, oneshot};

use crate::metrics::Counters;
use crate::store::{Change, Store};

/// Most orders that wait for the store; further clients wait for a place. At 1 400 commits/s
/// a full queue is gone after a handful of batches.
const WAITING_MAX: usize = 4096;

/// Most orders in one commit: bounds what a client waits for, far above what one fsync takes.
const BATCH_MAX: usize = 1024;

/// Changes to store, and whom to tell.
#[derive(Debug)]
pub(crate) struct Commit {
    pub(crate) changes: Vec<Change>,
    /// Told whether the changes are durable. Nobody may listen any more.
    pub(crate) done: oneshot::Sender<bool>,
}

/// Starts the thread; it ends, and drops the store, when all senders are gone.
pub(crate) fn start(
    mut store: Box<dyn Store>,
    counters: Arc<Counters>,
) -> io::Result<(mpsc::Sender<Commit>, JoinHandle<()>)> {
    let (sender, mut orders) = mpsc::channel::<Commit>(WAITING_MAX);
    let thread = std::thread::Builder::new().name("resolver-store".to_owned()).spawn(move || {
        let (mut batch, mut changes) = (Vec::new(), Vec::new());
        while orders.blocking_recv_many(&mut batch, BATCH_MAX) > 0 {
            for order in &mut batch {
                changes.append(&mut order.changes);
            }
            let stored = match store.commit(&changes) {
                Ok(()) => true,
                Err(error) => {
                    tracing::error!(%error, "the store failed; clients are told to try again");
                    counters.commits_failed.add(1);
                    false
                }
            };
            if stored {
                counters.commits.add(1);
                counters.changes_committed.add(changes.len());
            }
            changes.clear();
            for order in batch.drain(..) {
                let _ = order.done.send(stored);
            }
        }
    })?;
    Ok((sender, thread))
}
