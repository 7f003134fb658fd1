//! What is noted while the world runs.

use std::collections::BTreeMap;

use peerchannel_mesh::Stats;

use crate::dice::mix;
use crate::meter::Meter;
use crate::outcome::{Counts, Mark, Sample, VIOLATIONS_KEPT, Violation};
use crate::traffic::KINDS;

/// A process that died without a word, or said goodbye.
#[derive(Debug)]
pub(crate) struct Departure {
    /// Who.
    pub(crate) node: u32,
    /// When, in ns.
    pub(crate) at: u64,
    /// Whether it died.
    pub(crate) crash: bool,
    /// The mark it belongs to.
    pub(crate) mark: Option<usize>,
    /// Nodes that ran then and told of it, and when they first did.
    pub(crate) told: BTreeMap<u32, u64>,
}

/// Everything noted for the outcome.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    pub(crate) counts: Counts,
    pub(crate) samples: Vec<Sample>,
    pub(crate) marks: Vec<Mark>,
    pub(crate) departures: Vec<Departure>,
    /// What was wrong in member tables at the end.
    pub(crate) members_wrong: Option<u64>,
    pub(crate) latency: Meter,
    pub(crate) last_arrival: Meter,
    pub(crate) stretch: Meter,
    pub(crate) hops: Meter,
    pub(crate) joining: Meter,
    pub(crate) isolation: Meter,
    pub(crate) crash_seen_by_neighbor: Meter,
    pub(crate) crash_seen: Meter,
    pub(crate) leave_seen: Meter,
    pub(crate) rate: Meter,
    /// Bytes sent by kind, in all.
    pub(crate) sent: [u64; KINDS],
    /// Frames sent by kind, in all.
    pub(crate) frames: [u64; KINDS],
    /// Time that nodes ran, in ns, of lives that are over.
    pub(crate) uptime: u128,
    pub(crate) false_events: u64,
    pub(crate) false_cases: u64,
    /// When a case began: a member that had not failed was told to have.
    pub(crate) false_began: BTreeMap<u32, u64>,
    pub(crate) recent: Recent,
    pub(crate) violations: Vec<Violation>,
    pub(crate) violations_total: u64,
    sometimes: BTreeMap<String, u64>,
    transcript: [u64; 2],
    /// Times the same two nodes became neighbors in the present minute.
    pub(crate) pairs: BTreeMap<(u32, u32), u32>,
    /// Since when two nodes disagree about their link.
    pub(crate) disagreements: BTreeMap<(u32, u32), u64>,
}

/// What happened since the last sample.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    pub(crate) at: u64,
    pub(crate) published: u64,
    pub(crate) delivered: u64,
    pub(crate) copies: u64,
    pub(crate) latency: Meter,
    pub(crate) sent: [u64; KINDS],
    pub(crate) neighbors_up: u64,
    pub(crate) neighbors_down: u64,
    pub(crate) departures: u64,
    pub(crate) arrivals: u64,
    pub(crate) false_failures: u64,
}

/// Virtual seconds.
pub(crate) fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

impl Watch {
    /// Notes that a branch of interest was reached.
    pub(crate) fn reached(&mut self, branch: &str) {
        self.reached_times(branch, 1);
    }

    pub(crate) fn reached_times(&mut self, branch: &str, times: u64) {
        if let Some(count) = self.sometimes.get_mut(branch) {
            *count += times;
        } else if times > 0 {
            self.sometimes.insert(branch.to_owned(), times);
        }
    }

    /// Adds what a node counted in its life.
    pub(crate) fn note_stats(&mut self, stats: &Stats) {
        self.counts.repairs += stats.repairs;
        self.counts.overloads += stats.overloads;
        for (branch, times) in [
            ("a message arrived by pull", stats.repairs),
            ("core: retried in isolation", stats.isolated_retries),
            ("core: refused for want of room", stats.refused_full),
            ("core: refused by quota", stats.refused_by_quota),
            ("core: refused a trial", stats.refused_trials),
            ("core: made room for an urgent node", stats.evicted_for_urgent),
            ("core: pruned", stats.pruned),
            ("core: swapped", stats.swaps),
            ("core: a trial brought nothing", stats.swaps_failed),
            ("core: rotated", stats.rotations),
            ("core: began a shuffle", stats.shuffles_sent),
            ("core: reported a member as failed", stats.members_failed),
            ("core: a suspect was vouched for", stats.suspects_vouched),
            ("core: a suspect spoke for itself", stats.suspects_refuted),
            ("core: refuted its own failure", stats.refutations),
            ("core: doubted what a neighbor said of a member", stats.members_doubted),
            ("core: compared tables that differed", stats.members_merged),
            ("core: became more patient", stats.health_raised),
            ("core: woke up", stats.resumes),
            ("core: gave up a neighbor that did not answer after a pause", stats.links_unconfirmed),
            ("core: suspected a split", stats.splits_suspected),
            ("core: dialed a member of the past", stats.reservoir_probes),
            ("core: a member of the past became a neighbor", stats.reservoir_merges),
            ("core: checked a member without a link to it", stats.audits),
            ("core: a member that was checked did not answer", stats.audits_failed),
        ] {
            self.reached_times(branch, times);
        }
    }

    pub(crate) fn sometimes(&self) -> &BTreeMap<String, u64> {
        &self.sometimes
    }

    /// Notes that something does not hold.
    pub(crate) fn violated(&mut self, now: u64, node: Option<u32>, rule: &str, text: String) {
        self.violations_total += 1;
        if self.violations.len() < VIOLATIONS_KEPT {
            let node = node.map(|node| node as usize);
            self.violations.push(Violation { at: seconds(now), node, rule: rule.to_owned(), text });
        }
    }

    /// Adds to the transcript: something of this kind happened at a node.
    pub(crate) fn write(&mut self, kind: u64, now: u64, node: u32, detail: u64) {
        let [a, b] = &mut self.transcript;
        *a = (*a ^ now ^ (kind << 56)).wrapping_mul(0x9fb2_1c65_1e98_df25).rotate_left(23) ^ *b;
        *b = (*b ^ detail ^ (u64::from(node) << 40)).wrapping_mul(0xd6e8_feb8_6659_fd93).rotate_left(31);
    }

    pub(crate) fn transcript(&self) -> String {
        let [a, b] = self.transcript;
        format!("{:016x}{:016x}", mix(a), mix(b ^ a))
    }
}
