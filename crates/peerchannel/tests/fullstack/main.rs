//! Sixty-four whole nodes over a simulated UDP network, in virtual time.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests")]

mod directory;
mod measured;
mod model;
mod places;
mod rig;
mod schedule;

use std::time::Duration;

use tokio::time::Instant;

use measured::{Measured, mean, percentile};
use rig::Rig;
use schedule::{CRASHES, IDLE, JOINING, PAYLOAD, PUBLISHERS, RATE, SETTLED, TRAFFIC};

const SEED: u64 = 1;

/// How far the model may be from the whole stack.
const AGREEMENT: f64 = 0.15;

/// Runs the whole stack through the schedule.
async fn whole_stack(seed: u64) -> Measured {
    let mut rig = Rig::start(seed).await;
    rig.until(SETTLED).await;
    let degree = mean(rig.degrees().await.into_iter().map(|degree| degree as f64));
    rig.until(TRAFFIC.0).await;
    let (first, further) = rig.copies().await;
    rig.publish(RATE, PUBLISHERS, PAYLOAD, TRAFFIC.1 - TRAFFIC.0).await;

    rig.until(IDLE.0).await;
    let (delivered, again) = rig.copies().await;
    let copies = (delivered + again - first - further) as f64 / (delivered - first) as f64;
    let before = rig.sent();
    rig.until(IDLE.1).await;
    let sent: Vec<_> = rig.sent().into_iter().zip(before).map(|(after, before)| after - before).collect();
    let idle = mean(sent.iter().map(|sent| sent.bytes as f64)) / (IDLE.1 - IDLE.0) as f64;
    let degree_idle = mean(rig.degrees().await.into_iter().map(|degree| degree as f64));

    let (mut by_neighbors, mut by_last) = (Vec::new(), Vec::new());
    for crash in 0..CRASHES.2 {
        rig.until(CRASHES.0 + crash * CRASHES.1).await;
        let at = Instant::now();
        let (dead, neighbors) = rig.kill_one().await;
        rig.until(CRASHES.0 + (crash + 1) * CRASHES.1).await;
        let seen = rig.seen();
        let since = |down: &(usize, peerchannel::NodeId, Instant)| {
            (down.1 == dead && down.2 >= at).then(|| (down.2 - at).as_secs_f64())
        };
        let noticed: Vec<f64> = seen.neighbors_down.iter().filter_map(since).collect();
        assert_eq!(noticed.len(), neighbors, "seed {seed}: each neighbor notices once");
        let told: Vec<f64> = seen.members_down.iter().filter_map(since).collect();
        assert_eq!(told.len(), rig.members.iter().flatten().count(), "seed {seed}: each member is told once");
        by_last.push(percentile(told, 1.0));
        by_neighbors.extend(noticed);
    }
    let published = rig.published();
    let seen = rig.seen();
    assert_eq!(seen.wrong, Vec::<String>::new(), "seed {seed}");
    let ms = |delay: &Duration| delay.as_secs_f64() * 1000.0;
    let delays = || seen.deliveries.values().flatten().map(ms);
    assert_eq!(delays().count(), published * (schedule::NODES - 1), "seed {seed}: everyone got everything");
    Measured {
        all_online_s: seen.all_online.as_secs_f64(),
        joining_p50_s: percentile(seen.joining.iter().map(Duration::as_secs_f64), 0.5),
        degree,
        latency_p50_ms: percentile(delays(), 0.5),
        latency_p99_ms: percentile(delays(), 0.99),
        last_p50_ms: percentile(seen.deliveries.values().filter_map(|d| d.iter().max().map(ms)), 0.5),
        copies,
        idle_bytes_s: idle,
        idle_bytes_s_link: idle / degree_idle,
        neighbor_notice_p50_s: percentile(by_neighbors.iter().copied(), 0.5),
        neighbor_notice_max_s: percentile(by_neighbors, 1.0),
        last_notice_s: percentile(by_last, 1.0),
    }
}

#[tokio::test(start_paused = true)]
async fn a_mesh_of_whole_nodes_keeps_its_promises_and_the_model_agrees() {
    let wall = std::time::Instant::now();
    let stack = whole_stack(SEED).await;
    let (wall, begun) = (wall.elapsed(), std::time::Instant::now());
    let model = model::model(SEED);
    println!("seed {SEED}: the whole stack took {wall:.1?}, the model {:.1?}", begun.elapsed());
    let mut apart = Vec::new();
    for (row, models) in stack.rows().into_iter().zip(model.rows()) {
        let difference = models.value / row.value - 1.0;
        println!("{:34}{:10.2}{:10.2}{:+8.1} %", row.name, row.value, models.value, difference * 100.0);
        if row.must_agree && difference.abs() > AGREEMENT {
            apart.push(row.name);
        }
    }
    assert!(stack.all_online_s < JOINING.as_secs_f64() + 1.0, "seed {SEED}: {stack:?}");
    assert!(stack.neighbor_notice_max_s <= 9.5, "seed {SEED}: {stack:?}");
    assert!(stack.last_notice_s <= 15.0, "seed {SEED}: {stack:?}");
    assert_eq!(apart, Vec::<&str>::new(), "seed {SEED}: the model and the whole stack differ");
}
