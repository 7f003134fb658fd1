//! The checks of this machine. None of them sends anything beyond it, but for look-ups of
//! host names that were given.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use peerchannel::resolver::{ResolverUri, parse_resolver_uri};
use socket2::{Domain, Protocol, Socket, Type};

use super::Finding;
use crate::loopback::{self, ECHO_TIME};

/// What the transport asks the system for (its `socket_buffer`).
const BUFFER_WANTED: usize = 2 << 20;

/// Less than this loses packets of a burst even on a local network (a guess).
const BUFFER_MIN: usize = 400 << 10;

/// The group of mDNS (RFC 6762 section 3).
const MDNS_GROUP: Ipv4Addr = Ipv4Addr::new(224, 0, 0, 251);

/// 2025-01-01: no machine that runs this program is older.
const CLOCK_MIN: Duration = Duration::from_secs(1_735_689_600);

/// 2100-01-01: a clock beyond that makes epochs that no later one exceeds.
const CLOCK_MAX: Duration = Duration::from_secs(4_102_444_800);

/// Whether UDP works, and the port that was asked for is free.
pub(super) fn sockets(listen: Option<SocketAddr>) -> Finding {
    if let Some(listen) = listen
        && let Err(error) = UdpSocket::bind(listen)
    {
        return Finding::Fail(format!(
            "cannot listen on {listen}: {error}; stop the program that uses it, or choose another --listen"
        ));
    }
    match (loopback::echo_v4(), loopback::echo_v6()) {
        (Ok(()), Ok(())) => Finding::Ok("UDP works on 127.0.0.1 and ::1".into()),
        (Ok(()), Err(error)) => Finding::Ok(format!("UDP works on 127.0.0.1; no IPv6 here ({error})")),
        (Err(error), Ok(())) => {
            Finding::Warn(format!("UDP works on ::1 only, 127.0.0.1 fails ({error}): {}", loopback::advice()))
        }
        (Err(error), Err(_)) => Finding::Fail(format!(
            "UDP does not work on this machine's own addresses ({error}): {}",
            loopback::advice()
        )),
    }
}

/// How much the system buffers for a UDP socket.
pub(super) fn buffers() -> Finding {
    let granted = || -> io::Result<usize> {
        let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
        socket.set_recv_buffer_size(BUFFER_WANTED)?;
        socket.recv_buffer_size()
    };
    match granted() {
        Err(error) => Finding::Warn(format!("cannot tell how much is buffered for UDP: {error}")),
        Ok(granted) if granted >= BUFFER_WANTED => {
            Finding::Ok(format!("{} KiB are buffered for UDP", granted >> 10))
        }
        Ok(granted) => {
            let advice = if cfg!(target_os = "linux") {
                "sysctl -w net.core.rmem_max=2097152 net.core.wmem_max=2097152"
            } else {
                "raise the system's limit for UDP socket buffers"
            };
            let text = format!(
                "only {} KiB are buffered for UDP, {} are asked for: bursts may lose packets; {advice}",
                granted >> 10,
                BUFFER_WANTED >> 10
            );
            if granted >= BUFFER_MIN { Finding::Ok(text) } else { Finding::Warn(text) }
        }
    }
}

/// The addresses others could dial.
pub(super) fn interfaces() -> Finding {
    match if_addrs::get_if_addrs() {
        Err(error) => {
            Finding::Warn(format!("cannot list the interfaces: {error}; use --advertise ADDR:PORT"))
        }
        Ok(interfaces) => {
            let reachable: Vec<String> = interfaces
                .iter()
                .filter(|interface| !interface.is_loopback())
                .map(|interface| format!("{} {}", interface.name, interface.ip()))
                .collect();
            if reachable.is_empty() {
                Finding::Warn("no interface but loopback: only nodes on this machine can be reached".into())
            } else {
                Finding::Ok(reachable.join(", "))
            }
        }
    }
}

/// Whether multicast leaves and comes back: what finding each other on the LAN needs.
pub(super) fn multicast() -> Finding {
    let loops = || -> io::Result<()> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
        socket.join_multicast_v4(&MDNS_GROUP, &Ipv4Addr::UNSPECIFIED)?;
        socket.set_multicast_loop_v4(true)?;
        // It stays on this machine.
        socket.set_multicast_ttl_v4(0)?;
        socket.set_read_timeout(Some(ECHO_TIME))?;
        let port = socket.local_addr()?.port();
        socket.send_to(b"peerchannel", (MDNS_GROUP, port))?;
        socket.recv_from(&mut [0; 32]).map(drop)
    };
    match loops() {
        Ok(()) => Finding::Ok("multicast works on this machine: nodes of the LAN can find each other".into()),
        Err(error) => Finding::Warn(format!(
            "multicast does not work ({error}): --resolver lan finds nobody; use static:ADDR or service:ADDR, \
             or allow UDP port 5353"
        )),
    }
}

/// Whether the clock can be right: epochs come from it.
pub(super) fn clock() -> Finding {
    let Ok(now) = SystemTime::now().duration_since(UNIX_EPOCH) else {
        return Finding::Fail("the clock is before 1970: set it, for example by NTP".into());
    };
    if now < CLOCK_MIN {
        Finding::Fail("the clock is before 2025: set it, or others refuse this node as an old one".into())
    } else if now > CLOCK_MAX {
        Finding::Fail("the clock is after 2100: set it before joining, epochs never go back".into())
    } else {
        Finding::Ok("the clock is plausible; members need not agree on the time".into())
    }
}

/// Whether a file with a secret can be read by its owner, and by nobody else.
pub(super) fn secret(path: &Path) -> Finding {
    let facts = match std::fs::metadata(path) {
        Ok(facts) => facts,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Finding::Warn(format!("{} does not exist yet", path.display()));
        }
        Err(error) => return Finding::Fail(format!("{}: {error}", path.display())),
    };
    if let Err(error) = std::fs::File::open(path) {
        return Finding::Fail(format!("{} cannot be read: {error}", path.display()));
    }
    permissions(path, &facts)
}

#[cfg(unix)]
fn permissions(path: &Path, facts: &std::fs::Metadata) -> Finding {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = facts.permissions().mode() & 0o777;
    if mode & 0o077 == 0 {
        return Finding::Ok(format!("{} is readable by its owner only", path.display()));
    }
    Finding::Fail(format!(
        "other users can read {path} (mode {mode:03o}): chmod 600 {path}",
        path = path.display()
    ))
}

#[cfg(not(unix))]
fn permissions(path: &Path, _facts: &std::fs::Metadata) -> Finding {
    Finding::Ok(format!("{} can be read; who else may read it is not checked on this system", path.display()))
}

/// Whether a resolver is written well, and its host names are known.
pub(super) async fn resolver(uri: &str) -> Finding {
    let hosts: Vec<String> = match parse_resolver_uri(uri) {
        Err(error) => return Finding::Fail(error.to_string()),
        Ok(ResolverUri::Static(hosts)) => hosts.iter().map(ToString::to_string).collect(),
        Ok(ResolverUri::Service(addresses)) => {
            if addresses.iter().any(|address| address.node.is_none()) {
                return Finding::Warn(format!(
                    "{uri}: without NODEKEY@ anyone can pretend to be the directory; `resolver serve` prints its key"
                ));
            }
            addresses.iter().map(|address| address.host.to_string()).collect()
        }
        Ok(_) => return Finding::Ok(format!("{} is well-formed", shortened(uri))),
    };
    let mut unknown = Vec::new();
    for host in &hosts {
        if let Err(error) = tokio::net::lookup_host(host).await {
            unknown.push(format!("{host} ({error})"));
        }
    }
    if unknown.is_empty() {
        Finding::Ok(format!(
            "{} is well-formed and its hosts are known; UDP tells no more without joining",
            shortened(uri)
        ))
    } else {
        Finding::Fail(format!("no address for {}: check the name and the DNS", unknown.join(", ")))
    }
}

/// Tickets are long.
fn shortened(uri: &str) -> String {
    const SHOWN: usize = 60;
    match uri.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}...", &uri[..end]),
        None => uri.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_in_use_is_a_failure_that_says_what_to_do() {
        let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
        let finding = sockets(taken.local_addr().ok());
        assert!(matches!(finding, Finding::Fail(text) if text.contains("--listen")));
    }

    #[cfg(unix)]
    #[test]
    fn a_secret_that_others_can_read_is_a_failure() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        assert!(matches!(secret(&path), Finding::Warn(_)));
        std::fs::write(&path, "x").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(secret(&path), Finding::Fail(text) if text.contains("chmod 600")));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(secret(&path), Finding::Ok(_)));
    }

    #[tokio::test]
    async fn resolvers_are_read_and_their_hosts_looked_up() {
        assert!(matches!(resolver("lan").await, Finding::Ok(_)));
        assert!(matches!(resolver("static:127.0.0.1:4000").await, Finding::Ok(_)));
        assert!(matches!(resolver("static:no-such-host.invalid:4000").await, Finding::Fail(_)));
        assert!(matches!(resolver("pigeon").await, Finding::Fail(_)));
        assert!(matches!(resolver("service:127.0.0.1:4000").await, Finding::Warn(_)));
    }
}
