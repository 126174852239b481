//! From a command line to a served service: settings, log, sockets, signals. The last file before a service's own.
//! Both protocols are served in clear text: the sidecar holds the keys.

use std::{ffi::OsString, io, process::ExitCode};

use axum::{Router, serve::ListenerExt as _};
use clap::Parser;
use tokio::{
    net::TcpListener,
    signal::unix::{SignalKind, signal},
};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::{
    settings::{self, Common},
    telemetry,
};

/// The two sockets of a service.
pub struct Listeners {
    /// JSON over HTTP.
    pub http: TcpListener,
    /// gRPC.
    pub grpc: TcpListener,
}

impl Listeners {
    /// Opens the sockets that the settings name.
    pub async fn bind(settings: &Common) -> io::Result<Self> {
        let open = async |addr: std::net::SocketAddr| {
            let named =
                |error: io::Error| io::Error::new(error.kind(), format!("cannot listen on {addr}: {error}"));
            TcpListener::bind(addr).await.map_err(named)
        };
        Ok(Self { http: open(settings.http_addr).await?, grpc: open(settings.grpc_addr).await? })
    }
}

/// What a service's `main` does: read the settings, start the log, open the sockets, serve until a signal.
pub async fn main<S, F>(argv: impl IntoIterator<Item = OsString>, serve: F) -> ExitCode
where
    S: Parser + AsRef<Common>,
    F: AsyncFnOnce(S, Listeners, CancellationToken) -> anyhow::Result<()>,
{
    let settings: S = match settings::read(argv) {
        Ok(settings) => settings,
        Err(error) => {
            // Nowhere is left to report that stderr is closed.
            error.print().ok();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    // On the heap: a service with all that it waits for is large.
    match Box::pin(start(settings, serve)).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            error!(error = format!("{error:#}"), "the service ends");
            ExitCode::FAILURE
        }
    }
}

async fn start<S, F>(settings: S, serve: F) -> anyhow::Result<()>
where
    S: AsRef<Common>,
    F: AsyncFnOnce(S, Listeners, CancellationToken) -> anyhow::Result<()>,
{
    let common: &Common = settings.as_ref();
    telemetry::start(common)?;
    let listeners = Listeners::bind(common).await?;
    info!(http = %listeners.http.local_addr()?, grpc = %listeners.grpc.local_addr()?, "listening");
    let (mut term, mut int) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    let signals = async move {
        tokio::select! {
            _ = term.recv() => info!("SIGTERM: stopping"),
            _ = int.recv() => info!("SIGINT: stopping"),
        }
        stop.cancel();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        result = serve(settings, listeners, shutdown) => result,
        () = signals => Ok(()),
    }
}

/// Serves both until told to stop and the requests in flight are done.
pub async fn serve(
    listeners: Listeners,
    http: Router,
    grpc: Router,
    shutdown: &CancellationToken,
) -> io::Result<()> {
    let run = |listener: TcpListener, router: Router| {
        let listener = listener.tap_io(|socket| {
            // Without it small answers wait for the peer's acknowledgement; a socket that refuses is closing.
            socket.set_nodelay(true).ok();
        });
        axum::serve(listener, router).with_graceful_shutdown(shutdown.clone().cancelled_owned()).into_future()
    };
    tokio::try_join!(run(listeners.http, http), run(listeners.grpc, grpc)).map(|((), ())| ())
}
