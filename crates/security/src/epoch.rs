//! Epochs: the number of a node's join of a mesh, always larger than the one before.
//!
//! Epoch = max(wall-clock ms, last epoch + 1), per mesh (protocol.md section 4). The wall
//! clock makes epochs grow where nothing was stored; what was stored makes them grow where
//! the clock went backwards.

use std::collections::BTreeMap;

use peerchannel_wire::limits::SEQUENCE_MAX;
use peerchannel_wire::{Epoch, MeshId};

/// Most meshes whose last epoch is remembered. Beyond that the mesh joined longest ago is
/// forgotten: its next epoch is the wall clock's, which is wrong only if the clock was set
/// back to before that join.
pub(crate) const MESHES_MAX: usize = 4096;

/// Why there is no next epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoEpoch {
    /// The last one is the largest there is.
    Exhausted,
    /// The clock is beyond the largest.
    ClockBeyond,
}

/// The last epoch of each mesh.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Epochs {
    // Invariant: at most MESHES_MAX.
    last: BTreeMap<MeshId, Epoch>,
}

impl Epochs {
    /// The epoch that follows; it is remembered only by [`set`](Self::set).
    pub(crate) fn after(&self, mesh: &MeshId, wall_clock_ms: u64) -> Result<Epoch, NoEpoch> {
        let clock = Epoch::new(wall_clock_ms).ok_or(NoEpoch::ClockBeyond)?;
        let Some(last) = self.last.get(mesh) else { return Ok(clock) };
        // Never a wrap: u64 has room above the largest epoch.
        let next = Epoch::new(last.get() + 1).ok_or(NoEpoch::Exhausted)?;
        Ok(clock.max(next))
    }

    /// Remembers the last epoch of a mesh.
    pub(crate) fn set(&mut self, mesh: MeshId, epoch: Epoch) {
        self.last.insert(mesh, epoch);
        while self.last.len() > MESHES_MAX {
            let oldest =
                self.last.iter().filter(|(other, _)| **other != mesh).min_by_key(|(_, epoch)| **epoch);
            let Some(oldest) = oldest.map(|(mesh, _)| *mesh) else { return };
            self.last.remove(&oldest);
        }
    }

    /// In the order of mesh ids.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&MeshId, Epoch)> {
        self.last.iter().map(|(mesh, epoch)| (mesh, *epoch))
    }
}

const _: () = assert!(SEQUENCE_MAX < u64::MAX);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mesh(number: u32) -> MeshId {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        MeshId::from_bytes(bytes)
    }

    proptest! {
        #[test]
        fn epochs_grow_whatever_the_clock_does(clocks in proptest::collection::vec(0..SEQUENCE_MAX - 1000, 1..50)) {
            let mut epochs = Epochs::default();
            let mut last = None;
            for clock in clocks {
                let next = epochs.after(&mesh(1), clock).unwrap();
                prop_assert!(Some(next) > last && next.get() >= clock);
                epochs.set(mesh(1), next);
                last = Some(next);
            }
        }
    }

    #[test]
    fn the_last_epoch_is_an_error_and_not_a_wrap() {
        let mut epochs = Epochs::default();
        epochs.set(mesh(1), Epoch::new(SEQUENCE_MAX - 1).unwrap());
        assert_eq!(epochs.after(&mesh(1), 5).unwrap().get(), SEQUENCE_MAX);
        epochs.set(mesh(1), Epoch::new(SEQUENCE_MAX).unwrap());
        assert_eq!(epochs.after(&mesh(1), 5), Err(NoEpoch::Exhausted));
        assert_eq!(epochs.after(&mesh(2), u64::MAX), Err(NoEpoch::ClockBeyond));
    }

    #[test]
    fn meshes_do_not_share_epochs() {
        let mut epochs = Epochs::default();
        epochs.set(mesh(1), Epoch::new(100).unwrap());
        assert_eq!(epochs.after(&mesh(2), 5).unwrap().get(), 5);
    }

    #[test]
    fn the_mesh_joined_longest_ago_is_forgotten() {
        let mut epochs = Epochs::default();
        for number in 0..=u32::try_from(MESHES_MAX).unwrap() {
            epochs.set(mesh(number), Epoch::new(1000 + u64::from(number)).unwrap());
        }
        assert_eq!(epochs.iter().count(), MESHES_MAX);
        assert_eq!(epochs.after(&mesh(0), 7).unwrap().get(), 7);
        assert_eq!(epochs.after(&mesh(1), 7).unwrap().get(), 1002);
    }
}
