//! Real processes that are stopped for less than the idle time-out, and keep their links.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests.

mod common;

use std::thread::sleep;
use std::time::Duration;

use common::{ONLINE, Proc, peerchannel};
use serde_json::{Value, json};

/// How long one node of each pair is stopped (docs/protocol.md section 1).
const STOPPED: Duration = Duration::from_secs(5);

/// Pairs, in half of which the node is stopped that dialed. They are linked one after the other,
/// so that each is stopped in another phase of its keep-alive, which decides how long the idle
/// timers of both ends still have.
const PAIRS: usize = 12;

/// New links are busy, and only those that are quiet are near the end of their idle timer.
const QUIET: Duration = Duration::from_millis(7500);

/// A lost link shows within this time: the idle timer of the other end has run out as well.
const SHOWN: Duration = Duration::from_secs(2);

fn node(name: &str, resolver: &str) -> Proc {
    let args = ["node", "pauses", "--json", "--open", "--listen", "127.0.0.1:0"];
    let more = ["--name", name, "--resolver", resolver];
    Proc::start(name, peerchannel([&args[..], &more].concat()))
}

/// Two linked nodes, of which one is stopped.
struct Pair {
    nodes: [Proc; 2],
    stops: usize,
    marks: [usize; 2],
}

#[test]
fn a_process_stopped_for_five_seconds_keeps_its_links_whenever_it_is_stopped() {
    let mut pairs = Vec::new();
    for pair in 0..PAIRS {
        let stops = pair % 2;
        let who = ["acceptor", "dialer"][stops];
        let acceptor = node(&format!("acceptor {pair}, {who} stops"), "static:127.0.0.1:9");
        let at = format!("static:{}", acceptor.addr());
        let mut dialer = node(&format!("dialer {pair}, {who} stops"), &at);
        dialer.wait_neighbors(1, ONLINE);
        pairs.push(Pair { nodes: [acceptor, dialer], stops, marks: [0; 2] });
    }
    sleep(QUIET);
    for pair in &mut pairs {
        pair.marks = [0, 1].map(|end| pair.nodes[end].mark());
        pair.nodes[pair.stops].signal("STOP");
    }
    sleep(STOPPED);
    for pair in &pairs {
        pair.nodes[pair.stops].signal("CONT");
    }
    sleep(SHOWN);
    let mut lost = Vec::new();
    for pair in &mut pairs {
        for (node, mark) in pair.nodes.iter().zip(pair.marks) {
            let shows = |event: &Value| {
                ["neighbor_down", "member_down", "offline"].iter().any(|kind| event["event"] == **kind)
            };
            lost.extend(node.events()[mark..].iter().map(|seen| seen.event.clone()).filter(shows));
        }
        for from in 0..2 {
            let mark = pair.nodes[1 - from].mark();
            pair.nodes[from].send(&json!({ "cmd": "publish", "channel": "c", "payload": "after" }));
            let came = |event: &Value| event["payload"] == "after";
            pair.nodes[1 - from].wait_from(mark, "message", ONLINE, came);
        }
    }
    assert!(lost.is_empty(), "of {PAIRS} links: {lost:#?}");
}
