//! Nodes on loopback for the tests.
#![allow(dead_code)] // Each test file uses its part.
#![allow(clippy::unwrap_used, clippy::panic)] // Helpers of tests.

use std::io::Write as _;
use std::time::Duration;

use peerchannel::{Events, Incoming, Join, Mesh, MeshEvent, Message, Subscription};

pub(crate) const PASSWORD: &str = "violet anchor tundra pickle orbit lamp";

/// A node of its own on loopback, with the password and nobody to find.
pub(crate) fn join(mesh: &str) -> Join {
    Mesh::join(mesh).listen("127.0.0.1:0".parse().unwrap()).resolver("static:127.0.0.1:9").password(PASSWORD)
}

/// The resolver that finds a node.
pub(crate) fn at(mesh: &Mesh) -> String {
    format!("static:{}", mesh.local_address())
}

/// Two nodes of a mesh that are neighbors.
pub(crate) async fn pair(mesh: &str) -> (Mesh, Mesh) {
    // Early events wait for a subscription for one second only.
    let ann = join(mesh).name("ann").await.unwrap();
    let mut at_ann = ann.events();
    let bob = join(mesh).name("bob").resolver(at(&ann)).await.unwrap();
    let mut at_bob = bob.events();
    for (node, events) in [(&ann, &mut at_ann), (&bob, &mut at_bob)] {
        within(node.wait_online()).await.unwrap();
        event(events, "the other", |e| matches!(e, MeshEvent::MemberUp { .. })).await;
    }
    (ann, bob)
}

/// Nothing takes this long unless it hangs: five times the longest time that is stated for
/// anything here, the ten seconds of an admission.
pub(crate) const HANG: Duration = Duration::from_secs(50);

/// Fails a test that waits for what does not come.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(HANG, future).await.expect("it hangs")
}

/// Notes a measured time beside the stated one. Exceeding it is judged by
/// `cargo xtask test --timings`, not here: other tests share the machine.
pub(crate) fn timing(name: &str, stated: Duration, measured: Duration) {
    let Some(file) = std::env::var_os("PEERCHANNEL_TIMINGS") else { return };
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(file).unwrap();
    let measured = measured.as_secs_f64() * 1e3;
    file.write_all(format!("{name}\t{}\t{measured:.1}\n", stated.as_millis()).as_bytes()).unwrap();
}

pub(crate) async fn next_text(subscription: &mut Subscription) -> String {
    within(subscription.next()).await.expect("the mesh is joined").to_string()
}

/// The next item, which must be a message.
pub(crate) async fn next_message(subscription: &mut Subscription) -> Message {
    match within(subscription.next()).await {
        Some(Incoming::Message(message)) => message,
        other => panic!("not a message: {other:?}"),
    }
}

/// The first event that is asked for.
pub(crate) async fn event(events: &mut Events, what: &str, is: impl Fn(&MeshEvent) -> bool) -> MeshEvent {
    let mut seen = Vec::new();
    let wanted = async {
        while let Some(event) = events.next().await {
            if is(&event) {
                return Some(event);
            }
            seen.push(event.to_string());
        }
        None
    };
    match tokio::time::timeout(HANG, wanted).await {
        Ok(Some(event)) => event,
        _ => panic!("no event of {what}, but {seen:?}"),
    }
}
