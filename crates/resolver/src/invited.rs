//! The ticket resolver: the nodes that an invitation names.

use std::time::{SystemTime, UNIX_EPOCH};

use peerchannel_wire::{MeshKey, Ticket};

use crate::resolver::{BoxFuture, Found, Resolver, ResolverError, sample};

/// Knows the nodes of a [`Ticket`]. Announces nothing.
///
/// It is for the mesh the ticket names and does not check that: the mesh key depends on the
/// kind of credential, which a ticket does not hold. The caller also verified the ticket's
/// signature. A ticket that has expired by this machine's clock resolves to an error.
#[derive(Debug, Clone)]
pub struct TicketResolver {
    ticket: Ticket,
}

impl TicketResolver {
    /// Knows the nodes of a ticket whose signature was verified.
    #[must_use]
    pub const fn new(ticket: Ticket) -> Self {
        Self { ticket }
    }

    /// The ticket.
    #[must_use]
    pub const fn ticket(&self) -> &Ticket {
        &self.ticket
    }

    fn nodes(&self, max: usize, now_ms: u64) -> Result<Vec<Found>, ResolverError> {
        if self.ticket.is_expired(now_ms) {
            return Err(ResolverError::TicketExpired);
        }
        let nodes = self.ticket.facts().nodes.iter();
        let found = nodes.map(|n| Found { node: Some(n.node()), addresses: n.addresses().to_vec() });
        Ok(sample(found.collect(), max))
    }
}

impl Resolver for TicketResolver {
    fn resolve(&self, _mesh: MeshKey, max: usize) -> BoxFuture<'_, Result<Vec<Found>, ResolverError>> {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let now_ms = u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX);
        Box::pin(std::future::ready(self.nodes(max, now_ms)))
    }

    fn describe(&self) -> String {
        let facts = self.ticket.facts();
        format!(
            "ticket for {:?} from {} with {} nodes",
            facts.mesh.as_str(),
            facts.inviter.short(),
            facts.nodes.len()
        )
    }
}

#[cfg(test)]
mod tests {
    use peerchannel_wire::{MeshName, NodeAddress, NodeId, Signature, TicketFacts};

    use super::*;

    fn resolver() -> TicketResolver {
        let node = NodeId::from_bytes([3; 32]);
        let facts = TicketFacts {
            mesh: MeshName::new("kitchen").unwrap(),
            nodes: vec![NodeAddress::new(node, ["192.0.2.7:4000".parse().unwrap()]).unwrap()],
            inviter: node,
            expires_ms: Some(1000),
        };
        TicketResolver::new(facts.unsigned().unwrap().sign(Signature::from_bytes([0; 64])))
    }

    #[test]
    fn it_names_the_nodes_of_the_ticket() {
        let found = resolver().nodes(5, 999).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].node, Some(NodeId::from_bytes([3; 32])));
        assert_eq!(resolver().describe(), "ticket for \"kitchen\" from 0303030303 with 1 nodes");
    }

    #[tokio::test]
    async fn an_expired_ticket_is_an_error_that_says_so() {
        let error = resolver().resolve(MeshKey::from_bytes([1; 32]), 5).await;
        assert_eq!(error, Err(ResolverError::TicketExpired));
    }
}
