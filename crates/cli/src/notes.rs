//! What a person at a terminal should know about the mesh, on stderr, each thing once.

use std::collections::VecDeque;

use peerchannel::{MeshEvent, Refusal};

/// Different notes that are remembered as told: beyond, an old one may be told again.
const TOLD_MAX: usize = 64;

/// Tells why nothing comes, without repeating itself while a node keeps trying.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    told: VecDeque<String>,
}

impl Notes {
    /// The line for an event, if it is news that matters to someone who waits.
    pub(crate) fn of(&mut self, event: &MeshEvent) -> Option<String> {
        let text = match event {
            MeshEvent::Online => {
                // What was wrong before may be wrong again.
                self.told.clear();
                return None;
            }
            MeshEvent::Refused { reason: Refusal::Oneself | Refusal::DuplicateNeighbor, .. } => return None,
            MeshEvent::Offline
            | MeshEvent::Refused { .. }
            | MeshEvent::Unreachable { .. }
            | MeshEvent::ResolverFailed { .. }
            | MeshEvent::ResolverRecovered { .. }
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

    /// Tells it on stderr.
    pub(crate) fn tell(&mut self, event: &MeshEvent) {
        if let Some(text) = self.of(event) {
            eprintln!("note: {text}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_thing_is_told_once_until_online() {
        let mut notes = Notes::default();
        let event = MeshEvent::ResolverFailed { resolver: "r".into(), error: "e".into() };
        assert!(notes.of(&event).is_some());
        assert!(notes.of(&event).is_none());
        assert!(notes.of(&MeshEvent::Online).is_none());
        assert!(notes.of(&event).is_some());
    }
}
