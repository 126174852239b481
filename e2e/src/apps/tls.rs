//! A TCP application that ends TLS itself, with a certificate of its own.

use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::listen;

/// A running TLS application.
pub struct TlsApp {
    /// Where it listens.
    pub addr: SocketAddr,
    /// Its certificate.
    pub certificate: CertificateDer<'static>,
    _tasks: JoinSet<()>,
}

impl TlsApp {
    /// Greets with the protocol that ALPN agreed on, sends back what it gets, and ends its side with `bye` when the
    /// client ended its own.
    pub async fn echo(host: &str) -> Self {
        let certified = rcgen::generate_simple_self_signed(vec![host.to_owned()]).unwrap();
        let certificate = certified.cert.der().clone();
        let key = PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
        let mut config = ServerConfig::builder_with_provider(weft_api::tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.clone()], key.into())
            .unwrap();
        config.alpn_protocols = vec![b"imap".to_vec(), b"h2".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let (addr, tasks) = listen(move |stream| converse(acceptor.clone(), stream)).await;
        Self { addr, certificate, _tasks: tasks }
    }
}

/// How a connection ends is what its client looks at.
async fn converse(acceptor: TlsAcceptor, stream: TcpStream) -> std::io::Result<()> {
    let mut stream = acceptor.accept(stream).await?;
    let mut greeting = stream.get_ref().1.alpn_protocol().unwrap_or(b"nothing").to_vec();
    greeting.push(b'\n');
    stream.write_all(&greeting).await?;
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            stream.write_all(b"bye").await?;
            return stream.shutdown().await;
        }
        stream.write_all(&buffer[..read]).await?;
        stream.flush().await?;
    }
}
