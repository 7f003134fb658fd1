//! The baseline of a joining node: what was published before is history to it, never a gap.

use std::time::Duration;

use peerchannel_wire::limits::POSITIONS_MAX;
use peerchannel_wire::{ChannelName, ControlFrame, Position, Sequence};

use crate::inbound::{Evidence, Unfollowed};
use crate::input::LinkId;
use crate::node::Node;
use crate::outgoing::Outgoing;
use crate::time::Time;
use crate::timers::Timer;

/// What this node knows of the time before it joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Baseline {
    /// No neighbor has told it where the streams stand: nothing is delivered yet.
    Unknown,
    /// Everything above the positions told is for this node.
    Known,
}

/// How often nodes that join together look whether they still have to wait for one that knows
/// where the streams stand. Nothing is lost by it, only delivered that much later.
const BASELINE_POLL: Duration = Duration::from_millis(20);

/// How long at most while the resolvers are being asked (a guess).
const BASELINE_GRACE_RESOLVING: Duration = Duration::from_millis(250);

/// How long at most while links are being made: some round trips, and well below the time a
/// leaving neighbor waits for its messages to be acknowledged.
const BASELINE_GRACE_DIALING: Duration = Duration::from_millis(500);

impl Node {
    /// A joining neighbor is told where the streams stand, at once or when this node knows.
    ///
    /// Two nodes that join together must not tell each other that there is no history.
    pub(crate) fn tell_or_owe_baseline(&mut self, now: Time, id: LinkId) {
        let own = self.own_positions();
        if self.baseline == Baseline::Known {
            return self.send_baseline(id, own);
        }
        if let Some(link) = self.links.get_mut(id) {
            link.owed_baseline = Some(own);
        }
        self.baseline_wanted.get_or_insert(now);
        self.timers.set_by(Timer::Baseline, now + BASELINE_POLL);
    }

    /// Without anyone who knows, there is nothing to know.
    pub(crate) fn on_baseline_deadline(&mut self, now: Time) {
        let Some(since) = self.baseline_wanted else { return };
        if self.baseline == Baseline::Known {
            return;
        }
        // A neighbor that does not join itself tells first of all.
        if self.links.flooding().any(|link| link.owed_baseline.is_none()) {
            return;
        }
        let waited = now.since(since);
        let dialing = !self.dials.is_empty() || self.links.iter().any(|l| l.counts() && !l.is_up());
        if (self.resolving && waited < BASELINE_GRACE_RESOLVING)
            || (dialing && waited < BASELINE_GRACE_DIALING)
        {
            return self.timers.set(Timer::Baseline, now + BASELINE_POLL);
        }
        self.baseline_known(now);
    }

    /// Own messages that nobody has yet are not history to anyone.
    fn own_positions(&self) -> Vec<Position> {
        let position = |(channel, outgoing): (&ChannelName, &Outgoing)| Position {
            stream: self.own_stream(channel),
            contiguous: outgoing.committed,
        };
        self.publishing.channels.iter().map(position).collect()
    }

    fn send_baseline(&mut self, id: LinkId, own: Vec<Position>) {
        let others = self
            .streams
            .iter()
            .map(|(stream, inbound)| Position { stream: stream.clone(), contiguous: inbound.contiguous });
        let positions: Vec<Position> =
            own.into_iter().chain(others).filter(|position| position.contiguous > Sequence::ZERO).collect();
        let mut chunks = positions.chunks(POSITIONS_MAX).peekable();
        if chunks.peek().is_none() {
            return self.control(id, ControlFrame::Baseline { positions: Vec::new(), last: true });
        }
        let mut frames = Vec::new();
        while let Some(chunk) = chunks.next() {
            frames.push(ControlFrame::Baseline { positions: chunk.to_vec(), last: chunks.peek().is_none() });
        }
        for frame in frames {
            self.control(id, frame);
        }
    }

    pub(crate) fn on_baseline(&mut self, now: Time, id: LinkId, positions: &[Position], last: bool) {
        // Every neighbor of a joining node tells; the first to finish decides.
        if self.baseline == Baseline::Known {
            return;
        }
        for position in positions {
            if position.stream.origin == self.me.node && position.stream.epoch == self.me.epoch {
                continue;
            }
            match self.streams.follow(&position.stream, position.contiguous, Evidence::Said, now) {
                Ok(inbound) => {
                    let dropped = inbound.skip_to(position.contiguous);
                    self.summed = None;
                    inbound.sources.note(id, position.contiguous);
                    self.streams.held_bytes -= dropped;
                }
                Err(Unfollowed::Full) => self.overloaded("streams"),
                Err(Unfollowed::Stale) => {}
            }
        }
        if last {
            self.baseline_known(now);
        }
    }

    /// Delivers what arrived meanwhile and begins to compare positions.
    pub(crate) fn baseline_known(&mut self, now: Time) {
        self.baseline = Baseline::Known;
        self.timers.cancel(&Timer::Baseline);
        // Before anything is delivered: what came since they are neighbors is not history.
        for id in self.links.flooding_ids() {
            if let Some(own) = self.links.get_mut(id).and_then(|link| link.owed_baseline.take()) {
                self.send_baseline(id, own);
            }
        }
        let streams: Vec<_> = self.streams.iter().map(|(stream, _)| stream.clone()).collect();
        for stream in streams {
            self.advance(now, &stream);
        }
        for link in self.links.flooding_ids() {
            self.send_digest(now, link);
        }
    }
}
