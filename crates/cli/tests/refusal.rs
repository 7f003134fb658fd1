//! A node with another password: refused with a reason on both sides, and told nothing.

#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests.

mod common;

use std::time::Duration;

use common::{ONLINE, Place, timing};
use serde_json::{Value, json};

/// Both sides know within this time (issue: "refused with a typed reason within 2 s").
const REFUSED: Duration = Duration::from_secs(2);

#[test]
fn a_wrong_password_is_refused_on_both_sides_and_learns_nothing() {
    let place = Place::new();
    let mut ann = place.node("ann", &[]);
    let at = ann.addr();
    let bob = place.node("bob", &[&at]);
    bob.wait("online", ONLINE);
    let wrong = place.secret("wrong", "copper lantern misty walnut fable drum");

    // A second credential would be a usage fault, so the whole command is written here.
    let mut command = common::peerchannel(["node", "m", "--json", "--listen", "127.0.0.1:0", "--resolver"]);
    command.arg(format!("static:{at}")).arg("--password-file").arg(wrong);
    let mut intruder = common::Proc::start("intruder", command);
    let listening = intruder.wait("listening", ONLINE);
    let refused = intruder.wait("refused", REFUSED);
    timing("wrong password: the intruder knows", REFUSED, refused.at - listening.at);
    assert_eq!((&refused.event["reason"], &refused.event["addr"]), (&json!("bad_credential"), &json!(at)));

    let id = intruder.id();
    let turned_away = ann.wait_from(0, "refused", REFUSED, |event| event["inbound"] == true);
    timing(
        "wrong password: the member knows",
        REFUSED,
        turned_away.at.saturating_duration_since(listening.at),
    );
    assert_eq!(
        (&turned_away.event["reason"], &turned_away.event["node"]),
        (&json!("bad_credential"), &json!(id))
    );

    // The mesh goes on, and the intruder hears nothing of it.
    ann.send(&json!({ "cmd": "publish", "channel": "c", "payload": "among us" }));
    bob.wait_from(0, "message", REFUSED, |event| event["payload"] == "among us");
    std::thread::sleep(Duration::from_secs(1));
    for kind in ["online", "neighbor_up", "member_up", "message"] {
        assert_eq!(intruder.all(kind), Vec::<Value>::new());
    }
    let stats = intruder.stats();
    for counter in ["neighbors", "bytes_in", "payload_bytes_in", "delivered"] {
        assert_eq!(stats[counter], 0, "{counter}: {stats}");
    }
    assert!(!ann.all("member_up").iter().any(|event| event["node"] == json!(id)));
}

/// A chat with nothing to say does not end as if it had been let in.
#[test]
fn a_silent_chat_with_a_wrong_password_fails() {
    let place = Place::new();
    let ann = place.node("ann", &[]);
    let wrong = place.secret("wrong", "copper lantern misty walnut fable drum");
    let mut chat = common::peerchannel(["chat", "m", "--listen", "127.0.0.1:0", "--resolver"]);
    chat.arg(format!("static:{}", ann.addr())).arg("--password-file").arg(wrong);
    common::run(chat, "", ONLINE).expect(1, &["your password is not the one of this mesh"]);
}
