//! One UDP port: dials and accepts connections, many meshes over each.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use peerchannel_security::{Identity, Tls};
use peerchannel_wire::NodeId;
use quinn::{AsyncUdpSocket, ConnectionError, Runtime as _, TokioRuntime, TransportErrorCode};
use thiserror::Error;
use tokio::runtime::Handle;
use tokio::sync::{Mutex, mpsc};
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::accept;
use crate::config::{EndpointConfig, InvalidConfig};
use crate::connection::Connection;
use crate::datagram_socket::{DatagramSocket, Given, Released};
use crate::gate::{Gate, GatedRuntime, GatedSocket};
use crate::reason::{CloseReason, ConnectionLost};
use crate::stats::{EndpointCounters, EndpointStats, Meter};
use crate::{quic, socket};

/// QUIC wants a server name; ids are proved by keys, and the name is not sent.
const SERVER_NAME: &str = "node.peerchannel.invalid";

/// TLS alert 120, `no_application_protocol` (RFC 7301 section 3.2).
const NO_APPLICATION_PROTOCOL: u8 = 120;

/// A socket for QUIC, and the system's own once more where there is one.
type Opened = (Arc<dyn AsyncUdpSocket>, Option<UdpSocket>);

/// A node's place on the network: one UDP port, one identity, any number of connections.
///
/// Handles are cheap to clone. When the last one is dropped, no more connections are
/// accepted; connections live on with their own handles. [`close`](Self::close) ends them all.
#[derive(Debug, Clone)]
pub struct Endpoint {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<EndpointShared>,
    local_address: SocketAddr,
    accepted: Mutex<mpsc::Receiver<Connection>>,
    accepting: AbortHandle,
}

/// What the endpoint and its accepting task share.
#[derive(Debug)]
pub(crate) struct EndpointShared {
    pub(crate) quic: quinn::Endpoint,
    gate: Arc<Gate>,
    pub(crate) config: Arc<EndpointConfig>,
    pub(crate) meter: Meter,
    pub(crate) counters: EndpointCounters,
    tls: Tls,
    closing: AtomicBool,
}

/// An endpoint that could not be bound. Nothing is left behind.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum BindError {
    /// Another program, or another node of this one, has the port.
    #[error(
        "{address} is in use by another program: stop it, or listen on another port (0 picks a free one)"
    )]
    InUse {
        /// The address asked for.
        address: SocketAddr,
    },
    /// The address is not one of this machine's.
    #[error("{address} is not an address of this machine: listen on one it has, or on [::] for all")]
    NotLocal {
        /// The address asked for.
        address: SocketAddr,
    },
    /// The system refused the socket for another reason.
    #[error("cannot listen on {address}")]
    Socket {
        /// The address asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A setting cannot work.
    #[error("transport configuration: {0}")]
    Config(#[from] InvalidConfig),
    /// The TLS provider cannot do what this protocol needs: a mistake of the build.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
    /// Called outside of a tokio runtime.
    #[error("an endpoint can only be bound within a tokio runtime")]
    NoRuntime,
}

/// A connection that could not be opened.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// Nobody answered in time: the node is down, or the address is wrong or unreachable.
    #[error("{address} does not answer")]
    NoAnswer {
        /// The address dialed.
        address: SocketAddr,
    },
    /// Another node than expected answered.
    #[error("{address} is node {}, not {}", .actual.short(), .expected.short())]
    WrongNode {
        /// The address dialed.
        address: SocketAddr,
        /// Whom we wanted.
        expected: NodeId,
        /// Who it says it is.
        actual: NodeId,
    },
    /// Something answered that does not speak this protocol or version.
    #[error("{address} does not speak this version of the protocol")]
    ProtocolMismatch {
        /// The address dialed.
        address: SocketAddr,
    },
    /// The other side turned us away for now.
    #[error("{address} takes no more connections at the moment")]
    Busy {
        /// The address dialed.
        address: SocketAddr,
    },
    /// The address cannot be dialed: port 0, or IPv6 from an IPv4 socket.
    #[error("{address} cannot be dialed from here")]
    InvalidAddress {
        /// The address.
        address: SocketAddr,
    },
    /// The handshake failed otherwise.
    #[error("handshake with {address} failed: {lost}")]
    Handshake {
        /// The address dialed.
        address: SocketAddr,
        /// How.
        lost: ConnectionLost,
    },
    /// This endpoint is closed.
    #[error("the endpoint is closed")]
    EndpointClosed,
}

impl Endpoint {
    /// Takes a UDP port for a node.
    ///
    /// Must be called within a tokio runtime, which runs the endpoint's tasks.
    ///
    /// # Errors
    /// [`BindError`] says what to do.
    pub fn bind(identity: &Identity, config: EndpointConfig) -> Result<Self, BindError> {
        let (address, buffer) = (config.listen, config.socket_buffer);
        Self::over(identity, config, || {
            let opened = socket::bind(address, buffer).and_then(|socket| {
                let probe = socket.try_clone()?;
                Ok((TokioRuntime.wrap_udp_socket(socket)?, Some(probe)))
            });
            opened.map_err(|source| match source.kind() {
                io::ErrorKind::AddrInUse => BindError::InUse { address },
                io::ErrorKind::AddrNotAvailable => BindError::NotLocal { address },
                _ => BindError::Socket { address, source },
            })
        })
    }

    /// An endpoint over a socket of the caller's: a proxy, a tunnel, a simulated network.
    /// [`listen`](EndpointConfig::listen) and [`socket_buffer`](EndpointConfig::socket_buffer)
    /// have no meaning then; everything else is as with [`bind`](Self::bind).
    ///
    /// The endpoint reads tokio's clock alone, so that `tokio::time::pause` rules it.
    ///
    /// # Errors
    /// [`BindError::Socket`] if the socket does not know its address, and those of `bind`.
    pub fn with_socket(
        identity: &Identity,
        config: EndpointConfig,
        socket: Arc<dyn DatagramSocket>,
    ) -> Result<Self, BindError> {
        let address = config.listen;
        Self::over(identity, config, || match Given::new(socket) {
            Ok(given) => Ok((Arc::new(given), None)),
            Err(source) => Err(BindError::Socket { address, source }),
        })
    }

    fn over(
        identity: &Identity,
        config: EndpointConfig,
        open: impl FnOnce() -> Result<Opened, BindError>,
    ) -> Result<Self, BindError> {
        config.validate()?;
        Handle::try_current().map_err(|_| BindError::NoRuntime)?;
        let tls = Tls::new(identity, &config.alpn).map_err(|error| BindError::Tls(error.to_string()))?;
        let server = quic::server_config(&tls, &config).map_err(|error| BindError::Tls(error.to_string()))?;
        let (socket, probe) = open()?;
        let of_socket = |source| BindError::Socket { address: config.listen, source };
        let local_address = socket.local_addr().map_err(of_socket)?;
        let settings = quic::endpoint_config(identity);
        let gate = Gate::new(probe);
        let socket = Arc::new(GatedSocket::new(socket, gate.clone()));
        let runtime = Arc::new(GatedRuntime::new(gate.clone()));
        let quic = quinn::Endpoint::new_with_abstract_socket(settings, Some(server), socket, runtime)
            .map_err(of_socket)?;
        let shared = Arc::new(EndpointShared {
            quic,
            gate,
            config: Arc::new(config),
            meter: Meter::root(),
            counters: EndpointCounters::default(),
            tls,
            closing: AtomicBool::new(false),
        });
        // One place: the others that wait still count as handshakes.
        let (ready, accepted) = mpsc::channel(1);
        let accepting = tokio::spawn(accept::run(shared.clone(), ready)).abort_handle();
        let accepted = Mutex::new(accepted);
        Ok(Self { inner: Arc::new(Inner { shared, local_address, accepted, accepting }) })
    }

    /// The address the socket is bound to, its port filled in. The IP address may be
    /// unspecified (`[::]`), which stands for all of this machine's.
    #[must_use]
    pub fn local_address(&self) -> SocketAddr {
        self.inner.local_address
    }

    /// Dials a node. With `expected`, any other node is refused before it learns our id.
    /// Takes at most [`handshake_timeout`](EndpointConfig::handshake_timeout).
    /// Dropping the future gives the attempt up.
    ///
    /// # Errors
    /// [`ConnectError`].
    pub async fn connect(
        &self,
        address: SocketAddr,
        expected: Option<NodeId>,
    ) -> Result<Connection, ConnectError> {
        let shared = &self.inner.shared;
        let lost = |error: &ConnectionError| ConnectionLost::new(error, None);
        let setup = |why: String| ConnectError::Handshake { address, lost: ConnectionLost::Transport(why) };
        let (config, presented) = quic::client_config(&shared.tls, &shared.config, expected)
            .map_err(|error| setup(error.to_string()))?;
        let connecting =
            shared.quic.connect_with(config, address, SERVER_NAME).map_err(|error| match error {
                quinn::ConnectError::EndpointStopping => ConnectError::EndpointClosed,
                quinn::ConnectError::InvalidRemoteAddress(_) => ConnectError::InvalidAddress { address },
                error => setup(error.to_string()),
            })?;
        let connected = timeout(shared.config.handshake_timeout, connecting).await;
        let quic = match connected {
            Err(_) | Ok(Err(ConnectionError::TimedOut)) => return Err(ConnectError::NoAnswer { address }),
            Ok(Err(error)) => {
                // Before anything else: a refused key also shows as a broken handshake.
                return Err(match (expected, presented.get()) {
                    (Some(expected), Some(actual)) if expected != actual => {
                        ConnectError::WrongNode { address, expected, actual }
                    }
                    _ if speaks_another_protocol(&error) => ConnectError::ProtocolMismatch { address },
                    _ if is_busy(&error) => ConnectError::Busy { address },
                    _ if matches!(error, ConnectionError::LocallyClosed) => ConnectError::EndpointClosed,
                    _ => ConnectError::Handshake { address, lost: lost(&error) },
                });
            }
            Ok(Ok(quic)) => quic,
        };
        shared.counters.dialed.add(1);
        Connection::new(quic, shared.config.clone(), &shared.meter)
            .ok_or_else(|| setup("the peer showed no node id".to_owned()))
    }

    /// The next connection another node opened and proved its id on. `None` once the endpoint
    /// is closed. Handshakes go on meanwhile, so a slow one delays nobody; connections that
    /// wait to be accepted count as [`handshakes_max`](EndpointConfig::handshakes_max) do.
    /// Dropping the future loses nothing.
    pub async fn accept(&self) -> Option<Connection> {
        let mut accepted = self.inner.accepted.lock().await;
        loop {
            let connection = accepted.recv().await?;
            if !self.inner.shared.closing.load(Ordering::Acquire) {
                return Some(connection);
            }
        }
    }

    /// The endpoint in numbers.
    #[must_use]
    pub fn stats(&self) -> EndpointStats {
        let shared = &self.inner.shared;
        EndpointStats {
            traffic: shared.meter.read(),
            connections_open: shared.quic.open_connections() as u64,
            connections_dialed: shared.counters.dialed.get(),
            connections_accepted: shared.counters.accepted.get(),
            handshakes_failed: shared.counters.failed.get(),
            handshakes_refused: shared.counters.refused.get(),
            handshakes_retried: shared.counters.retried.get(),
        }
    }

    /// Closes every connection with [`CloseReason::Shutdown`], accepts no more, and waits
    /// until the peers were told, at most [`close_timeout`](EndpointConfig::close_timeout).
    /// Links that should say goodbye must be over before. The port is free once the handles of
    /// its connections are dropped too, even while a dial that nobody answers is given up.
    ///
    /// Dropping the future stops the wait only; the port is then free with the last handle.
    pub async fn close(&self) {
        let shared = &self.inner.shared;
        shared.closing.store(true, Ordering::Release);
        shared.quic.close(CloseReason::Shutdown.varint(), b"");
        let _ = timeout(shared.config.close_timeout, shared.quic.wait_idle()).await;
        self.release_port();
    }

    /// Takes the socket from QUIC, which would keep it until the last connection is drained.
    /// Twice, since it listens on the one before for a while.
    fn release_port(&self) {
        self.inner.shared.gate.end();
        for _ in 0..2 {
            let released = Released { address: self.inner.local_address };
            // Cannot fail: nothing but its address is asked of it.
            let _ = self.inner.shared.quic.rebind_abstract(Arc::new(released));
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.accepting.abort();
        // Connections may outlive the endpoint; they must not go on accepting for it.
        self.shared.quic.set_server_config(None);
    }
}

fn speaks_another_protocol(error: &ConnectionError) -> bool {
    let no_protocol = TransportErrorCode::crypto(NO_APPLICATION_PROTOCOL);
    match error {
        ConnectionError::VersionMismatch => true,
        ConnectionError::ConnectionClosed(close) => close.error_code == no_protocol,
        ConnectionError::TransportError(error) => error.code == no_protocol,
        _ => false,
    }
}

fn is_busy(error: &ConnectionError) -> bool {
    matches!(error, ConnectionError::ConnectionClosed(close)
        if close.error_code == TransportErrorCode::CONNECTION_REFUSED)
}
