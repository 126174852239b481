//! What happens around every request, HTTP and gRPC alike: its context is made, its deadline kept, a panic caught,
//! the answer marked with who gave it, and one line logged and counted. The first step of the path through a service.

use std::{panic::AssertUnwindSafe, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::{IntoResponse as _, Response},
};
use futures_util::FutureExt as _;
use http::{HeaderName, header};
use tokio::time::{Instant, timeout_at};
use tracing::{Instrument as _, debug, error, info, info_span};

use crate::{
    cx::{Cx, REQUEST_ID},
    errors::{Kind, Problem},
    service::Service,
};

const SERVED_BY: HeaderName = HeaderName::from_static("x-served-by");
/// Paths that answer before the service is ready, and are not worth a line in the log each.
const INFRASTRUCTURE: [&str; 6] =
    ["/health", "/info", "/metrics", "/openapi.json", "/grpc.health.v1.Health/", "/grpc.reflection.v1"];

/// Runs one request.
pub async fn observe(State(service): State<Arc<Service>>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let cx = Cx::new(request.headers(), started, service.request_timeout());
    request.extensions_mut().insert(cx.clone());
    let line = Line::new(&request);
    let span = info_span!(
        "request",
        trace_id = cx.trace_id(),
        request_id = cx.request_id().to_str().unwrap_or_default()
    );

    let mut response = if line.infrastructure || service.health().is_ready() {
        answer(&cx, line.grpc, next.run(request)).instrument(span).await
    } else {
        refuse(Problem::new(Kind::Unavailable, "starting", "the service is starting; try again"), line.grpc)
    };

    response.headers_mut().insert(REQUEST_ID.clone(), cx.request_id().clone());
    response.headers_mut().insert(SERVED_BY, service.instance_header().clone());
    line.end(&service, &cx, &response, started.elapsed());
    response
}

async fn answer(cx: &Cx, grpc: bool, request: impl Future<Output = Response>) -> Response {
    match timeout_at(cx.deadline(), AssertUnwindSafe(request).catch_unwind()).await {
        Ok(Ok(response)) => response,
        Ok(Err(_)) => {
            error!("a handler panicked");
            refuse(Problem::new(Kind::Internal, "internal", "the service failed"), grpc)
        }
        Err(_) => refuse(Problem::timeout(), grpc),
    }
}

fn refuse(problem: Problem, grpc: bool) -> Response {
    if grpc { tonic::Status::from(problem).into_http::<Body>() } else { problem.into_response() }
}

/// What is known of a request before it is handed on.
struct Line {
    method: http::Method,
    path: String,
    route: String,
    grpc: bool,
    infrastructure: bool,
}

impl Line {
    fn new(request: &Request) -> Self {
        let content_type = request.headers().get(header::CONTENT_TYPE).map(http::HeaderValue::as_bytes);
        let path = request.uri().path().to_owned();
        Self {
            method: request.method().clone(),
            route: request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned(),
            grpc: content_type.is_some_and(|value| value.starts_with(b"application/grpc")),
            infrastructure: INFRASTRUCTURE.iter().any(|known| path.starts_with(known)),
            path,
        }
    }

    fn end(&self, service: &Service, cx: &Cx, response: &Response, took: Duration) {
        let grpc_status = response.headers().get("grpc-status").and_then(|value| value.to_str().ok());
        let http_status = response.status();
        let (protocol, status) =
            if self.grpc { ("grpc", grpc_status.unwrap_or("0")) } else { ("http", http_status.as_str()) };
        service.metrics().request(protocol, &self.route, status, took);
        macro_rules! line {
            ($level:ident) => {
                $level!(
                    service = service.name(),
                    instance = service.instance(),
                    trace_id = cx.trace_id(),
                    request_id = cx.request_id().to_str().unwrap_or_default(),
                    user = cx.caller().ok().map(|caller| tracing::field::display(caller.id)),
                    protocol,
                    method = %self.method,
                    path = self.path,
                    status,
                    duration_ms = took.as_secs_f64() * 1000.0,
                    "request"
                )
            };
        }
        if self.infrastructure { line!(debug) } else { line!(info) }
    }
}
