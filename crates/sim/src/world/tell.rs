//! What came of a run.

use std::time::Duration;

use super::look::by_kind;
use super::{World, ns};
use crate::meter::Meter;
use crate::outcome::{FalseFailures, Outcome};
use crate::watch::seconds;

const DAY_NS: f64 = 86_400e9;

/// What happened this late in a run not everybody has to have heard of.
const SEEN_WITHIN: Duration = Duration::from_secs(30);

fn per(count: u64, whole: f64) -> f64 {
    if whole > 0.0 { count as f64 / whole } else { 0.0 }
}

impl World {
    pub(super) fn tell(self, took: Duration) -> Outcome {
        let (crash_seen_by_all, departures_unseen) = self.seen_by_all();
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
            frames_by_kind: by_kind(&watch.frames),
            crash_seen_by_neighbor_s: watch.crash_seen_by_neighbor.summary(),
            crash_seen_s: watch.crash_seen.summary(),
            crash_seen_by_all_s: crash_seen_by_all.summary(),
            departures_unseen,
            members_wrong_end: watch.members_wrong,
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

    /// Per crash: until the last of those that ran all the while told of it. And how many
    /// crashes and goodbyes some of those never told of, where each member is to know all.
    fn seen_by_all(&self) -> (Meter, Option<u64>) {
        let (mut meter, mut unseen) = (Meter::default(), 0);
        let running = |node: &u32| self.hosts.get(*node as usize).is_some_and(|host| host.up);
        let mut started: Vec<u64> =
            self.hosts.iter().filter(|host| host.up).map(|host| host.life_story.started).collect();
        started.sort_unstable();
        for departure in &self.watch.departures {
            let witnesses = started.partition_point(|started| *started <= departure.at);
            let mut told = 0;
            let mut last = departure.at;
            for (_, at) in departure.told.iter().filter(|(node, _)| running(node)) {
                told += 1;
                last = last.max(*at);
            }
            // A node that ended and came back may have told in an earlier life.
            if told >= witnesses && witnesses > 0 {
                if departure.crash {
                    meter.add(seconds(last - departure.at));
                }
            } else if self.tables_are_complete()
                && departure.at + ns(SEEN_WITHIN) <= self.now
                && !running(&departure.node)
            {
                unseen += 1;
            }
        }
        (meter, (self.tables_are_complete() && !self.watch.departures.is_empty()).then_some(unseen))
    }

    /// Whether each node is to know every other.
    pub(super) fn tables_are_complete(&self) -> bool {
        self.plan.config.members_max >= self.hosts.len()
    }
}

/// Most memory this process had so far; only Linux tells.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}
