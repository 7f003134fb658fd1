//! Whatever the types can hold survives the wire unchanged.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use peerchannel_wire::*;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::corpus::{self, unframe};

fn node() -> impl Strategy<Value = NodeId> {
    any::<[u8; 32]>().prop_map(NodeId::from_bytes)
}

fn signature() -> impl Strategy<Value = Signature> {
    vec(any::<u8>(), 64).prop_map(|bytes| Signature::from_bytes(bytes.try_into().unwrap()))
}

fn epoch() -> impl Strategy<Value = Epoch> {
    (0..=limits::SEQUENCE_MAX).prop_map(|number| Epoch::new(number).unwrap())
}

fn sequence() -> impl Strategy<Value = Sequence> {
    (0..=limits::SEQUENCE_MAX).prop_map(|number| Sequence::new(number).unwrap())
}

fn channel() -> impl Strategy<Value = ChannelName> {
    "[a-zA-Z0-9äß日本/._-]{1,30}".prop_map(|name| ChannelName::new(&name).unwrap())
}

fn stream() -> impl Strategy<Value = StreamId> {
    (node(), epoch(), channel()).prop_map(|(origin, epoch, channel)| StreamId { origin, epoch, channel })
}

fn position() -> impl Strategy<Value = Position> {
    (stream(), sequence()).prop_map(|(stream, contiguous)| Position { stream, contiguous })
}

fn range() -> impl Strategy<Value = StreamRange> {
    (stream(), 1..=limits::SEQUENCE_MAX, 1..=limits::SEQUENCE_MAX).prop_map(|(stream, a, b)| {
        let (first, last) = (Sequence::new(a.min(b)).unwrap(), Sequence::new(a.max(b)).unwrap());
        StreamRange::new(stream, first, last).unwrap()
    })
}

fn socket() -> impl Strategy<Value = SocketAddr> {
    let port = 1u16..;
    prop_oneof![
        (1u8..224, any::<[u8; 3]>(), port.clone())
            .prop_map(|(a, [b, c, d], port)| ([a, b, c, d], port).into()),
        (any::<[u16; 7]>(), port)
            .prop_map(|([b, c, d, e, f, g, h], port)| { ([0x2001, b, c, d, e, f, g, h], port).into() }),
    ]
}

fn node_address() -> impl Strategy<Value = NodeAddress> {
    (node(), vec(socket(), 1..=limits::NODE_ADDRESSES_MAX))
        .prop_map(|(node, addresses)| NodeAddress::new(node, addresses).unwrap())
}

fn record() -> impl Strategy<Value = MemberRecord> {
    let more = (vec(any::<u8>(), 0..=limits::MEMBER_METADATA_MAX), any::<(bool, bool)>());
    (node(), epoch(), any::<u32>(), "[a-z ]{0,20}x", vec(socket(), 0..4), signature(), more).prop_map(
        |(node, epoch, incarnation, name, addresses, signature, (metadata, (dialable, suspended)))| {
            let name = MemberName::new(name.trim()).unwrap();
            let known = MemberFacts::new(node, epoch, incarnation, name);
            let metadata = metadata.into();
            MemberFacts { addresses, metadata, dialable, suspended, ..known }.unsigned().sign(signature)
        },
    )
}

fn member() -> impl Strategy<Value = Member> {
    let status = prop_oneof![Just(MemberStatus::Alive), Just(MemberStatus::Left), Just(MemberStatus::Failed)];
    (status, record()).prop_map(|(status, record)| Member { status, record })
}

fn mark() -> impl Strategy<Value = MemberMark> {
    let status = prop_oneof![Just(MemberStatus::Alive), Just(MemberStatus::Left), Just(MemberStatus::Failed)];
    (node(), epoch(), any::<u32>(), status).prop_map(|(node, epoch, incarnation, status)| MemberMark {
        node,
        epoch,
        incarnation,
        status,
    })
}

fn member_digest() -> impl Strategy<Value = MemberDigest> {
    let content = prop_oneof![
        vec(mark(), 0..4).prop_map(|marks| {
            let sums = marks.iter().map(MemberSum::of);
            MemberContent::Sum(sums.fold(MemberSum::default(), MemberSum::plus))
        }),
        (vec(mark(), 0..4), any::<bool>()).prop_map(|(marks, reply)| MemberContent::Marks { marks, reply }),
    ];
    let range = (option::of(node()), option::of(node()), content)
        .prop_filter("not empty", |(from, until, _)| from.is_none() || until.is_none() || from < until)
        .prop_map(|(from, until, content)| MemberRange { from, until, content });
    (any::<u32>(), any::<u32>(), vec(range, 0..5)).prop_map(|(level, members, ranges)| MemberDigest {
        level,
        members,
        ranges,
    })
}

fn digest_range() -> impl Strategy<Value = DigestRange> {
    let content = prop_oneof![
        vec(position(), 1..4).prop_map(|positions| {
            DigestContent::Fingerprint(Fingerprint::of(positions.iter().map(|p| (&p.stream, p.contiguous))))
        }),
        (vec(position(), 0..4), any::<bool>())
            .prop_map(|(positions, reply)| DigestContent::Positions { positions, reply }),
    ];
    (option::of(stream()), option::of(stream()), content).prop_filter_map(
        "an empty range is not valid",
        |(from, until, content)| match (&from, &until) {
            (Some(a), Some(b)) if a >= b => None,
            _ => Some(DigestRange { from, until, content }),
        },
    )
}

fn coordinate() -> impl Strategy<Value = Coordinate> {
    any::<(i32, i32, u32, u32)>().prop_map(|(x, y, height, error)| Coordinate::new(x, y, height, error))
}

fn shuffled() -> impl Strategy<Value = ShuffledNode> {
    (node_address(), option::of(coordinate()), any::<u32>())
        .prop_map(|(address, coordinate, age_s)| ShuffledNode { address, coordinate, age_s })
}

fn control() -> impl Strategy<Value = ControlFrame> {
    let referrals = || vec(node_address(), 0..=limits::REFERRALS_MAX);
    let purpose = prop_oneof![Just(LinkPurpose::Neighbor), Just(LinkPurpose::Direct)];
    let kind = prop_oneof![Just(LinkKind::Near), Just(LinkKind::Far), Just(LinkKind::Trial)];
    let refuse = prop::sample::select(vec![
        RefuseReason::NodeBusy,
        RefuseReason::DuplicateNeighbor,
        RefuseReason::DuplicateNodeId,
        RefuseReason::StaleEpoch,
        RefuseReason::LeavingMesh,
    ]);
    let disconnect = prop::sample::select(vec![
        DisconnectReason::LeavingMesh,
        DisconnectReason::NotUsefulNeighbor,
        DisconnectReason::DuplicateNeighbor,
        DisconnectReason::NodeTooSlow,
        DisconnectReason::ProtocolViolation,
        DisconnectReason::Idle,
        DisconnectReason::Suspended,
    ]);
    prop_oneof![
        (epoch(), purpose, any::<[bool; 4]>(), kind, option::of(coordinate()), record()).prop_map(
            |(epoch, purpose, [joining, urgent, healing, lacking], kind, coordinate, member)| {
                ControlFrame::Connect(Connect {
                    epoch,
                    purpose,
                    joining,
                    urgent,
                    healing,
                    lacking,
                    kind,
                    coordinate,
                    member,
                })
            }
        ),
        (epoch(), any::<bool>(), record(), any::<u32>(), referrals(), option::of(coordinate())).prop_map(
            |(epoch, joining, member, link, referrals, coordinate)| {
                let link_number = LinkNumber(link);
                ControlFrame::Welcome(Welcome { epoch, joining, member, link_number, referrals, coordinate })
            }
        ),
        (refuse, referrals())
            .prop_map(|(reason, referrals)| ControlFrame::Refuse(Refuse { reason, referrals })),
        (disconnect, referrals())
            .prop_map(|(reason, referrals)| ControlFrame::Disconnect(Disconnect { reason, referrals })),
        any::<u64>().prop_map(ControlFrame::Ping),
        (any::<u64>(), option::of(coordinate()), option::of(any::<(u32, u32)>())).prop_map(
            |(nonce, coordinate, balance)| {
                let balance = balance.map(|(spare, surplus)| Balance { spare, surplus });
                ControlFrame::Pong(Pong { nonce, coordinate, balance })
            }
        ),
        (0..=limits::SHUFFLE_HOPS_MAX, vec(shuffled(), 0..=limits::SHUFFLED_NODES_MAX))
            .prop_map(|(hops_left, nodes)| ControlFrame::Shuffle(Shuffle::new(hops_left, nodes))),
        (node(), any::<(u64, bool)>()).prop_map(|(node, (nonce, spread))| ControlFrame::Probe {
            node,
            nonce,
            spread
        }),
        any::<(u64, bool)>().prop_map(|(nonce, answers)| ControlFrame::ProbeResult { nonce, answers }),
        (vec(position(), 0..5), any::<bool>())
            .prop_map(|(positions, last)| ControlFrame::Baseline { positions, last }),
        vec(digest_range(), 0..5).prop_map(ControlFrame::Digest),
        vec(range(), 0..5).prop_map(ControlFrame::Announce),
        vec(range(), 0..5).prop_map(ControlFrame::Pull),
        vec(range(), 0..5).prop_map(ControlFrame::Gone),
        vec(range(), 0..5).prop_map(ControlFrame::NotFromMe),
        vec(position(), 0..5).prop_map(ControlFrame::Ack),
        any::<bool>().prop_map(|congested| ControlFrame::Congestion { congested }),
        vec(member(), 0..5).prop_map(ControlFrame::Members),
        member_digest().prop_map(ControlFrame::MemberDigest),
        vec(node(), 0..5).prop_map(ControlFrame::MemberPull),
        vec(mark(), 0..5).prop_map(ControlFrame::MemberDoubt),
        (any::<u64>(), payload()).prop_map(|(nonce, payload)| ControlFrame::Direct { nonce, payload }),
        any::<u64>().prop_map(|nonce| ControlFrame::DirectAck { nonce }),
    ]
}

fn payload() -> impl Strategy<Value = Bytes> {
    vec(any::<u8>(), 0..200).prop_map(Bytes::from)
}

fn batch() -> impl Strategy<Value = Batch> {
    (1..=limits::SEQUENCE_MAX - 100, any::<u64>(), vec(payload(), 1..8), option::of(signature())).prop_map(
        |(first, published_ms, payloads, signature)| {
            UnsignedBatch::new(Sequence::new(first).unwrap(), published_ms, payloads).unwrap().sign(signature)
        },
    )
}

fn aside(kind: AsideKind) -> impl Strategy<Value = Aside> {
    let number = 1..=limits::SEQUENCE_MAX;
    let key = vec(any::<u8>(), 0..=limits::VOLATILE_KEY_MAX);
    (stream(), number, any::<u64>(), key, payload(), option::of(signature())).prop_map(
        move |(stream, number, published_ms, key, payload, signature)| {
            let number = Sequence::new(number).unwrap();
            let content = AsideContent { stream, number, published_ms, key: key.into(), payload };
            UnsignedAside::new(kind, content).sign(signature)
        },
    )
}

/// Floods of a few streams, so that indexes are used again, and local messages between them.
fn lane() -> impl Strategy<Value = Vec<DataFrame>> {
    vec(stream(), 1..4).prop_flat_map(|streams| {
        let flood = (prop::sample::select(streams), 0u32..1000, batch()).prop_map(|(stream, hops, batch)| {
            DataFrame::Flood(Flood { stream, hops, batch: Arc::new(batch) })
        });
        let local = (0..=limits::HOPS_MAX, 0u32..64, aside(AsideKind::Local))
            .prop_map(|(hops_left, hops, message)| DataFrame::Local(Local { hops_left, hops, message }));
        vec(prop_oneof![3 => flood, 1 => local], 1..12)
    })
}

proptest! {
    #[test]
    fn control_frames_survive(frame in control()) {
        prop_assert_eq!(frame.encoded_len(), frame.encode().len());
        prop_assert_eq!(ControlFrame::decode(unframe(&frame.encode())), Ok(frame));
    }

    #[test]
    fn the_length_of_a_data_frame_is_known_before_it_is_encoded(frames in lane()) {
        let mut encoder = LaneEncoder::new();
        // Index 0, which takes no byte, is another stream's.
        let other = corpus::stream(0xff, "none of theirs");
        let _ = encoder.flood(&Flood { stream: other, hops: 0, batch: Arc::new(corpus::batch(1, &["x"], false)) });
        for frame in frames {
            let _ = corpus::encode(&mut encoder, &frame);
            prop_assert_eq!(frame.encoded_len(), corpus::encode(&mut encoder, &frame).len());
        }
    }

    #[test]
    fn data_lanes_survive(frames in lane()) {
        let (mut encoder, mut decoder) = (LaneEncoder::new(), LaneDecoder::new());
        for frame in frames {
            let bytes = corpus::encode(&mut encoder, &frame);
            prop_assert_eq!(decoder.decode(unframe(&bytes)), Ok(frame));
        }
    }

    #[test]
    fn datagrams_survive(
        link in any::<u32>(),
        remaining_ms in any::<u32>(),
        hops in 0u32..64,
        message in aside(AsideKind::Volatile),
    ) {
        let volatile = Volatile { remaining_ms, hops, message };
        let (number, rest) = split_datagram(encode_datagram(LinkNumber(link), &volatile)).unwrap();
        prop_assert_eq!(DataFrame::Volatile(volatile.clone()).encoded_len(), rest.len());
        prop_assert_eq!(number, LinkNumber(link));
        prop_assert_eq!(decode_volatile(rest), Ok(volatile));
    }

    #[test]
    fn a_batch_that_is_passed_on_is_the_same_bytes(batch in batch(), stream in stream()) {
        let forward = |batch: Batch| {
            let flood = Flood { stream: stream.clone(), hops: 1, batch: Arc::new(batch) };
            let bytes = corpus::encode(&mut LaneEncoder::new(), &DataFrame::Flood(flood));
            match LaneDecoder::new().decode(unframe(&bytes)) {
                Ok(DataFrame::Flood(flood)) => Arc::unwrap_or_clone(flood.batch),
                other => unreachable!("{other:?}"),
            }
        };
        let relayed = forward(forward(batch.clone()));
        prop_assert_eq!(relayed.encoded(), batch.encoded());
        let mesh = MeshId::from_bytes([1; 32]);
        prop_assert_eq!(relayed.transcript(&mesh, &stream), batch.transcript(&mesh, &stream));
    }
}

#[test]
fn a_full_dictionary_reuses_its_oldest_index() {
    let (mut encoder, mut decoder) = (LaneEncoder::new(), LaneDecoder::new());
    let streams = limits::DICTIONARY_MAX as usize + 10;
    // Twice round: on the second every stream was forgotten by the time it comes again.
    for number in (0..streams).chain(0..streams) {
        let stream = corpus::stream(1, &format!("channel {number}"));
        let flood = Flood { stream, hops: 0, batch: corpus::batch(1, &["x"], false).into() };
        let bytes = corpus::encode(&mut encoder, &DataFrame::Flood(flood.clone()));
        assert_eq!(decoder.decode(unframe(&bytes)), Ok(DataFrame::Flood(flood)), "stream {number}");
    }
}

#[test]
fn facts_hold_what_was_signed() {
    // More addresses than a record takes: the record and its bytes must not disagree.
    let addresses = (1..40).map(|port| SocketAddr::from(([192, 0, 2, 1], port))).collect();
    let name = MemberName::default();
    let (node, epoch) = (corpus::node(1), corpus::epoch(1));
    let facts = MemberFacts { addresses, ..MemberFacts::new(node, epoch, 0, name) };
    let record = facts.unsigned().sign(corpus::signature(1));
    assert_eq!(record.facts().addresses.len(), limits::NODE_ADDRESSES_MAX);
    let frame = ControlFrame::Members(vec![Member { status: MemberStatus::Alive, record }]);
    assert_eq!(ControlFrame::decode(unframe(&frame.encode())), Ok(frame));
}

#[test]
fn a_hop_count_cannot_be_made_to_overflow() {
    let flood = Flood {
        stream: corpus::stream(1, "c"),
        hops: u32::MAX,
        batch: corpus::batch(1, &["x"], false).into(),
    };
    let bytes = corpus::encode(&mut LaneEncoder::new(), &DataFrame::Flood(flood));
    let Ok(DataFrame::Flood(read)) = LaneDecoder::new().decode(unframe(&bytes)) else { unreachable!() };
    assert_eq!(read.hops, limits::HOP_COUNT_MAX);
}
