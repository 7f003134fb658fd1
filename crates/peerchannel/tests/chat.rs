//! Nodes on loopback: what a program sees.

mod common;

use common::{join, next_text, within};

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_chat() {
    let ann = join("chat").name("ann").await.unwrap();
    let bob = join("chat").name("bob").resolver(common::at(&ann)).await.unwrap();
    let mut at_ann = ann.channel("chat").subscribe();
    let mut at_bob = bob.channel("chat").subscribe();
    within(ann.wait_online()).await.unwrap();
    within(bob.wait_online()).await.unwrap();
    ann.channel("chat").publish("hello").await.unwrap();
    assert_eq!(next_text(&mut at_bob).await, "ann: hello");
    bob.channel("chat").publish("hi").await.unwrap();
    assert_eq!(next_text(&mut at_ann).await, "bob: hi");
}
