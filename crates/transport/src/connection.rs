//! One authenticated QUIC connection to another node, shared by all meshes of the two.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use peerchannel_security::node_id_from_spki;
use peerchannel_wire::NodeId;
use rustls::pki_types::CertificateDer;
use thiserror::Error;
use tokio::task::AbortHandle;

use crate::config::EndpointConfig;
use crate::control::ControlStream;
use crate::reason::{CloseReason, ConnectionLost};
use crate::registry::{self, Registry};
use crate::stats::{ConnectionStats, Meter};

static NEXT_ID: AtomicU64 = AtomicU64::new(1);

/// A QUIC connection to a node that proved its id, as we proved ours.
///
/// Handles are cheap to clone. The connection closes with the last of its handles, control
/// streams and links; [`close`](Self::close) closes it at once.
#[derive(Debug, Clone)]
pub struct Connection {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    id: u64,
    peer: NodeId,
    quic: quinn::Connection,
    config: Arc<EndpointConfig>,
    registry: Arc<Registry>,
    // Why we closed it, for `closed()`.
    closed_locally: Arc<OnceLock<CloseReason>>,
    serving: AbortHandle,
}

/// The TLS exporter gave nothing: the connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("no keying material can be exported")]
pub struct ExportError;

impl Connection {
    /// `None` if the peer showed no valid key, which our TLS configuration rules out.
    pub(crate) fn new(quic: quinn::Connection, config: Arc<EndpointConfig>, above: &Meter) -> Option<Self> {
        let identity = quic.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
        let peer = node_id_from_spki(identity.first()?)?;
        let registry = Arc::new(Registry::new(quic.clone(), config.clone(), Meter::below(above)));
        // One task per connection; ends with the connection, which `Drop` closes.
        let serving = tokio::spawn(registry::serve(registry.clone())).abort_handle();
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let closed_locally = Arc::default();
        Some(Self { inner: Arc::new(Inner { id, peer, quic, config, registry, closed_locally, serving }) })
    }

    /// A number no other connection of this process has or had.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.inner.id
    }

    /// The node at the other end, as TLS proved it.
    #[must_use]
    pub fn peer(&self) -> NodeId {
        self.inner.peer
    }

    /// Where the peer's packets come from now. Changes when the peer moves (QUIC migration).
    /// An IPv4 address is given as such, also on a dual-stack socket.
    #[must_use]
    pub fn remote_address(&self) -> SocketAddr {
        let address = self.inner.quic.remote_address();
        SocketAddr::new(address.ip().to_canonical(), address.port())
    }

    /// The address of this machine that packets of this connection leave from. `None` where
    /// this side dialed: then the system chooses it for each packet, and the connection moves
    /// with the machine (QUIC migration). The other side's cannot; once that address is gone,
    /// nothing more gets through.
    #[must_use]
    pub fn local_ip(&self) -> Option<IpAddr> {
        if self.opened_by_us() { None } else { self.inner.quic.local_ip().map(|ip| ip.to_canonical()) }
    }

    /// Whether this side dialed.
    #[must_use]
    pub fn opened_by_us(&self) -> bool {
        self.inner.quic.side().is_client()
    }

    /// The smoothed round-trip time.
    #[must_use]
    pub fn rtt(&self) -> Duration {
        self.inner.quic.rtt()
    }

    /// 32 bytes that only the two ends of this connection know (RFC 8446 section 7.5); equal
    /// on both ends for the same label and context.
    ///
    /// # Errors
    /// [`ExportError`] if the TLS session is gone.
    pub fn export_keying_material(&self, label: &[u8], context: &[u8]) -> Result<[u8; 32], ExportError> {
        let mut material = [0; 32];
        self.inner.quic.export_keying_material(&mut material, label, context).map_err(|_| ExportError)?;
        Ok(material)
    }

    /// Opens a control stream: a mesh wants to use this connection. The peer learns of it
    /// with the first bytes sent. Waits while the peer's limit of control streams (32) is
    /// reached. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`ConnectionLost`].
    pub async fn open_control(&self) -> Result<ControlStream, ConnectionLost> {
        let (send, recv) = self.inner.quic.open_bi().await.map_err(|error| self.lost(&error))?;
        Ok(ControlStream::new(self.clone(), send, recv))
    }

    /// The next control stream the peer opened. Dropping the future loses nothing.
    ///
    /// # Errors
    /// [`ConnectionLost`].
    pub async fn accept_control(&self) -> Result<ControlStream, ConnectionLost> {
        let (send, recv) = self.inner.quic.accept_bi().await.map_err(|error| self.lost(&error))?;
        Ok(ControlStream::new(self.clone(), send, recv))
    }

    /// Closes the connection now, with everything on it. The first reason counts.
    pub fn close(&self, reason: CloseReason) {
        let _ = self.inner.closed_locally.set(reason);
        self.inner.quic.close(reason.varint(), b"");
    }

    /// Waits until the connection is over. Dropping the future loses nothing.
    pub async fn closed(&self) -> ConnectionLost {
        let error = self.inner.quic.closed().await;
        self.lost(&error)
    }

    /// Why the connection is over, or `None` if it is not.
    #[must_use]
    pub fn close_reason(&self) -> Option<ConnectionLost> {
        self.inner.quic.close_reason().map(|error| self.lost(&error))
    }

    /// Whether the connection is over.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.inner.quic.close_reason().is_some()
    }

    /// The connection in numbers.
    #[must_use]
    pub fn stats(&self) -> ConnectionStats {
        let stats = self.inner.quic.stats();
        ConnectionStats {
            traffic: self.inner.registry.meter.read(),
            rtt: stats.path.rtt,
            udp_bytes_sent: stats.udp_tx.bytes,
            udp_bytes_received: stats.udp_rx.bytes,
            packets_sent: stats.path.sent_packets,
            packets_lost: stats.path.lost_packets,
            congestion_window: stats.path.cwnd,
            path_mtu: stats.path.current_mtu,
        }
    }

    pub(crate) fn quic(&self) -> &quinn::Connection {
        &self.inner.quic
    }

    pub(crate) fn config(&self) -> &Arc<EndpointConfig> {
        &self.inner.config
    }

    pub(crate) fn registry(&self) -> &Arc<Registry> {
        &self.inner.registry
    }

    pub(crate) fn lost(&self, error: &quinn::ConnectionError) -> ConnectionLost {
        self.losses().lost(error)
    }

    pub(crate) fn losses(&self) -> Losses {
        Losses(self.inner.closed_locally.clone())
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let _ = self.closed_locally.set(CloseReason::Unused);
        self.quic.close(CloseReason::Unused.varint(), b"");
        self.serving.abort();
    }
}

/// Turns QUIC's errors into ours without keeping the connection open.
#[derive(Debug, Clone)]
pub(crate) struct Losses(Arc<OnceLock<CloseReason>>);

impl Losses {
    pub(crate) fn lost(&self, error: &quinn::ConnectionError) -> ConnectionLost {
        ConnectionLost::new(error, self.0.get().copied())
    }
}
