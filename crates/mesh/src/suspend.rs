//! Suspending: a break from the mesh without leaving it.
//!
//! ```text
//!            suspend()            signed, spread
//!   Active ────────────> Pausing ────────────────> Suspended
//!     ^                     │ resume()                 │ resume(), leave()
//!     └─────────────────────┴──────────────────────────┘
//! ```
//! A suspended node keeps its epoch, its streams and what it retains. Others keep it in their
//! tables as suspended: it does not count as failed, nobody dials or audits it. It dials
//! nobody, asks no resolver and sends nothing.

use std::time::Duration;

use peerchannel_wire::{DisconnectReason, Features, RefuseReason};

use crate::input::LinkId;
use crate::link::LinkState;
use crate::node::{Leaving, Node};
use crate::output::{CloseCause, DirectError, NeighborLoss, Output};
use crate::time::Time;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Suspension {
    Active,
    /// The record that says so is being signed.
    Pausing,
    Suspended,
}

impl Node {
    /// Takes a break: tells the others so, says goodbye to every neighbor, and stops looking
    /// for new ones until [`resume`](Self::resume). What is published meanwhile is held as it
    /// is without neighbors. Without effect while leaving or suspended.
    pub fn suspend(&mut self, now: Time) {
        if self.leaving == Leaving::No && self.suspension == Suspension::Active {
            self.suspension = Suspension::Pausing;
            self.fail_directs_unsent(DirectError::Suspended);
            self.change_own_record(now, Duration::ZERO);
        }
    }

    /// Ends a break: looks for neighbors again. What was published meanwhile is recovered as
    /// far as others still retain it, and the rest is reported as gaps. Without effect if the
    /// node is not suspended.
    pub fn resume(&mut self, now: Time) {
        if self.suspension == Suspension::Active {
            return;
        }
        self.suspension = Suspension::Active;
        self.change_own_record(now, Duration::ZERO);
        if !self.is_closing() {
            self.stats.resumes += 1;
            self.candidates.hurry(now);
            self.start_maintaining(now);
            self.start_healing(now);
        }
    }

    /// Whether the node takes a break.
    #[must_use]
    pub fn is_suspended(&self) -> bool {
        self.suspension != Suspension::Active
    }

    /// Whether it neither makes links nor accepts any.
    pub(crate) fn is_resting(&self) -> bool {
        self.suspension == Suspension::Suspended
    }

    /// The record that says so is signed and owed to the neighbors: goodbye.
    pub(crate) fn go_on_break(&mut self, now: Time) {
        if self.suspension != Suspension::Pausing {
            return;
        }
        // From here on it asks nobody, though its last links end below.
        self.suspension = Suspension::Suspended;
        let links: Vec<(LinkId, bool, bool, Features)> = self
            .links
            .iter()
            .map(|link| (link.id, link.state == LinkState::Up, link.opened_by_us(), link.features))
            .collect();
        for (id, up, ours, features) in links {
            if up {
                self.pay(now, id);
                let reason = if features.contains(Features::MEMBERSHIP) {
                    DisconnectReason::Suspended
                } else {
                    DisconnectReason::NotUsefulNeighbor
                };
                self.drop_link(now, id, reason);
            } else if ours {
                // Only who was asked may refuse.
                self.order(Output::Close { link: id, cause: CloseCause::Unwanted });
                self.on_link_closed(now, id, NeighborLoss::Dropped(DisconnectReason::Suspended));
            } else {
                self.refuse(now, id, RefuseReason::NodeBusy);
            }
        }
    }
}
