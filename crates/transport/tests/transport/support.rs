//! Pairs of endpoints, connections and links; a raw QUIC peer; a path that can be cut.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use peerchannel_security::{Identity, Tls};
use peerchannel_transport::{
    ALPN, Connection, ControlStream, Endpoint, EndpointConfig, Lane, Link, LinkEvent, LinkReader,
};
use peerchannel_wire::EncodedFrame;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// Nothing in these tests takes this long unless it hangs: five times the longest time that is
/// stated for anything, the 9.5 s after which a dead peer is noticed.
pub(crate) const HANG: Duration = Duration::from_secs(50);

/// Notes a measured time beside the stated one. Exceeding it is judged by
/// `cargo xtask test --timings`, not here: other tests share the machine.
pub(crate) fn timing(name: &str, stated: Duration, measured: Duration) {
    let Some(file) = std::env::var_os("PEERCHANNEL_TIMINGS") else { return };
    let mut file = std::fs::OpenOptions::new().append(true).create(true).open(file).unwrap();
    let measured = measured.as_secs_f64() * 1e3;
    file.write_all(format!("{name}\t{}\t{measured:.1}\n", stated.as_millis()).as_bytes()).unwrap();
}

pub(crate) async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(HANG, future).await {
        Ok(value) => value,
        Err(_) => panic!("hangs: {what}"),
    }
}

pub(crate) fn config() -> EndpointConfig {
    let mut config = EndpointConfig::default();
    config.listen = (Ipv4Addr::LOCALHOST, 0).into();
    config
}

pub(crate) struct Pair {
    pub(crate) a: Endpoint,
    pub(crate) b: Endpoint,
    pub(crate) a_identity: Identity,
    pub(crate) b_identity: Identity,
    /// Opened by `a`.
    pub(crate) at_a: Connection,
    pub(crate) at_b: Connection,
}

pub(crate) async fn pair() -> Pair {
    pair_with(config()).await
}

pub(crate) async fn pair_with(config: EndpointConfig) -> Pair {
    let (a_identity, b_identity) = (Identity::generate(), Identity::generate());
    let a = Endpoint::bind(&a_identity, config.clone()).unwrap();
    let b = Endpoint::bind(&b_identity, config).unwrap();
    let (at_a, at_b) = connect(&a, &b, b.local_address(), &b_identity).await;
    Pair { a, b, a_identity, b_identity, at_a, at_b }
}

pub(crate) async fn connect(
    a: &Endpoint,
    b: &Endpoint,
    address: SocketAddr,
    b_identity: &Identity,
) -> (Connection, Connection) {
    let dial = within("dial", a.connect(address, Some(b_identity.node_id())));
    let (at_a, at_b) = tokio::join!(dial, within("accept", b.accept()));
    (at_a.unwrap(), at_b.unwrap())
}

/// A control stream from `a` to `b` on which one frame travelled.
pub(crate) async fn control(at_a: &Connection, at_b: &Connection) -> (ControlStream, ControlStream) {
    let mut a = at_a.open_control().await.unwrap();
    a.send(framed(b"hello")).await.unwrap();
    let mut b = within("accept control", at_b.accept_control()).await.unwrap();
    assert_eq!(b.recv().await.unwrap().unwrap(), "hello");
    assert_eq!(a.number(), b.number());
    (a, b)
}

/// An established link between the two ends.
pub(crate) async fn link(at_a: &Connection, at_b: &Connection) -> ((Link, LinkReader), (Link, LinkReader)) {
    let (a, b) = control(at_a, at_b).await;
    let number = a.number();
    let (a, b) = (a.into_link(), b.into_link());
    a.0.establish(number).unwrap();
    b.0.establish(number).unwrap();
    (a, b)
}

/// A complete frame with this body.
pub(crate) fn framed(body: &[u8]) -> Bytes {
    let mut frame = BytesMut::new();
    let mut length = body.len();
    while length >= 0x80 {
        frame.put_u8(u8::try_from(length & 0x7f).unwrap() | 0x80);
        length >>= 7;
    }
    frame.put_u8(u8::try_from(length).unwrap());
    frame.extend_from_slice(body);
    frame.freeze()
}

pub(crate) fn frame(body: &[u8]) -> EncodedFrame {
    framed(body).into()
}

/// Frame number `index`, of `length` bytes at least eight.
pub(crate) fn numbered(index: u64, length: usize) -> EncodedFrame {
    let mut body = index.to_be_bytes().to_vec();
    body.resize(length.max(8), 0xa5);
    frame(&body)
}

pub(crate) fn number_of(body: &Bytes) -> u64 {
    u64::from_be_bytes(body[..8].try_into().unwrap())
}

/// The next event that is not about the queues.
pub(crate) async fn next(reader: &mut LinkReader) -> LinkEvent {
    loop {
        match within("link event", reader.recv()).await {
            LinkEvent::Drained(_) => {}
            event => return event,
        }
    }
}

/// The bodies of the next `count` frames of one lane; all other events fail the test.
pub(crate) async fn frames(reader: &mut LinkReader, lane: Lane, count: usize) -> Vec<Bytes> {
    let mut bodies = Vec::new();
    while bodies.len() < count {
        match next(reader).await {
            LinkEvent::Frames { lane: on, frames, .. } if on == lane => bodies.extend(frames),
            event => panic!("unexpected {event:?}"),
        }
    }
    bodies
}

/// A QUIC peer that proved an identity and then does as it likes.
pub(crate) async fn raw_peer(address: SocketAddr) -> (quinn::Endpoint, quinn::Connection) {
    let tls = Tls::new(&Identity::generate(), ALPN).unwrap();
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls.client(None).unwrap().0).unwrap();
    let endpoint = quinn::Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    let config = quinn::ClientConfig::new(Arc::new(crypto));
    let connecting = endpoint.connect_with(config, address, "raw.invalid").unwrap();
    let connection = within("raw handshake", connecting).await.unwrap();
    (endpoint, connection)
}

/// A UDP path between a dialing node and `to` that can be cut without a word, or move to
/// another port as a NAT would.
pub(crate) struct Path {
    pub(crate) address: SocketAddr,
    forwarding: JoinHandle<()>,
    moves: mpsc::UnboundedSender<UdpSocket>,
}

impl Path {
    pub(crate) async fn to(to: SocketAddr) -> Self {
        let near = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let mut far = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = near.local_addr().unwrap();
        let (moves, mut moved) = mpsc::unbounded_channel();
        let forwarding = tokio::spawn(async move {
            let (mut from_near, mut from_far) = (vec![0; 65536], vec![0; 65536]);
            let mut dialer = None;
            loop {
                tokio::select! {
                    Ok((length, from)) = near.recv_from(&mut from_near) => {
                        dialer = Some(from);
                        let _ = far.send_to(&from_near[..length], to).await;
                    }
                    Ok((length, _)) = far.recv_from(&mut from_far) => {
                        let Some(dialer) = dialer else { continue };
                        let _ = near.send_to(&from_far[..length], dialer).await;
                    }
                    Some(socket) = moved.recv() => far = socket,
                }
            }
        });
        Self { address, forwarding, moves }
    }

    /// The far end sees the dialing node at this new address.
    pub(crate) async fn rebind(&self) -> SocketAddr {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = socket.local_addr().unwrap();
        self.moves.send(socket).unwrap();
        address
    }

    pub(crate) fn cut(&self) {
        self.forwarding.abort();
    }
}

impl Drop for Path {
    fn drop(&mut self) {
        self.cut();
    }
}
