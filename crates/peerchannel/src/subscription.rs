//! Subscriptions: the application's end of a bounded queue.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;

use crate::events::MeshEvent;
use crate::mesh::Mesh;
use crate::message::{Incoming, IncomingDirect};
use crate::queue::QueueReceiver;

/// Items of one mesh as they come: messages, events or direct messages.
///
/// It yields what comes after it was made, and `None` once the mesh was left and everything
/// was read. It holds at most what [`Config`](crate::Config) says; whoever reads too slowly
/// loses the oldest items and is told how many (`Lagged`). A subscription counts as a handle
/// of the mesh: the mesh is not left while it lives.
#[must_use = "a subscription that is dropped receives nothing"]
pub struct Subscribed<T> {
    receiver: QueueReceiver<T>,
    // Keeps the mesh joined.
    _mesh: Mesh,
}

/// A subscription to messages.
pub type Subscription = Subscribed<Incoming>;

/// A subscription to what happens in the mesh.
pub type Events = Subscribed<MeshEvent>;

/// A subscription to direct messages.
pub type Directs = Subscribed<IncomingDirect>;

impl<T> Subscribed<T> {
    pub(crate) const fn new(receiver: QueueReceiver<T>, mesh: Mesh) -> Self {
        Self { receiver, _mesh: mesh }
    }

    /// Waits for the next item; `None` when the mesh was left and everything was read.
    ///
    /// Cancel safe: dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<T> {
        poll_fn(|context| self.receiver.poll_next(context)).await
    }

    /// The next item if one is there now.
    pub fn try_next(&mut self) -> Option<T> {
        self.receiver.try_next()
    }
}

impl<T> Stream for Subscribed<T> {
    type Item = T;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<T>> {
        self.receiver.poll_next(context)
    }
}

impl<T> fmt::Debug for Subscribed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscribed").finish_non_exhaustive()
    }
}
