//! The member table: who takes part, by signed records and reports about them.
//!
//! Of two statements about one node the one with the higher (epoch, incarnation) wins; at the
//! same one, *left* beats *failed* beats *alive*. Only the node itself raises its incarnation,
//! so a false report lasts until the node hears of it (SWIM, section 4.2).

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use peerchannel_wire::{Epoch, Member, MemberName, MemberRecord, MemberStatus, NodeId};

use crate::time::Time;

/// How long it is remembered that a member left or failed, so that old news of it does not
/// bring it back. A guess: longer than any gossip is under way.
pub(crate) const TOMBSTONE_LIFETIME: Duration = Duration::from_secs(600);

/// A member as the application sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberView {
    /// The node.
    pub node: NodeId,
    /// The name it shows.
    pub name: MemberName,
    /// Whether it takes part.
    pub status: MemberStatus,
    /// Its join.
    pub epoch: Epoch,
    /// Where it says it can be dialed.
    pub addresses: Vec<SocketAddr>,
}

#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) member: Member,
    since: Time,
}

/// What a statement changed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nothing: known, or older than what is known.
    Nothing,
    /// It was not there, or came back with a new epoch or after being reported gone.
    Up,
    /// Its name or addresses.
    Facts,
    /// It left or failed.
    Down,
    /// There is no room.
    Full,
    /// The statement is older than a report that the node is gone: its sender should know.
    Contradicted,
}

#[derive(Debug)]
pub(crate) struct Members {
    table: BTreeMap<NodeId, Known>,
    alive: usize,
    max: usize,
}

impl Members {
    pub(crate) fn new(max: usize) -> Self {
        Self { table: BTreeMap::new(), alive: 0, max }
    }

    /// Members that take part, this node not counted.
    pub(crate) const fn alive(&self) -> usize {
        self.alive
    }

    pub(crate) fn get(&self, node: NodeId) -> Option<&Member> {
        self.table.get(&node).map(|known| &known.member)
    }

    pub(crate) fn is_alive(&self, node: NodeId) -> bool {
        self.get(node).is_some_and(|member| member.status == MemberStatus::Alive)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Member> {
        self.table.values().map(|known| &known.member)
    }

    /// Whether the statement's record is known word for word: its signature need not be checked.
    pub(crate) fn knows_record(&self, record: &MemberRecord) -> bool {
        self.get(record.facts().node).is_some_and(|known| known.record == *record)
    }

    /// Takes in a statement whose record is verified.
    pub(crate) fn apply(&mut self, member: Member, now: Time) -> Change {
        let node = member.record.facts().node;
        let Some(known) = self.table.get_mut(&node) else {
            if self.table.len() >= self.max {
                return Change::Full;
            }
            let change = if member.status == MemberStatus::Alive { Change::Up } else { Change::Nothing };
            self.alive += usize::from(change == Change::Up);
            self.table.insert(node, Known { member, since: now });
            return change;
        };
        let old = rank(&known.member);
        let new = rank(&member);
        if new <= old {
            let gone = known.member.status != MemberStatus::Alive;
            return if new < old && gone && member.status == MemberStatus::Alive {
                Change::Contradicted
            } else {
                Change::Nothing
            };
        }
        let was_alive = known.member.status == MemberStatus::Alive;
        let is_alive = member.status == MemberStatus::Alive;
        let same_epoch = known.member.record.facts().epoch == member.record.facts().epoch;
        self.alive = self.alive - usize::from(was_alive) + usize::from(is_alive);
        *known = Known { member, since: now };
        match (was_alive, is_alive) {
            (true, true) if same_epoch => Change::Facts,
            (_, true) => Change::Up,
            (true, false) => Change::Down,
            (false, false) => Change::Nothing,
        }
    }

    /// Forgets members that are gone for long.
    pub(crate) fn forget_old(&mut self, now: Time) {
        self.table.retain(|_, known| {
            known.member.status == MemberStatus::Alive || now.since(known.since) < TOMBSTONE_LIFETIME
        });
    }
}

fn rank(member: &Member) -> (Epoch, u32, u8) {
    let facts = member.record.facts();
    let status = match member.status {
        MemberStatus::Alive => 0,
        MemberStatus::Failed => 1,
        MemberStatus::Left => 2,
    };
    (facts.epoch, facts.incarnation, status)
}

#[cfg(test)]
mod tests {
    use peerchannel_wire::{MemberFacts, Signature};

    use super::*;

    fn member(epoch: u64, incarnation: u32, status: MemberStatus) -> Member {
        let (node, epoch) = (NodeId::from_bytes([7; 32]), Epoch::new(epoch).unwrap());
        let facts = MemberFacts::new(node, epoch, incarnation, MemberName::default());
        Member { status, record: facts.unsigned().sign(Signature::from_bytes([0; 64])) }
    }

    #[test]
    fn statements_are_ranked_by_epoch_incarnation_and_status() {
        use MemberStatus::{Alive, Failed, Left};
        let mut members = Members::new(10);
        let mut check = |epoch, incarnation, status, expected, alive| {
            assert_eq!(members.apply(member(epoch, incarnation, status), Time::ZERO), expected);
            assert_eq!(members.alive(), alive);
        };
        check(5, 0, Alive, Change::Up, 1);
        check(5, 0, Alive, Change::Nothing, 1);
        check(5, 1, Alive, Change::Facts, 1);
        check(5, 0, Failed, Change::Nothing, 1);
        check(5, 1, Failed, Change::Down, 0);
        check(5, 1, Alive, Change::Contradicted, 0);
        check(5, 2, Alive, Change::Up, 1);
        check(5, 2, Left, Change::Down, 0);
        check(5, 2, Failed, Change::Nothing, 0);
        check(4, 9, Alive, Change::Contradicted, 0);
        check(6, 0, Alive, Change::Up, 1);
        check(7, 0, Alive, Change::Up, 1);
    }

    #[test]
    fn tombstones_are_forgotten_after_a_while_and_the_table_is_bounded() {
        let mut members = Members::new(1);
        members.apply(member(1, 0, MemberStatus::Alive), Time::ZERO);
        let mut other = member(1, 0, MemberStatus::Alive).record.facts().clone();
        other.node = NodeId::from_bytes([8; 32]);
        let other = Member {
            status: MemberStatus::Alive,
            record: other.unsigned().sign(Signature::from_bytes([0; 64])),
        };
        assert_eq!(members.apply(other.clone(), Time::ZERO), Change::Full);
        assert_eq!(members.apply(member(1, 0, MemberStatus::Failed), Time::ZERO), Change::Down);
        members.forget_old(Time::ZERO + TOMBSTONE_LIFETIME);
        assert_eq!(members.apply(other, Time::ZERO), Change::Up);
    }
}
