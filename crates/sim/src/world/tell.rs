//! What came of a run.

use std::time::Duration;

use super::World;
use super::look::by_kind;
use crate::meter::Meter;
use crate::outcome::{FalseFailures, Outcome};
use crate::watch::seconds;

const DAY_NS: f64 = 86_400e9;

fn per(count: u64, whole: f64) -> f64 {
    if whole > 0.0 { count as f64 / whole } else { 0.0 }
}

impl World {
    pub(super) fn tell(self, took: Duration) -> Outcome {
        let crash_seen_by_all = self.crash_seen_by_all();
        let watch = self.watch;
        let (transcript, sometimes) = (watch.transcript(), watch.sometimes().clone());
        let uptime = watch.uptime as f64;
        let node_days = uptime / DAY_NS;
        let seconds_up = uptime / 1e9;
        Outcome {
            replay: self.plan.replay(),
            scenario: self.plan.name,
            nodes: self.plan.nodes,
            seed: self.plan.seed,
            duration_s: self.plan.duration.as_secs_f64(),
            samples: watch.samples,
            marks: watch.marks,
            latency_ms: watch.latency.summary(),
            last_arrival_ms: watch.last_arrival.summary(),
            stretch: watch.stretch.summary(),
            hops: watch.hops.summary(),
            redundancy: per(watch.counts.copies, watch.counts.delivered as f64),
            joining_s: watch.joining.summary(),
            isolation_s: watch.isolation.summary(),
            bytes_per_node_s: watch.rate.summary(),
            bytes_by_kind: by_kind(&watch.sent)
                .into_iter()
                .map(|(name, bytes)| (name, per(bytes, seconds_up)))
                .collect(),
            crash_seen_by_neighbor_s: watch.crash_seen_by_neighbor.summary(),
            crash_seen_s: watch.crash_seen.summary(),
            crash_seen_by_all_s: crash_seen_by_all.summary(),
            leave_seen_s: watch.leave_seen.summary(),
            false_failures: FalseFailures {
                events: watch.false_events,
                cases: watch.false_cases,
                node_days,
                per_node_day: per(watch.false_cases, node_days),
                heard_per_node_day: per(watch.false_events, node_days),
            },
            counts: watch.counts,
            transcript,
            sometimes,
            violations: watch.violations,
            violations_total: watch.violations_total,
            events: self.handled,
            wall_s: took.as_secs_f64(),
            peak_memory_bytes: peak_memory(),
        }
    }

    /// Per crash: until the last of those that ran all the while was told.
    fn crash_seen_by_all(&self) -> Meter {
        let mut meter = Meter::default();
        let mut started: Vec<u64> =
            self.hosts.iter().filter(|host| host.up).map(|host| host.life_story.started).collect();
        started.sort_unstable();
        for crash in &self.watch.crashes {
            let witnesses = started.partition_point(|started| *started <= crash.at);
            if crash.told as usize >= witnesses && witnesses > 0 {
                meter.add(seconds(crash.told_last - crash.at));
            }
        }
        meter
    }
}

/// Most memory this process had so far; only Linux tells.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
