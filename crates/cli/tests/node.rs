//! `node --json` among real processes: what its commands do.

#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests.

mod common;

use std::time::Duration;

use common::{ONLINE, Place, Proc};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(2);

/// Two nodes that are linked.
fn pair(place: &Place) -> (Proc, Proc) {
    let ann = place.node("ann", &[]);
    let bob = place.node("bob", &[&ann.addr()]);
    ann.wait("online", ONLINE);
    bob.wait("online", ONLINE);
    (ann, bob)
}

fn publish(node: &mut Proc, channel: &str, payload: &str) {
    node.send(&json!({ "cmd": "publish", "channel": channel, "payload": payload }));
}

/// The payloads of the messages it got, once `last` is among them.
fn payloads(node: &Proc, last: &str) -> Vec<Value> {
    node.wait_from(0, "message", SOON, |event| event["payload"] == json!(last));
    node.all("message").into_iter().map(|message| message["payload"].clone()).collect()
}

#[test]
fn the_first_subscribe_replaces_all_and_a_star_is_all_again() {
    let place = Place::new();
    let (mut ann, mut bob) = pair(&place);
    publish(&mut ann, "a", "1");
    bob.wait_from(0, "message", SOON, |event| event["payload"] == "1");
    bob.send(&json!({ "cmd": "subscribe", "channel": "b" }));
    bob.stats();
    publish(&mut ann, "a", "2");
    publish(&mut ann, "b", "3");
    bob.wait_from(0, "message", SOON, |event| event["payload"] == "3");
    bob.send(&json!({ "cmd": "subscribe", "channel": "a" }));
    bob.send(&json!({ "cmd": "unsubscribe", "channel": "b" }));
    bob.stats();
    publish(&mut ann, "b", "4");
    publish(&mut ann, "a", "5");
    bob.wait_from(0, "message", SOON, |event| event["payload"] == "5");
    bob.send(&json!({ "cmd": "subscribe", "channel": "*" }));
    bob.stats();
    publish(&mut ann, "c", "6");
    assert_eq!(payloads(&bob, "6"), ["1", "3", "5", "6"]);
    bob.send(&json!({ "cmd": "unsubscribe", "channel": "never", "ref": 1 }));
    bob.stats();
    publish(&mut ann, "never", "7");
    publish(&mut ann, "c", "8");
    assert!(!payloads(&bob, "8").contains(&json!("7")));
}

#[test]
fn a_filter_bars_what_it_is_told_to_bar() {
    let place = Place::new();
    let (mut ann, mut bob) = pair(&place);
    bob.send(&json!({ "cmd": "filter", "channel": "c", "verdict": "remote", "contains": "secret" }));
    bob.stats();
    publish(&mut ann, "c", "a secret");
    publish(&mut ann, "c", "no more");
    assert_eq!(payloads(&bob, "no more"), ["no more"]);
    assert_eq!(bob.all("gap"), Vec::<Value>::new(), "its own filter is no loss");
}

#[test]
fn a_local_message_goes_no_further_than_told() {
    let place = Place::new();
    let (mut ann, bob) = pair(&place);
    ann.send(&json!({ "cmd": "publish", "channel": "c", "payload": "near", "hops": 1, "ref": "r" }));
    let message = bob.wait("message", SOON).event;
    assert_eq!((&message["lane"], &message["hops_left"]), (&json!("local"), &json!(0)));
    ann.send(&json!({ "cmd": "publish", "channel": "c", "payload": "here", "hops": 0 }));
    ann.send(&json!({ "cmd": "publish", "channel": "c", "payload": "now", "volatile": true }));
    let message = bob.wait_from(0, "message", SOON, |event| event["payload"] == "now").event;
    assert_eq!(message["lane"], "volatile");
    assert_eq!(payloads(&bob, "now"), ["near", "now"]);
    let large = "x".repeat(5000);
    let command = json!({ "cmd": "publish", "channel": "c", "payload": large, "volatile": true, "ref": "v" });
    ann.send(&command);
    let error = ann.wait_from(0, "error", SOON, |event| event["ref"] == "v").event;
    assert_eq!(error["error"], "too_large", "{error}");
}

/// With a `ref` every command is answered, and an error says why in a word.
#[test]
fn every_command_with_a_reference_is_answered() {
    let place = Place::new();
    let mut ann = place.node("ann", &[]);
    let id = ann.id();
    let stranger = "ab".repeat(32);
    let ask = |node: &mut Proc, answer: &str, command: Value| {
        node.send(&command);
        node.wait_from(0, answer, SOON, |event| event["ref"] == command["ref"]).event
    };
    let ok = |node: &mut Proc, command: Value| {
        assert_eq!(ask(node, "ok", command.clone())["cmd"], command["cmd"]);
    };
    ok(&mut ann, json!({ "cmd": "subscribe", "channel": "c", "ref": 1 }));
    ok(&mut ann, json!({ "cmd": "unsubscribe", "channel": "c", "ref": 2 }));
    ok(&mut ann, json!({ "cmd": "filter", "channel": "c", "verdict": "none", "contains": "spam", "ref": 3 }));
    ok(&mut ann, json!({ "cmd": "refresh", "ref": 4 }));
    // Without one there is nothing to answer.
    ann.send(&json!({ "cmd": "subscribe", "channel": "d" }));
    ann.stats();
    assert_eq!(ann.all("ok").len(), 4);

    // What its own filter keeps is not on its way to anybody.
    let publish = |payload: &str, reference| json!({ "cmd": "publish", "channel": "c", "payload": payload, "ref": reference });
    let published = ask(&mut ann, "published", publish("spam", 5));
    assert_eq!(
        (&published["filtered"], &published["seq"], &published["held"]),
        (&json!(true), &json!(0), &json!(null))
    );
    let published = ask(&mut ann, "published", publish("eggs", 6));
    assert_eq!(
        (&published["filtered"], &published["seq"], &published["held"]),
        (&json!(null), &json!(1), &json!(true))
    );
    assert_eq!(published["lane"], "reliable");
    let mut volatile = publish("now", 7);
    volatile["volatile"] = json!(true);
    assert_eq!(ask(&mut ann, "published", volatile.clone())["lane"], "volatile");

    let why = |node: &mut Proc, command: Value, error: &str, reason: &str, part: &str| {
        let answer = ask(node, "error", command);
        assert_eq!((&answer["error"], &answer["reason"]), (&json!(error), &json!(reason)), "{answer}");
        assert!(answer["detail"].as_str().unwrap().contains(part), "{answer}");
    };
    volatile["payload"] = json!("x".repeat(900));
    volatile["ref"] = json!(8);
    why(&mut ann, volatile, "too_large", "too_large", "900 bytes, one of its kind may have 768: split it");
    let direct = |to: &str, payload: &str, reference| json!({ "cmd": "direct", "to": to, "payload": payload, "ref": reference });
    why(&mut ann, direct(&id, "me", 9), "direct", "oneself", "this node itself");
    why(&mut ann, direct(&stranger, "you", 10), "direct", "unknown_member", "no member with this id");
    why(&mut ann, direct(&stranger, &"x".repeat(40_000), 11), "direct", "too_large", "32768");
    let left = ask(&mut ann, "left", json!({ "cmd": "leave", "ref": 12 }));
    assert_eq!(left["event"], "left");
}

#[test]
fn a_direct_message_is_acknowledged_and_reaches_its_member_only() {
    let place = Place::new();
    let (mut ann, bob) = pair(&place);
    let cleo = place.node("cleo", &[&ann.addr()]);
    ann.wait_from(0, "member_up", ONLINE, |event| event["name"] == "cleo");
    let id = bob.id();
    ann.send(&json!({ "cmd": "direct", "to": id, "payload_base64": "/wD+", "ref": 9 }));
    let direct = bob.wait("direct", SOON).event;
    assert_eq!((&direct["from"], &direct["payload_base64"]), (&json!(ann.id()), &json!("/wD+")));
    let sent = ann.wait("direct_sent", SOON).event;
    assert_eq!((&sent["ref"], &sent["to"]), (&json!(9), &json!(id)));
    assert_eq!(cleo.all("direct"), Vec::<Value>::new());
}

#[test]
fn what_was_published_alone_arrives_with_the_first_link_and_leaving_says_goodbye() {
    let place = Place::new();
    let mut ann = place.node("ann", &[]);
    for number in 0..10 {
        publish(&mut ann, "c", &number.to_string());
    }
    ann.wait_from(0, "published", SOON, |event| event["seq"] == 10);
    let bob = place.node("bob", &[&ann.addr()]);
    let wanted: Vec<Value> = (0..10).map(|number| json!(number.to_string())).collect();
    bob.wait_from(0, "message", ONLINE, |event| event["payload"] == "9");
    assert_eq!(payloads(&bob, "9"), wanted);

    // Commands before `leave` are done before it.
    for number in 10..60 {
        publish(&mut ann, "c", &number.to_string());
    }
    ann.send(&json!({ "cmd": "leave" }));
    ann.wait("left", SOON);
    assert_eq!(ann.wait_end(SOON).0.code(), Some(0));
    assert_eq!(payloads(&bob, "59").len(), 60);
    let down = bob.wait("member_down", SOON).event;
    assert_eq!((&down["node"], &down["reason"]), (&json!(ann.id()), &json!("left")));
}

#[test]
fn a_slow_reader_is_told_what_it_missed() {
    let place = Place::new();
    let settings = place.secret("settings.toml", "[tuning]\nsubscription_items = 8\n");
    let mut ann = place.node("ann", &[]);
    let mut command = common::peerchannel(["node", "m", "--json", "--listen", "127.0.0.1:0", "--config"]);
    command.arg(settings).arg("--resolver").arg(format!("static:{}", ann.addr()));
    command.arg("--password-file").arg(place.path("password"));
    let mut slow = Proc::start_unread("slow", command);
    ann.wait("online", ONLINE);
    // More than the pipe and the output queue hold (8 MiB) while nobody reads.
    let payload = "x".repeat(256 << 10);
    for number in 1..=80 {
        ann.send(&json!({ "cmd": "publish", "channel": "c", "payload": payload, "ref": number }));
    }
    ann.wait_from(0, "published", Duration::from_secs(20), |event| event["ref"] == 80);
    std::thread::sleep(Duration::from_secs(3));
    slow.read();
    let missed =
        slow.wait_from(0, "lagged", Duration::from_secs(10), |event| event["what"] == "messages").event;
    slow.wait_from(0, "message", Duration::from_secs(10), |event| event["seq"] == 80);
    let came = slow.all("message").len() as u64;
    let missed: u64 = slow
        .all("lagged")
        .iter()
        .filter_map(|event| event["missed"].as_u64())
        .sum::<u64>()
        .max(missed["missed"].as_u64().unwrap());
    assert_eq!(came + missed, 80, "each of them came or is counted");
}

#[test]
fn what_nobody_acknowledged_is_named_at_the_end() {
    let place = Place::new();
    let mut alone = place.node("alone", &[]);
    alone.wait("listening", ONLINE);
    for text in ["one", "two"] {
        alone.send(&json!({ "cmd": "publish", "channel": "c", "payload": text }));
    }
    let published = alone.wait_from(0, "published", ONLINE, |event| event["seq"] == 2).event;
    assert_eq!(published["held"], true, "{published}");
    alone.send(&json!({ "cmd": "leave" }));
    assert_eq!(alone.wait_end(ONLINE).0.code(), Some(1));
    let lost = alone.wait("uncommitted", ONLINE).event;
    assert_eq!(
        (&lost["channel"], &lost["epoch"], &lost["first"], &lost["last"]),
        (&json!("c"), &published["epoch"], &json!(1), &json!(2))
    );
}

#[test]
fn what_a_node_says_of_itself_and_its_breaks_are_told() {
    let place = Place::new();
    let (mut ann, mut bob) = pair(&place);
    bob.wait("members_known", SOON);
    ann.send(&json!({ "cmd": "metadata", "payload": "away: lunch", "ref": 1 }));
    assert_eq!(ann.wait("metadata_set", SOON).event["ref"], 1);
    let changed = bob.wait("member_changed", SOON).event;
    assert_eq!((&changed["node"], &changed["metadata"]), (&json!(ann.id()), &json!("away: lunch")));
    let members = bob.members();
    assert!(members.iter().any(|member| member["metadata"] == "away: lunch"), "{members:?}");
    ann.send(&json!({ "cmd": "metadata", "payload": "x".repeat(513), "ref": 2 }));
    assert_eq!(ann.wait_from(0, "error", SOON, |event| event["ref"] == 2).event["error"], "too_large");

    ann.send(&json!({ "cmd": "suspend", "ref": 3 }));
    ann.wait_from(0, "suspended", SOON, |event| event["ref"] == 3);
    let id = ann.id();
    bob.wait_from(0, "member_changed", SOON, |event| event["node"] == id && event["suspended"] == true);
    publish(&mut bob, "c", "in the break");
    ann.send(&json!({ "cmd": "resume", "ref": 4 }));
    ann.wait_from(0, "resumed", SOON, |event| event["ref"] == 4);
    ann.wait_from(0, "message", ONLINE, |event| event["payload"] == "in the break");
    assert_eq!(bob.all("member_down"), Vec::<Value>::new(), "a break is no failure");
}
