//! The client of a protocol in which the server speaks first.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, ClientConnection, RootCertStore};
use weft_e2e_kind::wire::Answer;

use crate::print;

/// Longest time for the whole exchange.
const PATIENCE: Duration = Duration::from_secs(15);

/// What `tcp` is told.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where to: `host:port`.
    address: String,

    /// Begin as a client of TLS does that asks for this server, and only read what the server says then.
    #[arg(long)]
    server_name: Option<String>,
}

/// Prints the greeting as the body of an answer without status; an error where something went wrong.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let result = timeout(PATIENCE, exchange(&args)).await.context("took too long");
    let (body, error) = match result.and_then(|result| result) {
        Ok(greeting) => (greeting, None),
        Err(error) => (String::new(), Some(format!("{error:#}"))),
    };
    let code = if error.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    print(&Answer { body, error, ..Answer::default() })?;
    Ok(code)
}

async fn exchange(Args { address, server_name }: &Args) -> anyhow::Result<String> {
    let stream = TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
    let (read, mut write) = stream.into_split();
    if let Some(name) = server_name {
        write.write_all(&client_hello(name)?).await.context("cannot write")?;
    }
    let mut lines = BufReader::new(read).lines();
    let greeting = lines.next_line().await.context("cannot read")?.context("closed before the greeting")?;
    if server_name.is_some() {
        return Ok(greeting);
    }
    write.write_all(b"ping\n").await.context("cannot write")?;
    let echo = lines.next_line().await.context("cannot read")?.context("closed before the echo")?;
    ensure!(echo == "ping", "sent ping, got {echo:?}");
    Ok(greeting)
}

/// The first message of a TLS client.
fn client_hello(name: &str) -> anyhow::Result<Vec<u8>> {
    let config = ClientConfig::builder_with_provider(weft_api::tls::provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned())?;
    let mut hello = Vec::new();
    ClientConnection::new(Arc::new(config), name)?.write_tls(&mut hello)?;
    Ok(hello)
}
