//! Real processes that know a directory only, and a directory that crashes.

#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests.

mod common;

use std::time::{Duration, Instant};

use common::{ONLINE, Place, Proc, peerchannel, run, timing};
use serde_json::json;

/// How long a started directory may take until it serves.
const SERVES: Duration = Duration::from_secs(2);

/// A directory on loopback with its store and key in the place.
fn directory(place: &Place, listen: &str) -> Proc {
    let mut command = peerchannel(["resolver", "serve", "--json", "--listen", listen, "--store"]);
    command.arg(place.path("directory.db")).arg("--identity").arg(place.path("directory.key"));
    Proc::start("directory", command)
}

fn resolver(directory: &Proc) -> String {
    directory.wait("listening", SERVES).event["resolver"].as_str().unwrap().to_owned()
}

#[test]
fn a_crashed_directory_remembers_and_the_mesh_does_not_notice() {
    let place = Place::new();
    let service = directory(&place, "127.0.0.1:0");
    let uri = resolver(&service);
    let (_, address) = uri.split_once('@').unwrap();
    let address = address.to_owned();

    let mut ann = place.node_at("ann", &["--resolver", &uri]);
    let mut bob = place.node_at("bob", &["--resolver", &uri]);
    ann.wait_neighbors(1, ONLINE);
    bob.wait_neighbors(1, ONLINE);

    // Both may have found each other before the second registration was acknowledged.
    std::thread::sleep(Duration::from_secs(1));
    let formed = [ann.mark(), bob.mark()];
    service.crash();
    ann.send(&json!({ "cmd": "publish", "channel": "c", "payload": "without a directory" }));
    bob.wait_from(0, "message", ONLINE, |event| event["payload"] == "without a directory");

    let restarted = Instant::now();
    let service = directory(&place, &address);
    let ready = service.wait("listening", SERVES);
    timing("directory serves again", SERVES, ready.at - restarted);
    assert_eq!(ready.event["resolver"], json!(uri), "the same directory at the same place");
    assert_eq!(ready.event["registrations"], 2, "both registrations survived the crash");

    let mut cleo = place.node_at("cleo", &["--resolver", &uri]);
    let online = cleo.wait("online", ONLINE);
    timing("join through the restarted directory", ONLINE, online.at - cleo.started);
    for node in [&mut ann, &mut bob, &mut cleo] {
        node.wait_neighbors(2, ONLINE);
    }
    cleo.send(&json!({ "cmd": "publish", "channel": "c", "payload": "hello from cleo" }));
    for (node, formed) in [&ann, &bob].into_iter().zip(formed) {
        node.wait_from(0, "message", ONLINE, |event| event["payload"] == "hello from cleo");
        for seen in &node.events()[formed..] {
            assert_ne!(seen.event["event"], "offline", "{seen:?}");
            // Two that dial each other at once close one of the two links.
            let lost = seen.event["event"] == "neighbor_down" && seen.event["node"] != json!(cleo.id());
            assert!(!lost, "{seen:?}");
        }
    }
}

#[test]
fn a_directory_says_its_uri_and_ends_when_told() {
    let place = Place::new();
    let mut command = peerchannel(["resolver", "serve", "--listen", "127.0.0.1:0", "--store", "memory"]);
    command.current_dir(place.path(""));
    let mut service = Proc::start_unread("directory", command);
    service.read();
    let said = service.wait("NOT JSON", SERVES).event["line"].as_str().unwrap().to_owned();
    assert!(said.starts_with("service:") && said.contains("@127.0.0.1:"), "{said}");
    let mut ran = peerchannel(["resolver", "serve", "--listen", said.split_once('@').unwrap().1]);
    ran.args(["--store", "memory"]);
    run(ran, "", SERVES).expect(1, &["is in use", "another port"]);
    service.expect_text();
    #[cfg(unix)]
    {
        service.terminate();
        let (status, _) = service.wait_end(Duration::from_secs(2));
        assert_eq!(status.code(), Some(0));
    }
}

#[test]
fn a_store_in_use_and_a_place_that_is_none_are_named() {
    let place = Place::new();
    let _service = {
        let service = directory(&place, "127.0.0.1:0");
        resolver(&service);
        service
    };
    let mut second = peerchannel(["resolver", "serve", "--listen", "127.0.0.1:0", "--store"]);
    second.arg(place.path("directory.db"));
    run(second, "", SERVES).expect(1, &["directory.db", "in use"]);
    let mut nowhere = peerchannel(["resolver", "serve", "--listen", "127.0.0.1:0", "--store"]);
    nowhere.arg(place.path("absent/directory.db")).arg("--identity").arg(place.path("other.key"));
    run(nowhere, "", SERVES).expect(1, &["absent"]);
}
