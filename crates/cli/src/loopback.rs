//! Whether this machine can talk to itself: what the demo needs, and the first of the doctor's
//! checks.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

/// How long a packet to ourselves may take.
pub(crate) const ECHO_TIME: Duration = Duration::from_millis(500);

/// A packet over 127.0.0.1.
pub(crate) fn echo_v4() -> io::Result<()> {
    echo(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
}

/// A packet over ::1.
pub(crate) fn echo_v6() -> io::Result<()> {
    echo(SocketAddr::from((Ipv6Addr::LOCALHOST, 0)))
}

/// Why a packet to 127.0.0.1 may not have come, and what to do.
pub(crate) fn advice() -> &'static str {
    let up = if_addrs::get_if_addrs().map(|all| all.iter().any(if_addrs::Interface::is_loopback));
    match up {
        Ok(false) if cfg!(target_os = "linux") => "the loopback interface is down: `ip link set lo up`",
        Ok(false) => "the loopback interface is down: bring it up",
        _ => "allow UDP in the local firewall",
    }
}

/// A packet from a socket to itself.
fn echo(address: SocketAddr) -> io::Result<()> {
    let socket = UdpSocket::bind(address)?;
    socket.set_read_timeout(Some(ECHO_TIME))?;
    socket.send_to(b"peerchannel", socket.local_addr()?)?;
    let mut buffer = [0; 32];
    let (length, _) = socket.recv_from(&mut buffer)?;
    if &buffer[..length] == b"peerchannel" { Ok(()) } else { Err(io::Error::other("another packet came")) }
}
