//! Power cuts: everything acknowledged is there afterwards.
//!
//! A storage backend that keeps unsynced writes apart and, at a random operation, fails and
//! loses them: none, some or all, as a disk does whose cache had not been written.
#![allow(clippy::unwrap_used, clippy::unwrap_in_result, clippy::panic)] // a failed expectation is the point

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use peerchannel_resolver_service::{Change, DurableStore, Store, StoreError, StoredRegistration};
use peerchannel_wire::{MeshKey, NodeId, RegistrationId};
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};
use redb::StorageBackend;

/// A disk with a write cache.
#[derive(Debug, Default)]
struct Disk {
    synced: Vec<u8>,
    /// Writes and changes of length since the last sync, in order.
    cached: Vec<Cached>,
    /// What a reader sees: `synced` with `cached` applied.
    seen: Vec<u8>,
    /// Operations until the power is cut.
    fuse: Option<u32>,
}

#[derive(Debug, Clone)]
enum Cached {
    Write(usize, Vec<u8>),
    Length(usize),
}

fn apply(bytes: &mut Vec<u8>, change: &Cached) {
    match change {
        Cached::Length(length) => bytes.resize(*length, 0),
        Cached::Write(at, data) => {
            if bytes.len() < at + data.len() {
                bytes.resize(at + data.len(), 0);
            }
            bytes[*at..at + data.len()].copy_from_slice(data);
        }
    }
}

impl Disk {
    fn burn(&mut self) -> io::Result<()> {
        match &mut self.fuse {
            Some(0) => Err(io::Error::other("the power is cut")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    fn change(&mut self, change: Cached) -> io::Result<()> {
        self.burn()?;
        apply(&mut self.seen, &change);
        self.cached.push(change);
        Ok(())
    }

    /// The power comes back: of the cached changes each survives with the given chance.
    fn cut(&mut self, survival: f64, rng: &mut SmallRng) {
        for change in std::mem::take(&mut self.cached) {
            // A file system journals lengths: those do not get lost out of order.
            if matches!(change, Cached::Length(_)) || rng.random_bool(survival) {
                apply(&mut self.synced, &change);
            }
        }
        self.seen = self.synced.clone();
        self.fuse = None;
    }
}

#[derive(Debug, Clone)]
struct Backend(Arc<Mutex<Disk>>);

impl StorageBackend for Backend {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.lock().unwrap().seen.len() as u64)
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let disk = self.0.lock().unwrap();
        let at = usize::try_from(offset).unwrap();
        let bytes = disk.seen.get(at..at + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(bytes);
        Ok(())
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.lock().unwrap().change(Cached::Length(usize::try_from(len).unwrap()))
    }
    fn sync_data(&self) -> io::Result<()> {
        let mut disk = self.0.lock().unwrap();
        disk.burn()?;
        disk.synced = disk.seen.clone();
        disk.cached.clear();
        Ok(())
    }
    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.lock().unwrap().change(Cached::Write(usize::try_from(offset).unwrap(), data.to_vec()))
    }
}

type Contents = BTreeMap<(MeshKey, NodeId), StoredRegistration>;

fn key(change: &Change) -> (MeshKey, NodeId) {
    match change {
        Change::Put(registration) => (registration.mesh, registration.node),
        Change::Remove { mesh, node } => (*mesh, *node),
    }
}

fn make(contents: &mut Contents, change: &Change) {
    match change {
        Change::Put(registration) => drop(contents.insert(key(change), registration.clone())),
        Change::Remove { .. } => drop(contents.remove(&key(change))),
    }
}

fn random_change(rng: &mut SmallRng) -> Change {
    let (mesh, node) = (
        MeshKey::from_bytes([rng.random_range(0..3); 32]),
        NodeId::from_bytes([rng.random_range(0..40); 32]),
    );
    if rng.random_bool(0.3) {
        return Change::Remove { mesh, node };
    }
    Change::Put(StoredRegistration {
        mesh,
        node,
        registration: RegistrationId::from_bytes(rng.random()),
        addresses: Box::new([([192, 0, 2, 1], rng.random_range(1..=u16::MAX)).into()]),
    })
}

fn open(disk: &Arc<Mutex<Disk>>) -> Result<DurableStore, StoreError> {
    DurableStore::on_backend(Backend(disk.clone()), PathBuf::from("simulated"))
}

#[test]
fn nothing_acknowledged_is_lost_when_the_power_is_cut() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_261_120);
    println!("replay with SEED={seed}");
    let mut rng = SmallRng::seed_from_u64(seed);
    let disk = Arc::new(Mutex::new(Disk::default()));
    let mut acknowledged = Contents::new();
    drop(open(&disk).unwrap());
    for cut in 0..60 {
        disk.lock().unwrap().fuse = Some(rng.random_range(0..120));
        // What the last, failed commit may or may not have stored; nothing in between.
        let mut perhaps = None;
        if let Ok(mut store) = open(&disk) {
            for _ in 0..50 {
                let changes: Vec<Change> =
                    (0..rng.random_range(1..8)).map(|_| random_change(&mut rng)).collect();
                let mut after = acknowledged.clone();
                changes.iter().for_each(|change| make(&mut after, change));
                if store.commit(&changes).is_err() {
                    perhaps = Some(after);
                    break;
                }
                acknowledged = after;
            }
        }
        let survival = [0.0, 0.5, 1.0][cut % 3];
        disk.lock().unwrap().cut(survival, &mut rng);

        let mut found = Contents::new();
        let mut store = open(&disk).unwrap_or_else(|error| panic!("cut {cut}, SEED={seed}: {error}"));
        store.load(&mut |r| drop(found.insert((r.mesh, r.node), r))).unwrap();
        assert!(
            found == acknowledged || perhaps.as_ref() == Some(&found),
            "cut {cut}, SEED={seed}: acknowledged {} found {}",
            acknowledged.len(),
            found.len()
        );
        acknowledged = found;
    }
}

#[test]
fn a_disk_that_failed_for_a_moment_is_used_again() {
    let mut rng = SmallRng::seed_from_u64(1);
    let disk = Arc::new(Mutex::new(Disk::default()));
    let mut store = open(&disk).unwrap();
    store.commit(&[random_change(&mut rng)]).unwrap();
    for operations in 0..20 {
        disk.lock().unwrap().fuse = Some(operations);
        let failed = (0..100).any(|_| store.commit(&[random_change(&mut rng)]).is_err());
        assert!(failed, "after {operations} operations");
        // Still full: opening it again fails too.
        assert!(store.commit(&[random_change(&mut rng)]).is_err());
        disk.lock().unwrap().fuse = None;
        store.commit(&[random_change(&mut rng)]).unwrap();
    }
    let mut found = 0;
    store.load(&mut |_| found += 1).unwrap();
    assert!(found > 0);
}
