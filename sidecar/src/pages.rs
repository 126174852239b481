//! The small HTTP/1.1 server of the control plane, under admin, health and metrics. Answers are made at once from what
//! is in memory, but for the application's health checks (`probe`) and taps (`telemetry/tap`); clients that are many, slow or large are cut off, so that nobody can hold the control plane up.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::config::Shared;
use crate::net::redirect::canonical;
use crate::telemetry::tap::Stream;

const MAX_CONNECTIONS: usize = 64;
const MAX_BODY: usize = 4096;
const MAX_HEAD: usize = 16 << 10;
/// For a request's head, which bounds the time between two requests of a connection too.
const HEAD: Duration = Duration::from_secs(30);
const BODY: Duration = Duration::from_secs(5);
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// An answer.
pub type Answer = Response<PageBody>;

/// What an answer says: all at once, or line by line as things happen.
#[derive(Debug)]
pub enum PageBody {
    /// All of it.
    Whole(Full<Bytes>),
    /// A tap's lines.
    Tap(Box<Stream>),
}

impl Body for PageBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        match self.get_mut() {
            Self::Whole(body) => Pin::new(body).poll_frame(cx),
            Self::Tap(stream) => Pin::new(&mut **stream).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Whole(body) => body.is_end_stream(),
            Self::Tap(_) => false,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(body) => body.size_hint(),
            Self::Tap(_) => SizeHint::default(),
        }
    }
}

/// Makes the answers of one port from what the proxy shares.
pub type Page = fn(&Shared, &Ask) -> Answer;

/// What is served on one port.
#[derive(Clone, Copy, Debug)]
pub enum Site {
    /// Answers from memory only.
    Pages(Page),
    /// These, and checks of the application under [`PROBE`].
    Health(Page),
}

/// Under this path the application's health checks are made.
const PROBE: &str = "/probe/";

/// A request whose body has been read.
#[derive(Debug)]
pub struct Ask {
    /// Who asks.
    pub peer: SocketAddr,
    /// The address it asked at.
    pub local: SocketAddr,
    /// What is asked.
    pub request: Request<Bytes>,
}

/// Serves the page on this port until told to finish.
pub async fn serve(listener: TcpListener, shared: Arc<Shared>, site: Site, finish: CancellationToken) {
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = finish.cancelled() => return,
        };
        let Ok((stream, peer)) = accepted else {
            // Out of descriptors or memory: trying again at once would only burn the processor.
            sleep(ACCEPT_AGAIN).await;
            continue;
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            debug!(%peer, "too many connections to the control plane; closed");
            continue;
        };
        let (shared, finish) = (Arc::clone(&shared), finish.clone());
        let tasks = shared.tasks.clone();
        tasks.spawn("page", async move {
            tokio::select! { () = converse(stream, peer, &shared, site) => {}, () = finish.cancelled() => {} }
            drop(place);
        });
    }
}

async fn converse(stream: TcpStream, peer: SocketAddr, shared: &Shared, site: Site) {
    let Ok(local) = stream.local_addr() else { return };
    let local = canonical(local);
    let service = service_fn(|request| async move {
        let answer = match read(request).await {
            Ok(request) => site.answer(shared, &Ask { peer, local, request }).await,
            Err(status) => text(status, "the request's body cannot be read\n"),
        };
        Ok::<_, Infallible>(answer)
    });
    let mut server = http1::Builder::new();
    server.timer(TokioTimer::new()).header_read_timeout(HEAD).max_buf_size(MAX_HEAD);
    if let Err(error) = server.serve_connection(TokioIo::new(stream), service).await {
        debug!(%peer, %error, "connection to the control plane ended");
    }
}

impl Site {
    async fn answer(self, shared: &Shared, ask: &Ask) -> Answer {
        match (self, ask.request.uri().path().strip_prefix(PROBE)) {
            (Self::Health(_), Some(probe)) if reads(ask.request.method()) => {
                Box::pin(shared.settings.probes.ask(probe, ask.local.ip())).await
            }
            (Self::Pages(page) | Self::Health(page), _) => page(shared, ask),
        }
    }
}

async fn read(request: Request<Incoming>) -> Result<Request<Bytes>, StatusCode> {
    let (parts, body) = request.into_parts();
    let body = timeout(BODY, Limited::new(body, MAX_BODY).collect()).await;
    match body.map_err(|_| StatusCode::REQUEST_TIMEOUT)? {
        Ok(body) => Ok(Request::from_parts(parts, body.to_bytes())),
        Err(_) => Err(StatusCode::PAYLOAD_TOO_LARGE),
    }
}

/// An answer of plain text.
pub fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    answer(status, "text/plain; charset=utf-8", body.into())
}

/// An answer of JSON, indented for people.
pub fn json(body: &impl Serialize) -> Answer {
    match serde_json::to_vec_pretty(body) {
        Ok(mut body) => {
            body.push(b'\n');
            answer(StatusCode::OK, "application/json", body.into())
        }
        Err(error) => text(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

/// The answer to a method that is not served here.
pub fn not_allowed(allowed: &'static str) -> Answer {
    let mut answer = text(StatusCode::METHOD_NOT_ALLOWED, format!("use {allowed}\n"));
    answer.headers_mut().insert(ALLOW, HeaderValue::from_static(allowed));
    answer
}

/// Whether the request only reads.
pub fn reads(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

/// An answer of lines, as they come.
pub fn lines(stream: Stream) -> Answer {
    let mut answer = answer(StatusCode::OK, "application/x-ndjson", Bytes::new());
    *answer.body_mut() = PageBody::Tap(Box::new(stream));
    answer
}

/// Any answer.
pub fn answer(status: StatusCode, kind: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(PageBody::Whole(Full::new(body)));
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
