//! The password proof: CPace, then a confirmation each way.
//!
//! Suite CPACE-RISTR255-SHA512 of draft-irtf-cfrg-cpace-21 in initiator-responder mode, by
//! `pakery-cpace`, which is pinned and kept behind this module; the draft's test vectors are
//! checked below. CPace's inputs here:
//!
//! - PRS = the stretched password,
//! - CI  = protocol label and mesh id,
//! - sid = a TLS exporter of the connection with context (attempt, opener, mesh id),
//! - ADa, ADb = role and both node ids, since the exporter alone does not cover the client's
//!   key (docs/protocol.md section 2).
//!
//! The ISK never leaves this module: it keys two confirmations (keyed BLAKE3, a key per role)
//! over the transcript of the admission, compared in constant time, and is wiped.

use pakery_cpace::{
    CpaceCiphersuite, CpaceInitiator, CpaceMode, CpaceOutput, CpaceResponder, InitiatorState,
};
use pakery_crypto::{Ristretto255Group, Sha512Hash};
use peerchannel_wire::{MeshId, NodeId};
use rand_core::CryptoRng;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

const CHANNEL: &[u8] = b"peerchannel/1 admission";
const OPENER_CONFIRMS: &str = "peerchannel 2026 admission confirmation of the opener v1";
const RESPONDER_CONFIRMS: &str = "peerchannel 2026 admission confirmation of the responder v1";

/// CPACE-RISTR255-SHA512 (draft section 8.3 and appendix B.3).
struct Suite;

impl CpaceCiphersuite for Suite {
    type Group = Ristretto255Group;
    type Hash = Sha512Hash;
    const DSI: &'static [u8] = b"CPaceRistretto255";
    const HASH_BLOCK_SIZE: usize = 128;
    const FIELD_SIZE_BYTES: usize = 32;
}

/// The peer's share is not a point of the group, or is its identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct BadShare;

/// Which side of an admission a node is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Opened the control stream; CPace's party A.
    Opener,
    /// CPace's party B.
    Responder,
}

/// What both sides know before the exchange and what it is bound to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Binding<'a> {
    pub(crate) mesh: &'a MeshId,
    pub(crate) opener: &'a NodeId,
    pub(crate) responder: &'a NodeId,
    /// The exporter with context (attempt, opener, mesh id).
    pub(crate) exporter: &'a [u8; 32],
}

impl Binding<'_> {
    fn channel(&self) -> Vec<u8> {
        [CHANNEL, self.mesh.as_bytes()].concat()
    }

    /// A role label and both ids: what the party of that role says about itself.
    fn party(&self, role: Role) -> Vec<u8> {
        let label: &[u8] = match role {
            Role::Opener => b"opener",
            Role::Responder => b"responder",
        };
        [label, self.opener.as_bytes(), self.responder.as_bytes()].concat()
    }
}

/// The opener between its share and the responder's.
pub(crate) struct OpenerPake {
    state: InitiatorState<Suite>,
    responder: Vec<u8>,
}

impl OpenerPake {
    /// Starts the exchange: the share to send, and what to keep.
    pub(crate) fn start(
        binding: &Binding<'_>,
        password: &[u8; 32],
        rng: &mut impl CryptoRng,
    ) -> Result<([u8; 32], Self), BadShare> {
        let (share, state) = CpaceInitiator::<Suite>::start(
            password,
            &binding.channel(),
            binding.exporter,
            &binding.party(Role::Opener),
            rng,
        )
        .map_err(|_| BadShare)?;
        Ok((to_array(&share)?, Self { state, responder: binding.party(Role::Responder) }))
    }

    /// Ends the exchange with the responder's share.
    pub(crate) fn finish(self, share: &[u8; 32]) -> Result<SharedKey, BadShare> {
        let output =
            self.state.finish(share, &self.responder, CpaceMode::InitiatorResponder).map_err(|_| BadShare)?;
        Ok(SharedKey::new(&output))
    }
}

/// The responder's whole part: its share and the key, if the passwords agree.
pub(crate) fn respond(
    binding: &Binding<'_>,
    password: &[u8; 32],
    share: &[u8; 32],
    rng: &mut impl CryptoRng,
) -> Result<([u8; 32], SharedKey), BadShare> {
    let (own, output) = CpaceResponder::<Suite>::respond(
        share,
        password,
        &binding.channel(),
        binding.exporter,
        &binding.party(Role::Opener),
        &binding.party(Role::Responder),
        CpaceMode::InitiatorResponder,
        rng,
    )
    .map_err(|_| BadShare)?;
    Ok((to_array(&own)?, SharedKey::new(&output)))
}

/// What both sides derived. Equal only if passwords, mesh, ids, roles and connection agree;
/// nobody knows that before a confirmation was checked.
pub(crate) struct SharedKey {
    opener: Zeroizing<[u8; 32]>,
    responder: Zeroizing<[u8; 32]>,
}

impl SharedKey {
    fn new(output: &CpaceOutput) -> Self {
        let derive = |context| Zeroizing::new(blake3::derive_key(context, output.isk.as_bytes()));
        Self { opener: derive(OPENER_CONFIRMS), responder: derive(RESPONDER_CONFIRMS) }
    }

    /// The proof of the side `role` over what was said.
    pub(crate) fn confirmation(&self, role: Role, transcript: &[u8]) -> [u8; 32] {
        let key = match role {
            Role::Opener => &self.opener,
            Role::Responder => &self.responder,
        };
        blake3::keyed_hash(key, transcript).into()
    }

    /// Whether the side `role` derived the same key and heard the same words. Constant time.
    pub(crate) fn confirms(&self, role: Role, transcript: &[u8], confirmation: &[u8; 32]) -> bool {
        self.confirmation(role, transcript).ct_eq(confirmation).into()
    }
}

fn to_array(share: &[u8]) -> Result<[u8; 32], BadShare> {
    share.try_into().map_err(|_| BadShare)
}

#[cfg(test)]
mod tests;
