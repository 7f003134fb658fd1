//! What one member of the demo received, held against what the others published.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use peerchannel::{Incoming, Message, NodeId, Subscription};
use tokio::sync::{Notify, watch};

use super::payload::{self, Clock, Phase};

/// Faults that one member tells in words; the others are only a failure.
const FAULTS_MAX: usize = 5;

/// What was published.
#[derive(Debug, Clone, Copy)]
pub(super) struct Want {
    pub(super) members: usize,
    /// Messages of each member in the calm part.
    pub(super) calm: u32,
    /// And in the busy one.
    pub(super) busy: u32,
}

impl Want {
    /// Messages of one member.
    pub(super) fn of_each(&self) -> u64 {
        u64::from(self.calm) + u64::from(self.busy)
    }

    /// Deliveries of a part: every message to every other member.
    pub(super) fn deliveries(&self, phase: Phase) -> u64 {
        let members = self.members as u64;
        let messages = match phase {
            Phase::Calm => self.calm,
            Phase::Busy => self.busy,
        };
        members * (members - 1) * u64::from(messages)
    }
}

/// How many deliveries all members together have checked.
#[derive(Debug, Clone)]
pub(super) struct Progress {
    counts: Arc<[AtomicU64; 2]>,
    changed: Arc<Notify>,
    stop: watch::Sender<bool>,
}

impl Default for Progress {
    fn default() -> Self {
        Self { counts: Arc::default(), changed: Arc::default(), stop: watch::Sender::new(false) }
    }
}

impl Progress {
    pub(super) fn received(&self, phase: Phase) -> u64 {
        self.count(phase).load(Ordering::Acquire)
    }

    /// Waits until that many were checked. One waiter at a time.
    pub(super) async fn reached(&self, phase: Phase, count: u64) {
        while self.received(phase) < count {
            self.changed.notified().await;
        }
        // The publishers may still be busy: let them.
        tokio::task::yield_now().await;
    }

    /// Lets the receivers give their verdicts.
    pub(super) fn stop(&self) {
        self.stop.send_replace(true);
    }

    fn add(&self, phase: Phase) {
        self.count(phase).fetch_add(1, Ordering::AcqRel);
        self.changed.notify_one();
    }

    fn count(&self, phase: Phase) -> &AtomicU64 {
        let [calm, busy] = &*self.counts;
        match phase {
            Phase::Calm => calm,
            Phase::Busy => busy,
        }
    }
}

/// What one member found.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    /// Messages received.
    pub(super) received: u64,
    /// From publish to delivery, in the calm part.
    pub(super) latencies: Vec<Duration>,
    /// What was not as promised; empty is well.
    pub(super) faults: Vec<String>,
}

/// Receives for one member.
pub(super) struct Receiver {
    index: usize,
    subscription: Subscription,
    want: Want,
    clock: Clock,
    progress: Progress,
    // The last sequence of each author, and which member it said it is.
    authors: BTreeMap<NodeId, (u64, u32)>,
    verdict: Verdict,
}

impl Receiver {
    pub(super) fn new(
        index: usize,
        subscription: Subscription,
        want: Want,
        clock: Clock,
        progress: Progress,
    ) -> Self {
        let (authors, verdict) = (BTreeMap::new(), Verdict::default());
        Self { index, subscription, want, clock, progress, authors, verdict }
    }

    /// Receives until the demo says that there is nothing more to come.
    pub(super) async fn run(mut self) -> Verdict {
        let mut stop = self.progress.stop.subscribe();
        loop {
            tokio::select! {
                biased;
                incoming = self.subscription.next() => match incoming {
                    Some(incoming) => self.take(&incoming),
                    None => break,
                },
                _ = stop.wait_for(|stop| *stop) => break,
            }
        }
        self.conclude()
    }

    fn take(&mut self, incoming: &Incoming) {
        match incoming {
            Incoming::Message(message) => self.check(message),
            news => self.fault(&format!("received {news}")),
        }
    }

    fn check(&mut self, message: &Message) {
        let Some(stamp) = payload::decode(&message.payload) else {
            return self.fault(&format!("a message of {} was changed", message.from.short()));
        };
        let expected_number = |sequence: u64| match stamp.phase {
            Phase::Calm => sequence - 1,
            Phase::Busy => sequence - 1 - u64::from(self.want.calm),
        };
        let (last, author) = self.authors.entry(message.from).or_insert((0, stamp.author));
        let (before, same_author) = (*last, *author == stamp.author);
        let sequence = message.sequence.get();
        *last = sequence;
        if sequence != before + 1 {
            self.fault(&format!("message {sequence} of {} came after {before}", message.from.short()));
        } else if !same_author || expected_number(sequence) != u64::from(stamp.number) {
            self.fault(&format!("message {sequence} of {} is not what was published", message.from.short()));
        }
        if stamp.phase == Phase::Calm {
            self.verdict.latencies.push(self.clock.since(stamp.nanos));
        }
        self.verdict.received += 1;
        self.progress.add(stamp.phase);
    }

    fn fault(&mut self, what: &str) {
        if self.verdict.faults.len() < FAULTS_MAX {
            self.verdict.faults.push(format!("member {}: {what}", self.index + 1));
        }
    }

    fn conclude(mut self) -> Verdict {
        let others = self.want.members - 1;
        if self.authors.len() != others {
            self.fault(&format!("heard {} of {others} others", self.authors.len()));
        }
        let of_each = self.want.of_each();
        let short: Vec<String> = self
            .authors
            .iter()
            .filter(|(_, (last, _))| *last != of_each)
            .map(|(node, (last, _))| format!("has {last} of {of_each} messages of {}", node.short()))
            .collect();
        for what in short {
            self.fault(&what);
        }
        self.verdict
    }
}
