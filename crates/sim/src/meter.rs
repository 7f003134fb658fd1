//! Summaries of many values in little memory.

use crate::outcome::Distribution;

/// Buckets per doubling: values are known within 1 %.
const PER_DOUBLING: f64 = 64.0;

/// Smallest value told apart from zero.
const SMALLEST: f64 = 1e-4;

/// Counts values in logarithmic buckets; smallest, largest and sum are exact.
#[derive(Debug, Clone, Default)]
pub(crate) struct Meter {
    buckets: Vec<u64>,
    count: u64,
    sum: f64,
    min: f64,
    max: f64,
}

impl Meter {
    pub(crate) fn add(&mut self, value: f64) {
        let bucket = bucket(value);
        if bucket >= self.buckets.len() {
            self.buckets.resize(bucket + 1, 0);
        }
        self.buckets[bucket] += 1;
        self.min = if self.count == 0 { value } else { self.min.min(value) };
        self.max = if self.count == 0 { value } else { self.max.max(value) };
        self.count += 1;
        self.sum += value;
    }

    pub(crate) fn clear(&mut self) {
        self.buckets.fill(0);
        (self.count, self.sum, self.min, self.max) = (0, 0.0, 0.0, 0.0);
    }

    pub(crate) fn max(&self) -> f64 {
        self.max
    }

    /// The value below which this share of them is; zero if there is none.
    pub(crate) fn quantile(&self, share: f64) -> f64 {
        let rank = (share * self.count as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (bucket, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank && *count > 0 {
                return middle(bucket).clamp(self.min, self.max);
            }
        }
        0.0
    }

    pub(crate) fn summary(&self) -> Distribution {
        if self.count == 0 {
            return Distribution::default();
        }
        Distribution {
            count: self.count,
            min: self.min,
            mean: self.sum / self.count as f64,
            p50: self.quantile(0.5),
            p90: self.quantile(0.9),
            p99: self.quantile(0.99),
            p999: self.quantile(0.999),
            max: self.max,
        }
    }
}

fn bucket(value: f64) -> usize {
    if value > SMALLEST { ((value / SMALLEST).log2() * PER_DOUBLING) as usize + 1 } else { 0 }
}

fn middle(bucket: usize) -> f64 {
    if bucket == 0 { 0.0 } else { SMALLEST * ((bucket as f64 - 0.5) / PER_DOUBLING).exp2() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_within_a_percent() {
        let mut meter = Meter::default();
        for value in 1..=10_000 {
            meter.add(f64::from(value));
        }
        let summary = meter.summary();
        assert_eq!((summary.count, summary.min, summary.max), (10_000, 1.0, 10_000.0));
        assert!((summary.mean - 5000.5).abs() < 1e-6);
        let close = |got: f64, want: f64| assert!((got / want - 1.0).abs() < 0.01, "{got} not {want}");
        close(summary.p50, 5000.0);
        close(summary.p90, 9000.0);
        close(summary.p99, 9900.0);
        close(summary.p999, 9990.0);
    }

    #[test]
    fn nothing_and_zero_are_fine() {
        let mut meter = Meter::default();
        assert_eq!(meter.summary(), Distribution::default());
        meter.add(0.0);
        assert_eq!((meter.summary().p99, meter.summary().count), (0.0, 1));
        meter.clear();
        assert_eq!(meter.summary(), Distribution::default());
    }
}
