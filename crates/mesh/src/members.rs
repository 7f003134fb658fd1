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
use peerchannel_wire::{Epoch, Member, MemberMark, MemberName, MemberStatus, MemberSum, MeshId, NodeId};

use crate::table::{Row, Table};
use crate::time::Time;

/// How long it is remembered that a member left or failed, so that old news of it does not
/// bring it back. A guess: longer than any gossip is under way.
pub(crate) const TOMBSTONE_LIFETIME: Duration = Duration::from_secs(600);

/// A member that suspended and was not heard of again has failed after this: nobody misses it
/// sooner, as it has no links. A guess: a machine that is put away over night comes back.
pub(crate) const SUSPENDED_LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// Most levels: a share of one in 10^11 is below any mesh.
const LEVELS_MAX: u32 = 192;

/// Changes of facts that one member may have passed on at once; more wait their turn, one
/// a second. A guess: people rename themselves, they do not flicker.
const FACTS_BURST: u32 = 5;

/// How long one such turn takes.
pub(crate) const FACTS_INTERVAL: Duration = Duration::from_secs(1);

/// For this long it is remembered that a doubt was passed on: above every pause between two.
const LATELY: Duration = Duration::from_secs(60);

/// After a finer level was taken, members that it adds are taken in silently for this long: they
/// were there before. Longer than it takes until all neighbors keep that level too (a guess).
const WIDENED_FOR: Duration = Duration::from_secs(300);

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

/// What a member lately did too often, or was doubted for.
#[derive(Debug)]
struct Lately {
    /// When somebody's doubt about it was last passed on, and about which state of it.
    doubted: Option<(Time, (Epoch, u32))>,
    /// Until when its past changes of facts count against it.
    busy_until: Time,
}

/// What a statement changed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// Nothing: known, or older than what is known.
    Nothing,
    /// It was not there before.
    Up,
    /// It came back with a new epoch, or after being reported gone.
    Back,
    /// Its name, addresses, metadata, or whether it takes a break.
    Facts,
    /// Nothing of that: it only spoke.
    Restated,
    /// It left or failed.
    Down,
    /// It left, which others took for a failure.
    Left,
    /// It is not one of those this node keeps.
    Outside,
    /// The statement is older than a report that the node is gone: its sender should know.
    Contradicted,
}

#[derive(Debug)]
pub(crate) struct Members {
    pub(crate) table: Table,
    /// Of some of those in the table; most never change.
    lately: BTreeMap<NodeId, Lately>,
    mesh: MeshId,
    alive: usize,
    /// Of those below the bound: how many take part. Invariant: as counted.
    sampled: usize,
    pub(crate) level: u32,
    /// Places below it are in the sample. Invariant: `share(level)`.
    pub(crate) bound: u64,
    /// The sum of what neighbors compare at this level. Invariant: of the rows that are `counted`.
    pub(crate) sum: MemberSum,
    /// When the first of those that are gone and counted became so; they are compared for a
    /// while only.
    pub(crate) grave: Option<Time>,
    /// The bound before finer levels were taken, and until when what they added counts as known.
    widened: Option<(u64, Time)>,
    max: usize,
}

impl Members {
    pub(crate) fn new(mesh: MeshId, max: usize) -> Self {
        Self {
            table: Table::default(),
            lately: BTreeMap::new(),
            mesh,
            alive: 0,
            sampled: 0,
            level: 0,
            bound: u64::MAX,
            sum: MemberSum::default(),
            grave: None,
            widened: None,
            max,
        }
    }

    /// Members in the table, those that are gone included.
    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    /// Stops a debug build if an invariant does not hold.
    pub(crate) fn check(&self) {
        let present = || self.table.iter().filter(|row| is_present(&row.member));
        let inside = |row: &&Row| self.level == 0 || row.place < self.bound;
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
        self.is_inside_at(node, self.level)
    }

    /// The same at another level, for the coarser of two.
    pub(crate) fn is_inside_at(&self, node: NodeId, level: u32) -> bool {
        let place =
            || self.table.get(node).map_or_else(|| MemberMark::place(&self.mesh, &node), |row| row.place);
        level == 0 || place() < if level == self.level { self.bound } else { share(level) }
    }

    /// Notes that a finer level was taken than that of a bound.
    pub(crate) fn note_widened(&mut self, from: u64, now: Time) {
        let before = self.widened.filter(|(_, until)| now < *until);
        let from = before.map_or(from, |(before, _)| before.min(from));
        self.widened = Some((from, now + WIDENED_FOR));
    }

    /// Whether a member that was not known is probably one that a finer level added, rather than
    /// one that just joined.
    pub(crate) fn is_added(&self, node: NodeId, now: Time) -> bool {
        let place = || MemberMark::place(&self.mesh, &node);
        self.widened.is_some_and(|(from, until)| now < until && place() >= from)
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
        self.table.get(node).map(|row| &row.member)
    }

    pub(crate) fn is_alive(&self, node: NodeId) -> bool {
        self.get(node).is_some_and(|member| member.status == MemberStatus::Alive)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Member> {
        self.table.iter().map(|row| &row.member)
    }

    /// Whether a statement could change anything, its record being genuine. `linked` tells of
    /// an unknown node that it is a neighbor.
    pub(crate) fn is_news(&self, member: &Member, linked: impl FnOnce() -> bool) -> bool {
        let node = member.record.facts().node;
        match self.table.get(node) {
            Some(row) => rank(member) > rank(&row.member),
            None => self.is_inside(node) || linked(),
        }
    }

    /// Takes in a statement whose record is verified. `linked` says that it is a neighbor.
    pub(crate) fn apply(&mut self, member: Member, linked: bool, now: Time) -> Change {
        let node = member.record.facts().node;
        let present = is_present(&member);
        let Some(row) = self.table.get_mut(node) else {
            let place = MemberMark::place(&self.mesh, &node);
            if place >= self.bound && self.level > 0 && !linked {
                return Change::Outside;
            }
            let change = if member.status == MemberStatus::Alive { Change::Up } else { Change::Nothing };
            let sum = MemberSum::of(&MemberMark::of(&member));
            self.table.insert(Row::new(member, now, place, sum, linked));
            self.count(place, false, present);
            self.count_in(node);
            self.keep_bounds();
            return change;
        };
        let old = rank(&row.member);
        let new = rank(&member);
        if new <= old {
            let gone = row.member.status != MemberStatus::Alive;
            return if new < old && gone && member.status == MemberStatus::Alive {
                Change::Contradicted
            } else {
                Change::Nothing
            };
        }
        let was_alive = row.is_alive();
        let is_alive = member.status == MemberStatus::Alive;
        let row_left = member.status == MemberStatus::Left && row.member.status == MemberStatus::Failed;
        let was_present = is_present(&row.member);
        let (old, new) = (row.member.record.facts(), member.record.facts());
        let same_epoch = old.epoch == new.epoch;
        let same_facts = old.name == new.name
            && old.addresses == new.addresses
            && old.metadata == new.metadata
            && old.suspended == new.suspended;
        let place = row.place;
        if std::mem::take(&mut row.counted) {
            self.sum = self.sum.minus(row.sum);
        }
        row.sum = MemberSum::of(&MemberMark::of(&member));
        (row.member, row.since) = (member, now);
        self.count(place, was_present, present);
        self.count_in(node);
        self.keep_bounds();
        match (was_alive, is_alive) {
            (true, true) if same_epoch && same_facts => Change::Restated,
            (true, true) if same_epoch => Change::Facts,
            (_, true) => Change::Back,
            (true, false) => Change::Down,
            (false, false) if row_left => Change::Left,
            (false, false) => Change::Nothing,
        }
    }

    /// Notes whether a node is a neighbor. One that was kept only for that is forgotten.
    pub(crate) fn set_linked(&mut self, node: NodeId, linked: bool) {
        let Some(row) = self.table.get_mut(node) else { return };
        row.linked = linked;
        if !linked && self.level > 0 && row.place >= self.bound {
            self.remove(node);
        }
    }

    /// Whether a doubt about a member, as it is known now, has not been passed on for `pause`; a
    /// tenth of it does if that was about an older state. Asking notes that it is.
    pub(crate) fn may_doubt(&mut self, node: NodeId, pause: Duration, now: Time) -> bool {
        let Some(known) = self.table.get(node).map(|row| MemberMark::of(&row.member)) else { return false };
        let state = (known.epoch, known.incarnation);
        let Some(lately) = self.lately(node, now) else { return false };
        let may = lately
            .doubted
            .is_none_or(|(at, about)| now.since(at) >= if about == state { pause } else { pause / 10 });
        if may {
            lately.doubted = Some((now, state));
        }
        may
    }

    /// Whether a change of a member's facts may be passed on now. Asking counts as one.
    pub(crate) fn may_pass_facts(&mut self, node: NodeId, now: Time) -> bool {
        let Some(lately) = self.lately(node, now) else { return false };
        let busy_until = lately.busy_until.max(now) + FACTS_INTERVAL;
        let may = busy_until.since(now) <= FACTS_INTERVAL * FACTS_BURST;
        if may {
            lately.busy_until = busy_until;
        }
        may
    }

    fn lately(&mut self, node: NodeId, now: Time) -> Option<&mut Lately> {
        self.table.get(node)?;
        Some(self.lately.entry(node).or_insert(Lately { doubted: None, busy_until: now }))
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
        let outside = |row: &Row| level > 0 && row.place >= bound;
        let (alive, lately) = (&mut self.alive, &mut self.lately);
        self.table.retain(
            |row| !outside(row) || row.linked,
            |gone| {
                *alive -= usize::from(is_present(&gone.member));
                lately.remove(&gone.node());
            },
        );
        self.sampled = self.table.iter().filter(|row| is_present(&row.member) && !outside(row)).count();
        self.sum_anew();
    }

    /// Takes the next finer level if there is room for what it adds. Tells whether it did.
    pub(crate) fn lower_level(&mut self) -> bool {
        let room = self.has_room();
        if room {
            self.set_level(self.level - 1);
        }
        room
    }

    /// Whether what a finer level adds would fit.
    pub(crate) const fn has_room(&self) -> bool {
        self.level > 0 && self.sampled * 4 < self.max * 3
    }

    fn keep_bounds(&mut self) {
        while self.sampled > self.max && self.level < LEVELS_MAX {
            self.raise_level();
        }
        // Those that are gone take no more room than those that are there: the oldest goes.
        while self.table.len() > 2 * self.max {
            let gone = self.table.iter().filter(|row| !is_present(&row.member) && !row.linked);
            let Some(node) = gone.min_by_key(|row| row.since).map(Row::node) else { return };
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
        if let Some(row) = self.table.remove(node) {
            self.lately.remove(&node);
            self.count(row.place, is_present(&row.member), false);
            if row.counted {
                self.sum = self.sum.minus(row.sum);
            }
        }
    }

    /// Members that suspended so long ago that they are not expected back.
    pub(crate) fn overdue(&self, now: Time) -> Vec<Member> {
        let rows = self.table.iter().filter(|row| row.is_alive() && !is_present(&row.member));
        let overdue = rows.filter(|row| now.since(row.since) >= SUSPENDED_LIFETIME);
        overdue.map(|row| row.member.clone()).collect()
    }

    /// Forgets members that are gone for long.
    pub(crate) fn forget_old(&mut self, now: Time) {
        let (sum, lately) = (&mut self.sum, &mut self.lately);
        self.table.retain(
            |row| row.is_alive() || now.since(row.since) < TOMBSTONE_LIFETIME,
            |gone| {
                lately.remove(&gone.node());
                if gone.counted {
                    *sum = sum.minus(gone.sum);
                }
            },
        );
        self.lately.retain(|_, lately| {
            lately.busy_until > now || lately.doubted.is_some_and(|(at, _)| now.since(at) < LATELY)
        });
    }
}

/// Whether a member takes part: alive, and not on a break.
pub(crate) fn is_present(member: &Member) -> bool {
    member.status == MemberStatus::Alive && !member.record.facts().suspended
}

/// The bound of a level: (7/8)^level of all places.
pub(crate) fn share(level: u32) -> u64 {
    (0..level.min(LEVELS_MAX)).fold(u64::MAX, |bound, _| bound - bound / 8)
}

pub(crate) fn rank(member: &Member) -> (Epoch, u32, u8) {
    let facts = member.record.facts();
    (facts.epoch, facts.incarnation, rank_of_status(member.status))
}

pub(crate) fn rank_of(mark: &MemberMark) -> (Epoch, u32, u8) {
    (mark.epoch, mark.incarnation, rank_of_status(mark.status))
}

const fn rank_of_status(status: MemberStatus) -> u8 {
    match status {
        MemberStatus::Alive => 0,
        MemberStatus::Failed => 1,
        MemberStatus::Left => 2,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use peerchannel_wire::{MemberFacts, Signature};

    use super::*;

    fn member(epoch: u64, incarnation: u32, status: MemberStatus) -> Member {
        of(NodeId::from_bytes([7; 32]), epoch, incarnation, status)
    }

    pub(crate) fn of(node: NodeId, epoch: u64, incarnation: u32, status: MemberStatus) -> Member {
        let facts = MemberFacts::new(node, Epoch::new(epoch).unwrap(), incarnation, MemberName::default());
        Member { status, record: facts.unsigned().sign(Signature::from_bytes([0; 64])) }
    }

    pub(crate) fn id(n: usize) -> NodeId {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&(n as u64).to_be_bytes());
        NodeId::from_bytes(bytes)
    }

    pub(crate) fn members(max: usize) -> Members {
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
        check(5, 2, Alive, Change::Back, 1);
        check(5, 2, Left, Change::Down, 0);
        check(5, 2, Failed, Change::Nothing, 0);
        check(5, 3, Failed, Change::Nothing, 0);
        check(5, 3, Left, Change::Left, 0);
        check(5, 3, Left, Change::Nothing, 0);
        check(4, 9, Alive, Change::Contradicted, 0);
        check(6, 0, Alive, Change::Back, 1);
        check(7, 0, Alive, Change::Back, 1);
    }

    #[test]
    fn a_raised_epoch_counts_as_a_change_and_a_first_sight_does_not() {
        let mut members = members(10);
        let mut apply = |epoch| members.apply(member(epoch, 0, MemberStatus::Alive), false, Time::ZERO);
        assert_eq!((apply(1), apply(2), apply(3)), (Change::Up, Change::Back, Change::Back));
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
}
