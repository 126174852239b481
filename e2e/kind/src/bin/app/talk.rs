//! Some WebSockets to one address: a frame goes out over the first, and what all of them get is printed.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};
use weft_e2e_kind::wire::Heard;

use crate::print;

/// Longest until the awaited frame.
const PATIENCE: Duration = Duration::from_secs(20);

/// What `talk` is told.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where to: `ws://host:port/path`.
    url: String,
    /// How many.
    #[arg(long, default_value_t = 2)]
    connections: usize,
    /// The text frame that goes out over the first, once all are open.
    #[arg(long)]
    send: String,
    /// What the frame holds that each of them waits for.
    #[arg(long)]
    until: String,
}

/// Prints every frame with the instance that sent it, up to the awaited one of each connection.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let mut open = Vec::new();
    for _ in 0..args.connections {
        let (socket, answer) = connect_async(args.url.as_str()).await.context("cannot open")?;
        let by = answer.headers().get("x-served-by").and_then(|value| value.to_str().ok());
        open.push((by.unwrap_or_default().to_owned(), socket));
    }
    let (_, first) = open.first_mut().context("at least one connection")?;
    first.send(Message::text(args.send)).await.context("cannot send")?;
    for (number, (by, socket)) in open.iter_mut().enumerate() {
        timeout(PATIENCE, listen(by, socket, &args.until))
            .await
            .with_context(|| format!("connection {number} waited in vain"))??;
    }
    Ok(ExitCode::SUCCESS)
}

async fn listen(
    by: &str,
    socket: &mut WebSocketStream<MaybeTlsStream<TcpStream>>,
    until: &str,
) -> anyhow::Result<()> {
    loop {
        match socket.next().await.context("ended")?.context("broke")? {
            Message::Text(frame) => {
                print(&Heard { by: by.to_owned(), frame: frame.to_string() })?;
                if frame.contains(until) {
                    return Ok(());
                }
            }
            Message::Close(frame) => bail!("closed by the server: {frame:?}"),
            _ => {}
        }
    }
}
