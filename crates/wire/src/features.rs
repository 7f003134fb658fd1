//! Optional features of the protocol: what two nodes agree on at admission.
//!
//! A feature adds frames or meanings that an older node would refuse. Each side offers what it
//! knows ([`Hello`](crate::Hello)), and on a link both use what both offered, so a mesh can be
//! upgraded one node at a time (docs/protocol.md section 2.1). A feature never takes away a
//! guarantee from a link that lacks it.

use std::fmt;
use std::ops::{BitAnd, BitOr, Not};

/// A set of optional features, a bit each. Unknown bits are kept: an offer is passed on and
/// authenticated as it was made.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Features(u64);

impl Features {
    /// None: what the first release spoke.
    pub const NONE: Self = Self(0);

    /// Neighbor maintenance: shuffles, coordinates, and what pongs tell beside their nonce
    /// (docs/protocol.md section 3).
    pub const NEIGHBORHOOD: Self = Self(1);

    /// Membership by digest: member tables are compared and merged, those of a large mesh hold
    /// one sample for all, by which its size is estimated (docs/protocol.md section 5).
    pub const MEMBERSHIP: Self = Self(1 << 1);

    /// Every feature this release knows.
    pub const SUPPORTED: Self = Self(Self::NEIGHBORHOOD.0 | Self::MEMBERSHIP.0);

    /// The set with these bits.
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// Its bits.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Whether all of `other` are in it.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitAnd for Features {
    type Output = Self;

    fn bitand(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }
}

impl BitOr for Features {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl Not for Features {
    type Output = Self;

    fn not(self) -> Self {
        Self(!self.0)
    }
}

impl fmt::Debug for Features {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Features({:#b})", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_use_what_both_offer() {
        let newer = Features::SUPPORTED | Features::from_bits(1 << 40);
        assert_eq!(newer & Features::SUPPORTED, Features::SUPPORTED);
        assert_eq!(newer & Features::NONE, Features::NONE);
        assert!(newer.contains(Features::NEIGHBORHOOD) && newer.contains(Features::NONE));
        assert!(!Features::MEMBERSHIP.contains(Features::NEIGHBORHOOD));
    }
}
