//! Sections 3.5 and 3.8: networks that far links go to, and what shuffles tell.
#![allow(clippy::unwrap_used, reason = "a test")]

mod stage;

use std::collections::BTreeSet;
use std::time::Duration;

use peerchannel_mesh::Config;
use peerchannel_wire::{ControlFrame, DisconnectReason, NodeAddress, Shuffle, ShuffledNode};
use stage::{Answer, Did, SECOND, Stage, id, number};

const MINUTE: Duration = Duration::from_secs(60);

fn linked(seed: u8, count: u16) -> Stage {
    let mut config = Config::default();
    config.audit_interval = 86_400 * SECOND;
    let mut stage = Stage::seeded(&config, seed);
    stage.near([1]);
    stage.teach(1, 101..140);
    stage.near(2..=count);
    stage
}

/// Section 3.5, rule 5: also where several far links are dialed at once.
#[test]
fn of_the_far_links_that_a_node_opens_at_once_two_go_to_one_network() {
    let mut wrong = Vec::new();
    for seed in 0..20 {
        let crowd = |n: u16| n < 30;
        let mut stage = linked(seed, 8);
        stage.run_for(MINUTE);
        for n in 20..40u16 {
            let [_, host] = n.to_be_bytes();
            let address = if crowd(n) { [8, 8, 7, host] } else { [8, host, 7, 1] };
            stage.at.insert(n, (address, 5000).into());
            stage.answers.insert(n, Answer::Welcome);
        }
        for n in 1..=8 {
            stage.leaves(n, DisconnectReason::LeavingMesh);
        }
        stage.name(20..40);
        stage.run_for(SECOND);
        let own = stage.own_far();
        let of_crowd = own.iter().filter(|n| crowd(**n)).count();
        if of_crowd > 2 {
            wrong.push((seed, own));
        }
    }
    assert_eq!(wrong, [], "(seed, far links of its own)");
}

fn sent(stage: &Stage) -> Vec<(u16, Vec<ShuffledNode>)> {
    let sent = stage.log.iter().filter_map(|(_, n, did)| match did {
        Did::Send(ControlFrame::Shuffle(shuffle)) => Some((*n, shuffle.nodes().to_vec())),
        _ => None,
    });
    sent.collect()
}

fn telling() -> Stage {
    let mut stage = linked(1, 2);
    stage.answers.extend((20..24).map(|n| (n, Answer::Welcome)));
    stage.name(20..24);
    stage.run_for(30 * SECOND);
    stage.near(3..=8);
    stage
}

/// Section 3.8, rule 4: two neighbors and three candidates, to another than these.
#[test]
fn a_shuffle_names_nobody_twice_and_not_the_one_it_goes_to() {
    let mut stage = telling();
    stage.run_for(5 * MINUTE);
    let sent = sent(&stage);
    let twice = sent.iter().filter(|(_, nodes)| {
        let ids: BTreeSet<_> = nodes.iter().map(|node| node.address.node()).collect();
        ids.len() < nodes.len()
    });
    let receiver =
        sent.iter().filter(|(to, nodes)| nodes.iter().any(|node| number(node.address.node()) == *to));
    assert_eq!((twice.count(), receiver.count()), (0, 0), "of {} shuffles", sent.len());
}

/// `ShuffledNode::age_s`: seconds since it was last known to be there.
#[test]
fn what_was_heard_of_long_ago_does_not_grow_young_on_its_way() {
    let mut stage = telling();
    let address = NodeAddress::new(id(50), [stage.address(50)]).unwrap();
    let told = ShuffledNode { address, coordinate: None, age_s: 500 };
    let link = stage.link(1);
    stage.control(link, ControlFrame::Shuffle(Shuffle::new(0, vec![told])));
    stage.run_for(9 * MINUTE);
    let ages: Vec<u32> = sent(&stage)
        .into_iter()
        .flat_map(|(_, nodes)| nodes)
        .filter(|node| node.address.node() == id(50))
        .map(|node| node.age_s)
        .collect();
    assert!(ages.iter().all(|age| (500..600).contains(age)), "{ages:?}");
}
