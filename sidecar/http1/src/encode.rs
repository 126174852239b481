//! A body on its way out: framed, and put into the output as far as it is ready.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, HeaderMap};
use http_body::{Body, Frame};

use crate::chunked::{may_trail, print_size};
use crate::error::{BoxError, Error};
use crate::framing::{Framing, parse_length};
use crate::head::print::print_line;
use crate::output::Output;

/// Bytes gathered before they are written.
const ENOUGH: usize = 64 << 10;

/// Frames one body.
#[derive(Debug)]
pub(crate) struct Encoder {
    framing: Framing,
    /// Bytes that are still to come by the head's word.
    left: u64,
    done: bool,
    taken: bool,
}

impl Encoder {
    pub(crate) const fn new(framing: Framing) -> Self {
        let left = if let Framing::Length(length) = framing { length } else { 0 };
        Self { framing, left, done: matches!(framing, Framing::Length(0)), taken: false }
    }

    /// Whether the body has been taken to its end.
    pub(crate) const fn is_done(&self) -> bool {
        self.done
    }

    /// Whether anything of the body has been taken.
    pub(crate) const fn has_taken(&self) -> bool {
        self.taken
    }

    /// Takes what the body has ready, up to some bytes; pending where the body has nothing more just now.
    pub(crate) fn poll_fill<B>(
        &mut self,
        mut body: Pin<&mut B>,
        output: &mut Output,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), Error>>
    where
        B: Body<Data = Bytes>,
        B::Error: Into<BoxError>,
    {
        while !self.done && output.size() < ENOUGH {
            let ended = match body.as_mut().poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    self.taken = true;
                    self.frame(frame, output)?;
                    body.is_end_stream()
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(Error::Body(error.into()))),
                Poll::Ready(None) => true,
                Poll::Pending => return Poll::Pending,
            };
            if ended {
                self.finish(None, output)?;
            }
        }
        Poll::Ready(Ok(()))
    }

    fn frame(&mut self, frame: Frame<Bytes>, output: &mut Output) -> Result<(), Error> {
        match frame.into_data() {
            Ok(data) => self.data(data, output),
            Err(frame) => self.finish(frame.into_trailers().ok().as_ref(), output),
        }
    }

    fn data(&mut self, data: Bytes, output: &mut Output) -> Result<(), Error> {
        let size = data.len();
        if size == 0 || self.done {
            return Ok(());
        }
        match self.framing {
            Framing::Length(_) => {
                self.left = self.left.checked_sub(size as u64).ok_or(Error::Length)?;
                self.done = self.left == 0;
                output.push(data);
            }
            Framing::Chunked => {
                output.print(|text| print_size(text, size));
                output.push(data);
                output.print(|text| text.extend_from_slice(b"\r\n"));
            }
            Framing::UntilClose => output.push(data),
        }
        Ok(())
    }

    fn finish(&mut self, trailers: Option<&HeaderMap>, output: &mut Output) -> Result<(), Error> {
        if self.done {
            return Ok(());
        }
        if self.left > 0 {
            return Err(Error::Length);
        }
        self.done = true;
        if self.framing == Framing::Chunked {
            output.print(|text| {
                text.extend_from_slice(b"0\r\n");
                let lines = trailers.into_iter().flatten().filter(|(name, _)| may_trail(name));
                lines.for_each(|(name, value)| print_line(text, name, value));
                text.extend_from_slice(b"\r\n");
            });
        }
        Ok(())
    }
}

/// How a body is to be framed: by its length where that is known, by what its head says else, and by chunks.
pub(crate) fn framing_of<B: Body>(body: &B, headers: &HeaderMap) -> Framing {
    if body.is_end_stream() {
        return Framing::Length(0);
    }
    if let Some(length) = body.size_hint().exact() {
        return Framing::Length(length);
    }
    let told = headers.get(CONTENT_LENGTH).and_then(|value| parse_length(value.as_bytes()));
    told.map_or(Framing::Chunked, Framing::Length)
}
