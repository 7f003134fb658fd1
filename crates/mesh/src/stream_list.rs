//! Streams in the order of their ids, found by the first bytes of their origin.
//!
//! Every copy of a message asks for its stream once. The list holds only eight bytes of each
//! id and where the rest is, so that the search among some dozen streams stays within a few
//! neighboring cache lines; ids that begin alike are told apart by the rest, which costs an
//! adversary who makes them alike on purpose no more than a walk down a tree would cost.

use peerchannel_wire::{NodeId, StreamId};

/// Values by stream.
#[derive(Debug)]
pub(crate) struct StreamList<T> {
    // Invariant: ascending by id; the number is `head` of the id.
    rows: Vec<(u64, Box<(StreamId, T)>)>,
}

impl<T> Default for StreamList<T> {
    fn default() -> Self {
        Self { rows: Vec::new() }
    }
}

/// The first bytes of an id, in its order.
fn head(id: &StreamId) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = *id.origin.as_bytes();
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

impl<T> StreamList<T> {
    /// Where a stream is, or where it belongs.
    pub(crate) fn place(&self, id: &StreamId) -> Result<usize, usize> {
        let wanted = head(id);
        self.rows.binary_search_by(|(head, row)| head.cmp(&wanted).then_with(|| row.0.cmp(id)))
    }

    /// What is at a place that [`place`](Self::place) gave.
    pub(crate) fn at_mut(&mut self, place: usize) -> &mut T {
        &mut self.rows[place].1.1
    }

    pub(crate) fn get(&self, id: &StreamId) -> Option<&T> {
        self.place(id).ok().map(|place| &self.rows[place].1.1)
    }

    pub(crate) fn get_mut(&mut self, id: &StreamId) -> Option<&mut T> {
        self.place(id).ok().map(|place| self.at_mut(place))
    }

    /// Adds a stream or replaces its value; gives its place.
    pub(crate) fn insert(&mut self, id: StreamId, value: T) -> usize {
        let head = head(&id);
        match self.place(&id) {
            Ok(place) => {
                self.rows[place].1.1 = value;
                place
            }
            Err(place) => {
                self.rows.insert(place, (head, Box::new((id, value))));
                place
            }
        }
    }

    pub(crate) fn remove(&mut self, id: &StreamId) -> Option<T> {
        let place = self.place(id).ok()?;
        Some(self.rows.remove(place).1.1)
    }

    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&StreamId, &T)> {
        self.rows.iter().map(pair)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (&StreamId, &mut T)> {
        self.rows.iter_mut().map(|(_, row)| {
            let (id, value) = &mut **row;
            (&*id, value)
        })
    }

    /// The streams of one origin.
    pub(crate) fn of_origin(&self, origin: NodeId) -> impl Iterator<Item = (&StreamId, &T)> {
        let start = self.rows.partition_point(|(_, row)| row.0.origin < origin);
        self.rows[start..].iter().map(pair).take_while(move |(id, _)| id.origin == origin)
    }

    /// Those before a place, the last first, and those from it on.
    pub(crate) fn around(
        &self,
        place: usize,
    ) -> (impl Iterator<Item = (&StreamId, &T)>, impl Iterator<Item = (&StreamId, &T)>) {
        let (before, after) = self.rows.split_at(place);
        (before.iter().rev().map(pair), after.iter().map(pair))
    }
}

fn pair<T>((_, row): &(u64, Box<(StreamId, T)>)) -> (&StreamId, &T) {
    (&row.0, &row.1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use peerchannel_wire::{ChannelName, Epoch};
    use proptest::prelude::*;

    use super::*;

    fn id(first: u8, last: u8, epoch: u64, channel: u8) -> StreamId {
        let mut origin = [0; 32];
        (origin[0], origin[31]) = (first, last);
        StreamId {
            origin: NodeId::from_bytes(origin),
            epoch: Epoch::new(epoch).unwrap(),
            channel: ChannelName::new(&format!("c{channel}")).unwrap(),
        }
    }

    proptest! {
        /// The naive one is a map; ids that begin alike are common.
        #[test]
        fn it_does_what_a_map_does(
            steps in prop::collection::vec((0..3u8, 0..3u8, 0..3u8, 1..3u64, 0..3u8, 0..99u32), 0..100),
        ) {
            let (mut list, mut naive) = (StreamList::default(), BTreeMap::new());
            for (step, first, last, epoch, channel, value) in steps {
                let id = id(first, last, epoch, channel);
                if step == 0 {
                    prop_assert_eq!(list.remove(&id), naive.remove(&id));
                } else {
                    let place = list.insert(id.clone(), value);
                    prop_assert_eq!(*list.at_mut(place), value);
                    naive.insert(id.clone(), value);
                }
                prop_assert_eq!((list.len(), list.get(&id)), (naive.len(), naive.get(&id)));
                prop_assert!(list.iter().eq(naive.iter()));
                let of_origin = naive.iter().filter(|(other, _)| other.origin == id.origin);
                prop_assert!(list.of_origin(id.origin).eq(of_origin));
                let place = list.place(&id).unwrap_or_else(|place| place);
                let (before, after) = list.around(place);
                prop_assert!(before.eq(naive.range(..&id).rev()) && after.eq(naive.range(&id..)));
            }
        }
    }
}
