//! How often a client may ask: a token bucket. Sans-IO.

use std::time::Instant;

/// Tokens that come at a steady rate up to a burst; each request takes one.
#[derive(Debug)]
pub(crate) struct TokenBucket {
    tokens: f64,
    burst: f64,
    per_second: f64,
    filled: Instant,
}

impl TokenBucket {
    /// A full bucket.
    pub(crate) fn new(per_second: u32, burst: u32, now: Instant) -> Self {
        let burst = f64::from(burst.max(1));
        Self { tokens: burst, burst, per_second: f64::from(per_second.max(1)), filled: now }
    }

    /// Takes a token; false if there is none.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        let passed = now.saturating_duration_since(self.filled).as_secs_f64();
        self.filled = now;
        self.tokens = (self.tokens + passed * self.per_second).min(self.burst);
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return true;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_burst_passes_then_the_rate_counts() {
        let mut now = Instant::now();
        let mut bucket = TokenBucket::new(10, 5, now);
        assert_eq!((0..8).filter(|_| bucket.take(now)).count(), 5);
        now += Duration::from_secs(1);
        assert_eq!((0..20).filter(|_| bucket.take(now)).count(), 5, "no more than the burst is saved");
        let passed = (0..100).filter(|_| {
            now += Duration::from_millis(50);
            bucket.take(now)
        });
        assert_eq!(passed.count(), 50, "ten a second for five seconds");
    }
}
