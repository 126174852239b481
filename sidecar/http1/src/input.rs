//! Bytes on their way in. They are read into one buffer per thread and cut out of it: a connection that has nothing to
//! read holds no memory, and no body is copied. Heads are copied once, into as many bytes as they have, so that a request
//! that lasts does not hold the buffer that others came in too.

use std::cell::RefCell;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use tokio::io::AsyncRead;
use tokio_util::io::poll_read_buf;

use crate::head::Scan;
use crate::{Config, Refusal};

/// What the buffer is made for.
const CHUNK: usize = 64 << 10;
/// With less room left a new one is made, or the old one used from its start where nobody holds it any more.
const LEAST: usize = 16 << 10;

thread_local! {
    static BUFFER: RefCell<BytesMut> = RefCell::new(BytesMut::new());
}

/// Reads once; nothing at the end.
pub(crate) fn poll_read<IO: AsyncRead + Unpin>(io: &mut IO, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
    BUFFER.with_borrow_mut(|buffer| {
        if buffer.capacity() < LEAST {
            buffer.reserve(CHUNK);
        }
        ready!(poll_read_buf(Pin::new(io), cx, buffer))?;
        Poll::Ready(Ok(buffer.split().freeze()))
    })
}

/// What was read and not used yet.
#[derive(Debug, Default)]
pub(crate) struct Input {
    /// After the head that is being read, or all of it.
    pub(crate) unread: Bytes,
    /// Beginning of a head that did not come at once.
    begun: BytesMut,
    scan: Scan,
    /// Whether heads are those of answers, before which nothing is ignored.
    pub(crate) answers: bool,
}

impl Input {
    /// The next head, once it is there whole.
    pub(crate) fn head(&mut self, config: &Config) -> Result<Option<Bytes>, Refusal> {
        if self.unread.is_empty() {
            return Ok(None);
        }
        if !self.begun.is_empty() {
            self.begun.extend_from_slice(&self.unread);
            self.unread.clear();
            let Some((start, end)) = self.scan.scan(&self.begun, config)? else { return Ok(None) };
            self.check(start)?;
            let mut head = self.begun.split_to(end).freeze();
            head.advance(start);
            self.unread = std::mem::take(&mut self.begun).freeze();
            self.scan = Scan::default();
            return Ok(Some(head));
        }
        let Some((start, end)) = self.scan.scan(&self.unread, config)? else {
            self.begun.extend_from_slice(&self.unread);
            self.unread.clear();
            return Ok(None);
        };
        self.check(start)?;
        let head = self.unread.get(start..end).map(Bytes::copy_from_slice).unwrap_or_default();
        self.unread.advance(end);
        self.scan = Scan::default();
        Ok(Some(head))
    }

    const fn check(&self, start: usize) -> Result<(), Refusal> {
        if self.answers && start > 0 {
            return Err(Refusal::Malformed("an empty line before an answer"));
        }
        Ok(())
    }

    /// Whether a head has begun and not ended.
    pub(crate) fn is_inside(&self) -> bool {
        self.scan.is_inside()
    }

    /// Whether there is nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.unread.is_empty() && self.begun.is_empty()
    }
}
