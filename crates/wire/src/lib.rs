//! The Peer Channel wire protocol: bytes to valid domain types and back.
//!
//! Everything two nodes say to each other passes through here, in both directions, and nothing
//! else does. The layout is written down in `proto/`, which can be read without Rust, and in
//! `docs/protocol.md`, which says what the frames mean.
//!
//! # Bytes become values once
//! A decoder returns a value of a type that cannot be wrong ([`StreamRange`] is never empty,
//! [`NodeAddress`] always has an address that can be dialed, [`ChannelName`] has no control
//! characters), or a [`DecodeError`]. Nobody checks again further in. The generated protobuf
//! types are private to this crate.
//!
//! # Limits come before memory
//! [`FrameDecoder`] refuses a frame as soon as its length is known, and holds only bytes that
//! arrived. The messages of a batch are counted before they are taken apart. Payloads share the
//! memory of the frame they came in.
//!
//! # What is signed is passed on verbatim
//! A [`Batch`], an [`Aside`] and a [`MemberRecord`] keep the bytes their origin made. A relay
//! sends those bytes, never a new encoding, so that a signature survives relays that know fewer
//! fields than the origin. What belongs to one hop (hop counts, stream indexes) stands outside.
//! The bytes a signature covers are a [`Transcript`]; making and checking signatures is the
//! security crate's.
//!
//! # The frames
//! | where | frames |
//! |---|---|
//! | control stream, before admission | [`AdmissionFrame`] |
//! | control stream, after | [`ControlFrame`] |
//! | a uni stream per data lane | [`LaneHeader`], then [`DataFrame`] by [`LaneEncoder`] and [`LaneDecoder`] |
//! | datagrams | [`encode_datagram`], [`split_datagram`], [`decode_volatile`] |
//! | the directory service | [`ResolverRequest`], [`ResolverReply`] |
//! | pasted by people | [`Ticket`] |
//!
//! # Example
//! ```
//! use peerchannel_wire::{ControlFrame, FrameDecoder, limits};
//!
//! let sent = ControlFrame::Ping(7).encode();
//! let mut stream = FrameDecoder::new(limits::CONTROL_FRAME_MAX);
//! stream.push(&sent[..2]); // bytes arrive as they please
//! assert_eq!(stream.next_frame()?, None);
//! stream.push(&sent[2..]);
//! let body = stream.next_frame()?.expect("the frame is complete");
//! assert_eq!(ControlFrame::decode(body)?, ControlFrame::Ping(7));
//! # Ok::<(), peerchannel_wire::DecodeError>(())
//! ```
//!
//! # What is not here
//! No sockets, no clock, no randomness, no tasks, no policy: whether a frame is *welcome* is for
//! the mesh crate to say, whether a signature is *good* for the security crate.

mod address;
mod admission;
mod aside;
mod batch;
mod control;
mod data;
mod digest;
mod error;
mod features;
mod frame;
mod generated;
mod id;
pub mod limits;
mod member;
mod name;
mod neighborhood;
mod resolver;
mod roster;
mod stream;
mod ticket;
mod transcript;

pub use address::{NodeAddress, is_dialable};
pub use admission::{
    AdmissionFrame, AdmissionRefusal, CredentialKind, Hello, HelloCredential, HelloReply, PROTOCOL_VERSION,
    ReplyCredential, VersionRange,
};
pub use aside::{Aside, AsideContent, AsideKind, UnsignedAside};
pub use batch::{Batch, Body, UnsignedBatch};
pub use control::{
    Connect, ControlFrame, Disconnect, DisconnectReason, LinkPurpose, Refuse, RefuseReason, Welcome,
};
pub use data::{
    DataFrame, DataLane, EncodedFrame, Flood, LaneDecoder, LaneEncoder, LaneHeader, Local, Volatile,
    decode_volatile, encode_datagram, split_datagram,
};
pub use digest::{DigestContent, DigestRange, Fingerprint};
pub use error::DecodeError;
pub use features::Features;
pub use frame::FrameDecoder;
pub use id::{Epoch, LinkNumber, MeshId, NodeId, ParseNodeIdError, Sequence, Signature};
pub use member::{Member, MemberFacts, MemberRecord, MemberStatus, UnsignedMember};
pub use name::{ChannelName, MemberName, MeshName, NameError};
pub use neighborhood::{Balance, Coordinate, LinkKind, Pong, Shuffle, ShuffledNode};
pub use resolver::{
    MeshKey, RESOLVER_ALPN, RegistrationId, ResolverRefusal, ResolverRefusalKind, ResolverReply,
    ResolverRequest,
};
pub use roster::{MemberContent, MemberDigest, MemberMark, MemberRange, MemberSum};
pub use stream::{Position, StreamId, StreamRange};
pub use ticket::{ParseTicketError, Ticket, TicketError, TicketFacts, UnsignedTicket};
pub use transcript::Transcript;
