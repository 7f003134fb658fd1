//! Dials that nobody answers, each told once: a node that is alone tries them for ever.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use peerchannel_wire::NodeId;

use crate::events::MeshEvent;

/// Places that are remembered as told: as many as the core keeps candidates. Beyond, all are
/// forgotten, and may be told again.
const TOLD_MAX: usize = 256;

/// Where a node was looked for.
type Place = (Option<NodeId>, Option<SocketAddr>);

/// What was told of dials in vain.
#[derive(Debug, Default)]
pub(super) struct Unanswered {
    told: BTreeMap<Place, String>,
}

impl Unanswered {
    /// Whether an event says something that was not said before.
    pub(super) fn is_news(&mut self, event: &MeshEvent) -> bool {
        match event {
            MeshEvent::Unreachable { node, address, detail } => {
                let place = (*node, *address);
                if self.told.get(&place) == Some(detail) {
                    return false;
                }
                if self.told.len() >= TOLD_MAX && !self.told.contains_key(&place) {
                    self.told.clear();
                }
                self.told.insert(place, detail.clone());
            }
            // Somebody is there.
            MeshEvent::NeighborUp { node, address } => self.forget(Some(*node), Some(*address)),
            MeshEvent::Refused { node, address, .. } => self.forget(*node, *address),
            MeshEvent::Online | MeshEvent::Offline => self.told.clear(),
            _ => {}
        }
        true
    }

    fn forget(&mut self, node: Option<NodeId>, address: Option<SocketAddr>) {
        let answers =
            |told: &Place| told.0.is_some() && told.0 == node || told.1.is_some() && told.1 == address;
        self.told.retain(|place, _| !answers(place));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::events::Refusal;

    fn at(port: u16) -> Option<SocketAddr> {
        Some(SocketAddr::from(([192, 0, 2, 1], port)))
    }

    fn silent(port: u16, detail: &str) -> MeshEvent {
        MeshEvent::Unreachable { node: None, address: at(port), detail: detail.to_owned() }
    }

    #[test]
    fn a_dead_address_is_told_once_and_then_when_something_changes() {
        let mut told = Unanswered::default();
        assert!(told.is_news(&silent(1, "no answer")));
        assert!(!told.is_news(&silent(1, "no answer")));
        assert!(told.is_news(&silent(2, "no answer")), "another");
        assert!(told.is_news(&silent(1, "no route")), "another reason");
        assert!(!told.is_news(&silent(2, "no answer")));
        let refused = MeshEvent::Refused { node: None, address: at(2), reason: Refusal::Busy };
        assert!(told.is_news(&refused) && told.is_news(&refused), "only silence is told once");
        assert!(told.is_news(&silent(2, "no answer")), "somebody was there");
        assert!(!told.is_news(&silent(1, "no route")));
        told.is_news(&MeshEvent::Offline);
        assert!(told.is_news(&silent(1, "no route")), "the mesh was lost");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut told = Unanswered::default();
        for port in 0..2 * TOLD_MAX {
            assert!(told.is_news(&silent(u16::try_from(port).unwrap(), "no answer")));
            assert!(told.told.len() <= TOLD_MAX);
        }
    }
}
