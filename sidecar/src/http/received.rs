//! What comes off a connection, whatever carried it: a body, and the bytes of a connection that stops being HTTP. The one
//! place where the codecs and transports of the data plane meet; nothing beyond it knows which one a request came by.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::limited::Limited;
use crate::net::stream::Stream;

/// A body as it was received.
#[derive(Debug)]
pub enum Received {
    /// By hyper.
    Hyper(Incoming),
    /// By our codec for HTTP/1.1.
    Http1(weft_http1::Body<Stream>),
    /// By `weft/1`.
    Weft(weft_transport::Body),
    /// A client's, within the limits that it has.
    Limited(Box<Limited>),
}

/// Why a body broke off.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// Received by hyper.
    #[error(transparent)]
    Hyper(#[from] hyper::Error),
    /// Received by our codec for HTTP/1.1.
    #[error(transparent)]
    Http1(#[from] weft_http1::Error),
    /// Received by `weft/1`.
    #[error(transparent)]
    Weft(#[from] weft_transport::StreamError),
    /// It has more bytes than it may.
    #[error("the body is too large")]
    TooLarge,
    /// It did not come in time.
    #[error("the body came too slowly")]
    TooSlow,
}

/// What polling a body for its next frame gives.
pub type PolledFrame = Poll<Option<Result<Frame<Bytes>, BodyError>>>;

impl http_body::Body for Received {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> PolledFrame {
        match self.get_mut() {
            Self::Hyper(body) => Pin::new(body).poll_frame(cx).map_err(BodyError::Hyper),
            Self::Http1(body) => Pin::new(body).poll_frame(cx).map_err(BodyError::Http1),
            Self::Weft(body) => Pin::new(body).poll_frame(cx).map_err(BodyError::Weft),
            Self::Limited(body) => body.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Hyper(body) => body.is_end_stream(),
            Self::Http1(body) => body.is_end_stream(),
            Self::Weft(body) => body.is_end_stream(),
            Self::Limited(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Hyper(body) => body.size_hint(),
            Self::Http1(body) => body.size_hint(),
            Self::Weft(body) => body.size_hint(),
            Self::Limited(body) => body.size_hint(),
        }
    }
}

/// Resolves once a connection has stopped being HTTP.
#[derive(Debug)]
pub enum OnSwitch {
    /// One of hyper's.
    Hyper(OnUpgrade),
    /// One of our codec's.
    Http1(weft_http1::OnUpgrade<Stream>),
    /// A stream of `weft/1`, once its answer says so.
    Weft(weft_transport::OnUpgrade),
    /// A stream of `weft/1` whose answer has said so.
    Switched(Option<weft_transport::Tunnel>),
}

impl Future for OnSwitch {
    type Output = io::Result<Switched>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.get_mut() {
            Self::Hyper(upgrade) => Pin::new(upgrade)
                .poll(cx)
                .map_ok(|upgraded| Switched::Hyper(TokioIo::new(upgraded)))
                .map_err(io::Error::other),
            Self::Http1(upgrade) => {
                Pin::new(upgrade).poll(cx).map_ok(Switched::Http1).map_err(io::Error::other)
            }
            Self::Weft(upgrade) => Pin::new(upgrade).poll(cx).map_ok(Switched::Weft).map_err(io::Error::from),
            Self::Switched(tunnel) => {
                let tunnel = tunnel.take().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData));
                Poll::Ready(tunnel.map(Switched::Weft))
            }
        }
    }
}

/// The bytes of a connection that has stopped being HTTP.
#[derive(Debug)]
pub enum Switched {
    /// One of hyper's.
    Hyper(TokioIo<Upgraded>),
    /// One of our codec's.
    Http1(weft_http1::Upgraded<Stream>),
    /// A stream of `weft/1`.
    Weft(weft_transport::Tunnel),
}

impl AsyncRead for Switched {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Hyper(io) => Pin::new(io).poll_read(cx, buf),
            Self::Http1(io) => Pin::new(io).poll_read(cx, buf),
            Self::Weft(io) => Pin::new(io).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Switched {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Hyper(io) => Pin::new(io).poll_write(cx, bytes),
            Self::Http1(io) => Pin::new(io).poll_write(cx, bytes),
            Self::Weft(io) => Pin::new(io).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Hyper(io) => Pin::new(io).poll_flush(cx),
            Self::Http1(io) => Pin::new(io).poll_flush(cx),
            Self::Weft(io) => Pin::new(io).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Hyper(io) => Pin::new(io).poll_shutdown(cx),
            Self::Http1(io) => Pin::new(io).poll_shutdown(cx),
            Self::Weft(io) => Pin::new(io).poll_shutdown(cx),
        }
    }
}
