//! Five real processes publish at once: everybody gets everything, once and in order.

#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests.

mod common;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::time::{Duration, Instant};

use common::{Place, Proc, complete, timing};
use serde_json::{Value, json};

const NODES: usize = 5;
const MESSAGES: usize = 1000;
const BYTES: usize = 1024;

/// What a debug build on two cores is given for 20,000 signed deliveries (a guess).
const ALL_DELIVERED: Duration = Duration::from_secs(30);

/// The payload of a message: its number, and enough text to be of the size wanted.
fn payload(author: &str, number: usize) -> String {
    let mut text = format!("{author} {number} ");
    text.extend(std::iter::repeat_n('x', BYTES - text.len()));
    text
}

#[test]
fn five_processes_deliver_every_message_of_the_others_once_and_in_order() {
    let place = Place::new();
    let mut nodes: Vec<Proc> = Vec::new();
    let mut addresses: Vec<String> = Vec::new();
    for index in 0..NODES {
        let known: Vec<&str> = addresses.iter().map(String::as_str).collect();
        let node = place.node(&format!("n{index}"), &known);
        addresses.push(node.addr());
        nodes.push(node);
    }
    complete(&mut nodes);
    let ids: Vec<String> = nodes.iter().map(Proc::id).collect();

    // Two nodes that dialed each other at once have closed one of the two links by now.
    let formed: Vec<usize> = nodes.iter().map(Proc::mark).collect();
    let started = Instant::now();
    let mut inputs = Vec::new();
    std::thread::scope(|scope| {
        let writers: Vec<_> = nodes
            .iter_mut()
            .zip(&ids)
            .map(|(node, id)| {
                let mut stdin = node.take_stdin();
                scope.spawn(move || {
                    for number in 1..=MESSAGES {
                        let command =
                            json!({ "cmd": "publish", "channel": "c", "payload": payload(id, number), "ref": number });
                        stdin.write_all(format!("{command}\n").as_bytes()).unwrap();
                    }
                    stdin
                })
            })
            .collect();
        inputs.extend(writers.into_iter().map(|writer| writer.join().unwrap()));
    });
    let foreign = (NODES - 1) * MESSAGES;
    for node in &nodes {
        node.wait_until(&format!("{foreign} messages"), ALL_DELIVERED, |events| {
            (events.iter().filter(|seen| seen.event["event"] == "message").count() >= foreign).then_some(())
        });
    }
    timing("5 processes x 1000 messages of 1 KiB", ALL_DELIVERED, started.elapsed());

    // A duplicate that is still on its way must not escape.
    std::thread::sleep(Duration::from_millis(500));
    for (index, (node, mut stdin)) in nodes.iter().zip(inputs).enumerate() {
        check(node, index, &ids);
        let mut later = node.events().split_off(formed[index]);
        later.retain(|seen| seen.event["event"] != "message" && seen.event["event"] != "published");
        for trouble in ["offline", "neighbor_down"] {
            assert!(
                !later.iter().any(|seen| seen.event["event"] == trouble),
                "node {index}: {trouble}: {later:?}"
            );
        }
        let mark = node.mark();
        stdin.write_all(b"{\"cmd\":\"stats\"}\n").unwrap();
        let stats = node.wait_from(mark, "stats", Duration::from_secs(2), |_| true).event;
        assert_eq!((&stats["delivered"], &stats["gaps"]), (&json!(foreign), &json!(0)), "{stats}");
    }
}

/// Node `index` got exactly what the others published.
fn check(node: &Proc, index: usize, ids: &[String]) {
    let mut by_author: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for message in node.all("message") {
        by_author.entry(message["from"].as_str().unwrap().to_owned()).or_default().push(message);
    }
    for (other, id) in ids.iter().enumerate() {
        let Some(messages) = by_author.remove(id) else {
            assert_eq!(other, index, "node {index} has nothing of node {other}");
            continue;
        };
        assert_ne!(other, index, "own messages are not echoed");
        assert_eq!(messages.len(), MESSAGES, "node {index} from node {other}");
        for (number, message) in (1..).zip(&messages) {
            assert_eq!(message["seq"], number, "node {index} from node {other}: order");
            assert_eq!(
                message["payload"],
                json!(payload(id, number)),
                "node {index} from node {other}: content"
            );
        }
    }
    assert!(by_author.is_empty(), "messages of strangers: {:?}", by_author.keys());
    assert_eq!(node.all("published").len(), MESSAGES);
    for trouble in ["gap", "lagged", "error"] {
        assert_eq!(node.all(trouble), Vec::<Value>::new(), "node {index}");
    }
}
