//! A uniform sample of all nodes ever heard of, however often each was named (Brahms, PODC 2008).
//!
//! Each slot keeps the node whose hash under the slot's own key is least. A node that is named a
//! thousand times is as likely to be kept as one named once, so whoever shouts loudest does not
//! become everyone's neighbor. The keys come from this node's seed: nobody can find ids that
//! win. Far links are chosen from here (docs/protocol.md section 3.5).

use peerchannel_wire::{NodeAddress, NodeId};

use crate::chance::Chance;

/// Slots: four for each far link, so that some are left when some of their nodes are gone
/// (Brahms: a few times the links drawn from it).
const SLOTS: usize = 16;

#[derive(Debug)]
struct Slot {
    key: u64,
    // The least hash so far, and whose it is.
    best: Option<(u64, NodeAddress)>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Sampler {
    // One key for each word of an id: ids that collide cannot be found without knowing them.
    words: [u64; 4],
    slots: Vec<Slot>,
}

impl Sampler {
    pub(crate) fn new(chance: &mut Chance) -> Self {
        let words = [0; 4].map(|_: u64| chance.number());
        let slots = (0..SLOTS).map(|_| Slot { key: chance.number(), best: None }).collect();
        Self { words, slots }
    }

    /// A node was named.
    pub(crate) fn feed(&mut self, address: &NodeAddress) {
        let digest = self.digest(address.node());
        for slot in &mut self.slots {
            let hash = mix(digest ^ slot.key);
            match &mut slot.best {
                Some((best, kept)) if hash == *best && kept.node() == address.node() => {
                    if kept != address {
                        *kept = address.clone();
                    }
                }
                Some((best, _)) if *best <= hash => {}
                best => *best = Some((hash, address.clone())),
            }
        }
    }

    /// A node is gone, or does not answer: the slots that kept it begin anew.
    pub(crate) fn forget(&mut self, node: NodeId) {
        for slot in &mut self.slots {
            if slot.best.as_ref().is_some_and(|(_, kept)| kept.node() == node) {
                slot.best = None;
            }
        }
    }

    /// The sample; a node may be in it more than once.
    pub(crate) fn sample(&self) -> impl Iterator<Item = &NodeAddress> {
        self.slots.iter().filter_map(|slot| slot.best.as_ref().map(|(_, address)| address))
    }

    fn digest(&self, node: NodeId) -> u64 {
        let words = node.as_bytes().chunks_exact(8).zip(self.words);
        words.fold(0, |digest, (bytes, key)| {
            let word = bytes.try_into().map_or(0, u64::from_le_bytes);
            mix(digest ^ word ^ key)
        })
    }
}

/// A bijection of 64 bits that leaves no visible order (the finalizer of `SplitMix64`).
const fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn address(n: u16) -> NodeAddress {
        let mut id = [0; 32];
        id[..2].copy_from_slice(&n.to_be_bytes());
        NodeAddress::new(NodeId::from_bytes(id), [([127, 0, 0, 1], n + 1).into()]).unwrap()
    }

    fn sampler(seed: u8) -> Sampler {
        Sampler::new(&mut Chance::fork([seed; 32], 0))
    }

    #[test]
    fn neither_order_nor_repetition_changes_the_sample() {
        let (mut once, mut often) = (sampler(1), sampler(1));
        (0..200).for_each(|n| once.feed(&address(n)));
        for n in (0..200).rev() {
            (0..1 + n % 7).for_each(|_| often.feed(&address(n)));
        }
        assert!(once.sample().eq(often.sample()));
        let mut other = sampler(2);
        (0..200).for_each(|n| other.feed(&address(n)));
        assert!(!once.sample().eq(other.sample()), "each node samples in its own way");
    }

    #[test]
    fn every_node_is_sampled_about_equally_often() {
        let mut counts: BTreeMap<NodeId, u32> = BTreeMap::new();
        for seed in 0..200 {
            let mut sampler = sampler(seed);
            (0..100).for_each(|n| sampler.feed(&address(n)));
            for kept in sampler.sample() {
                *counts.entry(kept.node()).or_default() += 1;
            }
        }
        // 3200 picks of 100 nodes: 32 each, with a deviation of less than 6.
        let chi_square: f64 = counts.values().map(|n| (f64::from(*n) - 32.0).powi(2) / 32.0).sum();
        assert_eq!(counts.len(), 100);
        assert!(chi_square < 160.0, "{chi_square}: 99 expected, 149 once in a thousand");
    }

    #[test]
    fn a_node_that_is_gone_leaves_its_slots_to_others() {
        let mut sampler = sampler(3);
        (0..10).for_each(|n| sampler.feed(&address(n)));
        let gone = sampler.sample().next().unwrap().node();
        sampler.forget(gone);
        assert!(sampler.sample().all(|kept| kept.node() != gone));
        assert!(sampler.sample().count() < SLOTS);
        (0..10).filter(|n| address(*n).node() != gone).for_each(|n| sampler.feed(&address(n)));
        assert_eq!(sampler.sample().count(), SLOTS);
    }

    #[test]
    fn new_addresses_of_a_sampled_node_are_taken() {
        let mut sampler = sampler(4);
        sampler.feed(&address(5));
        let moved = NodeAddress::new(address(5).node(), [([127, 0, 0, 1], 999).into()]).unwrap();
        sampler.feed(&moved);
        assert!(sampler.sample().all(|kept| *kept == moved));
    }
}
