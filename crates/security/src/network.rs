//! Networks: what an outsider can tell of who is behind an address, and fair shares of what is
//! limited, so that nobody takes all of it from one place.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The network an address belongs to, as far as an outsider can tell: /24 of IPv4, /48 of IPv6
/// (docs/protocol.md section 2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Prefix {
    V4([u8; 3]),
    V6([u8; 6]),
}

impl Prefix {
    pub(crate) fn of(ip: IpAddr) -> Self {
        match ip {
            IpAddr::V4(ip) => {
                let [a, b, c, _] = ip.octets();
                Self::V4([a, b, c])
            }
            IpAddr::V6(ip) => Self::of_v6(ip),
        }
    }

    fn of_v6(ip: Ipv6Addr) -> Self {
        // A dual-stack socket shows IPv4 peers as ::ffff:a.b.c.d.
        if let Some(ip) = ip.to_ipv4_mapped() {
            return Self::of(IpAddr::V4(ip));
        }
        let [a, b, c, d, e, f, ..] = ip.octets();
        Self::V6([a, b, c, d, e, f])
    }
}

/// How much of something that is limited each network has: /24 of IPv4, /48 of IPv6.
///
/// Remembers only networks that have something, so its size is bounded by what is limited.
///
/// ```
/// use peerchannel_security::NetworkShares;
///
/// let shares = NetworkShares::default();
/// let first = shares.take("192.0.2.1".parse()?, 1);
/// assert!(first.is_some());
/// assert!(shares.take("192.0.2.2".parse()?, 1).is_none(), "the same network");
/// assert!(shares.take("198.51.100.1".parse()?, 1).is_some(), "another one");
/// drop(first);
/// assert!(shares.take("192.0.2.2".parse()?, 1).is_some());
/// # Ok::<(), std::net::AddrParseError>(())
/// ```
#[derive(Debug, Default)]
pub struct NetworkShares {
    taken: Taken,
}

// Invariant: no zeros. A lock, because shares are given back wherever they are dropped.
type Taken = Arc<Mutex<BTreeMap<Prefix, usize>>>;

/// One share of a network; given back when it is dropped.
#[derive(Debug)]
#[must_use = "a share is given back when it is dropped"]
pub struct NetworkShare {
    taken: Taken,
    prefix: Prefix,
}

impl NetworkShares {
    /// Takes one more for the network of `ip`; `None` if it has `max` already.
    pub fn take(&self, ip: IpAddr, max: usize) -> Option<NetworkShare> {
        let prefix = Prefix::of(ip);
        let mut taken = lock(&self.taken);
        let count = taken.get(&prefix).copied().unwrap_or(0);
        if count >= max {
            return None;
        }
        taken.insert(prefix, count + 1);
        Some(NetworkShare { taken: self.taken.clone(), prefix })
    }
}

impl Drop for NetworkShare {
    fn drop(&mut self) {
        let mut taken = lock(&self.taken);
        if let Some(count) = taken.get_mut(&self.prefix) {
            *count -= 1;
            if *count == 0 {
                taken.remove(&self.prefix);
            }
        }
    }
}

fn lock(taken: &Taken) -> MutexGuard<'_, BTreeMap<Prefix, usize>> {
    taken.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_gets_its_share_and_no_more() {
        let shares = NetworkShares::default();
        let take = |ip: &str| shares.take(ip.parse().unwrap(), 2);
        let (_one, two) = (take("192.0.2.1").unwrap(), take("::ffff:192.0.2.9").unwrap());
        assert!(take("192.0.2.3").is_none());
        assert!(take("192.0.3.3").is_some() && take("2001:db8::1").is_some());
        drop(two);
        assert!(take("192.0.2.3").is_some());
    }

    #[test]
    fn who_has_nothing_is_not_remembered() {
        let shares = NetworkShares::default();
        for host in 0..100 {
            let _share = shares.take(IpAddr::from([10, 0, host, 1]), 1).unwrap();
        }
        assert!(lock(&shares.taken).is_empty());
    }
}
