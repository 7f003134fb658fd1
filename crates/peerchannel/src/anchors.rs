//! Anchors over a restart: the neighbors a node had longest, kept beside its identity.
//!
//! They lead back into the mesh the node was in, whatever resolvers say (protocol.md section 3).
//! The file is a text, one line per anchor: the mesh's id, the node's, its addresses. It is a
//! help and not a promise: what cannot be read is left out with a warning, and what cannot be
//! written is not kept.

use std::fmt::Write as _;
use std::net::SocketAddr;

use data_encoding::HEXLOWER;
use peerchannel_mesh::Candidate;
use peerchannel_security::IdentityFile;
use peerchannel_wire::limits::NODE_ADDRESSES_MAX;
use peerchannel_wire::{MeshId, NodeId, is_dialable};

/// The file beside the identity: `PATH.anchors`.
const FILE: &str = "anchors";

/// The first line, with the version of the format.
const HEAD: &str = "peerchannel anchors 1";

/// Most lines that are kept: two for each of 64 meshes (a guess). Those written longest ago go.
const LINES_MAX: usize = 128;

/// Longest file that is read: two ids in hex and 16 addresses of at most 47 bytes per line.
const FILE_MAX: usize = 64 + LINES_MAX * (2 * 65 + NODE_ADDRESSES_MAX * 48);

/// The anchors of a mesh. Blocks for a moment.
pub(crate) fn load(file: &IdentityFile, mesh: &MeshId) -> Vec<Candidate> {
    let prefix = HEXLOWER.encode(mesh.as_bytes());
    read(file).iter().filter_map(|line| parse(line.strip_prefix(&prefix)?)).collect()
}

/// Replaces the anchors of a mesh. Blocks for two fsyncs.
pub(crate) fn store(file: &IdentityFile, mesh: &MeshId, anchors: &[Candidate]) {
    let prefix = HEXLOWER.encode(mesh.as_bytes());
    let mut lines = read(file);
    lines.retain(|line| !line.starts_with(&prefix));
    lines.extend(anchors.iter().filter_map(|anchor| write(&prefix, anchor)));
    let first = lines.len().saturating_sub(LINES_MAX);
    let text = format!("{HEAD}\n{}\n", lines[first..].join("\n"));
    if let Err(error) = file.write_beside(FILE, &text) {
        tracing::warn!(%error, "the anchors of this node could not be kept for its next start");
    }
}

/// The lines that are well formed at their beginning. None of a file that is none.
fn read(file: &IdentityFile) -> Vec<String> {
    let text = match file.read_beside(FILE, FILE_MAX) {
        Ok(Some(text)) => text,
        Ok(None) => return Vec::new(),
        Err(error) => {
            tracing::warn!(%error, "the anchors of this node's last run cannot be read");
            return Vec::new();
        }
    };
    let mut lines = text.lines();
    if lines.next() != Some(HEAD) {
        tracing::warn!("the file of this node's anchors is not one of this version: not used");
        return Vec::new();
    }
    lines.filter(|line| !line.is_empty()).map(str::to_owned).take(LINES_MAX).collect()
}

/// What follows the mesh's id.
fn parse(line: &str) -> Option<Candidate> {
    let mut words = line.split_whitespace();
    let node: NodeId = words.next()?.parse().ok()?;
    let addresses: Vec<SocketAddr> =
        words.filter_map(|word| word.parse().ok()).filter(is_dialable).take(NODE_ADDRESSES_MAX).collect();
    (!addresses.is_empty()).then_some(Candidate { node: Some(node), addresses })
}

fn write(prefix: &str, anchor: &Candidate) -> Option<String> {
    let mut line = format!("{prefix} {}", anchor.node?);
    for address in anchor.addresses.iter().take(NODE_ADDRESSES_MAX) {
        // Writing to a string does not fail.
        let _ = write!(line, " {address}");
    }
    Some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidate(byte: u8, addresses: &[&str]) -> Candidate {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        Candidate { node: Some(NodeId::from_bytes([byte; 32])), addresses }
    }

    #[test]
    fn anchors_come_back_and_those_of_other_meshes_stay() {
        let folder = tempfile::tempdir().unwrap();
        let file = IdentityFile::open(folder.path().join("key")).unwrap();
        let meshes = [MeshId::from_bytes([1; 32]), MeshId::from_bytes([2; 32])];
        assert_eq!(load(&file, &meshes[0]), []);
        let old = [candidate(7, &["192.0.2.7:4000"])];
        let new = [candidate(8, &["192.0.2.8:4000", "[2001:db8::8]:4000"]), candidate(9, &["192.0.2.9:1"])];
        store(&file, &meshes[0], &old);
        store(&file, &meshes[1], &old);
        store(&file, &meshes[0], &new);
        assert_eq!(load(&file, &meshes[0]), new);
        assert_eq!(load(&file, &meshes[1]), old);
        store(&file, &meshes[0], &[]);
        assert_eq!(load(&file, &meshes[0]), []);
    }

    #[test]
    fn a_file_that_is_none_is_no_harm_and_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let file = IdentityFile::open(folder.path().join("key")).unwrap();
        let mesh = MeshId::from_bytes([1; 32]);
        let head = format!("{HEAD}\n{}", HEXLOWER.encode(mesh.as_bytes()));
        let huge = "x".repeat(FILE_MAX + 1);
        for text in ["", "nonsense", &huge, &head, &format!("{head} zz"), &format!("{head} 0.0.0.0:0")] {
            file.write_beside(FILE, text).unwrap();
            assert_eq!(load(&file, &mesh), [], "{text:.100}");
            let anchors = [candidate(7, &["192.0.2.7:4000"])];
            store(&file, &mesh, &anchors);
            assert_eq!(load(&file, &mesh), anchors, "{text:.100}");
        }
    }

    #[test]
    #[allow(clippy::cast_possible_truncation)] // A small number.
    fn the_file_does_not_grow_without_end() {
        let folder = tempfile::tempdir().unwrap();
        let file = IdentityFile::open(folder.path().join("key")).unwrap();
        let most = vec!["[2001:db8:aaaa:bbbb:cccc:dddd:eeee:ffff]:65535"; NODE_ADDRESSES_MAX];
        for byte in 0..=LINES_MAX as u8 {
            store(&file, &MeshId::from_bytes([byte; 32]), &[candidate(1, &most)]);
        }
        assert_eq!(read(&file).len(), LINES_MAX);
        assert_eq!(load(&file, &MeshId::from_bytes([LINES_MAX as u8; 32])), [candidate(1, &most)]);
        assert_eq!(load(&file, &MeshId::from_bytes([0; 32])), [], "the oldest");
    }
}
