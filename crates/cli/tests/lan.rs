//! Two processes with nothing but a name and a password find each other on a network.
//!
//! The network is made for the test: two namespaces joined by a cable (a veth pair), so that
//! nothing reaches the machine's real networks.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests.

mod common;

use std::process::Command;
use std::time::Duration;

use common::{Place, Proc, skip, timing};
use serde_json::json;

/// mDNS asks at once and again after one, two, four seconds (RFC 6762 section 5.2).
const FOUND: Duration = Duration::from_secs(10);

/// Two namespaces with a cable between them, removed at the end.
struct Cable {
    ends: [String; 2],
}

impl Cable {
    fn new() -> Result<Self, String> {
        let id = std::process::id();
        let cable = Self { ends: [format!("pc{id}a"), format!("pc{id}b")] };
        let [a, b] = &cable.ends;
        ip(&["netns", "add", a])?;
        ip(&["netns", "add", b])?;
        ip(&["link", "add", "cable", "netns", a, "type", "veth", "peer", "name", "cable", "netns", b])?;
        for (end, address) in [(a, "10.77.0.1/24"), (b, "10.77.0.2/24")] {
            ip(&["-n", end, "address", "add", address, "dev", "cable"])?;
            ip(&["-n", end, "link", "set", "lo", "up"])?;
            ip(&["-n", end, "link", "set", "cable", "up"])?;
            // Multicast goes where the cable goes.
            ip(&["-n", end, "route", "add", "default", "dev", "cable"])?;
        }
        Ok(cable)
    }

    /// A node at one end, told nothing but the mesh's name and its password.
    fn node(&self, end: usize, name: &str, place: &Place) -> Proc {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.ends[end], env!("CARGO_BIN_EXE_peerchannel")]);
        command.args(["node", "home", "--json", "--password-file"]).arg(place.path("password"));
        for (variable, _) in std::env::vars_os() {
            if variable.to_string_lossy().starts_with("PEERCHANNEL_") {
                command.env_remove(variable);
            }
        }
        Proc::start(name, command)
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        for end in &self.ends {
            // One that was never made cannot be removed either.
            let _ = Command::new("ip").args(["netns", "del", end]).output();
        }
    }
}

fn ip(args: &[&str]) -> Result<(), String> {
    let output =
        Command::new("ip").args(args).output().map_err(|error| format!("no `ip` command: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ip {}: {}", args.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
}

#[test]
fn a_name_and_a_password_are_enough_on_one_network() {
    let cable = match Cable::new() {
        Ok(cable) => cable,
        Err(why) => return skip("a_name_and_a_password_are_enough_on_one_network", &why),
    };
    let place = Place::new();
    let mut ann = cable.node(0, "ann", &place);
    ann.addr();
    let bob = cable.node(1, "bob", &place);
    let online = bob.wait("online", FOUND);
    timing("found on the LAN", FOUND, online.at - bob.started);
    ann.wait("online", FOUND);
    ann.send(&json!({ "cmd": "publish", "channel": "c", "payload": "over the cable" }));
    bob.wait_from(0, "message", Duration::from_secs(2), |event| event["payload"] == "over the cable");
}
