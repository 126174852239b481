//! An HTTP application (HTTP/1.1 and HTTP/2 by prior knowledge): answers every request with what it saw, as JSON, or
//! with the status it was told to.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::listen_at;

/// What the application saw of a request; also the body of its answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Seen {
    /// Name of the application.
    pub app: String,
    /// Method.
    pub method: String,
    /// Path and query.
    pub path: String,
    /// Lower-case names; several values joined by `, `.
    pub headers: BTreeMap<String, String>,
    /// Body, as text.
    pub body: String,
}

/// A running application. Dropped, it closes its port and all its connections.
pub struct HttpApp {
    /// Where it listens.
    pub addr: SocketAddr,
    state: Arc<State>,
    tasks: JoinSet<()>,
}

#[derive(Default)]
struct State {
    name: String,
    /// 0: 200.
    status: AtomicU16,
    /// Milliseconds before each answer.
    delay: AtomicU64,
    /// Close the connection instead of answering.
    reset: AtomicBool,
    headers: Mutex<Vec<(String, String)>>,
    seen: Mutex<Vec<Seen>>,
}

impl HttpApp {
    /// Starts on a free port of loopback.
    pub async fn start(name: &str) -> Self {
        Self::start_at(name, SocketAddr::from(([127, 0, 0, 1], 0))).await
    }

    /// Starts at this address: to come back where it was.
    pub async fn start_at(name: &str, addr: SocketAddr) -> Self {
        let state = Arc::new(State { name: name.to_owned(), ..State::default() });
        let shared = Arc::clone(&state);
        let (addr, tasks) = listen_at(addr, move |stream| serve(stream, Arc::clone(&shared))).await;
        Self { addr, state, tasks }
    }

    /// Answers with this status from now on.
    pub fn answer_with(&self, status: u16) {
        self.state.status.store(status, Ordering::SeqCst);
    }

    /// Waits this long before each answer from now on.
    pub fn delay(&self, delay: Duration) {
        self.state.delay.store(delay.as_millis().try_into().unwrap(), Ordering::SeqCst);
    }

    /// Closes the connection instead of answering, from now on.
    pub fn reset(&self, reset: bool) {
        self.state.reset.store(reset, Ordering::SeqCst);
    }

    /// Adds this header to every answer from now on.
    pub fn add_header(&self, name: &str, value: &str) {
        self.state.headers.lock().unwrap().push((name.to_owned(), value.to_owned()));
    }

    /// Everything it saw, oldest first.
    pub fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }

    /// How many requests it saw.
    pub fn count(&self) -> usize {
        self.state.seen.lock().unwrap().len()
    }

    /// Closes the port and every connection, and waits until that is done.
    pub async fn stop(mut self) -> SocketAddr {
        self.tasks.shutdown().await;
        self.addr
    }
}

async fn serve(stream: TcpStream, state: Arc<State>) {
    stream.set_nodelay(true).unwrap();
    let service = service_fn(move |request| answer(request, Arc::clone(&state)));
    // A connection that ends badly is the client's test, not this application's.
    drop(auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await);
}

async fn answer(request: Request<Incoming>, state: Arc<State>) -> Result<Response<Full<Bytes>>, Reset> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Reset)?.to_bytes();
    let mut headers: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in &parts.headers {
        let value = String::from_utf8_lossy(value.as_bytes()).into_owned();
        headers.entry(name.to_string()).and_modify(|all| *all = format!("{all}, {value}")).or_insert(value);
    }
    let path = parts.uri.path_and_query().map(ToString::to_string).unwrap_or_default();
    let seen = Seen {
        app: state.name.clone(),
        method: parts.method.to_string(),
        path,
        headers,
        body: String::from_utf8_lossy(&body).into_owned(),
    };
    let json = serde_json::to_vec(&seen).unwrap();
    state.seen.lock().unwrap().push(seen);
    tokio::time::sleep(Duration::from_millis(state.delay.load(Ordering::SeqCst))).await;
    if state.reset.load(Ordering::SeqCst) {
        return Err(Reset);
    }
    let status = match state.status.load(Ordering::SeqCst) {
        0 => StatusCode::OK,
        code => StatusCode::from_u16(code).unwrap(),
    };
    let mut response = Response::builder().status(status).header("content-type", "application/json");
    for (name, value) in state.headers.lock().unwrap().iter() {
        response = response.header(name, value);
    }
    Ok(response.body(Full::new(json.into())).unwrap())
}

/// Makes hyper close the connection.
#[derive(Debug)]
struct Reset;

impl std::fmt::Display for Reset {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("told to close the connection")
    }
}

impl std::error::Error for Reset {}

impl From<Infallible> for Reset {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}
