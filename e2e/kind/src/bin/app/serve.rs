//! The server: says who it is and what it got, fails when it is told to, echoes WebSocket messages, answers gRPC health
//! checks, and on a second port speaks first.

mod http;
mod raw;

use std::net::{Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Context;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::stopped;

/// What `serve` is told.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Port for HTTP, WebSocket and gRPC.
    #[arg(long, default_value_t = 8080)]
    http: u16,
    /// Port on which the server speaks first.
    #[arg(long, default_value_t = 9000)]
    tcp: u16,
    /// Its name in answers.
    #[arg(long, env = "HOSTNAME", default_value = "")]
    name: String,
}

/// What the connections share.
pub(crate) struct Server {
    name: String,
    failing: AtomicBool,
    unhealthy: AtomicBool,
    stop: CancellationToken,
}

/// Serves until SIGTERM; then finishes what is under way.
pub(crate) async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let http = listen(args.http).await?;
    let tcp = listen(args.tcp).await?;
    let server = Arc::new(Server {
        name: args.name,
        failing: AtomicBool::new(false),
        unhealthy: AtomicBool::new(false),
        stop: CancellationToken::new(),
    });
    let mut connections = JoinSet::new();
    let end = stopped();
    tokio::pin!(end);
    loop {
        tokio::select! {
            accepted = http.accept() => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(http::serve(Arc::clone(&server), stream));
                }
            }
            accepted = tcp.accept() => {
                if let Ok((stream, _)) = accepted {
                    connections.spawn(raw::serve(Arc::clone(&server), stream));
                }
            }
            Some(_) = connections.join_next() => {}
            () = &mut end => break,
        }
    }
    server.stop.cancel();
    connections.join_all().await;
    Ok(ExitCode::SUCCESS)
}

/// All addresses, of IPv4 alone where the machine has no IPv6.
async fn listen(port: u16) -> anyhow::Result<TcpListener> {
    let all = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    if let Ok(listener) = TcpListener::bind(all).await {
        return Ok(listener);
    }
    TcpListener::bind(("0.0.0.0", port)).await.with_context(|| format!("cannot listen on port {port}"))
}
