//! What was sent, counted as a line would carry it.

use std::collections::BTreeMap;
use std::ops::Sub;

/// IPv4 and UDP headers of one datagram, in bytes.
pub const HEADERS: u64 = 20 + 8;

/// What one address sent since the beginning, lost datagrams included.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Datagrams.
    pub datagrams: u64,
    /// Bytes, [`HEADERS`] included.
    pub bytes: u64,
    /// Datagrams by their size in bytes, headers left out. At most as many entries as a
    /// datagram can have sizes.
    pub sizes: BTreeMap<usize, u64>,
}

impl Traffic {
    pub(crate) fn add(&mut self, size: usize) {
        self.datagrams += 1;
        self.bytes += size as u64 + HEADERS;
        *self.sizes.entry(size).or_default() += 1;
    }
}

impl Sub for Traffic {
    type Output = Self;

    /// What was sent between two readings; `before` is the earlier one.
    fn sub(self, before: Self) -> Self {
        let earlier = |size: &usize| before.sizes.get(size).copied().unwrap_or(0);
        let sizes = self.sizes.iter().map(|(size, count)| (*size, count.saturating_sub(earlier(size))));
        Self {
            datagrams: self.datagrams.saturating_sub(before.datagrams),
            bytes: self.bytes.saturating_sub(before.bytes),
            sizes: sizes.filter(|(_, count)| *count > 0).collect(),
        }
    }
}
