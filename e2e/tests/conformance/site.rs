//! The places where requests come in, each one proxy before one application that keeps every byte.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use weft_api::names::{ALPN_H2, ALPN_HTTP1};
use weft_api::tls;
use weft_e2e::apps::raw::RawApp;
use weft_e2e::client::trusting;
use weft_e2e::manifest::{gateway, http_route, secret, service};
use weft_e2e::mesh::Mesh;

/// What the gateway's certificate is for.
pub(crate) const HOST: &str = "shop.example";

/// Every kind of service there is here, and a gateway.
pub(crate) fn manifests() -> String {
    let plain = "{name: http, port: 8080, protocol: HTTP}";
    let tls = "{name: https, port: 8443, protocol: HTTPS, tls: {certificateRefs: [{name: edge}]}}";
    [
        service("plain", "  mtls: {mode: Disabled}"),
        service("strict", ""),
        service("open", "  mtls: {mode: Permissive}"),
        service("bare", "  mtls: {mode: Permissive}"),
        gateway(&[plain, tls]),
        http_route("  - {backendRefs: [{name: bare, port: 80}]}"),
    ]
    .concat()
}

/// Where requests come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// A sidecar's inbound side, without mutual TLS.
    Inbound,
    /// The same with it.
    InboundTls,
    /// An inbound side that takes TLS from clients without a certificate too.
    InboundPermissive,
    /// A sidecar's outbound side.
    Outbound,
    /// A gateway's plain listener.
    Gateway,
    /// Its TLS listener.
    GatewayTls,
}

/// A connection, whatever carries it.
pub(crate) trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Duplex for T {}

/// A mesh with all entries.
pub(crate) struct Site {
    pub(crate) mesh: Mesh,
    edge: CertificateDer<'static>,
}

impl Site {
    /// A site whose every entry leads to this application.
    pub(crate) fn new(app: SocketAddr) -> Self {
        let (secret, edge) = secret(HOST);
        let mut mesh = Mesh::new(&(manifests() + &secret));
        mesh.add_bare("bare-0", &[("http", app)]);
        mesh.add("plain-0", &[("http", app)]);
        mesh.add("strict-0", &[("http", app)]);
        mesh.add("open-0", &[("http", app)]);
        mesh.add_gateway("public-0", &["http", "https"]);
        Self { mesh, edge }
    }

    /// With an application that keeps every byte.
    pub(crate) async fn recording() -> (Self, RawApp) {
        let app = RawApp::start().await;
        (Self::new(app.addr), app)
    }

    pub(crate) fn address(&self, entry: Entry) -> SocketAddr {
        match entry {
            Entry::Inbound => self.mesh.inbound("plain-0", "http"),
            Entry::InboundTls => self.mesh.inbound("strict-0", "http"),
            Entry::InboundPermissive => self.mesh.inbound("open-0", "http"),
            Entry::Outbound => self.mesh.outbound("plain-0", "shop/bare:http"),
            Entry::Gateway => self.mesh.listener("public-0", "http"),
            Entry::GatewayTls => self.mesh.listener("public-0", "https"),
        }
    }

    /// Connects, over TLS where the entry asks for it, to speak HTTP/2 or HTTP/1.1.
    pub(crate) async fn connect(&self, entry: Entry, http2: bool) -> Box<dyn Duplex> {
        let stream = TcpStream::connect(self.address(entry)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let alpn: &[&[u8]] = &[if http2 { ALPN_H2 } else { ALPN_HTTP1 }];
        let (config, name) = match entry {
            Entry::Inbound | Entry::InboundPermissive | Entry::Outbound | Entry::Gateway => {
                return Box::new(stream);
            }
            Entry::InboundTls => {
                (tls::client_config(&self.mesh.identity("plain"), alpn).unwrap(), "strict.shop.svc")
            }
            Entry::GatewayTls => (trusting(&self.edge, alpn), HOST),
        };
        let name = ServerName::try_from(name).unwrap();
        Box::new(tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap())
    }
}

/// One request over TLS, and its answer.
pub(crate) async fn get_tls(stream: TcpStream, edge: &CertificateDer<'static>) -> std::io::Result<String> {
    let name = ServerName::try_from(HOST).unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(trusting(edge, &[ALPN_HTTP1])));
    let mut tls = connector.connect(name, stream).await?;
    tls.write_all(b"GET / HTTP/1.1\r\nhost: shop.example\r\nconnection: close\r\n\r\n").await?;
    let mut answer = String::new();
    tls.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// What a client of the gateway says first.
pub(crate) fn client_hello() -> Vec<u8> {
    let config = Arc::new(trusting(&secret(HOST).1, &[ALPN_HTTP1]));
    let name = ServerName::try_from(HOST).unwrap();
    let mut connection = rustls::ClientConnection::new(config, name).unwrap();
    let mut hello = Vec::new();
    connection.write_tls(&mut hello).unwrap();
    hello
}
