//! TLS configurations: TLS 1.3 with Ed25519 raw public keys both ways (RFC 7250), nothing else.
//!
//! The node id *is* the key, so no X.509 appears in TLS and no authority is asked: each side
//! proves that it holds the private half of the id it shows (docs/protocol.md section 1).
//! Who may *join* is decided later, by admission. The provider is always named here and never
//! the process-wide default, which panics when two providers are compiled in. Resumption and
//! 0-RTT are off: every connection proves both keys afresh and nothing can be replayed.

use std::fmt;
use std::sync::{Arc, OnceLock};

use ed25519_dalek::VerifyingKey;
use peerchannel_wire::NodeId;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{AlwaysResolvesClientRawPublicKeys, Resumption};
use rustls::crypto::{CryptoProvider, verify_tls13_signature_with_raw_key};
use rustls::pki_types::{
    CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, SubjectPublicKeyInfoDer, UnixTime,
};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{AlwaysResolvesServerRawPublicKeys, NoServerSessionStorage};
use rustls::sign::CertifiedKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, PeerIncompatible,
    PeerMisbehaved, ServerConfig, SignatureScheme, version,
};
use thiserror::Error as ThisError;

use crate::identity::Identity;

#[cfg(not(any(feature = "aws-lc-rs", feature = "ring")))]
compile_error!(
    "peerchannel-security needs a TLS provider: enable the feature `aws-lc-rs` (default) or `ring`"
);

/// The first twelve bytes of every Ed25519 SubjectPublicKeyInfo (RFC 8410 section 4); the
/// 32 bytes of the key follow.
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// The node id of a raw public key as TLS carries it, or `None` if it is anything but a
/// sound Ed25519 SubjectPublicKeyInfo of 44 bytes.
///
/// Keys of small order are refused: anyone can sign for them.
#[must_use]
pub fn node_id_from_spki(spki: &[u8]) -> Option<NodeId> {
    let key: [u8; 32] = spki.strip_prefix(&SPKI_PREFIX)?.try_into().ok()?;
    let sound = VerifyingKey::from_bytes(&key).is_ok_and(|key| !key.is_weak());
    sound.then(|| NodeId::from_bytes(key))
}

/// The identity could not be turned into a TLS configuration. Not the peer's fault: the
/// provider compiled in cannot use Ed25519 or TLS 1.3.
#[derive(Debug, Clone, PartialEq, ThisError)]
#[non_exhaustive]
pub enum TlsError {
    /// The private key could not be encoded for the provider.
    #[error("the identity's key cannot be encoded as PKCS#8")]
    Key,
    /// The provider refused the key or the protocol version.
    #[error("the TLS provider refused the configuration")]
    Provider(#[from] Error),
}

/// Makes the TLS configurations of one node: its key is parsed once.
#[derive(Clone)]
pub struct Tls {
    provider: Arc<CryptoProvider>,
    key: Arc<CertifiedKey>,
    alpn: Vec<u8>,
}

impl Tls {
    /// The configurations of `identity` for one protocol (`alpn`, as `b"peerchannel/1"`).
    ///
    /// # Errors
    /// [`TlsError`] if the provider cannot use the key.
    pub fn new(identity: &Identity, alpn: &[u8]) -> Result<Self, TlsError> {
        let provider = Arc::new(provider());
        let pkcs8 = identity.to_pkcs8().ok_or(TlsError::Key)?;
        let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(pkcs8.as_slice()));
        let signer = provider.key_provider.load_private_key(private.clone_key())?;
        let mut spki = SPKI_PREFIX.to_vec();
        spki.extend_from_slice(identity.node_id().as_bytes());
        let key = Arc::new(CertifiedKey::new(vec![CertificateDer::from(spki)], signer));
        Ok(Self { provider, key, alpn: alpn.to_vec() })
    }

    /// The configuration for accepting connections: any node that proves its key.
    ///
    /// # Errors
    /// [`TlsError::Provider`] if the provider cannot do TLS 1.3.
    pub fn server(&self) -> Result<ServerConfig, TlsError> {
        let verifier = Arc::new(PeerVerifier::new(&self.provider, None, PresentedNode::default()));
        let mut config = ServerConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&version::TLS13])?
            .with_client_cert_verifier(verifier)
            .with_cert_resolver(Arc::new(AlwaysResolvesServerRawPublicKeys::new(self.key.clone())));
        config.alpn_protocols = vec![self.alpn.clone()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        config.max_early_data_size = 0;
        Ok(config)
    }

    /// The configuration for one dial. With `expected`, a peer with another id is refused
    /// before our own id is shown to it; the [`PresentedNode`] then says who it was.
    ///
    /// # Errors
    /// [`TlsError::Provider`] if the provider cannot do TLS 1.3.
    pub fn client(&self, expected: Option<NodeId>) -> Result<(ClientConfig, PresentedNode), TlsError> {
        let presented = PresentedNode::default();
        let verifier = Arc::new(PeerVerifier::new(&self.provider, expected, presented.clone()));
        let mut config = ClientConfig::builder_with_provider(self.provider.clone())
            .with_protocol_versions(&[&version::TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_client_cert_resolver(Arc::new(AlwaysResolvesClientRawPublicKeys::new(self.key.clone())));
        config.alpn_protocols = vec![self.alpn.clone()];
        config.resumption = Resumption::disabled();
        config.enable_early_data = false;
        config.enable_sni = false;
        Ok((config, presented))
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("alpn", &String::from_utf8_lossy(&self.alpn)).finish_non_exhaustive()
    }
}

/// The id a dialed node presented, once it did. Claimed only: the handshake proves it.
#[derive(Debug, Clone, Default)]
pub struct PresentedNode(Arc<OnceLock<NodeId>>);

impl PresentedNode {
    /// The id, or `None` if the handshake did not come that far.
    #[must_use]
    pub fn get(&self) -> Option<NodeId> {
        self.0.get().copied()
    }
}

/// aws-lc-rs wins when both are compiled in: it has X25519MLKEM768, which then comes first.
fn provider() -> CryptoProvider {
    #[cfg(feature = "aws-lc-rs")]
    {
        rustls::crypto::aws_lc_rs::default_provider()
    }
    #[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
    {
        rustls::crypto::ring::default_provider()
    }
}

/// Accepts exactly one Ed25519 raw public key, and the proof that the peer holds it.
#[derive(Debug)]
struct PeerVerifier {
    provider: Arc<CryptoProvider>,
    expected: Option<NodeId>,
    presented: PresentedNode,
}

impl PeerVerifier {
    fn new(provider: &Arc<CryptoProvider>, expected: Option<NodeId>, presented: PresentedNode) -> Self {
        Self { provider: provider.clone(), expected, presented }
    }

    fn check_key(&self, key: &CertificateDer<'_>, others: &[CertificateDer<'_>]) -> Result<(), Error> {
        let id = node_id_from_spki(key).ok_or(CertificateError::BadEncoding)?;
        // RFC 7250 section 3: a raw public key is one entry, not a chain.
        if !others.is_empty() {
            return Err(CertificateError::BadEncoding.into());
        }
        let _ = self.presented.0.set(id);
        if self.expected.is_some_and(|expected| expected != id) {
            return Err(CertificateError::ApplicationVerificationFailure.into());
        }
        Ok(())
    }

    fn check_signature(
        &self,
        message: &[u8],
        key: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if signed.scheme != SignatureScheme::ED25519 {
            return Err(PeerMisbehaved::SignedHandshakeWithUnadvertisedSigScheme.into());
        }
        let key = SubjectPublicKeyInfoDer::from(key.as_ref());
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature_with_raw_key(message, &key, signed, algorithms)
    }
}

impl ServerCertVerifier for PeerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.check_key(end_entity, intermediates).map(|()| ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls13RequiredForQuic.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

impl ClientCertVerifier for PeerVerifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        self.check_key(end_entity, intermediates).map(|()| ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(PeerIncompatible::Tls13RequiredForQuic.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.check_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ED25519]
    }

    fn requires_raw_public_keys(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use rustls::client::ResolvesClientCert;
    use rustls::{ClientConnection, ServerConnection};

    use super::*;

    fn spki(key: &[u8]) -> Vec<u8> {
        [&SPKI_PREFIX[..], key].concat()
    }

    #[test]
    fn a_raw_public_key_names_its_node() {
        let id = Identity::generate().node_id();
        assert_eq!(node_id_from_spki(&spki(id.as_bytes())), Some(id));
    }

    #[test]
    fn anything_but_a_sound_ed25519_key_is_refused() {
        let good = Identity::generate().node_id();
        let mut other_algorithm = spki(good.as_bytes());
        other_algorithm[8] = 0x6e; // X25519
        let small_order: [u8; 32] = std::array::from_fn(|index| u8::from(index == 0));
        for bytes in [
            Vec::new(),
            good.as_bytes().to_vec(),
            spki(&good.as_bytes()[..31]),
            spki(&[good.as_bytes(), &[0u8][..]].concat()),
            other_algorithm,
            spki(&small_order),
        ] {
            assert_eq!(node_id_from_spki(&bytes), None, "{bytes:02x?}");
        }
    }

    #[test]
    fn nothing_is_resumed_and_nothing_is_sent_early() {
        let tls = Tls::new(&Identity::generate(), b"test").unwrap();
        let server = tls.server().unwrap();
        assert_eq!((server.send_tls13_tickets, server.max_early_data_size), (0, 0));
        assert!(!server.session_storage.can_cache());
        assert!(!tls.client(None).unwrap().0.enable_early_data);
    }

    /// Both sides' verdict on a handshake over memory.
    fn handshake(client: ClientConfig, server: ServerConfig) -> (Result<(), Error>, Result<(), Error>) {
        let name = ServerName::try_from("node.invalid").unwrap();
        let mut client = rustls::Connection::from(ClientConnection::new(Arc::new(client), name).unwrap());
        let mut server = rustls::Connection::from(ServerConnection::new(Arc::new(server)).unwrap());
        let mut verdicts = (Ok(()), Ok(()));
        // Three flights make a handshake; the fourth carries an alert.
        for _ in 0..4 {
            verdicts.1 = verdicts.1.and(pass(&mut client, &mut server));
            verdicts.0 = verdicts.0.and(pass(&mut server, &mut client));
        }
        verdicts
    }

    fn pass(from: &mut rustls::Connection, to: &mut rustls::Connection) -> Result<(), Error> {
        let mut flight = Vec::new();
        while from.wants_write() {
            from.write_tls(&mut flight).map_err(|error| Error::General(error.to_string()))?;
        }
        let mut rest = &flight[..];
        while !rest.is_empty() {
            to.read_tls(&mut rest).map_err(|error| Error::General(error.to_string()))?;
            to.process_new_packets()?;
        }
        Ok(())
    }

    fn tls() -> Tls {
        Tls::new(&Identity::generate(), b"test").unwrap()
    }

    #[test]
    fn two_nodes_accept_each_other() {
        let (client, _) = tls().client(None).unwrap();
        assert_eq!(handshake(client, tls().server().unwrap()), (Ok(()), Ok(())));
    }

    #[test]
    fn a_client_without_a_key_is_refused() {
        #[derive(Debug)]
        struct NoKey;
        impl ResolvesClientCert for NoKey {
            fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
                None
            }
            fn only_raw_public_keys(&self) -> bool {
                true
            }
            fn has_certs(&self) -> bool {
                false
            }
        }
        let (mut client, _) = tls().client(None).unwrap();
        client.client_auth_cert_resolver = Arc::new(NoKey);
        assert!(handshake(client, tls().server().unwrap()).1.is_err());
    }

    #[test]
    fn a_node_that_shows_a_key_it_does_not_hold_is_refused() {
        let (mut impostor, victim) = (tls(), tls());
        let key = CertifiedKey::new(victim.key.cert.clone(), impostor.key.key.clone());
        impostor.key = Arc::new(key);
        let (client, _) = impostor.client(None).unwrap();
        let invalid = Err(Error::InvalidCertificate(CertificateError::BadSignature));
        assert_eq!(handshake(client, tls().server().unwrap()).1, invalid, "as a client");
        let (client, _) = tls().client(None).unwrap();
        assert_eq!(handshake(client, impostor.server().unwrap()).0, invalid, "as a server");
    }

    #[test]
    fn an_unexpected_node_is_refused_before_it_learns_who_dials() {
        let (dialer, answerer) = (tls(), Identity::generate());
        let expected = Identity::generate().node_id();
        let (client, presented) = dialer.client(Some(expected)).unwrap();
        let server = Tls::new(&answerer, b"test").unwrap().server().unwrap();
        let (at_client, at_server) = handshake(client, server);
        let refused = CertificateError::ApplicationVerificationFailure;
        assert_eq!(at_client, Err(Error::InvalidCertificate(refused)));
        assert!(matches!(at_server, Err(Error::AlertReceived(_))), "an alert instead of a key");
        assert_eq!(presented.get(), Some(answerer.node_id()));
    }

    #[test]
    #[cfg(feature = "aws-lc-rs")]
    fn the_post_quantum_key_exchange_comes_first() {
        assert_eq!(provider().kx_groups[0].name(), rustls::NamedGroup::X25519MLKEM768);
    }
}
