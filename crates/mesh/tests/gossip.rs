//! What members are told of each other, and what it costs.

mod world;

use std::time::Duration;

use peerchannel_mesh::{Config, Event, Input};
use peerchannel_wire::{
    ControlFrame, Epoch, Features, Member, MemberContent, MemberDigest, MemberFacts, MemberName, MemberRange,
    MemberStatus, MemberSum, MeshId, NodeId,
};
use world::{World, sign};

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

/// A member that no node is, with a record of its own.
fn made_up(number: u32) -> Member {
    let mut id = [0xee; 32];
    id[..4].copy_from_slice(&number.to_be_bytes());
    let node = NodeId::from_bytes(id);
    let epoch = Epoch::new(1).expect("small");
    let facts = MemberFacts::new(node, epoch, 0, MemberName::default()).unsigned();
    let transcript = facts.transcript(&MeshId::from_bytes([9; 32]));
    Member { status: MemberStatus::Alive, record: facts.sign(sign(node, &transcript)) }
}

#[test]
fn neighbors_with_samples_of_two_levels_come_to_an_end() {
    let (big, mut small) = (Config::default(), Config::default());
    small.members_max = 128;
    let mut world = World::new(2, &big);
    world.members[1].config = small;
    world.members[1].knows = vec![0];
    world.start(0);
    world.start(1);
    world.run_for(5 * SECOND);
    let link = world.link(0, 1);
    for numbers in [0..300, 300..330] {
        for number in numbers {
            let frame = ControlFrame::Members(vec![made_up(number)]);
            world.input(0, Input::Control { link, frame });
        }
        world.run_for(90 * SECOND);
        let before = world.frames();
        world.run_for(10 * SECOND);
        assert!(world.frames() - before < 60, "{} frames in ten seconds", world.frames() - before);
    }
    // What the second keeps of them the first knows too, and it keeps as much as it can.
    assert_eq!(known(&world, 0), 332);
    assert!((64..=130).contains(&known(&world, 1)), "{}", known(&world, 1));
    let estimate = world.node(1).size_estimate();
    assert!((230..=450).contains(&estimate), "{estimate}");
}

#[test]
fn one_neighbor_cannot_make_a_node_forget_its_members() {
    let mut world = crowd(30, |_| Features::SUPPORTED);
    world.run_for(30 * SECOND);
    let other = (1..30).find(|other| world.linked(0, *other)).expect("a neighbor");
    let link = world.link(0, other);
    for level in [3, 40, 4_000_000_000] {
        let content = MemberContent::Sum(MemberSum::default());
        let ranges = vec![MemberRange { from: None, until: None, content }];
        let digest = MemberDigest { level, members: u32::MAX, ranges };
        world.input(0, Input::Control { link, frame: ControlFrame::MemberDigest(digest) });
        assert_eq!((known(&world, 0), world.node(0).size_estimate()), (30, 30));
    }
}

#[test]
fn a_node_that_knew_everybody_already_is_told_that_it_knows() {
    let mut world = World::new(2, &Config::default());
    world.members[1].knows = vec![0];
    world.start(0);
    world.start(1);
    world.run_until(3 * SECOND, "told", |w| {
        (0..2).all(|i| w.saw(i, |e| matches!(e, Event::MembersKnown { members: 2, complete: true })))
    });
}
