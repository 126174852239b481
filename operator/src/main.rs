//! `weft-operator`: reads the settings, sets up the log, and runs the operator until SIGTERM or Ctrl-C.
//!
//! Nothing else happens here: what the operator is, `weft_operator::app` puts together, for tests and `weft run` too.

use std::io::IsTerminal;

use anyhow::Context;
use clap::Parser;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;
use weft_operator::app;
use weft_operator::settings::{Args, LogFormat, Settings};

fn main() -> anyhow::Result<()> {
    let settings = Settings::try_from(Args::parse())?;
    start_log(&settings)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("runtime")?;
    runtime.block_on(run(settings))
}

async fn run(settings: Settings) -> anyhow::Result<()> {
    let stopping = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be watched")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be watched")?;
    let (bound, _) = oneshot::channel();
    let operator = app::run(settings, bound, stopping.clone());
    let mut operator = std::pin::pin!(operator);
    tokio::select! {
        ended = &mut operator => return ended,
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    stopping.cancel();
    operator.await
}

fn start_log(settings: &Settings) -> anyhow::Result<()> {
    let mut filter: EnvFilter = settings.log.parse().context("log filter")?;
    if !settings.log.contains("kube_runtime") {
        // They tell of every attempt that fails; the operator says once that something does.
        for directive in ["kube_runtime=error", "kube_client::client::builder=off"] {
            filter = filter.add_directive(directive.parse().context("log filter")?);
        }
    }
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(std::io::stdout().is_terminal());
    let started = match settings.log_format {
        LogFormat::Json => log.json().flatten_event(true).try_init(),
        LogFormat::Text => log.try_init(),
    };
    started.map_err(|error| anyhow::anyhow!(error)).context("log")
}
