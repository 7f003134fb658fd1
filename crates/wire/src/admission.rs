//! Admission frames: what two nodes say before one of them is a member.
//!
//! Owns the shapes only; who is admitted is decided in the security crate. Password mode
//! carries shares and confirmations of exactly 32 bytes, open mode carries none: the types
//! have no room for anything else. docs/protocol.md section 2.

use std::time::Duration;

use bytes::Bytes;
use prost::Message as _;

use crate::error::DecodeError;
use crate::features::Features;
use crate::frame::encode_framed;
use crate::generated as proto;
use crate::generated::admission_frame::Kind;
use crate::id::array;

/// The version of the Peer Channel protocol that this crate speaks.
pub const PROTOCOL_VERSION: u32 = 1;

/// How a mesh decides who may join.
///
/// Part of the mesh id: two meshes of one name under different kinds are different meshes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum CredentialKind {
    /// Anyone who knows the name.
    Open,
    /// Anyone who knows the name and the password.
    Password,
}

/// The protocol versions a node speaks: a range without holes, never empty, from 1 up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VersionRange {
    // Invariant: 1 <= min <= max.
    min: u32,
    max: u32,
}

impl VersionRange {
    /// What this crate speaks.
    pub const SUPPORTED: Self = Self { min: PROTOCOL_VERSION, max: PROTOCOL_VERSION };

    /// The versions `min` to `max`, both included; `None` if there is none or `min` is 0.
    #[must_use]
    pub const fn new(min: u32, max: u32) -> Option<Self> {
        if min >= 1 && min <= max { Some(Self { min, max }) } else { None }
    }

    /// The lowest version.
    #[must_use]
    pub const fn min(self) -> u32 {
        self.min
    }

    /// The highest version.
    #[must_use]
    pub const fn max(self) -> u32 {
        self.max
    }

    /// Whether `version` is one of them.
    #[must_use]
    pub const fn contains(self, version: u32) -> bool {
        self.min <= version && version <= self.max
    }

    /// The highest version both ranges have.
    #[must_use]
    pub fn highest_common(self, other: Self) -> Option<u32> {
        let version = self.max.min(other.max);
        (self.contains(version) && other.contains(version)).then_some(version)
    }
}

/// What the opener shows of its credential in its [`Hello`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HelloCredential {
    /// Nothing: knowing the name is enough.
    Open,
    /// Password mode.
    Password {
        /// The opener's CPace share.
        share: [u8; 32],
    },
}

impl HelloCredential {
    /// The kind of mesh the opener means.
    #[must_use]
    pub const fn kind(&self) -> CredentialKind {
        match self {
            Self::Open => CredentialKind::Open,
            Self::Password { .. } => CredentialKind::Password,
        }
    }
}

/// Opener to responder: which mesh, which versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hello {
    /// The versions the opener speaks.
    pub versions: VersionRange,
    /// Optional features the opener offers, a bit each.
    pub features: Features,
    /// The mesh id keyed by the TLS exporter.
    pub mesh_tag: [u8; 32],
    /// Distinguishes the attempts of one opener on one connection.
    pub attempt: u32,
    /// What it shows of its credential.
    pub credential: HelloCredential,
}

/// What the responder shows of its credential in its [`HelloReply`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyCredential {
    /// Nothing.
    Open,
    /// Password mode.
    Password {
        /// The responder's CPace share.
        share: [u8; 32],
        /// The responder's proof that it derived the same key.
        confirmation: [u8; 32],
    },
}

/// Responder to opener: the negotiated version and features.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HelloReply {
    /// The version from here on; one the opener offered, at least 1.
    pub version: u32,
    /// The features from here on; a subset of those offered.
    pub features: Features,
    /// What it shows of its credential.
    pub credential: ReplyCredential,
}

/// Why an admission ended in vain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum AdmissionRefusal {
    /// The responder is not a member of that mesh (or knows it under another credential).
    UnknownMesh,
    /// The password is wrong, or someone sits between the two nodes.
    BadCredential,
    /// Too many admissions at once, or too many failures from that network.
    Busy,
    /// The two nodes have no protocol version in common.
    Version,
    /// A frame that does not belong there.
    Malformed,
    /// Admission was not complete in time.
    TimedOut,
    /// The two nodes have the same id: a node dialed itself, or a key was copied.
    Duplicate,
}

/// Everything that travels on a control stream before its opener is a member.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdmissionFrame {
    /// Opener to responder, first.
    Hello(Hello),
    /// Responder to opener.
    HelloReply(HelloReply),
    /// Opener to responder, in password mode only.
    Confirm {
        /// The opener's proof that it derived the same key.
        confirmation: [u8; 32],
    },
    /// Responder to opener: the opener is a member; link frames follow.
    Admitted,
    /// Either way: admission is over, in vain.
    Refused {
        /// Why.
        reason: AdmissionRefusal,
        /// When it makes sense to try again, if the sender knows. Whole milliseconds on
        /// the wire, rounded up, at most `u32::MAX` of them (49 days); zero is "unknown".
        retry_after: Option<Duration>,
    },
}

impl AdmissionFrame {
    /// The frame with its length prefix, ready to send.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        encode_framed(&proto::AdmissionFrame { kind: Some(self.to_kind()) })
    }

    /// The frame from the body of a length-prefixed frame.
    ///
    /// # Errors
    /// [`DecodeError`] if it is not a valid admission frame, an unknown kind included.
    #[allow(clippy::needless_pass_by_value)] // As the other decoders: the body is consumed.
    pub fn decode(body: Bytes) -> Result<Self, DecodeError> {
        let kind =
            proto::AdmissionFrame::decode(body)?.kind.ok_or(DecodeError::Missing("admission frame"))?;
        match kind {
            Kind::Hello(hello) => decode_hello(&hello).map(Self::Hello),
            Kind::HelloReply(reply) => decode_reply(&reply).map(Self::HelloReply),
            Kind::Confirm(confirm) => {
                Ok(Self::Confirm { confirmation: array("confirmation", &confirm.confirmation)? })
            }
            Kind::Admitted(proto::Admitted {}) => Ok(Self::Admitted),
            Kind::Refused(refused) => Ok(Self::Refused {
                reason: refusal_from_proto(refused.reason)?,
                retry_after: (refused.retry_after_ms > 0)
                    .then(|| Duration::from_millis(refused.retry_after_ms.into())),
            }),
        }
    }

    fn to_kind(self) -> Kind {
        match self {
            Self::Hello(hello) => Kind::Hello(encode_hello(&hello)),
            Self::HelloReply(reply) => Kind::HelloReply(encode_reply(&reply)),
            Self::Confirm { confirmation } => {
                Kind::Confirm(proto::Confirm { confirmation: bytes_of(&confirmation) })
            }
            Self::Admitted => Kind::Admitted(proto::Admitted {}),
            Self::Refused { reason, retry_after } => Kind::Refused(proto::AdmissionRefused {
                reason: refusal_to_proto(reason).into(),
                retry_after_ms: retry_after.map_or(0, whole_ms),
            }),
        }
    }
}

fn encode_hello(hello: &Hello) -> proto::Hello {
    let (credential, share) = match hello.credential {
        HelloCredential::Open => (proto::CredentialKind::Open, Bytes::new()),
        HelloCredential::Password { share } => (proto::CredentialKind::Password, bytes_of(&share)),
    };
    proto::Hello {
        version_min: hello.versions.min,
        version_max: hello.versions.max,
        features: hello.features.bits(),
        mesh_tag: bytes_of(&hello.mesh_tag),
        credential: credential.into(),
        attempt: hello.attempt,
        share,
    }
}

fn decode_hello(hello: &proto::Hello) -> Result<Hello, DecodeError> {
    let versions = VersionRange::new(hello.version_min, hello.version_max)
        .ok_or(DecodeError::Invalid { field: "versions", why: "an empty range" })?;
    let credential = match proto::CredentialKind::try_from(hello.credential) {
        Ok(proto::CredentialKind::Open) => {
            absent("share", &hello.share)?;
            HelloCredential::Open
        }
        Ok(proto::CredentialKind::Password) => {
            HelloCredential::Password { share: array("share", &hello.share)? }
        }
        Ok(proto::CredentialKind::Unspecified) | Err(_) => {
            return Err(DecodeError::Invalid { field: "credential kind", why: "unknown" });
        }
    };
    Ok(Hello {
        versions,
        features: Features::from_bits(hello.features),
        mesh_tag: array("mesh tag", &hello.mesh_tag)?,
        attempt: hello.attempt,
        credential,
    })
}

fn encode_reply(reply: &HelloReply) -> proto::HelloReply {
    let (share, confirmation) = match &reply.credential {
        ReplyCredential::Open => (Bytes::new(), Bytes::new()),
        ReplyCredential::Password { share, confirmation } => (bytes_of(share), bytes_of(confirmation)),
    };
    proto::HelloReply { version: reply.version, features: reply.features.bits(), share, confirmation }
}

fn decode_reply(reply: &proto::HelloReply) -> Result<HelloReply, DecodeError> {
    if reply.version == 0 {
        return Err(DecodeError::Invalid { field: "version", why: "zero" });
    }
    let credential = if reply.share.is_empty() {
        absent("confirmation", &reply.confirmation)?;
        ReplyCredential::Open
    } else {
        ReplyCredential::Password {
            share: array("share", &reply.share)?,
            confirmation: array("confirmation", &reply.confirmation)?,
        }
    };
    Ok(HelloReply { version: reply.version, features: Features::from_bits(reply.features), credential })
}

fn absent(field: &'static str, bytes: &Bytes) -> Result<(), DecodeError> {
    if bytes.is_empty() {
        Ok(())
    } else {
        Err(DecodeError::Invalid { field, why: "it has no place in open mode" })
    }
}

fn bytes_of(array: &[u8; 32]) -> Bytes {
    Bytes::copy_from_slice(array)
}

/// Rounded up, so that nobody comes back a moment too early.
fn whole_ms(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros().div_ceil(1000)).unwrap_or(u32::MAX)
}

fn refusal_to_proto(reason: AdmissionRefusal) -> proto::AdmissionRefusal {
    match reason {
        AdmissionRefusal::UnknownMesh => proto::AdmissionRefusal::UnknownMesh,
        AdmissionRefusal::BadCredential => proto::AdmissionRefusal::BadCredential,
        AdmissionRefusal::Busy => proto::AdmissionRefusal::Busy,
        AdmissionRefusal::Version => proto::AdmissionRefusal::Version,
        AdmissionRefusal::Malformed => proto::AdmissionRefusal::Malformed,
        AdmissionRefusal::TimedOut => proto::AdmissionRefusal::TimedOut,
        AdmissionRefusal::Duplicate => proto::AdmissionRefusal::Duplicate,
    }
}

fn refusal_from_proto(reason: i32) -> Result<AdmissionRefusal, DecodeError> {
    match proto::AdmissionRefusal::try_from(reason) {
        Ok(proto::AdmissionRefusal::UnknownMesh) => Ok(AdmissionRefusal::UnknownMesh),
        Ok(proto::AdmissionRefusal::BadCredential) => Ok(AdmissionRefusal::BadCredential),
        Ok(proto::AdmissionRefusal::Busy) => Ok(AdmissionRefusal::Busy),
        Ok(proto::AdmissionRefusal::Version) => Ok(AdmissionRefusal::Version),
        Ok(proto::AdmissionRefusal::Malformed) => Ok(AdmissionRefusal::Malformed),
        Ok(proto::AdmissionRefusal::TimedOut) => Ok(AdmissionRefusal::TimedOut),
        Ok(proto::AdmissionRefusal::Duplicate) => Ok(AdmissionRefusal::Duplicate),
        Ok(proto::AdmissionRefusal::Unspecified) | Err(_) => {
            Err(DecodeError::Invalid { field: "admission refusal", why: "unknown" })
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::frame::FrameDecoder;
    use crate::limits::ADMISSION_FRAME_MAX;

    fn body(encoded: &[u8]) -> Bytes {
        let mut decoder = FrameDecoder::new(ADMISSION_FRAME_MAX);
        decoder.push(encoded);
        decoder.next_frame().unwrap().unwrap()
    }

    fn frames() -> impl Strategy<Value = AdmissionFrame> {
        let versions =
            (1..=u32::MAX, 1..=u32::MAX).prop_map(|(a, b)| VersionRange::new(a.min(b), a.max(b)).unwrap());
        let hello_credential = prop_oneof![
            Just(HelloCredential::Open),
            any::<[u8; 32]>().prop_map(|share| HelloCredential::Password { share }),
        ];
        let reply_credential = prop_oneof![
            Just(ReplyCredential::Open),
            any::<([u8; 32], [u8; 32])>()
                .prop_map(|(share, confirmation)| ReplyCredential::Password { share, confirmation }),
        ];
        let reason = proptest::sample::select(vec![
            AdmissionRefusal::UnknownMesh,
            AdmissionRefusal::BadCredential,
            AdmissionRefusal::Busy,
            AdmissionRefusal::Version,
            AdmissionRefusal::Malformed,
            AdmissionRefusal::TimedOut,
            AdmissionRefusal::Duplicate,
        ]);
        let retry = proptest::option::of((1..=u32::MAX).prop_map(|ms| Duration::from_millis(ms.into())));
        prop_oneof![
            (versions, any::<u64>(), any::<[u8; 32]>(), any::<u32>(), hello_credential).prop_map(
                |(versions, features, mesh_tag, attempt, credential)| AdmissionFrame::Hello(Hello {
                    versions,
                    features: Features::from_bits(features),
                    mesh_tag,
                    attempt,
                    credential
                })
            ),
            (1..=u32::MAX, any::<u64>(), reply_credential).prop_map(|(version, features, credential)| {
                AdmissionFrame::HelloReply(HelloReply {
                    version,
                    features: Features::from_bits(features),
                    credential,
                })
            }),
            any::<[u8; 32]>().prop_map(|confirmation| AdmissionFrame::Confirm { confirmation }),
            Just(AdmissionFrame::Admitted),
            (reason, retry).prop_map(|(reason, retry_after)| AdmissionFrame::Refused { reason, retry_after }),
        ]
    }

    proptest! {
        #[test]
        fn every_frame_round_trips_within_the_limit(frame in frames()) {
            let encoded = frame.encode();
            prop_assert!(encoded.len() <= ADMISSION_FRAME_MAX);
            prop_assert_eq!(AdmissionFrame::decode(body(&encoded)), Ok(frame));
        }

        #[test]
        fn a_truncated_frame_never_panics(frame in frames(), keep in 0.0..1.0f64) {
            let body = body(&frame.encode());
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
            let cut = (body.len() as f64 * keep) as usize;
            let _ = AdmissionFrame::decode(body.slice(..cut));
        }

        #[test]
        fn a_flipped_bit_never_panics_and_what_decodes_is_valid(frame in frames(), bit in any::<usize>()) {
            let mut bytes = body(&frame.encode()).to_vec();
            if !bytes.is_empty() {
                let bit = bit % (bytes.len() * 8);
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            if let Ok(other) = AdmissionFrame::decode(bytes.into()) {
                prop_assert_eq!(AdmissionFrame::decode(body(&other.encode())), Ok(other));
            }
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = AdmissionFrame::decode(bytes.into());
        }
    }

    #[test]
    fn a_share_in_open_mode_is_refused() {
        let hello = proto::Hello {
            version_min: 1,
            version_max: 1,
            mesh_tag: bytes_of(&[1; 32]),
            credential: proto::CredentialKind::Open.into(),
            share: bytes_of(&[2; 32]),
            ..proto::Hello::default()
        };
        assert!(decode_hello(&hello).is_err());
        let reply = proto::HelloReply { version: 1, confirmation: bytes_of(&[2; 32]), ..Default::default() };
        assert!(decode_reply(&reply).is_err());
    }

    #[test]
    fn a_share_of_the_wrong_length_is_refused() {
        for length in [0, 31, 33, 64] {
            let hello = proto::Hello {
                version_min: 1,
                version_max: 1,
                mesh_tag: bytes_of(&[1; 32]),
                credential: proto::CredentialKind::Password.into(),
                share: vec![7; length].into(),
                ..proto::Hello::default()
            };
            assert!(decode_hello(&hello).is_err(), "{length}");
        }
        let half = proto::HelloReply { version: 1, share: bytes_of(&[2; 32]), ..Default::default() };
        assert!(decode_reply(&half).is_err());
    }

    #[test]
    fn the_wire_format_stays_what_it_is() {
        let hello = AdmissionFrame::Hello(Hello {
            versions: VersionRange::SUPPORTED,
            features: Features::from_bits(5),
            mesh_tag: [0xaa; 32],
            attempt: 3,
            credential: HelloCredential::Open,
        });
        let mut golden = vec![46, 0x0a, 44, 0x08, 1, 0x10, 1, 0x18, 5, 0x22, 32];
        golden.extend([0xaa; 32]);
        golden.extend([0x28, 1, 0x30, 3]);
        assert_eq!(hello.encode(), golden);
        let refused = AdmissionFrame::Refused {
            reason: AdmissionRefusal::Busy,
            retry_after: Some(Duration::from_micros(1_500)),
        };
        assert_eq!(&refused.encode()[..], [6, 0x2a, 4, 0x08, 3, 0x10, 2]);
    }

    #[test]
    fn the_highest_common_version_wins() {
        let range = |min, max| VersionRange::new(min, max).unwrap();
        assert_eq!(range(1, 3).highest_common(range(2, 5)), Some(3));
        assert_eq!(range(2, 5).highest_common(range(1, 3)), Some(3));
        assert_eq!(range(1, 2).highest_common(range(3, 5)), None);
        assert_eq!(range(4, 4).highest_common(range(1, 9)), Some(4));
        assert_eq!(VersionRange::new(0, 1), None);
        assert_eq!(VersionRange::new(2, 1), None);
    }
}
