//! A node's identity: its Ed25519 key pair, in memory and in a file.
//!
//! The key file is a small text that is written once and never changed:
//!
//! ```text
//! peerchannel identity 1
//! secret 9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60
//! ```
//!
//! What changes while a node lives (its epochs) is in a file of its own; see
//! [`IdentityFile`](crate::IdentityFile).

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use ed25519_dalek::pkcs8::EncodePrivateKey as _;
use ed25519_dalek::{Signer as _, SigningKey};
use peerchannel_wire::{NodeId, Signature};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::durable;

const KIND: &str = "peerchannel identity";
const VERSION: &str = "1";

/// Longest key file that is read: ten times what is written.
const KEY_FILE_MAX: usize = 1024;

/// Why an identity file could not be used. The files are as they were before.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum IdentityError {
    /// The operating system does not let us read it.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The operating system does not let us write it: no such directory, no right, no room.
    #[error("cannot write {} (its directory must exist and be writable)", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// There is a file of that name, and it is never overwritten.
    #[error("{} exists already: choose another name, or move it away", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// Other users of the machine can read the secret.
    #[error(
        "other users of this machine can read the secret in {path} (mode {mode:03o}): run `chmod 600 {path}`",
        path = path.display()
    )]
    ReadableByOthers {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// There is nothing in it.
    #[error("{} is empty: restore it from a backup, or delete it to get a new identity", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Written by a release that knows more than this one.
    #[error("{} has version {found:?}, this release reads version {VERSION}: use a newer release", path.display())]
    UnknownVersion {
        /// The file.
        path: PathBuf,
        /// The version it says.
        found: String,
    },
    /// It is not what it should be.
    #[error("{} is damaged or no such file at all, line {line}: {why}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong there.
        why: &'static str,
    },
    /// Another process (or another node of this one) uses the identity. Two nodes under one
    /// id would cut each other off.
    #[error("the identity {} is in use by another process: stop it, or use another identity", path.display())]
    InUse {
        /// The key file.
        path: PathBuf,
    },
    /// There is no epoch left after the one that is stored.
    #[error(
        "the epoch stored in {} for this mesh is the last there is; the file was changed or the clock once \
         stood far in the future: delete the file if no member remembers this node, else use a new identity",
        path.display()
    )]
    EpochsExhausted {
        /// The epoch file.
        path: PathBuf,
    },
    /// The clock shows a time that no epoch can express (above 2^53 - 1 ms).
    #[error("the clock of this machine is {wall_clock_ms} ms after 1970, far in the future: set it right")]
    ClockBeyondEpochs {
        /// What the clock shows.
        wall_clock_ms: u64,
    },
}

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

    /// The identity in a key file. Does not lock it: a node that runs under the identity
    /// uses [`IdentityFile::open`](crate::IdentityFile::open).
    ///
    /// # Errors
    /// [`IdentityError::Unreadable`], [`Empty`](IdentityError::Empty),
    /// [`UnknownVersion`](IdentityError::UnknownVersion),
    /// [`Malformed`](IdentityError::Malformed), and on Unix
    /// [`ReadableByOthers`](IdentityError::ReadableByOthers) where the permission bits of
    /// group or others allow more than nothing.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, IdentityError> {
        let path = path.as_ref();
        let text = durable::read(path, KEY_FILE_MAX)
            .map(Zeroizing::new)
            .map_err(|source| IdentityError::Unreadable { path: path.to_owned(), source })?;
        check_permissions(path)?;
        let seed = parse(&text).map_err(|fault| fault.of(path))?;
        Ok(Self::from_seed(&seed))
    }

    /// Writes the identity into a new key file, readable by its owner only, in one step:
    /// whoever looks sees no file or a complete one. It is on the disk when this returns.
    ///
    /// # Errors
    /// [`IdentityError::Exists`] (nothing is overwritten) or
    /// [`IdentityError::Unwritable`].
    pub fn save_new(&self, path: impl AsRef<Path>) -> Result<(), IdentityError> {
        let path = path.as_ref();
        let seed = Zeroizing::new(self.key.to_bytes());
        // Its whole length at once: growing would leave copies of the secret behind.
        let mut text = Zeroizing::new(String::with_capacity(128));
        text.push_str(KIND);
        text.push(' ');
        text.push_str(VERSION);
        text.push_str("\nsecret ");
        for digit in seed.iter().flat_map(|byte| [byte >> 4, byte & 0xf]) {
            text.extend(char::from_digit(digit.into(), 16));
        }
        text.push('\n');
        durable::create(path, text.as_bytes()).map_err(|source| match source.kind() {
            io::ErrorKind::AlreadyExists => IdentityError::Exists { path: path.to_owned() },
            _ => IdentityError::Unwritable { path: path.to_owned(), source },
        })
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

    /// A secret of its own for one purpose, the same in every process that has this identity
    /// (BLAKE3 `derive_key`). `context` is a constant that names the program and the purpose.
    #[must_use]
    pub fn derive_key(&self, context: &'static str) -> Zeroizing<[u8; 32]> {
        Zeroizing::new(blake3::derive_key(context, self.key.as_bytes()))
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

/// What is wrong with the text of a file, before its path is known.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    Empty,
    UnknownVersion(String),
    Malformed { line: usize, why: &'static str },
}

impl Fault {
    pub(crate) fn of(self, path: &Path) -> IdentityError {
        let path = path.to_owned();
        match self {
            Self::Empty => IdentityError::Empty { path },
            Self::UnknownVersion(found) => IdentityError::UnknownVersion { path, found },
            Self::Malformed { line, why } => IdentityError::Malformed { path, line, why },
        }
    }
}

/// Checks the first line, `<kind> <version>`, and returns the others with their numbers.
/// Lines that are empty or begin with `#` are left out.
pub(crate) fn lines<'a>(text: &'a str, kind: &str) -> Result<impl Iterator<Item = (usize, &'a str)>, Fault> {
    let mut lines =
        (1..).zip(text.lines().map(str::trim)).filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    let (line, first) = lines.next().ok_or(Fault::Empty)?;
    match first.strip_prefix(kind).and_then(|rest| rest.strip_prefix(' ')) {
        Some(VERSION) => Ok(lines),
        // Cut: a binary file may have one endless line.
        Some(found) => Err(Fault::UnknownVersion(found.chars().take(20).collect())),
        None => Err(Fault::Malformed { line, why: "the first line does not name the kind of file" }),
    }
}

/// 64 hex digits.
pub(crate) fn unhex(text: &str) -> Option<Zeroizing<[u8; 32]>> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut bytes = Zeroizing::new([0u8; 32]);
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let high = char::from(pair[0]).to_digit(16)?;
        let low = char::from(pair[1]).to_digit(16)?;
        *byte = u8::try_from(high << 4 | low).ok()?;
    }
    Some(bytes)
}

fn parse(text: &str) -> Result<Zeroizing<[u8; 32]>, Fault> {
    let mut lines = lines(text, KIND)?;
    let (line, second) =
        lines.next().ok_or(Fault::Malformed { line: 2, why: "the line with the secret is missing" })?;
    let seed = second
        .strip_prefix("secret ")
        .and_then(unhex)
        .ok_or(Fault::Malformed { line, why: "it is not `secret` and 64 hex digits" })?;
    match lines.next() {
        None => Ok(seed),
        Some((line, _)) => Err(Fault::Malformed { line, why: "nothing belongs after the secret" }),
    }
}

#[cfg(unix)]
fn check_permissions(path: &Path) -> Result<(), IdentityError> {
    use std::os::unix::fs::PermissionsExt as _;
    let metadata = std::fs::metadata(path)
        .map_err(|source| IdentityError::Unreadable { path: path.to_owned(), source })?;
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 == 0 {
        Ok(())
    } else {
        Err(IdentityError::ReadableByOthers { path: path.to_owned(), mode })
    }
}

/// Elsewhere the directory's access list says who may read: the user's own directory is private.
#[cfg(not(unix))]
#[allow(clippy::unnecessary_wraps)]
fn check_permissions(_: &Path) -> Result<(), IdentityError> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(path: &Path, text: &str) {
        let _ = std::fs::remove_file(path);
        durable::create(path, text.as_bytes()).unwrap();
    }

    #[test]
    fn what_was_saved_is_loaded() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("node.key");
        let identity = Identity::generate();
        identity.save_new(&path).unwrap();
        assert_eq!(Identity::load(&path).unwrap().node_id(), identity.node_id());
    }

    #[test]
    fn the_file_format_stays_what_it_is() {
        // RFC 8032 section 7.1, test 1.
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("node.key");
        let secret = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60";
        let text = format!("peerchannel identity 1\nsecret {secret}\n");
        write(&path, &text);
        let identity = Identity::load(&path).unwrap();
        let id = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        assert_eq!(identity.node_id().to_string(), id);
        std::fs::remove_file(&path).unwrap();
        identity.save_new(&path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }

    #[test]
    fn an_existing_file_is_not_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("node.key");
        let first = Identity::generate();
        first.save_new(&path).unwrap();
        let error = Identity::generate().save_new(&path).unwrap_err();
        assert!(matches!(error, IdentityError::Exists { .. }), "{error}");
        assert_eq!(Identity::load(&path).unwrap().node_id(), first.node_id());
    }

    #[test]
    fn a_missing_directory_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("nowhere").join("node.key");
        let error = Identity::generate().save_new(&path).unwrap_err();
        assert!(matches!(error, IdentityError::Unwritable { .. }));
        assert!(error.to_string().contains("nowhere"), "{error}");
        assert!(matches!(Identity::load(&path), Err(IdentityError::Unreadable { .. })));
    }

    #[test]
    fn bad_files_say_what_is_wrong() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("node.key");
        let check = |text: &str, part: &str| {
            write(&path, text);
            let error = Identity::load(&path).unwrap_err().to_string();
            assert!(error.contains(part), "{text:?}: {error}");
            assert!(!error.contains("dead"), "no secret in {error}");
        };
        let secret = "dead".repeat(16);
        check("", "is empty");
        check("\n  \n", "is empty");
        check(&format!("peerchannel identity 2\nsecret {secret}"), "version \"2\"");
        check("-----BEGIN PRIVATE KEY-----", "line 1");
        check("peerchannel identity 1\n", "secret is missing");
        check("peerchannel identity 1\nsecret abc\n", "line 2");
        check(&format!("peerchannel identity 1\nsecret {secret}ff\n"), "line 2");
        check(&format!("peerchannel identity 1\nsecret {}\n", "é".repeat(32)), "line 2");
        check(&format!("peerchannel identity 1\nsecret {secret}\nmore\n"), "line 3");
        check(&"x".repeat(5000), "cannot read");
    }

    #[cfg(unix)]
    #[test]
    fn a_secret_that_others_can_read_is_refused_with_the_cure() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("node.key");
        Identity::generate().save_new(&path).unwrap();
        for mode in [0o644, 0o640, 0o604] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let error = Identity::load(&path).unwrap_err();
            assert!(error.to_string().contains("chmod 600"), "{error}");
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
        assert!(Identity::load(&path).is_ok());
    }

    #[test]
    fn debug_shows_no_secret() {
        let text = format!("{:?}", Identity::from_seed(&[0xab; 32]));
        assert!(text.contains("redacted") && !text.contains("abab") && !text.contains("171"), "{text}");
    }
}
