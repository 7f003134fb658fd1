//! Real processes whose mesh is cut in two, or who do not run for a while.
//!
//! Both tests wait for a minute, and run beside each other.

#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests.

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use common::relay::Relay;
use common::{ONLINE, Place, Proc, complete, timing};
use serde_json::{Value, json};

/// How long the network is cut, and a node is stopped.
const AWAY: Duration = Duration::from_secs(60);

/// Two halves are one mesh again this soon after the network is.
const MERGED: Duration = Duration::from_secs(30);

/// A neighbor that is gone is known to all within this time.
const KNOWN_FAILED: Duration = Duration::from_secs(15);

/// A node that was stopped is back this soon.
const BACK: Duration = Duration::from_secs(5);

/// Messages for which nobody has room any more, or that nobody will ever send again, are
/// reported within this time.
const RECOVERED: Duration = Duration::from_secs(35);

const HALF: usize = 6;
const NODES: usize = 2 * HALF;

fn publish(node: &mut Proc, text: &str) {
    node.send(&json!({ "cmd": "publish", "channel": "c", "payload": text, "ref": text }));
}

/// The ids of the members that are there, as a node sees it; itself included.
fn alive(node: &mut Proc) -> BTreeSet<String> {
    let members = node.members();
    let alive = members.iter().filter(|member| member["status"] == "alive");
    alive.map(|member| member["node"].as_str().unwrap().to_owned()).collect()
}

/// Waits until every node sees these members and no others.
fn wait_alive(nodes: &mut [Proc], expected: &BTreeSet<String>, promised: Duration, what: &str) {
    let started = Instant::now();
    for node in nodes {
        loop {
            let seen = alive(node);
            if seen == *expected {
                break;
            }
            assert!(
                started.elapsed() < promised * 5,
                "{what}: {} sees {} of {} members",
                node.id(),
                seen.len(),
                expected.len()
            );
            std::thread::sleep(Duration::from_millis(100));
        }
    }
    timing(what, promised, started.elapsed());
}

/// What a node got of each stream: every number once and in order, with gaps only where it was
/// told of them. The last number of each.
fn streams(node: &Proc) -> BTreeMap<(String, u64), u64> {
    let mut next: BTreeMap<(String, u64), u64> = BTreeMap::new();
    for seen in node.events() {
        let event = &seen.event;
        let (first, last) = match event["event"].as_str() {
            Some("message") => (&event["seq"], &event["seq"]),
            Some("gap") => (&event["first"], &event["last"]),
            _ => continue,
        };
        let key = (event["from"].as_str().unwrap().to_owned(), event["epoch"].as_u64().unwrap());
        let (first, last) = (first.as_u64().unwrap(), last.as_u64().unwrap());
        if let Some(before) = next.insert(key, last) {
            assert_eq!(first, before + 1, "twice, out of order, or lost without a word: {event}");
        }
    }
    next
}

/// Waits until a node got, or was told that it will not get, all of an origin up to a number.
fn wait_through(node: &Proc, origin: &str, last: u64, promised: Duration) -> Instant {
    node.wait_until(&format!("{origin} through {last}"), promised, |events| {
        events.iter().find_map(|seen| {
            let event = &seen.event;
            let through = match event["event"].as_str()? {
                "message" => &event["seq"],
                "gap" => &event["last"],
                _ => return None,
            };
            (event["from"] == *origin && through.as_u64()? >= last).then_some(seen.at)
        })
    })
}

/// The number under which a message was accepted.
fn number(node: &Proc, text: &str) -> u64 {
    node.wait_from(0, "published", ONLINE, |event| event["ref"] == text).event["seq"].as_u64().unwrap()
}

#[test]
fn two_halves_that_were_cut_apart_are_one_mesh_again_within_thirty_seconds() {
    let place = Place::new();
    let sides: Vec<usize> = (0..NODES).map(|index| index / HALF).collect();
    let relay = Relay::new(&sides);
    let mut nodes = Vec::<Proc>::new();
    for index in 0..NODES {
        // A node knows one of its own half; only the first of the second knows the other half.
        let known = if index == HALF { 0 } else { index / HALF * HALF };
        let resolver = format!("static:{}", relay.address(known));
        let advertise = relay.address(index);
        let node = place.node_at(&format!("n{index}"), &["--resolver", &resolver, "--advertise", &advertise]);
        relay.attach(index, &node.addr());
        nodes.push(node);
    }
    let ids: Vec<String> = nodes.iter().map(Proc::id).collect();
    let everybody: BTreeSet<String> = ids.iter().cloned().collect();
    wait_alive(&mut nodes, &everybody, ONLINE, "twelve processes know each other");
    for node in &mut nodes {
        publish(node, "before");
    }
    for node in &nodes {
        for id in ids.iter().filter(|id| **id != node.id()) {
            wait_through(node, id, 1, ONLINE);
        }
    }

    relay.cut(true);
    let cut_at = Instant::now();
    for (half, side) in nodes.chunks_mut(HALF).zip([0, HALF]) {
        let here: BTreeSet<String> = ids[side..side + HALF].iter().cloned().collect();
        wait_alive(half, &here, KNOWN_FAILED, "the other half is known to have failed");
    }
    // Both halves go on by themselves.
    for node in &mut nodes {
        publish(node, "apart 1");
        publish(node, "apart 2");
    }
    for (index, node) in nodes.iter().enumerate() {
        let side = index / HALF * HALF;
        for id in ids[side..side + HALF].iter().filter(|id| **id != node.id()) {
            wait_through(node, id, 3, ONLINE);
        }
    }
    std::thread::sleep(AWAY.saturating_sub(cut_at.elapsed()));

    relay.cut(false);
    let healed = Instant::now();
    wait_alive(&mut nodes, &everybody, MERGED, "cut halves know each other again");
    for node in &mut nodes {
        publish(node, "after");
    }
    let mut latest = healed;
    for node in &nodes {
        for (id, origin) in ids.iter().zip(&nodes).filter(|(id, _)| **id != node.id()) {
            latest = latest.max(wait_through(node, id, number(origin, "after"), RECOVERED));
        }
    }
    timing("messages of both halves are everywhere", MERGED, latest - healed);
    for node in &nodes {
        let streams = streams(node);
        assert_eq!(streams.len(), NODES - 1, "{streams:?}");
        assert!(streams.values().all(|last| *last == 4), "{streams:?}");
    }
}

#[cfg(unix)]
#[test]
fn a_node_that_was_stopped_for_a_minute_is_back_within_five_seconds() {
    let place = Place::new();
    let (mut nodes, mut addresses) = (Vec::<Proc>::new(), Vec::<String>::new());
    for index in 0..5 {
        let known: Vec<&str> = addresses.iter().map(String::as_str).collect();
        let node = place.node(&format!("n{index}"), &known);
        addresses.push(node.addr());
        nodes.push(node);
    }
    complete(&mut nodes);
    let ids: Vec<String> = nodes.iter().map(Proc::id).collect();
    let everybody: BTreeSet<String> = ids.iter().cloned().collect();
    wait_alive(&mut nodes, &everybody, ONLINE, "five processes know each other");
    // The third knows nobody by itself but the first two: it must find the others by itself.
    let sleeper = 2;
    publish(&mut nodes[sleeper], "before");
    publish(&mut nodes[0], "before");
    wait_through(&nodes[sleeper], &ids[0], 1, ONLINE);

    let stopped = Instant::now();
    nodes[sleeper].signal("STOP");
    let awake: BTreeSet<String> = everybody.iter().filter(|id| **id != ids[sleeper]).cloned().collect();
    let mut others: Vec<&mut Proc> = Vec::new();
    for (index, node) in nodes.iter_mut().enumerate() {
        if index != sleeper {
            others.push(node);
        }
    }
    for node in others {
        wait_alive(
            std::slice::from_mut(node),
            &awake,
            KNOWN_FAILED,
            "a stopped node is known to have failed",
        );
    }
    for text in 0..20 {
        publish(&mut nodes[0], &format!("asleep {text}"));
        publish(&mut nodes[4], &format!("asleep {text}"));
    }
    std::thread::sleep(AWAY.saturating_sub(stopped.elapsed()));

    let mark = nodes[sleeper].mark();
    let marks: Vec<usize> = nodes.iter().map(Proc::mark).collect();
    nodes[sleeper].signal("CONT");
    let woken = Instant::now();
    let paused = nodes[sleeper].wait_from(mark, "paused", BACK, |_| true).event;
    assert!(paused["lasted_ms"].as_u64().unwrap() > 40_000, "{paused}");
    for (index, node) in nodes.iter().enumerate().filter(|(index, _)| *index != sleeper) {
        node.wait_from(marks[index], "member_up", BACK, |event| event["node"] == json!(ids[sleeper]));
    }
    publish(&mut nodes[sleeper], "awake");
    publish(&mut nodes[0], "awake");
    let through = number(&nodes[0], "awake");
    let mut back = wait_through(&nodes[sleeper], &ids[0], through, BACK);
    back = back.max(wait_through(&nodes[sleeper], &ids[4], 20, BACK));
    for (_, node) in nodes.iter().enumerate().filter(|(index, _)| *index != sleeper) {
        back = back.max(wait_through(node, &ids[sleeper], 2, BACK));
    }
    timing("a node stopped for a minute is back", BACK, back - woken);
    wait_alive(&mut nodes, &everybody, BACK, "all know that it is back");
    for node in &nodes {
        streams(node);
        let texts: Vec<Value> = node.all("gap");
        assert!(texts.is_empty(), "nothing was dropped meanwhile: {texts:?}");
    }
}
