//! The directory protocol: what a node asks the resolver service and what it answers.
//!
//! One bidirectional stream per client carries requests one way and replies the other, each
//! a varint length and one message (docs/protocol.md section 6). A request carries a number
//! of the client's choice; its reply echoes it. The service knows a mesh only by its
//! [`MeshKey`] and a client only by the node key of its connection: a request therefore
//! never says who asks.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;

use crate::address::{NodeAddress, is_dialable, socket_to_proto, sockets_from_proto};
use crate::error::{DecodeError, limit};
use crate::frame::encode_framed;
use crate::generated as proto;
use crate::generated::resolver_reply::Kind as ReplyKind;
use crate::generated::resolver_request::Kind as RequestKind;
use crate::id::array;
use crate::limits::{
    LEASE_MAX, LEASE_MIN, NODE_ADDRESSES_MAX, REFUSAL_DETAIL_MAX, RESOLVED_NODES_MAX, RESOLVER_FRAME_MAX,
};

/// The ALPN of this version of the directory protocol (docs/protocol.md section 6).
pub const RESOLVER_ALPN: &[u8] = b"peerchannel-resolver/1";

/// What a directory knows a mesh by: 32 bytes derived from the mesh id, from which neither
/// the id nor the name can be told (protocol.md section 6).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MeshKey([u8; 32]);

impl MeshKey {
    /// Wraps 32 derived bytes; the derivation is in the security crate.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        Ok(Self(array("mesh key", bytes)?))
    }

    fn encode(&self) -> Bytes {
        Bytes::copy_from_slice(&self.0)
    }
}

impl fmt::Debug for MeshKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MeshKey({:02x}{:02x}{:02x}{:02x}…)", self.0[0], self.0[1], self.0[2], self.0[3])
    }
}

/// Names one registration at its service (16 random bytes). It is no secret and proves
/// nothing: the node key of the connection does.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RegistrationId([u8; 16]);

impl RegistrationId {
    /// Wraps 16 bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    fn decode(bytes: &Bytes) -> Result<Self, DecodeError> {
        Ok(Self(array("registration", bytes)?))
    }

    fn encode(&self) -> Bytes {
        Bytes::copy_from_slice(&self.0)
    }
}

impl fmt::Debug for RegistrationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RegistrationId({:02x}{:02x}{:02x}{:02x}…)", self.0[0], self.0[1], self.0[2], self.0[3])
    }
}

/// What a node asks of the directory.
///
/// Addresses that no datagram can be sent to are left out by both sides; a request whose
/// list holds none that is usable, or more than 16, is malformed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResolverRequest {
    /// "I can be reached there": answered by [`ResolverReply::Registered`].
    Register {
        /// The mesh.
        mesh: MeshKey,
        /// Where, best first.
        addresses: Vec<SocketAddr>,
    },
    /// "I am still there": answered by [`ResolverReply::Refreshed`].
    Refresh {
        /// The mesh.
        mesh: MeshKey,
        /// The registration to keep.
        registration: RegistrationId,
    },
    /// Replaces the addresses; answered by [`ResolverReply::Registered`]. If the
    /// registration is unknown, it is made.
    Update {
        /// The mesh.
        mesh: MeshKey,
        /// The registration to change.
        registration: RegistrationId,
        /// Where, best first.
        addresses: Vec<SocketAddr>,
    },
    /// "Forget me": answered by [`ResolverReply::Unregistered`], also if there was nothing
    /// to forget.
    Unregister {
        /// The mesh.
        mesh: MeshKey,
        /// The registration to end.
        registration: RegistrationId,
    },
    /// "Who else is there?": answered by [`ResolverReply::Resolved`].
    Resolve {
        /// The mesh.
        mesh: MeshKey,
        /// Most nodes wanted; a service returns at most 32 in any case.
        nodes_max: u32,
    },
    /// Asks how the service is set up: answered by [`ResolverReply::Settings`].
    Settings,
}

impl ResolverRequest {
    /// The request under `number` with its length prefix, ready to send. Addresses beyond
    /// the first 16 usable ones are left out.
    #[must_use]
    pub fn encode(&self, number: u64) -> Bytes {
        let kind = match self {
            Self::Register { mesh, addresses } => RequestKind::Register(proto::Register {
                mesh_key: mesh.encode(),
                addresses: addresses_to_proto(addresses),
            }),
            Self::Refresh { mesh, registration } => RequestKind::Refresh(proto::Refresh {
                mesh_key: mesh.encode(),
                registration: registration.encode(),
            }),
            Self::Update { mesh, registration, addresses } => RequestKind::Update(proto::Update {
                mesh_key: mesh.encode(),
                registration: registration.encode(),
                addresses: addresses_to_proto(addresses),
            }),
            Self::Unregister { mesh, registration } => RequestKind::Unregister(proto::Unregister {
                mesh_key: mesh.encode(),
                registration: registration.encode(),
            }),
            Self::Resolve { mesh, nodes_max } => {
                RequestKind::Resolve(proto::Resolve { mesh_key: mesh.encode(), addresses_max: *nodes_max })
            }
            Self::Settings => RequestKind::GetServiceSettings(proto::GetServiceSettings {}),
        };
        encode_framed(&proto::ResolverRequest { request: number, kind: Some(kind) })
    }

    /// The number and the request, from the body of a length-prefixed frame.
    ///
    /// # Errors
    /// [`DecodeError`] if it is not a valid request, an unknown kind included.
    pub fn decode(body: Bytes) -> Result<(u64, Self), DecodeError> {
        limit("request", body.len(), RESOLVER_FRAME_MAX)?;
        let message = proto::ResolverRequest::decode(body)?;
        let request = match message.kind.ok_or(DecodeError::Missing("request kind"))? {
            RequestKind::Register(r) => Self::Register {
                mesh: MeshKey::decode(&r.mesh_key)?,
                addresses: addresses_from_proto(&r.addresses)?,
            },
            RequestKind::Refresh(r) => Self::Refresh {
                mesh: MeshKey::decode(&r.mesh_key)?,
                registration: RegistrationId::decode(&r.registration)?,
            },
            RequestKind::Update(r) => Self::Update {
                mesh: MeshKey::decode(&r.mesh_key)?,
                registration: RegistrationId::decode(&r.registration)?,
                addresses: addresses_from_proto(&r.addresses)?,
            },
            RequestKind::Unregister(r) => Self::Unregister {
                mesh: MeshKey::decode(&r.mesh_key)?,
                registration: RegistrationId::decode(&r.registration)?,
            },
            RequestKind::Resolve(r) => {
                Self::Resolve { mesh: MeshKey::decode(&r.mesh_key)?, nodes_max: r.addresses_max }
            }
            RequestKind::GetServiceSettings(_) => Self::Settings,
        };
        Ok((message.request, request))
    }
}

/// What the directory answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ResolverReply {
    /// The registration is stored (durably, if the service is durable).
    Registered {
        /// Its name from here on.
        registration: RegistrationId,
        /// How long it stays without a refresh: 1 s to 24 h, whole milliseconds.
        lifetime: Duration,
    },
    /// The registration stays that much longer (1 s to 24 h, whole milliseconds), or, if
    /// `None`, the service does not know it: register again.
    Refreshed(Option<Duration>),
    /// Nothing is registered any more.
    Unregistered,
    /// A random choice of other nodes of the mesh; at most 32, empty if there are none.
    Resolved(Vec<NodeAddress>),
    /// How the service is set up.
    Settings {
        /// The service alone decides who connects to whom: nodes must not pass referrals.
        control_mesh_shape: bool,
        /// How long a registration stays without a refresh: 1 s to 24 h.
        lifetime: Duration,
    },
    /// The service does not do what was asked.
    Refused(ResolverRefusal),
}

impl ResolverReply {
    /// The reply to request `number` with its length prefix, ready to send. Nodes beyond
    /// the first 32 are left out, the detail of a refusal is cut at 256 bytes, and
    /// lifetimes are brought into their range.
    #[must_use]
    pub fn encode(&self, number: u64) -> Bytes {
        let kind = match self {
            Self::Registered { registration, lifetime } => ReplyKind::Registered(proto::Registered {
                registration: registration.encode(),
                lifetime_ms: lifetime_to_proto(*lifetime),
            }),
            Self::Refreshed(lifetime) => {
                let result = match lifetime {
                    Some(_) => proto::RefreshResult::Success,
                    None => proto::RefreshResult::RegistrationNotFound,
                };
                ReplyKind::Refreshed(proto::Refreshed {
                    result: result.into(),
                    lifetime_ms: lifetime.map_or(0, lifetime_to_proto),
                })
            }
            Self::Unregistered => ReplyKind::Unregistered(proto::Unregistered {}),
            Self::Resolved(nodes) => ReplyKind::Resolved(proto::Resolved {
                nodes: nodes.iter().take(RESOLVED_NODES_MAX).map(NodeAddress::to_proto).collect(),
            }),
            Self::Settings { control_mesh_shape, lifetime } => {
                ReplyKind::ServiceSettings(proto::ServiceSettings {
                    control_mesh_shape: *control_mesh_shape,
                    lifetime_ms: lifetime_to_proto(*lifetime),
                })
            }
            Self::Refused(refusal) => ReplyKind::Error(refusal.to_proto()),
        };
        encode_framed(&proto::ResolverReply { request: number, kind: Some(kind) })
    }

    /// The number of the request and the reply, from the body of a length-prefixed frame.
    ///
    /// # Errors
    /// [`DecodeError`] if it is not a valid reply, an unknown kind included.
    pub fn decode(body: Bytes) -> Result<(u64, Self), DecodeError> {
        limit("reply", body.len(), RESOLVER_FRAME_MAX)?;
        let message = proto::ResolverReply::decode(body)?;
        let reply = match message.kind.ok_or(DecodeError::Missing("reply kind"))? {
            ReplyKind::Registered(r) => Self::Registered {
                registration: RegistrationId::decode(&r.registration)?,
                lifetime: lifetime_from_proto(r.lifetime_ms)?,
            },
            ReplyKind::Refreshed(r) => match proto::RefreshResult::try_from(r.result) {
                Ok(proto::RefreshResult::Success) => {
                    Self::Refreshed(Some(lifetime_from_proto(r.lifetime_ms)?))
                }
                Ok(proto::RefreshResult::RegistrationNotFound) => Self::Refreshed(None),
                Ok(proto::RefreshResult::Unspecified) | Err(_) => {
                    return Err(DecodeError::Invalid { field: "refresh result", why: "unknown" });
                }
            },
            ReplyKind::Unregistered(_) => Self::Unregistered,
            ReplyKind::Resolved(r) => {
                limit("nodes", r.nodes.len(), RESOLVED_NODES_MAX)?;
                let nodes: Result<Vec<_>, _> = r.nodes.iter().map(NodeAddress::from_proto).collect();
                Self::Resolved(nodes?)
            }
            ReplyKind::ServiceSettings(s) => Self::Settings {
                control_mesh_shape: s.control_mesh_shape,
                lifetime: lifetime_from_proto(s.lifetime_ms)?,
            },
            ReplyKind::Error(error) => Self::Refused(ResolverRefusal::from_proto(error)?),
        };
        Ok((message.request, reply))
    }
}

/// Why the directory does not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolverRefusal {
    /// The reason, for programs.
    pub kind: ResolverRefusalKind,
    /// The reason, for people: at most 256 bytes.
    pub detail: String,
}

/// The reasons of a [`ResolverRefusal`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ResolverRefusalKind {
    /// The request makes no sense.
    Malformed,
    /// The client, the mesh or the service has as many registrations as it may have, or the
    /// client asks too often.
    Quota,
    /// What the request is about does not exist.
    NotFound,
    /// The service cannot do it now: its store fails or it is shutting down.
    Unavailable,
}

impl ResolverRefusal {
    fn to_proto(&self) -> proto::ResolverError {
        let kind = match self.kind {
            ResolverRefusalKind::Malformed => proto::ResolverErrorKind::Malformed,
            ResolverRefusalKind::Quota => proto::ResolverErrorKind::Quota,
            ResolverRefusalKind::NotFound => proto::ResolverErrorKind::NotFound,
            ResolverRefusalKind::Unavailable => proto::ResolverErrorKind::Unavailable,
        };
        let cut = self.detail.floor_char_boundary(REFUSAL_DETAIL_MAX);
        proto::ResolverError { kind: kind.into(), detail: self.detail[..cut].to_owned() }
    }

    fn from_proto(message: proto::ResolverError) -> Result<Self, DecodeError> {
        limit("detail", message.detail.len(), REFUSAL_DETAIL_MAX)?;
        let kind = match proto::ResolverErrorKind::try_from(message.kind) {
            Ok(proto::ResolverErrorKind::Malformed) => ResolverRefusalKind::Malformed,
            Ok(proto::ResolverErrorKind::Quota) => ResolverRefusalKind::Quota,
            Ok(proto::ResolverErrorKind::NotFound) => ResolverRefusalKind::NotFound,
            Ok(proto::ResolverErrorKind::Unavailable) => ResolverRefusalKind::Unavailable,
            Ok(proto::ResolverErrorKind::Unspecified) | Err(_) => {
                return Err(DecodeError::Invalid { field: "error kind", why: "unknown" });
            }
        };
        Ok(Self { kind, detail: message.detail })
    }
}

fn addresses_to_proto(addresses: &[SocketAddr]) -> Vec<proto::SocketAddress> {
    addresses.iter().filter(|a| is_dialable(a)).take(NODE_ADDRESSES_MAX).map(socket_to_proto).collect()
}

fn addresses_from_proto(messages: &[proto::SocketAddress]) -> Result<Vec<SocketAddr>, DecodeError> {
    let mut addresses = sockets_from_proto(messages)?;
    addresses.retain(is_dialable);
    if addresses.is_empty() {
        return Err(DecodeError::Invalid { field: "addresses", why: "none is usable" });
    }
    Ok(addresses)
}

fn lifetime_to_proto(lifetime: Duration) -> u64 {
    u64::try_from(lifetime.clamp(LEASE_MIN, LEASE_MAX).as_millis()).unwrap_or(u64::MAX)
}

fn lifetime_from_proto(lifetime_ms: u64) -> Result<Duration, DecodeError> {
    let lifetime = Duration::from_millis(lifetime_ms);
    if (LEASE_MIN..=LEASE_MAX).contains(&lifetime) {
        Ok(lifetime)
    } else {
        Err(DecodeError::Invalid { field: "lifetime", why: "not between 1 s and 24 h" })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{FrameDecoder, NodeId};

    fn body(framed: &[u8]) -> Bytes {
        let mut decoder = FrameDecoder::new(RESOLVER_FRAME_MAX);
        decoder.push(framed);
        let body = decoder.next_frame().unwrap().unwrap();
        assert_eq!(decoder.pending(), 0);
        body
    }

    fn any_mesh() -> impl Strategy<Value = MeshKey> {
        any::<[u8; 32]>().prop_map(MeshKey::from_bytes)
    }

    fn any_registration() -> impl Strategy<Value = RegistrationId> {
        any::<[u8; 16]>().prop_map(RegistrationId::from_bytes)
    }

    fn any_addresses() -> impl Strategy<Value = Vec<SocketAddr>> {
        let v4 = (any::<[u8; 4]>(), 1u16..).prop_map(|(ip, port)| SocketAddr::from((ip, port)));
        let v6 = (any::<[u8; 16]>(), 1u16..).prop_map(|(ip, port)| SocketAddr::from((ip, port)));
        let usable = prop_oneof![v4, v6].prop_filter("usable", is_dialable);
        prop::collection::vec(usable, 1..=NODE_ADDRESSES_MAX)
    }

    fn any_request() -> impl Strategy<Value = ResolverRequest> {
        prop_oneof![
            (any_mesh(), any_addresses())
                .prop_map(|(mesh, addresses)| ResolverRequest::Register { mesh, addresses }),
            (any_mesh(), any_registration())
                .prop_map(|(mesh, registration)| ResolverRequest::Refresh { mesh, registration }),
            (any_mesh(), any_registration(), any_addresses()).prop_map(|(mesh, registration, addresses)| {
                ResolverRequest::Update { mesh, registration, addresses }
            }),
            (any_mesh(), any_registration())
                .prop_map(|(mesh, registration)| ResolverRequest::Unregister { mesh, registration }),
            (any_mesh(), any::<u32>())
                .prop_map(|(mesh, nodes_max)| ResolverRequest::Resolve { mesh, nodes_max }),
            Just(ResolverRequest::Settings),
        ]
    }

    fn any_lifetime() -> impl Strategy<Value = Duration> {
        (1_000u64..=86_400_000).prop_map(Duration::from_millis)
    }

    fn any_node() -> impl Strategy<Value = NodeAddress> {
        (any::<[u8; 32]>(), any_addresses())
            .prop_map(|(node, addresses)| NodeAddress::new(NodeId::from_bytes(node), addresses).unwrap())
    }

    fn any_reply() -> impl Strategy<Value = ResolverReply> {
        let kind = prop_oneof![
            Just(ResolverRefusalKind::Malformed),
            Just(ResolverRefusalKind::Quota),
            Just(ResolverRefusalKind::NotFound),
            Just(ResolverRefusalKind::Unavailable),
        ];
        prop_oneof![
            (any_registration(), any_lifetime())
                .prop_map(|(registration, lifetime)| ResolverReply::Registered { registration, lifetime }),
            prop::option::of(any_lifetime()).prop_map(ResolverReply::Refreshed),
            Just(ResolverReply::Unregistered),
            prop::collection::vec(any_node(), 0..=RESOLVED_NODES_MAX).prop_map(ResolverReply::Resolved),
            (any::<bool>(), any_lifetime()).prop_map(|(control_mesh_shape, lifetime)| {
                ResolverReply::Settings { control_mesh_shape, lifetime }
            }),
            (kind, "[a-zäöü ]{0,60}")
                .prop_map(|(kind, detail)| ResolverReply::Refused(ResolverRefusal { kind, detail })),
        ]
    }

    proptest! {
        #[test]
        fn requests_round_trip(number: u64, request in any_request()) {
            prop_assert_eq!(ResolverRequest::decode(body(&request.encode(number))), Ok((number, request)));
        }

        #[test]
        fn replies_round_trip(number: u64, reply in any_reply()) {
            prop_assert_eq!(ResolverReply::decode(body(&reply.encode(number))), Ok((number, reply)));
        }

        #[test]
        fn truncation_never_panics_nor_reads_past_the_end(
            request in any_request(), reply in any_reply(), cut: prop::sample::Index,
        ) {
            let bytes = body(&request.encode(7));
            let _ = ResolverRequest::decode(bytes.slice(..cut.index(bytes.len())));
            let bytes = body(&reply.encode(7));
            let _ = ResolverReply::decode(bytes.slice(..cut.index(bytes.len())));
        }

        #[test]
        fn a_flipped_bit_yields_an_error_or_a_valid_value(
            request in any_request(), reply in any_reply(), at: prop::sample::Index, bit in 0u8..8,
        ) {
            let mut bytes = body(&request.encode(7)).to_vec();
            let index = at.index(bytes.len());
            bytes[index] ^= 1 << bit;
            if let Ok((number, request)) = ResolverRequest::decode(bytes.into()) {
                prop_assert_eq!(ResolverRequest::decode(body(&request.encode(number))), Ok((number, request)));
            }
            let mut bytes = body(&reply.encode(7)).to_vec();
            let index = at.index(bytes.len());
            bytes[index] ^= 1 << bit;
            if let Ok((number, reply)) = ResolverReply::decode(bytes.into()) {
                prop_assert_eq!(ResolverReply::decode(body(&reply.encode(number))), Ok((number, reply)));
            }
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let _ = ResolverRequest::decode(bytes.clone().into());
            let _ = ResolverReply::decode(bytes.into());
        }
    }

    #[test]
    fn the_bytes_on_the_wire_stay_what_they_are() {
        let mesh = MeshKey::from_bytes([0xab; 32]);
        let registration = RegistrationId::from_bytes([0xcd; 16]);
        let request = ResolverRequest::Refresh { mesh, registration }.encode(5);
        let mut golden = vec![56, 0x08, 5, 0x1a, 52, 0x0a, 32];
        golden.extend([0xab; 32]);
        golden.extend([0x12, 16]);
        golden.extend([0xcd; 16]);
        assert_eq!(request, golden);
        let reply = ResolverReply::Refreshed(Some(Duration::from_mins(10))).encode(5);
        assert_eq!(reply[..], [10, 0x08, 5, 0x1a, 6, 0x08, 1, 0x10, 0xc0, 0xcf, 0x24]);
    }

    #[test]
    fn a_request_without_a_usable_address_is_malformed() {
        let request = ResolverRequest::Register {
            mesh: MeshKey::from_bytes([1; 32]),
            addresses: vec!["0.0.0.0:5".parse().unwrap()],
        };
        let error = DecodeError::Invalid { field: "addresses", why: "none is usable" };
        assert_eq!(ResolverRequest::decode(body(&request.encode(1))), Err(error));
    }

    #[test]
    fn the_largest_reply_fits_its_frame() {
        let addresses = (1..=16).map(|port| SocketAddr::from(([0xff - 0x80; 16], 60_000 + port)));
        let node = NodeAddress::new(NodeId::from_bytes([9; 32]), addresses).unwrap();
        let reply = ResolverReply::Resolved(vec![node; RESOLVED_NODES_MAX + 5]);
        let (_, decoded) = ResolverReply::decode(body(&reply.encode(u64::MAX))).unwrap();
        assert!(matches!(decoded, ResolverReply::Resolved(nodes) if nodes.len() == RESOLVED_NODES_MAX));
    }

    #[test]
    fn a_long_detail_is_cut_at_a_character() {
        let detail = "ä".repeat(300);
        let refusal = ResolverRefusal { kind: ResolverRefusalKind::Quota, detail };
        let (_, decoded) = ResolverReply::decode(body(&ResolverReply::Refused(refusal).encode(1))).unwrap();
        assert!(matches!(decoded, ResolverReply::Refused(r) if r.detail == "ä".repeat(128)));
    }

    #[test]
    fn absurd_lifetimes_are_refused() {
        for lifetime_ms in [0, 999, 86_400_001, u64::MAX] {
            assert!(lifetime_from_proto(lifetime_ms).is_err(), "{lifetime_ms}");
        }
    }
}
