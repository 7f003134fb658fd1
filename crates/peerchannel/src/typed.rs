//! Typed channels: protobuf messages instead of bytes.

use std::fmt;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;

use crate::channel::{Channel, Published};
use crate::error::PublishError;
use crate::message::{Gap, Incoming, Message};
use crate::subscription::Subscription;

/// A channel whose messages are protobuf messages of one type.
///
/// What other members publish there is not under this node's control: a message that is not a
/// `T` comes as [`TypedIncoming::Invalid`].
pub struct TypedChannel<T> {
    channel: Channel,
    of: PhantomData<fn() -> T>,
}

impl<T: prost::Message + Default> TypedChannel<T> {
    pub(crate) const fn new(channel: Channel) -> Self {
        Self { channel, of: PhantomData }
    }

    /// Publishes a message; see [`Channel::publish`].
    ///
    /// # Errors
    /// [`PublishError`]; a message over the limit names it.
    pub async fn publish(&self, message: &T) -> Result<Published, PublishError> {
        let payload = Bytes::from(message.encode_to_vec());
        self.channel.publish(payload).await
    }

    /// Subscribes; see [`Channel::subscribe`].
    pub fn subscribe(&self) -> TypedSubscription<T> {
        TypedSubscription { subscription: self.channel.subscribe(), of: PhantomData }
    }

    /// The channel beneath, of bytes.
    #[must_use]
    pub const fn untyped(&self) -> &Channel {
        &self.channel
    }
}

impl<T> Clone for TypedChannel<T> {
    fn clone(&self) -> Self {
        Self { channel: self.channel.clone(), of: PhantomData }
    }
}

impl<T> fmt::Debug for TypedChannel<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TypedChannel").field(&self.channel).finish()
    }
}

/// What a typed subscription yields.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum TypedIncoming<T> {
    /// A message.
    Message {
        /// The decoded body.
        body: T,
        /// The message it came in: who, when, which number.
        message: Message,
    },
    /// A message that is not a `T`.
    Invalid {
        /// The message as it came.
        message: Message,
        /// What is wrong with its body.
        error: prost::DecodeError,
    },
    /// Messages that will never come.
    Gap(Gap),
    /// This subscription was read too slowly: so many of its oldest items were dropped.
    Lagged(u64),
}

/// A subscription to a typed channel.
#[must_use = "a subscription that is dropped receives nothing"]
pub struct TypedSubscription<T> {
    subscription: Subscription,
    of: PhantomData<fn() -> T>,
}

impl<T: prost::Message + Default> TypedSubscription<T> {
    /// Waits for the next item; `None` when the mesh was left and everything was read.
    ///
    /// Cancel safe: dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<TypedIncoming<T>> {
        self.subscription.next().await.map(typed)
    }
}

impl<T: prost::Message + Default> Stream for TypedSubscription<T> {
    type Item = TypedIncoming<T>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let item = ready!(Pin::new(&mut self.subscription).poll_next(context));
        Poll::Ready(item.map(typed))
    }
}

impl<T> fmt::Debug for TypedSubscription<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TypedSubscription").field(&self.subscription).finish()
    }
}

fn typed<T: prost::Message + Default>(item: Incoming) -> TypedIncoming<T> {
    match item {
        Incoming::Message(message) => match T::decode(message.payload.clone()) {
            Ok(body) => TypedIncoming::Message { body, message },
            Err(error) => TypedIncoming::Invalid { message, error },
        },
        Incoming::Gap(gap) => TypedIncoming::Gap(gap),
        Incoming::Lagged(missed) => TypedIncoming::Lagged(missed),
    }
}
