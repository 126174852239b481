//! The client of a protocol in which the server speaks first.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;
use weft_e2e_kind::wire::Answer;

use crate::print;

/// Longest time for the whole exchange.
const PATIENCE: Duration = Duration::from_secs(15);

/// What `tcp` is told.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where to: `host:port`.
    address: String,
}

/// Prints the greeting as the body of an answer without status; an error where something went wrong.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let result = timeout(PATIENCE, exchange(&args.address)).await.context("took too long");
    let (body, error) = match result.and_then(|result| result) {
        Ok(greeting) => (greeting, None),
        Err(error) => (String::new(), Some(format!("{error:#}"))),
    };
    let code = if error.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE };
    print(&Answer { body, error, ..Answer::default() })?;
    Ok(code)
}

async fn exchange(address: &str) -> anyhow::Result<String> {
    let stream = TcpStream::connect(address).await.with_context(|| format!("cannot connect to {address}"))?;
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    let greeting = lines.next_line().await.context("cannot read")?.context("closed before the greeting")?;
    write.write_all(b"ping\n").await.context("cannot write")?;
    let echo = lines.next_line().await.context("cannot read")?.context("closed before the echo")?;
    ensure!(echo == "ping", "sent ping, got {echo:?}");
    Ok(greeting)
}
