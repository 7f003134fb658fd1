//! Whole meshes under random trouble: what holds for every seed.
//!
//! A failing seed is printed; `PEERCHANNEL_SEED=n cargo test -p peerchannel-mesh --test churn`
//! replays it alone.

mod world;

use std::collections::BTreeMap;
use std::time::Duration;

use peerchannel_mesh::{Config, Event};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};
use world::{World, node_id};

const SECOND: Duration = Duration::from_secs(1);

#[allow(clippy::disallowed_methods, reason = "the core takes no environment; its tests may")]
fn seeds(count: u64) -> Vec<u64> {
    match std::env::var("PEERCHANNEL_SEED") {
        Ok(seed) => vec![seed.parse().expect("a number")],
        Err(_) => (0..count).collect(),
    }
}

struct Dice(ChaCha8Rng);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.0.next_u64() % bound as u64).expect("below a usize")
    }
}

/// Names the seed of a run that panics.
struct Named(u64);

impl Drop for Named {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failing seed {}: PEERCHANNEL_SEED={} replays it", self.0, self.0);
        }
    }
}

/// Links break, cables swallow, queues fill; nobody leaves. Everything arrives everywhere,
/// in order and once (the world checks every delivery), and no gap is reported.
#[test]
fn members_that_stay_lose_nothing_while_links_fail() {
    for seed in seeds(30) {
        let _named = Named(seed);
        let mut dice = Dice(ChaCha8Rng::seed_from_u64(seed));
        let count = 3 + dice.below(12);
        let mut world = World::new(count, &Config::default());
        for index in 0..count {
            world.members[index].knows =
                if index == 0 { vec![] } else { vec![dice.below(index), dice.below(index)] };
            world.start(index);
        }
        world.run_for(10 * SECOND);
        let mut published: BTreeMap<usize, usize> = BTreeMap::new();
        for _ in 0..60 {
            match dice.below(8) {
                0 => {
                    let (a, b) = (dice.below(count), dice.below(count));
                    world.break_link(a, b);
                }
                1 => {
                    // The cable swallows what is sent; noticed a while later.
                    let (a, b) = (dice.below(count), dice.below(count));
                    world.swallow(a, b);
                    world.run_for(SECOND * u32::try_from(dice.below(4)).expect("small"));
                    world.notice_dead();
                }
                2 => {
                    let (a, b) = (dice.below(count), dice.below(count));
                    if world.link_to(a, b).is_some() {
                        world.queue_level(a, b, true);
                        world.run_for(SECOND / 10);
                        if world.link_to(a, b).is_some() {
                            world.queue_level(a, b, false);
                        }
                    }
                }
                _ => {
                    let who = dice.below(count);
                    for _ in 0..=dice.below(5) {
                        let number = published.entry(who).or_default();
                        if world.try_publish(who, &format!("{who} {number}")) {
                            *number += 1;
                        }
                    }
                }
            }
            world.run_for(Duration::from_millis(dice.below(300) as u64));
        }
        world.run_for(60 * SECOND);
        for index in 0..count {
            let mut expected: Vec<String> = published
                .iter()
                .filter(|(who, _)| **who != index)
                .flat_map(|(who, count)| (0..*count).map(move |n| format!("{who} {n}")))
                .collect();
            let mut got = world.texts(index);
            expected.sort();
            got.sort();
            assert_eq!(got, expected, "seed {seed}, node {index} of {count}");
        }
        assert_eq!(world.gaps(), 0, "seed {seed}");
    }
}

/// Nodes crash, leave, and come back. Whoever stays gets everything that was committed.
#[test]
fn members_come_and_go_and_committed_messages_reach_all_that_stay() {
    for seed in seeds(20) {
        let _named = Named(seed);
        let mut dice = Dice(ChaCha8Rng::seed_from_u64(1000 + seed));
        let count = 5 + dice.below(6);
        // The first three stay, the others come and go.
        let stay = 3;
        let mut world = World::full(count, &Config::default());
        world.run_for(5 * SECOND);
        let mut published = vec![0usize; stay];
        for _ in 0..30 {
            let who = stay + dice.below(count - stay);
            match dice.below(6) {
                0 if world.members[who].node.is_some() => {
                    let notice = SECOND * u32::try_from(dice.below(9)).expect("small");
                    world.kill(who, notice);
                }
                1 if world.members[who].node.is_some() => {
                    world.with(who, |node, now| node.leave(now));
                    world.run_for(2 * SECOND);
                    world.kill(who, Duration::ZERO);
                }
                2 if world.members[who].node.is_none() => world.start(who),
                _ => {
                    let who = dice.below(stay);
                    if world.try_publish(who, &format!("{who} {}", published[who])) {
                        published[who] += 1;
                    }
                }
            }
            world.run_for(Duration::from_millis(dice.below(1500) as u64));
        }
        world.run_for(40 * SECOND);
        for index in 0..stay {
            for (who, total) in published.iter().enumerate().filter(|(who, _)| *who != index) {
                let got =
                    world.members[index].delivered.iter().filter(|d| d.stream.origin == node_id(who)).count();
                assert_eq!(got, *total, "seed {seed}: node {index} from {who}");
            }
            let node = world.members[index].node.as_ref().expect("stays");
            let running = world.members.iter().filter(|m| m.node.is_some()).count();
            let alive = node.members().filter(|m| m.status == peerchannel_wire::MemberStatus::Alive).count();
            assert_eq!(alive, running, "seed {seed}: node {index} knows who is there");
        }
        assert!(!world.saw(0, |e| matches!(e, Event::Gap { .. })), "seed {seed}");
    }
}
