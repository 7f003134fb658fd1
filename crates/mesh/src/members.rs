//! The member table: who takes part, by signed records and reports about them.
//!
//! Of two statements about one node the one with the higher (epoch, incarnation) wins; at the
//! same one, *left* beats *failed* beats *alive*. Only the node itself raises its incarnation,
//! so a false report lasts until the node hears of it (SWIM, section 4.2).
//!
//! Up to its limit the table holds every member. Above, it holds a uniform *sample*: the
//! members whose [place](MemberMark::place) is below a bound, the same for every node of the
//! mesh, lowered by an eighth (one *level*) as often as it takes. Whoever keeps the same level
//! keeps the same members, so that samples are compared, merged and flooded as whole tables
//! are, and their number times the level's share estimates the mesh (adaptive sampling,
//! Wegman; docs/decisions/0006). Neighbors are kept whatever their place.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use peerchannel_wire::{
    Epoch, Member, MemberFacts, MemberMark, MemberName, MemberRecord, MemberStatus, MemberSum, MeshId, NodeId,
};

use crate::time::Time;

/// How long it is remembered that a member left or failed, so that old news of it does not
/// bring it back. A guess: longer than any gossip is under way.
pub(crate) const TOMBSTONE_LIFETIME: Duration = Duration::from_secs(600);

/// Those gone for longer are no longer compared: each node forgets them in its own time.
const COMPARED_AFTER_END: Duration = Duration::from_secs(60);

/// Most levels: a share of one in 10^11 is below any mesh.
const LEVELS_MAX: u32 = 192;

/// Changes of facts that one member may have passed on at once; more wait their turn, one
/// a second. A guess: people rename themselves, they do not flicker.
const FACTS_BURST: u32 = 5;

/// How long one such turn takes.
pub(crate) const FACTS_INTERVAL: Duration = Duration::from_secs(1);

/// A member as the application sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberView {
    /// The node.
    pub node: NodeId,
    /// The name it shows.
    pub name: MemberName,
    /// Whether it takes part.
    pub status: MemberStatus,
    /// It takes a break: it is a member without links, and comes back or leaves.
    pub suspended: bool,
    /// Its join.
    pub epoch: Epoch,
    /// Where it says it can be dialed.
    pub addresses: Vec<SocketAddr>,
    /// What its application says of it.
    pub metadata: Bytes,
}

impl MemberView {
    pub(crate) fn of(member: &Member) -> Self {
        let facts = member.record.facts();
        Self {
            node: facts.node,
            name: facts.name.clone(),
            status: member.status,
            suspended: facts.suspended,
            epoch: facts.epoch,
            addresses: facts.addresses.clone(),
            metadata: facts.metadata.clone(),
        }
    }
}

#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) member: Member,
    since: Time,
    place: u64,
    sum: MemberSum,
    /// It is a neighbor: kept whatever its place.
    linked: bool,
    /// When somebody's doubt about it was last passed on.
    doubted: Option<Time>,
    /// Until when its past changes of facts count against it.
    busy_until: Time,
}

/// What a statement changed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nothing: known, or older than what is known.
    Nothing,
    /// It was not there, or came back with a new epoch or after being reported gone.
    Up,
    /// Its name, addresses, metadata, or whether it takes a break.
    Facts,
    /// Nothing of that: it only spoke.
    Restated,
    /// It left or failed.
    Down,
    /// It is not one of those this node keeps.
    Outside,
    /// The statement is older than a report that the node is gone: its sender should know.
    Contradicted,
}

#[derive(Debug)]
pub(crate) struct Members {
    table: BTreeMap<NodeId, Known>,
    mesh: MeshId,
    alive: usize,
    /// Of those below the bound: how many take part. Invariant: as counted.
    sampled: usize,
    level: u32,
    /// Places below it are in the sample. Invariant: `share(level)`.
    bound: u64,
    max: usize,
}

impl Members {
    pub(crate) fn new(mesh: MeshId, max: usize) -> Self {
        Self { table: BTreeMap::new(), mesh, alive: 0, sampled: 0, level: 0, bound: u64::MAX, max }
    }

    /// Members in the table, those that are gone included.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// Stops a debug build if an invariant does not hold.
    pub(crate) fn check(&self) {
        let present = || self.table.values().filter(|known| is_present(&known.member));
        let inside = |known: &&Known| self.level == 0 || known.place < self.bound;
        debug_assert!(self.alive == present().count(), "{} members are not as counted", self.alive);
        debug_assert!(self.sampled == present().filter(inside).count(), "the sample is not as counted");
        debug_assert!(self.bound == share(self.level), "the bound is not the level's");
        debug_assert!(self.sampled <= self.max || self.level == LEVELS_MAX, "{} in the sample", self.sampled);
    }

    /// Members that take part, this node not counted.
    pub(crate) const fn alive(&self) -> usize {
        self.alive
    }

    /// Which share of the members is kept: (7/8)^level.
    pub(crate) const fn level(&self) -> u32 {
        self.level
    }

    /// Whether every member is kept that this node ever heard of.
    pub(crate) const fn is_complete(&self) -> bool {
        self.level == 0
    }

    /// Whether a node belongs to what is kept at this level, neighbor or not.
    pub(crate) fn is_inside(&self, node: NodeId) -> bool {
        self.level == 0 || MemberMark::place(&self.mesh, &node) < self.bound
    }

    /// The same at another level, for the coarser of two.
    pub(crate) fn is_inside_at(&self, node: NodeId, level: u32) -> bool {
        level == 0 || MemberMark::place(&self.mesh, &node) < share(level)
    }

    /// How many members the mesh has, `me` counted if it belongs to the sample. Within 15 % in
    /// nineteen of twenty meshes: the deviation of a sample of 192 to 256 is 6 to 7 %.
    pub(crate) fn estimate(&self, me: NodeId) -> usize {
        if self.level == 0 {
            return self.alive + 1;
        }
        let sampled = (self.sampled + usize::from(self.is_inside(me))) as u128;
        usize::try_from((sampled << 64) / u128::from(self.bound.max(1))).unwrap_or(usize::MAX)
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

    /// Whether a statement could change anything, its record being genuine.
    pub(crate) fn is_news(&self, member: &Member, linked: bool) -> bool {
        let node = member.record.facts().node;
        match self.table.get(&node) {
            Some(known) => rank(member) > rank(&known.member),
            None => linked || self.is_inside(node),
        }
    }

    /// Takes in a statement whose record is verified. `linked` says that it is a neighbor.
    pub(crate) fn apply(&mut self, member: Member, linked: bool, now: Time) -> Change {
        let node = member.record.facts().node;
        let present = is_present(&member);
        let sum = MemberSum::of(&MemberMark::of(&member));
        let Some(known) = self.table.get_mut(&node) else {
            let place = MemberMark::place(&self.mesh, &node);
            if place >= self.bound && self.level > 0 && !linked {
                return Change::Outside;
            }
            let change = if member.status == MemberStatus::Alive { Change::Up } else { Change::Nothing };
            let known = Known { member, since: now, place, sum, linked, doubted: None, busy_until: now };
            self.table.insert(node, known);
            self.count(place, false, present);
            self.keep_bounds();
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
        let was_present = is_present(&known.member);
        let (old, new) = (known.member.record.facts(), member.record.facts());
        let same_epoch = old.epoch == new.epoch;
        let shown = |f: &MemberFacts| (f.name.clone(), f.addresses.clone(), f.metadata.clone(), f.suspended);
        let same_facts = shown(old) == shown(new);
        let place = known.place;
        (known.member, known.since, known.sum) = (member, now, sum);
        self.count(place, was_present, present);
        self.keep_bounds();
        match (was_alive, is_alive) {
            (true, true) if same_epoch && same_facts => Change::Restated,
            (true, true) if same_epoch => Change::Facts,
            (_, true) => Change::Up,
            (true, false) => Change::Down,
            (false, false) => Change::Nothing,
        }
    }

    /// Notes whether a node is a neighbor. One that was kept only for that is forgotten.
    pub(crate) fn set_linked(&mut self, node: NodeId, linked: bool) {
        let Some(known) = self.table.get_mut(&node) else { return };
        known.linked = linked;
        if !linked && self.level > 0 && known.place >= self.bound {
            self.remove(node);
        }
    }

    /// Whether a doubt about a member has not been passed on for `pause`. Asking notes that it is.
    pub(crate) fn may_doubt(&mut self, node: NodeId, pause: Duration, now: Time) -> bool {
        let Some(known) = self.table.get_mut(&node) else { return false };
        let may = known.doubted.is_none_or(|at| now.since(at) >= pause);
        if may {
            known.doubted = Some(now);
        }
        may
    }

    /// Whether a change of a member's facts may be passed on now. Asking counts as one.
    pub(crate) fn may_pass_facts(&mut self, node: NodeId, now: Time) -> bool {
        let Some(known) = self.table.get_mut(&node) else { return false };
        let busy_until = known.busy_until.max(now) + FACTS_INTERVAL;
        let may = busy_until.since(now) <= FACTS_INTERVAL * FACTS_BURST;
        if may {
            known.busy_until = busy_until;
        }
        may
    }

    /// Takes the next coarser level.
    pub(crate) fn raise_level(&mut self) {
        if self.level < LEVELS_MAX {
            self.set_level(self.level + 1);
        }
    }

    /// The share of a mesh that grew beyond this node's sight.
    pub(crate) fn set_level(&mut self, level: u32) {
        let level = level.min(LEVELS_MAX);
        (self.level, self.bound) = (level, share(level));
        let bound = self.bound;
        let outside = |known: &Known| level > 0 && known.place >= bound && !known.linked;
        let gone: Vec<NodeId> =
            self.table.iter().filter(|(_, known)| outside(known)).map(|(node, _)| *node).collect();
        for node in gone {
            self.remove(node);
        }
        self.sampled =
            self.table.values().filter(|k| is_present(&k.member) && (level == 0 || k.place < bound)).count();
    }

    /// Takes the next finer level if there is room for what it adds. Tells whether it did.
    pub(crate) fn lower_level(&mut self) -> bool {
        let room = self.level > 0 && self.sampled * 4 < self.max * 3;
        if room {
            self.set_level(self.level - 1);
        }
        room
    }

    fn keep_bounds(&mut self) {
        while self.sampled > self.max && self.level < LEVELS_MAX {
            self.raise_level();
        }
        // Those that are gone take no more room than those that are there: the oldest goes.
        while self.table.len() > 2 * self.max {
            let gone = self.table.iter().filter(|(_, known)| !is_present(&known.member) && !known.linked);
            let Some(node) = gone.min_by_key(|(_, known)| known.since).map(|(node, _)| *node) else { return };
            self.remove(node);
        }
    }

    fn count(&mut self, place: u64, was: bool, is: bool) {
        self.alive = self.alive + usize::from(is) - usize::from(was);
        if self.level == 0 || place < self.bound {
            self.sampled = self.sampled + usize::from(is) - usize::from(was);
        }
    }

    fn remove(&mut self, node: NodeId) {
        if let Some(known) = self.table.remove(&node) {
            self.count(known.place, is_present(&known.member), false);
        }
    }

    /// Forgets members that are gone for long.
    pub(crate) fn forget_old(&mut self, now: Time) {
        self.table.retain(|_, known| {
            known.member.status == MemberStatus::Alive || now.since(known.since) < TOMBSTONE_LIFETIME
        });
    }

    /// The marks of a range that neighbors compare, in order, with their sums.
    pub(crate) fn marks(
        &self,
        level: u32,
        from: Option<NodeId>,
        until: Option<NodeId>,
        now: Time,
    ) -> impl Iterator<Item = (MemberMark, MemberSum)> {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        let bound = share(level);
        let from = from.map_or(Unbounded, Included);
        let until = until.map_or(Unbounded, Excluded);
        self.table
            .range((from, until))
            .map(|(_, known)| known)
            .filter(move |known| {
                let fresh =
                    known.member.status == MemberStatus::Alive || now.since(known.since) < COMPARED_AFTER_END;
                fresh && (level == 0 || known.place < bound)
            })
            .map(|known| (MemberMark::of(&known.member), known.sum))
    }
}

/// Whether a member takes part: alive, and not on a break.
pub(crate) fn is_present(member: &Member) -> bool {
    member.status == MemberStatus::Alive && !member.record.facts().suspended
}

/// The bound of a level: (7/8)^level of all places.
fn share(level: u32) -> u64 {
    (0..level.min(LEVELS_MAX)).fold(u64::MAX, |bound, _| bound - bound / 8)
}

pub(crate) fn rank(member: &Member) -> (Epoch, u32, u8) {
    rank_of(&MemberMark::of(member))
}

pub(crate) fn rank_of(mark: &MemberMark) -> (Epoch, u32, u8) {
    let status = match mark.status {
        MemberStatus::Alive => 0,
        MemberStatus::Failed => 1,
        MemberStatus::Left => 2,
    };
    (mark.epoch, mark.incarnation, status)
}

#[cfg(test)]
mod tests {
    use peerchannel_wire::Signature;

    use super::*;

    fn member(epoch: u64, incarnation: u32, status: MemberStatus) -> Member {
        of(NodeId::from_bytes([7; 32]), epoch, incarnation, status)
    }

    fn of(node: NodeId, epoch: u64, incarnation: u32, status: MemberStatus) -> Member {
        let facts = MemberFacts::new(node, Epoch::new(epoch).unwrap(), incarnation, MemberName::default());
        Member { status, record: facts.unsigned().sign(Signature::from_bytes([0; 64])) }
    }

    fn id(n: usize) -> NodeId {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&(n as u64).to_be_bytes());
        NodeId::from_bytes(bytes)
    }

    fn members(max: usize) -> Members {
        Members::new(MeshId::from_bytes([3; 32]), max)
    }

    #[test]
    fn statements_are_ranked_by_epoch_incarnation_and_status() {
        use MemberStatus::{Alive, Failed, Left};
        let mut members = members(10);
        let mut check = |epoch, incarnation, status, expected, alive| {
            assert_eq!(members.apply(member(epoch, incarnation, status), false, Time::ZERO), expected);
            assert_eq!(members.alive(), alive);
        };
        check(5, 0, Alive, Change::Up, 1);
        check(5, 0, Alive, Change::Nothing, 1);
        check(5, 1, Alive, Change::Restated, 1);
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
    fn tombstones_are_forgotten_after_a_while() {
        let mut members = members(10);
        members.apply(member(1, 0, MemberStatus::Failed), false, Time::ZERO);
        members.forget_old(Time::ZERO + TOMBSTONE_LIFETIME);
        assert_eq!(members.apply(member(1, 0, MemberStatus::Alive), false, Time::ZERO), Change::Up);
    }

    #[test]
    fn a_full_table_becomes_a_sample_that_estimates_the_rest() {
        let mut members = members(256);
        for n in 0..10_000 {
            members.apply(of(id(n), 1, 0, MemberStatus::Alive), false, Time::ZERO);
            assert!(members.table.len() <= 256);
            let estimate = members.estimate(id(99_999));
            assert!(estimate * 4 >= (n + 1) * 3 && estimate * 3 <= (n + 2) * 4, "{estimate} of {n}");
        }
        assert!(!members.is_complete());
        // Two nodes that heard in another order keep the same members.
        let mut other = self::members(256);
        for n in (0..10_000).rev() {
            other.apply(of(id(n), 1, 0, MemberStatus::Alive), false, Time::ZERO);
        }
        assert_eq!(other.level(), members.level());
        assert!(other.iter().eq(members.iter()));
        // When the mesh shrinks the share grows.
        let gone: Vec<Member> = members.iter().take(100).cloned().collect();
        for member in gone {
            let failed = Member { status: MemberStatus::Failed, ..member };
            members.apply(failed, false, Time::ZERO);
        }
        let level = members.level();
        assert!(members.lower_level() && members.level() == level - 1);
    }

    #[test]
    fn a_neighbor_is_kept_whatever_its_place() {
        let mut members = members(4);
        for n in 0..100 {
            members.apply(of(id(n), 1, 0, MemberStatus::Alive), n == 50, Time::ZERO);
        }
        assert!(members.is_alive(id(50)));
        members.set_linked(id(50), false);
        assert_eq!(members.is_alive(id(50)), members.is_inside(id(50)));
    }

    #[test]
    fn those_that_are_gone_are_bounded_and_facts_are_passed_on_in_turn() {
        let mut members = members(8);
        for n in 0..1000 {
            members.apply(of(id(n), 1, 0, MemberStatus::Left), false, Time::ZERO);
        }
        assert_eq!((members.table.len(), members.alive()), (16, 0));
        let first = members.iter().next().unwrap().record.facts().node;
        let passed = (0..20).filter(|_| members.may_pass_facts(first, Time::ZERO)).count();
        assert_eq!(passed, FACTS_BURST as usize);
        assert!(members.may_pass_facts(first, Time::ZERO + FACTS_INTERVAL));
    }

    #[test]
    fn marks_sum_up_to_the_same_in_any_order_and_leave_out_old_graves() {
        let now = Time::ZERO + Duration::from_secs(100);
        let sum = |members: &Members| {
            members.marks(0, None, None, now).fold(MemberSum::default(), |sum, (_, one)| sum.plus(one))
        };
        let (mut a, mut b) = (members(100), members(100));
        for n in 0..20 {
            a.apply(of(id(n), 1, 0, MemberStatus::Alive), false, now);
            b.apply(of(id(19 - n), 1, 0, MemberStatus::Alive), false, now);
        }
        a.apply(of(id(77), 1, 0, MemberStatus::Failed), false, Time::ZERO);
        assert_eq!(sum(&a), sum(&b));
        b.apply(of(id(3), 1, 1, MemberStatus::Alive), false, now);
        assert_ne!(sum(&a), sum(&b));
        assert_eq!(a.marks(0, Some(id(5)), Some(id(9)), now).count(), 4);
    }
}
