//! The queue between the driver and one subscription: bounded in entries and in bytes.
//!
//! The driver never waits for an application, so a full queue drops its oldest items and says
//! how many ([`Queued::lagged`]): loss is visible, never silent. One producer side (the driver
//! holds it), one consumer side (the subscription). Dropping either end ends the other.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// What can wait in a subscription's queue.
pub(crate) trait Queued: Send + 'static {
    /// The item that tells the reader how many were dropped.
    fn lagged(missed: u64) -> Self;

    /// Bytes of memory the item holds, roughly: payload and fixed costs.
    fn size(&self) -> usize;
}

/// How much may wait in one queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct QueueLimits {
    pub(crate) entries: usize,
    pub(crate) bytes: usize,
}

/// A queue's two ends.
pub(crate) fn queue<T: Queued>(limits: QueueLimits) -> (QueueSender<T>, QueueReceiver<T>) {
    let state = State { items: VecDeque::new(), bytes: 0, missed: 0, closed: false, reader: None };
    let shared = Arc::new(Mutex::new(state));
    (
        QueueSender { shared: shared.clone(), limits },
        QueueReceiver { shared, size: T::size, lagged: T::lagged },
    )
}

#[derive(Debug)]
struct State<T> {
    items: VecDeque<T>,
    // Invariant: the sum of `size` over `items`.
    bytes: usize,
    // Dropped since the reader was last told.
    missed: u64,
    // One of the ends is gone.
    closed: bool,
    reader: Option<Waker>,
}

/// The driver's end.
#[derive(Debug)]
pub(crate) struct QueueSender<T: Queued> {
    shared: Arc<Mutex<State<T>>>,
    limits: QueueLimits,
}

impl<T: Queued> QueueSender<T> {
    /// Appends an item and drops the oldest while the limits are exceeded. An item larger
    /// than the whole queue is kept alone: a limit must not make a message undeliverable.
    ///
    /// Returns whether anyone still reads.
    pub(crate) fn push(&self, item: T) -> bool {
        let waker = {
            let mut state = lock(&self.shared);
            if state.closed {
                return false;
            }
            state.bytes += item.size();
            state.items.push_back(item);
            while state.items.len() > 1
                && (state.items.len() > self.limits.entries || state.bytes > self.limits.bytes)
            {
                if let Some(oldest) = state.items.pop_front() {
                    state.bytes -= oldest.size();
                    state.missed += 1;
                }
            }
            state.reader.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    /// Whether anyone still reads.
    pub(crate) fn is_open(&self) -> bool {
        !lock(&self.shared).closed
    }
}

impl<T: Queued> Drop for QueueSender<T> {
    fn drop(&mut self) {
        let waker = {
            let mut state = lock(&self.shared);
            state.closed = true;
            state.reader.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// The subscription's end.
#[derive(Debug)]
pub(crate) struct QueueReceiver<T> {
    shared: Arc<Mutex<State<T>>>,
    size: fn(&T) -> usize,
    lagged: fn(u64) -> T,
}

impl<T> QueueReceiver<T> {
    /// The next item; `Ready(None)` when the sender is gone and everything was read.
    pub(crate) fn poll_next(&self, context: &mut Context<'_>) -> Poll<Option<T>> {
        let mut state = lock(&self.shared);
        match self.take(&mut state) {
            Some(item) => Poll::Ready(Some(item)),
            None if state.closed => Poll::Ready(None),
            None => {
                state.reader = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    /// The next item if one is there.
    pub(crate) fn try_next(&self) -> Option<T> {
        self.take(&mut lock(&self.shared))
    }

    fn take(&self, state: &mut State<T>) -> Option<T> {
        if state.missed > 0 {
            return Some((self.lagged)(std::mem::take(&mut state.missed)));
        }
        let item = state.items.pop_front()?;
        state.bytes -= (self.size)(&item);
        Some(item)
    }
}

impl<T> Drop for QueueReceiver<T> {
    fn drop(&mut self) {
        let mut state = lock(&self.shared);
        state.closed = true;
        state.items.clear();
        state.bytes = 0;
    }
}

/// A panic elsewhere while the lock was held cannot leave a queue half changed in a way that
/// matters more than losing it.
fn lock<T>(state: &Mutex<State<T>>) -> MutexGuard<'_, State<T>> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[derive(Debug, PartialEq, Eq)]
    enum Item {
        Bytes(usize),
        Lagged(u64),
    }

    impl Queued for Item {
        fn lagged(missed: u64) -> Self {
            Self::Lagged(missed)
        }

        fn size(&self) -> usize {
            match self {
                Self::Bytes(bytes) => *bytes,
                Self::Lagged(_) => 0,
            }
        }
    }

    #[test]
    fn the_oldest_are_dropped_and_counted() {
        let check = |limits, pushed: &[usize], read: &[Item]| {
            let (sender, receiver) = queue(limits);
            for bytes in pushed {
                assert!(sender.push(Item::Bytes(*bytes)));
            }
            let seen: Vec<Item> = std::iter::from_fn(|| receiver.try_next()).collect();
            assert_eq!(seen, read);
        };
        let limits = QueueLimits { entries: 2, bytes: 100 };
        check(limits, &[1, 2], &[Item::Bytes(1), Item::Bytes(2)]);
        check(limits, &[1, 2, 3, 4], &[Item::Lagged(2), Item::Bytes(3), Item::Bytes(4)]);
        check(limits, &[60, 60], &[Item::Lagged(1), Item::Bytes(60)]);
        check(limits, &[1, 500], &[Item::Lagged(1), Item::Bytes(500)]);
    }

    #[tokio::test]
    async fn what_was_queued_is_read_after_the_sender_is_gone() {
        let (sender, receiver) = queue(QueueLimits { entries: 2, bytes: 100 });
        sender.push(Item::Bytes(1));
        drop(sender);
        assert_eq!(poll_fn(|cx| receiver.poll_next(cx)).await, Some(Item::Bytes(1)));
        assert_eq!(poll_fn(|cx| receiver.poll_next(cx)).await, None);
    }

    #[tokio::test]
    async fn a_waiting_reader_is_woken() {
        let (sender, receiver) = queue(QueueLimits { entries: 2, bytes: 100 });
        let reader = tokio::spawn(async move { poll_fn(|cx| receiver.poll_next(cx)).await });
        tokio::task::yield_now().await;
        sender.push(Item::Bytes(7));
        assert_eq!(reader.await.unwrap(), Some(Item::Bytes(7)));
    }

    #[test]
    fn a_dropped_reader_ends_the_queue() {
        let (sender, receiver) = queue(QueueLimits { entries: 2, bytes: 100 });
        drop(receiver);
        assert!(!sender.push(Item::Bytes(1)));
        assert!(!sender.is_open());
    }
}
