//! Noticing that the driver did not run: the machine slept, or the process was stopped.
//!
//! Two clocks tell. Where the monotonic one goes on (a stopped process; sleep on Windows), a
//! wake comes long after its deadline. Where it stands still (sleep on Linux and macOS), the
//! wall clock has run ahead of it. What to do about it is the core's to decide.
//!
//! On the monotonic clock a stop is only as long as it outlasts the deadline: one that ends
//! before does not show, and most others look shorter than they were. The core has a deadline
//! within a second or two, so that nearly every stop of 5 s is told (measured: 58 of 60), and
//! what is not told made nothing late. Links are the transport's to keep: it reads what came
//! meanwhile before it judges them.

use std::time::{Duration, SystemTime};

use peerchannel_mesh::STOPPED;
use tokio::time::Instant;

/// Looks at both clocks before and after each wait.
#[derive(Debug)]
pub(super) struct PauseWatch {
    deadline: Instant,
    // Never tokio's, which tests stop while the wall clock runs.
    monotonic: std::time::Instant,
    wall: SystemTime,
}

impl PauseWatch {
    /// The driver begins to wait until `deadline`, at the latest.
    pub(super) fn begin(deadline: Instant) -> Self {
        Self { deadline, monotonic: std::time::Instant::now(), wall: SystemTime::now() }
    }

    /// The driver woke up. How long it did not run, if that is worth telling: less is a busy
    /// machine. A wall clock that somebody set forward looks the same, and does no harm.
    pub(super) fn end(self) -> Option<Duration> {
        let late = Instant::now().saturating_duration_since(self.deadline);
        let ahead = self.wall.elapsed().unwrap_or_default().saturating_sub(self.monotonic.elapsed());
        let paused = late.max(ahead);
        (paused >= STOPPED).then_some(paused)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(late: Duration, ahead: Duration, expected: Option<u128>) {
        let now = Instant::now();
        let mut watch = PauseWatch::begin(now - late);
        watch.wall -= ahead;
        assert_eq!(
            watch.end().map(|paused| (paused.as_millis() + 500) / 1000),
            expected,
            "{late:?} {ahead:?}"
        );
    }

    #[tokio::test]
    async fn a_late_wake_and_a_wall_clock_that_ran_ahead_are_both_a_pause() {
        let s = Duration::from_secs;
        check(s(0), s(0), None);
        let (below, above) = (Duration::from_millis(1500), Duration::from_millis(2100));
        check(below, below, None);
        check(above, s(0), Some(2));
        check(s(0), above, Some(2));
        check(s(60), s(0), Some(60));
        check(s(0), s(28_800), Some(28_800));
    }

    #[test]
    fn a_wall_clock_that_was_set_back_is_no_pause() {
        let mut watch = PauseWatch::begin(Instant::now());
        watch.wall += Duration::from_secs(3600);
        assert_eq!(watch.end(), None);
    }
}
