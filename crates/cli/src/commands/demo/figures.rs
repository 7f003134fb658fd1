//! The figures of a demo, in words a newcomer understands.

use std::fmt;
use std::time::Duration;

use peerchannel::MeshStats;

use super::checks::{Verdict, Want};
use super::payload::Phase;

/// What is printed at the end.
#[derive(Debug)]
pub(super) struct Figures {
    members: usize,
    published: u64,
    delivered: u64,
    expected: u64,
    median: Duration,
    p99: Duration,
    busy_per_second: f64,
    busy_megabytes_per_second: f64,
    duplicate_share: f64,
    gaps: u64,
    repairs: u64,
    bad_signatures: u64,
}

impl Figures {
    #[allow(clippy::cast_precision_loss)] // Figures for people: three digits are read.
    pub(super) fn new(
        want: &Want,
        verdicts: &[Verdict],
        stats: &[MeshStats],
        busy: Duration,
        busy_bytes: usize,
    ) -> Self {
        let mut latencies: Vec<Duration> =
            verdicts.iter().flat_map(|verdict| verdict.latencies.iter().copied()).collect();
        latencies.sort_unstable();
        let sum = |field: fn(&MeshStats) -> u64| stats.iter().map(field).sum::<u64>();
        let (delivered, duplicates) = (sum(|s| s.mesh.delivered), sum(|s| s.mesh.duplicates));
        let busy_per_second = want.deliveries(Phase::Busy) as f64 / busy.as_secs_f64().max(1e-9);
        Self {
            members: want.members,
            published: want.of_each() * want.members as u64,
            delivered: verdicts.iter().map(|verdict| verdict.received).sum(),
            expected: want.deliveries(Phase::Calm) + want.deliveries(Phase::Busy),
            median: percentile(&latencies, 50),
            p99: percentile(&latencies, 99),
            busy_per_second,
            busy_megabytes_per_second: busy_per_second * busy_bytes as f64 / 1e6,
            duplicate_share: 100.0 * duplicates as f64 / (delivered + duplicates).max(1) as f64,
            gaps: sum(|s| s.mesh.gaps),
            repairs: sum(|s| s.mesh.repairs),
            bad_signatures: sum(|s| s.mesh.bad_signatures),
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let others = self.members - 1;
        writeln!(
            f,
            "  published  {} messages by {} members; each should reach {others} {}: {} deliveries",
            grouped(self.published),
            self.members,
            if others == 1 { "other" } else { "others" },
            grouped(self.expected)
        )?;
        writeln!(
            f,
            "  delivered  {}, each checked for its author, its place in the order and every byte",
            grouped(self.delivered)
        )?;
        writeln!(
            f,
            "  latency    half of the calm lines were delivered within {}, 99 of 100 within {}",
            millis(self.median),
            millis(self.p99)
        )?;
        writeln!(
            f,
            "  speed      {} deliveries a second in the busy part ({:.0} MB/s), signed and encrypted,\n\
             \x20            all {} nodes sharing this machine",
            grouped(rounded(self.busy_per_second)),
            self.busy_megabytes_per_second,
            self.members
        )?;
        writeln!(
            f,
            "  overhead   {:.0} % of the messages on the wire were copies of ones already there:\n\
             \x20            this version floods on every link; the application saw none of them",
            self.duplicate_share
        )?;
        write!(
            f,
            "  loss       {} gaps, {} bad signatures ({} {} by repair, which is normal under load)",
            self.gaps,
            self.bad_signatures,
            grouped(self.repairs),
            if self.repairs == 1 { "message came" } else { "messages came" }
        )
    }
}

/// The value that `percent` of the sorted values do not exceed.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    let rank = (sorted.len() * percent).div_ceil(100).max(1) - 1;
    sorted.get(rank).copied().unwrap_or_default()
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // A rate: not negative, not huge.
fn rounded(number: f64) -> u64 {
    number.round() as u64
}

/// A time in the unit that reads best.
pub(super) fn millis(time: Duration) -> String {
    let ms = time.as_secs_f64() * 1000.0;
    if ms < 10.0 {
        format!("{ms:.1} ms")
    } else if ms < 1000.0 {
        format!("{ms:.0} ms")
    } else {
        format!("{:.2} s", ms / 1000.0)
    }
}

/// A number in groups of three: `28,000`.
pub(super) fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1,234,567");
        assert_eq!(millis(Duration::from_micros(1234)), "1.2 ms");
        assert_eq!(millis(Duration::from_millis(250)), "250 ms");
        assert_eq!(millis(Duration::from_millis(2500)), "2.50 s");
    }

    #[test]
    fn percentiles_are_values_that_occurred() {
        let values: Vec<Duration> = (1..=200).map(Duration::from_millis).collect();
        assert_eq!(percentile(&values, 50), Duration::from_millis(100));
        assert_eq!(percentile(&values, 99), Duration::from_millis(198));
        assert_eq!(percentile(&[], 50), Duration::ZERO);
    }
}
