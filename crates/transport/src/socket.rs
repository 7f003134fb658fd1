//! The UDP socket: one port for everything, IPv4 and IPv6.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use socket2::{Domain, Protocol, Socket, Type};

/// Binds `address`. `[::]` means both families; where the machine has no IPv6 it becomes
/// `0.0.0.0` with the same port.
pub(crate) fn bind(address: SocketAddr, buffer: usize) -> io::Result<UdpSocket> {
    match bind_one(address, buffer) {
        Err(error) if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) && lacks_ipv6(&error) => {
            bind_one(SocketAddr::from((Ipv4Addr::UNSPECIFIED, address.port())), buffer)
        }
        bound => bound,
    }
}

fn bind_one(address: SocketAddr, buffer: usize) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, Some(Protocol::UDP))?;
    if address.is_ipv6() {
        // Off by default on Windows and some BSDs. Where it cannot be changed, IPv6 alone.
        let _ = socket.set_only_v6(false);
    }
    // As much as the system grants; less costs throughput, not correctness.
    let _ = socket.set_recv_buffer_size(buffer);
    let _ = socket.set_send_buffer_size(buffer);
    socket.bind(&address.into())?;
    Ok(socket.into())
}

/// Another user of the port is an error; a missing address family is a reason to fall back.
fn lacks_ipv6(error: &io::Error) -> bool {
    !matches!(error.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::PermissionDenied)
}
