//! The admin listener, plain HTTP: metrics and readiness for everyone who reaches it, the status of the mesh and the world
//! behind it for the machine itself. Shows no secrets; bound to loopback by default.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::event::{Event, Hub, Stopping};
use crate::metrics::Metrics;

/// What the admin listener needs.
#[derive(Clone, Debug)]
pub(crate) struct Admin {
    pub(crate) hub: Hub,
    pub(crate) metrics: Arc<Metrics>,
    /// Whether identities and configuration are served.
    pub(crate) ready: watch::Receiver<bool>,
}

impl Admin {
    /// Serves until `stopping`.
    pub(crate) async fn serve(
        self,
        listener: TcpListener,
        stopping: CancellationToken,
    ) -> std::io::Result<()> {
        let from_here = Router::new()
            .route("/status.json", get(status))
            .route("/debug/world", get(world))
            .route_layer(middleware::from_fn(only_from_here));
        let router = Router::new()
            .route("/live", get(async || "live\n"))
            .route("/ready", get(ready))
            .route("/metrics", get(metrics))
            .merge(from_here)
            .with_state(self)
            .into_make_service_with_connect_info::<SocketAddr>();
        axum::serve(listener, router).with_graceful_shutdown(stopping.cancelled_owned()).await
    }
}

/// Who names services, peers and problems to whom is not for everyone in a cluster to know.
async fn only_from_here(
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    if is_here(peer) {
        return next.run(request).await;
    }
    let how = "only for callers on this machine; in a cluster: \
               kubectl -n weft-system port-forward deploy/weft-operator 15014\n";
    (StatusCode::FORBIDDEN, how).into_response()
}

fn is_here(peer: SocketAddr) -> bool {
    peer.ip().to_canonical().is_loopback()
}

async fn ready(State(admin): State<Admin>) -> Response {
    if *admin.ready.borrow() {
        "ready\n".into_response()
    } else {
        let why = "not ready: no configuration has been accepted yet; see /status.json\n";
        (StatusCode::SERVICE_UNAVAILABLE, why).into_response()
    }
}

async fn metrics(State(admin): State<Admin>) -> Response {
    match admin.metrics.text() {
        Ok(text) => ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

async fn status(State(admin): State<Admin>) -> Response {
    answer(admin.hub.ask(Event::Status).await)
}

async fn world(State(admin): State<Admin>) -> Response {
    answer(admin.hub.ask(Event::World).await)
}

fn answer<T: serde::Serialize>(answer: Result<T, Stopping>) -> Response {
    match answer {
        Ok(value) => Json(value).into_response(),
        Err(stopping) => (StatusCode::SERVICE_UNAVAILABLE, stopping.to_string()).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn here_is_loopback_in_every_spelling() {
        for here in ["127.0.0.1:1", "127.0.7.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert!(is_here(here.parse().unwrap()), "{here}");
        }
        for there in ["10.0.0.7:1", "[::ffff:10.0.0.7]:1", "[fd00::1]:1", "0.0.0.0:1"] {
            assert!(!is_here(there.parse().unwrap()), "{there}");
        }
    }
}
