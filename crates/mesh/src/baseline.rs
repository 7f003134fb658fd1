//! The baseline of a joining node: what was published before is history to it, never a gap.

use peerchannel_wire::limits::POSITIONS_MAX;
use peerchannel_wire::{ControlFrame, Position, Sequence};

use crate::inbound::{Evidence, Unfollowed};
use crate::input::LinkId;
use crate::node::Node;
use crate::time::Time;

/// What this node knows of the time before it joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Baseline {
    /// No neighbor has told it where the streams stand: nothing is delivered yet.
    Unknown,
    /// Everything above the positions told is for this node.
    Known,
}

impl Node {
    pub(crate) fn send_baseline(&mut self, id: LinkId) {
        // Own messages that nobody has yet are not history to anyone.
        let own = self.publishing.channels.iter().map(|(channel, outgoing)| Position {
            stream: self.own_stream(channel),
            contiguous: outgoing.committed,
        });
        let others = self
            .streams
            .iter()
            .map(|(stream, inbound)| Position { stream: stream.clone(), contiguous: inbound.contiguous });
        let positions: Vec<Position> =
            own.chain(others).filter(|position| position.contiguous > Sequence::ZERO).collect();
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
                    inbound.sources.insert(id, position.contiguous);
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
        let streams: Vec<_> = self.streams.iter().map(|(stream, _)| stream.clone()).collect();
        for stream in streams {
            self.advance(now, &stream);
        }
        for link in self.links.flooding_ids() {
            self.send_digest(now, link);
        }
    }
}
