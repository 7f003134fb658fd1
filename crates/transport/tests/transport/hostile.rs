//! Peers that do what the protocol does not allow.

use std::net::Ipv4Addr;

use peerchannel_security::Identity;
use peerchannel_transport::{
    CloseReason, Connection, Endpoint, Lane, Link, LinkEvent, LinkLost, LinkReader, Violation,
};
use peerchannel_wire::{
    ControlFrame, DataLane, DecodeError, Disconnect, DisconnectReason, LaneHeader, LinkNumber,
};
use quinn::{SendStream, VarInt};

use crate::support::*;

struct Raw {
    _endpoint: quinn::Endpoint,
    quic: quinn::Connection,
    control: SendStream,
    control_in: quinn::RecvStream,
    number: LinkNumber,
    at_b: Connection,
    link: Link,
    reader: LinkReader,
    b: Endpoint,
}

/// A raw peer with one established link at `b`.
async fn raw() -> Raw {
    let b = Endpoint::bind(&Identity::generate(), config()).unwrap();
    let (endpoint, quic) = raw_peer(b.local_address()).await;
    let at_b = within("accept", b.accept()).await.unwrap();
    let (mut control, control_in) = quic.open_bi().await.unwrap();
    control.write_all(&framed(b"hello")).await.unwrap();
    let stream = within("control", at_b.accept_control()).await.unwrap();
    let number = stream.number();
    let (link, mut reader) = stream.into_link();
    frames(&mut reader, Lane::Control, 1).await;
    link.establish(number).unwrap();
    Raw { _endpoint: endpoint, quic, control, control_in, number, at_b, link, reader, b }
}

impl Raw {
    async fn lane(&self, lane: DataLane) -> SendStream {
        let mut stream = self.quic.open_uni().await.unwrap();
        stream.write_all(&LaneHeader { link: self.number, lane }.encode()).await.unwrap();
        stream
    }

    /// The link ended for this violation; the connection works.
    async fn check(mut self, expected: Violation, code: CloseReason) {
        let event = next(&mut self.reader).await;
        assert!(matches!(&event, LinkEvent::Closed(LinkLost::Violation(v)) if *v == expected), "{event:?}");
        let stopped = within("stop", self.control.stopped()).await.unwrap();
        assert_eq!(stopped, Some(VarInt::from_u64(code.code()).unwrap()));
        let (mut control, _in) = self.quic.open_bi().await.unwrap();
        control.write_all(&framed(b"another mesh")).await.unwrap();
        let mut other = within("control", self.at_b.accept_control()).await.unwrap();
        assert_eq!(within("frame", other.recv()).await.unwrap().unwrap(), "another mesh");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_oversize_frame_ends_only_its_link() {
    for (lane, data) in [(Lane::Interactive, DataLane::Interactive), (Lane::Bulk, DataLane::Bulk)] {
        let raw = raw().await;
        let mut stream = raw.lane(data).await;
        // The length of the frame is enough.
        stream.write_all(&[0xff, 0xff, 0xff, 0x7f]).await.unwrap();
        let error = DecodeError::FrameTooLong { length: (1 << 28) - 1, limit: lane.frame_max() };
        raw.check(Violation::Frame { lane, error }, CloseReason::FrameTooLong).await;
    }
    let mut raw = raw().await;
    raw.control.write_all(&[0xff, 0xff, 0xff, 0x7f]).await.unwrap();
    let lane = Lane::Control;
    let error = DecodeError::FrameTooLong { length: (1 << 28) - 1, limit: lane.frame_max() };
    raw.check(Violation::Frame { lane, error }, CloseReason::FrameTooLong).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_length_that_is_none_ends_only_its_link() {
    let mut raw = raw().await;
    raw.control.write_all(&[0xff; 64]).await.unwrap();
    let violation = Violation::Frame { lane: Lane::Control, error: DecodeError::BadLength };
    raw.check(violation, CloseReason::ProtocolViolation).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_before_a_bad_one_are_delivered() {
    let mut raw = raw().await;
    let mut stream = raw.lane(DataLane::Bulk).await;
    let bytes = [&framed(b"good")[..], &[0xff; 8]].concat();
    stream.write_all(&bytes).await.unwrap();
    assert_eq!(frames(&mut raw.reader, Lane::Bulk, 1).await[0], "good");
    assert!(matches!(next(&mut raw.reader).await, LinkEvent::Closed(LinkLost::Violation(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lane_that_ends_inside_a_frame_is_a_violation() {
    let raw = raw().await;
    let mut stream = raw.lane(DataLane::Interactive).await;
    stream.write_all(&framed(b"cut off")[..4]).await.unwrap();
    stream.finish().unwrap();
    raw.check(Violation::Truncated(Lane::Interactive), CloseReason::ProtocolViolation).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_stream_for_a_lane_is_a_violation() {
    let raw = raw().await;
    let _first = raw.lane(DataLane::Interactive).await;
    let _second = raw.lane(DataLane::Interactive).await;
    raw.check(Violation::SecondLane(Lane::Interactive), CloseReason::ProtocolViolation).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_reads_no_more_is_noticed_without_a_push() {
    let mut raw = raw().await;
    raw.control_in.stop(VarInt::from_u64(CloseReason::TooSlow.code()).unwrap()).unwrap();
    let lost = within("over", raw.link.over()).await;
    assert_eq!(lost, LinkLost::ClosedByPeer(CloseReason::TooSlow));
}

#[tokio::test(flavor = "multi_thread")]
async fn lanes_of_unknown_links_are_refused() {
    let mut raw = raw().await;
    raw.number = LinkNumber(4711);
    let stream = raw.lane(DataLane::Interactive).await;
    let stopped = within("stop", stream.stopped()).await.unwrap();
    assert_eq!(stopped, Some(VarInt::from_u64(CloseReason::UnknownLink.code()).unwrap()));
    assert_eq!(raw.b.stats().traffic.lanes_refused, 1);
    assert!(!raw.link.is_over());
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_are_no_lanes_are_refused() {
    let raw = raw().await;
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 40], &[2, 0, 0], &[0]] {
        let mut stream = raw.quic.open_uni().await.unwrap();
        stream.write_all(garbage).await.unwrap();
        let stopped = within("stop", stream.stopped()).await.unwrap();
        assert_eq!(stopped, Some(VarInt::from_u64(CloseReason::ProtocolViolation.code()).unwrap()));
    }
    assert!(!raw.link.is_over());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_says_nothing_is_stopped_in_time() {
    let raw = raw().await;
    let mut stream = raw.quic.open_uni().await.unwrap();
    stream.write_all(&[4]).await.unwrap();
    let stopped = within("stop", stream.stopped()).await.unwrap();
    assert_eq!(stopped, Some(VarInt::from_u64(CloseReason::DeadlinePassed.code()).unwrap()));
    assert!(!raw.link.is_over());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disconnect_waits_for_the_data_lanes_but_not_for_ever() {
    let mut raw = raw().await;
    let mut stream = raw.lane(DataLane::Interactive).await;
    stream.write_all(&framed(b"data")).await.unwrap();
    let goodbye = Disconnect { reason: DisconnectReason::LeavingMesh, referrals: Vec::new() };
    raw.control.write_all(&ControlFrame::Disconnect(goodbye).encode()).await.unwrap();
    assert_eq!(frames(&mut raw.reader, Lane::Interactive, 1).await[0], "data");
    let body = frames(&mut raw.reader, Lane::Control, 1).await.remove(0);
    assert!(ControlFrame::is_disconnect(&body));
}

#[tokio::test(flavor = "multi_thread")]
async fn lanes_are_parked_for_pending_links_only_and_only_a_few() {
    let raw = raw().await;
    // A control stream that may still become a link.
    let (mut control, _in) = raw.quic.open_bi().await.unwrap();
    control.write_all(&framed(b"pending")).await.unwrap();
    let pending = within("control", raw.at_b.accept_control()).await.unwrap();
    let mut parked = Vec::new();
    for number in 100..106 {
        let mut stream = raw.quic.open_uni().await.unwrap();
        let header = LaneHeader { link: LinkNumber(number), lane: DataLane::Bulk };
        stream.write_all(&header.encode()).await.unwrap();
        parked.push(stream);
    }
    // Two of the six are one too many each.
    while raw.b.stats().traffic.lanes_refused < 2 {
        tokio::task::yield_now().await;
    }
    drop(pending);
    for stream in parked {
        let stopped = within("stop", stream.stopped()).await.unwrap();
        assert_eq!(stopped, Some(VarInt::from_u64(CloseReason::UnknownLink.code()).unwrap()));
    }
    assert_eq!(raw.b.stats().traffic.lanes_refused, 6);
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_on_the_port_is_ignored() {
    let pair = pair().await;
    let socket = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    for length in [0usize, 1, 20, 500, 1200, 1500] {
        for first in [0x00u8, 0x40, 0x7f, 0xc0, 0xff] {
            let mut garbage = vec![first; length];
            garbage
                .iter_mut()
                .enumerate()
                .skip(5)
                .for_each(|(i, byte)| *byte = u8::try_from(i % 251).unwrap());
            socket.send_to(&garbage, pair.b.local_address()).await.unwrap();
        }
    }
    let ((a, _at_a), (_b, mut at_b)) = link(&pair.at_a, &pair.at_b).await;
    a.push(Lane::Interactive, frame(b"undisturbed")).unwrap();
    assert_eq!(frames(&mut at_b, Lane::Interactive, 1).await[0], "undisturbed");
    connect(&pair.a, &pair.b, pair.b.local_address(), &pair.b_identity).await;
}

/// Clients on 127.0.0.1 that prove their addresses and then say nothing more. Linux has all of
/// 127.0.0.0/8 on its loopback, so that there can be a second network.
#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn stalled_handshakes_of_one_network_do_not_lock_out_another() {
    let mut small = config();
    small.handshakes_max = 4;
    let b = Endpoint::bind(&Identity::generate(), small).unwrap();
    let b_address = b.local_address();
    let attacker = Endpoint::bind(&Identity::generate(), config()).unwrap();
    let (mut relays, mut dials) = (tokio::task::JoinSet::new(), tokio::task::JoinSet::new());
    for _ in 0..8 {
        let relay = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let (attacker, address) = (attacker.clone(), relay.local_addr().unwrap());
        dials.spawn(async move { attacker.connect(address, None).await.map(drop) });
        relays.spawn(async move {
            let (mut packet, mut client) = ([0; 2048], None);
            loop {
                let (length, from) = relay.recv_from(&mut packet).await.unwrap();
                // A Retry is let through, so that the address is proved; no other answer is.
                let to = if from != b_address {
                    client = Some(from);
                    Some(b_address)
                } else {
                    client.filter(|_| packet[0] & 0xf0 == 0xf0)
                };
                if let Some(to) = to {
                    relay.send_to(&packet[..length], to).await.unwrap();
                }
            }
        });
    }
    // All are either stalled or turned away.
    let judged = async {
        while b.stats().handshakes_refused == 0 {
            tokio::task::yield_now().await;
        }
    };
    within("the attack", judged).await;
    let mut elsewhere = config();
    elsewhere.listen = (Ipv4Addr::new(127, 0, 1, 1), 0).into();
    let honest = Endpoint::bind(&Identity::generate(), elsewhere).unwrap();
    within("dial", honest.connect(b_address, None)).await.unwrap();
    drop((relays, dials));
}
