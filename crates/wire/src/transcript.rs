//! What is signed: one unambiguous byte string per signature context.
//!
//! Each begins with its own context string, so that a signature made for one purpose never
//! verifies for another, and holds the mesh id, so that it never verifies in another mesh
//! (protocol.md section 4, batches). Variable parts are preceded by their length.

use std::fmt;

use crate::id::MeshId;
use crate::stream::StreamId;

/// The bytes a signature covers. Signing and verifying is the security crate's.
#[derive(Clone, PartialEq, Eq)]
pub struct Transcript(Vec<u8>);

impl Transcript {
    pub(crate) fn new(context: &'static str, mesh: Option<&MeshId>) -> Self {
        let mut transcript = Self(Vec::with_capacity(256));
        transcript.part(context.as_bytes());
        transcript.part(mesh.map_or(&[][..], |mesh| mesh.as_bytes()));
        transcript
    }

    pub(crate) fn stream(&mut self, stream: &StreamId) {
        self.part(stream.origin.as_bytes());
        self.0.extend_from_slice(&stream.epoch.get().to_be_bytes());
        self.part(stream.channel.as_str().as_bytes());
    }

    /// Appends a length (4 bytes, big endian) and the bytes.
    pub(crate) fn part(&mut self, bytes: &[u8]) {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.0.extend_from_slice(&length.to_be_bytes());
        self.0.extend_from_slice(bytes);
    }

    /// The bytes to sign or verify.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Transcript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Transcript({} bytes)", self.0.len())
    }
}
