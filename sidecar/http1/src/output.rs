//! Bytes on their way out: heads and framing in one buffer, bodies beside it as they are, all of it in one write as far as
//! the socket takes it. The buffer is borrowed from the thread while there is something in it.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use tokio::io::AsyncWrite;

/// Pieces up to this size are copied beside the text: one buffer is cheaper to write than two.
const SMALL: usize = 512;
/// Buffers kept per thread, and what they may have grown to.
const KEPT: usize = 32;
const KEPT_SIZE: usize = 16 << 10;
const SLICES: usize = 16;

thread_local! {
    static SPARE: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// What is to be written.
#[derive(Debug, Default)]
pub(crate) struct Output {
    text: Vec<u8>,
    /// How much of the text has been written.
    text_at: usize,
    /// Pieces, each with how much of the text goes before it.
    pieces: VecDeque<(usize, Bytes)>,
    size: usize,
    written: u64,
    unflushed: bool,
}

impl Output {
    /// Appends text.
    pub(crate) fn print<T>(&mut self, print: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        if self.text.capacity() == 0 {
            self.text = SPARE.with_borrow_mut(Vec::pop).unwrap_or_default();
        }
        let before = self.text.len();
        let printed = print(&mut self.text);
        self.size += self.text.len() - before;
        printed
    }

    /// Appends a piece of a body.
    pub(crate) fn push(&mut self, piece: Bytes) {
        if piece.len() <= SMALL {
            return self.print(|text| text.extend_from_slice(&piece));
        }
        self.size += piece.len();
        self.pieces.push_back((self.text.len(), piece));
    }

    /// Bytes to be written.
    pub(crate) const fn size(&self) -> usize {
        self.size
    }

    /// Bytes written so far.
    pub(crate) const fn written(&self) -> u64 {
        self.written
    }

    /// Writes all of it and flushes.
    pub(crate) fn poll_write<IO>(&mut self, io: &mut IO, cx: &mut Context<'_>) -> Poll<io::Result<()>>
    where
        IO: AsyncWrite + Unpin,
    {
        while self.size > 0 {
            let written = ready!(self.poll_once(io, cx))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unflushed = true;
            self.advance(written);
            if self.size == 0 {
                self.give_back();
            }
        }
        if self.unflushed {
            ready!(Pin::new(io).poll_flush(cx))?;
            self.unflushed = false;
        }
        Poll::Ready(Ok(()))
    }

    fn poll_once<IO>(&self, io: &mut IO, cx: &mut Context<'_>) -> Poll<io::Result<usize>>
    where
        IO: AsyncWrite + Unpin,
    {
        if self.pieces.is_empty() {
            return Pin::new(io).poll_write(cx, self.text.get(self.text_at..).unwrap_or_default());
        }
        let mut slices = [IoSlice::new(&[]); SLICES];
        let mut count = 0;
        let mut put = |bytes| {
            if let (Some(slot), false) = (slices.get_mut(count), <[u8]>::is_empty(bytes)) {
                *slot = IoSlice::new(bytes);
                count += 1;
            }
        };
        let mut from = self.text_at;
        for (before, piece) in self.pieces.iter().take(SLICES) {
            put(self.text.get(from..*before).unwrap_or_default());
            put(piece);
            from = *before;
        }
        if self.pieces.len() < SLICES {
            put(self.text.get(from..).unwrap_or_default());
        }
        let slices = slices.get(..count).unwrap_or_default();
        match slices {
            [first, ..] if !io.is_write_vectored() => Pin::new(io).poll_write(cx, first),
            _ => Pin::new(io).poll_write_vectored(cx, slices),
        }
    }

    fn advance(&mut self, mut written: usize) {
        self.size -= written.min(self.size);
        self.written += written as u64;
        while written > 0 {
            let until = self.pieces.front().map_or(self.text.len(), |(before, _)| *before);
            let text = (until - self.text_at).min(written);
            self.text_at += text;
            written -= text;
            let Some((_, piece)) = self.pieces.front_mut() else { break };
            let taken = piece.len().min(written);
            piece.advance(taken);
            written -= taken;
            if piece.is_empty() {
                self.pieces.pop_front();
            }
        }
    }

    fn give_back(&mut self) {
        let mut text = std::mem::take(&mut self.text);
        self.text_at = 0;
        if self.pieces.capacity() > SLICES {
            self.pieces = VecDeque::new();
        }
        text.clear();
        SPARE.with_borrow_mut(|spare| {
            if text.capacity() <= KEPT_SIZE && spare.len() < KEPT {
                spare.push(text);
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokio::io::{AsyncReadExt, duplex};

    use super::*;

    async fn written(parts: &[Vec<u8>], room: usize) -> Vec<u8> {
        let (mut near, mut far) = duplex(room);
        let mut output = Output::default();
        for (number, part) in parts.iter().enumerate() {
            if number % 2 == 0 {
                output.print(|text| text.extend_from_slice(part));
            } else {
                output.push(Bytes::copy_from_slice(part));
            }
        }
        let writing = async {
            std::future::poll_fn(|cx| output.poll_write(&mut near, cx)).await.unwrap();
            drop(near);
        };
        let mut all = Vec::new();
        let ((), read) = tokio::join!(writing, far.read_to_end(&mut all));
        read.unwrap();
        all
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn everything_is_written_in_order(
            parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..1500), 0..24),
            room in 1_usize..4000,
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            prop_assert_eq!(runtime.block_on(written(&parts, room)), parts.concat());
        }
    }
}
