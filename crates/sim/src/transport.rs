//! The transport's numbers, as the link model uses them.
//!
//! Those that the transport crate configures are compared with it by `tests/constants.rs`; the
//! sizes of packets follow from the formats of IP, UDP and QUIC (RFC 9000 section 17.3).

use std::time::Duration;

/// A connection on which nothing was sent or received for this long sends a PING.
pub const KEEP_ALIVE: Duration = Duration::from_secs(3);

/// The same on the side that dialed: its PING comes first, and the other side only answers.
pub const KEEP_ALIVE_OF_DIALER: Duration = Duration::from_millis(2700);

/// A connection is given up this long after the last packet came, or after the first packet
/// that wants an answer was sent since.
pub const IDLE_TIMEOUT: Duration = Duration::from_millis(6300);

/// How long a dial waits for the QUIC handshake.
pub const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);

/// How long admission may take.
pub const ADMISSION_DEADLINE: Duration = Duration::from_secs(10);

/// How long a goodbye waits to be taken.
pub const FINISH_TIMEOUT: Duration = Duration::from_secs(2);

/// Handshakes of others at a time; further ones are told to come again.
pub const HANDSHAKES_MAX: u32 = 64;

/// When somebody who was told so may come again.
pub const CROWDED_RETRY: Duration = Duration::from_millis(500);

/// How long the driver waits for all resolvers together.
pub const RESOLVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Pause before a candidate's next address is tried as well.
pub const STAGGER: Duration = Duration::from_millis(250);

/// Bytes that the queue of a lane holds: control, interactive, bulk.
pub const QUEUE_BYTES: [u64; 3] = [256 * 1024, 1024 * 1024, 4 * 1024 * 1024];

/// What a queued frame costs beside its bytes.
pub const FRAME_COST: u64 = 64;

/// Bytes of a lane that QUIC takes before its queue begins to fill: the peer's stream window.
pub const STREAM_WINDOW: u64 = 1024 * 1024;

/// How long a receiver may wait with an acknowledgement (RFC 9000 section 18.2, the default).
pub const ACK_DELAY: Duration = Duration::from_millis(25);

/// Bytes of stream data in a full packet: 1452 bytes of UDP payload less QUIC's share.
pub const PACKET_PAYLOAD: u64 = 1410;

/// What a packet costs beside the frames of a stream: IPv4 20, UDP 8, flags 1, connection id 5,
/// packet number 2, authentication tag 16, header of the stream frame 6.
pub const PACKET_OVERHEAD: u64 = 58;

/// A packet that only acknowledges: the same without a stream frame, an ACK frame of 5
/// (measured over quinn: 57 to 58).
pub const ACK_PACKET: u64 = 57;

/// A packet that keeps a connection alive: a PING frame, padded (measured over quinn: 60 to 61).
pub const PING_PACKET: u64 = 60;

/// What the side that dials sends for a connection and its admission: two padded datagrams of
/// the client's hello (post-quantum share), a third with its finish, one that tries the path's
/// MTU, connection ids, acknowledgements (all that measured over quinn: 5650), and its part of
/// the admission.
pub const DIAL_BYTES: u64 = 5650 + 150 + ACK_PACKET;

/// What the side that is dialed sends: server hello with key share, certificate, finish, the same
/// try, connection ids, acknowledgements (measured over quinn: 4350), and its part of the
/// admission.
pub const ANSWER_BYTES: u64 = 4350 + 150 + ACK_PACKET;

/// What a dial that nobody answers costs: the first flight and its repetitions after 1 and 3 s.
pub const VAIN_DIAL_BYTES: u64 = 3 * 2 * 1228;

/// From when on the driver tells the core that the node stood still.
pub const RESUME_NOTICED: Duration = Duration::from_secs(2);

/// How long a registrar that failed may wait before it tries again.
pub const REGISTER_PAUSE: Duration = Duration::from_secs(60);

/// From when on the driver keeps a node's anchors in a file; later every ten minutes, which the
/// model leaves out: what a process kept when it ended is no older.
pub const ANCHORS_KEPT_AFTER: Duration = Duration::from_secs(30);

/// QUIC's probe time-out for a round-trip time and its variation (RFC 9002 section 6.2.1).
#[must_use]
pub const fn probe_timeout(rtt_ns: u64, variation_ns: u64) -> u64 {
    let granularity = 1_000_000;
    let spread = if 4 * variation_ns > granularity { 4 * variation_ns } else { granularity };
    rtt_ns + spread + ACK_DELAY.as_nanos() as u64
}
