//! The commands for people, as real processes.

#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests.

mod common;

use std::process::Command;
use std::time::Duration;

use common::{ONLINE, Place, Proc, peerchannel, run, timing};
use serde_json::{Value, json};

/// A command with a mesh's password and a node to find.
fn at(place: &Place, address: &str, args: &[&str]) -> Command {
    let mut command = peerchannel(args);
    command.args(["--listen", "127.0.0.1:0", "--resolver", &format!("static:{address}"), "--password-file"]);
    command.arg(place.path("password"));
    command
}

#[test]
fn publish_ends_well_when_everything_is_acknowledged() {
    let place = Place::new();
    let ann = place.node("ann", &[]);
    let publish = at(&place, &ann.addr(), &["publish", "m", "--channel", "c"]);
    let ran = run(publish, "one\n\ntwo\r\nthree", ONLINE);
    ran.expect(0, &[]);
    assert_eq!(ran.stdout, "published 4 messages: all acknowledged by a neighbor\n");
    let last = ann.wait_from(0, "message", ONLINE, |event| event["payload"] == "three").event;
    assert_eq!((&last["seq"], &last["channel"]), (&json!(4), &json!("c")));

    // A file is one message, lines and all.
    let file = place.secret("file", "a\nb\n");
    let mut publish = at(&place, &ann.addr(), &["publish", "m", "--channel", "c"]);
    publish.arg("--file").arg(file);
    run(publish, "", ONLINE).expect(0, &[]);
    ann.wait_from(0, "message", ONLINE, |event| event["payload"] == "a\nb\n");

    let near = at(&place, &ann.addr(), &["publish", "m", "--channel", "near", "--hops", "1"]);
    run(near, "close by", ONLINE).expect(0, &[]);
    let local = ann.wait_from(0, "message", ONLINE, |event| event["payload"] == "close by").event;
    assert_eq!(local["lane"], "local");
}

#[test]
fn publish_names_what_nobody_took() {
    let place = Place::new();
    let alone = at(&place, "127.0.0.1:9", &["publish", "m", "--channel", "c", "--timeout", "2s"]);
    let ran = run(alone, "one\ntwo\n", ONLINE);
    ran.expect(1, &["within 2s", "2 of 2", "message 1: not acknowledged", "message 2"]);
    assert_eq!(ran.stdout, "");

    // One that is too large is named; the others are published.
    let ann = place.node("ann", &[]);
    let publish = at(&place, &ann.addr(), &["publish", "m", "--channel", "c"]);
    let text = format!("fits\n{}\nfits too\n", "x".repeat((1 << 20) + 1));
    run(publish, &text, ONLINE).expect(1, &["1 of 3", "message 2", "1048576"]);
    ann.wait_from(0, "message", ONLINE, |event| event["payload"] == "fits too");

    let bad = at(&place, &ann.addr(), &["publish", "m", "--channel", ""]);
    run(bad, "", ONLINE).expect(2, &["--channel \"\""]);
    let all = at(&place, &ann.addr(), &["publish", "m", "--channel", "*"]);
    run(all, "", ONLINE).expect(2, &["* means all channels"]);
}

#[test]
fn subscribe_prints_and_counts() {
    let place = Place::new();
    let mut ann = place.node("ann", &[]);
    let address = ann.addr();
    let subscribe =
        at(&place, &address, &["subscribe", "m", "--channel", "c", "--count", "2", "--timeout", "60s"]);
    let reader = std::thread::spawn(move || run(subscribe, "", Duration::from_secs(60)));
    ann.wait("online", ONLINE);
    for payload in ["first \u{1b}[2J", "second", "third"] {
        ann.send(&json!({ "cmd": "publish", "channel": "other", "payload": "not this" }));
        ann.send(&json!({ "cmd": "publish", "channel": "c", "payload": payload }));
    }
    let ran = reader.join().unwrap();
    ran.expect(0, &[]);
    assert_eq!(ran.stdout, "ann: first \\u{1b}[2J\nann: second\n");

    let short =
        at(&place, &address, &["subscribe", "m", "--channel", "d", "--count", "1", "--timeout", "300ms"]);
    run(short, "", ONLINE).expect(1, &["0 of 1 messages"]);
    let open_end =
        at(&place, &address, &["subscribe", "m", "--channel", "*", "--timeout", "300ms", "--json"]);
    run(open_end, "", ONLINE).expect(0, &[]);
}

#[test]
fn members_status_and_invite_look_into_a_mesh() {
    let place = Place::new();
    let ann = place.node("ann", &[]);
    let address = ann.addr();
    let members = run(at(&place, &address, &["members", "m"]), "", ONLINE);
    members.expect(0, &[]);
    assert!(members.stdout.contains("ann") && members.stdout.contains(&address), "{members:?}");
    let members = run(at(&place, &address, &["members", "m", "--json"]), "", ONLINE);
    let members: Value = serde_json::from_str(&members.stdout).unwrap();
    assert_eq!(members["members"].as_array().unwrap().iter().filter(|m| m["name"] == "ann").count(), 1);

    let status = run(at(&place, &address, &["status", "m"]), "", ONLINE);
    status.expect(0, &[]);
    assert!(status.stdout.contains("online      yes"), "{status:?}");
    let status = run(at(&place, &address, &["status", "m", "--json"]), "", ONLINE);
    let status: Value = serde_json::from_str(&status.stdout).unwrap();
    assert_eq!((&status["online"], &status["neighbors"][0]["addr"]), (&json!(true), &json!(address)));

    // The ticket leads others there, and says nothing about the password.
    let invite = run(at(&place, &address, &["invite", "m", "--lifetime", "1h"]), "", ONLINE);
    invite.expect(0, &[]);
    let ticket = invite.stdout.trim();
    let guest = place.node_at("guest", &["--resolver", &format!("ticket:{ticket}")]);
    guest.wait("online", ONLINE);
    let mut other = peerchannel(["node", "another", "--json", "--open", "--resolver"]);
    other.arg(format!("ticket:{ticket}"));
    run(other, "", ONLINE).expect(2, &["ticket is for the mesh", "another"]);

    let nobody = at(&place, "127.0.0.1:9", &["members", "m", "--timeout", "300ms"]);
    run(nobody, "", ONLINE).expect(1, &["nobody", "\"m\"", "doctor"]);
}

#[test]
fn a_piped_chat_talks_and_waits_until_it_was_heard() {
    let place = Place::new();
    let mut ann = place.node("ann", &[]);
    let address = ann.addr();
    let chat = at(&place, &address, &["chat", "m", "--name", "bob"]);
    let ran = run(chat, "hello\n//slash\n/help\n", ONLINE);
    ran.expect(0, &[]);
    assert!(ran.stdout.contains("/members"), "{ran:?}");
    for payload in ["hello", "/slash"] {
        let message = ann.wait_from(0, "message", ONLINE, |event| event["payload"] == payload).event;
        assert_eq!((&message["name"], &message["channel"]), (&json!("bob"), &json!("chat")));
    }

    let mut chat = Proc::start_unread("cleo", at(&place, &address, &["chat", "m", "--name", "cleo"]));
    chat.expect_text();
    chat.read();
    ann.wait_from(0, "member_up", ONLINE, |event| event["name"] == "cleo");
    ann.send(&json!({ "cmd": "publish", "channel": "chat", "payload": "hi cleo" }));
    chat.wait_from(0, "NOT JSON", ONLINE, |event| event["line"] == "ann: hi cleo");
    chat.send_line("/msg ann psst");
    ann.wait_from(0, "direct", ONLINE, |event| event["payload"] == "psst" && event["name"] == "cleo");
    chat.send_line("/quit");
    assert_eq!(chat.wait_end(ONLINE).0.code(), Some(0));
    ann.wait_from(0, "member_down", ONLINE, |event| event["name"] == "cleo" && event["reason"] == "left");
}

#[test]
fn doctor_examines_the_machine_and_a_mesh() {
    let place = Place::new();
    let ann = place.node("ann", &[]);
    let well = run(at(&place, &ann.addr(), &["doctor", "m"]), "", ONLINE);
    well.expect(0, &[]);
    for part in ["sockets", "clock", "admitted this node"] {
        assert!(well.stdout.contains(part), "{part} is missing: {well:?}");
    }
    assert!(!well.stdout.contains("FAIL"), "{well:?}");

    place.secret("password", "copper lantern misty walnut fable drum");
    let refused = run(at(&place, &ann.addr(), &["doctor", "m"]), "", ONLINE);
    refused.expect(1, &["1 check failed"]);
    assert!(refused.stdout.contains("FAIL") && refused.stdout.contains("bad credential"), "{refused:?}");
}

#[test]
fn a_wrong_password_ends_a_command_at_once() {
    let place = Place::new();
    let ann = place.node("ann", &[]);
    let address = ann.addr();
    place.secret("password", "copper lantern misty walnut fable drum");
    for args in [
        &["members", "m", "--timeout", "60s"][..],
        &["publish", "m", "--channel", "c", "--timeout", "60s"],
        &["subscribe", "m", "--channel", "c"],
    ] {
        let ran = run(at(&place, &address, args), "x\n", ONLINE);
        ran.expect(1, &["bad credential", "your password is not the one of this mesh"]);
    }
}

#[test]
fn subscribe_ends_with_its_reader() {
    let place = Place::new();
    let mut subscribe =
        Proc::start_unread("quiet", at(&place, "127.0.0.1:9", &["subscribe", "m", "--channel", "c"]));
    subscribe.close_stdout();
    assert_eq!(subscribe.wait_end(ONLINE).0.code(), Some(0));
}

#[test]
fn the_demo_checks_itself() {
    const DEMO: Duration = Duration::from_secs(30);
    let ran = run(peerchannel(["demo", "--nodes", "4", "--messages", "50"]), "", DEMO);
    ran.expect(0, &[]);
    timing("demo of 4 nodes", DEMO, ran.took);
    // 4 members x (20 calm + 50 busy) messages x 3 others.
    assert!(ran.stdout.contains("delivered  840, each checked"), "{}", ran.stdout);
    assert!(ran.stdout.contains("exactly once and in order"), "{}", ran.stdout);
    run(peerchannel(["demo", "--nodes", "1"]), "", DEMO).expect(2, &["--nodes", "2..=32"]);
}
