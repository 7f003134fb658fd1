//! Leaving: commit, say goodbye with referrals, close.

use peerchannel_wire::DisconnectReason;

use crate::input::LinkId;
use crate::link::LinkState;
use crate::node::{Leaving, Node};
use crate::output::{CloseCause, DirectError, Event, NeighborLoss, Output};
use crate::time::Time;
use crate::timers::Timer;

impl Node {
    /// Leaves the mesh in good order: waits (bounded) until own messages are committed, says
    /// goodbye to every neighbor, closes the links. [`Event::Left`] tells when it is done,
    /// within twice the configured time, after one [`Event::Uncommitted`] for each channel
    /// with messages that nobody acknowledged.
    pub fn leave(&mut self, now: Time) {
        if self.leaving != Leaving::No {
            return;
        }
        self.leaving = Leaving::Committing;
        self.fail_all_directs(DirectError::Leaving);
        if self.is_suspended() {
            self.resume(now);
            // Somebody must hear of it: where nobody does, the first link that comes up is told.
            self.goodbye_wants_link = self.links.flooding().next().is_none();
        }
        if self.all_said() {
            self.say_goodbye(now);
        } else {
            self.timers.set(Timer::Leave, now + self.config.leave_timeout);
        }
        self.check_invariants();
    }

    /// Whether it is too late for new links. While own messages wait to be committed, even a
    /// first neighbor is welcome.
    pub(crate) fn is_closing(&self) -> bool {
        matches!(self.leaving, Leaving::Closing | Leaving::Done)
    }

    /// Whether what this node published is committed, or at least on its way where nobody
    /// acknowledges it.
    fn all_said(&self) -> bool {
        self.publishing.all_committed() && !self.jobs.sign_asides() && !self.goodbye_wants_link
    }

    /// Goes on leaving once nothing keeps it any more.
    pub(crate) fn goodbye_when_all_said(&mut self, now: Time) {
        if self.leaving == Leaving::Committing && self.all_said() {
            self.say_goodbye(now);
        }
    }

    /// A neighbor is there to hear the goodbye of a node that was suspended.
    pub(crate) fn goodbye_has_link(&mut self, now: Time) {
        if std::mem::take(&mut self.goodbye_wants_link) {
            self.goodbye_when_all_said(now);
        }
    }

    pub(crate) fn say_goodbye(&mut self, now: Time) {
        self.leaving = Leaving::Closing;
        self.timers.set(Timer::Leave, now + self.config.leave_timeout);
        let links: Vec<(LinkId, bool, bool)> = self
            .links
            .iter()
            .map(|link| (link.id, link.state == LinkState::Up, link.opened_by_us()))
            .collect();
        for (id, up, ours) in links {
            if up {
                self.drop_link(now, id, DisconnectReason::LeavingMesh);
            } else if ours {
                // Only who was asked may refuse; the other side may even have accepted already.
                self.order(Output::Close { link: id, cause: CloseCause::Unwanted });
                self.on_link_closed(now, id, NeighborLoss::Dropped(DisconnectReason::LeavingMesh));
            } else {
                self.refuse(now, id, peerchannel_wire::RefuseReason::LeavingMesh);
            }
        }
        if self.links.is_empty() {
            self.left();
        }
    }

    pub(crate) fn on_leave_deadline(&mut self, now: Time) {
        match self.leaving {
            Leaving::Committing => self.say_goodbye(now),
            Leaving::Closing => {
                let links: Vec<LinkId> = self.links.iter().map(|link| link.id).collect();
                for link in links {
                    self.order(Output::Close { link, cause: CloseCause::Done });
                }
                self.left();
            }
            Leaving::No | Leaving::Done => {}
        }
    }

    pub(crate) fn left(&mut self) {
        if std::mem::replace(&mut self.leaving, Leaving::Done) == Leaving::Done {
            return;
        }
        self.timers = crate::timers::Timers::default();
        let uncommitted: Vec<Event> = self
            .publishing
            .channels
            .iter()
            .filter(|(_, outgoing)| outgoing.committed < outgoing.accepted)
            .map(|(channel, outgoing)| Event::Uncommitted {
                channel: channel.clone(),
                first: outgoing.committed.next(),
                last: outgoing.accepted,
            })
            .collect();
        for event in uncommitted {
            self.tell(event);
        }
        self.tell(Event::Left);
    }
}
