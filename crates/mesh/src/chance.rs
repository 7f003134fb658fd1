//! The node's own dice: one seed, a portable generator, the same rolls everywhere.

use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng as _, SeedableRng as _};

/// A generator forked from the node's seed for one purpose.
#[derive(Debug)]
pub(crate) struct Chance(ChaCha8Rng);

impl Chance {
    /// Each purpose has its own stream, so that a roll more here shifts nothing there.
    pub(crate) fn fork(seed: [u8; 32], purpose: u64) -> Self {
        let mut rng = ChaCha8Rng::from_seed(seed);
        rng.set_stream(purpose);
        Self(rng)
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Uniform below `bound`; zero if the bound is. The bias of the remainder is below 2^-40
    /// for every bound used here.
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        if bound == 0 { 0 } else { usize::try_from(self.0.next_u64() % bound as u64).unwrap_or(0) }
    }

    /// `base` lengthened or shortened by up to a quarter.
    pub(crate) fn jitter(&mut self, base: Duration) -> Duration {
        let thousandths = 750 + u32::try_from(self.below(501)).unwrap_or(250);
        base * thousandths / 1000
    }

    /// Uniform from nothing to `span`.
    pub(crate) fn within(&mut self, span: Duration) -> Duration {
        span * u32::try_from(self.below(1001)).unwrap_or(0) / 1000
    }

    /// Up to `count` items in random order.
    pub(crate) fn sample<T>(&mut self, mut items: Vec<T>, count: usize) -> Vec<T> {
        let mut chosen = Vec::new();
        while chosen.len() < count && !items.is_empty() {
            let index = self.below(items.len());
            chosen.push(items.swap_remove(index));
        }
        chosen
    }
}
