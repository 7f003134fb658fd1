//! Where nodes are: delays between them, and the addresses under which they are dialed.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use peerchannel_wire::NodeId;

use crate::dice::{Dice, mix};
use crate::plan::Map;

/// The first octet of a node's address, its region added: each /24 holds one node in 2^16.
const FIRST_OCTET: u8 = 20;

/// First octet of addresses where nobody is.
const DEAD_OCTET: u8 = 11;

/// First octet of addresses of nodes that belong to other meshes.
const FOREIGN_OCTET: u8 = 12;

/// The port of a node that has not moved yet.
const PORT: u16 = 4000;

/// A node's place on the map.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub(crate) region: u16,
    x_ms: f32,
    y_ms: f32,
    last_mile_ms: f32,
}

impl Place {
    pub(crate) fn draw(map: &Map, index: usize, dice: &mut Dice) -> Self {
        let region = index % map.regions.len();
        let (x, y) = map.regions[region];
        let angle = dice.unit() * std::f64::consts::TAU;
        let radius = dice.unit().sqrt() * map.spread_ms;
        let mile = &map.last_mile_ms;
        Self {
            region: u16::try_from(region).unwrap_or(0),
            x_ms: (x + radius * angle.cos()) as f32,
            y_ms: (y + radius * angle.sin()) as f32,
            last_mile_ms: (mile.start + dice.unit() * (mile.end - mile.start)) as f32,
        }
    }

    /// One-way delay of an empty network, handling not included.
    pub(crate) fn delay_to(&self, other: &Self) -> Duration {
        let (x, y) = (self.x_ms - other.x_ms, self.y_ms - other.y_ms);
        let ms = (x * x + y * y).sqrt() + self.last_mile_ms + other.last_mile_ms;
        Duration::from_secs_f64(f64::from(ms) / 1000.0)
    }
}

/// What an address leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Leads {
    /// To a node, if it has not moved: the number of its moves is the second.
    ToNode(u32, u16),
    /// To a node of another mesh.
    Abroad,
    /// Nowhere.
    Nowhere,
}

/// The address of a node after so many moves.
pub(crate) fn address(index: u32, region: u16, moves: u16) -> SocketAddr {
    let [high, middle, low] = scattered(index);
    let first = FIRST_OCTET.saturating_add(u8::try_from(region % 200).unwrap_or(0));
    SocketAddr::from((Ipv4Addr::new(first, low, middle, high), PORT.saturating_add(moves)))
}

fn scattered(index: u32) -> [u8; 3] {
    let [_, high, middle, low] = index.to_be_bytes();
    [high.wrapping_add(1), middle, low]
}

/// An address where nobody is.
pub(crate) fn dead_address(number: u64) -> SocketAddr {
    strange(DEAD_OCTET, number)
}

/// The address of a node of another mesh.
pub(crate) fn foreign_address(number: u64) -> SocketAddr {
    strange(FOREIGN_OCTET, number)
}

fn strange(first: u8, number: u64) -> SocketAddr {
    let [a, b, ..] = number.to_le_bytes();
    SocketAddr::from((Ipv4Addr::new(first, a, b, 1), PORT))
}

/// What answers at an address.
pub(crate) fn leads(address: &SocketAddr) -> Leads {
    let IpAddr::V4(ip) = address.ip() else { return Leads::Nowhere };
    match ip.octets() {
        [DEAD_OCTET, ..] => Leads::Nowhere,
        [FOREIGN_OCTET, ..] => Leads::Abroad,
        [first, low, middle, high] if first >= FIRST_OCTET => {
            let index = u32::from_be_bytes([0, high.wrapping_sub(1), middle, low]);
            address.port().checked_sub(PORT).map_or(Leads::Nowhere, |moves| Leads::ToNode(index, moves))
        }
        _ => Leads::Nowhere,
    }
}

/// The id of a node: random but for the last four bytes, which name the index. `identity`
/// counts the strangers that took this place one after another.
pub(crate) fn node_id(seed: u64, index: u32, identity: u32) -> NodeId {
    let mut bytes = [0; 32];
    let base = mix(mix(seed ^ u64::from(index)) ^ (u64::from(identity) << 32));
    for (part, number) in bytes.chunks_exact_mut(8).zip(0u64..) {
        part.copy_from_slice(&mix(base ^ number).to_le_bytes());
    }
    bytes[28..].copy_from_slice(&index.to_le_bytes());
    NodeId::from_bytes(bytes)
}

/// The index that a node's id names. Whether the id is the present one of that place is for
/// the caller to compare.
pub(crate) fn index_of(node: &NodeId) -> u32 {
    let mut index = [0; 4];
    index.copy_from_slice(&node.as_bytes()[28..]);
    u32::from_le_bytes(index)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_lead_back_to_their_node() {
        for index in [0, 1, 255, 256, 65_535, 65_536, 1_000_000] {
            assert_eq!(leads(&address(index, 3, 2)), Leads::ToNode(index, 2), "{index}");
            assert!(peerchannel_wire::is_dialable(&address(index, 0, 0)), "{index}");
            assert_eq!(index_of(&node_id(7, index, 1)), index);
        }
        assert_eq!(leads(&dead_address(77)), Leads::Nowhere);
        assert_eq!(leads(&foreign_address(77)), Leads::Abroad);
        assert_ne!(node_id(7, 1, 0), node_id(7, 1, 1));
        assert_ne!(node_id(7, 1, 0), node_id(8, 1, 0));
    }

    #[test]
    fn neighbors_on_the_map_are_near() {
        let (map, mut dice) = (Map::default(), Dice::fork(1, "places"));
        let places: Vec<Place> = (0..800).map(|index| Place::draw(&map, index, &mut dice)).collect();
        let ms = |a: usize, b: usize| places[a].delay_to(&places[b]).as_secs_f64() * 1000.0;
        let near = (1..100).map(|n| ms(0, 8 * n)).fold(0.0, f64::max);
        let far = (0..800).map(|n| ms(0, n)).fold(0.0, f64::max);
        assert!(near < 14.5 && far > 100.0 && far < 140.0, "near {near}, far {far}");
    }
}
