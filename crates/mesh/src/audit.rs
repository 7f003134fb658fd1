//! The audit: no member stays in the table only because nobody is left to miss it.
//!
//! A member whose neighbors all vanish with it has no link that breaks. So each node checks,
//! at a slow constant rate, one random member it has no link to: by a dial, where it is known
//! that the member can be dialed. Who does not answer is asked about, and so vouched for by its
//! neighbors. One that cannot be dialed is asked about straight away, so rarely that the
//! questions of the whole mesh stay a trickle: one a minute, however large it is.

use std::time::Duration;

use peerchannel_wire::{LinkKind, NodeId};

use crate::input::{Candidate, DialFailure};
use crate::node::{Dial, Errand, Node};
use crate::output::Output;
use crate::time::Time;
use crate::timers::Timer;

/// How often the whole mesh asks about a member that cannot be dialed: each question reaches
/// every member.
const QUESTION_INTERVAL: Duration = Duration::from_secs(60);

impl Node {
    pub(crate) fn audit(&mut self, now: Time) {
        if self.is_closing() || self.is_resting() {
            return;
        }
        // Of a sample, which all members check, each has its turn as often as in a small mesh.
        let everybody = self.members.estimate(self.me.node);
        let crowd = everybody.div_ceil(self.members.alive() + 1).clamp(1, 1000);
        let pause = self.chance.jitter(self.config.audit_interval) * u32::try_from(crowd).unwrap_or(1);
        self.timers.set(Timer::Audit, now + pause);
        let unseen: Vec<NodeId> = self
            .members
            .iter()
            .filter(|member| crate::members::is_present(member))
            .map(|member| member.record.facts())
            .filter(|facts| !self.links.reaches(facts.node))
            .map(|facts| facts.node)
            .collect();
        // Who can be dialed says so in its record, sooner or later; those that met it know before.
        let answers = |node: NodeId| {
            let says_so = self.members.get(node).is_some_and(|member| member.record.facts().dialable);
            says_so || self.candidates.answers(node)
        };
        let able: Vec<NodeId> = unseen.iter().copied().filter(|node| answers(*node)).collect();
        // Every other time one of those, so that each has its turn although few know of it.
        let chosen = if !able.is_empty() && self.chance.below(2) == 0 { able } else { unseen };
        let Some(node) = self.chance.sample(chosen, 1).first().copied() else { return };
        let able = self.candidates.answers(node);
        let Some(member) = self.members.get(node) else { return };
        let address = member.record.address().filter(|_| able || member.record.facts().dialable);
        if let Some(address) = address {
            self.stats.audits += 1;
            let (kind, errand) = (LinkKind::Far, Errand::Audit);
            let dial = self.new_dial(Dial { candidate: None, node: Some(node), kind, errand });
            let candidate = Candidate { node: Some(node), addresses: address.addresses().to_vec() };
            return self.order(Output::Dial { dial, candidate });
        }
        // All members together take turns as if they were one: this node's share of them is the
        // time since its last turn over everybody's.
        let turns = QUESTION_INTERVAL.as_millis().saturating_mul(everybody as u128);
        let chance = usize::try_from(turns / pause.as_millis().max(1)).unwrap_or(usize::MAX);
        if self.chance.below(chance.max(1)) == 0 {
            self.stats.audits += 1;
            self.check_on(now, node);
        }
    }

    /// A member did not answer where it said it would.
    pub(crate) fn audit_failed(&mut self, now: Time, node: NodeId, failure: &DialFailure) {
        match failure {
            // Somebody else lives there, or nobody: the member may have moved.
            DialFailure::Unreachable(_) | DialFailure::WrongNode(_) => {
                self.stats.audits_failed += 1;
                self.check_on(now, node);
            }
            // It is there, whatever it says. Or it is this node itself.
            DialFailure::Refused { .. } | DialFailure::Oneself => {}
        }
    }
}
