//! Nodes on loopback for the tests.
#![allow(dead_code)] // Each test file uses its part.

use std::time::Duration;

use peerchannel::{Join, Mesh, Subscription};

pub(crate) const PASSWORD: &str = "violet anchor tundra pickle orbit lamp";

/// A node of its own on loopback, with the password and nobody to resolve.
pub(crate) fn join(mesh: &str) -> Join {
    listening(Mesh::join(mesh)).password(PASSWORD)
}

pub(crate) fn listening(join: Join) -> Join {
    join.listen("127.0.0.1:0".parse().unwrap()).resolver("static:127.0.0.1:9")
}

/// The resolver that finds a node.
pub(crate) fn at(mesh: &Mesh) -> String {
    format!("static:{}", mesh.local_address())
}

/// Fails a test that waits for what does not come.
pub(crate) async fn within<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), future).await.expect("in time")
}

pub(crate) async fn next_text(subscription: &mut Subscription) -> String {
    within(subscription.next()).await.expect("the mesh is joined").to_string()
}
