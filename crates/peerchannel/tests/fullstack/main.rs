//! Sixty-four whole nodes over a simulated UDP network, in virtual time.
//!
//! `PEERCHANNEL_SEED` names the seed of places, joins, traffic, crashes and the network's
//! chance (docs/testing.md says what it does not decide).
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, reason = "tests")]

mod directory;
mod measured;
mod model;
mod places;
mod rig;
mod schedule;

use std::time::Duration;

use peerchannel_simnet::{HEADERS, Traffic};
use tokio::time::Instant;

use measured::{Measured, mean, percentile};
use rig::Rig;
use schedule::{CRASHES, IDLE, JOINING, PAYLOAD, PUBLISHERS, RATE, SETTLED, TRAFFIC};

/// How far the model may be from the whole stack.
const AGREEMENT: f64 = 0.15;

/// Bytes that a node with eight neighbors may send per second while nothing is published,
/// headers of IP and UDP included.
const IDLE_BYTES_MAX: f64 = 450.0;

/// How much more one small mesh may send by chance: a quarter of it are dials, and sixty-four
/// nodes make about three hundred in ten minutes.
const CHANCE: f64 = 0.05;

/// The seed of the run: 1 unless `PEERCHANNEL_SEED` names another.
fn seed() -> u64 {
    match std::env::var("PEERCHANNEL_SEED") {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("PEERCHANNEL_SEED={text} is not a number")),
        Err(_) => 1,
    }
}

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
    print_by_size(&sent, IDLE.1 - IDLE.0);

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

/// Prints what an idle node sends per second, by the size of datagrams: keep-alives and
/// acknowledgements are the smallest, handshakes and searches for the path's MTU the largest.
fn print_by_size(sent: &[Traffic], seconds: u64) {
    const UP_TO: [usize; 6] = [40, 90, 150, 300, 1199, usize::MAX];
    let per_node = (sent.len() as u64 * seconds) as f64;
    let mut from = 0;
    for up_to in UP_TO {
        let within = sent.iter().flat_map(|sent| sent.sizes.range(from..=up_to));
        let (count, bytes) = within.fold((0, 0), |(count, bytes), (size, more)| {
            (count + more, bytes + more * (*size as u64 + HEADERS))
        });
        let (count, bytes) = (count as f64 / per_node, bytes as f64 / per_node);
        let name = if up_to == usize::MAX { "more".to_owned() } else { format!("to {up_to}") };
        println!("idle, datagrams of {name:8}{count:10.3} /s{bytes:10.1} B/s");
        from = up_to.saturating_add(1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_mesh_of_whole_nodes_keeps_its_promises_and_the_model_agrees() {
    let (seed, wall) = (seed(), std::time::Instant::now());
    println!(
        "seed {seed}: PEERCHANNEL_SEED={seed} cargo test -p peerchannel --test fullstack -- --nocapture"
    );
    let stack = whole_stack(seed).await;
    let (wall, begun) = (wall.elapsed(), std::time::Instant::now());
    let model = model::model(seed);
    println!("seed {seed}: the whole stack took {wall:.1?}, the model {:.1?}", begun.elapsed());
    let mut apart = Vec::new();
    for (row, models) in stack.rows().into_iter().zip(model.rows()) {
        let difference = models.value / row.value - 1.0;
        println!("{:34}{:10.2}{:10.2}{:+8.1} %", row.name, row.value, models.value, difference * 100.0);
        if row.must_agree && difference.abs() > AGREEMENT {
            apart.push(row.name);
        }
    }
    assert!(stack.all_online_s < JOINING.as_secs_f64() + 1.0, "seed {seed}: {stack:?}");
    assert!(stack.neighbor_notice_max_s <= 9.5, "seed {seed}: {stack:?}");
    assert!(stack.last_notice_s <= 15.0, "seed {seed}: {stack:?}");
    let idle = stack.idle_bytes_s_link * 8.0;
    println!("idle, at most {IDLE_BYTES_MAX} B/s with eight neighbors: {idle:.1} B/s");
    let limit = IDLE_BYTES_MAX * (1.0 + CHANCE);
    assert!(idle <= limit, "seed {seed}: {idle:.0} B/s with eight neighbors: {stack:?}");
    assert_eq!(apart, Vec::<&str>::new(), "seed {seed}: the model and the whole stack differ");
}
