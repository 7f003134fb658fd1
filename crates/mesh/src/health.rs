//! Local health: how far this node may trust its own judgment of others.
//!
//! A node that is called late, because its machine is busy or was asleep, misses the answers
//! of neighbors that are well. So it watches itself: deadlines met late and pings without an
//! answer raise a score, quiet time lowers it, and everything it waits for before it accuses
//! another takes 1 to 8 times as long (Lifeguard, Dadgar et al. 2018, section IV-A).

use std::time::Duration;

use crate::time::Time;

/// A deadline met this late says something about the node. A busy machine's usual delays are
/// far below.
pub(crate) const LATE: Duration = Duration::from_millis(500);

/// So late that the node must have been stopped: neighbors may have given it up. A driver tells
/// of a pause from here on ([`Input::Resumed`](crate::Input::Resumed), docs/protocol.md
/// section 3.10).
pub const STOPPED: Duration = Duration::from_secs(2);

/// Highest score: waits take 8 times as long (Lifeguard's value).
const SCORE_MAX: u32 = 7;

/// Quiet time that takes one point off the score. A guess.
const HEALS_AFTER: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(crate) struct Health {
    // Invariant: at most SCORE_MAX.
    score: u32,
    since: Time,
}

impl Health {
    /// A deadline was met late by this much. Tells whether the score rose.
    pub(crate) fn late(&mut self, now: Time, by: Duration) -> bool {
        self.add(now, 1 + u32::try_from(by.as_secs()).unwrap_or(SCORE_MAX).min(SCORE_MAX))
    }

    /// A neighbor did not answer in time: it, or this node, is unwell.
    pub(crate) fn unanswered(&mut self, now: Time) -> bool {
        self.add(now, 1)
    }

    fn add(&mut self, now: Time, points: u32) -> bool {
        let before = self.score_at(now);
        self.score = (before + points).min(SCORE_MAX);
        self.since = now;
        self.score > before
    }

    fn score_at(&self, now: Time) -> u32 {
        let healed = now.since(self.since).as_secs() / HEALS_AFTER.as_secs();
        self.score.saturating_sub(u32::try_from(healed).unwrap_or(u32::MAX))
    }

    /// How many times longer than a healthy node this one waits: 1 to 8.
    pub(crate) fn factor(&self, now: Time) -> u32 {
        1 + self.score_at(now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lateness_stretches_and_quiet_time_heals() {
        let at = |secs| Time::ZERO + Duration::from_secs(secs);
        let mut health = Health::default();
        assert_eq!(health.factor(at(0)), 1);
        assert!(health.late(at(100), LATE));
        assert_eq!(health.factor(at(100)), 2);
        assert!(health.late(at(100), Duration::from_secs(60)));
        assert_eq!((health.factor(at(100)), health.unanswered(at(100))), (8, false));
        assert_eq!(health.factor(at(130)), 5);
        assert_eq!(health.factor(at(1000)), 1);
    }
}
