//! One running service: what all its parts share, and the order in which it starts, serves and stops.
//!
//! It answers /health at once and everything else when it is ready. When told to stop it says so for a moment, then
//! takes no new connections, finishes the requests in flight, its background work, and closes the pool; all within
//! the time set.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{Json, Router, extract::DefaultBodyLimit, middleware, response::IntoResponse as _, routing::get};
use http::{HeaderValue, StatusCode};
use serde_json::{Value, json};
use sqlx::PgPool;
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tokio::time::{Instant, interval, sleep, timeout_at};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::service::Routes;
use tonic_health::server::{HealthReporter, HealthService};
use tonic_health::{ServingStatus, pb::health_server::HealthServer};
use tracing::{Instrument as _, info, warn};

use crate::{
    access, clock,
    errors::{Kind, Problem},
    health::{Dependency, Health, State},
    metrics::Metrics,
    openapi, reflection,
    server::{self, Listeners},
    settings::Common,
    store,
};

const LARGEST_BODY: usize = 64 * 1024;
const HEALTH_EVERY: Duration = Duration::from_secs(5);
const CLOSE_POOL: Duration = Duration::from_secs(1);

/// What is served and what is done meanwhile.
pub struct Parts<P> {
    /// The JSON API.
    pub http: Router,
    /// The gRPC API.
    pub grpc: Routes,
    /// What must have happened before requests are answered.
    pub prepare: P,
}

/// One running service.
pub struct Service {
    name: &'static str,
    version: &'static str,
    instance: String,
    instance_header: HeaderValue,
    started: OffsetDateTime,
    settings: Common,
    pool: PgPool,
    health: Health,
    metrics: Metrics,
    openapi: OnceLock<Value>,
    failed: AtomicBool,
    tasks: TaskTracker,
    /// Told to stop.
    shutdown: CancellationToken,
    /// Stopping: others have had time to learn of it.
    closing: CancellationToken,
}

impl Service {
    /// A service that is about to start. `needed` is what it needs beside its database.
    pub fn new(
        (name, version): (&'static str, &'static str),
        settings: &Common,
        pool: &PgPool,
        needed: Vec<Dependency>,
        shutdown: &CancellationToken,
    ) -> Arc<Self> {
        let instance = settings.instance();
        let dependencies = std::iter::once(Dependency::Database(pool.clone())).chain(needed).collect();
        Arc::new(Self {
            name,
            version,
            instance_header: HeaderValue::try_from(&instance).unwrap_or(HeaderValue::from_static("unnamed")),
            instance,
            started: clock::now(),
            settings: settings.clone(),
            pool: pool.clone(),
            health: Health::new(dependencies, Instant::now()),
            metrics: Metrics::new(),
            openapi: OnceLock::new(),
            failed: AtomicBool::new(false),
            tasks: TaskTracker::new(),
            shutdown: shutdown.clone(),
            closing: CancellationToken::new(),
        })
    }

    /// Describes the JSON API by the service's part of its `OpenAPI` document, to be served at /openapi.json.
    pub fn describe(&self, openapi: &str) -> anyhow::Result<()> {
        let document = openapi::document(openapi, self.version)?;
        anyhow::ensure!(self.openapi.set(document).is_ok(), "a service is described once");
        Ok(())
    }

    /// Serves until told to stop.
    pub async fn run<P>(self: Arc<Self>, listeners: Listeners, parts: Parts<P>) -> anyhow::Result<()>
    where
        P: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let Parts { http, grpc, prepare } = parts;
        let reporter = HealthReporter::new();
        let grpc = reflection::add(grpc, self.name)?;
        let grpc = grpc.add_service(HealthServer::new(HealthService::from_health_reporter(reporter.clone())));
        self.background("pool metrics", store::watch(self.pool.clone(), self.metrics.clone()));
        self.background("grpc health", report_grpc_health(self.clone(), reporter));
        self.tasks.spawn(self.clone().close_when_told());
        let starting = self.clone();
        self.background("start", async move {
            match prepare.await {
                Ok(()) => {
                    starting.health.set_ready();
                    info!(service = starting.name, instance = starting.instance, "ready");
                }
                Err(error) => {
                    tracing::error!(error = format!("{error:#}"), "cannot start");
                    starting.failed.store(true, Ordering::Release);
                    starting.closing.cancel();
                }
            }
        });

        let served =
            server::serve(listeners, self.http(http), self.observed(grpc.into_axum_router()), &self.closing);
        self.stop(served).await
    }

    async fn stop(&self, served: impl Future<Output = std::io::Result<()>>) -> anyhow::Result<()> {
        tokio::pin!(served);
        // Serving ends by itself only if it fails; when it ends because the service is closing, there is more to do.
        tokio::select! {
            biased;
            () = self.closing.cancelled() => {}
            result = &mut served => return Ok(result?),
        }
        let deadline = Instant::now() + self.settings.shutdown_timeout;
        match timeout_at(deadline, served).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(%error, "serving ended badly"),
            Err(_) => warn!("requests in flight did not end in time"),
        }
        self.tasks.close();
        if timeout_at(deadline, self.tasks.wait()).await.is_err() {
            warn!("background work did not end in time");
        }
        if timeout_at(deadline + CLOSE_POOL, self.pool.close()).await.is_err() {
            warn!("the database pool did not close in time");
        }
        info!(service = self.name, instance = self.instance, "stopped");
        if self.failed.load(Ordering::Acquire) { Err(anyhow::anyhow!("could not start")) } else { Ok(()) }
    }

    async fn close_when_told(self: Arc<Self>) {
        // A service that could not start closes without having been told to.
        if self.closing.run_until_cancelled(self.shutdown.cancelled()).await.is_some() {
            self.health.set_stopping();
            sleep(self.settings.drain_delay).await;
            self.closing.cancel();
        }
    }

    /// Does something beside the requests until the service stops.
    pub fn background(&self, name: &'static str, work: impl Future<Output = ()> + Send + 'static) {
        let closing = self.closing.clone();
        self.tasks.spawn(async move {
            if closing.run_until_cancelled(work).await.is_none() {
                tracing::debug!(task = name, "ended");
            }
        });
    }

    /// Does something that outlives its request and sees by itself when the service closes, such as a connection that
    /// stopped being HTTP. The service waits for it.
    pub fn linger(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(work);
    }

    /// Does something that must end before the service does, though nobody may wait for it any more.
    pub async fn finish<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, Problem> {
        let internal = |error: tokio::task::JoinError| Problem::internal(&error);
        self.tasks.spawn(work.in_current_span()).await.map_err(internal)
    }

    fn http(self: &Arc<Self>, api: Router) -> Router {
        let (health, info, metrics, openapi) = (self.clone(), self.clone(), self.clone(), self.clone());
        let unknown = || async { Problem::new(Kind::NotFound, "not-found", "there is no such path") };
        let wrong_method =
            || async { Problem::new(Kind::WrongMethod, "wrong-method", "see the header Allow") };
        let router = api
            .route("/health", get(async move || health.show_health().await))
            .route("/info", get(async move || info.show_info()))
            .route("/metrics", get(async move || metrics.metrics.text()))
            .route("/openapi.json", get(async move || openapi.show_openapi()))
            .fallback(unknown)
            .method_not_allowed_fallback(wrong_method)
            .layer(DefaultBodyLimit::max(LARGEST_BODY));
        self.observed(router)
    }

    fn observed(self: &Arc<Self>, router: Router) -> Router {
        router.layer(middleware::from_fn_with_state(self.clone(), access::observe))
    }

    async fn show_health(&self) -> axum::response::Response {
        let report = self.health.report(clock::now()).await;
        let code =
            if report.status == State::Down { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
        (code, Json(report)).into_response()
    }

    fn show_info(&self) -> Json<Value> {
        Json(json!({
            "name": self.name,
            "version": self.version,
            "instance": self.instance,
            "port": self.settings.http_addr.port(),
            "grpc_port": self.settings.grpc_addr.port(),
            "started": self.started.format(&Rfc3339).unwrap_or_default(),
        }))
    }

    fn show_openapi(&self) -> Result<Json<Value>, Problem> {
        let missing = || Problem::new(Kind::NotFound, "not-found", "this service has no document");
        self.openapi.get().cloned().map(Json).ok_or_else(missing)
    }

    /// The name of the service.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The name of this instance.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// The name of this instance as a header.
    pub fn instance_header(&self) -> &HeaderValue {
        &self.instance_header
    }

    /// Its health.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Its metrics.
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Cancelled when the service stops taking requests.
    pub fn closing(&self) -> &CancellationToken {
        &self.closing
    }

    /// Longest a request may take.
    pub fn request_timeout(&self) -> Duration {
        self.settings.request_timeout
    }
}

async fn report_grpc_health(service: Arc<Service>, reporter: HealthReporter) {
    let mut tick = interval(HEALTH_EVERY);
    while service.shutdown.run_until_cancelled(tick.tick()).await.is_some() {
        let serving = match service.health.report(clock::now()).await.status {
            State::Up | State::Degraded | State::Unknown => ServingStatus::Serving,
            State::Down => ServingStatus::NotServing,
        };
        reporter.set_service_status("", serving).await;
        reporter.set_service_status(service.name, serving).await;
    }
    reporter.set_service_status("", ServingStatus::NotServing).await;
    reporter.set_service_status(service.name, ServingStatus::NotServing).await;
}

#[cfg(test)]
mod tests;
