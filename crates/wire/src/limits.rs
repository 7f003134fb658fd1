//! Every size limit of the protocol, with the reason for its value.
//!
//! A limit is checked before memory is taken for what it limits. Sizes are bytes
//! unless the name says otherwise.

use std::time::Duration;

/// Longest mesh name in UTF-8 bytes. A PNRP classifier held 149 characters (WCF Peer
/// Channel's limit); 190 leaves room for a scoped name and still fits a DNS label chain.
pub const MESH_NAME_MAX: usize = 190;

/// Longest channel name in UTF-8 bytes: one byte of length on the wire.
pub const CHANNEL_NAME_MAX: usize = 127;

/// Longest member name in UTF-8 bytes: one line of a chat window.
pub const MEMBER_NAME_MAX: usize = 64;

/// Longest metadata of a member, in bytes: it is in every record, and every member keeps
/// every record.
pub const MEMBER_METADATA_MAX: usize = 512;

/// Longest encoded facts of a member. This release's are at most 1.1 KiB; the rest is for
/// fields of later ones, which members of this release keep and pass on unread: without a limit
/// one member could fill every other's table.
pub const MEMBER_FACTS_MAX: usize = 4 * 1024;

/// Most socket addresses one node may advertise. PNRP registered at most 10 per cloud;
/// 16 covers dual-stack hosts with a few interfaces.
pub const NODE_ADDRESSES_MAX: usize = 16;

/// Most referrals in one frame (Peer Channel's value: 10).
pub const REFERRALS_MAX: usize = 10;

/// Most nodes in one shuffle: twice what this release sends.
pub const SHUFFLED_NODES_MAX: usize = 16;

/// Most links a shuffle may travel: beyond, a random walk on a random graph of this degree
/// gets no more random, and every hop costs its bytes once more.
pub const SHUFFLE_HOPS_MAX: u32 = 8;

/// Largest part of a coordinate in microseconds: no round trip that ends in time is longer.
pub const COORDINATE_MAX_US: u32 = 10_000_000;

/// Longest control frame. Holds [`POSITIONS_MAX`] positions of ordinary channel names.
pub const CONTROL_FRAME_MAX: usize = 64 * 1024;

/// Longest admission frame: two shares, a confirmation and small fields.
pub const ADMISSION_FRAME_MAX: usize = 1024;

/// Longest frame of the directory service.
pub const RESOLVER_FRAME_MAX: usize = 16 * 1024;

/// Most nodes in one answer of the directory: 32 nodes of 16 IPv6 addresses each fill one
/// frame; a joining node dials a handful and learns the rest from its neighbors.
pub const RESOLVED_NODES_MAX: usize = 32;

/// Longest explanation in a refusal of the directory: two lines for a person.
pub const REFUSAL_DETAIL_MAX: usize = 256;

/// Shortest lifetime of a registration: below, refreshing would be all that anyone does.
pub const LEASE_MIN: Duration = Duration::from_secs(1);

/// Longest lifetime of a registration: above, a directory fills with nodes long gone.
pub const LEASE_MAX: Duration = Duration::from_hours(24);

/// Most nodes a ticket names: enough that one of them is up, few enough to paste.
pub const TICKET_NODES_MAX: usize = 8;

/// Longest text of a ticket: 8 nodes of 16 IPv6 addresses each, in base32, with room.
pub const TICKET_TEXT_MAX: usize = 8 * 1024;

/// Most positions, ranges or members in one control frame.
pub const POSITIONS_MAX: usize = 256;

/// Bodies above this travel on the bulk lane, so that a chat line never waits behind
/// a picture (protocol.md section 4, sizes).
pub const INTERACTIVE_BODY_MAX: usize = 32 * 1024;

/// Bytes of bodies gathered into one batch (protocol.md section 1: a guess).
pub const BATCH_BYTES_MAX: usize = 64 * 1024;

/// Most messages in one batch: 64 small messages per burst already cost 15 times less
/// each; more only delays the first one.
pub const BATCH_MESSAGES_MAX: usize = 1024;

/// Largest `max_message` a mesh may be configured with in this version of the protocol.
pub const MESSAGE_MAX: usize = 1024 * 1024;

/// What a batch adds to its bodies at most: header, signature, hop fields, one tag and
/// length per body.
pub const BATCH_OVERHEAD_MAX: usize = 1024 + 8 * BATCH_MESSAGES_MAX;

/// Longest frame on the interactive lane.
pub const INTERACTIVE_FRAME_MAX: usize = BATCH_BYTES_MAX + INTERACTIVE_BODY_MAX + BATCH_OVERHEAD_MAX;

/// Longest frame on the bulk lane.
pub const BULK_FRAME_MAX: usize = MESSAGE_MAX + BATCH_OVERHEAD_MAX;

/// Longest key of a volatile message.
pub const VOLATILE_KEY_MAX: usize = 64;

/// Largest payload of a direct message: it shares the control lane.
pub const DIRECT_PAYLOAD_MAX: usize = 32 * 1024;

/// Where counts of links travelled stop: far beyond any mesh's diameter, far below overflow
/// at the next addition. A larger one is read as this, since a relay is not to blame for it.
pub const HOP_COUNT_MAX: u32 = 65_535;

/// Most links a hop-limited message may travel (protocol.md section 4).
pub const HOPS_MAX: u32 = 64;

/// Largest sequence number: exact in JSON and far beyond any stream's life
/// (a million messages a second for 285 years).
pub const SEQUENCE_MAX: u64 = (1 << 53) - 1;

/// Most entries of a lane's stream dictionary; the sender reuses the oldest index.
pub const DICTIONARY_MAX: u32 = 4096;

const _: () = assert!(DIRECT_PAYLOAD_MAX < CONTROL_FRAME_MAX);
const _: () = assert!(INTERACTIVE_BODY_MAX <= BATCH_BYTES_MAX && BATCH_BYTES_MAX <= MESSAGE_MAX);
const _: () = assert!(BULK_FRAME_MAX < 1 << 28, "four varint bytes of length");
