//! What a person at a terminal should know about the mesh, on stderr, each thing once.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

use peerchannel::{MemberLoss, MeshEvent, NodeId, Refusal};

use crate::output;

/// Different notes that are remembered as told: beyond, an old one may be told again.
const TOLD_MAX: usize = 64;

/// Members and former neighbors that are remembered: beyond, a note more or less is told.
const NODES_MAX: usize = 1024;

/// What it means that others do not accept the password.
pub(crate) const WRONG_PASSWORD: &str = "your password is not the one of this mesh";

/// Tells why nothing comes, without repeating itself while a node keeps trying.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    told: VecDeque<String>,
    // Where somebody with another password came from; not forgotten when the mesh is found.
    strangers: VecDeque<IpAddr>,
    online: bool,
    // Members that are here, and whether they show a name.
    present: BTreeMap<NodeId, bool>,
    // Addresses of neighbors, present and past.
    addresses: BTreeMap<SocketAddr, NodeId>,
}

impl Notes {
    /// The line for an event, if it is news that matters to someone who waits.
    pub(crate) fn of(&mut self, event: &MeshEvent) -> Option<String> {
        let text = match event {
            MeshEvent::Online => {
                self.online = true;
                // What was wrong before may be wrong again.
                self.told.clear();
                return None;
            }
            MeshEvent::NeighborUp { node, address } => {
                if self.addresses.len() < NODES_MAX {
                    self.addresses.insert(*address, *node);
                }
                return None;
            }
            MeshEvent::MemberUp { node, name, .. } => {
                if self.present.len() < NODES_MAX {
                    self.present.insert(*node, !name.as_str().is_empty());
                }
                return None;
            }
            MeshEvent::MemberDown { node, reason, .. } => {
                // One that failed may be looked for; one that left is not missed.
                if *reason == MemberLoss::Left {
                    self.present.remove(node);
                }
                return None;
            }
            MeshEvent::TurnedAway { address, reason: Refusal::BadCredential, .. } => {
                return self.stranger(address.ip());
            }
            MeshEvent::Refused {
                reason: Refusal::Oneself | Refusal::DuplicateNeighbor | Refusal::LeavingMesh,
                ..
            } => return None,
            MeshEvent::Unreachable { node, address, .. } if !self.is_missed(*node, *address) => return None,
            MeshEvent::Refused { reason: Refusal::BadCredential, .. } => {
                format!("{event}; {WRONG_PASSWORD}: quit and try again")
            }
            MeshEvent::Offline => {
                self.online = false;
                event.to_string()
            }
            MeshEvent::Refused { .. }
            | MeshEvent::Unreachable { .. }
            | MeshEvent::ResolverFailed { .. }
            | MeshEvent::ResolverRecovered { .. }
            | MeshEvent::ListenAddressLost { .. }
            | MeshEvent::Overloaded(_)
            | MeshEvent::Lagged(_) => event.to_string(),
            _ => return None,
        };
        if self.told.contains(&text) {
            return None;
        }
        if self.told.len() == TOLD_MAX {
            self.told.pop_front();
        }
        self.told.push_back(text.clone());
        Some(text)
    }

    /// The line for an event in a chat, where people come and go. Nobody without a name is
    /// announced: those are commands that look in for a moment.
    pub(crate) fn in_chat(&mut self, event: &MeshEvent) -> Option<String> {
        let news = self.of(event);
        match event {
            // It was alone before they looked in.
            MeshEvent::Offline if !self.present.values().any(|named| *named) => None,
            MeshEvent::MemberUp { name, .. }
            | MeshEvent::MemberDown { name, .. }
            | MeshEvent::MemberChanged { name, .. }
                if !name.as_str().is_empty() =>
            {
                Some(event.to_string())
            }
            _ => news,
        }
    }

    /// Tells it on stderr.
    pub(crate) fn tell(&mut self, event: &MeshEvent) {
        if let Some(text) = self.of(event) {
            output::tell(&format!("note: {text}"));
        }
    }

    fn stranger(&mut self, address: IpAddr) -> Option<String> {
        if self.strangers.contains(&address) {
            return None;
        }
        if self.strangers.len() == TOLD_MAX {
            self.strangers.pop_front();
        }
        self.strangers.push_back(address);
        Some(format!("somebody with another password tried to join, from {address}"))
    }

    /// Whether it matters that nobody answers there. While this node is alone, every address
    /// it was given does; later, only those of members with a name, and given ones that never
    /// answered.
    fn is_missed(&self, node: Option<NodeId>, address: Option<SocketAddr>) -> bool {
        match node.or_else(|| self.addresses.get(&address?).copied()) {
            Some(node) => self.present.get(&node).map_or(!self.online && !self.knew(node), |named| *named),
            None => true,
        }
    }

    fn knew(&self, node: NodeId) -> bool {
        self.addresses.values().any(|known| *known == node)
    }
}

#[cfg(test)]
mod tests {
    use peerchannel::{Epoch, MemberName};

    use super::*;

    fn node(byte: u8) -> NodeId {
        NodeId::from_bytes([byte; 32])
    }

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn up(byte: u8, name: &str) -> MeshEvent {
        let (name, epoch) = (MemberName::new(name).unwrap(), Epoch::new(1).unwrap());
        MeshEvent::MemberUp { node: node(byte), name, epoch }
    }

    fn down(byte: u8, name: &str, reason: MemberLoss) -> MeshEvent {
        MeshEvent::MemberDown { node: node(byte), name: MemberName::new(name).unwrap(), reason }
    }

    fn unreachable(byte: Option<u8>, port: u16) -> MeshEvent {
        let detail = "no answer".into();
        MeshEvent::Unreachable { node: byte.map(node), address: Some(address(port)), detail }
    }

    #[test]
    fn the_same_thing_is_told_once_until_online() {
        let mut notes = Notes::default();
        let event = MeshEvent::ResolverFailed { resolver: "r".into(), error: "e".into() };
        assert!(notes.of(&event).is_some());
        assert!(notes.of(&event).is_none());
        assert!(notes.of(&MeshEvent::Online).is_none());
        assert!(notes.of(&event).is_some());
    }

    #[test]
    fn only_members_with_a_name_come_and_go_in_a_chat() {
        let mut notes = Notes::default();
        assert!(notes.in_chat(&up(1, "")).is_none());
        assert!(notes.in_chat(&MeshEvent::Offline).is_none());
        assert!(notes.in_chat(&down(1, "", MemberLoss::Left)).is_none());
        assert!(notes.in_chat(&up(2, "bob")).is_some());
        notes.of(&MeshEvent::Online);
        assert!(notes.in_chat(&MeshEvent::Offline).is_some());
        assert!(notes.in_chat(&down(2, "bob", MemberLoss::Left)).is_some());
    }

    #[test]
    fn nobody_who_left_and_no_passer_by_is_missed() {
        let mut notes = Notes::default();
        assert!(notes.of(&unreachable(Some(9), 9)).is_some(), "alone, everything matters");
        notes.of(&MeshEvent::Online);
        notes.of(&MeshEvent::NeighborUp { node: node(1), address: address(1) });
        notes.of(&up(1, "ann"));
        notes.of(&up(2, ""));
        assert!(notes.of(&unreachable(Some(2), 2)).is_none(), "a passer-by");
        assert!(notes.of(&unreachable(Some(3), 3)).is_none(), "never a member");
        assert!(notes.of(&unreachable(Some(1), 1)).is_some(), "a member that is here");
        notes.of(&down(1, "ann", MemberLoss::Left));
        for event in [unreachable(Some(1), 7), unreachable(None, 1)] {
            assert!(notes.of(&event).is_none(), "it left: {event}");
        }
        notes.of(&MeshEvent::Offline);
        assert!(notes.of(&unreachable(None, 1)).is_none());
        assert!(notes.of(&unreachable(None, 8)).is_some());
    }

    #[test]
    fn strangers_are_told_of_once_for_each_address() {
        let mut notes = Notes::default();
        let event =
            |port, reason| MeshEvent::TurnedAway { node: node(4), address: address(port), reason, others: 0 };
        let text = notes.of(&event(5, Refusal::BadCredential)).unwrap();
        assert!(text.contains("another password") && text.contains("127.0.0.1"), "{text}");
        notes.of(&MeshEvent::Online);
        assert!(notes.of(&event(6, Refusal::BadCredential)).is_none());
        assert!(notes.of(&event(7, Refusal::Busy)).is_none());
    }
}
