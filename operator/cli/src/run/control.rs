//! The control socket of a run: HTTP on a Unix socket that only its owner can open. `GET /status`; `POST /stop/NAME`,
//! `/start/NAME`, `/restart/NAME`, each answered when it is done. What the answers hold is in api.rs.

use std::convert::Infallible;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::UnixListener;

use super::Run;

/// Binds the socket; one that a killed run left is replaced.
pub(crate) fn bind(run: &Run) -> io::Result<UnixListener> {
    let path = run.cx.state.control();
    if path.exists() {
        fs::remove_file(&path)?;
    }
    let listener = UnixListener::bind(&path)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves until the task is dropped.
pub(crate) async fn serve(run: Arc<Run>, listener: UnixListener) {
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            // Out of file descriptors, most likely; others will be closed.
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            continue;
        };
        let run = Arc::clone(&run);
        let ending = run.cx.ending.clone();
        let tasks = run.cx.tasks.clone();
        tasks.spawn(async move {
            let service = service_fn(move |request| answer(Arc::clone(&run), request));
            let connection =
                http1::Builder::new().keep_alive(false).serve_connection(TokioIo::new(stream), service);
            // A client that hung up has nothing to be told.
            drop(ending.run_until_cancelled(connection).await);
        });
    }
}

async fn answer(run: Arc<Run>, request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let mut parts = path.trim_start_matches('/').splitn(2, '/');
    let (verb, name) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let done = match (request.method(), verb) {
        (&Method::GET, "status") => return Ok(json(StatusCode::OK, &run.status())),
        (&Method::POST, "stop") => run.fleet.stop(name).await,
        (&Method::POST, "start") => run.fleet.start(name).await,
        (&Method::POST, "restart") => run.fleet.restart(name).await,
        _ => {
            return Ok(problem(
                StatusCode::NOT_FOUND,
                "GET /status, POST /stop/NAME, /start/NAME or /restart/NAME",
            ));
        }
    };
    Ok(match done {
        Ok(done) => json(StatusCode::OK, &done),
        Err(error) => problem(StatusCode::CONFLICT, &format!("{error:#}")),
    })
}

fn problem(status: StatusCode, detail: &str) -> Response<Full<Bytes>> {
    json(status, &serde_json::json!({"status": status.as_u16(), "detail": detail}))
}

fn json(status: StatusCode, value: &impl serde::Serialize) -> Response<Full<Bytes>> {
    let body = serde_json::to_vec(value).expect("these types have text keys only");
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let kind = http::HeaderValue::from_static("application/json");
    response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    response
}
