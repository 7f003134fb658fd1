//! A stand-in for signatures: bound to signer and content, which is all the core relies on,
//! and cheap. Not a signature: whoever knows a node's id can make its seal.

use peerchannel_wire::{NodeId, Signature, Transcript};

use crate::dice::mix;

/// What the signer's node would sign.
pub(crate) fn sign(signer: &NodeId, transcript: &Transcript) -> Signature {
    let mut bytes = [0; 64];
    let seal = digest(signer, transcript.as_bytes());
    for (index, part) in (0u64..).zip(bytes.chunks_exact_mut(8)) {
        part.copy_from_slice(&mix(seal ^ index).to_le_bytes());
    }
    Signature::from_bytes(bytes)
}

/// Whether it is the signer's, and of this content.
pub(crate) fn verify(signer: &NodeId, transcript: &Transcript, signature: &Signature) -> bool {
    sign(signer, transcript) == *signature
}

fn digest(signer: &NodeId, content: &[u8]) -> u64 {
    let mut state = content.len() as u64;
    for bytes in [signer.as_bytes().as_slice(), content] {
        let mut words = bytes.chunks_exact(8);
        for word in &mut words {
            let mut eight = [0; 8];
            eight.copy_from_slice(word);
            state = (state ^ u64::from_le_bytes(eight)).wrapping_mul(0x9fb2_1c65_1e98_df25).rotate_left(29);
        }
        for byte in words.remainder() {
            state = (state ^ u64::from(*byte)).wrapping_mul(0x9fb2_1c65_1e98_df25).rotate_left(29);
        }
    }
    mix(state)
}

#[cfg(test)]
mod tests {
    use peerchannel_wire::{MeshId, Sequence, UnsignedBatch};

    use super::*;

    #[test]
    fn only_the_signers_own_seal_of_this_content_passes() {
        let stream = peerchannel_wire::StreamId {
            origin: NodeId::from_bytes([1; 32]),
            epoch: peerchannel_wire::Epoch::new(1).unwrap(),
            channel: peerchannel_wire::ChannelName::new("c").unwrap(),
        };
        let mesh = MeshId::from_bytes([1; 32]);
        let transcript = |text: &'static str| {
            let first = Sequence::new(1).unwrap();
            UnsignedBatch::new(first, 0, vec![text.into()]).unwrap().transcript(&mesh, &stream)
        };
        let (ann, bob) = (NodeId::from_bytes([1; 32]), NodeId::from_bytes([2; 32]));
        let seal = sign(&ann, &transcript("a"));
        assert!(verify(&ann, &transcript("a"), &seal));
        assert!(!verify(&bob, &transcript("a"), &seal));
        assert!(!verify(&ann, &transcript("b"), &seal));
        let mut bytes = *seal.as_bytes();
        bytes[63] ^= 1;
        assert!(!verify(&ann, &transcript("a"), &Signature::from_bytes(bytes)));
    }
}
