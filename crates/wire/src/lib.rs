//! The Peer Channel wire protocol: bytes to valid domain types and back.

mod address;
mod admission;
mod aside;
mod batch;
mod control;
mod data;
mod digest;
mod error;
mod frame;
mod generated;
mod id;
pub mod limits;
mod member;
mod name;
mod resolver;
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
pub use frame::FrameDecoder;
pub use id::{Epoch, LinkNumber, MeshId, NodeId, ParseNodeIdError, Sequence, Signature};
pub use member::{Member, MemberFacts, MemberRecord, MemberStatus, UnsignedMember};
pub use name::{ChannelName, MemberName, MeshName, NameError};
pub use resolver::{
    MeshKey, RegistrationId, ResolverRefusal, ResolverRefusalKind, ResolverReply, ResolverRequest,
};
pub use stream::{Position, StreamId, StreamRange};
pub use ticket::{ParseTicketError, Ticket, TicketError, TicketFacts, UnsignedTicket};
pub use transcript::Transcript;
