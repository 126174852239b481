//! Connections that stop being HTTP: an upgrade, or a tunnel that CONNECT opened (RFC 9110, sections 7.8 and 9.3.6).

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Buf;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::error::Error;
use crate::wire::{Shared, Switch};

/// The bytes of a connection after HTTP, those that came with the last head first.
#[derive(Debug)]
pub struct Upgraded<IO> {
    wire: Shared<IO>,
}

/// Resolves once the answer that ends HTTP has been written; an error where another one was.
#[derive(Debug)]
pub struct OnUpgrade<IO> {
    wire: Shared<IO>,
}

impl<IO> OnUpgrade<IO> {
    pub(crate) const fn new(wire: Shared<IO>) -> Self {
        Self { wire }
    }
}

impl<IO> Future for OnUpgrade<IO> {
    type Output = Result<Upgraded<IO>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match &mut self.wire.borrow_mut().switch {
            Switch::Open(waker) => {
                *waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
            Switch::Never => return Poll::Ready(Err(Error::Over)),
            Switch::Done => {}
        }
        Poll::Ready(Ok(Upgraded { wire: Shared::clone(&self.wire) }))
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for Upgraded<IO> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let wire = &mut *self.wire.borrow_mut();
        let unread = &mut wire.input.unread;
        if unread.is_empty() {
            return Pin::new(&mut wire.io).poll_read(cx, buf);
        }
        let here = unread.len().min(buf.remaining());
        buf.put_slice(unread.get(..here).unwrap_or_default());
        unread.advance(here);
        Poll::Ready(Ok(()))
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for Upgraded<IO> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.wire.borrow_mut().io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.wire.borrow_mut().io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.wire.borrow().io.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire.borrow_mut().io).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire.borrow_mut().io).poll_shutdown(cx)
    }
}
