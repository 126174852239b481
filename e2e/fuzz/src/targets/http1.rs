//! Bytes of an HTTP/1.1 client: what is answered to them does not depend on how they are cut.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Response;
use http_body_util::{BodyExt, Full};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use weft_http1::server::{Incoming, serve};
use weft_http1::{Config, Control, Refusal};

/// The target.
pub fn run(data: &[u8]) {
    let Some((&size, bytes)) = data.split_first() else { return };
    let whole = conversation(std::iter::once(bytes));
    let cut = conversation(bytes.chunks(usize::from(size).max(1)));
    assert_eq!(whole, cut);
}

/// A client that has said all it has to say and waits for nothing.
struct Client<'a> {
    says: VecDeque<&'a [u8]>,
    hears: &'a mut Vec<u8>,
}

impl AsyncRead for Client<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Some(piece) = self.says.pop_front() {
            let (now, later) = piece.split_at(piece.len().min(buf.remaining()));
            buf.put_slice(now);
            if !later.is_empty() {
                self.says.push_front(later);
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Client<'_> {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.hears.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Says what was asked.
async fn echo(incoming: Result<Incoming<Client<'_>>, Refusal>) -> Response<Full<Bytes>> {
    let mut answer = Response::new(Full::default());
    match incoming {
        Err(refusal) => *answer.status_mut() = refusal.status(),
        Ok(incoming) => {
            let (parts, body) = incoming.request.into_parts();
            match body.collect().await {
                Err(_) => *answer.status_mut() = http::StatusCode::BAD_REQUEST,
                Ok(body) => {
                    let trailers = body.trailers().cloned();
                    *answer.body_mut() = format!("{parts:?} {:?} {trailers:?}", body.to_bytes()).into();
                }
            }
        }
    }
    answer
}

/// Answers to what was understood, and whether something was refused after it; with what is a matter of what comes first.
fn conversation<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<u8>, bool) {
    let mut hears = Vec::new();
    let client = Client { says: pieces.collect(), hears: &mut hears };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let control = Rc::new(Control::default());
    drop(runtime.block_on(serve(client, &Config::default(), &control, echo)));
    let refused = [&b"HTTP/1.1 4"[..], b"HTTP/1.1 5"]
        .iter()
        .filter_map(|status| hears.windows(status.len()).position(|found| found == *status))
        .min();
    hears.truncate(refused.unwrap_or(hears.len()));
    (hears, refused.is_some())
}
