//! Anti-entropy: neighbors compare how far every stream has come.
//!
//! A digest is a fingerprint over the ordered list of positions. Equal fingerprints end the
//! comparison; different ones lead to fingerprints of parts, and at last to the positions
//! themselves (range-based set reconciliation). This, not the flood, makes delivery certain.

use std::time::Duration;

use peerchannel_wire::limits::POSITIONS_MAX;
use peerchannel_wire::{ControlFrame, DigestContent, DigestRange, Fingerprint, Position, Sequence, StreamId};

use crate::baseline::Baseline;
use crate::input::LinkId;
use crate::link::Link;
use crate::node::Node;
use crate::time::Time;
use crate::timers::Timer;

/// Pause between two digests of a node while messages flow: one goes to each neighbor in turn
/// (docs/protocol.md section 4). What a link lost is compared at once when the next is up, so
/// the turn only finds what nobody noticed.
pub(crate) const DIGEST_INTERVAL: Duration = Duration::from_secs(1);

/// Longest pause, in a quiet mesh.
const DIGEST_INTERVAL_MAX: Duration = Duration::from_secs(30);

/// A mesh is active for this long after its last change.
const ACTIVE: Duration = Duration::from_secs(3);

/// Up to this many positions are listed at once; more are split into parts.
const LISTED: usize = 64;

/// Into how many parts a range is split.
const PARTS: usize = 16;

/// A neighbor that tells no baseline has nothing to tell.
const BASELINE_LIMIT: Duration = Duration::from_secs(5);

/// Streams that ended this long ago are no longer compared: each node forgets them in its
/// own time.
const COMPARED_AFTER_END: Duration = Duration::from_secs(60);

/// A fingerprint of all positions is used again for this long while none of them changes: at
/// one digest a second sent and as many received, most are. What changes by time alone, that a
/// stream which ended is no longer compared, is noticed that much later.
const SUMMED_AGAIN: Duration = Duration::from_secs(2);

type Positions = Vec<(StreamId, Sequence)>;

/// What this node's positions came to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Summed {
    at: Time,
    /// Of all positions; `None` if there are none.
    fingerprint: Option<Fingerprint>,
}

impl Node {
    /// A position changed: compare soon and often.
    pub(crate) fn note_activity(&mut self, now: Time) {
        let was_quiet = now.since(self.active) > ACTIVE;
        self.active = now;
        self.summed = None;
        if was_quiet {
            let turns = self.digest_round();
            for id in self.links.flooding_ids() {
                let at = now + turns * u32::try_from(self.chance.below(1000)).unwrap_or(0) / 1000;
                self.timers.set_by(Timer::Digest(id), at);
            }
        }
    }

    /// How long it takes until every neighbor had its turn.
    fn digest_round(&self) -> Duration {
        DIGEST_INTERVAL * u32::try_from(self.links.flooding().count()).unwrap_or(1).max(1)
    }

    /// Compares with every neighbor now: something is missing that those asked do not have.
    pub(crate) fn compare_with_all(&mut self, now: Time) {
        for id in self.links.flooding_ids() {
            self.send_digest(now, id);
        }
    }

    pub(crate) fn send_digest(&mut self, now: Time, id: LinkId) {
        let round = self.digest_round();
        let active = now.since(self.active) <= ACTIVE;
        let Some(link) = self.links.get_mut(id).filter(|l| l.carries_floods()) else { return };
        link.digest_interval =
            if active { round } else { (link.digest_interval * 2).min(DIGEST_INTERVAL_MAX) };
        let (interval, since) = (link.digest_interval, link.since);
        let pause = self.chance.jitter(interval);
        self.timers.set(Timer::Digest(id), now + pause);
        self.measure(now, id);
        if self.baseline != Baseline::Known {
            if now.since(since) >= BASELINE_LIMIT {
                self.baseline_known(now);
            }
            return;
        }
        if let Some(fingerprint) = self.whole_fingerprint(now) {
            let content = DigestContent::Fingerprint(fingerprint);
            let range = DigestRange { from: None, until: None, content };
            self.control(id, ControlFrame::Digest(vec![range]));
        }
    }

    /// A neighbor's comparison agreed: in a quiet mesh it serves this end as well, so that the
    /// two of a link take turns by chance.
    fn compared_by_peer(&mut self, now: Time, id: LinkId) {
        let quiet = now.since(self.active) > ACTIVE;
        // Not where tables of members differ: those are compared soon again.
        let settled = |link: &&Link| {
            let slow = link.digest_interval == DIGEST_INTERVAL_MAX && link.round_trips.is_full();
            slow && !link.debt.differs
        };
        if quiet && self.links.get(id).filter(settled).is_some() {
            let pause = self.chance.jitter(DIGEST_INTERVAL_MAX);
            self.timers.set(Timer::Digest(id), now + pause);
        }
    }

    pub(crate) fn on_digest(&mut self, now: Time, link: LinkId, ranges: Vec<DigestRange>) {
        if self.baseline != Baseline::Known {
            return;
        }
        let mut answer = Vec::new();
        for range in ranges {
            match range.content {
                DigestContent::Fingerprint(theirs) => {
                    let (from, until) = (range.from.as_ref(), range.until.as_ref());
                    if from.is_none() && until.is_none() && self.whole_fingerprint(now) == Some(theirs) {
                        self.compared_by_peer(now, link);
                        continue;
                    }
                    let own = self.own_flooded();
                    if Fingerprint::of(self.positions(now, &own, from, until)) != theirs {
                        let mine = listing(self.positions(now, &own, from, until));
                        answer.extend(narrower(mine, from, until));
                    }
                }
                DigestContent::Positions { positions, reply } => {
                    self.take_positions(now, link, &positions);
                    if reply {
                        let (from, until) = (range.from.as_ref(), range.until.as_ref());
                        let own = self.own_flooded();
                        let mine = listing(self.positions(now, &own, from, until));
                        answer.extend(listed(mine, from, until, false));
                    }
                }
            }
        }
        for chunk in by_weight(answer) {
            self.control(link, ControlFrame::Digest(chunk));
        }
    }

    fn take_positions(&mut self, now: Time, from: LinkId, positions: &[Position]) {
        // A neighbor's position in our own streams acknowledges them.
        self.on_ack(now, from, positions);
        for position in positions {
            if position.contiguous > Sequence::ZERO {
                let had = (Sequence::ZERO.next(), position.contiguous);
                self.note_source(now, from, &position.stream, had);
            }
        }
    }

    /// The fingerprint of all positions, if there are any.
    fn whole_fingerprint(&mut self, now: Time) -> Option<Fingerprint> {
        if let Some(summed) = self.summed.filter(|summed| now.since(summed.at) < SUMMED_AGAIN) {
            return summed.fingerprint;
        }
        let own = self.own_flooded();
        let mut positions = self.positions(now, &own, None, None).peekable();
        let fingerprint = positions.peek().is_some().then(|| Fingerprint::of(positions));
        self.summed = Some(Summed { at: now, fingerprint });
        fingerprint
    }

    /// How far this node's own streams were sent, in order.
    fn own_flooded(&self) -> Positions {
        let channels = self.publishing.channels.iter();
        channels.map(|(channel, outgoing)| (self.own_stream(channel), outgoing.flooded)).collect()
    }

    /// This node's positions in a range of streams, in order, its own among them.
    fn positions<'a>(
        &'a self,
        now: Time,
        own: &'a Positions,
        from: Option<&'a StreamId>,
        until: Option<&'a StreamId>,
    ) -> impl Iterator<Item = (&'a StreamId, Sequence)> {
        let inside =
            move |id: &StreamId| from.is_none_or(|from| from <= id) && until.is_none_or(|until| id < until);
        let mut others = self
            .streams
            .iter()
            .filter(move |(id, inbound)| {
                // What ended before this node came is history to it, and nobody's business.
                let fresh = inbound.proven && now.since(inbound.progress) < COMPARED_AFTER_END;
                fresh || !self.has_ended(id)
            })
            .map(|(id, inbound)| (id, inbound.contiguous))
            .peekable();
        let mut own = own.iter().map(|(id, at)| (id, *at)).peekable();
        let merged = std::iter::from_fn(move || match (own.peek(), others.peek()) {
            (Some(mine), Some(theirs)) if mine > theirs => others.next(),
            (Some(_), _) => own.next(),
            (None, _) => others.next(),
        });
        merged.filter(move |(id, at)| *at > Sequence::ZERO && inside(id))
    }
}

fn listing<'a>(positions: impl Iterator<Item = (&'a StreamId, Sequence)>) -> Positions {
    positions.map(|(id, at)| (id.clone(), at)).collect()
}

fn fingerprint(positions: &Positions) -> DigestContent {
    DigestContent::Fingerprint(Fingerprint::of(positions.iter().map(|(id, at)| (id, *at))))
}

/// What to say of a range whose fingerprints differ.
fn narrower(mine: Positions, from: Option<&StreamId>, until: Option<&StreamId>) -> Vec<DigestRange> {
    if mine.len() <= LISTED {
        return listed(mine, from, until, true);
    }
    split(mine, PARTS, from, until)
        .into_iter()
        .map(|(part, from, until)| DigestRange { from, until, content: fingerprint(&part) })
        .collect()
}

fn listed(
    mine: Positions,
    from: Option<&StreamId>,
    until: Option<&StreamId>,
    reply: bool,
) -> Vec<DigestRange> {
    let parts = mine.len().div_ceil(LISTED).max(1);
    split(mine, parts, from, until)
        .into_iter()
        .map(|(part, from, until)| DigestRange {
            from,
            until,
            content: DigestContent::Positions {
                positions: part
                    .into_iter()
                    .map(|(stream, contiguous)| Position { stream, contiguous })
                    .collect(),
                reply,
            },
        })
        .collect()
}

type Part = (Positions, Option<StreamId>, Option<StreamId>);

/// Cuts a range into parts of about equal size that cover it without a hole.
fn split(mine: Positions, parts: usize, from: Option<&StreamId>, until: Option<&StreamId>) -> Vec<Part> {
    let size = mine.len().div_ceil(parts).max(1);
    let mut chunks: Vec<Positions> = Vec::new();
    for position in mine {
        match chunks.last_mut() {
            Some(chunk) if chunk.len() < size => chunk.push(position),
            _ => chunks.push(vec![position]),
        }
    }
    if chunks.is_empty() {
        chunks.push(Vec::new());
    }
    let starts: Vec<StreamId> =
        chunks.iter().skip(1).filter_map(|c| c.first().map(|(id, _)| id.clone())).collect();
    let last = chunks.len() - 1;
    chunks
        .into_iter()
        .enumerate()
        .map(|(index, chunk)| {
            let from = if index == 0 { from.cloned() } else { starts.get(index - 1).cloned() };
            let until = if index == last { until.cloned() } else { starts.get(index).cloned() };
            (chunk, from, until)
        })
        .collect()
}

/// Frames of at most 256 positions each, so that every frame keeps its limit.
fn by_weight(ranges: Vec<DigestRange>) -> Vec<Vec<DigestRange>> {
    let mut frames: Vec<Vec<DigestRange>> = Vec::new();
    let mut weight = POSITIONS_MAX;
    for range in ranges {
        let own = match &range.content {
            DigestContent::Fingerprint(_) => 4,
            DigestContent::Positions { positions, .. } => positions.len() + 4,
        };
        if weight + own > POSITIONS_MAX {
            frames.push(Vec::new());
            weight = 0;
        }
        weight += own;
        if let Some(frame) = frames.last_mut() {
            frame.push(range);
        }
    }
    frames
}

#[cfg(test)]
mod tests {
    use peerchannel_wire::{ChannelName, Epoch, NodeId};

    use super::*;

    fn positions(count: u64) -> Positions {
        let channel = ChannelName::new("c").unwrap();
        let mut list: Positions = (0..count)
            .map(|n| {
                let mut id = [0; 32];
                id[..8].copy_from_slice(&n.to_be_bytes());
                let origin = NodeId::from_bytes(id);
                (
                    StreamId { origin, epoch: Epoch::new(1).unwrap(), channel: channel.clone() },
                    Sequence::new(n + 1).unwrap(),
                )
            })
            .collect();
        list.sort();
        list
    }

    #[test]
    fn parts_cover_the_range_without_a_hole() {
        for count in [0, 1, 15, 16, 17, 500] {
            let parts = split(positions(count), PARTS, None, None);
            assert_eq!(parts.iter().map(|(p, _, _)| p.len() as u64).sum::<u64>(), count);
            assert_eq!((&parts[0].1, &parts[parts.len() - 1].2), (&None, &None));
            assert!(parts.windows(2).all(|pair| pair[0].2 == pair[1].1 && pair[0].2.is_some()));
            assert!(parts.len() <= PARTS);
        }
    }

    #[test]
    fn frames_keep_their_limit() {
        let frames = by_weight(listed(positions(1000), None, None, true));
        for frame in &frames {
            let sum: usize = frame
                .iter()
                .map(|r| match &r.content {
                    DigestContent::Positions { positions, .. } => positions.len(),
                    DigestContent::Fingerprint(_) => 0,
                })
                .sum();
            assert!(sum <= POSITIONS_MAX);
            assert!(
                ControlFrame::Digest(frame.clone()).encode().len()
                    < peerchannel_wire::limits::CONTROL_FRAME_MAX
            );
        }
        assert!(frames.len() > 3);
    }
}
