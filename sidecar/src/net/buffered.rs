//! A socket whose bytes are read in large pieces: rustls asks for 4 KiB at a time, which would be four system calls for
//! each full record. It may begin with what has been read already. The buffer is the thread's own, borrowed only while it holds something. Writes pass through.

use std::cell::RefCell;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll, ready};

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Read at a time: four full records.
const SIZE: usize = 64 * 1024;
/// Buffers kept per thread.
const SPARE: usize = 4;

thread_local! {
    static BUFFERS: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
}

/// A socket that is read ahead.
#[derive(Debug)]
pub struct Buffered {
    socket: TcpStream,
    ahead: BytesMut,
}

impl Buffered {
    /// Reads this socket ahead.
    pub fn new(socket: TcpStream) -> Self {
        Self { socket, ahead: BytesMut::new() }
    }

    /// Goes on with a socket of which this has been read already.
    pub fn begun(socket: TcpStream, ahead: BytesMut) -> Self {
        Self { socket, ahead }
    }

    fn give_back(&mut self) {
        let mut buffer = std::mem::take(&mut self.ahead);
        BUFFERS.with_borrow_mut(|buffers| {
            if buffers.len() < SPARE {
                buffer.clear();
                buffers.push(buffer);
            }
        });
    }
}

impl AsyncRead for Buffered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.ahead.is_empty() {
            this.ahead = BUFFERS.with_borrow_mut(Vec::pop).unwrap_or_default();
            this.ahead.reserve(SIZE);
            let polled = pin!(this.socket.read_buf(&mut this.ahead)).poll(cx);
            if !matches!(polled, Poll::Ready(Ok(1..))) {
                this.give_back();
                return polled.map_ok(|_| ());
            }
            ready!(polled)?;
        }
        let count = this.ahead.len().min(buf.remaining());
        buf.put_slice(this.ahead.get(..count).unwrap_or_default());
        this.ahead.advance(count);
        if this.ahead.is_empty() {
            this.give_back();
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Buffered {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn what_is_read_ahead_comes_in_order_and_the_end_after_it() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (mut far, near) = tokio::join!(
            async { TcpStream::connect(listener.local_addr().unwrap()).await.unwrap() },
            async { listener.accept().await.unwrap().0 }
        );
        let mut near = Buffered::new(near);
        let sent: Vec<u8> = (0..200_000_u32).map(|at| (at % 251) as u8).collect();
        let given = sent.clone();
        let writing = async {
            far.write_all(&given).await.unwrap();
            far.shutdown().await.unwrap();
        };
        let mut got = Vec::new();
        let ((), read) = tokio::join!(writing, near.read_to_end(&mut got));
        read.unwrap();
        assert!(got == sent);
        assert_eq!(near.ahead.capacity(), 0, "given back");
    }
}
