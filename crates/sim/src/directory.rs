//! The resolver: who is registered, and what it answers in which mood.

use peerchannel_mesh::Candidate;

use crate::dice::Dice;
use crate::host::Host;
use crate::place::{address, dead_address, foreign_address, node_id};
use crate::plan::Mood;

/// A directory of the nodes that registered.
#[derive(Debug, Default)]
pub(crate) struct Directory {
    registered: Vec<u32>,
    // By node: its place in `registered`, plus one.
    places: Vec<u32>,
    pub(crate) mood: Mood,
}

impl Directory {
    pub(crate) fn register(&mut self, node: u32) {
        let slot = node as usize;
        if slot >= self.places.len() {
            self.places.resize(slot + 1, 0);
        }
        if self.places[slot] == 0 {
            self.registered.push(node);
            self.places[slot] = u32::try_from(self.registered.len()).unwrap_or(u32::MAX);
        }
    }

    pub(crate) fn unregister(&mut self, node: u32) {
        let Some(place) = self.places.get_mut(node as usize) else { return };
        let Some(slot) = std::mem::take(place).checked_sub(1) else { return };
        self.registered.swap_remove(slot as usize);
        if let Some(moved) = self.registered.get(slot as usize) {
            self.places[*moved as usize] = slot + 1;
        }
    }

    /// Some of the nodes that registered, never the one that asks.
    pub(crate) fn answer(
        &self,
        count: usize,
        asking: u32,
        hosts: &[Host],
        dice: &mut Dice,
    ) -> Vec<Candidate> {
        let mut chosen: Vec<u32> = Vec::with_capacity(count);
        // Twice as many draws as answers: a draw may hit one that was chosen already.
        for _ in 0..2 * count {
            let Some(node) = self.registered.get(dice.below(self.registered.len())) else { break };
            if *node != asking && chosen.len() < count && !chosen.contains(node) {
                chosen.push(*node);
            }
        }
        let candidate = |node: u32| {
            let host = &hosts[node as usize];
            let place = address(node, host.place.region, host.moves);
            Candidate { node: Some(host.id), addresses: vec![place] }
        };
        match self.mood {
            Mood::Honest | Mood::Slow(_) => chosen.into_iter().map(candidate).collect(),
            Mood::Down | Mood::Empty => Vec::new(),
            Mood::Dead => (0..count).map(|_| stranger(dead_address(dice.number()), dice)).collect(),
            Mood::Foreign => (0..count).map(|_| stranger(foreign_address(dice.number()), dice)).collect(),
            Mood::Lying => {
                let mut answers: Vec<Candidate> = chosen.into_iter().take(count / 3).map(candidate).collect();
                while answers.len() < count {
                    let number = dice.number();
                    let place =
                        if number.is_multiple_of(2) { dead_address(number) } else { foreign_address(number) };
                    answers.push(stranger(place, dice));
                }
                answers
            }
        }
    }
}

fn stranger(place: std::net::SocketAddr, dice: &mut Dice) -> Candidate {
    Candidate { node: Some(node_id(dice.number(), u32::MAX, 0)), addresses: vec![place] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_follow_when_someone_leaves() {
        let mut directory = Directory::default();
        for node in [3, 1, 2, 1] {
            directory.register(node);
        }
        directory.unregister(3);
        directory.unregister(3);
        directory.unregister(9);
        directory.unregister(2);
        assert_eq!(directory.registered, [1]);
        directory.unregister(1);
        assert!(directory.registered.is_empty());
    }
}
