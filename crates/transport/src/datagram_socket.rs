//! A socket that the caller gives, in place of one of the system's.
//!
//! Owns the trait such a socket implements, and what makes QUIC use it. One datagram at a time:
//! segmentation offload and congestion marks are for the system's sockets. Timers stay tokio's.

use std::fmt;
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};

/// What an endpoint sends and receives datagrams through, where the system's UDP socket will
/// not do: a proxy, a tunnel, a simulated network.
///
/// It behaves as UDP does: datagrams may be lost, repeated and reordered, are never changed and
/// never fragmented. Those that are too large for the path are dropped; QUIC finds out what
/// fits, starting from 1200 bytes.
///
/// ```
/// use std::io;
/// use std::net::SocketAddr;
/// use std::task::{Context, Poll};
///
/// use peerchannel_transport::DatagramSocket;
/// use tokio::io::ReadBuf;
///
/// /// The system's socket again, which counts nothing, delays nothing.
/// #[derive(Debug)]
/// struct Plain(tokio::net::UdpSocket);
///
/// impl DatagramSocket for Plain {
///     fn local_address(&self) -> io::Result<SocketAddr> {
///         self.0.local_addr()
///     }
///
///     fn send(&self, to: SocketAddr, datagram: &[u8]) {
///         let _ = self.0.try_send_to(datagram, to); // lost if there is no room
///     }
///
///     fn poll_recv(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<(usize, SocketAddr)>> {
///         let mut buffer = ReadBuf::new(buffer);
///         let from = std::task::ready!(self.0.poll_recv_from(cx, &mut buffer))?;
///         Poll::Ready(Ok((buffer.filled().len(), from)))
///     }
/// }
/// ```
pub trait DatagramSocket: fmt::Debug + Send + Sync + 'static {
    /// Where others reach this socket. Asked once; it must not change.
    ///
    /// # Errors
    /// Whatever keeps the socket from being used; binding reports it.
    fn local_address(&self) -> io::Result<SocketAddr>;

    /// Sends one datagram, or drops it where there is no room or no way. Never waits.
    fn send(&self, to: SocketAddr, datagram: &[u8]);

    /// The next datagram: its length, what does not fit into `buffer` cut off, and where it came
    /// from. With none, `cx` is woken when there is one; only the latest waker counts.
    ///
    /// # Errors
    /// The socket is gone for good: the endpoint and all its connections end.
    fn poll_recv(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<(usize, SocketAddr)>>;
}

/// Such a socket as QUIC sees it.
#[derive(Debug)]
pub(crate) struct Given {
    socket: Arc<dyn DatagramSocket>,
    address: SocketAddr,
}

impl Given {
    pub(crate) fn new(socket: Arc<dyn DatagramSocket>) -> io::Result<Self> {
        let address = socket.local_address()?;
        Ok(Self { socket, address })
    }
}

impl AsyncUdpSocket for Given {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        // QUIC writes IPv4 as IPv6 where the local address is of IPv6.
        let to = SocketAddr::new(transmit.destination.ip().to_canonical(), transmit.destination.port());
        let segment = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
        for datagram in transmit.contents.chunks(segment) {
            self.socket.send(to, datagram);
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        buffers: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut received = 0;
        for (buffer, meta) in buffers.iter_mut().zip(meta) {
            let (len, from) = match self.socket.poll_recv(cx, buffer) {
                // A length beyond the buffer would be believed further down.
                Poll::Ready(datagram) => datagram.map(|(len, from)| (len.min(buffer.len()), from))?,
                Poll::Pending if received == 0 => return Poll::Pending,
                Poll::Pending => break,
            };
            *meta = RecvMeta { addr: self.as_quic_writes(from), len, stride: len, ecn: None, dst_ip: None };
            received += 1;
        }
        Poll::Ready(Ok(received))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }

    fn may_fragment(&self) -> bool {
        false
    }
}

impl Given {
    fn as_quic_writes(&self, from: SocketAddr) -> SocketAddr {
        match from.ip() {
            IpAddr::V4(ip) if self.address.is_ipv6() => {
                SocketAddr::new(ip.to_ipv6_mapped().into(), from.port())
            }
            _ => from,
        }
    }
}

/// No socket at all: what QUIC gets instead of one that shall be free.
#[derive(Debug)]
pub(crate) struct Released {
    /// The address of the socket it had, whose family stays what it was.
    pub(crate) address: SocketAddr,
}

impl AsyncUdpSocket for Released {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, _: &Transmit<'_>) -> io::Result<()> {
        Ok(())
    }

    fn poll_recv(
        &self,
        _: &mut Context<'_>,
        _: &mut [IoSliceMut<'_>],
        _: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        Poll::Pending
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }

    fn may_fragment(&self) -> bool {
        false
    }
}

#[derive(Debug)]
struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
