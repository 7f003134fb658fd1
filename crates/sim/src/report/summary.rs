//! What a metric comes to over seeds: mean, p99 and worst.
//!
//! Percentiles are by nearest rank: always a value that was measured, never one between two.
//! With fewer than 100 seeds the p99 is therefore the worst; both are shown so that a run with
//! many seeds needs no other reading than one with ten.

use serde::{Deserialize, Serialize};

/// Which way a metric improves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    /// Latencies, losses, bytes.
    Less,
    /// Shares of members reached or connected.
    More,
}

/// A metric over the seeds of one row.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Summary {
    /// Seeds that measured it.
    pub seeds: usize,
    /// The arithmetic mean.
    pub mean: f64,
    /// The value that 99 % of the seeds are as good as or better than.
    pub p99: f64,
    /// The worst seed's value.
    pub worst: f64,
    /// The sample's standard deviation; 0 for one seed.
    pub deviation: f64,
}

impl Summary {
    /// Summarizes the values of all seeds, in any order; `None` if there are none. Values that
    /// are not numbers are left out.
    #[must_use]
    pub fn of(values: &[f64], better: Better) -> Option<Self> {
        let mut sorted: Vec<f64> = values.iter().copied().filter(|value| !value.is_nan()).collect();
        sorted.sort_by(f64::total_cmp);
        if better == Better::More {
            sorted.reverse();
        }
        let worst = *sorted.last()?;
        let count = sorted.len() as f64;
        // Summed in order of size, so that the order of the seeds cannot show in the last digit.
        let mean = sorted.iter().sum::<f64>() / count;
        let squares: f64 = sorted.iter().map(|value| (value - mean).powi(2)).sum();
        let deviation = if sorted.len() > 1 { (squares / (count - 1.0)).sqrt() } else { 0.0 };
        Some(Self { seeds: sorted.len(), mean, p99: nearest_rank(&sorted, 0.99)?, worst, deviation })
    }
}

/// The smallest value of an ascending slice that at least `share` (0 to 1) of it do not exceed;
/// `None` for an empty slice.
#[must_use]
pub fn nearest_rank(sorted: &[f64], share: f64) -> Option<f64> {
    let rank = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.clamp(1, sorted.len().max(1)) - 1).copied()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn worst_is_where_the_metric_is_worst() {
        let values = [3.0, 1.0, 2.0];
        let less = Summary::of(&values, Better::Less).unwrap();
        assert_eq!((less.mean, less.p99, less.worst, less.seeds), (2.0, 3.0, 3.0, 3));
        assert!((less.deviation - 1.0).abs() < 1e-12);
        assert_eq!(Summary::of(&values, Better::More).unwrap().worst, 1.0);
        assert_eq!(Summary::of(&[], Better::Less), None);
        assert_eq!(Summary::of(&[f64::NAN], Better::Less), None);
    }

    #[test]
    fn the_p99_of_two_hundred_leaves_two_out() {
        let values: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!(Summary::of(&values, Better::Less).unwrap().p99, 198.0);
        assert_eq!(Summary::of(&values, Better::More).unwrap().p99, 3.0);
    }

    proptest! {
        #[test]
        fn a_percentile_is_a_measured_value_with_the_right_share_below(
            mut values in prop::collection::vec(-1e9..1e9, 1..300),
            share in 0.0..=1.0,
        ) {
            values.sort_by(f64::total_cmp);
            let value = nearest_rank(&values, share).unwrap();
            prop_assert!(values.contains(&value));
            let count = values.len() as f64;
            let up_to = values.iter().filter(|v| **v <= value).count() as f64;
            let below = values.iter().filter(|v| **v < value).count() as f64;
            prop_assert!(up_to >= share * count);
            prop_assert!(below <= share * count);
        }

        #[test]
        fn percentiles_grow_with_the_share_and_end_at_the_largest(
            mut values in prop::collection::vec(-1e9..1e9, 1..300),
            a in 0.0..=1.0,
            b in 0.0..=1.0,
        ) {
            values.sort_by(f64::total_cmp);
            let (low, high) = if a < b { (a, b) } else { (b, a) };
            prop_assert!(nearest_rank(&values, low) <= nearest_rank(&values, high));
            prop_assert_eq!(nearest_rank(&values, 1.0), values.last().copied());
        }

        #[test]
        fn the_order_of_the_seeds_does_not_matter(values in prop::collection::vec(-1e9..1e9, 1..50)) {
            let mut reversed = values.clone();
            reversed.reverse();
            for better in [Better::Less, Better::More] {
                prop_assert_eq!(Summary::of(&values, better), Summary::of(&reversed, better));
            }
        }
    }
}
