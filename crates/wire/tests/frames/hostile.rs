//! Bytes no honest node sends: cut short, flipped, lying about their length, random.
//!
//! Whatever arrives is either a valid frame or a typed error. Nothing panics, and no number in
//! a frame makes the decoder take memory for bytes that did not arrive.

use bytes::{Bytes, BytesMut};
use peerchannel_wire::*;
use proptest::prelude::*;

use crate::corpus::{self, Reader, body, entries, read};

/// Reads bytes as every kind of frame there is.
fn read_as_anything(bytes: &Bytes) {
    for reader in [Reader::Control, Reader::Lane, Reader::LaneHeader, Reader::Datagram] {
        let _ = read(reader, bytes.clone());
    }
}

#[test]
fn a_frame_cut_short_is_waited_for() {
    for entry in entries().iter().filter(|entry| entry.reader != Reader::Datagram) {
        for cut in 0..entry.bytes.len() {
            let mut decoder = FrameDecoder::new(limits::BULK_FRAME_MAX);
            decoder.push(&entry.bytes[..cut]);
            assert_eq!(decoder.next_frame(), Ok(None), "{} cut at {cut}", entry.name);
            assert_eq!(decoder.pending(), cut, "{}: holds what arrived and nothing more", entry.name);
        }
    }
}

#[test]
fn a_body_cut_short_never_reads_as_the_whole() {
    for entry in entries() {
        let whole = body(&entry);
        let meant = read(entry.reader, whole.clone()).unwrap();
        for cut in 0..whole.len() {
            read_as_anything(&whole.slice(..cut));
            // Protobuf drops fields at the end that were cut at a boundary; what is left may be a
            // valid frame, but never the same one.
            assert_ne!(
                read(entry.reader, whole.slice(..cut)),
                Ok(meant.clone()),
                "{} cut at {cut}",
                entry.name
            );
        }
    }
}

#[test]
fn a_flipped_bit_is_an_error_or_another_valid_frame() {
    for entry in entries() {
        let whole = body(&entry);
        for bit in 0..whole.len() * 8 {
            let mut flipped = BytesMut::from(&whole[..]);
            flipped[bit / 8] ^= 1 << (bit % 8);
            let flipped = flipped.freeze();
            read_as_anything(&flipped);
            // What is accepted is valid by construction, so it survives another round.
            if let (Reader::Control, Ok(frame)) = (entry.reader, ControlFrame::decode(flipped)) {
                let again = corpus::unframe(&frame.encode());
                assert_eq!(ControlFrame::decode(again), Ok(frame), "{} bit {bit}", entry.name);
            }
        }
    }
}

#[test]
fn a_length_beyond_the_frame_is_refused_at_every_depth() {
    // Field 1 or 15, then a length of 256 MiB, then nothing.
    let lie = [0xff, 0xff, 0xff, 0x7f];
    for key in [0x0a, 0x12, 0x1a, 0x7a] {
        let flat = [&[key][..], &lie].concat();
        read_as_anything(&flat.clone().into());
        assert!(read(Reader::Control, flat.clone().into()).is_err());
        let nested = [&[0x0a, 5][..], &flat].concat();
        read_as_anything(&nested.clone().into());
        assert!(read(Reader::Lane, nested.into()).is_err());
    }
}

#[test]
fn deep_nesting_is_refused() {
    // Groups of an unknown field, one inside the other, as deep as a frame is long.
    let nested = Bytes::from(vec![0xa3; limits::CONTROL_FRAME_MAX]);
    assert!(read(Reader::Control, nested.clone()).is_err());
    assert!(read(Reader::Lane, nested).is_err());
}

#[test]
fn lists_beyond_their_limits_are_refused() {
    let range = StreamRange::new(corpus::stream(1, "c"), corpus::sequence(1), corpus::sequence(2)).unwrap();
    let position = Position { stream: corpus::stream(1, "c"), contiguous: corpus::sequence(2) };
    let digest = DigestRange {
        from: None,
        until: None,
        content: DigestContent::Positions { positions: vec![], reply: false },
    };
    let member = Member { status: MemberStatus::Alive, record: corpus::member(1) };
    let over = limits::POSITIONS_MAX + 1;
    let frames = [
        ControlFrame::Announce(vec![range.clone(); over]),
        ControlFrame::Pull(vec![range.clone(); over]),
        ControlFrame::Gone(vec![range.clone(); over]),
        ControlFrame::NotFromMe(vec![range; over]),
        ControlFrame::Ack(vec![position.clone(); over]),
        ControlFrame::Baseline { positions: vec![position; over], last: false },
        ControlFrame::Digest(vec![digest; over]),
        ControlFrame::Members(vec![member.clone(); over]),
        ControlFrame::MemberPull(vec![corpus::node(1); over]),
        ControlFrame::MemberDoubt(vec![MemberMark::of(&member); over]),
        ControlFrame::Direct { nonce: 1, payload: vec![0; limits::DIRECT_PAYLOAD_MAX + 1].into() },
    ];
    for frame in frames {
        let mut decoder = FrameDecoder::new(limits::BULK_FRAME_MAX);
        decoder.push(&frame.encode());
        let body = decoder.next_frame().unwrap().unwrap();
        let error = ControlFrame::decode(body).unwrap_err();
        assert!(matches!(error, DecodeError::TooLong { .. }), "{error}");
    }
}

#[test]
fn a_batch_of_countless_empty_bodies_is_refused() {
    // Two bytes each on the wire, many more in memory: counted before they are taken apart.
    let batch = [0x1a, 0x00].repeat(limits::MESSAGE_MAX / 2);
    let mut flood = vec![0x7a];
    put_varint(&mut flood, batch.len());
    flood.extend_from_slice(&batch);
    let mut frame = vec![0x0a];
    put_varint(&mut frame, flood.len());
    frame.extend_from_slice(&flood);
    let error = read(Reader::Lane, frame.into()).unwrap_err();
    assert!(matches!(error, DecodeError::TooLong { field: "batch", .. }), "{error}");
}

fn put_varint(buffer: &mut Vec<u8>, mut value: usize) {
    while value >= 0x80 {
        buffer.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
        value >>= 7;
    }
    buffer.push(u8::try_from(value).unwrap());
}

#[test]
fn a_lane_index_out_of_order_is_refused() {
    let entry = |name| body(entries().iter().find(|entry| entry.name == name).unwrap());
    let mut fresh = LaneDecoder::new();
    assert_eq!(fresh.decode(entry("flood_index_reuse")), Err(DecodeError::UndefinedStream(0)));
    assert_eq!(fresh.decode(entry("flood_second_stream")), Err(DecodeError::UndefinedStream(1)));
    assert!(fresh.decode(entry("flood_first_use")).is_ok());
}

proptest! {
    #[test]
    fn random_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        read_as_anything(&bytes.into());
    }

    #[test]
    fn random_damage_never_panics(
        which in any::<prop::sample::Index>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
    ) {
        let entries = entries();
        let mut bytes = BytesMut::from(&body(which.get(&entries))[..]);
        for (at, byte) in edits {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        read_as_anything(&bytes.freeze());
    }
}
