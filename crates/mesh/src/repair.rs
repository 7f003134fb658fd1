//! Repair: asking neighbors for what is missing, serving what they ask for, and giving up.
//!
//! A neighbor that is asked answers with the payload, `Gone` or `NotFromMe`. When all that
//! announced a range have refused it, or nobody served it within the repair limit, the
//! application gets an exact gap and the stream goes on (docs/protocol.md section 4).

use std::time::Duration;

use peerchannel_wire::{
    Batch, Body, ControlFrame, DataFrame, Flood, MemberStatus, Sequence, StreamId, StreamRange,
};

use crate::baseline::Baseline;
use crate::inbound::{Evidence, Repair, Unfollowed};
use crate::input::LinkId;
use crate::link::{Level, SERVING_MAX};
use crate::members::TOMBSTONE_LIFETIME;
use crate::node::Node;
use crate::output::{Event, GapReason, Output};
use crate::time::Time;
use crate::timers::Timer;

/// Shortest wait for a missing message to come by itself: the flood usually brings it.
const REPAIR_MIN: Duration = Duration::from_millis(20);

/// Longest such wait, however late messages have come of late.
const REPAIR_MAX: Duration = Duration::from_secs(1);

/// Shortest wait for an asked neighbor before another is asked.
const ANSWER_MIN: Duration = Duration::from_millis(250);

/// After every announcer refused: long enough for the others to answer a digest.
const LAST_CHANCE: Duration = Duration::from_millis(2500);

/// How often is looked whether a search can go on while no neighbor can be asked.
const RETRY: Duration = Duration::from_secs(1);

/// Bytes served in one go. With [`SERVE_PAUSE`] at most 128 MB/s, while the queue is low.
const SERVE_BURST: usize = 256 * 1024;

/// Pause between two goes.
const SERVE_PAUSE: Duration = Duration::from_millis(2);

/// How often what ended long ago is looked for.
pub(crate) const FORGET_INTERVAL: Duration = Duration::from_secs(30);

/// Streams of an epoch that is over are kept this long after their last message, for those
/// who still miss some.
const ENDED_STREAM_LIFETIME: Duration = Duration::from_secs(120);

/// Streams of a member that failed are kept this long: it may only have been cut off, and come
/// back in the same epoch. Without its position what it publishes then could only be dropped,
/// or delivered twice. A guess: a night's sleep and a day's cut.
const SILENT_STREAM_LIFETIME: Duration = Duration::from_secs(24 * 3600);

impl Node {
    // ---- asking ------------------------------------------------------------

    /// A neighbor has shown that it has messages of a stream, from the first to the last.
    pub(crate) fn note_source(
        &mut self,
        now: Time,
        from: LinkId,
        stream: &StreamId,
        (first, through): (Sequence, Sequence),
    ) {
        if stream.origin == self.me.node && stream.epoch >= self.me.epoch {
            return;
        }
        match self.streams.follow(stream, Sequence::ZERO, Evidence::Said, now) {
            Ok(inbound) => {
                inbound.sources.note(from, through);
                self.look_for_missing(now, stream);
                if let Some(repair) = self.streams.get_mut(stream).and_then(|i| i.repair.as_mut())
                    && first <= repair.missing
                    && repair.missing <= through
                {
                    repair.shown.insert(from);
                }
            }
            Err(Unfollowed::Full) => self.overloaded("streams"),
            Err(Unfollowed::Stale) => {}
        }
    }

    pub(crate) fn on_announce(&mut self, now: Time, from: LinkId, ranges: &[StreamRange]) {
        for range in ranges {
            self.note_source(now, from, range.stream(), (range.first(), range.last()));
        }
    }

    /// Begins, continues or ends the search for missing messages of a stream.
    pub(crate) fn look_for_missing(&mut self, now: Time, stream: &StreamId) {
        if self.baseline != Baseline::Known {
            return;
        }
        let Some(inbound) = self.streams.get_mut(stream) else { return };
        let missing = inbound.first_missing();
        if let Some(repair) = &inbound.repair
            && repair.asked.is_none()
            && missing != Some(repair.missing)
        {
            // It came by itself: that is how long it is worth waiting.
            self.lateness = (self.lateness * 7 / 8).max(now.since(repair.since)).min(REPAIR_MAX);
        }
        let Some(missing) = missing else {
            if inbound.repair.take().is_some() {
                self.timers.cancel(&Timer::Repair(stream.clone()));
            }
            return;
        };
        let patience = (self.lateness * 3 / 2).clamp(REPAIR_MIN, REPAIR_MAX);
        match &mut inbound.repair {
            Some(repair) if repair.missing == missing => {}
            Some(repair) => {
                // Progress: the neighbor that is serving goes on; refusals were about another.
                let asked = repair.asked;
                **repair = Repair { asked, ..Repair::new(missing, now) };
                let rtt = asked.and_then(|id| self.links.get(id)).map_or(Duration::ZERO, |l| l.rtt);
                let wait = if asked.is_some() { ANSWER_MIN.max(rtt * 4).max(patience) } else { patience };
                self.timers.set(Timer::Repair(stream.clone()), now + wait);
            }
            None => {
                inbound.repair = Some(Box::new(Repair::new(missing, now)));
                let rtt =
                    inbound.sources.iter().filter_map(|(id, _)| self.links.get(id)).map(|l| l.rtt).min();
                let wait = patience.max(rtt.unwrap_or_default() * 3 / 2);
                self.timers.set(Timer::Repair(stream.clone()), now + wait);
            }
        }
    }

    /// Learns from what came while it was being pulled: by the neighbor that was asked, or by
    /// itself after all, so that asking was too soon.
    pub(crate) fn learn_lateness(&mut self, stream: &StreamId, batch: &Batch, sources: &[LinkId]) {
        let Some(repair) = self.streams.get(stream).and_then(|inbound| inbound.repair.as_ref()) else {
            return;
        };
        let Some(asked) = repair.asked else { return };
        if batch.first() <= repair.missing && repair.missing <= batch.last() {
            self.lateness = if sources.contains(&asked) {
                self.lateness * 7 / 8
            } else {
                (self.lateness * 2).clamp(REPAIR_MIN, REPAIR_MAX)
            };
        }
    }

    pub(crate) fn repair(&mut self, now: Time, stream: &StreamId) {
        let isolated = self.links.flooding().next().is_none();
        let Some(inbound) = self.streams.get_mut(stream) else { return };
        let through = inbound.known_through();
        let missing = inbound.missing(through);
        let first_gap_end = inbound.first_gap_end();
        let Some(repair) = &mut inbound.repair else { return };
        if isolated {
            // Nobody can be asked: the limit counts from when somebody can.
            repair.since = now;
            return self.timers.set(Timer::Repair(stream.clone()), now + RETRY);
        }
        if missing.is_empty() {
            // Everything known is here or being verified.
            return self.timers.set(Timer::Repair(stream.clone()), now + RETRY);
        }
        if let Some(first_gap_end) = first_gap_end
            && now.since(repair.since) >= self.config.repair_limit
        {
            return self.give_up(now, stream, first_gap_end, GapReason::TimedOut);
        }
        let candidates: Vec<(Duration, LinkId)> = inbound
            .sources
            .iter()
            .filter(|(id, has)| *has >= repair.missing && !repair.refused.contains_key(id))
            .filter_map(|(id, _)| self.links.get(id).filter(|l| l.carries_floods()).map(|l| (l.rtt, id)))
            .collect();
        // Some refused, and all others were asked in vain, who only sent what comes later: they
        // miss it themselves, as after a split, and would wait for this node as it for them.
        let in_vain = !repair.refused.is_empty()
            && candidates.iter().all(|(_, id)| repair.tried.contains(id) && !repair.shown.contains(id));
        if candidates.is_empty() || in_vain {
            return self.nobody_serves(now, stream);
        }
        repair.refused_by_all = None;
        let untried = candidates.iter().filter(|(_, id)| !repair.tried.contains(id)).min();
        let (rtt, asked) = if let Some(best) = untried {
            *best
        } else {
            repair.tried.clear();
            // All were asked in vain once: begin again with the nearest.
            *candidates.iter().min().unwrap_or(&candidates[0])
        };
        repair.tried.insert(asked);
        repair.asked = Some(asked);
        let ranges = missing
            .into_iter()
            .filter_map(|(first, last)| StreamRange::new(stream.clone(), first, last))
            .collect();
        self.control(asked, ControlFrame::Pull(ranges));
        self.timers.set(Timer::Repair(stream.clone()), now + ANSWER_MIN.max(rtt * 4));
    }

    fn nobody_serves(&mut self, now: Time, stream: &StreamId) {
        let Some(inbound) = self.streams.get_mut(stream) else { return };
        let gap_end = inbound.first_gap_end();
        let Some(repair) = &mut inbound.repair else { return };
        let (false, Some(gap_end)) = (repair.refused.is_empty(), gap_end) else {
            // Whoever announced it is gone, and another's digest may name it; or it came just
            // now and is being verified.
            return self.timers.set(Timer::Repair(stream.clone()), now + RETRY);
        };
        let news = repair.refused_by_all.is_none();
        let since = *repair.refused_by_all.get_or_insert(now);
        if now.since(since) < LAST_CHANCE {
            self.timers.set(Timer::Repair(stream.clone()), since + LAST_CHANCE);
            if news {
                // Others may have it without having said so.
                self.compare_with_all(now);
            }
            return;
        }
        let reason = if repair.refused.values().any(|(reason, _)| *reason == GapReason::Filtered) {
            GapReason::Filtered
        } else {
            GapReason::Gone
        };
        let refused_through = repair.refused.values().map(|(_, last)| *last).min();
        let last = refused_through.map_or(gap_end, |last| last.min(gap_end));
        self.give_up(now, stream, last, reason);
    }

    /// Reports the messages from the first missing one to `last` as lost, and goes on.
    fn give_up(&mut self, now: Time, stream: &StreamId, last: Sequence, reason: GapReason) {
        let Some(inbound) = self.streams.get_mut(stream) else { return };
        let first = inbound.contiguous.next();
        let dropped = inbound.skip_to(last);
        inbound.repair = None;
        self.streams.held_bytes -= dropped;
        self.stats.gaps += last.get().saturating_sub(first.get()) + 1;
        let own = stream.origin == self.me.node;
        if !own {
            self.tell(Event::Gap { stream: stream.clone(), first, last, reason });
        }
        self.note_activity(now);
        // It is done with here, as what is delivered is.
        self.acknowledge(now, stream);
        self.advance(now, stream);
    }

    pub(crate) fn on_refused_range(
        &mut self,
        now: Time,
        from: LinkId,
        ranges: &[StreamRange],
        reason: GapReason,
    ) {
        for range in ranges {
            let Some(inbound) = self.streams.get_mut(range.stream()) else { continue };
            let Some(repair) = &mut inbound.repair else { continue };
            if range.first() <= repair.missing && repair.missing <= range.last() {
                repair.refused.insert(from, (reason, range.last()));
                self.timers.set_by(Timer::Repair(range.stream().clone()), now);
            }
        }
    }

    // ---- serving -----------------------------------------------------------

    pub(crate) fn on_pull(&mut self, now: Time, from: LinkId, ranges: Vec<StreamRange>) {
        let Some(link) = self.links.get_mut(from) else { return };
        for range in ranges {
            // A repeated question replaces the first: it is about the same stream.
            let same = link.serving.iter().position(|waiting| {
                waiting.stream() == range.stream()
                    && waiting.last() >= range.first()
                    && range.last() >= waiting.first()
            });
            if let Some(index) = same {
                link.serving.remove(index);
            }
            if link.serving.len() >= SERVING_MAX {
                link.serving.pop_front();
            }
            link.serving.push_back(range);
        }
        self.serve(now, from);
    }

    pub(crate) fn serve(&mut self, now: Time, to: LinkId) {
        let mut budget = SERVE_BURST;
        while let Some(link) = self.links.get_mut(to).filter(|l| l.carries_floods() && l.level == Level::Low)
        {
            if link.serving.is_empty() {
                return;
            }
            if budget == 0 {
                return self.timers.set_by(Timer::Serve(to), now + SERVE_PAUSE);
            }
            let Some(range) = link.serving.pop_front() else { return };
            let rest = self.serve_one(to, &range, &mut budget);
            if let Some(rest) = rest
                && let Some(link) = self.links.get_mut(to)
            {
                link.serving.push_front(rest);
            }
        }
    }

    /// Answers the beginning of a range; returns what is left of it.
    fn serve_one(&mut self, to: LinkId, range: &StreamRange, budget: &mut usize) -> Option<StreamRange> {
        let (stream, first) = (range.stream(), range.first());
        let rest = |after: Sequence| StreamRange::new(stream.clone(), after.next(), range.last());
        if let Some(retained) = self.retention.find(stream, first) {
            let (batch, hops) = (retained.batch.clone(), retained.hops);
            *budget = budget.saturating_sub(batch.encoded().len());
            self.stats.served += batch.count() as u64;
            let withheld: Vec<StreamRange> = batch
                .messages()
                .filter(|(sequence, body)| *sequence >= first && matches!(body, Body::Withheld(_)))
                .filter_map(|(sequence, _)| StreamRange::new(stream.clone(), sequence, sequence))
                .collect();
            let last = batch.last();
            let flood = Flood { stream: stream.clone(), hops, batch };
            self.order(Output::Data { link: to, frame: DataFrame::Flood(flood) });
            for chunk in withheld.chunks(peerchannel_wire::limits::POSITIONS_MAX) {
                self.control(to, ControlFrame::NotFromMe(chunk.to_vec()));
            }
            return rest(last);
        }
        *budget = budget.saturating_sub(1024);
        let had_through = self.had_through(stream);
        if first > had_through {
            return None; // not here yet, and somebody else was asked too
        }
        let end = self.retention.next_after(stream, first).map_or(range.last(), Sequence::previous);
        let end = end.min(range.last()).min(had_through);
        let barred = self.streams.get(stream).and_then(|inbound| inbound.barred_through(first));
        let (end, frame): (Sequence, fn(Vec<StreamRange>) -> ControlFrame) = match barred {
            Some(through) => (end.min(through), ControlFrame::NotFromMe),
            None => (end, ControlFrame::Gone),
        };
        let refused = StreamRange::new(stream.clone(), first, end)?;
        self.control(to, frame(vec![refused]));
        rest(end)
    }

    /// Up to where this node had a stream's messages.
    fn had_through(&self, stream: &StreamId) -> Sequence {
        if stream.origin == self.me.node && stream.epoch == self.me.epoch {
            return self.publishing.channels.get(&stream.channel).map_or(Sequence::ZERO, |o| o.flooded);
        }
        self.streams.get(stream).map_or(Sequence::ZERO, |inbound| inbound.contiguous)
    }

    // ---- forgetting --------------------------------------------------------

    /// Forgets tombstones, and streams of epochs that ended long ago.
    pub(crate) fn forget_old(&mut self, now: Time) {
        self.give_up_suspended(now);
        self.members.forget_old(now);
        let ended: Vec<StreamId> = self
            .streams
            .iter()
            .filter(|(stream, inbound)| {
                self.stream_lifetime(stream).is_some_and(|lifetime| now.since(inbound.progress) >= lifetime)
            })
            .map(|(stream, _)| stream.clone())
            .collect();
        for stream in ended {
            self.summed = None;
            self.streams.retire(&stream);
            self.retention.forget(&stream);
            self.timers.cancel(&Timer::Repair(stream));
        }
        self.timers.set(Timer::Forget, now + FORGET_INTERVAL);
    }

    /// How long a stream is kept after its last message; none while its origin takes part.
    fn stream_lifetime(&self, stream: &StreamId) -> Option<Duration> {
        let member = self.members.get(stream.origin);
        let status = member.map(|member| member.status);
        let replaced = member.is_some_and(|member| member.record.facts().epoch > stream.epoch);
        if stream.origin == self.me.node || replaced || status == Some(MemberStatus::Left) {
            return self.has_ended(stream).then_some(ENDED_STREAM_LIFETIME);
        }
        // Failed, or so long ago that it is not remembered.
        let crowded = self.streams.len() > self.config.streams_max / 2;
        let silent = if crowded { TOMBSTONE_LIFETIME } else { SILENT_STREAM_LIFETIME };
        (status != Some(MemberStatus::Alive)).then_some(silent)
    }

    /// Whether nothing more is to be expected from a stream's origin in that epoch.
    pub(crate) fn has_ended(&self, stream: &StreamId) -> bool {
        if stream.origin == self.me.node {
            return stream.epoch < self.me.epoch;
        }
        match self.members.get(stream.origin) {
            Some(member) => {
                member.status != MemberStatus::Alive || member.record.facts().epoch > stream.epoch
            }
            // Who takes part is in a complete table. One that went before this node came, or longer
            // ago than is remembered, is not.
            None => self.members.is_complete(),
        }
    }
}
