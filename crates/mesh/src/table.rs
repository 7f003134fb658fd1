//! The rows of the member table: in the order of node ids, close together.
//!
//! A sorted vector rather than a tree of maps: a node holds a row for each member, so that
//! what a row costs is multiplied by the square of the mesh. A row takes 72 bytes, finding one
//! reads a few of them, and to insert one moves at most the rest of 20,000 rows, in some ten
//! microseconds. Sums over ranges read rows in a line.

use std::ops::Range;

use peerchannel_wire::{Member, MemberStatus, MemberSum, NodeId};

use crate::time::Time;

/// Rows are made room for by this share of those that are there: doubling would leave half of
/// the memory empty.
const GROWTH_SHARE: usize = 8;

/// What is known of one member.
#[derive(Debug)]
pub(crate) struct Row {
    // Its id's first bytes as a number: the order of ids, but for equal ones.
    head: u64,
    pub(crate) member: Member,
    /// When it came into its present state.
    pub(crate) since: Time,
    /// See [`MemberMark::place`](peerchannel_wire::MemberMark::place).
    pub(crate) place: u64,
    /// Of its mark.
    pub(crate) sum: MemberSum,
    /// It is a neighbor: kept whatever its place.
    pub(crate) linked: bool,
    /// The running sum holds its mark.
    pub(crate) counted: bool,
}

impl Row {
    pub(crate) fn new(member: Member, since: Time, place: u64, sum: MemberSum, linked: bool) -> Self {
        let head = head(&member.record.facts().node);
        Self { head, member, since, place, sum, linked, counted: false }
    }

    pub(crate) fn node(&self) -> NodeId {
        self.member.record.facts().node
    }

    pub(crate) fn is_alive(&self) -> bool {
        self.member.status == MemberStatus::Alive
    }
}

/// Rows by node id, each id once.
#[derive(Debug, Default)]
pub(crate) struct Table {
    // Invariant: sorted by node id.
    rows: Vec<Row>,
}

impl Table {
    pub(crate) fn len(&self) -> usize {
        self.rows.len()
    }

    pub(crate) fn get(&self, node: NodeId) -> Option<&Row> {
        self.find(node).ok().and_then(|at| self.rows.get(at))
    }

    pub(crate) fn get_mut(&mut self, node: NodeId) -> Option<&mut Row> {
        self.find(node).ok().and_then(|at| self.rows.get_mut(at))
    }

    /// Adds a row, or replaces the one of the same node.
    pub(crate) fn insert(&mut self, row: Row) {
        match self.find(row.node()) {
            Ok(at) => self.rows[at] = row,
            Err(at) => {
                if self.rows.len() == self.rows.capacity() {
                    self.rows.reserve_exact(self.rows.len() / GROWTH_SHARE + GROWTH_SHARE);
                }
                self.rows.insert(at, row);
            }
        }
    }

    pub(crate) fn remove(&mut self, node: NodeId) -> Option<Row> {
        self.find(node).ok().map(|at| self.rows.remove(at))
    }

    /// Removes what is not to be kept, and says each that goes.
    pub(crate) fn retain(&mut self, keep: impl Fn(&Row) -> bool, mut gone: impl FnMut(&Row)) {
        self.rows.retain(|row| {
            let kept = keep(row);
            if !kept {
                gone(row);
            }
            kept
        });
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, Row> {
        self.rows.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> std::slice::IterMut<'_, Row> {
        self.rows.iter_mut()
    }

    /// The rows of a range of ids; `None` is the end on that side.
    pub(crate) fn range(&self, from: Option<NodeId>, until: Option<NodeId>) -> &[Row] {
        let at = |node: NodeId| self.find(node).unwrap_or_else(|at| at);
        let range: Range<usize> = from.map_or(0, at)..until.map_or(self.rows.len(), at);
        self.rows.get(range).unwrap_or_default()
    }

    fn find(&self, node: NodeId) -> Result<usize, usize> {
        let head = head(&node);
        self.rows.binary_search_by(|row| row.head.cmp(&head).then_with(|| row.node().cmp(&node)))
    }
}

fn head(node: &NodeId) -> u64 {
    node.as_bytes().first_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use peerchannel_wire::{Epoch, MemberFacts, MemberName, Signature};

    use super::*;
    use crate::chance::Chance;

    // Ids that agree in their first bytes are the case to get wrong.
    fn id(n: usize) -> NodeId {
        let mut bytes = [0; 32];
        bytes[7] = u8::try_from(n % 5).unwrap();
        bytes[31] = u8::try_from(n).unwrap();
        NodeId::from_bytes(bytes)
    }

    fn row(n: usize, since: u64) -> Row {
        let facts = MemberFacts::new(id(n), Epoch::new(1).unwrap(), 0, MemberName::default());
        let record = facts.unsigned().sign(Signature::from_bytes([0; 64]));
        let member = Member { status: MemberStatus::Alive, record };
        Row::new(member, Time::from_nanos(since), 0, MemberSum::default(), false)
    }

    #[test]
    fn it_does_what_a_map_does() {
        for seed in 0..20 {
            let mut chance = Chance::fork([seed; 32], 0);
            let (mut table, mut map) = (Table::default(), BTreeMap::new());
            for step in 0..400 {
                let n = chance.below(60);
                match chance.below(4) {
                    0 => assert_eq!(table.remove(id(n)).is_some(), map.remove(&id(n)).is_some()),
                    1 => {
                        let (a, b) = (id(chance.below(60)), id(n));
                        let (from, until) = (a.min(b), a.max(b));
                        let rows: Vec<NodeId> =
                            table.range(Some(from), Some(until)).iter().map(Row::node).collect();
                        assert!(rows.iter().eq(map.range(from..until).map(|(node, _)| node)), "seed {seed}");
                    }
                    _ => {
                        table.insert(row(n, step));
                        map.insert(id(n), step);
                    }
                }
                let same = map.iter().map(|(node, step)| (*node, Time::from_nanos(*step)));
                assert!(table.iter().map(|row| (row.node(), row.since)).eq(same), "seed {seed}");
                assert_eq!(table.get(id(n)).is_some(), map.contains_key(&id(n)), "seed {seed}");
            }
            assert!(table.rows.capacity() <= table.rows.len().max(60) * 9 / 8 + GROWTH_SHARE);
        }
    }

    #[test]
    fn a_row_is_small() {
        assert!(size_of::<Row>() <= 72, "{}", size_of::<Row>());
    }
}
