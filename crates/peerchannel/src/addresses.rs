//! Where this node can be dialed.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use peerchannel_wire::limits::NODE_ADDRESSES_MAX;

/// The addresses to tell others: those given, else the one listened at, else those of the
/// machine's interfaces with the port listened at. Loopback only where there is nothing else.
pub(crate) fn advertised(given: &[SocketAddr], listening: SocketAddr) -> Vec<SocketAddr> {
    if !given.is_empty() {
        return given.iter().copied().take(NODE_ADDRESSES_MAX).collect();
    }
    if !listening.ip().is_unspecified() {
        return vec![listening];
    }
    of_interfaces(of_machine(), listening)
}

/// Where a node can be dialed that looked around and `found` these; `None` if all that others
/// could dial `before` is gone. Loopback is no place to move to: others would dial themselves.
pub(crate) fn moved(before: &[SocketAddr], found: Vec<SocketAddr>) -> Option<Vec<SocketAddr>> {
    let anywhere = |addresses: &[SocketAddr]| addresses.iter().any(|address| !address.ip().is_loopback());
    let gone = found.is_empty() || (anywhere(before) && !anywhere(&found));
    (!gone).then_some(found)
}

/// The addresses of the machine's interfaces; none where they cannot be read.
pub(crate) fn of_machine() -> Vec<IpAddr> {
    match if_addrs::get_if_addrs() {
        Ok(interfaces) => interfaces.into_iter().map(|interface| interface.ip()).collect(),
        Err(error) => {
            tracing::warn!(%error, "cannot read the addresses of this machine");
            Vec::new()
        }
    }
}

/// Whether a node listens at an address that its machine no longer has. Where the machine's
/// addresses cannot be read, or there are none at all for a moment, nobody can tell.
pub(crate) fn is_lost(listening: SocketAddr, of_machine: &[IpAddr]) -> bool {
    !listening.ip().is_unspecified() && !of_machine.is_empty() && !of_machine.contains(&listening.ip())
}

/// Whether another machine could reach a node there. Link-local IPv6 needs a scope that means
/// nothing on another machine.
pub(crate) fn is_usable(ip: IpAddr) -> bool {
    !ip.is_loopback() && is_told(ip)
}

/// Waits until a port that this process closed can be bound again: QUIC's tasks let go of it
/// a little after the last handle is dropped.
pub(crate) async fn is_free(address: SocketAddr) {
    while UdpSocket::bind(address).is_err() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn of_interfaces(mut ips: Vec<IpAddr>, listening: SocketAddr) -> Vec<SocketAddr> {
    // A stable order: private IPv4 first, as most meshes are on one network; then global ones.
    ips.sort_by_key(|ip| (ip.is_ipv6(), *ip));
    ips.dedup();
    ips.retain(|ip| is_told(*ip) && (ip.is_ipv4() || listening.is_ipv6()));
    let (loopback, others): (Vec<_>, Vec<_>) = ips.into_iter().partition(IpAddr::is_loopback);
    let chosen = if others.is_empty() { loopback } else { others };
    chosen.into_iter().map(|ip| SocketAddr::new(ip, listening.port())).take(NODE_ADDRESSES_MAX).collect()
}

/// Whether an address means anything to others, loopback included.
fn is_told(ip: IpAddr) -> bool {
    let local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !local && !ip.is_unspecified()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(ips: &[&str], listening: &str, expected: &[&str]) {
        let ips = ips.iter().map(|ip| ip.parse().unwrap()).collect();
        let addresses = of_interfaces(ips, listening.parse().unwrap());
        let expected: Vec<SocketAddr> = expected.iter().map(|address| address.parse().unwrap()).collect();
        assert_eq!(addresses, expected);
    }

    #[test]
    fn an_address_is_lost_when_the_machine_has_others_instead() {
        let check = |listening: &str, machine: &[&str], lost: bool| {
            let machine: Vec<IpAddr> = machine.iter().map(|ip| ip.parse().unwrap()).collect();
            assert_eq!(is_lost(listening.parse().unwrap(), &machine), lost, "{listening} of {machine:?}");
        };
        check("192.0.2.7:4000", &["127.0.0.1", "192.0.2.7"], false);
        check("192.0.2.7:4000", &["127.0.0.1"], true);
        check("[2001:db8::7]:4000", &["127.0.0.1", "192.0.2.7"], true);
        check("0.0.0.0:4000", &["127.0.0.1"], false);
        check("[::]:4000", &["127.0.0.1"], false);
        check("192.0.2.7:4000", &[], false);
    }

    #[test]
    fn loopback_is_told_only_where_there_is_nothing_else() {
        check(&["127.0.0.1", "192.0.2.7"], "0.0.0.0:4000", &["192.0.2.7:4000"]);
        check(&["127.0.0.1", "169.254.1.1"], "0.0.0.0:4000", &["127.0.0.1:4000"]);
    }

    #[test]
    fn ipv6_is_told_only_where_it_is_listened_at_and_never_link_local() {
        let ips = ["fe80::1", "2001:db8::7", "192.0.2.7"];
        check(&ips, "0.0.0.0:4000", &["192.0.2.7:4000"]);
        check(&ips, "[::]:4000", &["192.0.2.7:4000", "[2001:db8::7]:4000"]);
    }

    #[test]
    fn a_node_that_others_could_dial_does_not_move_to_loopback() {
        let at = |text: &str| vec![text.parse::<SocketAddr>().unwrap()];
        let check = |before: &str, found: Vec<SocketAddr>, expected: Option<Vec<SocketAddr>>| {
            assert_eq!(moved(&at(before), found), expected);
        };
        check("192.0.2.7:4000", at("127.0.0.1:4000"), None);
        check("192.0.2.7:4000", vec![], None);
        check("192.0.2.7:4000", at("192.0.2.8:4000"), Some(at("192.0.2.8:4000")));
        check("192.0.2.7:4000", at("192.0.2.7:4000"), Some(at("192.0.2.7:4000")));
        check("127.0.0.1:4000", at("127.0.0.1:4000"), Some(at("127.0.0.1:4000")));
        check("127.0.0.1:4000", at("192.0.2.7:4000"), Some(at("192.0.2.7:4000")));
    }

    #[test]
    fn what_was_given_or_bound_wins() {
        let at = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert_eq!(advertised(&[at("203.0.113.1:9")], at("0.0.0.0:4000")), [at("203.0.113.1:9")]);
        assert_eq!(advertised(&[], at("127.0.0.1:4000")), [at("127.0.0.1:4000")]);
    }
}
