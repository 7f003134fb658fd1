//! Deriving the names of a mesh that machines use: mesh id, mesh tag, resolver key.
//!
//! Each has its own BLAKE3 context, so that none can be taken for another. None of them is a
//! secret: whoever sees one can try out names, and a low-entropy name ("family", "office")
//! is found that way at once. They keep honest directories and bystanders from reading the
//! name in passing, nothing more; what keeps strangers out is the credential.
//! docs/protocol.md section 2.

use peerchannel_wire::{CredentialKind, MeshId, MeshName, NodeId};

const MESH_ID: &str = "peerchannel 2026 mesh id v1";
const RESOLVER_KEY: &str = "peerchannel 2026 resolver key v1";

/// The mesh of this name under this kind of credential.
///
/// Two meshes of one name under different kinds differ, so that a node that asks for a
/// password can never end up among nodes that do not.
#[must_use]
pub fn mesh_id(name: &MeshName, kind: CredentialKind) -> MeshId {
    // One byte of kind, then the name: unambiguous because the kind has a fixed length.
    let mut hasher = blake3::Hasher::new_derive_key(MESH_ID);
    hasher.update(&[kind_byte(kind)]);
    hasher.update(name.as_str().as_bytes());
    MeshId::from_bytes(hasher.finalize().into())
}

/// What an opener says instead of the mesh id: the id keyed by a secret of the connection.
///
/// Only the node at the other end can check it, and only on this connection. That node can
/// also try names against it offline: a low-entropy name does not stay unknown to the nodes
/// one talks to.
#[must_use]
pub fn mesh_tag(mesh: &MeshId, exporter: &[u8; 32]) -> [u8; 32] {
    blake3::keyed_hash(exporter, mesh.as_bytes()).into()
}

/// The key under which a mesh is registered with directories and on the LAN.
///
/// It hides the name from whoever does not guess it; it is the same every time, so a
/// directory sees which nodes share a mesh.
#[must_use]
pub fn resolver_key(mesh: &MeshId) -> [u8; 32] {
    blake3::derive_key(RESOLVER_KEY, mesh.as_bytes())
}

/// The exporter context of the mesh tag: (attempt, opener). The responder must know it before
/// it knows the mesh. The opener's id is in it, so that a tag sent back by its receiver names
/// nothing.
pub(crate) fn tag_context(attempt: u32, opener: &NodeId) -> [u8; 36] {
    let mut context = [0; 36];
    context[..4].copy_from_slice(&attempt.to_be_bytes());
    context[4..].copy_from_slice(opener.as_bytes());
    context
}

/// The exporter context of proofs: (attempt, opener, mesh id). The opener's id is in it, so
/// that two attempts in opposite directions never share a session id. Longer than the
/// context of the tag, so that the two never coincide.
pub(crate) fn proof_context(attempt: u32, opener: &NodeId, mesh: &MeshId) -> [u8; 68] {
    let mut context = [0; 68];
    context[..36].copy_from_slice(&tag_context(attempt, opener));
    context[36..].copy_from_slice(mesh.as_bytes());
    context
}

fn kind_byte(kind: CredentialKind) -> u8 {
    match kind {
        CredentialKind::Open => 1,
        CredentialKind::Password => 2,
        // A kind that this crate cannot admit cannot be joined either: it gets an id that
        // no admission carries.
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> MeshName {
        MeshName::new(text).unwrap()
    }

    #[test]
    fn the_kind_of_credential_is_part_of_the_mesh() {
        let open = mesh_id(&name("kitchen"), CredentialKind::Open);
        assert_ne!(open, mesh_id(&name("kitchen"), CredentialKind::Password));
        assert_ne!(open, mesh_id(&name("cellar"), CredentialKind::Open));
        assert_eq!(open, mesh_id(&name("Kitchen"), CredentialKind::Open));
    }

    #[test]
    fn ids_stay_what_they_are() {
        // Golden: nodes of different releases must meet.
        let hex = |bytes: &[u8]| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        let mesh = mesh_id(&name("kitchen"), CredentialKind::Password);
        assert_eq!(hex(mesh.as_bytes()), "b1ca40e909a0c7f5fa4a03bfc2d9d36493a2f34a090b730cf479a2e1c26b41ad");
        assert_eq!(
            hex(&resolver_key(&mesh)),
            "65e62f83d32f444c663b5d9d6ac89dc02d6f3810892b9c77fda7943ccbcdae59"
        );
        assert_eq!(
            hex(&mesh_tag(&mesh, &[7; 32])),
            "fcdfacc2f1e9277336a7022646c39e2f844b29a27189ccc8ef95bcb2f9599ce2"
        );
    }

    #[test]
    fn a_tag_belongs_to_one_connection() {
        let mesh = mesh_id(&name("kitchen"), CredentialKind::Open);
        assert_ne!(mesh_tag(&mesh, &[1; 32]), mesh_tag(&mesh, &[2; 32]));
        assert_ne!(&mesh_tag(&mesh, &[1; 32]), mesh.as_bytes());
        assert_ne!(&resolver_key(&mesh), mesh.as_bytes());
    }
}
