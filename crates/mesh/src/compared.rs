//! What neighbors compare of their member tables: sums over ranges of node ids.
//!
//! Of the whole table at its own level a node keeps the sum as rows come and go, so that a
//! comparison of tables that agree costs the same whatever their size. Other sums are taken
//! from the rows, which keep that of their mark: nothing is hashed but what changed. Members
//! that are gone for more than a minute are not compared (docs/protocol.md section 5.3).

use std::time::Duration;

use peerchannel_wire::{MemberMark, MemberSum, NodeId};

use crate::members::{Members, share};
use crate::table::Row;
use crate::time::Time;

/// Those gone for longer are no longer compared: each node forgets them in its own time.
const COMPARED_AFTER_END: Duration = Duration::from_secs(60);

/// A range of node ids: from the first up to but without the second; `None` is the end.
pub(crate) type Range = (Option<NodeId>, Option<NodeId>);

impl Members {
    /// A row is new or changed: its mark is compared from now on.
    pub(crate) fn count_in(&mut self, node: NodeId) {
        let Some(row) = self.table.get_mut(node) else { return };
        if self.level > 0 && row.place >= self.bound {
            return;
        }
        row.counted = true;
        self.sum = self.sum.plus(row.sum);
        if !row.is_alive() && self.grave.is_none_or(|first| row.since < first) {
            self.grave = Some(row.since);
        }
    }

    /// The level is another: all is counted anew, those that are gone for long included until
    /// the next comparison.
    pub(crate) fn sum_anew(&mut self) {
        (self.sum, self.grave) = (MemberSum::default(), None);
        let (level, bound) = (self.level, self.bound);
        for row in self.table.iter_mut() {
            row.counted = level == 0 || row.place < bound;
            if row.counted {
                self.sum = self.sum.plus(row.sum);
                if !row.is_alive() && self.grave.is_none_or(|first| row.since < first) {
                    self.grave = Some(row.since);
                }
            }
        }
    }

    /// The sum of the marks that neighbors compare, this node's own not included.
    pub(crate) fn sum(&mut self, level: u32, range: Range, now: Time) -> MemberSum {
        if level == self.level && range == (None, None) {
            self.stop_comparing_old(now);
            return self.sum;
        }
        self.compared(level, range, now).fold(MemberSum::default(), |sum, row| sum.plus(row.sum))
    }

    /// Takes those from the sum that are gone for too long. One look at all of them serves until
    /// the next is due.
    fn stop_comparing_old(&mut self, now: Time) {
        if self.grave.is_none_or(|first| now.since(first) < COMPARED_AFTER_END) {
            return;
        }
        self.grave = None;
        let (level, bound) = (self.level, self.bound);
        for row in self.table.iter_mut().filter(|row| !row.is_alive()) {
            let counts = now.since(row.since) < COMPARED_AFTER_END && (level == 0 || row.place < bound);
            if counts != std::mem::replace(&mut row.counted, counts) {
                self.sum = if counts { self.sum.plus(row.sum) } else { self.sum.minus(row.sum) };
            }
            if counts && self.grave.is_none_or(|first| row.since < first) {
                self.grave = Some(row.since);
            }
        }
    }

    /// What neighbors compare of a range, in order.
    pub(crate) fn compared(&self, level: u32, (from, until): Range, now: Time) -> impl Iterator<Item = &Row> {
        let bound = if level == self.level { self.bound } else { share(level) };
        self.table.range(from, until).iter().filter(move |row| is_compared(row, level, bound, now))
    }

    /// What is compared of one member.
    pub(crate) fn compared_mark(&self, node: NodeId, level: u32, now: Time) -> Option<MemberMark> {
        let row = self.table.get(node)?;
        let bound = if level == self.level { self.bound } else { share(level) };
        is_compared(row, level, bound, now).then(|| MemberMark::of(&row.member))
    }
}

fn is_compared(row: &Row, level: u32, bound: u64, now: Time) -> bool {
    let fresh = row.is_alive() || now.since(row.since) < COMPARED_AFTER_END;
    fresh && (level == 0 || row.place < bound)
}

#[cfg(test)]
mod tests {
    use peerchannel_wire::MemberStatus;

    use super::*;
    use crate::chance::Chance;
    use crate::members::is_present;
    use crate::members::tests::{id, members, of};

    #[test]
    fn sums_are_the_same_in_any_order_and_leave_out_old_graves() {
        let now = Time::ZERO + Duration::from_secs(100);
        let (mut a, mut b) = (members(100), members(100));
        for n in 0..20 {
            a.apply(of(id(n), 1, 0, MemberStatus::Alive), false, now);
            b.apply(of(id(19 - n), 1, 0, MemberStatus::Alive), false, now);
        }
        a.apply(of(id(77), 1, 0, MemberStatus::Failed), false, Time::ZERO);
        let sum = |which: &mut Members| which.sum(0, (None, None), now);
        assert_eq!(sum(&mut a), sum(&mut b));
        b.apply(of(id(3), 1, 1, MemberStatus::Alive), false, now);
        assert_ne!(sum(&mut a), sum(&mut b));
        assert_eq!(a.compared(0, (Some(id(5)), Some(id(9))), now).count(), 4);
    }

    #[test]
    fn the_running_sum_is_that_of_the_rows_whatever_happened() {
        for seed in 0..50 {
            let mut chance = Chance::fork([seed; 32], 0);
            let mut members = members(24);
            let mut now = Time::ZERO;
            for step in 0..400 {
                let node = id(chance.below(80));
                match chance.below(12) {
                    0 => members.set_linked(node, step % 2 == 0),
                    1 => members.forget_old(now),
                    2 => _ = members.lower_level(),
                    3 => members.raise_level(),
                    4 => now = now + Duration::from_secs(chance.below(40) as u64),
                    _ => {
                        let status = [MemberStatus::Alive, MemberStatus::Failed, MemberStatus::Left];
                        let status = status[chance.below(3).min(chance.below(3))];
                        let member = of(node, 1 + chance.below(3) as u64, 0, status);
                        members.apply(member, chance.below(9) == 0, now);
                    }
                }
                let level = members.level();
                let rows = members.compared(level, (None, None), now);
                let expected = rows.fold(MemberSum::default(), |sum, row| sum.plus(row.sum));
                // Asked now and then only, as comparisons do.
                if chance.below(3) == 0 {
                    assert_eq!(members.sum(level, (None, None), now), expected, "seed {seed}, step {step}");
                }
                let alive = members.iter().filter(|member| is_present(member)).count();
                assert_eq!(members.alive(), alive, "seed {seed}, step {step}");
            }
        }
    }
}
