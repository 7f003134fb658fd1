//! Noticing that the driver did not run: the machine slept, or the process was stopped.
//!
//! Two clocks tell. Where the monotonic one goes on (a stopped process; sleep on Windows), a
//! wake comes long after its deadline. Where it stands still (sleep on Linux and macOS), the
//! wall clock has run ahead of it. What to do about it is the core's to decide.

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// Less than this is a busy machine, and every time-out of the protocol is longer: a pause of
/// 5 s survives unnoticed (docs/protocol.md section 1).
const PAUSE_MIN: Duration = Duration::from_millis(2500);

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

    /// The driver woke up. How long it did not run, if that is worth telling. A wall clock that
    /// somebody set forward looks the same, and does no harm.
    pub(super) fn end(self) -> Option<Duration> {
        let late = Instant::now().saturating_duration_since(self.deadline);
        let ahead = self.wall.elapsed().unwrap_or_default().saturating_sub(self.monotonic.elapsed());
        let paused = late.max(ahead);
        (paused >= PAUSE_MIN).then_some(paused)
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
        check(s(2), s(2), None);
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
