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
            // Perhaps it becomes a neighbor: but nobody counts on that.
            let (kind, errand) = (LinkKind::Near, Errand::Audit);
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

    /// Whether a member that answered an audit is welcome as a neighbor: this node has too few.
    pub(crate) fn lacks(&self, peer: NodeId) -> bool {
        let linked = self.links.iter().filter(|link| link.counts()).count();
        linked < self.config.neighbors_low && !self.links.reaches(peer)
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

#[cfg(test)]
mod tests {
    use peerchannel_wire::{
        ControlFrame, Epoch, Features, LinkNumber, Member, MemberFacts, MemberName, MemberStatus, MeshId,
        Signature,
    };

    use super::*;
    use crate::config::Config;
    use crate::input::{Input, LinkId, LinkOpened};
    use crate::node::Me;

    fn node_that_knows(peers: u8) -> Node {
        let me = Me {
            mesh: MeshId::from_bytes([9; 32]),
            node: NodeId::from_bytes([0; 32]),
            epoch: Epoch::new(1).unwrap(),
            name: MemberName::default(),
            addresses: vec![],
            wall_ms: 0,
        };
        let mut node = Node::new(Config::default(), me, [1; 32], Time::ZERO).unwrap();
        while let Some(output) = node.poll_output() {
            if let Output::Sign { job, .. } = output {
                node.handle(Time::ZERO, Input::Signed { job, signature: Signature::from_bytes([0; 64]) });
            }
        }
        for n in 1..=peers {
            let (id, epoch) = (NodeId::from_bytes([n; 32]), Epoch::new(1).unwrap());
            let addresses = vec![([127, 0, 0, 1], 1000 + u16::from(n)).into()];
            let facts = MemberFacts::new(id, epoch, 0, MemberName::default());
            let facts = MemberFacts { addresses, dialable: true, ..facts };
            let record = facts.unsigned().sign(Signature::from_bytes([0; 64]));
            node.apply(Time::ZERO, None, &Member { status: MemberStatus::Alive, record });
        }
        while node.poll_output().is_some() {}
        node
    }

    #[test]
    fn who_answers_an_audit_becomes_a_neighbor_of_a_node_that_has_too_few() {
        let mut node = node_that_knows(1);
        node.audit(Time::ZERO);
        let dialed = std::iter::from_fn(|| node.poll_output()).find_map(|output| match output {
            Output::Dial { dial, candidate } => Some((dial, candidate)),
            _ => None,
        });
        let (dial, candidate) = dialed.unwrap();
        let opened = LinkOpened {
            link: LinkId(1),
            peer: candidate.node.unwrap(),
            dial: Some(dial),
            address: candidate.addresses[0],
            number: LinkNumber(1),
            rtt: Duration::from_millis(1),
            features: Features::SUPPORTED,
        };
        node.handle(Time::ZERO, Input::LinkOpened(opened));
        let outputs: Vec<Output> = std::iter::from_fn(|| node.poll_output()).collect();
        let connects = |o: &Output| matches!(o, Output::Control { frame: ControlFrame::Connect(_), .. });
        assert!(outputs.iter().any(connects), "{outputs:?}");
        assert!(!outputs.iter().any(|o| matches!(o, Output::Close { .. } | Output::Dial { .. })));
    }

    #[test]
    fn a_dial_of_an_audit_stands_for_no_far_link() {
        let mut node = node_that_knows(20);
        let now = Time::ZERO + Duration::from_secs(600);
        for _ in 0..8 {
            node.audit(now);
        }
        assert!(node.dials.values().filter(|dial| dial.errand == Errand::Audit).count() >= 4);
        assert_eq!(node.kind_wanted(now), LinkKind::Far);
    }

    /// In a sample a member outside it is kept only for its link.
    #[test]
    fn a_suspect_that_speaks_for_itself_is_not_kept_as_a_neighbor() {
        let mut node = node_that_knows(40);
        let id = (1..=40).map(|n| NodeId::from_bytes([n; 32])).find(|id| !node.members.is_inside_at(*id, 8));
        let id = id.unwrap();
        node.members.set_linked(id, true);
        assert!(node.suspect(Time::ZERO, id));
        node.acquit(id);
        node.members.set_level(8);
        assert!(node.members.get(id).is_none(), "it had no link any more");
    }
}
