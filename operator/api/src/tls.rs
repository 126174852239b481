//! Mutual TLS by SPIFFE identity: rustls configurations for both ends of every connection inside the mesh, between
//! proxies as well as between a proxy and the operator.
//!
//! A resumed session skips the certificate verifier, so the identity a connection may act with is always read from its
//! peer certificates by [`peer_identity`], never remembered from the handshake. Leaves out: who may talk to whom (that
//! is the caller's authorization) and where certificates come from (the identity service).

use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use sha2::{Digest, Sha256};

use crate::spiffe::SpiffeId;

/// A certificate with its key, and the roots to judge others by.
#[derive(Debug)]
pub struct Identity {
    /// Leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Key of the leaf, PKCS#8.
    pub key: PrivateKeyDer<'static>,
    /// Roots of the mesh, several while they rotate.
    pub roots: Vec<CertificateDer<'static>>,
}

/// Whether a server asks its clients for a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// The handshake fails without one.
    Required,
    /// Clients without one are let in; the caller decides what they may do.
    Optional,
}

/// What went wrong with certificates.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A certificate, key or root was not acceptable.
    #[error("certificate, key or roots cannot be used")]
    Material(#[source] rustls::Error),
    /// No usable root.
    #[error("client certificates cannot be verified with these roots")]
    Verifier(#[source] rustls::server::VerifierBuilderError),
    /// The peer showed no certificate.
    #[error("peer showed no certificate")]
    NoCertificate,
    /// The certificate cannot be read.
    #[error("peer certificate cannot be read")]
    Unreadable,
    /// The certificate does not hold.
    #[error("certificate does not chain to a root, or is not valid")]
    Chain(#[source] webpki::Error),
    /// The certificate holds no workload identity, or more than one URI (X509-SVID, section 5.2).
    #[error("peer certificate holds {count} URI names, expected exactly one SPIFFE id")]
    NoIdentity {
        /// URI names found.
        count: usize,
    },
    /// The one URI name is not a workload identity.
    #[error("peer certificate names no workload")]
    InvalidIdentity(#[source] crate::spiffe::InvalidSpiffeId),
}

/// The crypto provider of every TLS connection: aws-lc-rs with the post-quantum hybrid preferred.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Configuration of the calling side. The server must chain to a root and hold a SPIFFE identity; which one is for the
/// caller to check with [`peer_identity`] after the handshake. Without `identity.chain` no client certificate is sent.
pub fn client_config(identity: &Identity, alpn: &[&[u8]]) -> Result<ClientConfig, TlsError> {
    let verifier = SpiffeServerVerifier { roots: root_store(&identity.roots)?, provider: provider() };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Material)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = if identity.chain.is_empty() {
        builder.with_no_client_auth()
    } else {
        builder
            .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())
            .map_err(TlsError::Material)?
    };
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    Ok(config)
}

/// Configuration of the accepting side. Clients must chain to a root; whether they must show a certificate at all says
/// `auth`. Their identity is for the caller to read with [`peer_identity`] after the handshake.
pub fn server_config(
    identity: &Identity,
    auth: ClientAuth,
    alpn: &[&[u8]],
) -> Result<ServerConfig, TlsError> {
    let roots = Arc::new(root_store(&identity.roots)?);
    let builder = WebPkiClientVerifier::builder_with_provider(roots, provider());
    let verifier: Arc<dyn ClientCertVerifier> = match auth {
        ClientAuth::Required => builder.build(),
        ClientAuth::Optional => builder.allow_unauthenticated().build(),
    }
    .map_err(TlsError::Verifier)?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(TlsError::Material)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(identity.chain.clone(), identity.key.clone_key())
        .map_err(TlsError::Material)?;
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    config.ticketer = aws_lc_rs::Ticketer::new().map_err(TlsError::Material)?;
    config.send_tls13_tickets = 1;
    Ok(config)
}

/// The SPIFFE identity in a connection's peer certificates (`peer_certificates()` of the rustls connection).
pub fn peer_identity(certificates: Option<&[CertificateDer<'_>]>) -> Result<SpiffeId, TlsError> {
    let leaf = certificates.and_then(<[_]>::first).ok_or(TlsError::NoCertificate)?;
    let parsed = webpki::EndEntityCert::try_from(leaf).map_err(|_| TlsError::Unreadable)?;
    let uris: Vec<&str> = parsed.valid_uri_names().collect();
    match uris.as_slice() {
        [uri] => uri.parse().map_err(TlsError::InvalidIdentity),
        _ => Err(TlsError::NoIdentity { count: uris.len() }),
    }
}

/// Validity of a certificate in seconds since the Unix epoch: not before, not after.
pub fn validity(certificate: &CertificateDer<'_>) -> Option<(i64, i64)> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let validity = parsed.validity();
    Some((validity.not_before.timestamp(), validity.not_after.timestamp()))
}

/// The trust domain that a root certificate names as its URI, `spiffe://<trust domain>` (X509-SVID, section 4.1).
pub fn trust_domain(root: &CertificateDer<'_>) -> Option<String> {
    use x509_parser::extensions::GeneralName;
    let (_, parsed) = x509_parser::parse_x509_certificate(root).ok()?;
    let names = parsed.subject_alternative_name().ok()??;
    names.value.general_names.iter().find_map(|name| match name {
        GeneralName::URI(uri) => uri.strip_prefix("spiffe://").map(str::to_owned),
        _ => None,
    })
}

/// Verifies a chain, leaf first, as both ends of a connection would, at a moment in seconds since the Unix epoch.
pub fn verify(chain: &[CertificateDer<'_>], roots: &[CertificateDer<'_>], now: i64) -> Result<(), TlsError> {
    let (leaf, intermediates) = chain.split_first().ok_or(TlsError::NoCertificate)?;
    let leaf = webpki::EndEntityCert::try_from(leaf).map_err(TlsError::Chain)?;
    let anchors = roots.iter().map(webpki::anchor_from_trusted_cert).collect::<Result<Vec<_>, _>>();
    let anchors = anchors.map_err(TlsError::Chain)?;
    let time = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now).unwrap_or_default()));
    let algorithms = provider().signature_verification_algorithms.all;
    for usage in [webpki::KeyUsage::server_auth(), webpki::KeyUsage::client_auth()] {
        leaf.verify_for_usage(algorithms, &anchors, intermediates, time, usage, None, None)
            .map_err(TlsError::Chain)?;
    }
    Ok(())
}

/// A short name of some bytes, the same for the same bytes: 16 hexadecimal digits.
pub fn fingerprint(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    let head = digest.iter().take(8).fold(0_u64, |head, byte| head << 8 | u64::from(*byte));
    format!("{head:016x}")
}

fn root_store(roots: &[CertificateDer<'static>]) -> Result<RootCertStore, TlsError> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.clone()).map_err(TlsError::Material)?;
    }
    Ok(store)
}

/// Verifies chain and validity, and that there is a SPIFFE id; names in the certificate do not matter inside the mesh.
#[derive(Debug)]
struct SpiffeServerVerifier {
    roots: RootCertStore,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for SpiffeServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let certificate = rustls::server::ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        verify_server_cert_signed_by_trust_anchor(&certificate, &self.roots, intermediates, now, algorithms)?;
        peer_identity(Some(std::slice::from_ref(end_entity)))
            .map_err(|_| rustls::Error::InvalidCertificate(rustls::CertificateError::NotValidForName))?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests;
