//! QUIC's own settings: what we override of quinn's defaults, and the keys that outlive a restart.

use std::sync::Arc;
use std::time::Duration;

use peerchannel_security::{Identity, Tls, TlsError};
use peerchannel_wire::NodeId;
use quinn::crypto::rustls::{NoInitialCipherSuite, QuicClientConfig, QuicServerConfig};
use quinn::{IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};
use quinn_proto::crypto::{CryptoError, HmacKey};
use thiserror::Error;

use crate::config::EndpointConfig;
use crate::connection_id::ConnectionIds;
use crate::registry::PARKED_MAX;

/// Packets of handshakes that wait for us, for all of them together: a client hello with the
/// post-quantum share fills two packets.
const INCOMING_BYTES_MAX: u64 = 512 * 1024;

/// The same for one handshake.
const INCOMING_BYTES_EACH: u64 = 16 * 1024;

/// When the side that dialed keeps an idle connection alive, as a share of `keep_alive`.
///
/// Each packet starts the timer of both ends anew, half a round trip apart, so that with one
/// interval the acceptor's keep-alive reaches the dialer in the very moment in which its own
/// falls due: both are sent, and both acknowledged (measured: twice the packets). With 300 ms
/// between the two the acceptor's never falls due up to a round trip of 275 ms, while the
/// dialer is there.
const DIALER_KEEPS_ALIVE: f64 = 0.9;

/// The least difference of path MTUs worth a packet to find out: half of that between QUIC's
/// least, 1200, and the largest tried, 1452, and one more, so that the largest is tried first.
const MTU_STEP: u16 = 127;

/// Context of the key behind stateless resets (RFC 9000 section 10.3.2).
const RESET_CONTEXT: &str = "peerchannel 2026 transport stateless reset key v1";

/// Context of the key by which we recognise our own connection ids.
const CONNECTION_ID_CONTEXT: &str = "peerchannel 2026 transport connection id key v1";

/// The configuration could not be turned into QUIC's.
#[derive(Debug, Error)]
pub(crate) enum SetupError {
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error("the TLS provider lacks QUIC's initial cipher suite")]
    InitialSuite(#[from] NoInitialCipherSuite),
}

/// Settings of the socket's side. The keys are derived from the identity, so that a restarted
/// node on the same port resets its stale connections at once (docs/protocol.md section 1).
pub(crate) fn endpoint_config(identity: &Identity) -> quinn::EndpointConfig {
    let mut config = quinn::EndpointConfig::new(Arc::new(ResetKey(*identity.derive_key(RESET_CONTEXT))));
    let key = *identity.derive_key(CONNECTION_ID_CONTEXT);
    config.cid_generator(move || Box::new(ConnectionIds::new(key)));
    config
}

pub(crate) fn server_config(tls: &Tls, config: &EndpointConfig) -> Result<quinn::ServerConfig, SetupError> {
    let crypto = QuicServerConfig::try_from(tls.server()?)?;
    let mut server = quinn::ServerConfig::with_crypto(Arc::new(crypto));
    server
        .transport_config(Arc::new(transport_config(config, config.keep_alive)))
        .migration(true)
        .max_incoming(config.handshakes_max.saturating_mul(2))
        .incoming_buffer_size(INCOMING_BYTES_EACH)
        .incoming_buffer_size_total(INCOMING_BYTES_MAX);
    Ok(server)
}

pub(crate) fn client_config(
    tls: &Tls,
    config: &EndpointConfig,
    expected: Option<NodeId>,
) -> Result<(quinn::ClientConfig, peerchannel_security::PresentedNode), SetupError> {
    let (crypto, presented) = tls.client(expected)?;
    let mut client = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(crypto)?));
    let transport = transport_config(config, config.keep_alive.mul_f64(DIALER_KEEPS_ALIVE));
    client.transport_config(Arc::new(transport));
    Ok((client, presented))
}

/// quinn's defaults are for one server and its clients; a node has many peers it does not
/// trust yet. Windows and streams start small and grow with each link that is up.
fn transport_config(config: &EndpointConfig, keep_alive: Duration) -> TransportConfig {
    let mut transport = TransportConfig::default();
    transport
        .keep_alive_interval(Some(keep_alive))
        .max_idle_timeout(IdleTimeout::try_from(config.idle_timeout).ok())
        .max_concurrent_bidi_streams(VarInt::from_u32(config.control_streams_max))
        .max_concurrent_uni_streams(VarInt::from_u32(config.data_lanes_max.min(PARKED_MAX)))
        .stream_receive_window(VarInt::from_u32(config.stream_window))
        .receive_window(VarInt::from_u32(config.base_window))
        .send_window(u64::from(config.base_window))
        .datagram_receive_buffer_size(Some(config.datagram_buffer))
        .datagram_send_buffer_size(config.datagram_buffer)
        .mtu_discovery_config(Some(mtu_discovery()))
        .enable_segmentation_offload(true);
    transport
}

/// Looks for the path's MTU with one packet where the path is Ethernet's: 1452 bytes, then 1325
/// if they do not get through, and no finer. A mesh tries many neighbors and keeps few, and by
/// default QUIC sends four such packets from each end of every connection (measured: 11 KB of the
/// 20 KB that a new connection costs).
fn mtu_discovery() -> MtuDiscoveryConfig {
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.minimum_change(MTU_STEP);
    discovery
}

/// A keyed BLAKE3 in HMAC's place: the same promise, and no second hash in this crate.
struct ResetKey([u8; 32]);

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        let hash = blake3::keyed_hash(&self.0, data);
        for (out, byte) in signature_out.iter_mut().zip(hash.as_bytes()) {
            *out = *byte;
        }
    }

    fn signature_len(&self) -> usize {
        blake3::OUT_LEN
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        // `blake3::Hash` compares in constant time.
        let matches = <[u8; 32]>::try_from(signature)
            .is_ok_and(|signature| blake3::keyed_hash(&self.0, data) == blake3::Hash::from_bytes(signature));
        if matches { Ok(()) } else { Err(CryptoError) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reset_key_verifies_its_own_signatures_only() {
        let (key, other) = (ResetKey([1; 32]), ResetKey([2; 32]));
        let mut signature = vec![0; key.signature_len()];
        key.sign(b"connection id", &mut signature);
        assert!(key.verify(b"connection id", &signature).is_ok());
        assert!(key.verify(b"another id", &signature).is_err());
        assert!(other.verify(b"connection id", &signature).is_err());
        assert!(key.verify(b"connection id", &signature[..16]).is_err());
    }
}
