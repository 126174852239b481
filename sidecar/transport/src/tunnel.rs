//! Raw bytes both ways on one stream, each way ended by itself: what an upgrade or CONNECT becomes, and raw TCP.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::body::Held;
use crate::code::{Code, StreamError};
use crate::stream::{Switch, remember};

/// A stream as a connection. Dropped before both ends, the peer sees it break off.
pub struct Tunnel {
    stream: Held,
    /// What came and was not read yet.
    rest: Bytes,
}

/// Waits until the answer to a request agrees to end HTTP on its stream.
pub struct OnUpgrade(Option<Held>);

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Tunnel").field(&self.stream).finish()
    }
}

impl fmt::Debug for OnUpgrade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("OnUpgrade").field(&self.0).finish()
    }
}

impl Tunnel {
    pub(crate) fn new(mut stream: Held) -> Self {
        stream.owner = true;
        Self { stream, rest: Bytes::new() }
    }
}

impl OnUpgrade {
    pub(crate) fn new(stream: Held) -> Self {
        stream.slot.borrow_mut().claimed = true;
        Self(Some(stream))
    }
}

impl Future for OnUpgrade {
    type Output = Result<Tunnel, StreamError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(held) = &self.0 else { return Poll::Pending };
        let mut stream = held.slot.borrow_mut();
        match (stream.broken, stream.switch) {
            (Some(error), _) => Poll::Ready(Err(error)),
            (None, Switch::Offered) => {
                remember(&mut stream.recv.waker, cx);
                Poll::Pending
            }
            (None, Switch::No) => Poll::Ready(Err(StreamError::Failed(Code::Refused))),
            (None, Switch::Done) => {
                drop(stream);
                self.0.take().map_or(Poll::Pending, |held| Poll::Ready(Ok(Tunnel::new(held))))
            }
        }
    }
}

impl Drop for OnUpgrade {
    fn drop(&mut self) {
        let Some(stream) = &mut self.0 else { return };
        stream.owner = stream.slot.borrow().switch == Switch::Done;
        stream.slot.borrow_mut().claimed = false;
    }
}

impl AsyncRead for Tunnel {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while self.rest.is_empty() {
            let frame = ready!(self.stream.conn.poll_recv(&self.stream.slot, cx)).transpose()?;
            match frame.map(http_body::Frame::into_data) {
                None => return Poll::Ready(Ok(())),
                Some(Ok(data)) => self.rest = data,
                Some(Err(_)) => {}
            }
        }
        let count = self.rest.len().min(buf.remaining());
        let part = self.rest.split_to(count);
        buf.put_slice(&part);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tunnel {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let room = ready!(self.stream.conn.poll_capacity(&self.stream.slot, cx))?;
        let part = buf.get(..room.min(buf.len())).unwrap_or(buf);
        if self.stream.slot.borrow().send.ended {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        self.stream.conn.send_data(&self.stream.slot, Bytes::copy_from_slice(part), false);
        Poll::Ready(Ok(part.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream.conn.send_data(&self.stream.slot, Bytes::new(), true);
        Poll::Ready(Ok(()))
    }
}
