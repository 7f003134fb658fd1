//! Who is there, what members say of themselves, and taking a break.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use common::{at, event, join, next_text, pair, within};
use peerchannel::{Features, MemberInfo, MemberStatus, Mesh, MeshEvent, MetadataError};

async fn of(mesh: &Mesh, other: &Mesh) -> MemberInfo {
    let members = mesh.members().await.unwrap();
    members.into_iter().find(|member| member.node == other.node_id()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_member_says_of_itself_is_told_to_all_and_to_those_who_come_later() {
    let (ann, bob) = pair("presence").await;
    let mut at_bob = bob.events();
    ann.set_metadata("at lunch").await.unwrap();
    let changed = event(&mut at_bob, "a change", |e| matches!(e, MeshEvent::MemberChanged { .. })).await;
    assert_eq!(changed.to_string(), "ann: at lunch");
    assert_eq!(of(&bob, &ann).await.metadata, "at lunch");
    assert_eq!(of(&ann, &ann).await.metadata, "at lunch");

    let cy = join("presence").name("cy").resolver(at(&bob)).await.unwrap();
    let known = event(&mut cy.events(), "the members", |e| matches!(e, MeshEvent::MembersKnown { .. })).await;
    let MeshEvent::MembersKnown { size } = known else { panic!() };
    assert!(size.complete && size.members == 3, "{size:?}");
    assert_eq!(of(&cy, &ann).await.metadata, "at lunch");
    assert_eq!(cy.size().await.unwrap(), size);

    let error = ann.set_metadata(vec![0; 513]).await.unwrap_err();
    assert!(matches!(error, MetadataError::TooLong(_)), "{error}");
    assert_eq!(of(&ann, &ann).await.metadata, "at lunch", "nothing changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_break_is_no_failure_and_what_was_said_meanwhile_is_recovered() {
    let (ann, bob) = pair("a break").await;
    let mut inbox = bob.channel("c").subscribe();
    let (mut at_ann, mut at_bob) = (ann.events(), bob.events());
    ann.channel("c").publish("before").await.unwrap();
    assert_eq!(next_text(&mut inbox).await, "ann: before");

    bob.suspend().await.unwrap();
    event(&mut at_bob, "offline", |e| *e == MeshEvent::Offline).await;
    let changed = |suspended| move |event: &MeshEvent| matches!(event, MeshEvent::MemberChanged { suspended: is, .. } if *is == suspended);
    event(&mut at_ann, "a break", changed(true)).await;
    let seen = of(&ann, &bob).await;
    assert_eq!((seen.status, seen.suspended), (MemberStatus::Alive, true));
    assert!(bob.status().await.unwrap().suspended);
    ann.channel("c").publish("meanwhile").await.unwrap();
    // Held until a neighbor is there.
    bob.channel("d").publish("from the break").await.unwrap();

    let mut of_bob = ann.channel("d").subscribe();
    bob.resume().await.unwrap();
    within(bob.wait_online()).await.unwrap();
    assert_eq!(next_text(&mut inbox).await, "ann: meanwhile");
    assert_eq!(next_text(&mut of_bob).await, "bob: from the break");
    event(&mut at_ann, "the end of the break", changed(false)).await;
    assert!(!bob.status().await.unwrap().suspended);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_of_the_first_release_gets_messages_and_is_no_worse_for_what_it_lacks() {
    let ann = join("old and new").name("ann").offer(Features::NONE).await.unwrap();
    let bob = join("old and new").name("bob").resolver(at(&ann)).await.unwrap();
    let mut inbox = ann.channel("c").subscribe();
    within(bob.wait_online()).await.unwrap();
    bob.set_metadata("new").await.unwrap();
    bob.channel("c").publish("hello").await.unwrap();
    assert_eq!(next_text(&mut inbox).await, "bob: hello");
    bob.suspend().await.unwrap();
    event(&mut bob.events(), "offline", |e| *e == MeshEvent::Offline).await;
    bob.resume().await.unwrap();
    within(bob.wait_online()).await.unwrap();
    bob.channel("c").publish("again").await.unwrap();
    assert_eq!(next_text(&mut inbox).await, "bob: again");
}
