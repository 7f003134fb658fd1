//! Who was heard on the local network, by instance name. Bounded.

use std::collections::BTreeMap;

use crate::lan::record::Tag;
use crate::resolver::Found;

/// Most instances remembered: a large LAN party four times over. Anyone on the network can
/// announce names without end; the oldest make room, so that the newcomers of an honest
/// network are always seen.
pub(super) const INSTANCES_MAX: usize = 1024;

/// Instances in the order they were first heard of.
#[derive(Debug, Default)]
pub(super) struct Cache {
    instances: BTreeMap<String, Instance>,
    /// The name of each arrival number; invariant: one entry per instance.
    arrivals: BTreeMap<u64, String>,
    next: u64,
}

#[derive(Debug)]
struct Instance {
    arrival: u64,
    tag: Tag,
    found: Found,
}

impl Cache {
    /// An instance was heard, for the first time or again.
    pub(super) fn insert(&mut self, name: &str, tag: Tag, found: Found) {
        if let Some(instance) = self.instances.get_mut(name) {
            (instance.tag, instance.found) = (tag, found);
            return;
        }
        if self.instances.len() >= INSTANCES_MAX
            && let Some((_, oldest)) = self.arrivals.pop_first()
        {
            self.instances.remove(&oldest);
        }
        let arrival = self.next;
        self.next += 1;
        self.arrivals.insert(arrival, name.to_owned());
        self.instances.insert(name.to_owned(), Instance { arrival, tag, found });
    }

    /// An instance said goodbye or was not heard for its time to live.
    pub(super) fn remove(&mut self, name: &str) {
        if let Some(instance) = self.instances.remove(name) {
            self.arrivals.remove(&instance.arrival);
        }
    }

    /// The instances of one mesh.
    pub(super) fn found(&self, tag: Tag) -> Vec<Found> {
        self.instances.values().filter(|i| i.tag == tag).map(|i| i.found.clone()).collect()
    }
}

#[cfg(test)]
mod tests {
    use peerchannel_wire::MeshKey;

    use super::*;

    fn tag(byte: u8) -> Tag {
        Tag::of(MeshKey::from_bytes([byte; 32]))
    }

    fn at(port: u16) -> Found {
        Found::at(([127, 0, 0, 1], port).into())
    }

    #[test]
    fn an_instance_heard_again_replaces_and_a_goodbye_removes() {
        let mut cache = Cache::default();
        cache.insert("a", tag(1), at(1));
        cache.insert("a", tag(1), at(2));
        cache.insert("b", tag(2), at(3));
        assert_eq!(cache.found(tag(1)), [at(2)]);
        cache.remove("a");
        cache.remove("a");
        assert_eq!(cache.found(tag(1)), []);
        assert_eq!(cache.found(tag(2)), [at(3)]);
    }

    #[test]
    fn a_flood_of_names_takes_bounded_memory_and_newcomers_are_seen() {
        let mut cache = Cache::default();
        for i in 0..3 * INSTANCES_MAX {
            cache.insert(&i.to_string(), tag(1), at(1));
        }
        cache.insert("new", tag(2), at(2));
        assert_eq!((cache.instances.len(), cache.arrivals.len()), (INSTANCES_MAX, INSTANCES_MAX));
        assert_eq!(cache.found(tag(2)), [at(2)]);
    }
}
