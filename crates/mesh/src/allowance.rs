//! Allowances: how often something may be done, saved up for a burst.

use std::time::Duration;

use crate::time::Time;

/// A token bucket, by the time at which it is full again. It is made full.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Allowance {
    full_at: Time,
}

impl Allowance {
    /// Takes one of `burst`, which all come back within `window`. Tells whether there was one.
    pub(crate) fn take(&mut self, now: Time, burst: usize, window: Duration) -> bool {
        let one = window / u32::try_from(burst).unwrap_or(u32::MAX).max(1);
        let full_at = self.full_at.max(now) + one;
        let able = full_at.since(now) <= window;
        if able {
            self.full_at = full_at;
        }
        able
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_is_allowed_and_comes_back_one_by_one() {
        let at = |secs| Time::ZERO + Duration::from_secs(secs);
        let window = Duration::from_secs(60);
        let mut allowance = Allowance::default();
        let mut taken = |secs| (0..100).filter(|_| allowance.take(at(secs), 30, window)).count();
        assert_eq!((taken(100), taken(101), taken(102)), (30, 0, 1));
        assert_eq!((taken(112), taken(1000)), (5, 30));
    }
}
