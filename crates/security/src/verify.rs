//! Checking who signed something.

use ed25519_dalek::VerifyingKey;
use peerchannel_wire::{NodeId, Signature};

/// Whether `signature` is `node`'s over `transcript`.
///
/// Strict Ed25519 verification (canonical encodings, no small-order keys) is the only
/// acceptance rule of the protocol: looser rules differ from library to library in edge
/// cases, and members must never disagree about a batch (protocol.md section 4). A node id
/// that is no point of the curve verifies nothing.
#[must_use]
pub fn verify(node: &NodeId, transcript: &[u8], signature: &Signature) -> bool {
    let signature = ed25519_dalek::Signature::from_bytes(signature.as_bytes());
    VerifyingKey::from_bytes(node.as_bytes())
        .is_ok_and(|key| key.verify_strict(transcript, &signature).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Identity;

    #[test]
    fn only_the_signer_and_only_that_text_verify() {
        let (ann, bob) = (Identity::from_seed(&[1; 32]), Identity::from_seed(&[2; 32]));
        let signature = ann.sign(b"hello");
        assert!(verify(&ann.node_id(), b"hello", &signature));
        assert!(!verify(&ann.node_id(), b"hullo", &signature));
        assert!(!verify(&bob.node_id(), b"hello", &signature));
        let mut bytes = *signature.as_bytes();
        bytes[40] ^= 1;
        assert!(!verify(&ann.node_id(), b"hello", &Signature::from_bytes(bytes)));
    }

    #[test]
    fn a_small_order_key_verifies_nothing() {
        // The identity point as key with R = identity and s = 0 satisfies the equation of
        // lax verification for every message.
        let mut identity_point = [0; 32];
        identity_point[0] = 1;
        let mut forged = [0; 64];
        forged[0] = 1;
        let forged = Signature::from_bytes(forged);
        assert!(!verify(&NodeId::from_bytes(identity_point), b"anything", &forged));
    }

    #[test]
    fn a_node_id_off_the_curve_verifies_nothing() {
        let signature = Identity::from_seed(&[1; 32]).sign(b"x");
        for byte in 0..=255 {
            let _ = verify(&NodeId::from_bytes([byte; 32]), b"x", &signature);
        }
    }

    #[test]
    fn rfc_8032_test_vector_1_verifies() {
        let key = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a".parse().unwrap();
        let hex = "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155\
                   5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b";
        let bytes: Vec<u8> =
            (0..64).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect();
        assert!(verify(&key, b"", &Signature::from_bytes(bytes.try_into().unwrap())));
    }
}
