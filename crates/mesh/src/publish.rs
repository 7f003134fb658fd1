//! Publishing: accept, number, gather, sign, flood; and what neighbors acknowledge.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use peerchannel_wire::limits::{HOPS_MAX, INTERACTIVE_BODY_MAX, VOLATILE_KEY_MAX};
use peerchannel_wire::{
    AsideContent, AsideKind, ChannelName, Position, Sequence, Signature, StreamId, StreamRange, UnsignedAside,
};

use crate::filter::{FilterView, Origination, Verdict};
use crate::input::LinkId;
use crate::jobs::Job;
use crate::link::Level;
use crate::node::{Leaving, Node};
use crate::outgoing::Outgoing;
use crate::output::{Delivery, DeliveryLane, Event, Output};
use crate::publish_error::{PublishError, Published};
use crate::retention::Retained;
use crate::time::Time;
use crate::timers::Timer;

/// Largest payload of a volatile message: what surely fits a QUIC datagram of 1200 bytes with
/// channel name, key and signature beside it.
pub(crate) const VOLATILE_PAYLOAD_MAX: usize = 768;

/// How often neighbors that fall behind are looked for while something is unconfirmed.
const SLOW_CHECK: Duration = Duration::from_secs(1);

impl Node {
    /// Accepts a reliable message: it is numbered, kept, and sent as soon as its batch is
    /// signed. [`Event::Committed`] tells when a neighbor has it.
    ///
    /// Without a neighbor the message is held for the first one.
    ///
    /// # Errors
    /// [`PublishError`]; nothing was changed then.
    pub fn publish(
        &mut self,
        now: Time,
        channel: &ChannelName,
        payload: Bytes,
    ) -> Result<Published, PublishError> {
        let limit = self.config.max_message;
        self.check_publish(channel, payload.len(), limit)?;
        self.check_window(now, payload.len())?;
        let verdict = self.judge_own(channel, &payload);
        let stream = self.own_stream(channel);
        let published_ms = self.wall_ms(now);
        let sequence = if verdict.propagates() {
            self.publishing.channels.entry(channel.clone()).or_default().accept(payload.clone())
        } else {
            Sequence::ZERO
        };
        self.stats.published += 1;
        self.echo(verdict, &stream, sequence, DeliveryLane::Reliable, published_ms, Bytes::new(), payload);
        self.sign_next(now, channel);
        Ok(Published { stream, sequence })
    }

    /// Sends a message to the nodes at most `hops` links away; 0 reaches only this node.
    ///
    /// It is delivered at most once and takes no number of the reliable sequence.
    ///
    /// # Errors
    /// [`PublishError`]; nothing was changed then.
    pub fn publish_local(
        &mut self,
        now: Time,
        channel: &ChannelName,
        payload: Bytes,
        hops: u32,
    ) -> Result<Published, PublishError> {
        if hops > HOPS_MAX {
            return Err(PublishError::TooManyHops { hops, limit: HOPS_MAX });
        }
        self.check_publish(channel, payload.len(), INTERACTIVE_BODY_MAX.min(self.config.max_message))?;
        let verdict = self.judge_own(channel, &payload);
        let (content, sequence) = self.aside_content(now, AsideKind::Local, channel, Bytes::new(), payload);
        let lane = DeliveryLane::Local { hops_left: hops };
        self.echo_aside(verdict, &content, lane);
        let stream = content.stream.clone();
        if verdict.propagates() && hops > 0 {
            let message = UnsignedAside::new(AsideKind::Local, content);
            if self.config.origin_auth {
                let transcript = message.transcript(&self.me.mesh);
                let job = self.jobs.add(Job::SignLocal { message, hops });
                self.order(Output::Sign { job, transcript });
            } else {
                self.send_local(now, message.sign(None), hops);
            }
        }
        Ok(Published { stream, sequence })
    }

    /// Sends a message in datagrams: best effort, forwarded only while it is younger than
    /// `lifetime`; of one non-empty key only the latest is delivered.
    ///
    /// # Errors
    /// [`PublishError`]; nothing was changed then.
    pub fn publish_volatile(
        &mut self,
        now: Time,
        channel: &ChannelName,
        key: Bytes,
        payload: Bytes,
        lifetime: Duration,
    ) -> Result<Published, PublishError> {
        if key.len() > VOLATILE_KEY_MAX {
            return Err(PublishError::KeyTooLong { size: key.len(), limit: VOLATILE_KEY_MAX });
        }
        self.check_publish(channel, payload.len(), VOLATILE_PAYLOAD_MAX)?;
        let verdict = self.judge_own(channel, &payload);
        let (content, sequence) = self.aside_content(now, AsideKind::Volatile, channel, key, payload);
        self.echo_aside(verdict, &content, DeliveryLane::Volatile);
        let stream = content.stream.clone();
        if verdict.propagates() {
            let message = UnsignedAside::new(AsideKind::Volatile, content);
            let remaining_ms = u32::try_from(lifetime.as_millis()).unwrap_or(u32::MAX);
            if self.config.origin_auth {
                let transcript = message.transcript(&self.me.mesh);
                let job = self.jobs.add(Job::SignVolatile { message, remaining_ms });
                self.order(Output::Sign { job, transcript });
            } else {
                self.send_volatile(now, message.sign(None), remaining_ms);
            }
        }
        Ok(Published { stream, sequence })
    }

    pub(crate) fn own_stream(&self, channel: &ChannelName) -> StreamId {
        StreamId { origin: self.me.node, epoch: self.me.epoch, channel: channel.clone() }
    }

    fn check_publish(&self, channel: &ChannelName, size: usize, limit: usize) -> Result<(), PublishError> {
        if self.leaving != Leaving::No {
            return Err(PublishError::Leaving);
        }
        if size > limit {
            return Err(PublishError::TooLarge { size, limit });
        }
        let channels = self.publishing.channels.len();
        if channels >= self.config.channels_per_origin_max && !self.publishing.channels.contains_key(channel)
        {
            return Err(PublishError::TooManyChannels(channels));
        }
        Ok(())
    }

    fn check_window(&mut self, now: Time, size: usize) -> Result<(), PublishError> {
        let unconfirmed = self.publishing.unconfirmed_bytes();
        if !self.links.has_neighbors() {
            let limit = self.config.held_alone_bytes;
            if unconfirmed + size > limit {
                self.publishing.refused = true;
                return Err(PublishError::HeldFull { held: unconfirmed, limit });
            }
            return Ok(());
        }
        if unconfirmed + size > self.config.publish_window_bytes || self.queues_are_high() {
            self.publishing.refused = true;
            self.watch_slow(now);
            return Err(PublishError::Busy);
        }
        Ok(())
    }

    /// A neighbor that keeps up has a full queue: own messages wait rather than overflow it.
    fn queues_are_high(&self) -> bool {
        self.links.flooding().any(|link| !link.slow && link.level != Level::Low)
    }

    fn judge_own(&mut self, channel: &ChannelName, payload: &Bytes) -> Verdict {
        let origin = self.me.node;
        self.filter.judge(&FilterView { channel, origin, payload, origination: Origination::Local })
    }

    fn aside_content(
        &mut self,
        now: Time,
        kind: AsideKind,
        channel: &ChannelName,
        key: Bytes,
        payload: Bytes,
    ) -> (AsideContent, Sequence) {
        let stream = self.own_stream(channel);
        let published_ms = self.wall_ms(now);
        let outgoing = self.publishing.channels.entry(channel.clone()).or_default();
        let counter = match kind {
            AsideKind::Local => &mut outgoing.local,
            AsideKind::Volatile => &mut outgoing.volatile,
        };
        *counter = counter.next();
        let number = *counter;
        self.stats.published += 1;
        (AsideContent { stream, number, published_ms, key, payload }, number)
    }

    fn echo_aside(&mut self, verdict: Verdict, content: &AsideContent, lane: DeliveryLane) {
        let (key, payload) = (content.key.clone(), content.payload.clone());
        self.echo(verdict, &content.stream, content.number, lane, content.published_ms, key, payload);
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one delivery")]
    fn echo(
        &mut self,
        verdict: Verdict,
        stream: &StreamId,
        sequence: Sequence,
        lane: DeliveryLane,
        published_ms: u64,
        key: Bytes,
        payload: Bytes,
    ) {
        if self.config.echo && verdict.delivers() {
            let stream = stream.clone();
            let delivery =
                Delivery { stream, sequence, lane, hops: 0, published_ms, key, payload, own: true };
            self.order(Output::Deliver(delivery));
        }
    }

    /// Orders the signature of the next batch of a channel, if one is waiting.
    pub(crate) fn sign_next(&mut self, now: Time, channel: &ChannelName) {
        let published_ms = self.wall_ms(now);
        let stream = self.own_stream(channel);
        let Some(outgoing) = self.publishing.channels.get_mut(channel) else { return };
        if let Some(until) = outgoing.gather_until(now) {
            return self.timers.set_by(Timer::Sign(channel.clone()), until);
        }
        let Some(batch) = outgoing.next_batch(now, published_ms) else { return };
        if self.config.origin_auth {
            let transcript = batch.transcript(&self.me.mesh, &stream);
            let job = self.jobs.add(Job::SignBatch(channel.clone()));
            self.order(Output::Sign { job, transcript });
        } else {
            self.on_batch_signed(now, channel, None);
        }
    }

    pub(crate) fn on_batch_signed(&mut self, now: Time, channel: &ChannelName, signature: Option<Signature>) {
        let stream = self.own_stream(channel);
        let Some(outgoing) = self.publishing.channels.get_mut(channel) else { return };
        let Some(batch) = outgoing.take_signing() else { return };
        let batch = Arc::new(batch.sign(signature));
        outgoing.flooded = batch.last();
        self.retention.keep(&stream, Retained { batch: batch.clone(), hops: 0 });
        self.note_activity(now);
        for link in self.links.flooding_ids() {
            self.push(now, link, &stream, &batch, 0);
        }
        self.watch_slow(now);
        self.sign_next(now, channel);
    }

    /// Begins to look for neighbors that fall behind: each has its full time from here on.
    fn watch_slow(&mut self, now: Time) {
        if self.timers.is_set(&Timer::Slow) {
            return;
        }
        for link in self.links.iter_mut() {
            link.progress = now;
        }
        self.timers.set(Timer::Slow, now + SLOW_CHECK);
    }

    /// Sends own messages that nobody has acknowledged, as if the new neighbor had pulled them.
    pub(crate) fn send_unconfirmed(&mut self, now: Time, id: LinkId) {
        let ranges: Vec<StreamRange> = self
            .publishing
            .channels
            .iter()
            .filter_map(|(channel, outgoing)| {
                StreamRange::new(self.own_stream(channel), outgoing.committed.next(), outgoing.flooded)
            })
            .collect();
        self.on_pull(now, id, ranges);
    }

    pub(crate) fn on_ack(&mut self, now: Time, id: LinkId, positions: &[Position]) {
        let Some(link) = self.links.get_mut(id) else { return };
        if !link.carries_floods() {
            return;
        }
        let mut committed = Vec::new();
        for position in positions {
            if position.stream.origin != self.me.node || position.stream.epoch != self.me.epoch {
                continue;
            }
            let channel = &position.stream.channel;
            let Some(outgoing) = self.publishing.channels.get_mut(channel) else { continue };
            // Nobody can have what was not sent.
            let through = position.contiguous.min(outgoing.flooded);
            let acked = link.acked.entry(channel.clone()).or_default();
            if through > *acked {
                *acked = through;
                link.progress = now;
                // One that does not read still stands in the way.
                link.slow &= link.level != Level::Low;
            }
            if through > outgoing.committed {
                outgoing.committed = through;
                committed.push((channel.clone(), through));
            }
        }
        for (channel, through) in committed {
            self.tell(Event::Committed { channel, through });
        }
        self.recompute_confirmed(now);
        self.goodbye_when_all_said(now);
    }

    /// What every neighbor that keeps up has acknowledged leaves the window.
    pub(crate) fn recompute_confirmed(&mut self, now: Time) {
        for (channel, outgoing) in &mut self.publishing.channels {
            if outgoing.unconfirmed_bytes == 0 {
                continue;
            }
            let acked = self
                .links
                .flooding()
                .filter(|link| !link.slow)
                .map(|link| link.acked.get(channel).copied().unwrap_or_default())
                .min();
            let confirmed = acked.unwrap_or(outgoing.committed).min(Self::confirmable(outgoing));
            outgoing.confirm(confirmed);
        }
        self.tell_ready(now);
    }

    fn confirmable(outgoing: &Outgoing) -> Sequence {
        outgoing.flooded
    }

    pub(crate) fn tell_ready(&mut self, _now: Time) {
        if self.publishing.refused {
            let alone = !self.links.has_neighbors();
            let limit = if alone { self.config.held_alone_bytes } else { self.config.publish_window_bytes };
            // Half free, so that publishers are not woken for one message each.
            if self.publishing.unconfirmed_bytes() <= limit / 2 && (alone || !self.queues_are_high()) {
                self.publishing.refused = false;
                self.tell(Event::PublishReady);
            }
        }
    }

    /// Neighbors without progress no longer hold up `publish`.
    pub(crate) fn check_slow(&mut self, now: Time) {
        let unconfirmed: Vec<(ChannelName, Sequence)> = self
            .publishing
            .channels
            .iter()
            .filter(|(_, outgoing)| outgoing.unconfirmed_bytes > 0)
            .map(|(channel, outgoing)| (channel.clone(), outgoing.flooded))
            .collect();
        for link in self.links.iter_mut().filter(|link| link.carries_floods()) {
            let unacked = |(channel, flooded): &(ChannelName, Sequence)| {
                link.acked.get(channel).copied().unwrap_or_default() < *flooded
            };
            let behind = link.level != Level::Low || unconfirmed.iter().any(unacked);
            if !behind {
                link.progress = now;
                link.slow = false;
            } else if now.since(link.progress) >= self.config.slow_after {
                link.slow = true;
            }
        }
        self.recompute_confirmed(now);
        if !unconfirmed.is_empty() || self.publishing.refused {
            self.timers.set_by(Timer::Slow, now + SLOW_CHECK);
        }
    }
}
