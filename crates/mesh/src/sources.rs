//! How far each neighbor can probably serve one stream.
//!
//! A node has about ten neighbors, and every copy of a message is noted here: a short sorted
//! list costs one look at a few neighboring words, where a tree costs a walk.

use peerchannel_wire::Sequence;

use crate::input::LinkId;

/// Positions of one stream by link.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    // Invariant: ascending by link, each once.
    list: Vec<(LinkId, Sequence)>,
}

impl Sources {
    /// A neighbor has shown that it has the stream up to here.
    pub(crate) fn note(&mut self, link: LinkId, through: Sequence) {
        match self.list.binary_search_by_key(&link, |(link, _)| *link) {
            Ok(place) => self.list[place].1 = self.list[place].1.max(through),
            Err(place) => {
                // Eight neighbors are the rule: no room for more until there are.
                if self.list.len() == self.list.capacity() {
                    self.list.reserve_exact(if self.list.is_empty() {
                        4
                    } else {
                        4.max(self.list.len() / 2)
                    });
                }
                self.list.insert(place, (link, through));
            }
        }
    }

    /// The link is gone.
    pub(crate) fn forget(&mut self, link: LinkId) {
        self.list.retain(|(of, _)| *of != link);
    }

    /// The furthest of all.
    pub(crate) fn furthest(&self) -> Sequence {
        self.list.iter().map(|(_, through)| *through).max().unwrap_or_default()
    }

    /// Links in order, and how far each has the stream.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (LinkId, Sequence)> {
        self.list.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The naive one is a map.
        #[test]
        fn it_does_what_a_map_does(steps in prop::collection::vec((0..3u8, 0..12u64, 0..9u64), 0..100)) {
            let (mut sources, mut naive) = (Sources::default(), BTreeMap::new());
            for (step, link, through) in steps {
                let (link, through) = (LinkId(link), Sequence::new(through).unwrap_or_default());
                if step == 0 {
                    sources.forget(link);
                    naive.remove(&link);
                } else {
                    sources.note(link, through);
                    let entry = naive.entry(link).or_insert(through);
                    *entry = (*entry).max(through);
                }
                prop_assert_eq!(sources.furthest(), naive.values().copied().max().unwrap_or_default());
                prop_assert!(sources.iter().eq(naive.iter().map(|(link, through)| (*link, *through))));
            }
        }
    }
}
