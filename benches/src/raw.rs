//! The baseline: one QUIC stream each way between two endpoints, and nothing else.
//!
//! It has what our links have, the same TLS, windows and runtime, and the same rule of
//! writing: at once when the stream is idle, gathered up to 64 KiB while it is busy. Frames
//! are a four-byte length and a body. It has no mesh, no order across links, no signatures.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Buf as _, Bytes, BytesMut};
use peerchannel_security::{Identity, Tls};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{ClientConfig, Endpoint, RecvStream, SendStream, ServerConfig, TransportConfig, VarInt};
use tokio::sync::mpsc;

const WINDOW: u32 = 1 << 20;
const GATHER: usize = 64 * 1024;
const QUEUE: usize = 1024;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// Two endpoints on loopback with a stream each way.
#[derive(Debug)]
pub struct Raw {
    /// What is sent here arrives at [`Raw::there`].
    pub here: mpsc::Sender<Bytes>,
    /// Frames that arrived at the other end, in bulk.
    pub there: mpsc::Receiver<Vec<Bytes>>,
    /// What is sent there arrives at [`Raw::back`].
    pub reply: mpsc::Sender<Bytes>,
    /// Frames that came back, in bulk.
    pub back: mpsc::Receiver<Vec<Bytes>>,
    _endpoints: (Endpoint, Endpoint),
}

impl Raw {
    /// Connects the two.
    ///
    /// # Errors
    /// Whatever keeps loopback from working.
    pub async fn connect() -> Result<Self, Failure> {
        let loopback: SocketAddr = ([127, 0, 0, 1], 0).into();
        let transport = Arc::new(transport());
        let tls = Tls::new(&Identity::generate(), b"raw")?;
        let mut server = ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(tls.server()?)?));
        server.transport_config(transport.clone());
        let acceptor = Endpoint::server(server, loopback)?;
        let dialer = Endpoint::client(loopback)?;
        let tls = Tls::new(&Identity::generate(), b"raw")?;
        let mut client = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls.client(None)?.0)?));
        client.transport_config(transport);
        let connecting = dialer.connect_with(client, acceptor.local_addr()?, "raw")?;
        let incoming = acceptor.accept().await.ok_or("the endpoint closed")?;
        let (dialed, accepted) = tokio::try_join!(connecting, async { incoming.await })?;
        // A stream exists for the peer only once something was written.
        let (mut send, recv) = dialed.open_bi().await?;
        send.write_all(&[0, 0, 0, 0]).await?;
        let (reply_send, reply_recv) = accepted.accept_bi().await?;
        let (here, there) = (writer(send), reader(reply_recv));
        let (reply, back) = (writer(reply_send), reader(recv));
        let mut raw = Self { here, there, reply, back, _endpoints: (dialer, acceptor) };
        raw.there.recv().await;
        Ok(raw)
    }
}

fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .stream_receive_window(VarInt::from_u32(WINDOW))
        .receive_window(VarInt::from_u32(3 * WINDOW))
        .send_window(2 * u64::from(WINDOW));
    transport
}

fn writer(mut stream: SendStream) -> mpsc::Sender<Bytes> {
    let (sender, mut queue) = mpsc::channel::<Bytes>(QUEUE);
    tokio::spawn(async move {
        while let Some(first) = queue.recv().await {
            let mut bytes = 0;
            let mut chunks = Vec::new();
            let mut next = Some(first);
            while let Some(body) = next {
                bytes += body.len();
                chunks.push(length(&body));
                chunks.push(body);
                next = if bytes < GATHER { queue.try_recv().ok() } else { None };
            }
            if stream.write_all_chunks(&mut chunks).await.is_err() {
                return;
            }
        }
    });
    sender
}

fn length(body: &Bytes) -> Bytes {
    Bytes::copy_from_slice(&u32::try_from(body.len()).unwrap_or(u32::MAX).to_be_bytes())
}

fn reader(mut stream: RecvStream) -> mpsc::Receiver<Vec<Bytes>> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        let mut buffer = BytesMut::new();
        while let Ok(Some(chunk)) = stream.read_chunk(usize::MAX, true).await {
            buffer.extend_from_slice(&chunk.bytes);
            let mut frames = Vec::new();
            while let Some(length) = buffer.first_chunk::<4>().map(|b| u32::from_be_bytes(*b) as usize) {
                if buffer.len() < 4 + length {
                    break;
                }
                buffer.advance(4);
                frames.push(buffer.split_to(length).freeze());
            }
            if !frames.is_empty() && sender.send(frames).await.is_err() {
                return;
            }
        }
    });
    receiver
}
