//! Golden bytes: what is on the wire today stays readable tomorrow.
//!
//! `golden.txt` holds one frame of every kind, a line `name hex` each. A difference means that
//! nodes of this version and of the last no longer understand each other: change the code, not
//! the file, unless the protocol is meant to break. Control frames, floods, local and volatile
//! messages are here; admission and directory frames have theirs beside their code.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use peerchannel_wire::*;

use crate::corpus::{self, Entry, body, entries, read};

fn golden() -> BTreeMap<&'static str, &'static str> {
    let lines = include_str!("golden.txt").lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.split_once(' ').unwrap_or_else(|| panic!("not `name hex`: {line}"))).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Bytes {
    let digits = text.trim().as_bytes().chunks_exact(2);
    digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

#[test]
fn what_is_sent_has_not_changed() {
    let golden = golden();
    let mut wrong = String::new();
    for Entry { name, bytes, .. } in &entries() {
        let hex = hex(bytes);
        if golden.get(name).map(|line| line.trim()) != Some(&hex) {
            wrong += &format!("{name} {hex}\n");
        }
    }
    assert!(wrong.is_empty(), "these lines differ from crates/wire/tests/frames/golden.txt:\n{wrong}");
    assert_eq!(golden.len(), entries().len(), "golden.txt has frames that nobody makes any more");
}

#[test]
fn what_was_sent_is_still_read() {
    let golden = golden();
    for entry in entries() {
        let old = Entry { bytes: unhex(golden[entry.name]), ..entry.clone() };
        let (old, new) = (read(entry.reader, body(&old)), read(entry.reader, body(&entry)));
        assert!(old.is_ok(), "{}: {old:?}", entry.name);
        assert_eq!(old, new, "{}", entry.name);
    }
}

#[test]
fn control_frames_are_read_as_what_was_meant() {
    for (name, frame) in corpus::control_frames() {
        let entry = entries().into_iter().find(|entry| entry.name == name).unwrap();
        assert_eq!(ControlFrame::decode(body(&entry)), Ok(frame), "{name}");
    }
}

#[test]
fn data_frames_are_read_as_what_was_meant() {
    let mut lane = LaneDecoder::new();
    for (name, frame) in corpus::data_frames() {
        let entry = entries().into_iter().find(|entry| entry.name == name).unwrap();
        assert_eq!(lane.decode(body(&entry)), Ok(frame), "{name}");
    }
    let entry = entries().into_iter().find(|entry| entry.name == "volatile_datagram").unwrap();
    let (link, rest) = split_datagram(entry.bytes).unwrap();
    assert_eq!((link, decode_volatile(rest)), (LinkNumber(300), Ok(corpus::volatile())));
}

#[test]
fn every_kind_of_frame_is_in_the_corpus() {
    // A match without a wildcard: a new kind does not compile until it has a golden line.
    let kind = |frame: &ControlFrame| match frame {
        ControlFrame::Connect(_) => 0,
        ControlFrame::Welcome(_) => 1,
        ControlFrame::Refuse(_) => 2,
        ControlFrame::Disconnect(_) => 3,
        ControlFrame::Ping(_) => 4,
        ControlFrame::Pong(_) => 5,
        ControlFrame::Probe { .. } => 6,
        ControlFrame::ProbeResult { .. } => 7,
        ControlFrame::Baseline { .. } => 8,
        ControlFrame::Digest(_) => 9,
        ControlFrame::Announce(_) => 10,
        ControlFrame::Pull(_) => 11,
        ControlFrame::Gone(_) => 12,
        ControlFrame::NotFromMe(_) => 13,
        ControlFrame::Ack(_) => 14,
        ControlFrame::Congestion { .. } => 15,
        ControlFrame::Members(_) => 16,
        ControlFrame::Direct { .. } => 17,
        ControlFrame::DirectAck { .. } => 18,
        ControlFrame::Shuffle(_) => 19,
        ControlFrame::MemberDigest(_) => 20,
        ControlFrame::MemberPull(_) => 21,
        ControlFrame::MemberDoubt(_) => 22,
    };
    let seen: std::collections::BTreeSet<i32> =
        corpus::control_frames().iter().map(|(_, f)| kind(f)).collect();
    assert!(seen.into_iter().eq(0..=22));
}

#[test]
fn a_stream_is_named_once_per_lane() {
    let mut lane = LaneEncoder::new();
    let frames = corpus::data_frames();
    let [(_, DataFrame::Flood(first)), (_, DataFrame::Flood(second)), ..] = frames.as_slice() else {
        panic!("the corpus begins with two floods")
    };
    let (first, second) = (lane.flood(first), lane.flood(second));
    assert!(first.head.len() > 40, "names the origin");
    assert!(second.head.len() <= 12, "{} bytes: an index", second.head.len());
}

#[test]
fn the_header_of_a_message_stays_small() {
    // What a message of 64 bytes takes beside its payload and, once per batch, the signature.
    let per_message = |count: usize| {
        let mut lane = LaneEncoder::new();
        let payloads = vec![Bytes::from_static(&[7; 64]); count];
        let batch = UnsignedBatch::new(corpus::sequence(70_000), 1_760_000_000_500, payloads).unwrap();
        let batch = Arc::new(batch.sign(Some(corpus::signature(1))));
        let flood = Flood { stream: corpus::stream(2, "chat"), hops: 3, batch };
        let _ = lane.flood(&flood);
        (lane.flood(&flood).len() - 64 - 64 * count) as f64 / count as f64
    };
    assert!(per_message(1) <= 32.0, "{}", per_message(1));
    assert!(per_message(64) <= 3.0, "{}", per_message(64));
}
