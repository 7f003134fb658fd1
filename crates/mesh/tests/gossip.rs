//! What members are told of each other, and what it costs.

mod world;

use std::time::Duration;

use peerchannel_mesh::Config;
use peerchannel_wire::{Features, MemberStatus};
use world::World;

const SECOND: Duration = Duration::from_secs(1);

/// A crowd whose nodes all start within a second, and what is known after a few.
fn crowd(count: usize, features: fn(usize) -> Features) -> World {
    let mut world = World::new(count, &Config::default());
    world.features = features;
    for index in 0..count {
        world.members[index].knows =
            if index == 0 { vec![] } else { vec![index / 2, index / 3, index * 7 / 8] };
        world.start(index);
        world.run_for(SECOND / u32::try_from(count).expect("a few"));
    }
    world
}

/// How many members a node knows as alive.
fn known(world: &World, index: usize) -> usize {
    let node = world.members[index].node.as_ref().expect("started");
    node.members().filter(|member| member.status == MemberStatus::Alive).count()
}

/// Runs until every node knows all others, for ten seconds at most.
fn run_until_known(world: &mut World) {
    let (count, end) = (world.members.len(), world.now + 10 * SECOND);
    while !(0..count).all(|index| known(world, index) == count) {
        assert!(world.now < end, "not all know all after ten seconds");
        world.run_for(SECOND / 10);
    }
}

#[test]
fn a_crowd_that_joins_at_once_is_known_to_all_and_told_of_cheaply() {
    let mut world = crowd(100, |_| Features::SUPPORTED);
    run_until_known(&mut world);
    // A flood of each record over every link would take 100 * 100 * 8 statements, nearly each
    // in a frame of its own.
    let frames = world.frames();
    assert!(frames < 60_000, "{frames} frames of all kinds");
}

#[test]
fn nodes_of_the_first_release_among_them_are_told_too() {
    let older = |index: usize| if index.is_multiple_of(3) { Features::NONE } else { Features::SUPPORTED };
    let mut world = crowd(60, older);
    run_until_known(&mut world);
    assert!(!world.spoke_without_feature);
}

#[test]
fn a_single_change_is_told_to_all_at_once() {
    let mut world = crowd(40, |_| Features::SUPPORTED);
    world.run_for(30 * SECOND);
    world.with(7, |node, now| node.set_metadata(now, "away".into()).unwrap());
    let (id, told) = (world.members[7].id, world.now);
    world.run_until(SECOND, "all know the change", |world| {
        let knows = |index: usize| {
            let node = world.members[index].node.as_ref().expect("started");
            node.member(id).is_some_and(|member| &member.metadata[..] == b"away")
        };
        (0..40).filter(|index| *index != 7).all(knows)
    });
    assert!(world.now.since(told) <= SECOND / 2, "{:?}", world.now.since(told));
}
