//! Endpoints and connections: who is at the other end, and why it could not be reached.

use std::net::Ipv4Addr;
use std::time::Duration;

use peerchannel_security::Identity;
use peerchannel_transport::{
    BindError, CloseReason, ConnectError, ConnectionLost, Endpoint, EndpointConfig, StreamError,
};

use crate::support::*;

#[tokio::test(flavor = "multi_thread")]
async fn both_ends_prove_their_identity() {
    let pair = pair().await;
    assert_eq!(pair.at_a.peer(), pair.b_identity.node_id());
    assert_eq!(pair.at_b.peer(), pair.a_identity.node_id());
    assert!(pair.at_a.opened_by_us() && !pair.at_b.opened_by_us());
    assert_eq!(pair.at_a.remote_address(), pair.b.local_address());
    assert_eq!(pair.at_b.remote_address(), pair.a.local_address());
    assert_ne!(pair.at_a.id(), pair.at_b.id());
    assert_eq!(pair.a.stats().connections_dialed, 1);
    assert_eq!(pair.b.stats().connections_accepted, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_exporter_gives_both_ends_the_same_secret() {
    let pair = pair().await;
    let export = |label: &[u8], context: &[u8]| {
        let a = pair.at_a.export_keying_material(label, context).unwrap();
        assert_eq!(a, pair.at_b.export_keying_material(label, context).unwrap());
        a
    };
    let secret = export(b"label", b"context");
    assert_ne!(secret, export(b"label", b"other"));
    assert_ne!(secret, export(b"other", b"context"));
}

#[tokio::test(flavor = "multi_thread")]
async fn another_node_than_expected_is_refused_and_named() {
    let pair = pair().await;
    let expected = Identity::generate().node_id();
    let address = pair.b.local_address();
    let actual = pair.b_identity.node_id();
    let refused = within("dial", pair.a.connect(address, Some(expected))).await;
    assert_eq!(refused.unwrap_err(), ConnectError::WrongNode { address, expected, actual });
    let other = within("dial", pair.a.connect(address, None)).await.unwrap();
    assert_eq!(other.peer(), actual, "without an expectation anyone may answer");
}

#[tokio::test(flavor = "multi_thread")]
async fn another_protocol_version_is_told_apart() {
    let mut other = config();
    other.alpn = b"peerchannel/2".to_vec();
    let b = Endpoint::bind(&Identity::generate(), other).unwrap();
    let a = Endpoint::bind(&Identity::generate(), config()).unwrap();
    let address = b.local_address();
    let refused = within("dial", a.connect(address, None)).await;
    assert_eq!(refused.unwrap_err(), ConnectError::ProtocolMismatch { address });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_in_use_is_named_with_what_to_do() {
    let first = Endpoint::bind(&Identity::generate(), config()).unwrap();
    let mut same = config();
    same.listen = first.local_address();
    let error = Endpoint::bind(&Identity::generate(), same).unwrap_err();
    assert!(matches!(error, BindError::InUse { address } if address == first.local_address()));
    let text = error.to_string();
    assert!(text.contains(&first.local_address().to_string()) && text.contains("another port"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_address_and_a_bad_setting_are_named() {
    let mut foreign = config();
    foreign.listen = "192.0.2.1:0".parse().unwrap();
    let error = Endpoint::bind(&Identity::generate(), foreign).unwrap_err();
    assert!(matches!(error, BindError::NotLocal { .. }), "{error}");
    let mut bad = config();
    bad.handshakes_max = 0;
    let error = Endpoint::bind(&Identity::generate(), bad).unwrap_err();
    assert!(matches!(error, BindError::Config(_)), "{error}");
}

#[test]
fn binding_outside_of_a_runtime_is_an_error_not_a_panic() {
    assert!(matches!(Endpoint::bind(&Identity::generate(), config()), Err(BindError::NoRuntime)));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_default_listens_on_every_address() {
    let b = Endpoint::bind(&Identity::generate(), EndpointConfig::default()).unwrap();
    let a = Endpoint::bind(&Identity::generate(), EndpointConfig::default()).unwrap();
    let address = (Ipv4Addr::LOCALHOST, b.local_address().port()).into();
    let connection = within("dial", a.connect(address, None)).await.unwrap();
    assert_eq!(connection.remote_address(), address, "not as an IPv4-mapped address");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_where_nobody_listens_does_not_answer() {
    let silent = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let mut hasty = config();
    hasty.handshake_timeout = Duration::from_millis(200);
    let a = Endpoint::bind(&Identity::generate(), hasty).unwrap();
    let address = silent.local_addr().unwrap();
    let refused = within("dial", a.connect(address, None)).await;
    assert_eq!(refused.unwrap_err(), ConnectError::NoAnswer { address });
    let address = (Ipv4Addr::LOCALHOST, 0).into();
    let refused = within("dial", a.connect(address, None)).await;
    assert_eq!(refused.unwrap_err(), ConnectError::InvalidAddress { address });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_close_reason_reaches_the_other_end() {
    let pair = pair().await;
    pair.at_a.close(CloseReason::Duplicate);
    let lost = within("close", pair.at_b.closed()).await;
    assert_eq!(lost, ConnectionLost::ClosedByPeer(CloseReason::Duplicate));
    assert_eq!(pair.at_a.closed().await, ConnectionLost::ClosedLocally(CloseReason::Duplicate));
    assert!(pair.at_a.is_closed() && pair.at_b.is_closed());
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_an_endpoint_tells_everyone_and_ends_accept() {
    let pair = pair().await;
    let accepting = tokio::spawn({
        let b = pair.b.clone();
        async move { b.accept().await.is_none() }
    });
    within("close", pair.b.close()).await;
    assert!(within("accept ends", accepting).await.unwrap());
    let lost = within("closed", pair.at_a.closed()).await;
    assert_eq!(lost, ConnectionLost::ClosedByPeer(CloseReason::Shutdown));
    assert_eq!(pair.at_b.closed().await, ConnectionLost::ClosedLocally(CloseReason::Shutdown));
    let refused = pair.b.connect(pair.a.local_address(), None).await;
    assert_eq!(refused.unwrap_err(), ConnectError::EndpointClosed);
}

#[tokio::test(flavor = "multi_thread")]
async fn closing_an_endpoint_frees_its_port_while_an_unanswered_dial_is_given_up() {
    // Whoever waited for the dial would hang.
    let mut patient = config();
    patient.handshake_timeout = Duration::from_secs(3600);
    let pair = pair_with(patient).await;
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let (a, address) = (pair.a.clone(), silent.local_addr().unwrap());
    let dial = tokio::spawn(async move { a.connect(address, None).await });
    silent.recv(&mut [0; 2000]).unwrap();
    dial.abort();
    drop(pair.at_a);
    pair.a.close().await;
    let free = async {
        while std::net::UdpSocket::bind(pair.a.local_address()).is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    within("the port is free", free).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_handle_of_a_connection_closes_it() {
    let pair = pair().await;
    let (control, _other) = control(&pair.at_a, &pair.at_b).await;
    drop(pair.at_a);
    assert!(!pair.at_b.is_closed(), "a control stream is a handle");
    drop(control);
    let lost = within("close", pair.at_b.closed()).await;
    assert_eq!(lost, ConnectionLost::ClosedByPeer(CloseReason::Unused));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_control_stream_says_why_and_leaves_the_connection() {
    let pair = pair().await;
    let (mut a, b) = control(&pair.at_a, &pair.at_b).await;
    b.reject(CloseReason::Busy);
    assert_eq!(within("reset", a.recv()).await, Err(StreamError::ClosedByPeer(CloseReason::Busy)));
    control(&pair.at_a, &pair.at_b).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finished_control_stream_delivers_its_last_frame() {
    let pair = pair().await;
    let (mut a, mut b) = control(&pair.at_a, &pair.at_b).await;
    b.send(framed(b"refused: wrong password")).await.unwrap();
    let finishing = tokio::spawn(b.finish(CloseReason::Refused));
    assert_eq!(within("last", a.recv()).await.unwrap().unwrap(), "refused: wrong password");
    assert_eq!(within("end", a.recv()).await, Ok(None));
    within("finish", finishing).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_admission_frame_above_the_limit_is_an_error() {
    let pair = pair().await;
    let (mut a, mut b) = control(&pair.at_a, &pair.at_b).await;
    a.send(framed(&[0; 2000])).await.unwrap();
    assert!(matches!(within("frame", b.recv()).await, Err(StreamError::Frame(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn under_load_addresses_are_proved_and_the_rest_is_turned_away() {
    let mut small = config();
    small.handshakes_max = 4;
    let b = Endpoint::bind(&Identity::generate(), small).unwrap();
    let a = Endpoint::bind(&Identity::generate(), config()).unwrap();
    let address = b.local_address();
    // Nobody accepts: one connection is ready, four wait behind it.
    let mut waiting = Vec::new();
    let refused = loop {
        match within("dial", a.connect(address, None)).await {
            Ok(connection) => waiting.push(connection),
            Err(error) => break error,
        }
    };
    assert_eq!(refused, ConnectError::Busy { address });
    assert_eq!(waiting.len(), 5);
    let stats = b.stats();
    assert!(stats.handshakes_retried > 0 && stats.handshakes_refused == 1, "{stats:?}");
    for _ in 0..5 {
        within("accept", b.accept()).await.unwrap();
    }
    within("dial", a.connect(address, None)).await.unwrap();
}
