//! The same mesh in the simulator: the same map, join, traffic and crashes.

use std::time::Duration;

use peerchannel_sim::{
    Admission, BandwidthClass, Checks, Happening, Join, Map, Outcome, Packets, Plan, Scripted, Traffic, Who,
    World,
};

use crate::measured::{Measured, mean};
use crate::schedule::{
    CRASHES, IDLE, JITTER, JOINING, NODES, PAYLOAD, PUBLISHERS, RATE, SETTLED, TRAFFIC, UPLINK,
};

const RUNS: u64 = 3;

fn plan(seed: u64) -> Plan {
    let at = |crash: u64| Duration::from_secs(CRASHES.0 + crash * CRASHES.1);
    Plan {
        name: "whole stack".to_owned(),
        nodes: NODES,
        seed,
        duration: at(CRASHES.2),
        // Sizes are those of the real frames.
        codec: true,
        // Virtual time passes by waiting alone, here and there.
        map: Map { handling: Duration::ZERO, ..Map::default() },
        undialable: 0.0,
        bandwidth: vec![BandwidthClass { weight: 1.0, uplink_bits: UPLINK }],
        packets: Packets { jitter: JITTER, ..Packets::default() },
        admission: Admission::Open,
        traffic: Traffic {
            per_second: RATE,
            payload_bytes: PAYLOAD,
            publishers: PUBLISHERS,
            from: Duration::from_secs(TRAFFIC.0),
            until: Some(Duration::from_secs(TRAFFIC.1)),
        },
        join: Join::Over(JOINING),
        events: (0..CRASHES.2)
            .map(|crash| Scripted { at: at(crash), what: Happening::Crash { who: Who::Count(1) } })
            .collect(),
        sample_every: Duration::from_millis(100),
        // Who can be dialed takes in strangers up to this (docs/protocol.md section 3).
        checks: Checks { neighbors_max: Some(32), ..Checks::default() },
        ..Plan::default()
    }
}

/// Runs the model through the schedule a few times: what one mesh's chance is shall not count
/// twice.
pub(crate) fn model(seed: u64) -> Measured {
    let runs = (seed..seed + RUNS).map(|seed| {
        let outcome = World::run(plan(seed)).unwrap();
        assert_eq!(outcome.violations, [], "seed {seed}");
        measured(&outcome)
    });
    Measured::mean(&runs.collect::<Vec<_>>())
}

fn measured(outcome: &Outcome) -> Measured {
    let between = |(from, until): (u64, u64)| {
        let within = move |at: f64| at > from as f64 && at <= until as f64;
        outcome.samples.iter().filter(move |sample| within(sample.at))
    };
    let degree = |range| mean(between(range).map(|sample| sample.degree_mean));
    let idle = mean(between(IDLE).map(|sample| sample.bytes_per_node_s));
    let online = outcome.samples.iter().find(|sample| sample.online == NODES);
    Measured {
        all_online_s: online.map_or(f64::INFINITY, |sample| sample.at),
        joining_p50_s: outcome.joining_s.p50,
        degree: degree((SETTLED, TRAFFIC.0)),
        latency_p50_ms: outcome.latency_ms.p50,
        latency_p99_ms: outcome.latency_ms.p99,
        last_p50_ms: outcome.last_arrival_ms.p50,
        copies: outcome.redundancy,
        idle_bytes_s: idle,
        idle_bytes_s_link: idle / degree(IDLE),
        neighbor_notice_p50_s: outcome.crash_seen_by_neighbor_s.p50,
        neighbor_notice_max_s: outcome.crash_seen_by_neighbor_s.max,
        last_notice_s: outcome.crash_seen_by_all_s.max,
    }
}
