//! One type for every byte stream of the data plane, plain or TLS, so that hyper's state machines are compiled once.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

use super::buffered::Buffered;

/// A connection, accepted or made.
#[derive(Debug)]
pub enum Stream {
    /// Plain TCP.
    Plain(TcpStream),
    /// Bytes as they are, of which the first have been looked at.
    Begun(Box<Buffered>),
    /// TLS, this side accepted.
    Accepted(Box<tokio_rustls::server::TlsStream<Buffered>>),
    /// TLS, this side connected.
    Connected(Box<tokio_rustls::client::TlsStream<Buffered>>),
    /// One of many on a connection between two proxies.
    Carried(Box<weft_transport::Tunnel>),
}

impl Stream {
    /// The protocol that both ends agreed on; none where it is plain.
    pub fn alpn(&self) -> Option<&[u8]> {
        match self {
            Self::Plain(_) | Self::Begun(_) | Self::Carried(_) => None,
            Self::Accepted(stream) => stream.get_ref().1.alpn_protocol(),
            Self::Connected(stream) => stream.get_ref().1.alpn_protocol(),
        }
    }

    /// The server name that a TLS client asked for.
    pub fn server_name(&self) -> Option<&str> {
        match self {
            Self::Accepted(stream) => stream.get_ref().1.server_name(),
            Self::Plain(_) | Self::Begun(_) | Self::Connected(_) | Self::Carried(_) => None,
        }
    }
}

macro_rules! each {
    ($self:ident, $io:ident => $call:expr) => {
        match $self.get_mut() {
            Stream::Plain($io) => $call,
            Stream::Begun($io) => $call,
            Stream::Accepted($io) => $call,
            Stream::Connected($io) => $call,
            Stream::Carried($io) => $call,
        }
    };
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        each!(self, io => Pin::new(io).poll_read(cx, buf))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        each!(self, io => Pin::new(io).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, io => Pin::new(io).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, io => Pin::new(io).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, io => Pin::new(io).poll_shutdown(cx))
    }
}
