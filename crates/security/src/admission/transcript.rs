//! What the confirmations of an admission cover: everything both sides said and are.

use peerchannel_wire::{CredentialKind, Features, Hello};

use crate::pake::Binding;

const LABEL: &[u8] = b"peerchannel/1 admission transcript";

/// What the responder chose, in password mode.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Choice {
    pub(crate) version: u32,
    pub(crate) features: Features,
    pub(crate) share: [u8; 32],
}

/// The bytes to confirm. Every part has a fixed length, so that no two admissions share a
/// transcript. Fields are listed one by one and not as received bytes: a later version may
/// add fields that this one does not know.
pub(crate) fn transcript(
    binding: &Binding<'_>,
    hello: &Hello,
    opener_share: &[u8; 32],
    choice: &Choice,
) -> Vec<u8> {
    // Password mode is the only one with confirmations.
    debug_assert_eq!(hello.credential.kind(), CredentialKind::Password);
    [
        LABEL,
        binding.mesh.as_bytes(),
        binding.opener.as_bytes(),
        binding.responder.as_bytes(),
        binding.exporter,
        &hello.versions.min().to_be_bytes(),
        &hello.versions.max().to_be_bytes(),
        &hello.features.bits().to_be_bytes(),
        &hello.attempt.to_be_bytes(),
        &hello.mesh_tag,
        opener_share,
        &choice.version.to_be_bytes(),
        &choice.features.bits().to_be_bytes(),
        &choice.share,
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use peerchannel_wire::{HelloCredential, MeshId, NodeId, VersionRange};

    use super::*;

    #[test]
    fn everything_said_is_in_it_once() {
        // Golden: the order and width of every part is part of the protocol (2.3).
        let (mesh, opener, responder) =
            (MeshId::from_bytes([1; 32]), NodeId::from_bytes([2; 32]), NodeId::from_bytes([3; 32]));
        let binding = Binding { mesh: &mesh, opener: &opener, responder: &responder, exporter: &[4; 32] };
        let hello = Hello {
            versions: VersionRange::new(5, 6).unwrap(),
            features: Features::from_bits(7),
            attempt: 8,
            mesh_tag: [9; 32],
            credential: HelloCredential::Password { share: [10; 32] },
        };
        let choice = Choice { version: 11, features: Features::from_bits(12), share: [13; 32] };
        let mut golden = LABEL.to_vec();
        for byte in 1..=4 {
            golden.extend([byte; 32]);
        }
        golden.extend([0, 0, 0, 5, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 8]);
        golden.extend([9; 32]);
        golden.extend([10; 32]);
        golden.extend([0, 0, 0, 11, 0, 0, 0, 0, 0, 0, 0, 12]);
        golden.extend([13; 32]);
        assert_eq!(transcript(&binding, &hello, &[10; 32], &choice), golden);
    }
}
