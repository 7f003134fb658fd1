//! Messages outside the reliable sequence: hop-limited and volatile ones.
//!
//! Both have ids and signature contexts of their own and never take a number of a stream's
//! reliable sequence (docs/protocol.md section 4, lanes).

use std::sync::Arc;

use bytes::Bytes;
use prost::Message as _;

use crate::error::{DecodeError, limit};
use crate::generated as proto;
use crate::id::{MeshId, Sequence, Signature};
use crate::limits::{INTERACTIVE_BODY_MAX, VOLATILE_KEY_MAX};
use crate::stream::StreamId;
use crate::transcript::Transcript;

const LOCAL_CONTEXT: &str = "peerchannel/1 local";
const VOLATILE_CONTEXT: &str = "peerchannel/1 volatile";

/// Which kind of message outside the reliable sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AsideKind {
    /// Reaches only nodes within a number of links.
    Local,
    /// Worth something only for a moment; travels in datagrams.
    Volatile,
}

/// The content of a message outside the reliable sequence, as its origin wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AsideContent {
    /// Origin, epoch and channel.
    pub stream: StreamId,
    /// Numbered per stream and kind, from 1.
    pub number: Sequence,
    /// The origin's wall clock in ms since 1970: advisory.
    pub published_ms: u64,
    /// Volatile: of one key only the highest number is delivered. Always empty for local ones.
    pub key: Bytes,
    /// The message.
    pub payload: Bytes,
}

/// Content whose bytes are fixed but which is not signed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsignedAside {
    kind: AsideKind,
    content: AsideContent,
    encoded: Bytes,
}

impl UnsignedAside {
    /// Encodes the content. A local message has no key: one given is dropped.
    #[must_use]
    pub fn new(kind: AsideKind, mut content: AsideContent) -> Self {
        if kind == AsideKind::Local {
            content.key = Bytes::new();
        }
        let stream = Some(content.stream.to_proto());
        let (number, published_ms) = (content.number.get(), content.published_ms);
        let payload = content.payload.clone();
        let encoded = match kind {
            AsideKind::Local => proto::LocalContent { stream, number, published_ms, payload }.encode_to_vec(),
            AsideKind::Volatile => {
                let key = content.key.clone();
                proto::VolatileContent { stream, number, published_ms, key, payload }.encode_to_vec()
            }
        };
        Self { kind, content, encoded: encoded.into() }
    }

    /// What the origin signs.
    #[must_use]
    pub fn transcript(&self, mesh: &MeshId) -> Transcript {
        transcript(self.kind, mesh, &self.encoded)
    }

    /// Completes the message; `None` where the mesh runs without origin authentication.
    #[must_use]
    pub fn sign(self, signature: Option<Signature>) -> Aside {
        Aside(Arc::new(Signed { unsigned: self, signature }))
    }
}

/// A message outside the reliable sequence, as it is passed on: verbatim. Cheap to clone: it
/// never changes, and all frames that carry it share it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aside(Arc<Signed>);

#[derive(Debug, PartialEq, Eq)]
struct Signed {
    unsigned: UnsignedAside,
    signature: Option<Signature>,
}

impl Aside {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> AsideKind {
        self.0.unsigned.kind
    }

    /// The content; to be believed once the signature verified.
    #[must_use]
    pub fn content(&self) -> &AsideContent {
        &self.0.unsigned.content
    }

    /// The signature; `None` where the mesh runs without origin authentication.
    #[must_use]
    pub fn signature(&self) -> Option<&Signature> {
        self.0.signature.as_ref()
    }

    /// What the signature must cover.
    #[must_use]
    pub fn transcript(&self, mesh: &MeshId) -> Transcript {
        self.0.unsigned.transcript(mesh)
    }

    pub(crate) fn encoded(&self) -> (Bytes, Bytes) {
        (self.0.unsigned.encoded.clone(), Signature::encode_optional(self.signature()))
    }

    pub(crate) fn decode(kind: AsideKind, encoded: Bytes, signature: &Bytes) -> Result<Self, DecodeError> {
        let signature = Signature::decode_optional(signature)?;
        let (stream, number, published_ms, key, payload) = match kind {
            AsideKind::Local => {
                let c = proto::LocalContent::decode(encoded.clone())?;
                (c.stream, c.number, c.published_ms, Bytes::new(), c.payload)
            }
            AsideKind::Volatile => {
                let c = proto::VolatileContent::decode(encoded.clone())?;
                (c.stream, c.number, c.published_ms, c.key, c.payload)
            }
        };
        limit("key", key.len(), VOLATILE_KEY_MAX)?;
        limit("payload", payload.len(), INTERACTIVE_BODY_MAX)?;
        let number = Sequence::decode("number", number)?;
        if number == Sequence::ZERO {
            return Err(DecodeError::Invalid { field: "number", why: "numbers begin at 1" });
        }
        let stream = StreamId::from_field(stream.as_ref())?;
        let content = AsideContent { stream, number, published_ms, key, payload };
        Ok(UnsignedAside { kind, content, encoded }.sign(signature))
    }
}

fn transcript(kind: AsideKind, mesh: &MeshId, encoded: &[u8]) -> Transcript {
    let context = match kind {
        AsideKind::Local => LOCAL_CONTEXT,
        AsideKind::Volatile => VOLATILE_CONTEXT,
    };
    let mut transcript = Transcript::new(context, Some(mesh));
    transcript.part(encoded);
    transcript
}
