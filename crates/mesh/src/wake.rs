//! Waking up: what a node does when it was stopped, or when its network changed.
//!
//! Its links may be dead at one end or both, its neighbors may have reported it as failed, and
//! what it remembers of others is old. So it asks every neighbor for a sign of life at once,
//! gives up those that do not answer, looks for others meanwhile, and accuses nobody until it
//! knows which of its links hold.

use std::time::Duration;

use peerchannel_wire::ControlFrame;

use crate::health::{LATE, STOPPED};
use crate::input::LinkId;
use crate::node::Node;
use crate::output::{CloseCause, NeighborLoss, Output};
use crate::time::Time;
use crate::timers::Timer;

/// Shortest time neighbors have to answer.
const CONFIRM_MIN: Duration = Duration::from_secs(1);

/// Longest: a stopped node must be back within 5 s.
const CONFIRM_MAX: Duration = Duration::from_secs(2);

/// After a shorter pause the connections still hold at both ends (idle time-out 6.3 s), and
/// their own timers judge them better than a ping that meets another pausing node.
const CONFIRM_AFTER: Duration = Duration::from_secs(6);

/// How long after the links are confirmed nobody is suspected yet: time for the first news.
const WITHHELD_AFTER: Duration = Duration::from_secs(2);

impl Node {
    /// Watches itself: called with every input.
    pub(crate) fn mind_lateness(&mut self, now: Time) {
        let Some(due) = self.timers.next() else { return };
        let late = now.since(due);
        if late <= LATE {
            return;
        }
        if self.health.late(now, late) {
            self.stats.health_raised += 1;
        }
        if late >= STOPPED {
            // Whether or not the driver noticed and says so.
            self.wake(now, late);
        }
    }

    /// The driver says that the node did not run for a while.
    pub(crate) fn on_resumed(&mut self, now: Time, paused: Duration) {
        if self.health.late(now, paused) {
            self.stats.health_raised += 1;
        }
        self.wake(now, paused);
        self.refresh(now);
    }

    /// The driver says that addresses or routes changed.
    pub(crate) fn on_network_changed(&mut self, now: Time) {
        self.confirm_links(now);
        self.refresh(now);
    }

    fn wake(&mut self, now: Time, paused: Duration) {
        // A clock that stood still meanwhile makes a long pause look like a short one until the
        // driver tells: then the links are still to be confirmed.
        let confirm = paused >= CONFIRM_AFTER && !self.timers.is_set(&Timer::Confirm);
        if now < self.withheld_until && !confirm {
            return; // awake already
        }
        self.stats.resumes += 1;
        if confirm {
            self.confirm_links(now);
        } else {
            self.own_fault &= now < self.withheld_until;
            self.withheld_until = self.withheld_until.max(now + WITHHELD_AFTER);
        }
        self.candidates.hurry(now);
        self.timers.set_by(Timer::Maintain, now);
    }

    /// Every neighbor must answer soon, or its link is given up.
    fn confirm_links(&mut self, now: Time) {
        let slowest = self.links.flooding().map(|link| link.rtt).max().unwrap_or_default();
        // Not stretched: this node runs again, and the answers are only as old as its question.
        let wait = (slowest * 4).clamp(CONFIRM_MIN, CONFIRM_MAX);
        self.withheld_until = now + wait + WITHHELD_AFTER;
        self.own_fault = true;
        for id in self.links.flooding_ids() {
            let nonce = self.chance.number();
            if let Some(link) = self.links.get_mut(id) {
                link.debt.confirming = Some(nonce);
                link.debt.compare_at = now;
            }
            self.control(id, ControlFrame::Ping(nonce));
            // What was said of this node meanwhile shows here.
            self.compare_members(now, id);
        }
        self.timers.set(Timer::Confirm, now + wait);
    }

    /// A pong: whether it confirms its link.
    pub(crate) fn confirmed(&mut self, id: LinkId, nonce: u64) -> bool {
        let Some(link) = self.links.get_mut(id) else { return false };
        let confirms = link.debt.confirming == Some(nonce);
        if confirms {
            link.debt.confirming = None;
        }
        confirms
    }

    pub(crate) fn on_confirm_deadline(&mut self, now: Time) {
        let silent: Vec<LinkId> =
            self.links.flooding().filter(|link| link.debt.confirming.is_some()).map(|link| link.id).collect();
        for id in silent {
            self.stats.links_unconfirmed += 1;
            if self.health.unanswered(now) {
                self.stats.health_raised += 1;
            }
            self.order(Output::Close { link: id, cause: CloseCause::TooLate });
            self.on_link_closed(now, id, NeighborLoss::Lost(crate::LinkLoss::TimedOut));
        }
    }
}
