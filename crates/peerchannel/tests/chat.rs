//! Messages between nodes on loopback: what a program sees.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::task::Poll;

use common::{HANG, at, join, next_message, next_text, pair, within};
use peerchannel::{Config, Incoming, IncomingDirect, Lane, PublishError, TypedIncoming, Verdict};

#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_chat() {
    let (ann, bob) = pair("chat").await;
    let mut at_ann = ann.channel("chat").subscribe();
    let mut at_bob = bob.channel("chat").subscribe();
    let published = ann.channel("chat").publish("hello").await.unwrap();
    assert_eq!(next_text(&mut at_bob).await, "ann: hello");
    within(published.committed()).await.unwrap();
    bob.channel("chat").publish("hi").await.unwrap();
    let message = next_message(&mut at_ann).await;
    assert_eq!(message.to_string(), "bob: hi");
    assert_eq!((message.from, message.epoch), (bob.node_id(), bob.epoch()));
    assert_eq!((message.sequence.get(), message.hops, message.lane), (1, 1, Lane::Reliable));
    assert!(!message.own);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_published_alone_is_held_and_arrives() {
    let ann = join("alone").await.unwrap();
    let chat = ann.channel("chat");
    let mut last = None;
    for number in 0..10 {
        last = Some(chat.publish(number.to_string()).await.unwrap());
    }
    let bob = join("alone").resolver(at(&ann)).await.unwrap();
    let mut inbox = bob.channel("chat").subscribe();
    for number in 0..10 {
        assert_eq!(next_message(&mut inbox).await.text(), number.to_string());
    }
    within(last.unwrap().committed()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn five_nodes_get_every_message_once_and_in_order() {
    const EACH: usize = 200;
    let first = join("five").await.unwrap();
    let mut nodes = vec![first.clone()];
    for _ in 1..5 {
        nodes.push(join("five").resolver(at(&first)).await.unwrap());
    }
    let inboxes: Vec<_> = nodes.iter().map(|node| node.subscribe_all()).collect();
    for node in &nodes {
        within(node.wait_online()).await.unwrap();
    }
    let publishers: Vec<_> = nodes
        .iter()
        .map(|node| {
            let channel = node.channel("load");
            tokio::spawn(async move {
                for number in 0..EACH {
                    let body = format!("{number:04}").repeat(256);
                    channel.publish(body).await.unwrap();
                }
            })
        })
        .collect();
    for mut inbox in inboxes {
        let mut seen = BTreeMap::new();
        for _ in 0..4 * EACH {
            let message = next_message(&mut inbox).await;
            let expected = seen.entry(message.from).or_insert(0u64);
            *expected += 1;
            assert_eq!(message.sequence.get(), *expected);
        }
        assert!(inbox.try_next().is_none());
    }
    for publisher in publishers {
        publisher.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_message_arrives_and_an_oversized_one_is_refused_by_name_of_the_limit() {
    let (ann, bob) = pair("large").await;
    let mut inbox = bob.channel("files").subscribe();
    let body = vec![7u8; 1 << 20];
    ann.channel("files").publish(body.clone()).await.unwrap();
    assert_eq!(next_message(&mut inbox).await.payload, body);
    let error = ann.channel("files").publish(vec![0u8; (1 << 20) + 1]).await.unwrap_err();
    assert!(error.to_string().contains("1048576"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn own_messages_come_back_only_with_echo() {
    let ann = join("echo").echo(true).await.unwrap();
    let bob = join("echo").resolver(at(&ann)).await.unwrap();
    let (mut at_ann, mut at_bob) = (ann.subscribe_all(), bob.subscribe_all());
    within(bob.wait_online()).await.unwrap();
    ann.channel("c").publish("mine").await.unwrap();
    assert!(next_message(&mut at_ann).await.own);
    assert!(!next_message(&mut at_bob).await.own);
    bob.channel("c").publish("his").await.unwrap();
    assert_eq!(next_message(&mut at_ann).await.text(), "his");
    assert!(at_bob.try_next().is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn local_and_volatile_messages_arrive() {
    let (ann, bob) = pair("asides").await;
    let mut inbox = bob.channel("c").subscribe();
    ann.channel("c").publish_within(1, "near").await.unwrap();
    let near = next_message(&mut inbox).await;
    assert_eq!((near.lane, near.hops_left), (Lane::Local, Some(0)));
    ann.channel("c").publish_volatile("cursor", "3,4").await.unwrap();
    let cursor = next_message(&mut inbox).await;
    assert_eq!((cursor.lane, &cursor.key[..]), (Lane::Volatile, &b"cursor"[..]));
    let error = ann.channel("c").publish_volatile("cursor", vec![0u8; 2000]).await.unwrap_err();
    assert!(matches!(error, PublishError::DatagramTooLarge { size, limit } if size > limit), "{error}");
    assert!(ann.channel("c").publish_within(65, "far").await.is_err());
}

#[derive(Clone, PartialEq, prost::Message)]
struct Line {
    #[prost(string, tag = "1")]
    text: String,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_typed_channel_carries_protobuf_and_survives_what_is_none() {
    let (ann, bob) = pair("typed").await;
    let mut inbox = bob.channel_of::<Line>("lines").subscribe();
    ann.channel_of::<Line>("lines").publish(&Line { text: "typed".into() }).await.unwrap();
    ann.channel("lines").publish(&b"\xff\xff\xff"[..]).await.unwrap();
    let first = within(inbox.next()).await.unwrap();
    assert!(matches!(first, TypedIncoming::Message { body, .. } if body.text == "typed"));
    assert!(matches!(within(inbox.next()).await, Some(TypedIncoming::Invalid { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_is_told_how_much_it_missed() {
    let mut config = Config::default();
    config.subscription_items = 10;
    let ann = join("slow").await.unwrap();
    let bob = join("slow").resolver(at(&ann)).config(config).await.unwrap();
    let (mut slow, mut counter) = (bob.channel("c").subscribe(), bob.channel("c").subscribe());
    within(bob.wait_online()).await.unwrap();
    for number in 0..100 {
        ann.channel("c").publish(number.to_string()).await.unwrap();
    }
    let mut arrived = 0;
    while arrived < 100 {
        match within(counter.next()).await.unwrap() {
            Incoming::Message(_) => arrived += 1,
            Incoming::Lagged(missed) => arrived += missed,
            other => panic!("{other}"),
        }
    }
    let Some(Incoming::Lagged(missed)) = slow.next().await else { panic!("nothing missed") };
    let mut rest = 0;
    while let Some(item) = slow.try_next() {
        assert!(matches!(item, Incoming::Message(_)), "{item}");
        rest += 1;
    }
    assert_eq!((missed, rest), (90, 10));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_direct_message_reaches_its_member_only() {
    let (ann, bob) = pair("direct").await;
    let cy = join("direct").name("cy").resolver(at(&ann)).await.unwrap();
    within(cy.wait_online()).await.unwrap();
    let (mut at_ann, mut at_cy) = (ann.directs(), cy.directs());
    within(bob.send_direct(ann.node_id(), "just you")).await.unwrap();
    let Some(IncomingDirect::Direct(direct)) = within(at_ann.next()).await else {
        panic!("no direct message")
    };
    assert_eq!((direct.from, &direct.payload[..]), (bob.node_id(), &b"just you"[..]));
    assert!(at_cy.try_next().is_none());
    let stranger = peerchannel::Identity::generate().node_id();
    assert!(within(bob.send_direct(stranger, "nobody")).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filter_bars_messages_and_its_panic_ends_nothing() {
    let ann = join("filter").await.unwrap();
    let filter = |message: &peerchannel::FilterView<'_>| match &message.payload[..] {
        b"barred" => Verdict::None,
        b"bug" => panic!("a bug of the application's"),
        _ => Verdict::LocalAndRemote,
    };
    let bob = join("filter").resolver(at(&ann)).filter(filter).await.unwrap();
    let (mut inbox, mut events) = (bob.subscribe_all(), bob.events());
    within(bob.wait_online()).await.unwrap();
    for text in ["barred", "bug", "fine"] {
        ann.channel("c").publish(text).await.unwrap();
    }
    assert_eq!(next_message(&mut inbox).await.text(), "fine");
    common::event(&mut events, "the panic", |e| matches!(e, peerchannel::MeshEvent::FilterPanicked)).await;
    assert_eq!(bob.stats().await.unwrap().filter_panics, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn alone_and_full_is_an_error_at_once() {
    let mut config = Config::default();
    config.mesh.max_message = 60_000;
    config.mesh.held_alone_bytes = 60_000;
    let ann = join("full").config(config).await.unwrap();
    let chat = ann.channel("chat");
    chat.publish(vec![0u8; 50_000]).await.unwrap();
    let error = chat.publish(vec![1u8; 50_000]).await.unwrap_err();
    assert!(error.to_string().contains("of 60000 bytes"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn publishers_wait_in_order_while_the_window_is_full_and_one_given_up_is_not_published() {
    const SIZE: usize = 100_000;
    let mut config = Config::default();
    config.mesh.publish_window_bytes = 1 << 20;
    let ann = join("window").config(config).await.unwrap();
    // Bob acknowledges nothing while his filter holds his driver, so that ann's window stays full.
    let (release, released) = std::sync::mpsc::channel::<()>();
    let hold = move |_: &peerchannel::FilterView<'_>| {
        let _ = released.recv_timeout(HANG);
        Verdict::LocalAndRemote
    };
    let bob = join("window").resolver(at(&ann)).filter(hold).await.unwrap();
    let mut inbox = bob.channel("c").subscribe();
    within(ann.wait_online()).await.unwrap();
    let body = |number: u8| vec![number; SIZE];
    let channel = ann.channel("c");
    // Twelve times the window, by callers that wait at once, in the order of their calls: the
    // first poll of a call gives it its place.
    let mut waiting = Vec::new();
    for number in 0..120 {
        let call = channel.publish(body(number));
        let mut call = Box::pin(call);
        if let Poll::Ready(accepted) = poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await {
            accepted.unwrap();
        } else {
            waiting.push(call);
        }
    }
    assert!(waiting.len() > 100, "{} wait", waiting.len());
    let given_up = waiting.pop();
    drop(given_up);
    drop(release);
    for call in waiting {
        within(call).await.unwrap();
    }
    within(channel.publish("end")).await.unwrap();
    for number in 0..119 {
        let message = next_message(&mut inbox).await;
        assert_eq!((message.sequence.get(), message.payload[0]), (u64::from(number) + 1, number));
    }
    assert_eq!(next_message(&mut inbox).await.text(), "end");
}

#[test]
fn the_readme_shows_the_example_and_it_has_at_most_25_lines_of_code() {
    let example = include_str!("../examples/chat.rs");
    let code: Vec<_> = example.lines().filter(|line| !line.is_empty() && !line.starts_with("//")).collect();
    assert!(code.len() <= 25, "{} lines", code.len());
    let readme = include_str!("../README.md");
    assert!(code.iter().all(|line| readme.contains(line)), "the README shows another program");
}
