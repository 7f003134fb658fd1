//! Carrying out the core's orders, and handing on what it tells.

use std::time::Duration;

use peerchannel_mesh::{CloseCause, Event, Output};
use peerchannel_resolver::Resolver as _;
use peerchannel_transport::CloseReason;
use peerchannel_wire::{MemberName, NodeId};
use tokio::time::timeout;

use super::crypto::Job;
use super::dial::dial;
use super::wake::{Done, Purpose};
use super::{Driver, wake};
use crate::events::{MeshEvent, Refusal};
use crate::message::{Direct, Gap, Incoming, IncomingDirect, Message};
use crate::status::MeshSize;

/// How long the resolvers together may take: above their own limits, so that their reasons
/// are seen.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(10);

/// Nodes asked of the resolvers at a time: twice the neighbors a node wants.
const RESOLVE_MAX: usize = 16;

impl Driver {
    pub(super) fn carry_out(&mut self, output: Output) {
        match output {
            Output::Dial { dial: id, candidate } => {
                let (node, entry) = (self.node.state().clone(), self.entry.clone());
                self.spawn(Purpose::Dial(id), dial(node, entry, id, candidate));
            }
            Output::Establish { link, number } => self.links.establish(link, number),
            Output::Control { link, frame } => self.links.control(link, &frame, &mut self.pending),
            Output::Data { link, frame } => self.links.data(link, &frame, &mut self.pending),
            Output::Finish { link, farewell } => self.links.finish(link, farewell),
            Output::Close { link, cause } => self.links.close(link, close_reason(cause)),
            Output::Resolve => self.resolve(),
            Output::Sign { job, transcript } => self.jobs.push_back(Job::Sign { job, transcript }),
            Output::Verify { job, signer, transcript, signature } => {
                self.jobs.push_back(Job::Verify { job, signer, transcript, signature });
            }
            Output::Deliver(delivery) => {
                let name = self.name_of(delivery.stream.origin);
                let message = Message::new(delivery, name);
                self.registry.deliver(&message.channel.clone(), Incoming::Message(message));
            }
            Output::Event(event) => self.tell(event),
        }
    }

    fn resolve(&mut self) {
        let (resolver, key) = (self.resolver.clone(), self.key);
        self.spawn(Purpose::Resolve, async move {
            let found = timeout(RESOLVE_TIMEOUT, resolver.resolve(key, RESOLVE_MAX)).await;
            // Failures are told as events where they arise.
            let found = found.ok().and_then(Result::ok).unwrap_or_default();
            Done::Resolved(found.into_iter().map(wake::candidate).collect())
        });
    }

    /// The name a member shows; empty while it is not known here.
    fn name_of(&self, node: NodeId) -> MemberName {
        self.core.name_of(node).cloned().unwrap_or_default()
    }

    fn tell(&mut self, event: Event) {
        let event = match event {
            Event::Online => {
                self.online.send_replace(true);
                MeshEvent::Online
            }
            Event::Offline => {
                self.online.send_replace(false);
                MeshEvent::Offline
            }
            Event::NeighborUp { node, address } => MeshEvent::NeighborUp { node, address },
            Event::NeighborDown { node, loss } => MeshEvent::NeighborDown { node, reason: loss },
            Event::MemberUp { node, name, epoch } => MeshEvent::MemberUp { node, name, epoch },
            Event::MemberChanged { node, name } => {
                let Some(member) = self.core.member(node) else { return };
                MeshEvent::MemberChanged {
                    node,
                    name,
                    suspended: member.suspended,
                    metadata: member.metadata,
                }
            }
            Event::MembersKnown { members, complete } => {
                MeshEvent::MembersKnown { size: MeshSize { members, complete } }
            }
            Event::MemberDown { node, name, loss } => MeshEvent::MemberDown { node, name, reason: loss },
            Event::DialFailed { node, address, failure } => {
                MeshEvent::from_dial_failure(node, address, failure)
            }
            Event::ConnectRefused { node, address, reason } => {
                MeshEvent::Refused { node: Some(node), address: Some(address), reason: Refusal::from(reason) }
            }
            Event::Gap { stream, first, last, reason } => {
                let name = self.name_of(stream.origin);
                let (channel, from, epoch) = (stream.channel, stream.origin, stream.epoch);
                let gap = Gap { channel: channel.clone(), from, name, epoch, first, last, reason };
                return self.registry.deliver(&channel, Incoming::Gap(gap));
            }
            Event::Committed { channel, through } => return self.publishing.committed(&channel, through),
            Event::Uncommitted { channel, first, last } => MeshEvent::Uncommitted { channel, first, last },
            Event::PublishReady => {
                self.publish_ready = true;
                return;
            }
            Event::Direct { from, payload } => {
                let direct = Direct { from, name: self.name_of(from), payload };
                return self.registry.direct(IncomingDirect::Direct(direct));
            }
            Event::DirectDone { token, result } => {
                if let Some(reply) = self.directs.remove(&token) {
                    // A caller that no longer waits does not want to know.
                    let _ = reply.send(result.map_err(Into::into));
                }
                return;
            }
            Event::Overloaded(what) => MeshEvent::Overloaded(what),
            Event::Left => {
                // Told as the last event, when everything else is over too.
                self.left = true;
                return;
            }
            other => {
                tracing::debug!(?other, "an event this release does not tell");
                return;
            }
        };
        tracing::debug!(mesh = %self.facts.mesh_name, %event, "mesh");
        if self.unanswered.is_news(&event) {
            self.registry.event(event);
        }
    }
}

/// What the peer is told.
const fn close_reason(cause: CloseCause) -> CloseReason {
    match cause {
        CloseCause::Done => CloseReason::Unused,
        CloseCause::Unwanted => CloseReason::Busy,
        CloseCause::Violation => CloseReason::ProtocolViolation,
        CloseCause::TooLate => CloseReason::DeadlinePassed,
    }
}
