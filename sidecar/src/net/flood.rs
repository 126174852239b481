//! Watches the frames that a client of HTTP/2 sends, before hyper reads them, and ends a connection whose frames cost more
//! than they bring (RFC 9113, section 10.5): streams opened and reset at once, PING, SETTINGS or PRIORITY by the thousand,
//! empty DATA, windows opened byte by byte, header blocks in crumbs. Requests, bodies and acknowledgements cost nothing.
//! It changes no byte and leaves every other judgement to hyper.

use std::cell::Cell;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use super::stream::Stream;

/// The client's preface, before its first frame (RFC 9113, section 3.4).
const PREFACE: usize = 24;
/// Length, type, flags and stream of a frame (section 4.1).
const HEAD: usize = 9;
/// With a window's increment.
const HEAD_AND_INCREMENT: usize = HEAD + 4;
/// Smaller steps of a window cost; larger ones cannot be many, since windows have an end.
const SMALL_STEP: u32 = 1024;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
/// `END_STREAM` of DATA, `ACK` of SETTINGS and PING.
const FLAG: u8 = 1;

/// A stream whose frames are watched.
#[derive(Debug)]
pub struct Guarded {
    stream: Stream,
    frames: Frames,
    flooded: Rc<Cell<bool>>,
}

impl Guarded {
    /// Watches this stream: `limit` frames without content per second, twice that at once. Says in `flooded` that it
    /// ended the connection.
    pub fn new(stream: Stream, limit: u32, flooded: Rc<Cell<bool>>) -> Self {
        Self { stream, frames: Frames::new(limit), flooded }
    }
}

impl AsyncRead for Guarded {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        if polled.is_ready() && !this.frames.see(buf.filled().get(before..).unwrap_or_default()) {
            this.flooded.set(true);
            return Poll::Ready(Err(io::Error::other("too many frames without content")));
        }
        polled
    }
}

impl AsyncWrite for Guarded {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// Keeps up with the frames in what is read.
#[derive(Debug)]
pub struct Frames {
    /// Bytes that need not be looked at: the preface, payloads.
    skip: usize,
    head: [u8; HEAD_AND_INCREMENT],
    filled: usize,
    limit: u32,
    left: u32,
    since: Instant,
}

impl Frames {
    /// Nothing has been read yet; `limit` as in [`Guarded::new`].
    pub fn new(limit: u32) -> Self {
        let left = limit.saturating_mul(2);
        let head = [0; HEAD_AND_INCREMENT];
        Self { skip: PREFACE, head, filled: 0, limit, left, since: Instant::now() }
    }

    /// Looks at the next bytes; whether they may pass.
    pub fn see(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let here = self.skip.min(bytes.len());
                self.skip -= here;
                bytes = bytes.get(here..).unwrap_or_default();
                continue;
            }
            let here = (self.wanted() - self.filled).min(bytes.len());
            let (new, rest) = bytes.split_at(here);
            for (slot, byte) in self.head.iter_mut().skip(self.filled).zip(new) {
                *slot = *byte;
            }
            self.filled += here;
            bytes = rest;
            if self.filled == self.wanted() && !self.frame() {
                return false;
            }
        }
        true
    }

    /// Bytes of this frame that are looked at.
    const fn wanted(&self) -> usize {
        let [a, b, c, kind, ..] = self.head;
        let has_increment = a == 0 && b == 0 && c >= 4;
        if self.filled >= HEAD && kind == WINDOW_UPDATE && has_increment { HEAD_AND_INCREMENT } else { HEAD }
    }

    fn frame(&mut self) -> bool {
        let [a, b, c, kind, flags, _, _, _, _, step @ ..] = self.head;
        let length = u32::from_be_bytes([0, a, b, c]);
        let flag = flags & FLAG != 0;
        let costs = match kind {
            DATA => length == 0 && !flag,
            HEADERS => false,
            SETTINGS | PING => !flag,
            WINDOW_UPDATE => u32::from_be_bytes(step) < SMALL_STEP,
            _ => true,
        };
        let read = self.filled - HEAD;
        self.skip = (length as usize).saturating_sub(read);
        self.filled = 0;
        !costs || self.pay()
    }

    /// Takes one from the allowance, which the clock refills.
    fn pay(&mut self) -> bool {
        if self.limit == 0 {
            return true;
        }
        if self.left == 0 {
            let now = Instant::now();
            let passed = now.saturating_duration_since(self.since).min(Duration::from_secs(2));
            let earned = passed.as_millis() * u128::from(self.limit) / 1000;
            self.left = u32::try_from(earned).unwrap_or(u32::MAX);
            if self.left > 0 {
                self.since = now;
            }
        }
        let may = self.left > 0;
        self.left = self.left.saturating_sub(1);
        may
    }
}

#[cfg(test)]
mod tests;
