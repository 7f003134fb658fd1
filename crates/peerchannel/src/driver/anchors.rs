//! When the anchors of a mesh are kept for the node's next run.

use std::time::Duration;

use peerchannel_mesh::Candidate;
use tokio::time::{Instant, timeout_at};

use super::Driver;
use super::wake::{Done, Purpose};

/// When anchors are first kept: a node that crashes soon after has found its place by then.
const FIRST: Duration = Duration::from_secs(30);

/// How often later: they are the oldest links and rarely change.
const INTERVAL: Duration = Duration::from_secs(600);

/// How long a leave waits for a file that is being written. A disk may take that long.
const WRITE_MAX: Duration = Duration::from_secs(2);

/// What is kept, and when it is looked at again.
pub(super) struct Anchors {
    pub(super) due: Instant,
    kept: Vec<Candidate>,
}

impl Anchors {
    pub(super) fn new(kept: Vec<Candidate>) -> Self {
        Self { due: Instant::now() + FIRST, kept }
    }

    /// What is new and worth keeping. A node without neighbors keeps those it had.
    fn changed(&mut self, now: Vec<Candidate>) -> Option<Vec<Candidate>> {
        if now.is_empty() || now == self.kept {
            return None;
        }
        self.kept.clone_from(&now);
        Some(now)
    }
}

impl Driver {
    /// Keeps the anchors if it is time.
    pub(super) fn keep_anchors_if_due(&mut self) {
        if let Some(anchors) = &mut self.anchors
            && anchors.due <= Instant::now()
        {
            anchors.due = Instant::now() + INTERVAL;
            self.keep_anchors();
        }
    }

    /// Keeps the anchors if they changed, in a task.
    pub(super) fn keep_anchors(&mut self) {
        if let Some(changed) = self.changed_anchors() {
            let (node, mesh) = (self.node.clone(), self.facts.mesh);
            self.spawn(Purpose::KeepAnchors, async move {
                node.keep_anchors(mesh, changed).await;
                Done::AnchorsKept
            });
        }
    }

    /// Waits for the file that is being written, if one is: no task can be stopped in that, and
    /// until it is done the identity is in use.
    pub(super) async fn anchors_kept(&mut self) {
        let until = Instant::now() + WRITE_MAX;
        while self.purposes.values().any(|purpose| matches!(purpose, Purpose::KeepAnchors)) {
            let Ok(Some(ended)) = timeout_at(until, self.tasks.join_next_with_id()).await else { return };
            let id = ended.map_or_else(|error| error.id(), |(id, _)| id);
            self.purposes.remove(&id);
        }
    }

    /// The anchors, if they changed since they were kept.
    pub(super) fn changed_anchors(&mut self) -> Option<Vec<Candidate>> {
        let now = self.core.anchors();
        self.anchors.as_mut()?.changed(now)
    }
}
