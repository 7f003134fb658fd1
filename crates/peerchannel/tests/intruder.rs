//! Raw transport clients that do not keep to the protocol: closed with a reason, and nobody
//! else is disturbed.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{next_message, pair, within};
use peerchannel::{Identity, Mesh};
use peerchannel_transport::{Connection, Endpoint, EndpointConfig, StreamError};
use peerchannel_wire::{AdmissionFrame, AdmissionRefusal, ControlFrame};

async fn intrude(mesh: &Mesh) -> (Endpoint, Connection) {
    let mut config = EndpointConfig::default();
    config.listen = "127.0.0.1:0".parse().unwrap();
    let endpoint = Endpoint::bind(&Identity::generate(), config).unwrap();
    let connection = within(endpoint.connect(mesh.local_address(), Some(mesh.node_id()))).await.unwrap();
    (endpoint, connection)
}

/// The mesh goes on, and has delivered nothing it should not.
async fn undisturbed(ann: &Mesh, bob: &Mesh) {
    let mut inbox = bob.subscribe_all();
    ann.channel("c").publish("fine").await.unwrap();
    assert_eq!(next_message(&mut inbox).await.text(), "fine");
    assert!(ann.is_online() && bob.is_online());
    assert_eq!(bob.members().await.unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_skips_admission_and_floods_is_refused_and_delivers_nothing() {
    let (ann, bob) = pair("flooded").await;
    let mut inbox = bob.subscribe_all();
    let (_endpoint, connection) = intrude(&bob).await;
    let mut control = connection.open_control().await.unwrap();
    // Frames of a link, as if admission had happened.
    let flood = async {
        for number in 0..10_000 {
            control.send(ControlFrame::Ping(number).encode()).await?;
        }
        Ok::<_, StreamError>(())
    };
    let _ = within(flood).await;
    let mut answers = Vec::new();
    while let Ok(Some(body)) = within(control.recv()).await {
        answers.push(AdmissionFrame::decode(body).unwrap());
    }
    let refused = AdmissionFrame::Refused { reason: AdmissionRefusal::Malformed, retry_after: None };
    assert!(answers.is_empty() || answers == [refused], "{answers:?}");
    // Without anything to use it for, the connection is closed too.
    within(connection.closed()).await;
    assert!(inbox.try_next().is_none());
    undisturbed(&ann, &bob).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_and_oversized_frames_are_refused() {
    let (ann, bob) = pair("garbage").await;
    let frames: [&[u8]; 4] = [b"\x05hello", b"\xff\xff\xff\xff\xff\xff", b"\xff\xff\x7f", b"\x00"];
    for frame in frames {
        let (_endpoint, connection) = intrude(&bob).await;
        let mut control = connection.open_control().await.unwrap();
        control.send(Bytes::copy_from_slice(frame)).await.unwrap();
        let answer = within(control.recv()).await;
        if let Ok(Some(body)) = answer {
            let refused = AdmissionFrame::Refused { reason: AdmissionRefusal::Malformed, retry_after: None };
            assert_eq!(AdmissionFrame::decode(body).unwrap(), refused);
            assert!(!matches!(within(control.recv()).await, Ok(Some(_))));
        }
    }
    undisturbed(&ann, &bob).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_says_nothing_is_dropped_after_the_deadline() {
    let (ann, bob) = pair("silent").await;
    let (_endpoint, connection) = intrude(&bob).await;
    let mut control = connection.open_control().await.unwrap();
    // A peer learns of a stream with its first byte: half a frame.
    control.send(Bytes::from_static(b"\x20")).await.unwrap();
    let started = Instant::now();
    let answer = within(control.recv()).await;
    if let Ok(Some(body)) = answer {
        let refused = AdmissionFrame::Refused { reason: AdmissionRefusal::TimedOut, retry_after: None };
        assert_eq!(AdmissionFrame::decode(body).unwrap(), refused);
    }
    assert!(started.elapsed() > Duration::from_secs(9), "{:?}", started.elapsed());
    drop(control);
    within(connection.closed()).await;
    undisturbed(&ann, &bob).await;
}
