//! What is measured of a mesh, be it of whole nodes or of the simulator's.

/// A mesh in numbers. Times in the unit the name says.
#[derive(Debug, Clone, Default)]
pub(crate) struct Measured {
    /// From the first start until every node has a neighbor.
    pub(crate) all_online_s: f64,
    /// From a node's start to its first neighbor, median.
    pub(crate) joining_p50_s: f64,
    /// Neighbors of a settled node, mean.
    pub(crate) degree: f64,
    /// Publication to delivery.
    pub(crate) latency_p50_ms: f64,
    pub(crate) latency_p99_ms: f64,
    /// Publication to the last delivery, median.
    pub(crate) last_p50_ms: f64,
    /// Copies that came in per delivery.
    pub(crate) copies: f64,
    /// Bytes sent per second and node while nothing is published.
    pub(crate) idle_bytes_s: f64,
    /// The same per neighbor.
    pub(crate) idle_bytes_s_link: f64,
    /// From a crash to a neighbor's notice.
    pub(crate) neighbor_notice_p50_s: f64,
    pub(crate) neighbor_notice_max_s: f64,
    /// From a crash to the member-failed event of the last member, the worst of all crashes.
    pub(crate) last_notice_s: f64,
}

/// One number of a mesh.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) value: f64,
    /// Whether it is a promise of the model, and not one mesh's chance.
    pub(crate) must_agree: bool,
}

impl Measured {
    /// The mean of each number.
    pub(crate) fn mean(all: &[Self]) -> Self {
        let of = |number: fn(&Self) -> f64| mean(all.iter().map(number));
        Self {
            all_online_s: of(|m| m.all_online_s),
            joining_p50_s: of(|m| m.joining_p50_s),
            degree: of(|m| m.degree),
            latency_p50_ms: of(|m| m.latency_p50_ms),
            latency_p99_ms: of(|m| m.latency_p99_ms),
            last_p50_ms: of(|m| m.last_p50_ms),
            copies: of(|m| m.copies),
            idle_bytes_s: of(|m| m.idle_bytes_s),
            idle_bytes_s_link: of(|m| m.idle_bytes_s_link),
            neighbor_notice_p50_s: of(|m| m.neighbor_notice_p50_s),
            neighbor_notice_max_s: of(|m| m.neighbor_notice_max_s),
            last_notice_s: of(|m| m.last_notice_s),
        }
    }

    /// Every number with its name.
    pub(crate) fn rows(&self) -> [Row; 12] {
        let chance = |name, value| Row { name, value, must_agree: false };
        let promise = |name, value| Row { name, value, must_agree: true };
        [
            promise("all online, s", self.all_online_s),
            chance("joining p50, s", self.joining_p50_s),
            promise("degree", self.degree),
            promise("latency p50, ms", self.latency_p50_ms),
            promise("latency p99, ms", self.latency_p99_ms),
            chance("last arrival p50, ms", self.last_p50_ms),
            promise("copies per delivery", self.copies),
            promise("idle, B/s per node", self.idle_bytes_s),
            promise("idle, B/s per link end", self.idle_bytes_s_link),
            promise("crash seen by a neighbor p50, s", self.neighbor_notice_p50_s),
            promise("crash seen by a neighbor max, s", self.neighbor_notice_max_s),
            promise("crash seen by the last member, s", self.last_notice_s),
        ]
    }
}

/// The value at a share of the way from the smallest to the largest; 0 of none.
pub(crate) fn percentile(values: impl IntoIterator<Item = f64>, share: f64) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let index = (values.len().saturating_sub(1) as f64 * share).round() as usize;
    values.get(index).copied().unwrap_or(0.0)
}

pub(crate) fn mean(values: impl IntoIterator<Item = f64>) -> f64 {
    let (mut sum, mut count) = (0.0, 0.0);
    for value in values {
        (sum, count) = (sum + value, count + 1.0);
    }
    if count > 0.0 { sum / count } else { 0.0 }
}
