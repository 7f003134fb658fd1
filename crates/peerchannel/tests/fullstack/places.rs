//! Where nodes are: eight regions on a plane of 120 by 60 ms, and each node's last mile.

use std::net::SocketAddr;
use std::time::Duration;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// Centres of regions, in ms of one-way delay.
const REGIONS: [(f64, f64); 8] = [
    (8.0, 22.0),
    (26.0, 14.0),
    (30.0, 48.0),
    (58.0, 10.0),
    (64.0, 26.0),
    (86.0, 34.0),
    (108.0, 18.0),
    (116.0, 54.0),
];

#[derive(Debug, Clone, Copy)]
struct Place {
    x: f64,
    y: f64,
    last_mile: f64,
}

#[derive(Debug, Clone)]
pub(crate) struct Places(Vec<Place>);

impl Places {
    pub(crate) fn new(nodes: usize, chance: &mut ChaCha8Rng) -> Self {
        let place = |index: usize| {
            let (x, y) = REGIONS[index % REGIONS.len()];
            let angle = chance.random_range(0.0..std::f64::consts::TAU);
            let distance = 2.0 * chance.random::<f64>().sqrt();
            let last_mile = chance.random_range(0.25..5.0);
            Place { x: x + distance * angle.cos(), y: y + distance * angle.sin(), last_mile }
        };
        Self((0..nodes).map(place).collect())
    }

    /// Each node in a network of its own.
    pub(crate) fn address(index: usize) -> SocketAddr {
        let [_, _, high, low] = u32::try_from(index).unwrap().to_be_bytes();
        SocketAddr::from(([10 + high, low, 0, 1], 4000))
    }

    fn index(address: SocketAddr) -> usize {
        let std::net::IpAddr::V4(ip) = address.ip() else { panic!("not one of ours: {address}") };
        let [high, low, ..] = ip.octets();
        usize::from(high - 10) * 256 + usize::from(low)
    }

    /// One way.
    pub(crate) fn delay(&self, from: SocketAddr, to: SocketAddr) -> Duration {
        let (a, b) = (self.0[Self::index(from)], self.0[Self::index(to)]);
        let ms = (a.x - b.x).hypot(a.y - b.y) + a.last_mile + b.last_mile;
        Duration::from_secs_f64(ms / 1000.0)
    }
}
