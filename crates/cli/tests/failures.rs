//! Crashes, restarts and goodbyes of real processes.

#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests.

mod common;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use common::{ONLINE, Place, Proc, complete, timing};
use serde_json::{Value, json};

/// A dead neighbor is noticed within this time.
const NOTICED: Duration = Duration::from_secs(10);

/// A restarted node is back within this time, its password stretched anew included.
const BACK: Duration = Duration::from_secs(5);

/// A message among neighbors that are well, on a busy machine.
const DELIVERED: Duration = Duration::from_secs(2);

struct Five {
    place: Place,
    nodes: Vec<Proc>,
    addresses: Vec<String>,
}

impl Five {
    fn start() -> Self {
        let place = Place::new();
        let (mut nodes, mut addresses) = (Vec::new(), Vec::<String>::new());
        for index in 0..5 {
            let known: Vec<&str> = addresses.iter().map(String::as_str).collect();
            let identity = place.path(&format!("n{index}.key"));
            let node =
                place.node_with(&format!("n{index}"), &known, &["--identity", identity.to_str().unwrap()]);
            addresses.push(node.addr());
            nodes.push(node);
        }
        complete(&mut nodes);
        Self { place, nodes, addresses }
    }

    /// Starts the last node again, at an address.
    fn restart(&mut self, listen: &str) {
        let known: Vec<&str> = self.addresses[..4].iter().map(String::as_str).collect();
        let identity = self.place.path("n4.key");
        let more = ["--identity", identity.to_str().unwrap(), "--listen", listen];
        self.nodes.push(self.place.node_with("n4", &known, &more));
    }

    /// One of the first four publishes, the other three receive.
    fn traffic(&mut self, text: &str) {
        let marks: Vec<usize> = self.nodes.iter().map(Proc::mark).collect();
        for number in 0..20 {
            let payload = format!("{text} {number}");
            self.nodes[0].send(&json!({ "cmd": "publish", "channel": "c", "payload": payload }));
        }
        let last = format!("{text} 19");
        for (node, mark) in self.nodes.iter().zip(marks).skip(1).take(3) {
            node.wait_from(mark, "message", DELIVERED, |event| event["payload"] == json!(last));
        }
    }

    /// The last node publishes, the others receive. Its epoch.
    fn speak(&mut self, text: &str) -> u64 {
        self.nodes[4].send(&json!({ "cmd": "publish", "channel": "c", "payload": text }));
        let mut epochs = BTreeSet::new();
        for node in &self.nodes[..4] {
            let seen = node.wait_from(0, "message", BACK, |event| event["payload"] == json!(text));
            epochs.insert(seen.event["epoch"].as_u64().unwrap());
        }
        assert_eq!(epochs.len(), 1, "{epochs:?}");
        epochs.pop_first().unwrap()
    }

    /// Nobody got anything twice, and nothing is missing.
    fn check(&self) {
        for node in &self.nodes {
            let mut seen = BTreeSet::new();
            for message in node.all("message") {
                let id = ["from", "epoch", "channel", "seq"].map(|field| message[field].to_string());
                assert!(seen.insert(id), "delivered twice: {message}");
            }
            let payloads: Vec<Value> =
                node.all("message").into_iter().map(|m| m["payload"].clone()).collect();
            let different: BTreeSet<String> = payloads.iter().map(Value::to_string).collect();
            assert_eq!(different.len(), payloads.len(), "something was delivered under two numbers");
            assert_eq!(node.all("gap"), Vec::<Value>::new());
        }
    }
}

#[test]
fn a_crashed_node_is_noticed_and_comes_back_at_its_port_and_at_a_new_one() {
    let mut five = Five::start();
    let id = five.nodes[4].id();
    let first_epoch = five.speak("before the crash");

    let marks: Vec<usize> = five.nodes.iter().map(Proc::mark).collect();
    let crashed = Instant::now();
    five.nodes.pop().unwrap().crash();
    five.traffic("right after the crash");
    for (node, mark) in five.nodes.iter().zip(&marks) {
        let down = node.wait_from(*mark, "neighbor_down", NOTICED, |event| event["node"] == json!(id));
        timing("crash noticed by a neighbor", NOTICED, down.at - crashed);
    }
    five.traffic("without the fifth");

    // The same identity at the same port.
    let marks: Vec<usize> = five.nodes.iter().map(Proc::mark).collect();
    let port = five.addresses[4].clone();
    five.restart(&port);
    back(&five, &id, &marks, "back at the same port");
    let second_epoch = five.speak("after the first restart");
    assert!(second_epoch > first_epoch, "{second_epoch} after {first_epoch}");

    // Again, at a new port and before anybody noticed.
    let marks: Vec<usize> = five.nodes.iter().map(Proc::mark).collect();
    five.nodes.pop().unwrap().crash();
    five.restart("127.0.0.1:0");
    back(&five, &id, &marks, "back at a new port");
    let third_epoch = five.speak("after the second restart");
    assert!(third_epoch > second_epoch, "{third_epoch} after {second_epoch}");

    five.traffic("with all five again");
    for node in &five.nodes[..4] {
        let offline = node.all("offline");
        assert_eq!(offline, Vec::<Value>::new());
    }
    five.check();
}

/// Waits until the restarted node is known to all under its new epoch and is online itself.
fn back(five: &Five, id: &str, marks: &[usize], name: &str) {
    let node = &five.nodes[4];
    assert_eq!(node.id(), id, "the identity is that of the file");
    let epoch = node.wait("listening", ONLINE).event["epoch"].clone();
    let online = node.wait("online", BACK);
    let mut latest = online.at;
    for (other, mark) in five.nodes.iter().zip(marks).take(4) {
        let up = other.wait_from(*mark, "member_up", BACK, |event| {
            event["node"] == json!(id) && event["epoch"] == epoch
        });
        latest = latest.max(up.at);
    }
    timing(name, BACK, latest - node.started);
}

#[cfg(unix)]
#[test]
fn sigterm_in_the_middle_of_traffic_says_goodbye_within_two_seconds() {
    use std::io::Write as _;

    const GOODBYE: Duration = Duration::from_secs(2);
    let place = Place::new();
    let ann = place.node("ann", &[]);
    let mut bob = place.node("bob", &[&ann.addr()]);
    bob.wait("online", ONLINE);
    let id = bob.id();
    let mut stdin = bob.take_stdin();
    let writer = std::thread::spawn(move || {
        // Ends when the process does.
        for number in 0..1_000_000 {
            let command = json!({ "cmd": "publish", "channel": "c", "payload": format!("{number}") });
            if stdin.write_all(format!("{command}\n").as_bytes()).is_err() {
                return;
            }
        }
    });
    ann.wait_from(0, "message", ONLINE, |event| event["seq"] == 100);

    bob.terminate();
    let (status, took) = bob.wait_end(GOODBYE);
    timing("SIGTERM in traffic", GOODBYE, took);
    assert_eq!(status.code(), Some(0), "{}", bob.stderr());
    writer.join().unwrap();
    let down = ann.wait_from(0, "member_down", GOODBYE, |event| event["node"] == json!(id));
    assert_eq!(down.event["reason"], "left");
    let sequences: Vec<u64> =
        ann.all("message").iter().map(|message| message["seq"].as_u64().unwrap()).collect();
    assert!(sequences.iter().copied().eq(1..=sequences.len() as u64), "in order, without holes");
}

#[cfg(unix)]
#[test]
fn sigterm_ends_a_node_whose_output_nobody_reads() {
    let place = Place::new();
    let mut ann = place.node("ann", &[]);
    let mut command = common::peerchannel(["node", "m", "--json", "--listen", "127.0.0.1:0", "--resolver"]);
    command.arg(format!("static:{}", ann.addr())).arg("--password-file").arg(place.path("password"));
    let mut unread = Proc::start_unread("unread", command);
    ann.wait("online", ONLINE);
    // More than pipe, output queue and subscription hold together: nothing may wait for it.
    let payload = "x".repeat(256 << 10);
    for number in 0..150 {
        ann.send(&json!({ "cmd": "publish", "channel": "c", "payload": payload, "ref": number }));
    }
    ann.wait_from(0, "published", Duration::from_secs(20), |event| event["ref"] == 149);
    let deadline = Instant::now() + Duration::from_secs(60);
    while ann.stats()["queue_bytes"] != 0 && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(100));
    }

    unread.terminate();
    let (status, took) = unread.wait_end(Duration::from_secs(2));
    timing("SIGTERM with blocked output", Duration::from_secs(2), took);
    assert_eq!(status.code(), Some(0), "{}", unread.stderr());
}
