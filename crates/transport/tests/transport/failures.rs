//! Peers that die, restart, disappear; handles that are dropped.

use std::time::{Duration, Instant};

use peerchannel_security::Identity;
use peerchannel_transport::{CloseReason, ConnectionLost, Endpoint, Lane, LinkEvent, LinkLost, PushError};
use peerchannel_wire::{DataLane, LaneHeader};
use quinn::VarInt;
use tokio::runtime::{Builder, Runtime};

use crate::support::*;

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Ends a runtime with everything in it, as the end of a process would.
async fn kill(runtime: Runtime) {
    tokio::task::spawn_blocking(move || runtime.shutdown_timeout(HANG)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_vanishes_is_noticed() {
    let (a_identity, b_identity) = (Identity::generate(), Identity::generate());
    let a = Endpoint::bind(&a_identity, config()).unwrap();
    let b = Endpoint::bind(&b_identity, config()).unwrap();
    let path = Path::to(b.local_address()).await;
    let (at_a, at_b) = connect(&a, &b, path.address, &b_identity).await;
    let ((link, mut reader), _other) = link(&at_a, &at_b).await;
    path.cut();
    let cut = Instant::now();
    let (lost, also_lost) = tokio::join!(within("idle", at_a.closed()), within("idle", at_b.closed()));
    timing("a peer that vanished is noticed", Duration::from_millis(9500), cut.elapsed());
    assert_eq!((lost, also_lost), (ConnectionLost::IdleTimeout, ConnectionLost::IdleTimeout));
    let event = next(&mut reader).await;
    assert!(
        matches!(event, LinkEvent::Closed(LinkLost::Connection(ConnectionLost::IdleTimeout))),
        "{event:?}"
    );
    assert_eq!(link.push(Lane::Control, frame(b"late")), Err(PushError::Closed));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_survives_a_peer_that_moves_to_another_address() {
    let b_identity = Identity::generate();
    let a = Endpoint::bind(&Identity::generate(), config()).unwrap();
    let b = Endpoint::bind(&b_identity, config()).unwrap();
    let path = Path::to(b.local_address()).await;
    let (at_a, at_b) = connect(&a, &b, path.address, &b_identity).await;
    let ((from_a, mut reader_a), (from_b, mut reader_b)) = link(&at_a, &at_b).await;
    let address = path.rebind().await;
    from_a.push(Lane::Interactive, frame(b"from elsewhere")).unwrap();
    assert_eq!(frames(&mut reader_b, Lane::Interactive, 1).await[0], "from elsewhere");
    assert_eq!(at_b.remote_address(), address);
    from_b.push(Lane::Interactive, frame(b"found you")).unwrap();
    assert_eq!(frames(&mut reader_a, Lane::Interactive, 1).await[0], "found you");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_peer_resets_the_stale_connection_at_once() {
    let (a_identity, b_identity) = (Identity::generate(), Identity::generate());
    let a = Endpoint::bind(&a_identity, config()).unwrap();
    let first_life = runtime();
    let (tell, told) = tokio::sync::oneshot::channel();
    let identity = b_identity.clone();
    first_life.spawn(async move {
        let b = Endpoint::bind(&identity, config()).unwrap();
        tell.send(b.local_address()).unwrap();
        let connection = b.accept().await.unwrap();
        let (_link, mut reader) = connection.accept_control().await.unwrap().into_link();
        loop {
            reader.recv().await;
        }
    });
    let address = told.await.unwrap();
    let connection = within("dial", a.connect(address, Some(b_identity.node_id()))).await.unwrap();
    let (link, mut reader) = connection.open_control().await.unwrap().into_link();
    link.push(Lane::Control, frame(b"hello")).unwrap();
    kill(first_life).await;

    let mut same = config();
    same.listen = address;
    let _second_life = Endpoint::bind(&b_identity, same).unwrap();
    let restarted = Instant::now();
    link.push(Lane::Control, frame(b"are you there?")).unwrap();
    assert_eq!(within("reset", connection.closed()).await, ConnectionLost::Reset);
    timing("a restarted peer resets a stale connection", Duration::from_secs(1), restarted.elapsed());
    let event = next(&mut reader).await;
    assert!(matches!(event, LinkEvent::Closed(LinkLost::Connection(ConnectionLost::Reset))), "{event:?}");
    within("dial again", a.connect(address, Some(b_identity.node_id()))).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_arrived_before_the_end_of_the_connection_is_delivered() {
    let b = Endpoint::bind(&Identity::generate(), config()).unwrap();
    let (_endpoint, quic) = raw_peer(b.local_address()).await;
    let at_b = within("accept", b.accept()).await.unwrap();
    let (mut control, _in) = quic.open_bi().await.unwrap();
    control.write_all(&framed(b"hello")).await.unwrap();
    let stream = within("control", at_b.accept_control()).await.unwrap();
    let number = stream.number();
    let (link, mut reader) = stream.into_link();
    frames(&mut reader, Lane::Control, 1).await;
    link.establish(number).unwrap();
    let mut lane = quic.open_uni().await.unwrap();
    lane.write_all(&LaneHeader { link: number, lane: DataLane::Interactive }.encode()).await.unwrap();
    for index in 0..50u64 {
        let body = [&index.to_be_bytes()[..], &[0xa5; 992]].concat();
        lane.write_all(&framed(&body)).await.unwrap();
    }
    lane.finish().unwrap();
    // A finished stream says so when the peer's QUIC has all of it.
    assert_eq!(within("acknowledged", lane.stopped()).await.unwrap(), None);
    quic.close(VarInt::from_u64(CloseReason::Shutdown.code()).unwrap(), b"");
    within("closed", at_b.closed()).await;
    let received = frames(&mut reader, Lane::Interactive, 50).await;
    assert!(received.iter().map(number_of).eq(0..50));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_connection_is_noticed_by_a_link_that_nobody_reads() {
    let pair = pair().await;
    let ((_a, _at_a), (b, _at_b)) = link(&pair.at_a, &pair.at_b).await;
    pair.at_a.close(CloseReason::Busy);
    let closed = ConnectionLost::ClosedByPeer(CloseReason::Busy);
    assert_eq!(within("over", b.over()).await, LinkLost::Connection(closed));
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_the_last_handle_resets_the_link_only() {
    let pair = pair().await;
    let ((a, _at_a), (_b, mut at_b)) = link(&pair.at_a, &pair.at_b).await;
    let again = a.clone();
    drop(a);
    again.push(Lane::Control, frame(b"one handle is left")).unwrap();
    frames(&mut at_b, Lane::Control, 1).await;
    drop(again);
    let event = next(&mut at_b).await;
    assert!(matches!(event, LinkEvent::Closed(LinkLost::ClosedByPeer(CloseReason::Abandoned))), "{event:?}");
    link(&pair.at_a, &pair.at_b).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dropping_the_reader_ends_the_link() {
    let pair = pair().await;
    let ((a, at_a), (_b, mut at_b)) = link(&pair.at_a, &pair.at_b).await;
    drop(at_a);
    assert_eq!(a.over().await, LinkLost::ClosedLocally(CloseReason::Abandoned));
    assert!(matches!(next(&mut at_b).await, LinkEvent::Closed(LinkLost::ClosedByPeer(_))));
}

#[test]
fn no_task_is_left_when_everything_is_closed() {
    let runtime = runtime();
    runtime.block_on(async {
        let pair = pair().await;
        let ((a, _at_a), (b, _at_b)) = link(&pair.at_a, &pair.at_b).await;
        let (_c, _d) = link(&pair.at_b, &pair.at_a).await;
        a.push(Lane::Bulk, numbered(0, 100_000)).unwrap();
        b.finish(frame(b"bye")).unwrap();
        let _unanswered = pair.at_a.open_control().await.unwrap();
        assert!(runtime.metrics().num_alive_tasks() > 8);
        tokio::join!(pair.a.close(), pair.b.close());
    });
    // Tasks end within a moment of their handles.
    let until = Instant::now() + HANG;
    while runtime.metrics().num_alive_tasks() > 0 {
        assert!(Instant::now() < until, "{} tasks are left", runtime.metrics().num_alive_tasks());
        runtime.block_on(async { tokio::time::sleep(Duration::from_millis(5)).await });
    }
}
