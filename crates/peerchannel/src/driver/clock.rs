//! Time as the driver and the core see it.

use peerchannel_mesh::Time;
use tokio::time::Instant;

/// The driver's clock: the core's time counts from when it was made.
pub(super) struct Clock {
    start: Instant,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self { start: Instant::now() }
    }

    pub(super) fn now(&self) -> Time {
        Time::from_nanos(u64::try_from(self.start.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }

    pub(super) fn instant(&self, time: Time) -> Instant {
        self.start + time.since(Time::ZERO)
    }
}
