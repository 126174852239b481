//! New TLS connections, one request each: with a full handshake, or resumed by the ticket of an earlier one. TLS 1.3 and
//! X25519 on every path, since not every rival speaks more.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use anyhow::{Result, ensure};
use rustls::client::Resumption;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::{ClientConfig, HandshakeKind, RootCertStore};
use rustls_pki_types::ServerName;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::http1::{Request, connect_from, exchange};
use super::{HOST, Record};
use crate::loads::Handshake;

/// One client with sessions of its own.
pub(super) struct Client {
    connector: TlsConnector,
    handshake: Handshake,
}

impl Client {
    pub(super) fn new(roots: Arc<RootCertStore>, handshake: Handshake) -> Result<Self> {
        let provider =
            CryptoProvider { kx_groups: vec![aws_lc_rs::kx_group::X25519], ..aws_lc_rs::default_provider() };
        let mut config = ClientConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.resumption = match handshake {
            Handshake::Full => Resumption::disabled(),
            Handshake::Resumed => Resumption::in_memory_sessions(64),
        };
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), handshake })
    }

    async fn connect(&self, index: usize, address: SocketAddr) -> Result<TlsStream<TcpStream>> {
        let stream = connect_from(index, address).await?;
        Ok(self.connector.connect(ServerName::try_from(HOST)?, stream).await?)
    }
}

/// Connects, asks once, closes, again and again.
pub(super) async fn connections(
    client: Client,
    address: SocketAddr,
    request: Request,
    index: usize,
    record: Rc<Record>,
) -> Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    if client.handshake == Handshake::Resumed {
        once(&mut client.connect(index, address).await?, &request, &mut buffer).await?;
    }
    sleep_until(record.begin).await;
    let mut now = Instant::now();
    while now < record.end {
        let mut stream = client.connect(index, address).await?;
        once(&mut stream, &request, &mut buffer).await?;
        let resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
        ensure!(resumed == (client.handshake == Handshake::Resumed), "not the handshake that was asked for");
        now = record.answer(now);
    }
    Ok(())
}

async fn once(stream: &mut TlsStream<TcpStream>, request: &Request, buffer: &mut [u8]) -> Result<()> {
    exchange(stream, request, buffer).await?;
    // Some close without a farewell (RFC 8446, 6.1), which rustls calls an unexpected end.
    ensure!(!matches!(stream.read(buffer).await, Ok(1..)), "more than one answer to one request");
    Ok(())
}
