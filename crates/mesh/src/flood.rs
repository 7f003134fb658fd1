//! The way of a message after it was decoded, top to bottom: seen? verify, filter, retain,
//! forward, deliver in order.
//!
//! Messages travel on every link but the one they came from; each node takes the first copy
//! whose signature verifies (docs/protocol.md section 4). A neighbor whose queue is not low
//! is told of them instead and pulls.

use std::sync::Arc;
use std::time::Duration;

use peerchannel_wire::{
    Batch, Body, ControlFrame, DataFrame, Flood, Position, Sequence, StreamId, StreamRange,
};

use crate::baseline::Baseline;
use crate::filter::{FilterView, Origination};
use crate::inbound::{Evidence, Held, Unfollowed};
use crate::input::LinkId;
use crate::jobs::Job;
use crate::link::Level;
use crate::node::Node;
use crate::output::{Delivery, DeliveryLane, Output};
use crate::retention::Retained;
use crate::time::Time;
use crate::timers::Timer;

/// Shortest delay before what was not pushed is announced.
const ANNOUNCE_MIN: Duration = Duration::from_millis(5);

impl Node {
    pub(crate) fn on_flood(&mut self, now: Time, from: LinkId, flood: Flood) {
        let (first, last) = (flood.batch.first(), flood.batch.last());
        let count = flood.batch.count() as u64;
        if flood.stream.origin == self.me.node && flood.stream.epoch >= self.me.epoch {
            return self.count_duplicates(from, count);
        }
        let inbound = match self.streams.follow(&flood.stream, Sequence::ZERO, Evidence::Carried, now) {
            Ok(inbound) => inbound,
            Err(Unfollowed::Stale) => return self.count_duplicates(from, count),
            Err(Unfollowed::Full) => return self.overloaded("streams"),
        };
        inbound.sources.note(from, last);
        if inbound.has_all(first, last) {
            return self.count_duplicates(from, count);
        }
        if let Some((_, sources)) = inbound.verifying.get_mut(&first) {
            // Another copy of what is being verified: remembered as a source, not as seen.
            if !sources.contains(&from) {
                sources.push(from);
            }
            return self.count_duplicates(from, count);
        }
        if !self.config.origin_auth {
            return self.accept(now, flood, &[from]);
        }
        let Some(signature) = flood.batch.signature().copied() else {
            return self.violation(now, from, "an unsigned batch in a mesh with origin authentication");
        };
        if !self.jobs.has_room(flood.batch.encoded().len()) {
            // Its sender has it: it is pulled when there is room.
            self.look_for_missing(now, &flood.stream);
            return self.overloaded("verifications");
        }
        inbound.verifying.insert(first, (last, vec![from]));
        let signer = flood.stream.origin;
        let transcript = flood.batch.transcript(&self.me.mesh, &flood.stream);
        let job = self.jobs.add(Job::VerifyBatch(flood));
        self.order(Output::Verify { job, signer, transcript, signature });
    }

    pub(crate) fn on_batch_verified(&mut self, now: Time, flood: Flood, valid: bool) {
        let sources = self
            .streams
            .get_mut(&flood.stream)
            .and_then(|inbound| inbound.verified(flood.batch.first()))
            .unwrap_or_default();
        if valid {
            return self.accept(now, flood, &sources);
        }
        self.stats.bad_signatures += 1;
        // Every node verifies before it forwards, so the neighbor that sent this one is at
        // fault. Others sent a copy that may be good: it will be pulled.
        if let Some(from) = sources.first() {
            self.violation(now, *from, "a batch with a bad signature");
        }
        self.look_for_missing(now, &flood.stream);
    }

    /// A batch that is authentic and brings something new.
    fn accept(&mut self, now: Time, flood: Flood, sources: &[LinkId]) {
        let Flood { stream, hops, batch } = flood;
        let hops = hops.saturating_add(1);
        // It may have made room for another while its signature was verified.
        match self.streams.follow(&stream, Sequence::ZERO, Evidence::Carried, now) {
            Ok(inbound) if !inbound.has_all(batch.first(), batch.last()) => {}
            Err(Unfollowed::Full) => return self.overloaded("streams"),
            Ok(_) | Err(Unfollowed::Stale) => return,
        }
        self.learn_lateness(&stream, &batch, sources);
        let (fresh, barred) = self.take_in(&stream, &batch, hops, sources);
        self.note_activity(now);
        if let Some(first) = sources.first()
            && let Some(link) = self.links.get_mut(*first)
        {
            link.useful += fresh;
        }
        let passed_on = if barred.is_empty() {
            Some(batch)
        } else {
            batch.withhold(|sequence| barred.contains(&sequence)).map(Arc::new)
        };
        if let Some(batch) = passed_on {
            self.retention.keep(&stream, Retained { batch: batch.clone(), hops });
            // What brought nothing new was passed on before: without this, copies of a batch
            // with a withheld body would circle for as long as that body is missing.
            let onward = if fresh > 0 { self.links.flooding_ids() } else { Vec::new() };
            for id in onward {
                let skip = sources.contains(&id)
                    || self.links.get(id).is_some_and(|link| link.peer == stream.origin);
                if !skip {
                    self.push(now, id, &stream, &batch, hops);
                }
            }
        }
        self.advance(now, &stream);
    }

    /// Judges and holds the new messages of a batch. Returns how many there were, and which
    /// the filter bars from being passed on.
    fn take_in(
        &mut self,
        stream: &StreamId,
        batch: &Batch,
        hops: u32,
        sources: &[LinkId],
    ) -> (u64, Vec<Sequence>) {
        let (mut fresh, mut barred) = (0, Vec::new());
        let asked = self.streams.get(stream).and_then(|i| i.repair.as_ref()).and_then(|r| r.asked);
        let repairing = asked.is_some_and(|asked| sources.contains(&asked));
        let own = stream.origin == self.me.node;
        // Before the baseline is known nothing leaves the hold-back.
        let known = self.baseline == Baseline::Known;
        for (sequence, body) in batch.messages() {
            let Body::Payload(payload) = body else { continue };
            let held_bytes = self.streams.held_bytes;
            let Some(inbound) = self.streams.get_mut(stream) else { break };
            if inbound.has(sequence) {
                self.stats.duplicates += 1;
                continue;
            }
            let next = known && sequence == inbound.contiguous.next();
            if !next && held_bytes + payload.len() > self.config.hold_back_bytes {
                // The latest waits outside: it is pulled once the earlier ones are here.
                self.overloaded("hold-back");
                continue;
            }
            let view = FilterView {
                channel: &stream.channel,
                origin: stream.origin,
                payload,
                origination: Origination::Remote,
            };
            let verdict = self.filter.judge(&view);
            if !verdict.propagates() {
                barred.push(sequence);
                inbound.bar(sequence);
            }
            let held = Held {
                payload: payload.clone(),
                hops,
                published_ms: batch.published_ms(),
                // An earlier epoch of this very node: relayed, not delivered back.
                deliver: verdict.delivers() && !own,
            };
            inbound.proven = true;
            let cost = held.cost();
            inbound.hold(sequence, held);
            self.streams.held_bytes += cost;
            self.stats.payload_bytes_in += payload.len() as u64;
            self.stats.repairs += u64::from(repairing);
            fresh += 1;
        }
        (fresh, barred)
    }

    /// Delivers what is complete, acknowledges it to its origin, and looks for what is missing.
    pub(crate) fn advance(&mut self, now: Time, stream: &StreamId) {
        if self.baseline != Baseline::Known {
            return;
        }
        let mut moved = false;
        while let Some((sequence, held)) =
            self.streams.get_mut(stream).and_then(crate::inbound::Inbound::pop_next)
        {
            moved = true;
            self.streams.held_bytes -= held.cost();
            if held.deliver {
                self.stats.delivered += 1;
                self.order(Output::Deliver(Delivery {
                    stream: stream.clone(),
                    sequence,
                    lane: DeliveryLane::Reliable,
                    hops: held.hops,
                    published_ms: held.published_ms,
                    key: bytes::Bytes::new(),
                    payload: held.payload,
                    own: false,
                }));
            }
        }
        if moved {
            self.summed = None;
            self.acknowledge(now, stream);
        }
        self.look_for_missing(now, stream);
    }

    pub(crate) fn acknowledge(&mut self, now: Time, stream: &StreamId) {
        let Some(inbound) = self.streams.get_mut(stream) else { return };
        inbound.progress = now;
        let position = Position { stream: stream.clone(), contiguous: inbound.contiguous };
        let to = self
            .links
            .flooding()
            .find(|link| link.peer == stream.origin && link.epoch == Some(stream.epoch))
            .map(|link| link.id);
        if let Some(link) = to {
            self.control(link, ControlFrame::Ack(vec![position]));
        }
    }

    /// Tells a neighbor that is up again how far its own streams have come here.
    pub(crate) fn send_acks(&mut self, id: LinkId) {
        let Some(link) = self.links.get(id) else { return };
        let positions: Vec<Position> = self
            .streams
            .iter()
            .filter(|(stream, _)| stream.origin == link.peer && Some(stream.epoch) == link.epoch)
            .map(|(stream, inbound)| Position { stream: stream.clone(), contiguous: inbound.contiguous })
            .collect();
        for chunk in positions.chunks(peerchannel_wire::limits::POSITIONS_MAX) {
            self.control(id, ControlFrame::Ack(chunk.to_vec()));
        }
    }

    /// Pushes a batch to a neighbor, or notes that it is to be announced.
    pub(crate) fn push(&mut self, now: Time, id: LinkId, stream: &StreamId, batch: &Arc<Batch>, hops: u32) {
        let Some(link) = self.links.get_mut(id) else { return };
        // Own messages wait at the door while a queue is high, so the few accepted before that
        // was known still fit; those of others are announced instead.
        if link.level == Level::Low || (hops == 0 && link.level == Level::High) {
            if hops > 0 {
                self.stats.forwarded += batch.count() as u64;
            }
            let flood = Flood { stream: stream.clone(), hops, batch: batch.clone() };
            self.order(Output::Data { link: id, frame: DataFrame::Flood(flood) });
            return;
        }
        link.note_unsent(stream, batch.first(), batch.last());
        let delay = ANNOUNCE_MIN.max(link.rtt / 4);
        self.timers.set_by(Timer::Announce(id), now + delay);
    }

    pub(crate) fn send_announce(&mut self, id: LinkId) {
        let Some(link) = self.links.get_mut(id) else { return };
        if !link.carries_floods() {
            return;
        }
        let ranges: Vec<StreamRange> = std::mem::take(&mut link.announce)
            .into_iter()
            .filter_map(|(stream, (first, last))| StreamRange::new(stream, first, last))
            .collect();
        if !ranges.is_empty() {
            self.control(id, ControlFrame::Announce(ranges));
        }
    }

    pub(crate) fn on_data_level(&mut self, now: Time, id: LinkId, level: Level) {
        let Some(link) = self.links.get_mut(id) else { return };
        link.level = match level {
            Level::Low => Level::Low,
            // A later report of "high" does not soften "full".
            level => link.level.max(level),
        };
        let congested = link.level == Level::Full;
        let up = link.carries_floods();
        let tell = up && (congested || level == Level::Low) && congested != link.told_congested;
        if tell {
            link.told_congested = congested;
            self.control(id, ControlFrame::Congestion { congested });
        }
        if level == Level::Low && up {
            self.send_announce(id);
            self.serve(now, id);
            // What a full queue refused was never announced: compare soon.
            self.send_digest(now, id);
            self.tell_ready(now);
        }
    }

    fn count_duplicates(&mut self, from: LinkId, count: u64) {
        self.stats.duplicates += count;
        if let Some(link) = self.links.get_mut(from) {
            link.duplicates += count;
        }
    }
}
