//! An identity in use: locked, with its epochs stored beside it.
//!
//! Three files: `PATH`, the key, written once; `PATH.epochs`, the last epoch of each mesh,
//! replaced at each join; `PATH.lock`, empty, locked while a node runs and never removed (a
//! lock on a removed file protects nothing). docs/protocol.md section 4. Whoever holds the lock
//! may keep further small files beside them.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use peerchannel_wire::{Epoch, MeshId};

use crate::durable;
use crate::epoch::{Epochs, MESHES_MAX, NoEpoch};
use crate::identity::{Fault, Identity, IdentityError, lines, unhex};

const KIND: &str = "peerchannel epochs";

/// Longest epoch file that is read: a line is at most 82 bytes.
const EPOCH_FILE_MAX: usize = 128 + MESHES_MAX * 96;

/// An identity file that this process alone uses, for as long as this value lives.
///
/// Works alike on Linux, macOS and Windows. On a network file system the lock is as good as
/// that system's locks.
#[derive(Debug)]
pub struct IdentityFile {
    identity: Identity,
    path: PathBuf,
    epochs: Epochs,
    epochs_path: PathBuf,
    // Unlocked by the system when it is closed, however the process ends.
    _lock: File,
}

impl IdentityFile {
    /// Opens the identity at `path`, creating it if there is none, and locks it.
    ///
    /// Reads and writes small files: blocks for a few milliseconds.
    ///
    /// # Errors
    /// [`IdentityError::InUse`] if another process or another value has it, otherwise as
    /// [`Identity::load`] and [`Identity::save_new`]. Nothing is created on an error except,
    /// possibly, the lock file.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, IdentityError> {
        let path = &resolve(path.as_ref())?;
        let lock = lock(path)?;
        let epochs_path = durable::beside(path, "epochs");
        let epochs = load_epochs(&epochs_path)?;
        let exists = path.try_exists().map_err(|source| unreadable(path, source))?;
        let identity = if exists {
            Identity::load(path)?
        } else {
            let identity = Identity::generate();
            identity.save_new(path)?;
            identity
        };
        Ok(Self { identity, path: path.clone(), epochs, epochs_path, _lock: lock })
    }

    /// The identity.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The epoch of a new join of `mesh`: max(`wall_clock_ms`, last stored + 1). It is on the
    /// disk before this returns, so no later join of this identity can get it again,
    /// whatever happens to the process or the clock. `wall_clock_ms` counts from 1970.
    ///
    /// Blocks for two fsyncs. Call it once per join.
    ///
    /// # Errors
    /// [`IdentityError::Unwritable`], [`IdentityError::EpochsExhausted`] or
    /// [`IdentityError::ClockBeyondEpochs`]; no epoch was used up then.
    pub fn next_epoch(&mut self, mesh: &MeshId, wall_clock_ms: u64) -> Result<Epoch, IdentityError> {
        let epoch = self.epochs.after(mesh, wall_clock_ms).map_err(|reason| match reason {
            NoEpoch::Exhausted => IdentityError::EpochsExhausted { path: self.epochs_path.clone() },
            NoEpoch::ClockBeyond => IdentityError::ClockBeyondEpochs { wall_clock_ms },
        })?;
        let mut epochs = self.epochs.clone();
        epochs.set(*mesh, epoch);
        durable::replace(&self.epochs_path, write_epochs(&epochs).as_bytes())
            .map_err(|source| IdentityError::Unwritable { path: self.epochs_path.clone(), source })?;
        self.epochs = epochs;
        Ok(epoch)
    }

    /// The text of `PATH.NAME`, which [`write_beside`](Self::write_beside) wrote; `None` if there
    /// is none. Blocks for a moment.
    ///
    /// # Errors
    /// What the system says, and [`io::ErrorKind::InvalidData`] for a file of more than `limit`
    /// bytes or one that is not UTF-8.
    pub fn read_beside(&self, name: &str, limit: usize) -> io::Result<Option<String>> {
        match durable::read(&durable::beside(&self.path, name), limit) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces `PATH.NAME`, readable by its owner only: what a node remembers over a restart. A
    /// crash leaves the old text or the new one, never a part. Blocks for two fsyncs.
    ///
    /// # Errors
    /// What the system says; the old text is then still there.
    pub fn write_beside(&self, name: &str, text: &str) -> io::Result<()> {
        durable::replace(&durable::beside(&self.path, name), text.as_bytes())
    }
}

/// Where a node's epochs come from: the store beside its identity, or the clock alone.
#[derive(Debug)]
pub enum EpochSource {
    /// The identity lives no longer than the process; so need its epochs. The clock gives
    /// the first epoch of a mesh, and later joins in this process count on from there.
    Ephemeral(EphemeralEpochs),
    /// The identity has a file.
    Stored(Box<IdentityFile>),
}

impl From<IdentityFile> for EpochSource {
    fn from(file: IdentityFile) -> Self {
        Self::Stored(Box::new(file))
    }
}

impl EpochSource {
    /// For an identity that is not stored.
    #[must_use]
    pub fn ephemeral() -> Self {
        Self::Ephemeral(EphemeralEpochs::default())
    }

    /// The identity's file, if it has one.
    #[must_use]
    pub fn file(&self) -> Option<&IdentityFile> {
        match self {
            Self::Ephemeral(_) => None,
            Self::Stored(file) => Some(file),
        }
    }

    /// The epoch of a new join of `mesh`; see [`IdentityFile::next_epoch`].
    ///
    /// # Errors
    /// As [`IdentityFile::next_epoch`]; without a store only those about the clock.
    pub fn next_epoch(&mut self, mesh: &MeshId, wall_clock_ms: u64) -> Result<Epoch, IdentityError> {
        match self {
            Self::Ephemeral(EphemeralEpochs(epochs)) => {
                // Nothing was stored: only a clock at the very end leads to either error.
                let epoch = epochs
                    .after(mesh, wall_clock_ms)
                    .map_err(|_| IdentityError::ClockBeyondEpochs { wall_clock_ms })?;
                epochs.set(*mesh, epoch);
                Ok(epoch)
            }
            Self::Stored(file) => file.next_epoch(mesh, wall_clock_ms),
        }
    }
}

/// The epochs of an identity that is not stored.
#[derive(Debug, Default)]
pub struct EphemeralEpochs(Epochs);

/// Follows a symbolic link, so that one key has one lock and one epoch file under all names.
fn resolve(path: &Path) -> Result<PathBuf, IdentityError> {
    if path.is_symlink() {
        path.canonicalize().map_err(|source| unreadable(path, source))
    } else {
        Ok(path.to_owned())
    }
}

fn unreadable(path: &Path, source: io::Error) -> IdentityError {
    IdentityError::Unreadable { path: path.to_owned(), source }
}

fn lock(path: &Path) -> Result<File, IdentityError> {
    let lock_path = durable::beside(path, "lock");
    let unwritable = |source| IdentityError::Unwritable { path: lock_path.clone(), source };
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let lock = options.open(&lock_path).map_err(unwritable)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => Err(IdentityError::InUse { path: path.to_owned() }),
        Err(TryLockError::Error(source)) => Err(unwritable(source)),
    }
}

fn load_epochs(path: &Path) -> Result<Epochs, IdentityError> {
    match durable::read(path, EPOCH_FILE_MAX) {
        Ok(text) => parse_epochs(&text).map_err(|fault| fault.of(path)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Epochs::default()),
        Err(source) => Err(unreadable(path, source)),
    }
}

fn parse_epochs(text: &str) -> Result<Epochs, Fault> {
    let mut epochs = Epochs::default();
    for (line, entry) in lines(text, KIND)? {
        let (mesh, epoch) = entry
            .split_once(' ')
            .and_then(|(mesh, epoch)| Some((unhex(mesh)?, epoch.parse().ok()?)))
            .ok_or(Fault::Malformed { line, why: "it is not 64 hex digits of a mesh and a number" })?;
        let epoch = Epoch::new(epoch).ok_or(Fault::Malformed { line, why: "the epoch is above 2^53 - 1" })?;
        epochs.set(MeshId::from_bytes(*mesh), epoch);
    }
    Ok(epochs)
}

fn write_epochs(epochs: &Epochs) -> String {
    let mut text = format!("{KIND} 1\n");
    for (mesh, epoch) in epochs.iter() {
        for byte in mesh.as_bytes() {
            // Writing to a string does not fail.
            let _ = write!(text, "{byte:02x}");
        }
        let _ = writeln!(text, " {}", epoch.get());
    }
    text
}

#[cfg(test)]
mod tests {
    use std::fs;

    use peerchannel_wire::limits::SEQUENCE_MAX;
    use proptest::prelude::*;

    use super::*;

    const MESH: MeshId = MeshId::from_bytes([7; 32]);

    fn store(directory: &tempfile::TempDir) -> PathBuf {
        directory.path().join("node.key")
    }

    #[test]
    fn it_is_created_once_and_loaded_afterwards() {
        let directory = tempfile::tempdir().unwrap();
        let id = IdentityFile::open(store(&directory)).unwrap().identity().node_id();
        assert_eq!(IdentityFile::open(store(&directory)).unwrap().identity().node_id(), id);
        assert_eq!(Identity::load(store(&directory)).unwrap().node_id(), id);
    }

    #[test]
    fn two_nodes_cannot_use_one_identity_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let first = IdentityFile::open(store(&directory)).unwrap();
        let error = IdentityFile::open(store(&directory)).unwrap_err();
        assert!(matches!(error, IdentityError::InUse { .. }));
        assert!(error.to_string().contains("in use by another process"), "{error}");
        drop(first);
        assert!(IdentityFile::open(store(&directory)).is_ok());
    }

    #[cfg(unix)]
    #[test]
    fn a_symbolic_link_does_not_get_around_the_lock() {
        let directory = tempfile::tempdir().unwrap();
        let _first = IdentityFile::open(store(&directory)).unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(store(&directory), &link).unwrap();
        assert!(matches!(IdentityFile::open(&link), Err(IdentityError::InUse { .. })));
    }

    #[test]
    fn a_note_beside_it_is_replaced_as_a_whole_and_bounded_when_read() {
        let directory = tempfile::tempdir().unwrap();
        let file = IdentityFile::open(store(&directory)).unwrap();
        assert_eq!(file.read_beside("note", 10).unwrap(), None);
        file.write_beside("note", "first").unwrap();
        file.write_beside("note", "second").unwrap();
        assert_eq!(file.read_beside("note", 6).unwrap().as_deref(), Some("second"));
        assert_eq!(file.read_beside("note", 5).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn epochs_grow_across_restarts_even_if_the_clock_goes_back() {
        let directory = tempfile::tempdir().unwrap();
        let join = |clock| {
            let mut file = IdentityFile::open(store(&directory)).unwrap();
            file.next_epoch(&MESH, clock).unwrap().get()
        };
        assert_eq!(join(1_700_000_000_000), 1_700_000_000_000);
        assert_eq!(join(1_000), 1_700_000_000_001);
        assert_eq!(join(0), 1_700_000_000_002);
        assert_eq!(join(1_800_000_000_000), 1_800_000_000_000);
    }

    #[test]
    fn an_epoch_is_stored_before_it_is_given_out() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = IdentityFile::open(store(&directory)).unwrap();
        let epoch = file.next_epoch(&MESH, 5).unwrap();
        let stored = parse_epochs(&fs::read_to_string(&file.epochs_path).unwrap()).unwrap();
        assert_eq!(stored.iter().collect::<Vec<_>>(), [(&MESH, epoch)]);
    }

    #[cfg(unix)]
    #[test]
    fn an_epoch_that_cannot_be_stored_is_not_given_out() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = IdentityFile::open(store(&directory)).unwrap();
        file.next_epoch(&MESH, 5).unwrap();
        directory.close().unwrap();
        assert!(matches!(file.next_epoch(&MESH, 5), Err(IdentityError::Unwritable { .. })));
        assert_eq!(file.epochs.after(&MESH, 5).unwrap().get(), 6);
    }

    #[test]
    fn an_epoch_at_the_end_of_time_is_an_error() {
        let directory = tempfile::tempdir().unwrap();
        let mut epochs = Epochs::default();
        epochs.set(MESH, Epoch::new(SEQUENCE_MAX).unwrap());
        fs::write(durable::beside(&store(&directory), "epochs"), write_epochs(&epochs)).unwrap();
        let mut file = IdentityFile::open(store(&directory)).unwrap();
        let error = file.next_epoch(&MESH, 5).unwrap_err();
        assert!(matches!(error, IdentityError::EpochsExhausted { .. }), "{error}");
        let error = file.next_epoch(&MeshId::from_bytes([8; 32]), u64::MAX).unwrap_err();
        assert!(matches!(error, IdentityError::ClockBeyondEpochs { .. }), "{error}");
    }

    #[test]
    fn a_damaged_epoch_file_is_an_error_and_not_a_fresh_start() {
        let directory = tempfile::tempdir().unwrap();
        let path = durable::beside(&store(&directory), "epochs");
        for text in ["", "peerchannel epochs 2\n", "garbage", "peerchannel epochs 1\nabc 5\n"] {
            fs::write(&path, text).unwrap();
            let error = IdentityFile::open(store(&directory)).unwrap_err();
            assert!(error.to_string().contains("epochs"), "{text:?}: {error}");
            assert!(!store(&directory).exists(), "no key was made");
        }
        let huge = format!("peerchannel epochs 1\n{} {}\n", "ab".repeat(32), 1u64 << 53);
        fs::write(&path, huge).unwrap();
        assert!(IdentityFile::open(store(&directory)).is_err());
    }

    #[test]
    fn a_missing_directory_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let error = IdentityFile::open(directory.path().join("nowhere").join("k")).unwrap_err();
        assert!(matches!(error, IdentityError::Unwritable { .. }));
        assert!(error.to_string().contains("nowhere"), "{error}");
    }

    #[test]
    fn an_ephemeral_identity_follows_the_clock_but_never_twice_the_same() {
        let mut source = EpochSource::ephemeral();
        assert_eq!(source.next_epoch(&MESH, 5).unwrap().get(), 5);
        assert_eq!(source.next_epoch(&MESH, 5).unwrap().get(), 6);
        assert_eq!(source.next_epoch(&MESH, 50).unwrap().get(), 50);
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(entries in proptest::collection::btree_map(any::<[u8; 32]>(), 0..=SEQUENCE_MAX, 0..20)) {
            let mut epochs = Epochs::default();
            for (mesh, epoch) in entries {
                epochs.set(MeshId::from_bytes(mesh), Epoch::new(epoch).unwrap());
            }
            prop_assert_eq!(parse_epochs(&write_epochs(&epochs)), Ok(epochs));
        }

        #[test]
        fn arbitrary_files_never_panic(text in any::<String>()) {
            let _ = parse_epochs(&text);
            let _ = parse_epochs(&format!("peerchannel epochs 1\n{text}"));
        }
    }
}
