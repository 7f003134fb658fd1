//! Coming and going: credentials, leaving, joining again, several meshes, handles.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::time::{Duration, Instant};

use common::{HANG, PASSWORD, at, event, join, next_message, pair, timing, within};
use peerchannel::{Identity, JoinError, MemberLoss, Mesh, MeshEvent, Node, Refusal, StartError};
use peerchannel_resolver_service::{MemoryStore, Server, ServerConfig};

/// What is stated for refusals and for leaving.
const SOON: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_refused_on_both_sides() {
    let (ann, bob) = pair("secret").await;
    let mut at_ann = ann.events();
    let started = Instant::now();
    let intruder = Mesh::join("secret")
        .listen("127.0.0.1:0".parse().unwrap())
        .password("copper lantern misty walnut fable drum")
        .resolver(at(&ann))
        .await
        .unwrap();
    let mut at_intruder = intruder.events();
    let refused = event(&mut at_intruder, "refusal", |e| matches!(e, MeshEvent::Refused { .. })).await;
    let MeshEvent::Refused { address, reason, .. } = refused else { panic!() };
    assert_eq!((address, reason), (Some(ann.local_address()), Refusal::BadCredential));
    let turned_away = event(&mut at_ann, "turning away", |e| matches!(e, MeshEvent::TurnedAway { .. })).await;
    let MeshEvent::TurnedAway { node, reason, .. } = turned_away else { panic!() };
    assert_eq!((node, reason), (intruder.node_id(), Refusal::BadCredential));
    timing("wrong password: both ends know, its stretching included", SOON, started.elapsed());
    // The mesh goes on, and the intruder is no part of it.
    let mut inbox = bob.channel("c").subscribe();
    ann.channel("c").publish("still here").await.unwrap();
    assert_eq!(next_message(&mut inbox).await.text(), "still here");
    assert!(!intruder.is_online());
    assert_eq!(intruder.stats().await.unwrap().bytes_in, 0, "no link, no mesh data");
    assert!(ann.members().await.unwrap().iter().all(|member| member.node != intruder.node_id()));
}

#[tokio::test(flavor = "multi_thread")]
async fn open_and_password_meshes_of_one_name_are_two_meshes() {
    let open = |name: &str| Mesh::join(name).listen("127.0.0.1:0".parse().unwrap()).open();
    let ann = join("twice").await.unwrap();
    let bob = open("twice").resolver(at(&ann)).await.unwrap();
    let refused = event(&mut bob.events(), "refusal", |e| matches!(e, MeshEvent::Refused { .. })).await;
    assert!(matches!(refused, MeshEvent::Refused { reason: Refusal::UnknownMesh, .. }), "{refused}");
    let cy = open("twice").resolver(at(&bob)).await.unwrap();
    within(cy.wait_online()).await.unwrap();
    assert!(!ann.is_online());
}

#[tokio::test(flavor = "multi_thread")]
async fn leaving_is_seen_as_leaving() {
    let (ann, bob) = pair("leave").await;
    let (mut at_ann, mut own, mut inbox) = (ann.events(), bob.events(), bob.subscribe_all());
    let started = Instant::now();
    within(bob.leave()).await;
    timing("leaving", SOON, started.elapsed());
    let down = event(&mut at_ann, "leaving", |e| matches!(e, MeshEvent::MemberDown { .. })).await;
    let MeshEvent::MemberDown { node, reason, .. } = down else { panic!() };
    assert_eq!((node, reason), (bob.node_id(), MemberLoss::Left));
    event(&mut own, "left", |e| *e == MeshEvent::Left).await;
    assert!(own.next().await.is_none() && inbox.next().await.is_none());
    assert!(bob.channel("c").publish("late").await.is_err());
    assert!(bob.members().await.is_err() && bob.wait_online().await.is_err());
    bob.leave().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_abrupt_end_is_seen_and_the_same_node_is_back_at_once() {
    let identity = Identity::generate();
    let ann = join("crash").await.unwrap();
    let mut events = ann.events();
    let bob = join("crash").identity_key(identity.clone()).resolver(at(&ann)).await.unwrap();
    let (port, epoch) = (bob.local_address(), bob.epoch());
    within(bob.wait_online()).await.unwrap();
    drop(bob);
    event(&mut events, "the loss", |e| matches!(e, MeshEvent::NeighborDown { .. })).await;
    // The port closes when the tasks of the dropped node have ended.
    let started = Instant::now();
    let bob = loop {
        match join("crash").listen(port).identity_key(identity.clone()).resolver(at(&ann)).await {
            Ok(bob) => break bob,
            Err(JoinError::Start(StartError::Bind(_))) if started.elapsed() < HANG => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => panic!("{error}"),
        }
    };
    assert!(bob.epoch() > epoch);
    within(bob.wait_online()).await.unwrap();
    timing("a dropped node is back", Duration::from_secs(5), started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn joining_again_in_one_process_gets_a_new_epoch_and_delivers_nothing_twice() {
    let directory = tempfile::tempdir().unwrap();
    let key = directory.path().join("bob.key");
    let ann = join("again").await.unwrap();
    let mut at_ann = ann.subscribe_all();
    let bob = join("again").identity(&key).resolver(at(&ann)).await.unwrap();
    let (node, port, epoch) = (bob.node_id(), bob.local_address(), bob.epoch());
    within(bob.wait_online()).await.unwrap();
    let mut first_inbox = bob.subscribe_all();
    ann.channel("c").publish("before").await.unwrap();
    assert_eq!(next_message(&mut first_inbox).await.text(), "before");
    bob.channel("c").publish("one").await.unwrap();
    bob.leave().await;

    // The same identity and the same port, while the old handle still exists.
    let again = join("again").identity(&key).listen(port).resolver(at(&ann)).await.unwrap();
    assert_eq!(again.node_id(), node);
    assert!(again.epoch() > epoch);
    let mut inbox = again.subscribe_all();
    within(again.wait_online()).await.unwrap();
    again.channel("c").publish("two").await.unwrap();
    ann.channel("c").publish("after").await.unwrap();
    assert_eq!(next_message(&mut inbox).await.text(), "after", "what lies before the join is history");
    let seen = [next_message(&mut at_ann).await, next_message(&mut at_ann).await];
    assert_eq!(seen.each_ref().map(|message| message.text()), ["one", "two"]);
    assert_eq!(seen.each_ref().map(|message| message.sequence.get()), [1, 1]);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert!(at_ann.try_next().is_none() && inbox.try_next().is_none(), "nothing twice after a digest");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_meshes_share_one_node_and_one_connection() {
    let node = Node::options().listen("127.0.0.1:0".parse().unwrap()).start().await.unwrap();
    let other = Node::options().listen("127.0.0.1:0".parse().unwrap()).start().await.unwrap();
    let near = format!("static:{}", node.local_address());
    let (mut meshes, mut inboxes) = (Vec::new(), Vec::new());
    for name in ["red", "blue"] {
        let here = node.join(name).password(PASSWORD).resolver("static:127.0.0.1:9").await.unwrap();
        let there = other.join(name).password(PASSWORD).resolver(near.clone()).await.unwrap();
        within(there.wait_online()).await.unwrap();
        assert_eq!(here.local_address(), node.local_address());
        inboxes.push(there.subscribe_all());
        meshes.push((here, there));
    }
    for (here, _) in &meshes {
        here.channel("c").publish(here.mesh_name().as_str().to_owned()).await.unwrap();
    }
    for (inbox, name) in inboxes.iter_mut().zip(["red", "blue"]) {
        assert_eq!(next_message(inbox).await.text(), name);
        assert!(inbox.try_next().is_none());
    }
    let again = node.join("red").password(PASSWORD).await.unwrap_err();
    assert!(matches!(again, JoinError::AlreadyJoined { .. }), "{again}");
    // Leaving one leaves the other alone; then the first can be joined again.
    meshes[0].0.leave().await;
    meshes[1].0.channel("c").publish("still").await.unwrap();
    assert_eq!(next_message(&mut inboxes[1]).await.text(), "still");
    let red = node.join("red").password(PASSWORD).resolver("static:127.0.0.1:9").await.unwrap();
    assert!(red.epoch() > meshes[0].0.epoch());
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_the_last_handle_ends_every_task() {
    let metrics = tokio::runtime::Handle::current().metrics();
    let before = metrics.num_alive_tasks();
    {
        let (ann, bob) = pair("drop").await;
        let inbox = bob.channel("c").subscribe();
        drop(bob);
        ann.channel("c").publish("one").await.unwrap();
        drop(ann);
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(metrics.num_alive_tasks() > before, "a subscription is a handle");
        drop(inbox);
    }
    let started = Instant::now();
    while metrics.num_alive_tasks() > before {
        assert!(started.elapsed() < HANG, "{} tasks", metrics.num_alive_tasks() - before);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unreachable_resolver_does_not_keep_a_node_from_joining() {
    let ann = join("offline").resolver("static:127.0.0.1:9").await.unwrap();
    let mut events = ann.events();
    let tried = |e: &MeshEvent| matches!(e, MeshEvent::Unreachable { .. } | MeshEvent::ResolverFailed { .. });
    event(&mut events, "the failure", tried).await;
    assert!(!ann.is_online());
    let bob = join("offline").resolver(at(&ann)).await.unwrap();
    let mut at_bob = bob.events();
    within(ann.wait_online()).await.unwrap();
    event(&mut at_bob, "ann", |e| matches!(e, MeshEvent::MemberUp { .. })).await;
    assert_eq!(bob.members().await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_leads_to_the_mesh() {
    let ann = join("party").await.unwrap();
    let ticket = ann.invite(Some(Duration::from_secs(60))).await.unwrap();
    let listen = "127.0.0.1:0".parse().unwrap();
    let bob = Mesh::join("party").listen(listen).password(PASSWORD).ticket(&ticket).await.unwrap();
    within(bob.wait_online()).await.unwrap();
    let other = Mesh::join("wake").listen(listen).password(PASSWORD).ticket(&ticket).await.unwrap_err();
    assert!(matches!(other, JoinError::TicketOfOtherMesh { .. }), "{other}");
    let mangled = Mesh::join("party").listen(listen).password(PASSWORD).ticket(&ticket[..20]).await;
    assert!(matches!(mangled, Err(JoinError::Ticket(_))), "{mangled:?}");
    let old = ann.invite(Some(Duration::ZERO)).await.unwrap();
    let expired = Mesh::join("party").listen(listen).password(PASSWORD).ticket(old).await;
    assert!(matches!(expired, Err(JoinError::TicketExpired)), "{expired:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_options_are_refused_with_a_reason() {
    async fn check(join: peerchannel::Join, parts: &[&str]) {
        let error = join.await.unwrap_err().to_string();
        for part in parts {
            assert!(error.contains(part), "{error:?} lacks {part:?}");
        }
    }
    let taken = join("taken").await.unwrap();
    check(Mesh::join("m"), &[".password(", ".ticket(", ".open()"]).await;
    check(Mesh::join("m").ticket("x"), &[".password("]).await;
    check(Mesh::join("m").password(PASSWORD).open(), &["not both"]).await;
    check(Mesh::join("m").password("hunter2"), &["too weak"]).await;
    check(Mesh::join("m").password(""), &["empty"]).await;
    check(join(""), &["empty"]).await;
    check(join(&"m".repeat(200)), &["190"]).await;
    check(join("m").name("n".repeat(100)), &["64"]).await;
    check(join("m").resolver("pigeon"), &["pigeon", "static:"]).await;
    check(join("m").resolver("static:"), &["static"]).await;
    check(join("m").listen(taken.local_address()), &["in use"]).await;
    check(join("m").advertise("0.0.0.0:1".parse().unwrap()), &["0.0.0.0:1"]).await;
    check(join("m").identity("/"), &["/"]).await;
    let mut config = peerchannel::Config::default();
    config.mesh.neighbors_low = 0;
    check(join("m").config(config), &["low 0"]).await;
    let node = Node::start().await.unwrap();
    check(node.join("m").open().listen(taken.local_address()), &["listen"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_that_know_only_a_directory_find_each_other_and_leaving_takes_them_out() {
    let mut config = ServerConfig::default();
    config.listen = "127.0.0.1:0".parse().unwrap();
    let server = Server::start(&Identity::generate(), config, MemoryStore).await.unwrap();
    let directory = format!("service:{}@{}", server.node_id(), server.local_address());
    let join = || {
        let join = Mesh::join("listed").listen("127.0.0.1:0".parse().unwrap()).password(PASSWORD);
        join.resolver(directory.clone())
    };
    let ann = join().await.unwrap();
    let bob = join().await.unwrap();
    within(ann.wait_online()).await.unwrap();
    within(bob.wait_online()).await.unwrap();
    bob.leave().await;
    ann.leave().await;
    assert_eq!(server.metrics().registrations, 0);

    // Without the directory a node joins all the same, says so, and leaves in time.
    server.shutdown().await;
    let alone = join().await.unwrap();
    let failed = |e: &MeshEvent| matches!(e, MeshEvent::ResolverFailed { .. });
    event(&mut alone.events(), "the directory's silence", failed).await;
    assert!(alone.status().await.unwrap().resolvers[0].error.is_some());
    let started = Instant::now();
    within(alone.leave()).await;
    timing("leaving without the directory", SOON, started.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_node_finds_its_neighbors_of_before_without_any_resolver() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    let (ann, bob) = pair("anchored").await;
    let cy = join("anchored").identity(&key).resolver(at(&ann)).await.unwrap();
    within(cy.wait_online()).await.unwrap();
    cy.leave().await;
    // `join` alone knows nobody.
    let cy = join("anchored").identity(&key).await.unwrap();
    within(cy.wait_online()).await.unwrap();
    // Abruptly, this time.
    drop(cy);
    let cy = loop {
        match join("anchored").identity(&key).await {
            Ok(cy) => break cy,
            Err(JoinError::Start(StartError::Identity(_))) => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => panic!("{error}"),
        }
    };
    within(cy.wait_online()).await.unwrap();
    drop((ann, bob));
}
