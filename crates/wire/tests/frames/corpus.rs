//! One frame of every kind, shared by the tests of this folder.
//!
//! Deterministic by construction: fixed keys, fixed numbers, signatures of one byte repeated.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use peerchannel_wire::*;

/// How the bytes of an entry are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reader {
    Control,
    /// A data lane on which the entry `flood_first_use` has been read before.
    Lane,
    LaneHeader,
    Datagram,
}

/// A frame with its length prefix (datagrams have none).
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub(crate) name: &'static str,
    pub(crate) reader: Reader,
    pub(crate) bytes: Bytes,
}

pub(crate) fn node(byte: u8) -> NodeId {
    NodeId::from_bytes([byte; 32])
}

pub(crate) fn epoch(number: u64) -> Epoch {
    Epoch::new(number).unwrap()
}

pub(crate) fn sequence(number: u64) -> Sequence {
    Sequence::new(number).unwrap()
}

pub(crate) fn stream(origin: u8, channel: &str) -> StreamId {
    StreamId {
        origin: node(origin),
        epoch: epoch(1_760_000_000_123),
        channel: ChannelName::new(channel).unwrap(),
    }
}

pub(crate) fn signature(byte: u8) -> Signature {
    Signature::from_bytes([byte; 64])
}

pub(crate) fn member(origin: u8) -> MemberRecord {
    MemberFacts {
        node: node(origin),
        epoch: epoch(7),
        incarnation: 3,
        name: MemberName::new("ann").unwrap(),
        addresses: vec!["192.0.2.1:4433".parse().unwrap(), "[2001:db8::1]:4433".parse().unwrap()],
        metadata: Bytes::new(),
        dialable: false,
        suspended: false,
    }
    .unsigned()
    .sign(signature(0x5a))
}

/// A record with everything a record may say.
fn full_member() -> MemberRecord {
    let facts = member(1).facts().clone();
    MemberFacts { metadata: Bytes::from_static(b"color=red"), dialable: true, suspended: true, ..facts }
        .unsigned()
        .sign(signature(0x5b))
}

fn mark(origin: u8, status: MemberStatus) -> MemberMark {
    MemberMark { node: node(origin), epoch: epoch(7), incarnation: 300, status }
}

fn referral() -> NodeAddress {
    NodeAddress::new(node(9), ["198.51.100.7:9".parse().unwrap()]).unwrap()
}

fn coordinate() -> Coordinate {
    Coordinate::new(-52_000, 31_000, 4_200, 180)
}

fn position(contiguous: u64) -> Position {
    Position { stream: stream(2, "chat"), contiguous: sequence(contiguous) }
}

fn range(first: u64, last: u64) -> StreamRange {
    StreamRange::new(stream(2, "chat"), sequence(first), sequence(last)).unwrap()
}

/// Every kind of control frame with its name.
pub(crate) fn control_frames() -> Vec<(&'static str, ControlFrame)> {
    let fingerprint = Fingerprint::of([(&stream(2, "chat"), sequence(5))]);
    vec![
        (
            "connect",
            ControlFrame::Connect(Connect {
                epoch: epoch(7),
                purpose: LinkPurpose::Neighbor,
                joining: true,
                urgent: false,
                kind: LinkKind::Near,
                coordinate: None,
                healing: false,
                lacking: false,
                member: member(1),
            }),
        ),
        (
            "connect_urgent",
            ControlFrame::Connect(Connect {
                epoch: epoch(7),
                purpose: LinkPurpose::Direct,
                joining: false,
                urgent: true,
                kind: LinkKind::Near,
                coordinate: None,
                healing: false,
                lacking: false,
                member: member(1),
            }),
        ),
        (
            "connect_lacking",
            ControlFrame::Connect(Connect {
                epoch: epoch(7),
                purpose: LinkPurpose::Neighbor,
                joining: false,
                urgent: false,
                healing: false,
                lacking: true,
                kind: LinkKind::Near,
                coordinate: None,
                member: member(1),
            }),
        ),
        (
            "connect_healing",
            ControlFrame::Connect(Connect {
                epoch: epoch(7),
                purpose: LinkPurpose::Neighbor,
                joining: false,
                urgent: false,
                healing: true,
                lacking: false,
                kind: LinkKind::Near,
                coordinate: None,
                member: full_member(),
            }),
        ),
        (
            "welcome",
            ControlFrame::Welcome(Welcome {
                epoch: epoch(8),
                joining: false,
                member: member(3),
                link_number: LinkNumber(300),
                referrals: vec![referral()],
                coordinate: None,
            }),
        ),
        (
            "refuse",
            ControlFrame::Refuse(Refuse { reason: RefuseReason::NodeBusy, referrals: vec![referral()] }),
        ),
        (
            "disconnect",
            ControlFrame::Disconnect(Disconnect {
                reason: DisconnectReason::NotUsefulNeighbor,
                referrals: vec![referral()],
            }),
        ),
        ("ping", ControlFrame::Ping(0x0102_0304)),
        ("pong", ControlFrame::Pong(Pong::plain(0x0102_0304))),
        ("probe", ControlFrame::Probe { node: node(4), nonce: 6, spread: false }),
        ("probe_spread", ControlFrame::Probe { node: node(4), nonce: 6, spread: true }),
        ("probe_result", ControlFrame::ProbeResult { nonce: 6, answers: true }),
        ("baseline", ControlFrame::Baseline { positions: vec![position(41)], last: true }),
        (
            "digest_fingerprint",
            ControlFrame::Digest(vec![DigestRange {
                from: None,
                until: Some(stream(2, "chat")),
                content: DigestContent::Fingerprint(fingerprint),
            }]),
        ),
        (
            "digest_positions",
            ControlFrame::Digest(vec![DigestRange {
                from: Some(stream(2, "a")),
                until: None,
                content: DigestContent::Positions { positions: vec![position(0)], reply: true },
            }]),
        ),
        ("announce", ControlFrame::Announce(vec![range(1, 1)])),
        ("pull", ControlFrame::Pull(vec![range(5, 700)])),
        ("gone", ControlFrame::Gone(vec![range(1, 4)])),
        ("not_from_me", ControlFrame::NotFromMe(vec![range(2, 3)])),
        ("ack", ControlFrame::Ack(vec![position(limits::SEQUENCE_MAX)])),
        ("congestion", ControlFrame::Congestion { congested: true }),
        ("congestion_over", ControlFrame::Congestion { congested: false }),
        (
            "members",
            ControlFrame::Members(vec![
                Member { status: MemberStatus::Alive, record: member(1) },
                Member { status: MemberStatus::Failed, record: member(3) },
            ]),
        ),
        (
            "member_digest_sum",
            ControlFrame::MemberDigest(MemberDigest {
                level: 3,
                members: 200,
                ranges: vec![MemberRange {
                    from: None,
                    until: Some(node(4)),
                    content: MemberContent::Sum(
                        MemberSum::of(&mark(1, MemberStatus::Alive))
                            .plus(MemberSum::of(&mark(2, MemberStatus::Left))),
                    ),
                }],
            }),
        ),
        (
            "member_digest_marks",
            ControlFrame::MemberDigest(MemberDigest {
                level: 0,
                members: 2,
                ranges: vec![MemberRange {
                    from: Some(node(4)),
                    until: None,
                    content: MemberContent::Marks { marks: vec![mark(5, MemberStatus::Failed)], reply: true },
                }],
            }),
        ),
        ("member_pull", ControlFrame::MemberPull(vec![node(4), node(5)])),
        ("member_doubt", ControlFrame::MemberDoubt(vec![mark(4, MemberStatus::Failed)])),
        ("direct", ControlFrame::Direct { nonce: 12, payload: Bytes::from_static(b"just you") }),
        ("direct_ack", ControlFrame::DirectAck { nonce: 12 }),
        (
            "connect_far",
            ControlFrame::Connect(Connect {
                epoch: epoch(7),
                purpose: LinkPurpose::Neighbor,
                joining: false,
                urgent: false,
                healing: false,
                lacking: false,
                kind: LinkKind::Far,
                coordinate: Some(coordinate()),
                member: member(1),
            }),
        ),
        (
            "welcome_with_coordinate",
            ControlFrame::Welcome(Welcome {
                epoch: epoch(8),
                joining: false,
                member: member(3),
                link_number: LinkNumber(1),
                referrals: vec![],
                coordinate: Some(coordinate()),
            }),
        ),
        (
            "pong_with_more",
            ControlFrame::Pong(Pong {
                nonce: 5,
                coordinate: Some(coordinate()),
                balance: Some(Balance { spare: 3, surplus: 1 }),
            }),
        ),
        (
            "shuffle",
            ControlFrame::Shuffle(Shuffle::new(
                6,
                vec![
                    ShuffledNode { address: referral(), coordinate: Some(coordinate()), age_s: 0 },
                    ShuffledNode { address: referral(), coordinate: None, age_s: 300 },
                ],
            )),
        ),
    ]
}

pub(crate) fn batch(first: u64, payloads: &[&'static str], signed: bool) -> Batch {
    let payloads = payloads.iter().map(|p| Bytes::from_static(p.as_bytes())).collect();
    let unsigned = UnsignedBatch::new(sequence(first), 1_760_000_000_500, payloads).unwrap();
    unsigned.sign(signed.then(|| signature(0xc3)))
}

pub(crate) fn aside(kind: AsideKind) -> Aside {
    UnsignedAside::new(
        kind,
        AsideContent {
            stream: stream(2, "cursor"),
            number: sequence(17),
            published_ms: 1_760_000_000_501,
            key: if kind == AsideKind::Volatile { Bytes::from_static(b"xy") } else { Bytes::new() },
            payload: Bytes::from_static(b"here"),
        },
    )
    .sign(Some(signature(0xa5)))
}

/// The frames of one data lane, in the order they are sent.
pub(crate) fn data_frames() -> Vec<(&'static str, DataFrame)> {
    let flood = |stream, hops, batch| DataFrame::Flood(Flood { stream, hops, batch: Arc::new(batch) });
    vec![
        ("flood_first_use", flood(stream(2, "chat"), 0, batch(1, &["hello"], true))),
        ("flood_index_reuse", flood(stream(2, "chat"), 3, batch(2, &["a", "", "ccc"], true))),
        ("flood_second_stream", flood(stream(2, "work"), 1, batch(9, &["unsigned"], false))),
        (
            "flood_withheld",
            flood(stream(2, "chat"), 2, batch(3, &["a", "b"], true).withhold(|s| s.get() == 3).unwrap()),
        ),
        ("local", DataFrame::Local(Local { hops_left: 2, hops: 1, message: aside(AsideKind::Local) })),
    ]
}

pub(crate) fn volatile() -> Volatile {
    Volatile { remaining_ms: 250, hops: 1, message: aside(AsideKind::Volatile) }
}

pub(crate) fn encode(lane: &mut LaneEncoder, frame: &DataFrame) -> Bytes {
    let encoded = match frame {
        DataFrame::Flood(flood) => lane.flood(flood),
        DataFrame::Local(local) => lane.local(local),
        DataFrame::Volatile(_) => unreachable!("volatile messages travel in datagrams"),
    };
    [encoded.head, encoded.body].concat().into()
}

/// The whole corpus, encoded.
pub(crate) fn entries() -> Vec<Entry> {
    let mut entries: Vec<Entry> = control_frames()
        .into_iter()
        .map(|(name, frame)| Entry { name, reader: Reader::Control, bytes: frame.encode() })
        .collect();
    let mut lane = LaneEncoder::new();
    for (name, frame) in data_frames() {
        entries.push(Entry { name, reader: Reader::Lane, bytes: encode(&mut lane, &frame) });
    }
    for (name, lane) in
        [("lane_header_interactive", DataLane::Interactive), ("lane_header_bulk", DataLane::Bulk)]
    {
        let header = LaneHeader { link: LinkNumber(300), lane };
        entries.push(Entry { name, reader: Reader::LaneHeader, bytes: header.encode() });
    }
    let bytes = encode_datagram(LinkNumber(300), &volatile());
    entries.push(Entry { name: "volatile_datagram", reader: Reader::Datagram, bytes });
    entries
}

/// The entry that defines index 0, encoded once: it is read before every lane entry.
fn first_flood() -> Bytes {
    static FIRST: OnceLock<Bytes> = OnceLock::new();
    let find = || entries().into_iter().find(|entry| entry.name == "flood_first_use").unwrap();
    FIRST.get_or_init(|| unframe(&find().bytes)).clone()
}

/// What bytes are read as. `Debug` text stands for the value: it is enough to compare with.
pub(crate) fn read(reader: Reader, body: Bytes) -> Result<String, DecodeError> {
    match reader {
        Reader::Control => ControlFrame::decode(body).map(|frame| format!("{frame:?}")),
        Reader::Lane => {
            let mut lane = LaneDecoder::new();
            lane.decode(first_flood())?;
            lane.decode(body).map(|frame| format!("{frame:?}"))
        }
        Reader::LaneHeader => LaneHeader::decode(body).map(|header| format!("{header:?}")),
        Reader::Datagram => {
            let (link, rest) = split_datagram(body)?;
            decode_volatile(rest).map(|volatile| format!("{link:?} {volatile:?}"))
        }
    }
}

/// The body of exactly one length-prefixed frame.
pub(crate) fn unframe(bytes: &Bytes) -> Bytes {
    let mut decoder = FrameDecoder::new(limits::BULK_FRAME_MAX);
    decoder.push(bytes);
    let body = decoder.next_frame().unwrap().unwrap();
    assert_eq!(decoder.pending(), 0);
    body
}

/// The body of an entry, whatever carries it.
pub(crate) fn body(entry: &Entry) -> Bytes {
    if entry.reader == Reader::Datagram { entry.bytes.clone() } else { unframe(&entry.bytes) }
}
