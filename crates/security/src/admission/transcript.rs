//! What the confirmations of an admission cover: everything both sides said and are.

use peerchannel_wire::{CredentialKind, Hello};

use crate::pake::Binding;

const LABEL: &[u8] = b"peerchannel/1 admission transcript";

/// What the responder chose, in password mode.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Choice {
    pub(crate) version: u32,
    pub(crate) features: u64,
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
        &hello.features.to_be_bytes(),
        &hello.attempt.to_be_bytes(),
        &hello.mesh_tag,
        opener_share,
        &choice.version.to_be_bytes(),
        &choice.features.to_be_bytes(),
        &choice.share,
    ]
    .concat()
}
