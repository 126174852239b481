//! A WebSocket that stays open: messages go out steadily, every echo counts, and so does every break.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use futures_util::{SinkExt, StreamExt};
use k8s_openapi::jiff::Timestamp;
use tokio::time::{Instant, interval, timeout};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;
use weft_e2e_kind::wire::{Failure, Line, Tick};

use crate::{millis, print, stopped};

/// Longest time until an echo.
const PATIENCE: Duration = Duration::from_secs(10);

/// What `ws` is told.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Where to: `ws://host:port/ws`.
    url: String,
    /// Time between two messages, in milliseconds.
    #[arg(long, default_value_t = 100)]
    every: u64,
}

/// Keeps a WebSocket open until SIGTERM; opens another when it breaks, which counts as a failure.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let began = Instant::now();
    let mut tick = Tick::default();
    let end = stopped();
    tokio::pin!(end);
    loop {
        let error = tokio::select! {
            result = talk(&args, began, &mut tick) => result.err(),
            () = &mut end => return Ok(ExitCode::SUCCESS),
        };
        tick.failed += 1;
        let why = error.map_or_else(|| "closed".to_owned(), |error| format!("{error:#}"));
        let took = millis(began.elapsed());
        print(&Line::Failure(Failure { when: Timestamp::now().to_string(), took, why }))?;
        tick.at = took;
        print(&Line::Tick(tick))?;
        tokio::time::sleep(Duration::from_millis(args.every)).await;
    }
}

async fn talk(args: &Args, began: Instant, tick: &mut Tick) -> anyhow::Result<()> {
    let (mut socket, _) = connect_async(args.url.as_str()).await.context("cannot open")?;
    let mut ticks = interval(Duration::from_millis(args.every));
    for number in 0_u64.. {
        ticks.tick().await;
        let sent = Instant::now();
        socket.send(Message::text(number.to_string())).await.context("cannot send")?;
        let echo = timeout(PATIENCE, socket.next()).await.context("no echo")?;
        match echo.context("ended")?.context("broke")? {
            Message::Text(text) if text.as_str() == number.to_string() => {}
            Message::Close(frame) => bail!("closed by the server: {frame:?}"),
            other => bail!("sent {number}, got {other:?}"),
        }
        tick.ok += 1;
        tick.at = millis(began.elapsed());
        tick.slowest = millis(sent.elapsed());
        print(&Line::Tick(*tick))?;
    }
    Ok(())
}
