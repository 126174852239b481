//! The process around the mailbox: settings, log, sockets, signals.

use std::sync::Arc;

use anyhow::Context as _;
use clap::Parser as _;
use shop_mailbox::{Listeners, messages::Messages, settings::Settings};
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;
use tracing::info;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let settings = Settings::parse();
    tracing_subscriber::fmt().json().flatten_event(true).init();
    let open = async |addr| TcpListener::bind(addr).await.with_context(|| format!("cannot listen on {addr}"));
    let listeners =
        Listeners { http: open(settings.http_addr).await?, smtp: open(settings.smtp_addr).await? };
    info!(http = %listeners.http.local_addr()?, smtp = %listeners.smtp.local_addr()?, "listening");
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let shutdown = CancellationToken::new();
    let stop = async {
        tokio::select! {
            _ = term.recv() => {}
            _ = int.recv() => {}
        }
        shutdown.cancel();
    };
    let messages = Arc::new(Messages::new(settings.keep));
    let (served, ()) = tokio::join!(shop_mailbox::serve(messages, listeners, shutdown.clone()), stop);
    Ok(served?)
}
