//! Who in this process wants to hear what: the subscriptions of one mesh.
//!
//! Subscribing takes effect at once, without asking the driver; the driver delivers through
//! here. The lock is held for pushes into bounded queues only, never across an await.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use peerchannel_wire::{ChannelName, NodeId};
use tokio::time::Instant;

use crate::events::{MeshEvent, Refusal};
use crate::message::{Incoming, IncomingDirect};
use crate::queue::{QueueLimits, QueueReceiver, QueueSender, Queued, queue};

/// Events of the first subscription that may wait: those of a program that never asks for
/// events must not cost much memory (a guess).
const EARLY_EVENTS_MAX: usize = 4096;

/// What comes this soon after a join waits for its first subscription.
const EARLY_FOR: Duration = Duration::from_secs(1);

/// Bytes of messages kept for them (a guess: more than a neighbor sends in that time to a node
/// that has just come).
const EARLY_BYTES_MAX: usize = 4 << 20;

/// How often a peer that was not admitted is reported: strangers must not drown other events.
const TURNED_AWAY_PAUSE: Duration = Duration::from_secs(1);

/// The subscriptions of one mesh.
#[derive(Debug)]
pub(crate) struct Registry {
    limits: QueueLimits,
    subscribed: Mutex<Subscribers>,
}

#[derive(Debug, Default)]
struct Subscribers {
    // The mesh was left: later subscriptions end at once.
    closed: bool,
    channels: HashMap<ChannelName, Vec<QueueSender<Incoming>>>,
    all: Vec<QueueSender<Incoming>>,
    events: Vec<QueueSender<MeshEvent>>,
    directs: Vec<QueueSender<IncomingDirect>>,
    // What happened since the join, for the first who asks.
    early_events: Option<QueueReceiver<MeshEvent>>,
    // What came soon after the join and nobody was there to hear.
    early: Option<Early>,
    turned_away: u64,
    turned_away_at: Option<Instant>,
}

impl Registry {
    pub(crate) fn new(limits: QueueLimits) -> Self {
        let (sender, receiver) = queue(QueueLimits { entries: EARLY_EVENTS_MAX, ..limits });
        let subscribed = Subscribers {
            events: vec![sender],
            early_events: Some(receiver),
            early: Some(Early::new()),
            ..Subscribers::default()
        };
        Self { limits, subscribed: Mutex::new(subscribed) }
    }

    /// Messages of one channel; without a channel, those of all.
    pub(crate) fn messages(&self, channel: Option<&ChannelName>) -> QueueReceiver<Incoming> {
        let (sender, receiver) = queue(self.limits);
        let mut subscribed = self.lock();
        if let Some(early) = subscribed.early() {
            early.hand_over(channel, &sender);
        }
        if !subscribed.closed {
            let list = match channel {
                Some(channel) => subscribed.channels.entry(channel.clone()).or_default(),
                None => &mut subscribed.all,
            };
            add(list, sender);
        }
        receiver
    }

    /// The first subscription begins with the join, so that nothing happens unseen between
    /// the join and the subscription; later ones begin now.
    pub(crate) fn events(&self) -> QueueReceiver<MeshEvent> {
        let (sender, receiver) = queue(self.limits);
        let mut subscribed = self.lock();
        if let Some(early) = subscribed.early_events.take() {
            return early;
        }
        if !subscribed.closed {
            add(&mut subscribed.events, sender);
        }
        receiver
    }

    pub(crate) fn directs(&self) -> QueueReceiver<IncomingDirect> {
        let (sender, receiver) = queue(self.limits);
        let mut subscribed = self.lock();
        if !subscribed.closed {
            add(&mut subscribed.directs, sender);
        }
        receiver
    }

    /// A subscription that has ended before it began.
    pub(crate) fn ended(&self) -> QueueReceiver<Incoming> {
        queue(self.limits).1
    }

    pub(crate) fn deliver(&self, channel: &ChannelName, item: Incoming) {
        let mut subscribed = self.lock();
        let mut heard = false;
        if let Some(list) = subscribed.channels.get_mut(channel) {
            push(list, item.clone());
            heard = !list.is_empty();
            if !heard {
                subscribed.channels.remove(channel);
            }
        }
        if !heard
            && subscribed.all.is_empty()
            && let Some(early) = subscribed.early()
        {
            return early.keep(channel, item);
        }
        push(&mut subscribed.all, item);
    }

    pub(crate) fn event(&self, event: MeshEvent) {
        push(&mut self.lock().events, event);
    }

    pub(crate) fn direct(&self, direct: IncomingDirect) {
        push(&mut self.lock().directs, direct);
    }

    /// Reports a peer that was not admitted: at most once a second, the others are counted.
    pub(crate) fn turned_away(&self, node: NodeId, address: SocketAddr, reason: Refusal) {
        let mut subscribed = self.lock();
        let now = Instant::now();
        let due = subscribed.turned_away_at.is_none_or(|at| now - at >= TURNED_AWAY_PAUSE);
        if due {
            let others = std::mem::take(&mut subscribed.turned_away);
            subscribed.turned_away_at = Some(now);
            push(&mut subscribed.events, MeshEvent::TurnedAway { node, address, reason, others });
        } else {
            subscribed.turned_away += 1;
        }
    }

    /// Ends every subscription once it was read, now and later.
    pub(crate) fn close(&self) {
        let mut subscribed = self.lock();
        let early_events = subscribed.early_events.take();
        *subscribed = Subscribers { closed: true, early_events, ..Subscribers::default() };
    }

    fn lock(&self) -> MutexGuard<'_, Subscribers> {
        self.subscribed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Subscribers {
    /// What was delivered early, for as long as it is kept.
    fn early(&mut self) -> Option<&mut Early> {
        if self.early.as_ref().is_some_and(|early| Instant::now() >= early.until) {
            self.early = None;
        }
        self.early.as_mut()
    }
}

/// What was delivered in the first moments of a join. A program subscribes in the line after
/// the join, but it may be kept from that line while a neighbor is found and sends already.
#[derive(Debug)]
struct Early {
    until: Instant,
    items: VecDeque<(ChannelName, Incoming)>,
    bytes: usize,
    // How many did not fit, by channel; the core limits how many channels there are.
    dropped: HashMap<ChannelName, u64>,
}

impl Early {
    fn new() -> Self {
        let until = Instant::now() + EARLY_FOR;
        Self { until, items: VecDeque::new(), bytes: 0, dropped: HashMap::new() }
    }

    /// Keeps an item; the oldest make room for it and are counted.
    fn keep(&mut self, channel: &ChannelName, item: Incoming) {
        self.bytes += item.size();
        self.items.push_back((channel.clone(), item));
        while self.bytes > EARLY_BYTES_MAX {
            let Some((channel, oldest)) = self.items.pop_front() else { return };
            self.bytes -= oldest.size();
            *self.dropped.entry(channel).or_default() += 1;
        }
    }

    /// To the first subscription that wants them, and to no other: nothing is heard twice by
    /// a program that replaces one subscription by another.
    fn hand_over(&mut self, channel: Option<&ChannelName>, to: &QueueSender<Incoming>) {
        let wanted = |other: &ChannelName| channel.is_none_or(|channel| channel == other);
        let missed: u64 = self.dropped.extract_if(|other, _| wanted(other)).map(|(_, missed)| missed).sum();
        if missed > 0 {
            to.push(Incoming::Lagged(missed));
        }
        for (published_in, item) in std::mem::take(&mut self.items) {
            if wanted(&published_in) {
                self.bytes -= item.size();
                to.push(item);
            } else {
                self.items.push_back((published_in, item));
            }
        }
    }
}

/// Appends a subscription and forgets those nobody reads any more, so that a channel without
/// traffic does not collect them.
fn add<T: Queued>(list: &mut Vec<QueueSender<T>>, sender: QueueSender<T>) {
    list.retain(QueueSender::is_open);
    list.push(sender);
}

fn push<T: Queued + Clone>(list: &mut Vec<QueueSender<T>>, item: T) {
    match list.as_slice() {
        [] => {}
        // The usual case, without a copy.
        [only] => {
            if !only.push(item) {
                list.clear();
            }
        }
        _ => list.retain(|sender| sender.push(item.clone())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registry() -> Registry {
        Registry::new(QueueLimits { entries: 100, bytes: 1 << 20 })
    }

    fn channel(name: &str) -> ChannelName {
        ChannelName::new(name).unwrap()
    }

    fn read<T>(receiver: &QueueReceiver<T>) -> usize {
        std::iter::from_fn(|| receiver.try_next()).count()
    }

    #[tokio::test(start_paused = true)]
    async fn who_subscribes_first_gets_what_came_in_the_second_after_the_join() {
        let registry = registry();
        for name in ["a", "a", "b"] {
            registry.deliver(&channel(name), Incoming::Lagged(1));
        }
        let (only_a, all) = (registry.messages(Some(&channel("a"))), registry.messages(None));
        assert_eq!((read(&only_a), read(&all)), (2, 1), "once each");
        registry.deliver(&channel("a"), Incoming::Lagged(1));
        assert_eq!((read(&only_a), read(&all)), (1, 1));
        drop((only_a, all));
        registry.deliver(&channel("b"), Incoming::Lagged(1));
        tokio::time::sleep(EARLY_FOR).await;
        let late = registry.messages(None);
        registry.deliver(&channel("a"), Incoming::Lagged(1));
        assert_eq!(read(&late), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_did_not_fit_before_the_first_subscription_is_counted() {
        let registry = Registry::new(QueueLimits { entries: 1 << 20, bytes: 1 << 30 });
        let item = Incoming::Lagged(7);
        let fit = EARLY_BYTES_MAX / item.size();
        for _ in 0..fit + 3 {
            registry.deliver(&channel("a"), item.clone());
        }
        assert_eq!(read(&registry.messages(Some(&channel("b")))), 0);
        let subscription = registry.messages(None);
        assert_eq!(subscription.try_next(), Some(Incoming::Lagged(3)));
        assert_eq!(read(&subscription), fit);
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_subscription_to_events_begins_with_the_join() {
        let registry = registry();
        registry.event(MeshEvent::Online);
        let first = registry.events();
        registry.event(MeshEvent::Offline);
        assert_eq!((read(&first), read(&registry.events())), (2, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn strangers_are_reported_once_a_second() {
        let registry = registry();
        let events = registry.events();
        let address = "192.0.2.1:5".parse().unwrap();
        let knock = || registry.turned_away(NodeId::from_bytes([1; 32]), address, Refusal::Busy);
        for _ in 0..10 {
            knock();
        }
        assert_eq!(read(&events), 1);
        tokio::time::sleep(TURNED_AWAY_PAUSE).await;
        knock();
        assert!(matches!(events.try_next(), Some(MeshEvent::TurnedAway { others: 9, .. })));
    }

    #[test]
    fn after_the_end_every_subscription_has_ended() {
        let registry = registry();
        let before = registry.messages(None);
        registry.close();
        let after = registry.messages(None);
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        for receiver in [before, after] {
            assert_eq!(receiver.poll_next(&mut context), std::task::Poll::Ready(None));
        }
    }
}
