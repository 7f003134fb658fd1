//! What an announcement says: a registration as a DNS-SD instance, and back.
//!
//! `<instance>._peerchannel._udp.local.` with SRV, A and AAAA records for the addresses that
//! share the first one's port, and a TXT record: `v=1`, `m=` tag of the mesh, `n=` node id,
//! `a=` further addresses with other ports.

use std::net::{IpAddr, SocketAddr, SocketAddrV6};

use mdns_sd::{ResolvedService, ScopedIp, ServiceInfo};
use peerchannel_wire::limits::NODE_ADDRESSES_MAX;
use peerchannel_wire::{MeshKey, NodeId, is_dialable};

use crate::lan::SERVICE_TYPE;
use crate::resolver::{Found, Registration, ResolverError};

const VERSION: &str = "1";

/// Longest `a=` value: one TXT string has 255 bytes (RFC 6763 section 6.1), key included.
const ADDRESSES_TEXT_MAX: usize = 250;

/// A mesh as the local network sees it: derived from the mesh key, so that an observer can
/// match neither a name nor what a directory elsewhere has stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Tag([u8; 16]);

impl Tag {
    pub(super) fn of(mesh: MeshKey) -> Self {
        let derived = blake3::derive_key("peerchannel/1 lan tag", mesh.as_bytes());
        Self(std::array::from_fn(|i| derived[i]))
    }

    fn to_text(self) -> String {
        data_encoding::HEXLOWER.encode(&self.0)
    }

    fn parse(text: &str) -> Option<Self> {
        let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()?;
        Some(Self(bytes.try_into().ok()?))
    }
}

/// The announcement of a registration.
pub(super) fn service_of(registration: &Registration) -> Result<ServiceInfo, ResolverError> {
    let mut usable: Vec<SocketAddr> = registration.addresses.iter().copied().filter(is_dialable).collect();
    usable.truncate(NODE_ADDRESSES_MAX);
    let Some(port) = usable.first().map(SocketAddr::port) else {
        return Err(ResolverError::BadRequest { reason: "no address can be dialed".to_owned() });
    };
    let (same, other): (Vec<_>, Vec<_>) = usable.into_iter().partition(|a| a.port() == port);
    let ips: Vec<IpAddr> = same.iter().map(SocketAddr::ip).collect();
    let mut properties = vec![
        ("v", VERSION.to_owned()),
        ("m", Tag::of(registration.mesh).to_text()),
        ("n", registration.node.to_string()),
    ];
    let further = further_addresses(&other);
    if !further.is_empty() {
        properties.push(("a", further));
    }
    let instance = instance_of(registration);
    let host = format!("{instance}.local.");
    let mut service =
        ServiceInfo::new(SERVICE_TYPE, &instance, &host, ips.as_slice(), port, properties.as_slice())
            .map_err(|error| ResolverError::BadRequest { reason: format!("mDNS: {error}") })?;
    // The name is a hash over key and mesh: nobody else has it, so nobody need be asked.
    service.set_requires_probe(false);
    Ok(service)
}

/// A name of its own for each node in each mesh, from which neither can be told.
fn instance_of(registration: &Registration) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("peerchannel/1 lan instance");
    hasher.update(registration.mesh.as_bytes()).update(registration.node.as_bytes());
    data_encoding::HEXLOWER.encode(&hasher.finalize().as_bytes()[..10])
}

fn further_addresses(addresses: &[SocketAddr]) -> String {
    let mut text = String::new();
    for address in addresses {
        let more = address.to_string();
        if text.len() + 1 + more.len() > ADDRESSES_TEXT_MAX {
            break;
        }
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(&more);
    }
    text
}

/// What somebody on the network announced, if it makes sense.
pub(super) fn parse(service: &ResolvedService) -> Option<(Tag, Found)> {
    if service.get_property_val_str("v") != Some(VERSION) {
        return None;
    }
    let tag = Tag::parse(service.get_property_val_str("m")?)?;
    let node: NodeId = service.get_property_val_str("n")?.parse().ok()?;
    let mut addresses: Vec<SocketAddr> =
        service.addresses.iter().map(|ip| socket_of(ip, service.port)).filter(is_dialable).collect();
    // The set has no order: loopback first (the shortest way, and only announced on this
    // machine), link-local last (it needs a scope), the rest by address.
    addresses.sort_by_key(|a| (rank(&a.ip()), *a));
    let further = service.get_property_val_str("a").unwrap_or_default().split(',');
    for address in further.filter_map(|text| text.parse::<SocketAddr>().ok()).filter(is_dialable) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    addresses.truncate(NODE_ADDRESSES_MAX);
    (!addresses.is_empty()).then_some((tag, Found { node: Some(node), addresses }))
}

/// An address of another host; a link-local one gets the interface it was heard on.
fn socket_of(ip: &ScopedIp, port: u16) -> SocketAddr {
    match ip {
        ScopedIp::V6(v6) if v6.addr().is_unicast_link_local() => {
            SocketAddrV6::new(*v6.addr(), port, 0, v6.scope_id().index).into()
        }
        other => SocketAddr::new(other.to_ip_addr(), port),
    }
}

const fn rank(ip: &IpAddr) -> u8 {
    match ip {
        ip if ip.is_loopback() => 0,
        IpAddr::V4(ip) if ip.is_link_local() => 2,
        IpAddr::V6(ip) if ip.is_unicast_link_local() => 2,
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn registration(addresses: &[&str]) -> Registration {
        Registration {
            mesh: MeshKey::from_bytes([1; 32]),
            node: NodeId::from_bytes([2; 32]),
            addresses: addresses.iter().map(|a| a.parse().unwrap()).collect(),
        }
    }

    #[test]
    fn an_announcement_is_read_as_it_was_meant() {
        let registration =
            registration(&["192.0.2.7:4000", "[2001:db8::7]:4000", "198.51.100.1:9", "0.0.0.0:4"]);
        let service = service_of(&registration).unwrap().as_resolved_service();
        let (tag, found) = parse(&service).unwrap();
        assert_eq!(tag, Tag::of(registration.mesh));
        assert_eq!(found.node, Some(registration.node));
        assert_eq!(found.addresses, registration.addresses[..3]);
    }

    #[test]
    fn neither_the_mesh_key_nor_the_node_is_in_the_name() {
        let service = service_of(&registration(&["192.0.2.7:4000"])).unwrap();
        assert!(!service.get_fullname().contains("0202"), "{}", service.get_fullname());
        let key = data_encoding::HEXLOWER.encode(&[1; 32]);
        assert_ne!(service.get_property_val_str("m"), Some(&key[..32]));
    }

    #[test]
    fn nothing_is_announced_without_a_usable_address() {
        let error = service_of(&registration(&["0.0.0.0:4000"])).unwrap_err();
        assert!(matches!(error, ResolverError::BadRequest { .. }));
    }

    #[test]
    fn what_makes_no_sense_is_ignored() {
        let node = "02".repeat(32);
        let tag = "ab".repeat(16);
        let check = |properties: &[(&str, &str)], port: u16, good: bool| {
            let service =
                ServiceInfo::new(SERVICE_TYPE, "x", "x.local.", "192.0.2.7", port, properties).unwrap();
            assert_eq!(parse(&service.as_resolved_service()).is_some(), good, "{properties:?}");
        };
        check(&[("v", "1"), ("m", &tag), ("n", &node)], 5, true);
        check(&[("v", "1"), ("m", &tag), ("n", &node), ("a", "x,,:5,0.0.0.0:1")], 5, true);
        check(&[("v", "2"), ("m", &tag), ("n", &node)], 5, false);
        check(&[("v", "1"), ("m", "abc"), ("n", &node)], 5, false);
        check(&[("v", "1"), ("m", &tag), ("n", "me")], 5, false);
        check(&[("v", "1"), ("m", &tag)], 5, false);
        check(&[("v", "1"), ("m", &tag), ("n", &node)], 0, false);
        check(&[], 5, false);
    }

    proptest! {
        #[test]
        fn whatever_is_announced_never_panics_and_what_is_kept_can_be_dialed(
            properties in prop::collection::vec(("[vmna]", "[ -~]{0,80}"), 0..6),
            further in "[0-9a-f:.,\\[\\]%]{0,120}",
            port: u16,
            ip: [u8; 4],
        ) {
            let (tag, node) = ("ab".repeat(16), "02".repeat(32));
            let mut valid = vec![("v", "1"), ("m", tag.as_str()), ("n", node.as_str()), ("a", &further)];
            let random = properties.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
            for properties in [std::mem::take(&mut valid), random] {
                let ip = IpAddr::from(ip);
                let service = ServiceInfo::new(SERVICE_TYPE, "x", "x.local.", ip, port, properties.as_slice());
                let Ok(service) = service else { continue };
                if let Some((_, found)) = parse(&service.as_resolved_service()) {
                    prop_assert!((1..=NODE_ADDRESSES_MAX).contains(&found.addresses.len()));
                    prop_assert!(found.addresses.iter().all(is_dialable));
                }
            }
        }
    }

    #[test]
    fn many_further_addresses_are_cut_to_one_string() {
        let addresses: Vec<String> = (1..=16).map(|i| format!("[2001:db8:1:2:3:4:5:{i:x}]:{i}")).collect();
        let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
        let service = service_of(&registration(&addresses)).unwrap().as_resolved_service();
        let (_, found) = parse(&service).unwrap();
        assert!((2..16).contains(&found.addresses.len()), "{}", found.addresses.len());
    }
}
