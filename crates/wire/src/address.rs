//! Where a node can be reached.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;

use crate::error::{DecodeError, limit};
use crate::generated as proto;
use crate::id::NodeId;
use crate::limits::NODE_ADDRESSES_MAX;

/// A node and the socket addresses it can be dialed at, best first.
///
/// Invariant: 1 to 16 addresses, none with port 0, none unspecified or multicast.
/// This is also a referral: what one node tells another about a third.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeAddress {
    node: NodeId,
    addresses: Vec<SocketAddr>,
}

impl NodeAddress {
    /// Keeps the usable addresses, at most 16 of them; `None` if none is usable.
    #[must_use]
    pub fn new(node: NodeId, addresses: impl IntoIterator<Item = SocketAddr>) -> Option<Self> {
        let mut kept: Vec<SocketAddr> = Vec::new();
        for address in addresses {
            if is_dialable(&address) && !kept.contains(&address) && kept.len() < NODE_ADDRESSES_MAX {
                kept.push(address);
            }
        }
        (!kept.is_empty()).then_some(Self { node, addresses: kept })
    }

    /// The node.
    #[must_use]
    pub const fn node(&self) -> NodeId {
        self.node
    }

    /// Its addresses, best first; never empty.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    pub(crate) fn to_proto(&self) -> proto::NodeAddress {
        proto::NodeAddress {
            node: Bytes::copy_from_slice(self.node.as_bytes()),
            addresses: self.addresses.iter().map(socket_to_proto).collect(),
        }
    }

    pub(crate) fn from_proto(message: &proto::NodeAddress) -> Result<Self, DecodeError> {
        let node = NodeId::decode("node address", &message.node)?;
        let addresses = sockets_from_proto(&message.addresses)?;
        Self::new(node, addresses)
            .ok_or(DecodeError::Invalid { field: "node address", why: "no usable socket address" })
    }
}

impl fmt::Debug for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{:?}", self.node.short(), self.addresses)
    }
}

/// Whether a datagram could be sent there at all: a port, and a unicast host.
#[must_use]
pub fn is_dialable(address: &SocketAddr) -> bool {
    address.port() != 0
        && match address.ip() {
            IpAddr::V4(ip) => !ip.is_unspecified() && !ip.is_multicast() && !ip.is_broadcast(),
            IpAddr::V6(ip) => !ip.is_unspecified() && !ip.is_multicast(),
        }
}

pub(crate) fn socket_to_proto(address: &SocketAddr) -> proto::SocketAddress {
    let ip = match address.ip() {
        IpAddr::V4(ip) => Bytes::copy_from_slice(&ip.octets()),
        IpAddr::V6(ip) => Bytes::copy_from_slice(&ip.octets()),
    };
    proto::SocketAddress { ip, port: u32::from(address.port()) }
}

pub(crate) fn sockets_from_proto(messages: &[proto::SocketAddress]) -> Result<Vec<SocketAddr>, DecodeError> {
    limit("addresses", messages.len(), NODE_ADDRESSES_MAX)?;
    messages.iter().map(socket_from_proto).collect()
}

fn socket_from_proto(message: &proto::SocketAddress) -> Result<SocketAddr, DecodeError> {
    let port = u16::try_from(message.port)
        .map_err(|_| DecodeError::Invalid { field: "port", why: "above 65535" })?;
    let ip = if let Ok(octets) = <[u8; 4]>::try_from(&message.ip[..]) {
        IpAddr::from(octets)
    } else if let Ok(octets) = <[u8; 16]>::try_from(&message.ip[..]) {
        IpAddr::from(octets)
    } else {
        return Err(DecodeError::Invalid { field: "ip", why: "neither 4 nor 16 bytes" });
    };
    Ok(SocketAddr::new(ip, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unusable_and_repeated_addresses_are_left_out() {
        let node = NodeId::from_bytes([1; 32]);
        let parse = |text: &str| text.parse::<SocketAddr>().unwrap();
        let given = ["0.0.0.0:1", "127.0.0.1:0", "224.0.0.1:5", "127.0.0.1:7", "127.0.0.1:7", "[::1]:7"];
        let address = NodeAddress::new(node, given.map(parse)).unwrap();
        assert_eq!(address.addresses(), [parse("127.0.0.1:7"), parse("[::1]:7")]);
        assert_eq!(NodeAddress::new(node, [parse("0.0.0.0:1")]), None);
    }

    #[test]
    fn it_round_trips() {
        let address =
            NodeAddress::new(NodeId::from_bytes([2; 32]), ["[fe80::1]:4".parse().unwrap()]).unwrap();
        assert_eq!(NodeAddress::from_proto(&address.to_proto()), Ok(address));
    }
}
