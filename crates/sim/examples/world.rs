//! Runs a world and prints what became of it, second by second.
//!
//! `cargo run --release -p peerchannel-sim --example world -- [NODES] [SECONDS] [SEED] [MEMBERS_MAX]
//! [MESSAGES_PER_MINUTE]`

#![allow(clippy::print_stdout, reason = "that is what it is for")]

use std::time::Duration;

use peerchannel_sim::{Outcome, Plan, World};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut numbers = std::env::args().skip(1).map(|number| number.parse::<u64>());
    let mut next = |default| numbers.next().unwrap_or(Ok(default));
    let mut plan = Plan { nodes: usize::try_from(next(200)?)?, ..Plan::default() };
    plan.duration = Duration::from_secs(next(60)?);
    plan.seed = next(1)?;
    plan.config.members_max = usize::try_from(next(10_000)?)?;
    plan.traffic.per_second = next(60)? as f64 / 60.0;
    let outcome = World::run(plan)?;
    println!("   time   up comp  giant degree        published delivered copies  p50 ms  p99 ms  B/s·node");
    for s in &outcome.samples {
        println!(
            "{:7.1} {:4} {:4} {:6.3} {:2} {:5.2} {:3} {:12} {:9} {:6.2} {:7.1} {:7.1} {:9.0}",
            s.at,
            s.up,
            s.components,
            s.giant_share,
            s.degree_min,
            s.degree_mean,
            s.degree_max,
            s.published,
            s.delivered,
            s.redundancy,
            s.latency_p50_ms,
            s.latency_p99_ms,
            s.bytes_per_node_s,
        );
    }
    println!("{:#?}", Outcome { samples: Vec::new(), ..outcome });
    Ok(())
}
