//! One fetch of one key set over HTTP/1.1. A name of the mesh is dialled with mutual TLS at an instance of the service,
//! everything else by DNS. An address in a manifest must not open ways that its author does not have: link-local and
//! metadata addresses are refused after resolution, redirects are not followed, answers are bounded.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;
use weft_api::spiffe::SpiffeId;
use weft_api::tls::{self, TlsError};
use weft_core::compile::keys::key_set_problem;
use weft_core::world::lookup::{Uri, forbidden_address, forbidden_host};

use super::ClientTls;

const MAX_ANSWER: usize = 1 << 20;

/// How to get to a key set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Route {
    /// To a service of the mesh.
    Mesh {
        /// `shop/user:http`, for messages.
        destination: String,
        /// Ready instances.
        addresses: Vec<SocketAddr>,
        /// Who may answer; empty: the service takes plain text.
        identities: Vec<String>,
    },
    /// By DNS.
    Direct,
}

/// Why a key set could not be fetched.
#[derive(Debug, thiserror::Error)]
pub(super) enum FetchError {
    #[error("is not an http or https address")]
    Address,
    #[error("{destination} has no ready instance")]
    NoInstance { destination: String },
    #[error("{host} cannot be resolved")]
    Resolve { host: String, source: std::io::Error },
    #[error("{host} has no address that may be asked (link-local and metadata addresses may not)")]
    Forbidden { host: String },
    #[error("{address} cannot be reached")]
    Connect { address: SocketAddr, source: std::io::Error },
    #[error("TLS with {address} failed")]
    Tls { address: SocketAddr, source: std::io::Error },
    #[error("{address} is not known by its certificate")]
    Unknown { address: SocketAddr, source: TlsError },
    #[error("{address} is {found}, which does not serve this destination")]
    Impostor { address: SocketAddr, found: SpiffeId },
    #[error("the system's root certificates cannot be used")]
    Roots(#[source] rustls::Error),
    #[error("asking failed")]
    Http(#[source] hyper::Error),
    #[error("the answer is a redirect to {to}, which is not followed; write that address")]
    Redirect { to: String },
    #[error("the answer has status {0}")]
    Status(StatusCode),
    #[error("the answer cannot be read, or is longer than 1 MiB")]
    Body(#[source] Box<dyn Error + Send + Sync>),
    #[error("the answer is no JSON Web Key Set: {0}")]
    NotKeys(&'static str),
    #[error("no answer came within 5 s")]
    TooSlow,
}

/// A message with all that caused it.
pub(super) fn with_causes(error: &FetchError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

/// The key set at `uri`.
pub(super) async fn fetch(uri: &str, route: &Route, mesh: &ClientTls) -> Result<String, FetchError> {
    let target = Target::parse(uri).ok_or(FetchError::Address)?;
    match route {
        Route::Mesh { destination, addresses, identities } => {
            let (address, tcp) = connect(addresses)
                .await
                .unwrap_or_else(|| Err(FetchError::NoInstance { destination: destination.clone() }))?;
            if identities.is_empty() {
                return ask(&target, tcp).await;
            }
            let tls = handshake(mesh.load_full(), "mesh.internal", address, tcp).await?;
            let found = tls::peer_identity(tls.get_ref().1.peer_certificates())
                .map_err(|source| FetchError::Unknown { address, source })?;
            if !identities.iter().any(|id| id == found.as_str()) {
                return Err(FetchError::Impostor { address, found });
            }
            ask(&target, tls).await
        }
        Route::Direct => {
            let host = target.host.clone();
            let addresses = resolve(&host, target.port).await?;
            let (address, tcp) = connect(&addresses)
                .await
                .unwrap_or_else(|| Err(FetchError::Forbidden { host: host.clone() }))?;
            if !target.tls {
                return ask(&target, tcp).await;
            }
            let tls = handshake(public_tls().await?, &host, address, tcp).await?;
            ask(&target, tls).await
        }
    }
}

/// An address taken apart for one request.
struct Target {
    tls: bool,
    host: String,
    port: u16,
    authority: String,
    path: String,
}

impl Target {
    /// Credentials in the address would end up in logs and status: such an address is none.
    fn parse(uri: &str) -> Option<Self> {
        let parts = Uri::parse(uri).filter(|parts| !parts.credentials)?;
        let full: http::Uri = uri.parse().ok()?;
        let path = full.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        let authority = full.authority()?.to_string();
        Some(Self { tls: parts.tls, host: parts.host.to_owned(), port: parts.port, authority, path })
    }
}

/// What a name resolves to may be forbidden as well as the name.
async fn resolve(host: &str, port: u16) -> Result<Vec<SocketAddr>, FetchError> {
    if forbidden_host(host) {
        return Ok(Vec::new());
    }
    let found = tokio::net::lookup_host((host, port)).await;
    let found = found.map_err(|source| FetchError::Resolve { host: host.to_owned(), source })?;
    Ok(found.filter(|address| !forbidden_address(address.ip()) && !address.ip().is_multicast()).collect())
}

/// The first of the addresses that answers; none where there are no addresses.
async fn connect(addresses: &[SocketAddr]) -> Option<Result<(SocketAddr, TcpStream), FetchError>> {
    let mut last = None;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(tcp) => return Some(Ok((*address, tcp))),
            Err(source) => last = Some(Err(FetchError::Connect { address: *address, source })),
        }
    }
    last
}

async fn handshake(
    config: Arc<ClientConfig>,
    host: &str,
    address: SocketAddr,
    tcp: TcpStream,
) -> Result<tokio_rustls::client::TlsStream<TcpStream>, FetchError> {
    let name = ServerName::try_from(host.to_owned()).map_err(|_| FetchError::Address)?;
    TlsConnector::from(config).connect(name, tcp).await.map_err(|source| FetchError::Tls { address, source })
}

/// TLS to servers outside the mesh, judged by the system's roots.
async fn public_tls() -> Result<Arc<ClientConfig>, FetchError> {
    static CONFIG: OnceCell<Arc<ClientConfig>> = OnceCell::const_new();
    let load = async || {
        // Reads files: not on a thread that serves.
        let found = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs).await;
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(found.map(|found| found.certs).unwrap_or_default());
        let builder = ClientConfig::builder_with_provider(tls::provider())
            .with_safe_default_protocol_versions()
            .map_err(FetchError::Roots)?;
        Ok(Arc::new(builder.with_root_certificates(roots).with_no_client_auth()))
    };
    CONFIG.get_or_try_init(load).await.cloned()
}

async fn ask<IO>(target: &Target, io: IO) -> Result<String, FetchError>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(io)).await.map_err(FetchError::Http)?;
    let request = Request::get(&target.path)
        .header(header::HOST, &target.authority)
        .header(header::ACCEPT, "application/jwk-set+json, application/json")
        .header(header::USER_AGENT, concat!("weft-operator/", env!("CARGO_PKG_VERSION")))
        .body(Empty::<Bytes>::new())
        .map_err(|_| FetchError::Address)?;
    let exchange = async move {
        let answer = sender.send_request(request).await.map_err(FetchError::Http)?;
        read(answer).await
    };
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        keys = &mut exchange => keys,
        // The server may close as soon as it has answered: what was read is still to be taken.
        _ = connection => exchange.await,
    }
}

async fn read(answer: http::Response<hyper::body::Incoming>) -> Result<String, FetchError> {
    let status = answer.status();
    if status.is_redirection() {
        let to = answer.headers().get(header::LOCATION).and_then(|to| to.to_str().ok());
        return Err(FetchError::Redirect { to: to.unwrap_or("nowhere").chars().take(200).collect() });
    }
    if status != StatusCode::OK {
        return Err(FetchError::Status(status));
    }
    let body = Limited::new(answer.into_body(), MAX_ANSWER).collect().await.map_err(FetchError::Body)?;
    let text = String::from_utf8(body.to_bytes().into())
        .map_err(|_| FetchError::NotKeys("the key set is not UTF-8"))?;
    match key_set_problem(&text) {
        None => Ok(text),
        Some(problem) => Err(FetchError::NotKeys(problem)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_no_web_address_is_refused() {
        let mesh = ClientTls::new(arc_swap::ArcSwap::new(public_tls().await.unwrap()));
        for uri in [
            "",
            "/keys",
            "ftp://example.org/keys",
            "file:///etc/passwd",
            "http://",
            "http://me:secret@host/keys",
        ] {
            let fetched = fetch(uri, &Route::Direct, &mesh).await;
            assert!(matches!(fetched, Err(FetchError::Address)), "{uri}: {fetched:?}");
        }
        for uri in
            ["http://169.254.169.254/keys", "http://[fe80::1]/keys", "https://metadata.google.internal/keys"]
        {
            let fetched = fetch(uri, &Route::Direct, &mesh).await;
            assert!(matches!(fetched, Err(FetchError::Forbidden { .. })), "{uri}: {fetched:?}");
        }
    }
}
