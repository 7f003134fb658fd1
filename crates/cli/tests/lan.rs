//! Two processes with nothing but a name and a password find each other on a network.
//!
//! The network is made for the test: two namespaces joined by a cable (a veth pair), so that
//! nothing reaches the machine's real networks.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests.

mod common;

use std::time::Duration;

use common::cable::Cable;
use common::{Place, skip, timing};
use serde_json::json;

/// mDNS asks at once and again after one, two, four seconds (RFC 6762 section 5.2).
const FOUND: Duration = Duration::from_secs(10);

#[test]
fn a_name_and_a_password_are_enough_on_one_network() {
    let cable = match Cable::new() {
        Ok(cable) => cable,
        Err(why) => return skip("a_name_and_a_password_are_enough_on_one_network", &why),
    };
    let place = Place::new();
    let mut ann = cable.node(0, "ann", &place, &[]);
    ann.addr();
    let bob = cable.node(1, "bob", &place, &[]);
    let online = bob.wait("online", FOUND);
    timing("found on the LAN", FOUND, online.at - bob.started);
    ann.wait("online", FOUND);
    ann.send(&json!({ "cmd": "publish", "channel": "c", "payload": "over the cable" }));
    bob.wait_from(0, "message", Duration::from_secs(2), |event| event["payload"] == "over the cable");
}
