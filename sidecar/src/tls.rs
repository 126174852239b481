//! TLS of the data plane: ready-made configurations per certificate, replaced together when the certificate is renewed.
//! Leaves out where certificates come from (`certs.rs`) and who may talk to whom (the policies).

pub mod accept;
pub mod hello;

use std::sync::Arc;

use rustls::{ClientConfig, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use weft_api::names::{ALPN_H2, ALPN_HTTP1, ALPN_MESH, ALPN_TCP, ALPN_WEFT};
use weft_api::spiffe::SpiffeId;
use weft_api::tls::{
    ClientAuth, Identity, TlsError, client_config, peer_identity, provider, server_config, validity,
};

/// Everything that depends on one certificate. Session caches and tickets live and die with it, so no session of an old
/// certificate or an old root is ever resumed under a new one.
#[derive(Debug)]
pub struct TlsMaterial {
    /// Certificate, key, roots.
    pub identity: Arc<Identity>,
    /// Who the certificate says we are.
    pub id: Arc<SpiffeId>,
    /// Seconds since the Unix epoch.
    pub not_before: i64,
    /// Seconds since the Unix epoch.
    pub not_after: i64,
    /// Accepting side, strict: no handshake without a client certificate.
    pub strict: Arc<ServerConfig>,
    /// Accepting side, permissive: clients without certificate are let in without identity.
    pub permissive: Arc<ServerConfig>,
    /// Calling side for HTTP/1.1.
    pub http1: Arc<ClientConfig>,
    /// Calling side for HTTP/2 and gRPC.
    pub h2: Arc<ClientConfig>,
    /// Calling side for raw TCP.
    pub tcp: Arc<ClientConfig>,
    /// Calling side for `weft/1`, else raw TCP.
    pub weft_tcp: Arc<ClientConfig>,
    /// Calling side for `weft/1`, else HTTP/1.1.
    pub weft_http1: Arc<ClientConfig>,
    /// Calling side for `weft/1`, else HTTP/2.
    pub weft_h2: Arc<ClientConfig>,
}

impl TlsMaterial {
    /// Builds all configurations for this certificate.
    pub fn new(identity: Arc<Identity>) -> Result<Self, TlsError> {
        let alpn = [ALPN_WEFT, ALPN_H2, ALPN_HTTP1, ALPN_TCP];
        let (not_before, not_after) =
            identity.chain.first().and_then(validity).ok_or(TlsError::NoCertificate)?;
        Ok(Self {
            id: Arc::new(peer_identity(Some(&identity.chain))?),
            not_before,
            not_after,
            strict: Arc::new(server_config(&identity, ClientAuth::Required, &alpn)?),
            permissive: Arc::new(server_config(&identity, ClientAuth::Optional, &alpn)?),
            http1: Arc::new(client_config(&identity, &[ALPN_HTTP1, ALPN_MESH])?),
            h2: Arc::new(client_config(&identity, &[ALPN_H2, ALPN_MESH])?),
            tcp: Arc::new(client_config(&identity, &[ALPN_TCP])?),
            weft_tcp: Arc::new(client_config(&identity, &[ALPN_WEFT, ALPN_TCP])?),
            weft_http1: Arc::new(client_config(&identity, &[ALPN_WEFT, ALPN_HTTP1, ALPN_MESH])?),
            weft_h2: Arc::new(client_config(&identity, &[ALPN_WEFT, ALPN_H2, ALPN_MESH])?),
            identity,
        })
    }
}

/// Configuration of a listener at the edge: an ordinary server certificate, no client certificate asked.
pub fn edge_config(certificate: &weft_api::v1::ServerCertificate) -> Result<Arc<ServerConfig>, EdgeError> {
    let chain = CertificateDer::pem_slice_iter(certificate.chain.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(EdgeError::Chain)?;
    let key = PrivateKeyDer::from_pem_slice(certificate.key.as_bytes()).map_err(EdgeError::Key)?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(EdgeError::Material)?
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(EdgeError::Material)?;
    config.alpn_protocols = vec![ALPN_H2.to_vec(), ALPN_HTTP1.to_vec()];
    config.ticketer = rustls::crypto::aws_lc_rs::Ticketer::new().map_err(EdgeError::Material)?;
    Ok(Arc::new(config))
}

/// Why a listener's certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum EdgeError {
    /// Not PEM certificates.
    #[error("certificate chain is not PEM")]
    Chain(#[source] rustls_pki_types::pem::Error),
    /// Not a PEM key.
    #[error("key is not PEM")]
    Key(#[source] rustls_pki_types::pem::Error),
    /// They do not fit each other.
    #[error("certificate and key cannot be used")]
    Material(#[source] rustls::Error),
}
