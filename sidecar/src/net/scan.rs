//! Watches the bytes of an accepted HTTP/1.1 connection before hyper sees them, and finds what hyper is lenient about:
//! a bare LF as line end (RFC 9112, section 2.2) and Content-Length beside Transfer-Encoding (section 6.3), both ways
//! to smuggle a request. Keeps up with pipelining and bodies by the same framing rules. It changes no byte: the request
//! handler asks whether the head it was given is a bad one, refuses it and closes. All other faults hyper refuses.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::stream::Stream;

/// What the scanner knows, shared with the handler and the watch over connections. Atomics because hyper wants streams
/// that can move between threads; all sides live on one.
#[derive(Debug, Default)]
pub struct Heads {
    /// Heads that have been read to their end.
    complete: AtomicU32,
    /// Whether the bytes end inside a head.
    inside: AtomicBool,
    /// Number of the first bad head, counted from 1; 0: none.
    bad: AtomicU32,
}

impl Heads {
    /// Heads read to their end so far.
    pub fn complete(&self) -> u32 {
        self.complete.load(Ordering::Relaxed)
    }

    /// Whether a head has begun and not ended.
    pub fn is_inside(&self) -> bool {
        self.inside.load(Ordering::Relaxed)
    }

    /// Whether the `number`th head of this connection, counted from 1, must be refused.
    pub fn is_bad(&self, number: u32) -> bool {
        let bad = self.bad.load(Ordering::Relaxed);
        bad != 0 && bad <= number
    }
}

/// What is found in the bytes of a connection that come in these pieces: the scanner without a stream, for fuzzing.
#[doc(hidden)]
pub fn scan_pieces<'b>(pieces: impl IntoIterator<Item = &'b [u8]>) -> Arc<Heads> {
    let heads = Arc::new(Heads::default());
    let mut scanner = Scanner::new(Arc::clone(&heads));
    pieces.into_iter().for_each(|piece| scanner.scan(piece));
    heads
}

/// A stream whose heads are watched; without `Heads`, a plain pass-through.
#[derive(Debug)]
pub struct Scanned {
    stream: Stream,
    scanner: Option<Scanner>,
}

impl Scanned {
    /// Watches this stream.
    pub fn new(stream: Stream, heads: Arc<Heads>) -> Self {
        Self { stream, scanner: Some(Scanner::new(heads)) }
    }

    /// Passes everything through.
    pub fn unwatched(stream: Stream) -> Self {
        Self { stream, scanner: None }
    }
}

impl AsyncRead for Scanned {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        if let (Poll::Ready(Ok(())), Some(scanner)) = (&polled, &mut this.scanner) {
            scanner.scan(buf.filled().get(before..).unwrap_or_default());
        }
        polled
    }
}

impl AsyncWrite for Scanned {
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

/// Bytes of a header line that are looked at; the names and values that matter are shorter.
const LINE: usize = 64;

#[derive(Debug)]
struct Scanner {
    heads: Arc<Heads>,
    at: At,
    /// Start of the current line, as far as it matters.
    line: [u8; LINE],
    line_len: usize,
    /// Whether the last byte was CR.
    cr: bool,
    /// Lines of the current head.
    lines: u32,
    length: Option<u64>,
    chunked: bool,
    upgrade: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Head,
    Body(u64),
    ChunkSize(u64),
    ChunkExtension(u64),
    ChunkData(u64),
    Trailers,
    /// Upgraded, or so wrong that the connection is about to be closed.
    Through,
}

impl Scanner {
    fn new(heads: Arc<Heads>) -> Self {
        Self {
            heads,
            at: At::Head,
            line: [0; LINE],
            line_len: 0,
            cr: false,
            lines: 0,
            length: None,
            chunked: false,
            upgrade: false,
        }
    }

    fn scan(&mut self, mut bytes: &[u8]) {
        while let Some((&first, rest)) = bytes.split_first() {
            bytes = match self.at {
                At::Through => break,
                At::Head | At::Trailers => self.line(bytes),
                At::Body(left) => self.skip(bytes, left, At::Body, At::Head),
                // The chunk's data and its CRLF.
                At::ChunkData(left) => self.skip(bytes, left, At::ChunkData, At::ChunkSize(0)),
                At::ChunkSize(size) | At::ChunkExtension(size) => {
                    self.chunk_size(first, size);
                    rest
                }
            };
        }
        let inside = self.at == At::Head && (self.lines > 0 || self.line_len > 0);
        self.heads.inside.store(inside, Ordering::Relaxed);
    }

    fn skip<'b>(&mut self, bytes: &'b [u8], left: u64, more: fn(u64) -> At, done: At) -> &'b [u8] {
        let here = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let left = left - here as u64;
        self.at = if left == 0 { done } else { more(left) };
        bytes.get(here..).unwrap_or_default()
    }

    /// Takes what belongs to the current line; at its end looks at it.
    fn line<'b>(&mut self, bytes: &'b [u8]) -> &'b [u8] {
        let end = bytes.iter().position(|&byte| byte == b'\n');
        let (text, rest) = match end {
            Some(end) => (bytes.get(..end).unwrap_or_default(), bytes.get(end + 1..).unwrap_or_default()),
            None => (bytes, &[][..]),
        };
        for (slot, byte) in self.line.iter_mut().skip(self.line_len).zip(text) {
            *slot = *byte;
        }
        self.line_len = self.line_len.saturating_add(text.len());
        self.cr = text.last().map_or(self.cr && self.line_len > 0, |&last| last == b'\r');
        if end.is_some() {
            self.end_of_line();
        }
        rest
    }

    fn end_of_line(&mut self) {
        let ended_properly = std::mem::take(&mut self.cr);
        let empty = self.line_len <= usize::from(ended_properly);
        let length = std::mem::take(&mut self.line_len).min(LINE);
        if !ended_properly {
            return self.condemn();
        }
        match (self.at, empty) {
            (At::Trailers, true) => self.at = At::Head,
            (At::Trailers, false) => {}
            // Empty lines before a request line are to be ignored (RFC 9112, section 2.2).
            (_, true) if self.lines == 0 => {}
            (_, true) => self.end_of_head(),
            (_, false) => self.header(length),
        }
    }

    fn header(&mut self, length: usize) {
        self.lines += 1;
        let line = self.line.get(..length).unwrap_or_default();
        if self.lines == 1 {
            self.upgrade = line.starts_with(b"CONNECT ");
            return;
        }
        let Some(colon) = line.iter().position(|&byte| byte == b':') else { return };
        let (name, value) = line.split_at(colon);
        let value = value.get(1..).unwrap_or_default().trim_ascii();
        if name.eq_ignore_ascii_case(b"content-length") {
            // What is no number hyper refuses; 0 until then.
            let text = std::str::from_utf8(value).unwrap_or_default();
            self.length = Some(text.parse().unwrap_or(0));
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.chunked = true;
        } else if name.eq_ignore_ascii_case(b"upgrade") {
            self.upgrade |= !value.eq_ignore_ascii_case(b"h2c");
        }
    }

    fn end_of_head(&mut self) {
        if self.chunked && self.length.is_some() {
            return self.condemn();
        }
        self.heads.complete.fetch_add(1, Ordering::Relaxed);
        self.at = match (self.upgrade, self.chunked, self.length) {
            (true, ..) => At::Through,
            (_, true, _) => At::ChunkSize(0),
            (_, _, None | Some(0)) => At::Head,
            (_, _, Some(length)) => At::Body(length),
        };
        self.lines = 0;
        self.length = None;
        self.chunked = false;
        self.upgrade = false;
    }

    fn chunk_size(&mut self, byte: u8, size: u64) {
        let extension = matches!(self.at, At::ChunkExtension(_));
        self.at = match (byte, char::from(byte).to_digit(16)) {
            (b'\n', _) if !self.cr => return self.condemn_body(),
            (b'\n', _) if size == 0 => At::Trailers,
            (b'\n', _) => At::ChunkData(size.saturating_add(2)),
            (b'\r', _) => At::ChunkExtension(size),
            (_, Some(digit)) if !extension => {
                At::ChunkSize(size.saturating_mul(16).saturating_add(digit.into()))
            }
            _ => At::ChunkExtension(size),
        };
        self.cr = byte == b'\r';
    }

    fn condemn(&mut self) {
        if self.at == At::Trailers {
            return self.condemn_body();
        }
        let number = self.heads.complete.fetch_add(1, Ordering::Relaxed) + 1;
        self.heads.bad.store(number, Ordering::Relaxed);
        self.at = At::Through;
    }

    /// Framing is lost inside a body: hyper refuses what is wrong there; whatever follows must not be served.
    fn condemn_body(&mut self) {
        let next = self.heads.complete() + 1;
        self.heads.bad.store(next, Ordering::Relaxed);
        self.at = At::Through;
    }
}

#[cfg(test)]
mod tests;
