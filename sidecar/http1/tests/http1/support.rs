//! A server that says back what it was asked, and a client that says what it is told to.

use std::fmt::Write as _;
use std::pin::pin;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use http_body_util::{BodyExt, Full};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio::time::timeout;
use weft_http1::server::{Incoming, serve};
use weft_http1::{Config, Control, Error, Refusal};

/// Nothing more comes after this; with a paused clock it costs no time.
pub(crate) const QUIET: Duration = Duration::from_millis(300);

/// What lasts longer hangs.
const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) type Answer = Response<Full<Bytes>>;

pub(crate) fn text(status: StatusCode, text: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(text.into()));
    *answer.status_mut() = status;
    answer
}

/// Says what was asked, or why it is refused.
pub(crate) async fn echo(incoming: Result<Incoming<DuplexStream>, Refusal>) -> Answer {
    let incoming = match incoming {
        Ok(incoming) => incoming,
        Err(refusal) => return text(refusal.status(), refusal.to_string()),
    };
    let (parts, body) = incoming.request.into_parts();
    let mut said = format!("{} {} {:?}\n", parts.method, parts.uri, parts.version);
    for (name, value) in &parts.headers {
        writeln!(said, "{name}: {}", String::from_utf8_lossy(value.as_bytes())).unwrap();
    }
    match body.collect().await {
        Err(Error::Refused(refusal)) => return text(refusal.status(), refusal.to_string()),
        Err(error) => return text(StatusCode::BAD_REQUEST, error.to_string()),
        Ok(body) => {
            for (name, value) in body.trailers().into_iter().flatten() {
                writeln!(said, "trailer {name}: {}", value.to_str().unwrap()).unwrap();
            }
            write!(said, "\n{}", String::from_utf8_lossy(&body.to_bytes())).unwrap();
        }
    }
    text(StatusCode::OK, said)
}

/// What a server with this handler answers to these pieces, and how it ended where it did.
pub(crate) async fn converse<H, F>(
    pieces: &[&[u8]],
    config: Config,
    handler: H,
) -> (String, Option<Result<(), Error>>)
where
    H: Fn(Result<Incoming<DuplexStream>, Refusal>) -> F,
    F: Future<Output = Answer>,
{
    let (mut near, far) = duplex(1 << 20);
    let control = Rc::new(Control::default());
    let mut serving = pin!(serve(far, &config, &control, handler));
    let talking = async {
        for piece in pieces {
            // The server may have closed already.
            if near.write_all(piece).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
        let mut answer = Vec::new();
        let mut piece = [0; 4096];
        let closed = loop {
            match timeout(QUIET, near.read(&mut piece)).await {
                Ok(Ok(count @ 1..)) => answer.extend_from_slice(&piece[..count]),
                Ok(_) => break true,
                Err(_) => break false,
            }
        };
        (String::from_utf8_lossy(&answer).into_owned(), closed)
    };
    let mut talking = pin!(talking);
    let mut ended = None;
    let (answer, closed) = loop {
        tokio::select! {
            biased;
            result = &mut serving, if ended.is_none() => ended = Some(result),
            said = &mut talking => break said,
        }
    };
    if closed && ended.is_none() {
        ended = timeout(PATIENCE, serving).await.ok();
    }
    (answer, ended)
}

/// As [`converse`] with the echo, the bytes cut into pieces of this size.
pub(crate) async fn ask_in_pieces(bytes: &[u8], size: usize) -> (String, Option<Result<(), Error>>) {
    let pieces: Vec<&[u8]> = bytes.chunks(size).collect();
    converse(&pieces, Config::default(), echo).await
}

/// What the echo answers.
pub(crate) async fn ask(bytes: &[u8]) -> String {
    ask_in_pieces(bytes, usize::MAX).await.0
}

/// Statuses of all answers.
pub(crate) fn statuses(answers: &str) -> Vec<&str> {
    answers.match_indices("HTTP/1.1 ").filter_map(|(at, _)| answers.get(at + 9..at + 12)).collect()
}
