//! A process whose machine gets another address while it is linked.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests.

mod common;

use std::time::Duration;

use common::cable::Cable;
use common::{ONLINE, Place, Proc, peerchannel, run, skip, timing};
use serde_json::{Value, json};

/// The system tells at once; half a second is waited for more of it.
const NOTICED: Duration = Duration::from_secs(2);

/// Messages pass both ways again within this time after an address changed.
const MOVED: Duration = Duration::from_secs(5);

/// A link of this age was not dialed at once with another (docs/protocol.md section 3.2).
const SETTLED: Duration = Duration::from_secs(5);

/// A link that cannot follow is replaced this soon, well before its other end would notice.
const REPLACED: Duration = Duration::from_secs(3);

/// How long an address is gone that comes back: an access point that roams, a DHCP client that
/// starts again.
const BLIP: Duration = Duration::from_millis(1500);

fn publish(node: &mut Proc, text: &str) {
    node.send(&json!({ "cmd": "publish", "channel": "c", "payload": text }));
}

/// Files with two identities, the smaller first.
fn ordered_keys(place: &Place) -> [String; 2] {
    let mut keys = ["one.key", "other.key"].map(|file| {
        let path = place.path(file).to_str().unwrap().to_owned();
        let made = run(peerchannel(["key", "new", &path]), "", ONLINE);
        (made.stdout.trim().to_owned(), path)
    });
    keys.sort();
    keys.map(|(_, path)| path)
}

/// Three nodes, of which bob dials ann and is dialed by cleo: of bob's two connections only the
/// first can follow him to another address. Of two links that he and cleo dial at once, his
/// would be the one to close.
fn linked(cable: &Cable, place: &Place) -> [Proc; 3] {
    let at =
        |address: &str, node: &Proc| format!("static:{address}:{}", node.addr().rsplit_once(':').unwrap().1);
    let [smaller, larger] = ordered_keys(place);
    let ann = cable.node(0, "ann", place, &["--name", "ann", "--resolver", "static:10.77.0.1:9"]);
    let near_ann = at("10.77.0.1", &ann);
    let bob = cable.node(1, "bob", place, &["--name", "bob", "--identity", &larger, "--resolver", &near_ann]);
    bob.wait("online", ONLINE);
    let near_bob = at("10.77.0.2", &bob);
    let cleo =
        cable.node(0, "cleo", place, &["--name", "cleo", "--identity", &smaller, "--resolver", &near_bob]);
    let mut nodes = [ann, bob, cleo];
    for node in &mut nodes {
        node.wait_neighbors(2, ONLINE);
    }
    nodes
}

#[test]
fn an_address_that_comes_back_soon_costs_no_link_and_is_told_to_nobody() {
    let cable = match Cable::new() {
        Ok(cable) => cable,
        Err(why) => {
            return skip("an_address_that_comes_back_soon_costs_no_link_and_is_told_to_nobody", &why);
        }
    };
    let place = Place::new();
    let mut nodes = linked(&cable, &place);
    let marks = nodes.each_ref().map(Proc::mark);
    let id = nodes[1].id();
    let told_at = |node: &mut Proc| {
        let member = node.members().into_iter().find(|member| member["node"] == json!(id)).unwrap();
        assert!(!member["addrs"].to_string().contains("127.0.0.1"), "{member}");
    };
    cable.ip(1, &["address", "del", "10.77.0.2/24", "dev", "cable"]);
    std::thread::sleep(BLIP);
    told_at(&mut nodes[0]);
    cable.ip(1, &["address", "add", "10.77.0.2/24", "dev", "cable"]);
    cable.ip(1, &["route", "replace", "default", "dev", "cable"]);
    let until = std::time::Instant::now() + MOVED;
    while std::time::Instant::now() < until {
        told_at(&mut nodes[0]);
        std::thread::sleep(Duration::from_millis(100));
    }
    publish(&mut nodes[1], "still here");
    nodes[0].wait_from(marks[0], "message", MOVED, |event| event["payload"] == "still here");
    nodes[2].wait_from(marks[2], "message", MOVED, |event| event["payload"] == "still here");
    for (node, mark) in nodes.iter().zip(marks) {
        for seen in &node.events()[mark..] {
            for bad in ["network_changed", "neighbor_down", "offline", "member_down", "member_changed"] {
                assert_ne!(seen.event["event"], bad, "{}", seen.event);
            }
        }
    }
}

#[test]
fn a_node_keeps_its_place_when_its_machine_gets_another_address() {
    let cable = match Cable::new() {
        Ok(cable) => cable,
        Err(why) => return skip("a_node_keeps_its_place_when_its_machine_gets_another_address", &why),
    };
    let place = Place::new();
    let [mut ann, mut bob, mut cleo] = linked(&cable, &place);
    std::thread::sleep(SETTLED);
    let marks = [&ann, &bob, &cleo].map(Proc::mark);
    let started = std::time::Instant::now();
    cable.ip(1, &["address", "del", "10.77.0.2/24", "dev", "cable"]);
    cable.ip(1, &["address", "add", "10.77.0.3/24", "dev", "cable"]);
    cable.ip(1, &["route", "replace", "default", "dev", "cable"]);
    let changed = bob.wait_from(marks[1], "network_changed", NOTICED, |event| {
        event["addrs"].to_string().contains("10.77.0.3")
    });
    timing("a new address is noticed", NOTICED, changed.at - started);

    publish(&mut bob, "from the new address");
    publish(&mut ann, "to the new address");
    let mut latest = started;
    for (node, mark, text) in [
        (&ann, marks[0], "from the new address"),
        (&cleo, marks[2], "from the new address"),
        (&bob, marks[1], "to the new address"),
    ] {
        latest = latest.max(node.wait_from(mark, "message", MOVED, |event| event["payload"] == text).at);
    }
    timing("messages pass after an address changed", MOVED, latest - started);
    // The one that dialed him has a link again long before the old one is seen to be dead.
    let (id, friend) = (bob.id(), cleo.id());
    let linked = bob.wait_from(marks[1], "neighbor_up", REPLACED, |event| event["node"] == json!(friend));
    timing("a link that cannot follow is replaced", REPLACED, linked.at - changed.at);
    cleo.send(&json!({ "cmd": "direct", "to": id, "payload": "just you", "ref": "direct" }));
    cleo.wait_from(marks[2], "direct_sent", REPLACED, |event| event["ref"] == "direct");
    for seen in &cleo.events()[marks[2]..] {
        let lost = seen.event["event"] == "neighbor_down" && seen.event["node"] == json!(id);
        assert!(!lost, "a neighbor all along: {}", seen.event);
    }
    // The others are told where it is now.
    let told =
        |member: &Value| member["node"] == json!(id) && member["addrs"].to_string().contains("10.77.0.3");
    while !ann.members().iter().any(told) {
        assert!(started.elapsed() < MOVED * 5, "{:?}", ann.members());
        std::thread::sleep(Duration::from_millis(50));
    }
    timing("others know the new address", MOVED, started.elapsed());
    for node in [&mut ann, &mut bob, &mut cleo] {
        node.wait_neighbors(2, MOVED * 2);
    }
    for (node, mark) in [&ann, &bob, &cleo].into_iter().zip(marks) {
        for seen in &node.events()[mark..] {
            assert_ne!(seen.event["event"], "offline", "{}", seen.event);
            assert_ne!(seen.event["event"], "member_down", "{}", seen.event);
        }
    }
}
