//! A node's identity: its Ed25519 key pair.

use std::fmt;

use ed25519_dalek::pkcs8::EncodePrivateKey as _;
use ed25519_dalek::{Signer as _, SigningKey};
use peerchannel_wire::{NodeId, Signature};
use zeroize::Zeroizing;

/// A node's Ed25519 key pair. The public half is its [`NodeId`].
///
/// The secret half is wiped from memory on drop and never shown by `Debug`.
#[derive(Clone)]
pub struct Identity {
    key: SigningKey,
}

impl Identity {
    /// A fresh identity from the operating system's randomness.
    #[must_use]
    pub fn generate() -> Self {
        Self::from_seed(&Zeroizing::new(rand::random()))
    }

    /// The identity of a 32-byte secret (RFC 8032 private key).
    #[must_use]
    pub fn from_seed(seed: &[u8; 32]) -> Self {
        Self { key: SigningKey::from_bytes(seed) }
    }

    /// The public half.
    #[must_use]
    pub fn node_id(&self) -> NodeId {
        NodeId::from_bytes(self.key.verifying_key().to_bytes())
    }

    /// Signs the bytes of a transcript (RFC 8032, pure Ed25519).
    #[must_use]
    pub fn sign(&self, transcript: &[u8]) -> Signature {
        Signature::from_bytes(self.key.sign(transcript).to_bytes())
    }

    /// The private key as PKCS#8 DER, for the TLS library.
    pub(crate) fn to_pkcs8(&self) -> Option<Zeroizing<Vec<u8>>> {
        self.key.to_pkcs8_der().ok().map(|document| Zeroizing::new(document.as_bytes().to_vec()))
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({}, secret redacted)", self.node_id().short())
    }
}
