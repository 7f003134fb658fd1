//! Raw transport clients that do not keep to the protocol: closed with a reason, and nobody
//! else is disturbed.
#![allow(clippy::unwrap_used, clippy::panic)]

mod common;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use common::{at, next_message, pair, within};
use peerchannel::{Identity, Mesh};
use peerchannel_security::{Admission, Context, EXPORTER_LABEL, Offer, Opener, Output, Tls};
use peerchannel_transport::{
    ALPN, CloseReason, Connection, ControlStream, Endpoint, EndpointConfig, Lane, LinkEvent, LinkLost,
    StreamError,
};
use peerchannel_wire::{AdmissionFrame, AdmissionRefusal, ControlFrame, EncodedFrame, MeshName};

async fn intrude(mesh: &Mesh) -> (Endpoint, Connection) {
    intrude_as(&Identity::generate(), mesh).await
}

async fn intrude_as(me: &Identity, mesh: &Mesh) -> (Endpoint, Connection) {
    let mut config = EndpointConfig::default();
    config.listen = "127.0.0.1:0".parse().unwrap();
    let endpoint = Endpoint::bind(me, config).unwrap();
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
    // Before anything the deadline of ten seconds can count from.
    let started = Instant::now();
    let (_endpoint, connection) = intrude(&bob).await;
    let mut control = connection.open_control().await.unwrap();
    // A peer learns of a stream with its first byte: half a frame.
    control.send(Bytes::from_static(b"\x20")).await.unwrap();
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

#[tokio::test(flavor = "multi_thread")]
async fn who_takes_no_answer_is_dropped_after_the_deadline() {
    let (ann, bob) = pair("deaf").await;
    // Flow control gives the answer not a single byte of room.
    let (tls, _) = Tls::new(&Identity::generate(), ALPN).unwrap().client(Some(bob.node_id())).unwrap();
    let mut transport = quinn::TransportConfig::default();
    transport.stream_receive_window(0u32.into());
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).unwrap();
    let mut config = quinn::ClientConfig::new(Arc::new(crypto));
    config.transport_config(Arc::new(transport));
    let endpoint = quinn::Endpoint::client("127.0.0.1:0".parse().unwrap()).unwrap();
    let connecting = endpoint.connect_with(config, bob.local_address(), "node.invalid").unwrap();
    let connection = within(connecting).await.unwrap();
    let (mut control, _answers) = connection.open_bi().await.unwrap();
    control.write_all(b"\x05hello").await.unwrap();
    within(connection.closed()).await;
    undisturbed(&ann, &bob).await;
}

/// An admitted stranger: whoever knows an open mesh's name is one.
async fn admitted(connection: &Connection, me: &Identity, mesh: &str) -> ControlStream {
    let mut control = connection.open_control().await.unwrap();
    let mut opener = {
        let exporter = |context: &[u8]| connection.export_keying_material(EXPORTER_LABEL, context).ok();
        let (me, peer) = (me.node_id(), connection.peer());
        let context = Context { me, peer, offer: Offer::default(), exporter: &exporter };
        let admission = Admission::open(&MeshName::new(mesh).unwrap());
        Opener::new(Duration::ZERO, &context, &admission, control.number().0, [7; 32])
    };
    loop {
        while let Some(output) = opener.poll_output() {
            match output {
                Output::Send(frame) => control.send(frame.encode()).await.unwrap(),
                Output::Admitted(_) => return control,
                Output::Refused(refused) => panic!("{refused:?}"),
            }
        }
        let body = within(control.recv()).await.unwrap().unwrap();
        opener.handle(&AdmissionFrame::decode(body).unwrap());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_garbage_after_admission_is_closed_with_a_reason() {
    let join = || Mesh::join("fair").listen("127.0.0.1:0".parse().unwrap()).open();
    let ann = join().resolver("static:127.0.0.1:9").await.unwrap();
    let bob = join().resolver(at(&ann)).await.unwrap();
    within(bob.wait_online()).await.unwrap();
    let mut inbox = bob.subscribe_all();
    // Not protobuf; a kind of frame nobody knows; a frame that says nothing.
    let frames: [&[u8]; 3] = [b"\x05hello", b"\x03\xfa\x3e\x00", b"\x00"];
    for frame in frames {
        let me = Identity::generate();
        let (_endpoint, connection) = intrude_as(&me, &bob).await;
        let (link, mut reader) = admitted(&connection, &me, "fair").await.into_link();
        link.push(Lane::Control, EncodedFrame::from(Bytes::copy_from_slice(frame))).unwrap();
        let closed = loop {
            if let LinkEvent::Closed(lost) = within(reader.recv()).await {
                break lost;
            }
        };
        assert_eq!(closed, LinkLost::ClosedByPeer(CloseReason::ProtocolViolation), "{frame:?}");
    }
    // A frame that is valid but comes before Connect.
    let me = Identity::generate();
    let (_endpoint, connection) = intrude_as(&me, &bob).await;
    let (link, mut reader) = admitted(&connection, &me, "fair").await.into_link();
    link.push(Lane::Control, ControlFrame::Ping(1).encode().into()).unwrap();
    let closed = within(reader.recv()).await;
    let violation = LinkLost::ClosedByPeer(CloseReason::ProtocolViolation);
    assert!(matches!(&closed, LinkEvent::Closed(lost) if *lost == violation), "{closed:?}");
    assert!(inbox.try_next().is_none());
    undisturbed(&ann, &bob).await;
}
