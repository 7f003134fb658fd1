//! Doing what handles ask, and answering their questions.

use std::sync::atomic::Ordering;

use super::Driver;
use crate::command::Command;
use crate::filter::Guarded;
use crate::invite;
use crate::status::{MemberInfo, MeshSize, MeshStats, NeighborInfo, Status};

impl Driver {
    pub(super) fn obey(&mut self, command: Command) {
        // A caller that no longer waits does not want the answer.
        match command {
            Command::Publish(order) => {
                let limit = self.links.datagram_limit();
                self.publishing.publish(&mut self.core, self.now, &self.facts, limit, order);
            }
            Command::Direct { to, payload, reply } => match self.core.send_direct(self.now, to, payload) {
                Ok(token) => {
                    self.directs.insert(token, reply);
                }
                Err(error) => {
                    let _ = reply.send(Err(error.into()));
                }
            },
            Command::SetFilter(filter) => {
                let panics = &self.filter_panics;
                self.core.set_filter(filter.map(|filter| Guarded::boxed(filter, panics)));
            }
            Command::Refresh => self.core.refresh(self.now),
            Command::Suspend => self.core.suspend(self.now),
            Command::Resume => self.core.resume(self.now),
            Command::SetMetadata { metadata, reply } => {
                let _ = reply.send(self.core.set_metadata(self.now, metadata));
            }
            Command::Leave => self.leave(),
            Command::Size(reply) => {
                let _ = reply.send(self.size());
            }
            Command::Members(reply) => {
                let _ = reply.send(self.members());
            }
            Command::Status(reply) => {
                let _ = reply.send(self.status());
            }
            Command::Stats(reply) => {
                let _ = reply.send(self.stats());
            }
            Command::Invite { lifetime, reply } => {
                let identity = &self.node.state().identity;
                let ticket = invite::ticket(&self.facts, identity, &self.status(), &self.members(), lifetime);
                let _ = reply.send(ticket);
            }
        }
        self.drain();
    }

    fn members(&self) -> Vec<MemberInfo> {
        let info = |member: peerchannel_mesh::MemberView| MemberInfo {
            own: member.node == self.facts.node,
            node: member.node,
            name: member.name,
            status: member.status,
            epoch: member.epoch,
            addresses: member.addresses,
            suspended: member.suspended,
            metadata: member.metadata,
        };
        self.core.members().map(info).collect()
    }

    fn size(&self) -> MeshSize {
        MeshSize { members: self.core.size_estimate(), complete: self.core.members_complete() }
    }

    fn status(&self) -> Status {
        let info = |neighbor: peerchannel_mesh::NeighborView| NeighborInfo {
            node: neighbor.node,
            address: neighbor.address,
            rtt: neighbor.rtt,
            far: neighbor.far,
            useful: neighbor.useful,
            duplicates: neighbor.duplicates,
        };
        Status {
            mesh: self.facts.mesh_name.clone(),
            node: self.facts.node,
            name: self.facts.name.clone(),
            epoch: self.facts.epoch,
            online: *self.online.borrow(),
            suspended: self.core.is_suspended(),
            size: self.size(),
            local_address: self.facts.local_address,
            advertised: self.addresses.clone(),
            neighbors: self.core.neighbors().map(info).collect(),
            resolvers: self.health.report(),
        }
    }

    fn stats(&self) -> MeshStats {
        let (bytes_in, bytes_out) = self.links.traffic();
        MeshStats {
            mesh: self.core.stats(),
            bytes_in,
            bytes_out,
            queue_bytes: self.links.queue_bytes(),
            datagrams_dropped: self.links.datagrams_dropped,
            filter_panics: self.filter_panics.load(Ordering::Relaxed),
        }
    }
}
