//! The durable store: one file, by the embedded database `redb`.
//!
//! Each commit is one write transaction that is on the disk (fsync) before it returns; the
//! server gathers the registrations that arrive meanwhile into the next one, so that many
//! share one fsync. A crash at any moment loses nothing that was acknowledged: the database
//! keeps the previous state until the new one is on the disk (its own commit protocol).
//!
//! What it cannot survive is a disk that lies about fsync, and the loss of the file.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use peerchannel_wire::limits::NODE_ADDRESSES_MAX;
use peerchannel_wire::{MeshKey, NodeId, RegistrationId, is_dialable};
use redb::{
    Database, DatabaseError, ReadableDatabase as _, ReadableTable as _, StorageBackend, StorageError,
    TableDefinition, TableError,
};

use crate::store::{Change, Store, StoreError, StoredRegistration};

/// Mesh key and node id to [`encode`]d registration.
const REGISTRATIONS: TableDefinition<'_, &[u8; KEY_LEN], &[u8]> = TableDefinition::new("registrations");

/// `format` to [`FORMAT`].
const META: TableDefinition<'_, &str, u64> = TableDefinition::new("meta");

/// The version of keys and values. Raise it with every incompatible change.
const FORMAT: u64 = 1;

const KEY_LEN: usize = 64;

/// Bytes of the database's page cache. The registry in memory answers all reads; the cache
/// only serves the tree pages that commits touch.
const CACHE_BYTES: usize = 16 * 1024 * 1024;

/// Keeps registrations in one file.
///
/// ```
/// use peerchannel_resolver_service::{DurableStore, Store, StoreError};
///
/// let directory = tempfile::tempdir()?;
/// let path = directory.path().join("directory.redb");
/// let mut store = DurableStore::open(&path)?;
/// store.load(&mut |_| unreachable!("it is new"))?;
/// store.commit(&[])?;
/// assert!(matches!(DurableStore::open(&path), Err(StoreError::Locked { .. })));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct DurableStore {
    // None only while it is opened again, and after that failed.
    database: Option<Database>,
    path: PathBuf,
    reopen: Reopen,
}

type Reopen = Box<dyn Fn() -> Result<Database, DatabaseError> + Send>;

impl DurableStore {
    /// Opens the file, or creates it. The directory it is in must exist.
    ///
    /// # Errors
    /// [`StoreError`] names the file and says what to do.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        let path = path.as_ref().to_owned();
        let file = path.clone();
        Self::opened(path, Box::new(move || builder().create(&file)))
    }

    /// A store on something else than a file, under the name `path`: for tests that inject
    /// faults.
    ///
    /// # Errors
    /// [`StoreError`].
    #[doc(hidden)]
    pub fn on_backend(backend: impl StorageBackend + Clone, path: PathBuf) -> Result<Self, StoreError> {
        Self::opened(path, Box::new(move || builder().create_with_backend(backend.clone())))
    }

    fn opened(path: PathBuf, reopen: Reopen) -> Result<Self, StoreError> {
        let database = reopen().map_err(|error| database_error(&path, error))?;
        Self::check(&database, &path)?;
        Ok(Self { database: Some(database), path, reopen })
    }

    /// Checks the format, and writes it into a new file.
    fn check(database: &Database, path: &Path) -> Result<(), StoreError> {
        let found = (|| -> Result<Option<u64>, redb::Error> {
            match database.begin_read()?.open_table(META) {
                Ok(meta) => Ok(meta.get("format")?.map(|format| format.value())),
                Err(TableError::TableDoesNotExist(_)) => Ok(None),
                Err(error) => Err(error.into()),
            }
        })();
        match found.map_err(|error| other_error(path, error))? {
            Some(FORMAT) => Ok(()),
            Some(found) => Err(StoreError::Version { path: path.to_owned(), found }),
            None => (|| -> Result<(), redb::Error> {
                let transaction = database.begin_write()?;
                transaction.open_table(META)?.insert("format", FORMAT)?;
                transaction.open_table(REGISTRATIONS)?;
                Ok(transaction.commit()?)
            })()
            .map_err(|error| other_error(path, error)),
        }
    }

    /// The database. After an error of the disk it takes nothing more until it is opened again:
    /// a disk that was full for a moment must not end the directory.
    fn database(&mut self) -> Result<&Database, StoreError> {
        let database = match self.database.take() {
            Some(database) => database,
            None => (self.reopen)().map_err(|error| database_error(&self.path, error))?,
        };
        Ok(self.database.insert(database))
    }

    fn try_load(
        database: &Database,
        each: &mut dyn FnMut(StoredRegistration),
    ) -> Result<Result<(), String>, redb::Error> {
        let table = database.begin_read()?.open_table(REGISTRATIONS)?;
        for entry in table.iter()? {
            let (key, value) = entry?;
            match decode(key.value(), value.value()) {
                Some(registration) => each(registration),
                None => return Ok(Err("a registration cannot be read".to_owned())),
            }
        }
        Ok(Ok(()))
    }

    fn try_commit(database: &Database, changes: &[Change]) -> Result<(), redb::Error> {
        let transaction = database.begin_write()?;
        {
            let mut table = transaction.open_table(REGISTRATIONS)?;
            for change in changes {
                match change {
                    Change::Put(registration) => {
                        let key = key(&registration.mesh, &registration.node);
                        table.insert(&key, encode(registration).as_slice())?;
                    }
                    Change::Remove { mesh, node } => {
                        table.remove(&key(mesh, node))?;
                    }
                }
            }
        }
        // Durability::Immediate is the default: on the disk when this returns.
        Ok(transaction.commit()?)
    }
}

impl Store for DurableStore {
    fn load(&mut self, each: &mut dyn FnMut(StoredRegistration)) -> Result<(), StoreError> {
        let loaded = Self::try_load(self.database()?, each);
        loaded
            .map_err(|error| other_error(&self.path, error))?
            .map_err(|detail| StoreError::Corrupted { path: self.path.clone(), detail })
    }

    fn commit(&mut self, changes: &[Change]) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        let committed = Self::try_commit(self.database()?, changes);
        committed.map_err(|error| {
            self.database = None;
            other_error(&self.path, error)
        })
    }

    fn describe(&self) -> String {
        format!("file {}", self.path.display())
    }
}

impl fmt::Debug for DurableStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DurableStore").field("path", &self.path).finish_non_exhaustive()
    }
}

fn builder() -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(CACHE_BYTES);
    builder
}

fn database_error(path: &Path, error: DatabaseError) -> StoreError {
    let path = path.to_owned();
    match error {
        DatabaseError::DatabaseAlreadyOpen => StoreError::Locked { path },
        DatabaseError::UpgradeRequired(found) => StoreError::Version { path, found: found.into() },
        DatabaseError::RepairAborted => {
            StoreError::Corrupted { path, detail: "it cannot be repaired".to_owned() }
        }
        DatabaseError::Storage(error) => storage_error(path, error),
        error => StoreError::Io { path, detail: error.to_string() },
    }
}

fn storage_error(path: PathBuf, error: StorageError) -> StoreError {
    match error {
        StorageError::Corrupted(detail) => StoreError::Corrupted { path, detail },
        // The database says so of a file that does not begin as one of its own.
        StorageError::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
            StoreError::Corrupted { path, detail: error.to_string() }
        }
        error => StoreError::Io { path, detail: error.to_string() },
    }
}

fn other_error(path: &Path, error: redb::Error) -> StoreError {
    let path = path.to_owned();
    match error {
        redb::Error::Corrupted(detail) => StoreError::Corrupted { path, detail },
        redb::Error::DatabaseAlreadyOpen => StoreError::Locked { path },
        error @ (redb::Error::TableDoesNotExist(_) | redb::Error::TableTypeMismatch { .. }) => {
            StoreError::Corrupted { path, detail: error.to_string() }
        }
        error => StoreError::Io { path, detail: error.to_string() },
    }
}

fn key(mesh: &MeshKey, node: &NodeId) -> [u8; KEY_LEN] {
    let mut key = [0; KEY_LEN];
    key[..32].copy_from_slice(mesh.as_bytes());
    key[32..].copy_from_slice(node.as_bytes());
    key
}

/// Registration id (16 bytes), then per address: 4 or 6, the IP address, the port (big
/// endian).
fn encode(registration: &StoredRegistration) -> Vec<u8> {
    let mut value = registration.registration.as_bytes().to_vec();
    for address in &registration.addresses {
        match address.ip() {
            IpAddr::V4(ip) => {
                value.push(4);
                value.extend(ip.octets());
            }
            IpAddr::V6(ip) => {
                value.push(6);
                value.extend(ip.octets());
            }
        }
        value.extend(address.port().to_be_bytes());
    }
    value
}

fn decode(key: &[u8; KEY_LEN], value: &[u8]) -> Option<StoredRegistration> {
    let (mesh, node) = key.split_at(32);
    let (registration, mut rest) = value.split_first_chunk::<16>()?;
    let mut addresses = Vec::new();
    while let Some((kind, after)) = rest.split_first() {
        let (ip, after) = match kind {
            4 => after.split_first_chunk::<4>().map(|(ip, after)| (IpAddr::from(*ip), after))?,
            6 => after.split_first_chunk::<16>().map(|(ip, after)| (IpAddr::from(*ip), after))?,
            _ => return None,
        };
        let (port, after) = after.split_first_chunk::<2>()?;
        addresses.push(SocketAddr::new(ip, u16::from_be_bytes(*port)));
        rest = after;
    }
    if addresses.is_empty() || addresses.len() > NODE_ADDRESSES_MAX || !addresses.iter().all(is_dialable) {
        return None;
    }
    Some(StoredRegistration {
        mesh: MeshKey::from_bytes(mesh.try_into().ok()?),
        node: NodeId::from_bytes(node.try_into().ok()?),
        registration: RegistrationId::from_bytes(*registration),
        addresses: addresses.into(),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn registration(node: u8, addresses: &[&str]) -> StoredRegistration {
        StoredRegistration {
            mesh: MeshKey::from_bytes([1; 32]),
            node: NodeId::from_bytes([node; 32]),
            registration: RegistrationId::from_bytes([node ^ 0x55; 16]),
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        }
    }

    fn load(store: &mut DurableStore) -> Vec<StoredRegistration> {
        let mut loaded = Vec::new();
        store.load(&mut |r| loaded.push(r)).unwrap();
        loaded
    }

    #[test]
    fn what_was_committed_is_there_after_opening_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        let (ann, bob) =
            (registration(1, &["192.0.2.7:1", "[2001:db8::7]:2"]), registration(2, &["192.0.2.8:3"]));
        let mut store = DurableStore::open(&path).unwrap();
        store.commit(&[Change::Put(ann.clone()), Change::Put(bob.clone())]).unwrap();
        drop(store);
        let mut store = DurableStore::open(&path).unwrap();
        assert_eq!(load(&mut store), [ann.clone(), bob]);
        let moved = registration(2, &["192.0.2.9:4"]);
        store
            .commit(&[Change::Remove { mesh: ann.mesh, node: ann.node }, Change::Put(moved.clone())])
            .unwrap();
        drop(store);
        assert_eq!(load(&mut DurableStore::open(&path).unwrap()), [moved]);
    }

    #[test]
    fn errors_name_the_file_and_what_to_do() {
        let directory = tempfile::tempdir().unwrap();
        let check = |path: &Path, part: &str| {
            let error = DurableStore::open(path).unwrap_err().to_string();
            assert!(error.contains(part), "{error}");
            assert!(error.contains(&path.display().to_string()), "{error}");
        };
        let foreign = directory.path().join("notes.txt");
        std::fs::write(&foreign, "milk, eggs, flour\n".repeat(1000)).unwrap();
        check(&foreign, "is not an intact store");
        check(&foreign, "move it away");

        let used = directory.path().join("used");
        let _store = DurableStore::open(&used).unwrap();
        check(&used, "is in use");

        check(&directory.path().join("no/such/directory/store"), "cannot use the store");

        let newer = directory.path().join("newer");
        let mut store = DurableStore::open(&newer).unwrap();
        let transaction = store.database().unwrap().begin_write().unwrap();
        transaction.open_table(META).unwrap().insert("format", 2).unwrap();
        transaction.commit().unwrap();
        drop(store);
        check(&newer, "has format 2");
    }

    #[test]
    fn a_record_that_makes_no_sense_is_corruption_not_a_panic() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store");
        let mut store = DurableStore::open(&path).unwrap();
        let transaction = store.database().unwrap().begin_write().unwrap();
        transaction.open_table(REGISTRATIONS).unwrap().insert(&[9; KEY_LEN], &[1, 2, 3][..]).unwrap();
        transaction.commit().unwrap();
        assert!(matches!(store.load(&mut |_| ()), Err(StoreError::Corrupted { .. })));
    }

    proptest! {
        #[test]
        fn arbitrary_values_never_panic(value in prop::collection::vec(any::<u8>(), 0..100)) {
            if let Some(registration) = decode(&[1; KEY_LEN], &value) {
                prop_assert_eq!(encode(&registration), value);
            }
        }
    }
}
