//! What a message of the demo carries: enough for its receiver to check it.

use std::time::{Duration, Instant};

/// The clock of one demo: all nodes are in one process, so they share it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock(Instant);

impl Clock {
    pub(super) fn start() -> Self {
        Self(Instant::now())
    }

    fn nanos(self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Time since a message was published.
    pub(super) fn since(self, nanos: u64) -> Duration {
        Duration::from_nanos(self.nanos().saturating_sub(nanos))
    }
}

/// Which part of the demo a message belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    Calm,
    Busy,
}

/// The facts at the beginning of a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) phase: Phase,
    /// Which member published it.
    pub(super) author: u32,
    /// Which of its messages in this part it is, from 0.
    pub(super) number: u32,
    /// When, by the demo's clock.
    pub(super) nanos: u64,
}

const STAMP_BYTES: usize = 1 + 4 + 4 + 8;

/// A payload of `size` bytes. The rest of it follows from the stamp, so that the receiver can
/// check every byte.
pub(super) fn encode(phase: Phase, author: usize, number: u32, clock: Clock, size: usize) -> Vec<u8> {
    let author = u32::try_from(author).unwrap_or(u32::MAX);
    let mut payload = Vec::with_capacity(size.max(STAMP_BYTES));
    payload.push(phase as u8);
    payload.extend_from_slice(&author.to_be_bytes());
    payload.extend_from_slice(&number.to_be_bytes());
    payload.extend_from_slice(&clock.nanos().to_be_bytes());
    payload.resize(size.max(STAMP_BYTES), filler(author, number));
    payload
}

/// The stamp of a payload; `None` if any byte is not as it was published.
pub(super) fn decode(payload: &[u8]) -> Option<Stamp> {
    let (stamp, rest) = payload.split_at_checked(STAMP_BYTES)?;
    let phase = match stamp.first()? {
        0 => Phase::Calm,
        1 => Phase::Busy,
        _ => return None,
    };
    let author = u32::from_be_bytes(stamp.get(1..5)?.try_into().ok()?);
    let number = u32::from_be_bytes(stamp.get(5..9)?.try_into().ok()?);
    let nanos = u64::from_be_bytes(stamp.get(9..17)?.try_into().ok()?);
    rest.iter().all(|byte| *byte == filler(author, number)).then_some(Stamp { phase, author, number, nanos })
}

fn filler(author: u32, number: u32) -> u8 {
    // One of 256 values: which byte it is does not matter.
    author.wrapping_mul(31).wrapping_add(number).to_be_bytes()[3]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_tells_what_it_is_and_whether_it_was_changed() {
        let mut payload = encode(Phase::Busy, 3, 7, Clock::start(), 64);
        assert_eq!(payload.len(), 64);
        let stamp = decode(&payload).unwrap();
        assert_eq!((stamp.phase, stamp.author, stamp.number), (Phase::Busy, 3, 7));
        payload[63] ^= 1;
        assert_eq!(decode(&payload), None);
        assert_eq!(decode(&payload[..16]), None);
    }
}
