//! The admission webhooks, HTTPS: the API server asks before it stores a pod (`mutate`: its proxy is put in) or a resource
//! of Weft (`validate`: what cannot work is refused). Here is what both have in common: connections, one bounded request
//! in, one answer out. Whatever goes wrong on the way is a refusal in words, never a pod without its proxy.

mod mutate;
#[cfg(test)]
mod tests;
mod validate;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use futures_util::FutureExt;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use kube::core::DynamicObject;
use kube::core::admission::{
    AdmissionRequest, AdmissionResponse, AdmissionReview, ConvertAdmissionReviewError,
};
use kube::core::response::Status;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, error, info, warn};
use weft_api::names::{PATH_MUTATE, PATH_VALIDATE};
use weft_core::inject::Template;

use super::{HANDSHAKE_WITHIN, ServerTls, next};
use crate::event::Hub;
use crate::metrics::Metrics;

/// The API server gives up after 5 s, and would then say less than this answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(4);
/// Two objects at the API server's limit of 3 MiB, and what is around them.
const BODY_LIMIT: usize = 7 * 1024 * 1024;
const CONNECTIONS: usize = 256;
/// A connection without a request is closed: the API server opens another, and nobody else is to keep one.
const HEAD_WITHIN: Duration = Duration::from_secs(30);
/// How long a connection may live.
const CONNECTION_LIFE: Duration = Duration::from_mins(10);

type Request = AdmissionRequest<DynamicObject>;

/// What the webhooks need.
#[derive(Clone, Debug)]
pub(crate) struct Webhook {
    pub(crate) hub: Hub,
    pub(crate) template: Arc<Template>,
    pub(crate) metrics: Arc<Metrics>,
}

/// Why there is no answer but a refusal.
#[derive(Debug, thiserror::Error)]
enum Failure {
    /// The object in the request is not what the webhook is for, or there is none.
    #[error("the webhook was asked about {0}, which it is not for; correct its rules")]
    NotFor(String),
    /// The object cannot be read.
    #[error("{kind} cannot be read: {error}; correct it, or upgrade Weft if the field is newer")]
    Unreadable { kind: &'static str, error: serde_json::Error },
    /// The reconciler is gone.
    #[error("the operator is stopping; try again")]
    Stopping(#[from] crate::event::Stopping),
    /// Nothing was said in time.
    #[error("the operator did not answer in time; try again, and look at its log if it stays so")]
    Late,
    /// A defect.
    #[error("the operator failed while it looked at the object; its log says how")]
    Panicked,
    /// The patch cannot be written.
    #[error("the patch cannot be written")]
    Patch(#[from] kube::core::admission::SerializePatchError),
}

/// Which webhook is asked.
#[derive(Clone, Copy, Debug)]
enum Which {
    Mutate,
    Validate,
}

impl Webhook {
    /// Serves until `stopping`, then lets open requests end.
    pub(crate) async fn serve(self, listener: TcpListener, tls: ServerTls, stopping: CancellationToken) {
        let router = Router::new()
            .route(PATH_MUTATE, post(mutate))
            .route(PATH_VALIDATE, post(validate))
            .with_state(self);
        let connections = TaskTracker::new();
        let room = Arc::new(Semaphore::new(CONNECTIONS));
        while let Some((tcp, permit)) = stopping.run_until_cancelled(next(&listener, &room)).await {
            // Boxed: its future is large, and most of the time there are few.
            let connection = Box::pin(connection(tcp, tls.load_full(), router.clone(), stopping.clone()));
            connections.spawn(async move {
                connection.await;
                drop(permit);
            });
        }
        connections.close();
        connections.wait().await;
    }

    /// The answer to a request that could be read.
    async fn answer(&self, which: Which, request: Request) -> AdmissionResponse {
        let refused = AdmissionResponse::from(&request);
        let answer = async {
            match which {
                Which::Mutate => mutate::answer(self, &request).await,
                Which::Validate => validate::answer(self, &request).await,
            }
        };
        let answer = tokio::time::timeout(ANSWER_WITHIN, AssertUnwindSafe(answer).catch_unwind()).await;
        let failure = match answer {
            Ok(Ok(Ok(answer))) => return answer,
            Ok(Ok(Err(failure))) => failure,
            Ok(Err(_)) => Failure::Panicked,
            Err(_) => Failure::Late,
        };
        error!(webhook = which.as_str(), object = described(&request), %failure, "not answered");
        self.count(which, "failed");
        let code = if matches!(failure, Failure::Unreadable { .. } | Failure::NotFor(_)) { 400 } else { 503 };
        deny(refused, &failure.to_string(), code)
    }

    fn count(&self, which: Which, outcome: &str) {
        self.metrics.admissions.with_label_values(&[outcome, which.as_str()]).inc();
    }

    /// Refuses what was asked about.
    fn refuse(&self, which: Which, request: &Request, why: &str) -> AdmissionResponse {
        info!(webhook = which.as_str(), object = described(request), why, "refused");
        self.count(which, "refused");
        deny(AdmissionResponse::from(request), why, 422)
    }
}

impl Which {
    fn as_str(self) -> &'static str {
        match self {
            Self::Mutate => "mutate",
            Self::Validate => "validate",
        }
    }
}

async fn connection(
    tcp: TcpStream,
    tls: Arc<rustls::ServerConfig>,
    router: Router,
    stopping: CancellationToken,
) {
    let tls = match tokio::time::timeout(HANDSHAKE_WITHIN, TlsAcceptor::from(tls).accept(tcp)).await {
        Ok(Ok(tls)) => tls,
        Ok(Err(error)) => return warn!(%error, "connection to the webhooks refused"),
        Err(_) => return warn!("connection to the webhooks refused: the handshake took too long"),
    };
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_WITHIN);
    server.http2().timer(TokioTimer::new()).max_concurrent_streams(64);
    let connection = server.serve_connection(TokioIo::new(tls), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let end = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        () = stopping.cancelled() => None,
        () = tokio::time::sleep(CONNECTION_LIFE) => None,
    };
    let ended = if let Some(ended) = end {
        ended
    } else {
        connection.as_mut().graceful_shutdown();
        tokio::time::timeout(ANSWER_WITHIN, connection).await.unwrap_or(Ok(()))
    };
    if let Err(error) = ended {
        debug!(error, "connection to the webhooks ended");
    }
}

async fn mutate(State(webhook): State<Webhook>, body: Body) -> Response {
    respond(&webhook, Which::Mutate, body).await
}

async fn validate(State(webhook): State<Webhook>, body: Body) -> Response {
    respond(&webhook, Which::Validate, body).await
}

/// A request that cannot be read has no number to answer to, so it gets none of the API server's answers but an error,
/// which fails closed as well.
async fn respond(webhook: &Webhook, which: Which, body: Body) -> Response {
    let bad = |status: StatusCode, why: String| {
        warn!(webhook = which.as_str(), why, "request cannot be read");
        webhook.count(which, "failed");
        (status, why).into_response()
    };
    let body = match tokio::time::timeout(ANSWER_WITHIN, to_bytes(body, BODY_LIMIT)).await {
        Ok(Ok(body)) => body,
        Ok(Err(error)) => return bad(StatusCode::PAYLOAD_TOO_LARGE, format!("body not read: {error}")),
        Err(_) => return bad(StatusCode::REQUEST_TIMEOUT, "the body took too long".to_owned()),
    };
    let review: AdmissionReview<DynamicObject> = match serde_json::from_slice(&body) {
        Ok(review) => review,
        Err(error) => return bad(StatusCode::BAD_REQUEST, format!("not an AdmissionReview: {error}")),
    };
    match review.try_into() {
        Ok(request) => Json(webhook.answer(which, request).await.into_review()).into_response(),
        Err(ConvertAdmissionReviewError) => {
            bad(StatusCode::BAD_REQUEST, "the AdmissionReview holds no request".to_owned())
        }
    }
}

fn deny(answer: AdmissionResponse, why: &str, code: u16) -> AdmissionResponse {
    let mut answer = answer.deny(why);
    let reason = if code == 422 { "Invalid" } else { "" };
    answer.result = Status::failure(why, reason).with_code(code);
    answer
}

/// Kind, namespace and name for people; a name that is still to be made shows what it is made of.
fn described(request: &Request) -> String {
    let generated = || request.object.as_ref().and_then(|object| object.metadata.generate_name.clone());
    let name = Some(request.name.clone()).filter(|name| !name.is_empty()).or_else(generated);
    let name = name.unwrap_or_default();
    match &request.namespace {
        Some(namespace) => format!("{} {namespace}/{name}", request.kind.kind),
        None => format!("{} {name}", request.kind.kind),
    }
}
