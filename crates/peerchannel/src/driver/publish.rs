//! Publishers of one mesh: who waits for a place, and who waits to be committed.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use peerchannel_mesh::{Node, PublishError as Rejection, Time};
use peerchannel_wire::limits::{HOPS_MAX, SEQUENCE_MAX, VOLATILE_KEY_MAX};
use peerchannel_wire::{
    AsideContent, AsideKind, ChannelName, LinkNumber, Sequence, Signature, StreamId, UnsignedAside, Volatile,
    encode_datagram,
};
use tokio::sync::watch;

use crate::channel::Commitment;
use crate::command::{Accepted, Patience, PublishLane, PublishOrder};
use crate::error::PublishError;
use crate::mesh::{Facts, PUBLISHERS_MAX};

/// What a volatile message has beside key and payload at most, generously: below, its size
/// need not be computed.
const VOLATILE_OVERHEAD: usize = 384;

/// Publishers that wait, in the order of their calls, and what is committed.
#[derive(Default)]
pub(super) struct Publishing {
    // At most twice as many as a mesh has places for publishers: half of them may have given up.
    waiting: VecDeque<PublishOrder>,
    // One per channel published in, which the core limits.
    commitments: HashMap<ChannelName, watch::Sender<Commitment>>,
}

impl Publishing {
    /// A handle publishes.
    pub(super) fn publish(
        &mut self,
        core: &mut Node,
        now: Time,
        facts: &Facts,
        datagram_limit: usize,
        order: PublishOrder,
    ) {
        let reliable = matches!(order.lane, PublishLane::Reliable);
        if !reliable {
            let result = aside(core, now, facts, datagram_limit, &order);
            // A caller that no longer waits does not want to know.
            let _ = order.reply.send(result);
        } else if self.waiting.is_empty() {
            if let Some(order) = self.attempt(core, now, order) {
                self.wait(order);
            }
        } else if order.patience == Patience::Wait {
            self.wait(order);
        } else {
            // Others wait: it would have to wait behind them.
            let _ = order.reply.send(Err(Rejection::Busy.into()));
        }
    }

    /// A caller that gives up frees its place, but not its order: those must not pile up.
    fn wait(&mut self, order: PublishOrder) {
        if self.waiting.len() >= 2 * PUBLISHERS_MAX {
            self.waiting.retain(|order| !order.reply.is_closed());
        }
        self.waiting.push_back(order);
    }

    /// The core takes messages again.
    pub(super) fn resume(&mut self, core: &mut Node, now: Time) {
        while let Some(order) = self.waiting.pop_front() {
            if let Some(order) = self.attempt(core, now, order) {
                self.waiting.push_front(order);
                return;
            }
        }
    }

    /// Messages of a channel up to this one are committed.
    pub(super) fn committed(&mut self, channel: &ChannelName, through: Sequence) {
        if let Some(commitment) = self.commitments.get(channel) {
            commitment.send_replace(Commitment { through });
        }
    }

    /// Publishes, or gives the order back if it has to wait.
    fn attempt(&mut self, core: &mut Node, now: Time, order: PublishOrder) -> Option<PublishOrder> {
        // The caller gave up before the message was accepted: it is not published.
        if order.reply.is_closed() {
            return None;
        }
        let published = match core.publish(now, &order.channel, order.payload.clone()) {
            Err(Rejection::Busy) if order.patience == Patience::Wait => return Some(order),
            Err(rejection) => {
                let _ = order.reply.send(Err(rejection.into()));
                return None;
            }
            Ok(published) => published,
        };
        let commitment = self
            .commitments
            .entry(order.channel)
            .or_insert_with(|| watch::Sender::new(Commitment { through: Sequence::ZERO }))
            .subscribe();
        let _ = order.reply.send(Ok(Accepted { published, commitment: Some(commitment) }));
        None
    }
}

/// Publishes outside the reliable sequence, where nothing waits.
fn aside(
    core: &mut Node,
    now: Time,
    facts: &Facts,
    datagram_limit: usize,
    order: &PublishOrder,
) -> Result<Accepted, PublishError> {
    let (channel, payload) = (&order.channel, order.payload.clone());
    let published = match &order.lane {
        PublishLane::Reliable => core.publish(now, channel, payload)?,
        PublishLane::Local { hops } => core.publish_local(now, channel, payload, *hops)?,
        PublishLane::Volatile { key, lifetime } => {
            check_datagram(facts, datagram_limit, channel, key, &payload)?;
            core.publish_volatile(now, channel, key.clone(), payload, *lifetime)?
        }
    };
    Ok(Accepted { published, commitment: None })
}

/// "Larger than a datagram = an error at the call" (docs/protocol.md section 4).
fn check_datagram(
    facts: &Facts,
    limit: usize,
    channel: &ChannelName,
    key: &Bytes,
    payload: &Bytes,
) -> Result<(), PublishError> {
    let content = key.len() + payload.len();
    if content + VOLATILE_OVERHEAD <= limit || key.len() > VOLATILE_KEY_MAX {
        return Ok(());
    }
    if content > limit {
        return Err(PublishError::DatagramTooLarge { size: content, limit });
    }
    let stream = StreamId { origin: facts.node, epoch: facts.epoch, channel: channel.clone() };
    let number = Sequence::new(SEQUENCE_MAX).unwrap_or(Sequence::ZERO);
    let (key, payload) = (key.clone(), payload.clone());
    let content = AsideContent { stream, number, published_ms: u64::MAX, key, payload };
    let signature = Some(Signature::from_bytes([0xff; 64]));
    let message = UnsignedAside::new(AsideKind::Volatile, content).sign(signature);
    let volatile = Volatile { remaining_ms: u32::MAX, hops: HOPS_MAX, message };
    let size = encode_datagram(LinkNumber(u32::MAX), &volatile).len();
    if size > limit { Err(PublishError::DatagramTooLarge { size, limit }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[test]
    fn publishers_that_gave_up_do_not_pile_up() {
        let mut publishing = Publishing::default();
        let order = || {
            let (reply, answer) = oneshot::channel();
            let channel = ChannelName::new("c").unwrap();
            let payload = Bytes::from_static(b"x");
            (
                PublishOrder {
                    channel,
                    payload,
                    lane: PublishLane::Reliable,
                    patience: Patience::Wait,
                    reply,
                },
                answer,
            )
        };
        let (first, patient) = order();
        publishing.wait(first);
        for _ in 0..10 * PUBLISHERS_MAX {
            let (given_up, answer) = order();
            drop(answer);
            publishing.wait(given_up);
            assert!(publishing.waiting.len() <= 2 * PUBLISHERS_MAX);
        }
        assert!(publishing.waiting.front().is_some_and(|order| !order.reply.is_closed()));
        drop(patient);
    }
}
