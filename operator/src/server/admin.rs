//! The admin listener, plain HTTP: metrics, readiness, the status of the mesh and the world behind it. Shows no
//! secrets; bound to loopback by default.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
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
        let router = Router::new()
            .route("/live", get(async || "live\n"))
            .route("/ready", get(ready))
            .route("/metrics", get(metrics))
            .route("/status.json", get(status))
            .route("/debug/world", get(world))
            .with_state(self);
        axum::serve(listener, router).with_graceful_shutdown(stopping.cancelled_owned()).await
    }
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
