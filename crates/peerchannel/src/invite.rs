//! Making tickets: where a mesh can be found, signed by the node that invites.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use peerchannel_security::Identity;
use peerchannel_wire::limits::TICKET_NODES_MAX;
use peerchannel_wire::{MemberStatus, NodeAddress, TicketFacts};

use crate::error::InviteError;
use crate::mesh::Facts;
use crate::status::{MemberInfo, Status};

/// Most nodes a ticket of ours names: a few are enough, and the text stays short.
const NODES_MAX: usize = 4;

const _: () = assert!(NODES_MAX <= TICKET_NODES_MAX);

/// A ticket of some neighbors, other members that are here, and this node.
pub(crate) fn ticket(
    facts: &Facts,
    identity: &Identity,
    status: &Status,
    members: &[MemberInfo],
    lifetime: Option<Duration>,
) -> Result<String, InviteError> {
    let own = NodeAddress::new(facts.node, status.advertised.iter().copied());
    let is_neighbor = |member: &&MemberInfo| status.neighbors.iter().any(|n| n.node == member.node);
    let others = members.iter().filter(|m| !m.own && m.status == MemberStatus::Alive);
    let (neighbors, rest): (Vec<_>, Vec<_>) = others.partition(is_neighbor);
    let known = neighbors
        .into_iter()
        .chain(rest)
        .filter_map(|member| NodeAddress::new(member.node, member.addresses.iter().copied()));
    // Others first: the node that makes a ticket may be gone in a moment.
    let others = NODES_MAX - usize::from(own.is_some());
    let nodes = known.take(others).chain(own).collect();
    let expires_ms = lifetime.map(|lifetime| wall_ms().saturating_add(millis(lifetime)));
    let unsigned =
        TicketFacts { mesh: facts.mesh_name.clone(), nodes, inviter: facts.node, expires_ms }.unsigned()?;
    let signature = identity.sign(unsigned.transcript().as_bytes());
    Ok(unsigned.sign(signature).to_string())
}

/// Milliseconds since 1970; 0 where the clock is before that.
pub(crate) fn wall_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis)
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
