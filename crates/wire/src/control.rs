//! Control frames: what two neighbors say to each other, apart from the messages.

use bytes::Bytes;
use prost::Message as _;

use crate::address::NodeAddress;
use crate::digest::DigestRange;
use crate::error::{DecodeError, limit};
use crate::frame::{encode_framed, framed_len};
use crate::generated as proto;
use crate::generated::control_frame::Kind;
use crate::id::{Epoch, LinkNumber, NodeId};
use crate::limits::{DIRECT_PAYLOAD_MAX, POSITIONS_MAX, REFERRALS_MAX};
use crate::member::{Member, MemberRecord};
use crate::neighborhood::{Coordinate, LinkKind, Pong, Shuffle};
use crate::roster::{MemberDigest, MemberMark, marks_from_proto, marks_to_proto, nodes_from_proto};
use crate::stream::{
    Position, StreamRange, positions_from_proto, positions_to_proto, ranges_from_proto, ranges_to_proto,
};

/// What a link is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LinkPurpose {
    /// It carries floods and counts towards the neighbor limits.
    Neighbor,
    /// It carries direct messages only and closes when idle.
    Direct,
}

/// The first frame of the side that opened the control stream, once admitted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connect {
    /// The sender's join.
    pub epoch: Epoch,
    /// What the link is for.
    pub purpose: LinkPurpose,
    /// The sender never had a link in this epoch and wants a baseline.
    pub joining: bool,
    /// The sender has no neighbor at all: a full receiver drops another for it, so that
    /// nobody is locked out (HyParView section 4.2, high priority).
    pub urgent: bool,
    /// Why the sender wants this neighbor.
    pub kind: LinkKind,
    /// Where the sender believes to be.
    pub coordinate: Option<Coordinate>,
    /// The sender believes that the mesh fell apart and that the receiver is of another part:
    /// a full receiver that does not know the sender as alive takes it in all the same.
    pub healing: bool,
    /// The sender has had fewer links than its low limit for a while: a receiver that has as
    /// many as its high limit, but room, takes it in.
    pub lacking: bool,
    /// The sender's own record.
    pub member: MemberRecord,
}

/// Accepts a [`Connect`]: the link is up, data lanes may be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Welcome {
    /// The sender's join.
    pub epoch: Epoch,
    /// The sender never had a link in this epoch and wants a baseline.
    pub joining: bool,
    /// The sender's own record.
    pub member: MemberRecord,
    /// Every uni stream and datagram of this link begins with it.
    pub link_number: LinkNumber,
    /// Nodes the receiver may try next; at most 10.
    pub referrals: Vec<NodeAddress>,
    /// Where the sender believes to be.
    pub coordinate: Option<Coordinate>,
}

/// Why a [`Connect`] was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefuseReason {
    /// As many neighbors as it may have.
    NodeBusy,
    /// There is a link between the two nodes already, and that one is kept.
    DuplicateNeighbor,
    /// The sender's id is the receiver's own: it dialed itself, or a key was copied.
    DuplicateNodeId,
    /// A later join of the same node is known.
    StaleEpoch,
    /// The node is leaving.
    LeavingMesh,
}

/// Why a link ends. [`Disconnect`] takes effect after the data lanes' FIN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DisconnectReason {
    /// The node leaves the mesh.
    LeavingMesh,
    /// Too many neighbors, and this one was the least useful.
    NotUsefulNeighbor,
    /// Another link between the two nodes is kept.
    DuplicateNeighbor,
    /// The receiver takes too long to take what is sent.
    NodeTooSlow,
    /// The receiver sent something the protocol does not allow.
    ProtocolViolation,
    /// A link for direct messages that nobody used.
    Idle,
    /// The node takes a break and stays a member. Sent only where both ends offered
    /// [`Features::MEMBERSHIP`](crate::Features::MEMBERSHIP).
    Suspended,
}

/// Rejects a [`Connect`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refuse {
    /// Why.
    pub reason: RefuseReason,
    /// Nodes the receiver may try next; at most 10.
    pub referrals: Vec<NodeAddress>,
}

/// Ends a link that was up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disconnect {
    /// Why.
    pub reason: DisconnectReason,
    /// Nodes the receiver may try next; at most 10.
    pub referrals: Vec<NodeAddress>,
}

/// Everything that travels on the control lane of a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ControlFrame {
    /// Asks to become a neighbor.
    Connect(Connect),
    /// Accepts.
    Welcome(Welcome),
    /// Rejects.
    Refuse(Refuse),
    /// Ends the link.
    Disconnect(Disconnect),
    /// Asks for a [`ControlFrame::Pong`] with the same number.
    Ping(u64),
    /// Answers a [`ControlFrame::Ping`].
    Pong(Pong),
    /// Asks whether a third node, a neighbor of the receiver, still answers.
    Probe {
        /// The node in question.
        node: NodeId,
        /// Echoed by the result.
        nonce: u64,
        /// Everybody is asked: a receiver without a link to the node asks its other neighbors,
        /// and only a positive result travels back.
        spread: bool,
    },
    /// Answers a [`ControlFrame::Probe`].
    ProbeResult {
        /// The probe's.
        nonce: u64,
        /// Whether the node answered.
        answers: bool,
    },
    /// Where the streams stand at the admitting side: what lies before is history.
    Baseline {
        /// At most 256.
        positions: Vec<Position>,
        /// Nothing follows.
        last: bool,
    },
    /// Compares positions over ranges of the ordered list of streams; at most 256.
    Digest(Vec<DigestRange>),
    /// "I have these"; at most 256.
    Announce(Vec<StreamRange>),
    /// "Send me these"; at most 256.
    Pull(Vec<StreamRange>),
    /// "I had these and no longer retain them"; at most 256.
    Gone(Vec<StreamRange>),
    /// "Ask your other announcers for these"; at most 256.
    NotFromMe(Vec<StreamRange>),
    /// Acknowledged positions; at most 256.
    Ack(Vec<Position>),
    /// The sender's queue to the receiver is full, or free again.
    Congestion {
        /// Full.
        congested: bool,
    },
    /// What the sender knows of members; at most 256.
    Members(Vec<Member>),
    /// Compares member tables.
    MemberDigest(MemberDigest),
    /// "Send me the records of these"; at most 256.
    MemberPull(Vec<NodeId>),
    /// "Somebody says that these failed, I know them as alive: if you are one of them, say so";
    /// at most 256.
    MemberDoubt(Vec<MemberMark>),
    /// A message to the receiver alone; at most 32 KiB.
    Direct {
        /// Echoed by the acknowledgement.
        nonce: u64,
        /// The message.
        payload: Bytes,
    },
    /// The receiver's node has the direct message.
    DirectAck {
        /// The message's.
        nonce: u64,
    },
    /// Tells of a few nodes: only on links with
    /// [`Features::NEIGHBORHOOD`](crate::Features::NEIGHBORHOOD).
    Shuffle(Shuffle),
}

/// Field 4, length-delimited: `ControlFrame.disconnect`.
const DISCONNECT_TAG: u8 = 4 << 3 | 2;

impl ControlFrame {
    /// The frame with its length prefix, ready to send.
    ///
    /// Referrals beyond the 10th are left out. A longer list of anything else, or a frame beyond
    /// [`CONTROL_FRAME_MAX`](crate::limits::CONTROL_FRAME_MAX), is encoded as it is and refused
    /// by the receiver: callers split what must all arrive into several frames.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        encode_framed(&proto::ControlFrame { kind: Some(self.to_kind()) })
    }

    /// Bytes that [`encode`](Self::encode) would make, without making them: for whoever models
    /// a network.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        if let Self::Members(members) = self {
            // By far the most of what a joining node is sent: counted without a copy. The key of
            // the field `ControlFrame.members`, 17, has two bytes, that of `Members.members` one.
            let list: usize = members.iter().map(|member| 1 + framed_len(member.message_len())).sum();
            return framed_len(2 + framed_len(list));
        }
        framed_len(proto::ControlFrame { kind: Some(self.to_kind()) }.encoded_len())
    }

    /// The frame from the body of a length-prefixed frame. Payloads share its memory.
    ///
    /// # Errors
    /// [`DecodeError`] if it is not a valid control frame, an unknown kind included.
    pub fn decode(body: Bytes) -> Result<Self, DecodeError> {
        let kind = proto::ControlFrame::decode(body)?.kind.ok_or(DecodeError::Missing("control frame"))?;
        Self::from_kind(kind)
    }

    /// Whether the body of a frame is a [`Disconnect`], without decoding it: the link holds it
    /// back until the data lanes ended.
    #[must_use]
    pub fn is_disconnect(body: &[u8]) -> bool {
        body.first() == Some(&DISCONNECT_TAG)
    }

    fn to_kind(&self) -> Kind {
        match self {
            Self::Connect(c) => Kind::Connect(proto::Connect {
                epoch: c.epoch.get(),
                purpose: purpose_to_proto(c.purpose).into(),
                joining: c.joining,
                member: Some(c.member.to_proto()),
                urgent: c.urgent,
                kind: c.kind.to_proto().into(),
                coordinate: c.coordinate.map(Coordinate::to_proto),
                healing: c.healing,
                lacking: c.lacking,
            }),
            Self::Welcome(w) => Kind::Welcome(proto::Welcome {
                epoch: w.epoch.get(),
                joining: w.joining,
                member: Some(w.member.to_proto()),
                link_number: w.link_number.0,
                referrals: referrals_to_proto(&w.referrals),
                coordinate: w.coordinate.map(Coordinate::to_proto),
            }),
            Self::Refuse(r) => Kind::Refuse(proto::Refuse {
                reason: refuse_to_proto(r.reason).into(),
                referrals: referrals_to_proto(&r.referrals),
            }),
            Self::Disconnect(d) => Kind::Disconnect(proto::Disconnect {
                reason: disconnect_to_proto(d.reason).into(),
                referrals: referrals_to_proto(&d.referrals),
            }),
            Self::Ping(nonce) => Kind::Ping(proto::Ping { nonce: *nonce }),
            Self::Pong(pong) => Kind::Pong(pong.to_proto()),
            Self::Probe { node, nonce, spread } => Kind::Probe(proto::Probe {
                node: Bytes::copy_from_slice(node.as_bytes()),
                nonce: *nonce,
                spread: *spread,
            }),
            Self::ProbeResult { nonce, answers } => {
                Kind::ProbeResult(proto::ProbeResult { nonce: *nonce, answers: *answers })
            }
            Self::Baseline { positions, last } => {
                Kind::Baseline(proto::Baseline { positions: positions_to_proto(positions), last: *last })
            }
            Self::Digest(ranges) => {
                Kind::Digest(proto::Digest { ranges: ranges.iter().map(DigestRange::to_proto).collect() })
            }
            Self::Announce(ranges) => Kind::Announce(proto::Announce { ranges: ranges_to_proto(ranges) }),
            Self::Pull(ranges) => Kind::Pull(proto::Pull { ranges: ranges_to_proto(ranges) }),
            Self::Gone(ranges) => Kind::Gone(proto::Gone { ranges: ranges_to_proto(ranges) }),
            Self::NotFromMe(ranges) => Kind::NotFromMe(proto::NotFromMe { ranges: ranges_to_proto(ranges) }),
            Self::Ack(positions) => Kind::Ack(proto::Ack { positions: positions_to_proto(positions) }),
            Self::Congestion { congested } => Kind::Congestion(proto::Congestion { congested: *congested }),
            Self::Members(members) => {
                Kind::Members(proto::Members { members: members.iter().map(Member::to_proto).collect() })
            }
            Self::MemberDigest(digest) => Kind::MemberDigest(digest.to_proto()),
            Self::MemberPull(nodes) => Kind::MemberPull(proto::MemberPull {
                nodes: nodes.iter().map(|node| Bytes::copy_from_slice(node.as_bytes())).collect(),
            }),
            Self::MemberDoubt(marks) => {
                Kind::MemberDoubt(proto::MemberDoubt { marks: marks_to_proto(marks) })
            }
            Self::Direct { nonce, payload } => {
                Kind::Direct(proto::Direct { nonce: *nonce, payload: payload.clone() })
            }
            Self::DirectAck { nonce } => Kind::DirectAck(proto::DirectAck { nonce: *nonce }),
            Self::Shuffle(shuffle) => Kind::Shuffle(shuffle.to_proto()),
        }
    }

    fn from_kind(kind: Kind) -> Result<Self, DecodeError> {
        Ok(match kind {
            Kind::Connect(c) => Self::Connect(Connect {
                epoch: Epoch::decode(c.epoch)?,
                purpose: purpose_from_proto(c.purpose)?,
                joining: c.joining,
                urgent: c.urgent,
                kind: LinkKind::from_proto(c.kind),
                coordinate: Coordinate::from_field(c.coordinate)?,
                healing: c.healing,
                lacking: c.lacking,
                member: MemberRecord::from_field(c.member.as_ref())?,
            }),
            Kind::Welcome(w) => Self::Welcome(Welcome {
                epoch: Epoch::decode(w.epoch)?,
                joining: w.joining,
                member: MemberRecord::from_field(w.member.as_ref())?,
                link_number: LinkNumber(w.link_number),
                referrals: referrals_from_proto(&w.referrals)?,
                coordinate: Coordinate::from_field(w.coordinate)?,
            }),
            Kind::Refuse(r) => Self::Refuse(Refuse {
                reason: refuse_from_proto(r.reason)?,
                referrals: referrals_from_proto(&r.referrals)?,
            }),
            Kind::Disconnect(d) => Self::Disconnect(Disconnect {
                reason: disconnect_from_proto(d.reason)?,
                referrals: referrals_from_proto(&d.referrals)?,
            }),
            Kind::Ping(p) => Self::Ping(p.nonce),
            Kind::Pong(p) => Self::Pong(Pong::from_proto(p)?),
            Kind::Probe(p) => {
                Self::Probe { node: NodeId::decode("node", &p.node)?, nonce: p.nonce, spread: p.spread }
            }
            Kind::ProbeResult(p) => Self::ProbeResult { nonce: p.nonce, answers: p.answers },
            Kind::Baseline(b) => {
                Self::Baseline { positions: positions_from_proto(&b.positions)?, last: b.last }
            }
            Kind::Digest(d) => {
                limit("digest", d.ranges.len(), POSITIONS_MAX)?;
                let ranges: Result<Vec<_>, _> = d.ranges.iter().map(DigestRange::from_proto).collect();
                Self::Digest(ranges?)
            }
            Kind::Announce(a) => Self::Announce(ranges_from_proto(&a.ranges)?),
            Kind::Pull(p) => Self::Pull(ranges_from_proto(&p.ranges)?),
            Kind::Gone(g) => Self::Gone(ranges_from_proto(&g.ranges)?),
            Kind::NotFromMe(n) => Self::NotFromMe(ranges_from_proto(&n.ranges)?),
            Kind::Ack(a) => Self::Ack(positions_from_proto(&a.positions)?),
            Kind::Congestion(c) => Self::Congestion { congested: c.congested },
            Kind::Members(m) => {
                limit("members", m.members.len(), POSITIONS_MAX)?;
                let members: Result<Vec<_>, _> =
                    m.members.iter().filter_map(|member| Member::from_proto(member).transpose()).collect();
                Self::Members(members?)
            }
            Kind::MemberDigest(d) => Self::MemberDigest(MemberDigest::from_proto(&d)?),
            Kind::MemberPull(p) => Self::MemberPull(nodes_from_proto(&p.nodes)?),
            Kind::MemberDoubt(d) => Self::MemberDoubt(marks_from_proto(&d.marks)?),
            Kind::Direct(d) => {
                limit("payload", d.payload.len(), DIRECT_PAYLOAD_MAX)?;
                Self::Direct { nonce: d.nonce, payload: d.payload }
            }
            Kind::DirectAck(d) => Self::DirectAck { nonce: d.nonce },
            Kind::Shuffle(s) => Self::Shuffle(Shuffle::from_proto(&s)?),
        })
    }
}

fn referrals_to_proto(referrals: &[NodeAddress]) -> Vec<proto::NodeAddress> {
    referrals.iter().take(REFERRALS_MAX).map(NodeAddress::to_proto).collect()
}

fn referrals_from_proto(messages: &[proto::NodeAddress]) -> Result<Vec<NodeAddress>, DecodeError> {
    limit("referrals", messages.len(), REFERRALS_MAX)?;
    messages.iter().map(NodeAddress::from_proto).collect()
}

fn purpose_to_proto(purpose: LinkPurpose) -> proto::LinkPurpose {
    match purpose {
        LinkPurpose::Neighbor => proto::LinkPurpose::Neighbor,
        LinkPurpose::Direct => proto::LinkPurpose::Direct,
    }
}

fn purpose_from_proto(purpose: i32) -> Result<LinkPurpose, DecodeError> {
    match proto::LinkPurpose::try_from(purpose) {
        Ok(proto::LinkPurpose::Neighbor) => Ok(LinkPurpose::Neighbor),
        Ok(proto::LinkPurpose::Direct) => Ok(LinkPurpose::Direct),
        Ok(proto::LinkPurpose::Unspecified) | Err(_) => {
            Err(DecodeError::Invalid { field: "purpose", why: "unknown" })
        }
    }
}

fn refuse_to_proto(reason: RefuseReason) -> proto::RefuseReason {
    match reason {
        RefuseReason::NodeBusy => proto::RefuseReason::NodeBusy,
        RefuseReason::DuplicateNeighbor => proto::RefuseReason::DuplicateNeighbor,
        RefuseReason::DuplicateNodeId => proto::RefuseReason::DuplicateNodeId,
        RefuseReason::StaleEpoch => proto::RefuseReason::StaleEpoch,
        RefuseReason::LeavingMesh => proto::RefuseReason::LeavingMesh,
    }
}

fn refuse_from_proto(reason: i32) -> Result<RefuseReason, DecodeError> {
    match proto::RefuseReason::try_from(reason) {
        Ok(proto::RefuseReason::NodeBusy) => Ok(RefuseReason::NodeBusy),
        Ok(proto::RefuseReason::DuplicateNeighbor) => Ok(RefuseReason::DuplicateNeighbor),
        Ok(proto::RefuseReason::DuplicateNodeId) => Ok(RefuseReason::DuplicateNodeId),
        Ok(proto::RefuseReason::StaleEpoch) => Ok(RefuseReason::StaleEpoch),
        Ok(proto::RefuseReason::LeavingMesh) => Ok(RefuseReason::LeavingMesh),
        Ok(proto::RefuseReason::Unspecified) | Err(_) => {
            Err(DecodeError::Invalid { field: "refuse reason", why: "unknown" })
        }
    }
}

fn disconnect_to_proto(reason: DisconnectReason) -> proto::DisconnectReason {
    match reason {
        DisconnectReason::LeavingMesh => proto::DisconnectReason::LeavingMesh,
        DisconnectReason::NotUsefulNeighbor => proto::DisconnectReason::NotUsefulNeighbor,
        DisconnectReason::DuplicateNeighbor => proto::DisconnectReason::DuplicateNeighbor,
        DisconnectReason::NodeTooSlow => proto::DisconnectReason::NodeTooSlow,
        DisconnectReason::ProtocolViolation => proto::DisconnectReason::ProtocolViolation,
        DisconnectReason::Idle => proto::DisconnectReason::Idle,
        DisconnectReason::Suspended => proto::DisconnectReason::Suspended,
    }
}

fn disconnect_from_proto(reason: i32) -> Result<DisconnectReason, DecodeError> {
    match proto::DisconnectReason::try_from(reason) {
        Ok(proto::DisconnectReason::LeavingMesh) => Ok(DisconnectReason::LeavingMesh),
        Ok(proto::DisconnectReason::NotUsefulNeighbor) => Ok(DisconnectReason::NotUsefulNeighbor),
        Ok(proto::DisconnectReason::DuplicateNeighbor) => Ok(DisconnectReason::DuplicateNeighbor),
        Ok(proto::DisconnectReason::NodeTooSlow) => Ok(DisconnectReason::NodeTooSlow),
        Ok(proto::DisconnectReason::ProtocolViolation) => Ok(DisconnectReason::ProtocolViolation),
        Ok(proto::DisconnectReason::Idle) => Ok(DisconnectReason::Idle),
        Ok(proto::DisconnectReason::Suspended) => Ok(DisconnectReason::Suspended),
        Ok(proto::DisconnectReason::Unspecified) | Err(_) => {
            Err(DecodeError::Invalid { field: "disconnect reason", why: "unknown" })
        }
    }
}
