//! Everything a run tells: what was seen over time, in all, and what did not hold.
//!
//! Times are seconds of virtual time since the start unless the name says otherwise.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Violations kept in full; further ones are only counted.
pub const VIOLATIONS_KEPT: usize = 50;

/// What came of a run. Same plan, same outcome, [`Outcome::wall_s`] and
/// [`Outcome::peak_memory_bytes`] apart.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Outcome {
    /// The plan's name.
    pub scenario: String,
    /// Nodes at the start.
    pub nodes: usize,
    /// The seed.
    pub seed: u64,
    /// Virtual time of the run.
    pub duration_s: f64,
    /// The command that repeats it.
    pub replay: String,
    /// The mesh over time.
    pub samples: Vec<Sample>,
    /// What was made to happen, and how it was noticed.
    pub marks: Vec<Mark>,
    /// From publication to delivery at each other member, in ms.
    pub latency_ms: Distribution,
    /// Per message that reached all: from publication to the last delivery, in ms.
    pub last_arrival_ms: Distribution,
    /// Per message that reached all: the last delivery divided by the delay of a direct packet
    /// to the farthest member.
    pub stretch: Distribution,
    /// Links travelled per delivery.
    pub hops: Distribution,
    /// Copies of messages received per delivery; 1 is perfect.
    pub redundancy: f64,
    /// From the start of a node to its first neighbor, in s.
    pub joining_s: Distribution,
    /// How long nodes that had a neighbor were without any, in s, those that still are included.
    pub isolation_s: Distribution,
    /// Bytes per second sent by each node over its life, headers of IP, UDP and QUIC included.
    pub bytes_per_node_s: Distribution,
    /// The mean of it by what was sent.
    pub bytes_by_kind: BTreeMap<String, f64>,
    /// Frames sent in all, by what they were; keep-alives and acknowledgements are packets.
    pub frames_by_kind: BTreeMap<String, u64>,
    /// From a crash to each then neighbor's notice, in s.
    pub crash_seen_by_neighbor_s: Distribution,
    /// From a crash to the member-failed event at each other node that told one, in s.
    pub crash_seen_s: Distribution,
    /// Per crash that all nodes up all the while told of: until the last of them did, in s.
    pub crash_seen_by_all_s: Distribution,
    /// Crashes and goodbyes more than 30 s before the end of which a node that ran all the while
    /// never told. Absent where there were none, or tables are samples.
    pub departures_unseen: Option<u64>,
    /// Entries of member tables that were wrong at the end: nodes that ran and were missing or
    /// not alive, and nodes that did not run and were alive; nodes that started or ended in the
    /// last 30 s left out. Absent where tables are samples.
    pub members_wrong_end: Option<u64>,
    /// From a goodbye to the member-left event at each other node that told one, in s.
    pub leave_seen_s: Distribution,
    /// Members told to have failed that had not.
    pub false_failures: FalseFailures,
    /// What was counted.
    pub counts: Counts,
    /// What did not hold, the first [`VIOLATIONS_KEPT`].
    pub violations: Vec<Violation>,
    /// How often something did not hold.
    pub violations_total: u64,
    /// Branches of interest, and how often each was reached.
    pub sometimes: BTreeMap<String, u64>,
    /// Hash of every event in order: equal for equal plans.
    pub transcript: String,
    /// Events handled.
    pub events: u64,
    /// Real time the run took.
    pub wall_s: f64,
    /// Most memory the process had so far, where the system tells.
    pub peak_memory_bytes: Option<u64>,
}

/// The mesh at one moment, and what happened since the moment before.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Sample {
    /// When.
    pub at: f64,
    /// Nodes that run.
    pub up: usize,
    /// Of them, with at least one neighbor.
    pub online: usize,
    /// Connected components of the nodes that run, those that stand still or are cut off
    /// included. Links that only one end believes in do not count.
    pub components: usize,
    /// The share of nodes that run which are in the largest component.
    pub giant_share: f64,
    /// Fewest neighbors of a node that runs.
    pub degree_min: usize,
    /// Mean.
    pub degree_mean: f64,
    /// Most.
    pub degree_max: usize,
    /// The share of nodes that run with at least `neighbors_low` and at most as many neighbors
    /// as they may have.
    pub degree_in_bounds: f64,
    /// Nodes that run, had a neighbor before and have none.
    pub isolated: usize,
    /// Longest of them have been so for this long.
    pub isolated_longest_s: f64,
    /// Messages published since the sample before.
    pub published: u64,
    /// Deliveries.
    pub delivered: u64,
    /// Copies received per delivery; 0 without any.
    pub redundancy: f64,
    /// Median delay of the deliveries, in ms; 0 without any.
    pub latency_p50_ms: f64,
    /// 99th percentile.
    pub latency_p99_ms: f64,
    /// Largest.
    pub latency_max_ms: f64,
    /// Bytes sent per second and node.
    pub bytes_per_node_s: f64,
    /// The same by what was sent.
    pub bytes_by_kind: BTreeMap<String, f64>,
    /// Neighbors made, counted once per link.
    pub links_made: u64,
    /// Links that ended.
    pub links_lost: u64,
    /// Nodes that went, by crash or goodbye.
    pub departures: u64,
    /// Nodes that started.
    pub arrivals: u64,
    /// Member-failed events about members that run.
    pub false_failures: u64,
    /// Members that nodes know of, mean.
    pub members_mean: f64,
}

/// Something that was made to happen.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Mark {
    /// When it began.
    pub at: f64,
    /// What.
    pub what: String,
    /// How many nodes it befell.
    pub nodes: usize,
    /// When it was over, for what lasts.
    pub until: Option<f64>,
    /// When the last link to a node that crashed was given up by its other end: from then on
    /// the survivors know.
    pub detected_at: Option<f64>,
    /// From when on (sampled) all nodes that run were in one component and stayed so until the
    /// next mark or the end. Counts from the beginning of the mark.
    pub one_component_at: Option<f64>,
}

/// A summary of many values.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Distribution {
    /// How many; the rest is zero if none.
    pub count: u64,
    /// Smallest, exact.
    pub min: f64,
    /// Mean, exact.
    pub mean: f64,
    /// Median, within 1 %, as the other percentiles.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 99th percentile.
    pub p99: f64,
    /// 99.9th percentile.
    pub p999: f64,
    /// Largest, exact.
    pub max: f64,
}

/// Members told to have failed that had not.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct FalseFailures {
    /// Events in all: each node that believes it tells one.
    pub events: u64,
    /// Cases: events about the same member within 60 s are one.
    pub cases: u64,
    /// Time of all nodes that ran, in days.
    pub node_days: f64,
    /// Cases per node and day: how often a member is declared failed somewhere.
    pub per_node_day: f64,
    /// Events per node and day: how often a node hears it of anyone.
    pub heard_per_node_day: f64,
}

/// What was counted over the whole run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// Messages accepted from publishers.
    pub published: u64,
    /// Messages that publishers were told to try again, or were refused otherwise.
    pub publish_refused: u64,
    /// Deliveries to members other than the origin.
    pub delivered: u64,
    /// Copies of messages received.
    pub copies: u64,
    /// Messages reported as gaps, once per member and message.
    pub gaps: u64,
    /// Messages that arrived by pull.
    pub repairs: u64,
    /// Messages lost with their origin: it crashed before anyone acknowledged them.
    pub lost_with_origin: u64,
    /// Dials ordered.
    pub dials: u64,
    /// Dials that brought no link.
    pub dials_failed: u64,
    /// Links on which both ends became neighbors.
    pub links_made: u64,
    /// Neighbors lost, counted at each end.
    pub neighbors_lost: u64,
    /// Nodes that started.
    pub arrivals: u64,
    /// Nodes that crashed.
    pub crashes: u64,
    /// Nodes that left with a goodbye.
    pub leaves: u64,
    /// Control frames sent.
    pub control_frames: u64,
    /// Data frames sent.
    pub data_frames: u64,
    /// Deadlines handled.
    pub deadlines: u64,
    /// Questions to the resolver.
    pub resolves: u64,
    /// Frames refused by a full queue.
    pub queue_full: u64,
    /// Things nodes did not keep because a limit was reached.
    pub overloads: u64,
}

/// Something that must hold and did not.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Violation {
    /// When.
    pub at: f64,
    /// At which node, if at one.
    pub node: Option<usize>,
    /// Which rule.
    pub rule: String,
    /// What was seen.
    pub text: String,
}
