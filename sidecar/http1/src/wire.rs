//! One connection's state, shared by whoever serves it and by the body that is being received. Each borrows it for one
//! poll at a time.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Body;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::chunked::{Chunked, Piece};
use crate::control::{Control, Phase};
use crate::encode::Encoder;
use crate::error::{BoxError, Error, Refusal};
use crate::framing::Framing;
use crate::input::{Input, poll_read};
use crate::output::Output;

pub(crate) type Shared<IO> = Rc<RefCell<Wire<IO>>>;

const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

/// One connection.
#[derive(Debug)]
pub(crate) struct Wire<IO> {
    pub(crate) io: IO,
    pub(crate) input: Input,
    pub(crate) output: Output,
    pub(crate) decoder: Decoder,
    /// Number of the exchange; a body of an earlier one is cut off.
    pub(crate) exchange: u64,
    /// Whether a body of this exchange is held by somebody and not at its end: then only that one reads.
    pub(crate) lent: bool,
    /// Whether the client waits for 100 before it sends the body.
    pub(crate) owes_continue: bool,
    /// Whether the final answer has begun.
    pub(crate) answering: bool,
    /// Why the body cannot be read further.
    broken: Option<Refusal>,
    /// Whoever waits for the body to be read to its end.
    waiting: Option<Waker>,
    /// Whoever waits for more of the body.
    reading: Option<Waker>,
    pub(crate) control: Option<Rc<Control>>,
    pub(crate) switch: Switch,
    pub(crate) upload: Uploading,
}

/// Whether a request's body is still being sent while its answer is read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Uploading {
    #[default]
    No,
    Yes,
    /// It was given up; the server waits for the rest.
    Abandoned,
}

/// Whether the connection has stopped being HTTP.
#[derive(Debug, Default)]
pub(crate) enum Switch {
    /// Not yet; this one waits for it.
    Open(Option<Waker>),
    /// It has.
    Done,
    /// It never will.
    #[default]
    Never,
}

/// What is left of the body that is being received.
#[derive(Debug)]
pub(crate) enum Decoder {
    Length(u64),
    Chunked(Box<Chunked>),
    UntilClose,
}

/// A piece of a body.
#[derive(Debug)]
pub(crate) enum Received {
    Data(Bytes),
    End(Option<HeaderMap>),
}

impl Decoder {
    pub(crate) fn new(framing: Framing) -> Self {
        match framing {
            Framing::Length(length) => Self::Length(length),
            Framing::Chunked => Self::Chunked(Box::default()),
            Framing::UntilClose => Self::UntilClose,
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        match self {
            Self::Length(left) => *left == 0,
            Self::Chunked(chunked) => chunked.is_done(),
            Self::UntilClose => false,
        }
    }

    /// Whether more than this is known to be left.
    pub(crate) fn is_longer_than(&self, bytes: u64) -> bool {
        matches!(self, Self::Length(left) if *left > bytes)
    }

    /// The next piece of what was read, if there is one.
    fn next(&mut self, bytes: &mut Bytes) -> Result<Option<Received>, Refusal> {
        match self {
            Self::Length(0) => Ok(Some(Received::End(None))),
            _ if bytes.is_empty() => Ok(None),
            Self::Length(left) => {
                let here = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= here as u64;
                Ok(Some(Received::Data(bytes.split_to(here))))
            }
            Self::Chunked(chunked) => Ok(match chunked.next(bytes)? {
                Piece::Data(data) => Some(Received::Data(data)),
                Piece::End(trailers) => Some(Received::End(trailers)),
                Piece::More => None,
            }),
            Self::UntilClose => Ok(Some(Received::Data(std::mem::take(bytes)))),
        }
    }
}

impl<IO> Wire<IO> {
    pub(crate) fn shared(io: IO, control: Option<Rc<Control>>) -> Shared<IO> {
        Rc::new(RefCell::new(Self {
            io,
            input: Input::default(),
            output: Output::default(),
            decoder: Decoder::Length(0),
            exchange: 0,
            lent: false,
            owes_continue: false,
            answering: false,
            broken: None,
            waiting: None,
            reading: None,
            control,
            switch: Switch::Never,
            upload: Uploading::No,
        }))
    }

    /// Begins to receive a body. The whole of it, where it is there already.
    pub(crate) fn receive(&mut self, framing: Framing) -> Option<Bytes> {
        self.exchange += 1;
        self.broken = None;
        if let Framing::Length(length) = framing
            && let Ok(length) = usize::try_from(length)
            && length <= self.input.unread.len()
        {
            self.decoder = Decoder::Length(0);
            return Some(self.input.unread.split_to(length));
        }
        self.decoder = Decoder::new(framing);
        self.lent = true;
        None
    }

    /// The body is at its end, or nobody wants the rest of it.
    pub(crate) fn settle(&mut self) {
        self.lent = false;
        self.reading = None;
        self.enter(Phase::Handler);
        if let Some(waker) = self.waiting.take() {
            waker.wake();
        }
    }

    /// Ready once nobody reads the body of this exchange any more.
    pub(crate) fn poll_settled(&mut self, exchange: u64, cx: &Context<'_>) -> Poll<()> {
        if self.exchange != exchange || !self.lent {
            return Poll::Ready(());
        }
        self.wait(cx);
        Poll::Pending
    }

    fn wait(&mut self, cx: &Context<'_>) {
        match &mut self.waiting {
            Some(waker) => waker.clone_from(cx.waker()),
            slot @ None => *slot = Some(cx.waker().clone()),
        }
    }

    /// Makes the body end with this refusal.
    pub(crate) fn break_body(&mut self, refusal: Refusal) {
        self.broken = Some(refusal);
        if let Some(waker) = self.reading.take() {
            waker.wake();
        }
    }

    /// Whether what was received broke the protocol.
    pub(crate) const fn is_broken(&self) -> bool {
        self.broken.is_some()
    }

    /// What the connection waits for, as the watch sees it.
    pub(crate) fn enter(&self, phase: Phase) {
        if let Some(control) = &self.control {
            control.enter(phase);
        }
    }

    fn pass(&self, bytes: usize) {
        if let Some(control) = &self.control {
            control.pass(bytes);
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Wire<IO> {
    /// Reads once, where nothing is left of what was read before; 0 at the end.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, Error>> {
        let bytes = ready!(poll_read(&mut self.io, cx))?;
        let count = bytes.len();
        debug_assert!(self.input.unread.is_empty(), "what is there is used first");
        self.input.unread = bytes;
        Poll::Ready(Ok(count))
    }

    /// Writes what there is.
    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        let before = self.output.size();
        let written = self.output.poll_write(&mut self.io, cx).map_err(Error::Io);
        self.pass(before - self.output.size());
        written
    }

    /// The next piece of the body.
    pub(crate) fn poll_body(&mut self, cx: &mut Context<'_>) -> Poll<Result<Received, Error>> {
        loop {
            if let Some(refusal) = self.broken {
                return Poll::Ready(Err(refusal.into()));
            }
            match self.decoder.next(&mut self.input.unread) {
                Ok(Some(received)) => return Poll::Ready(Ok(received)),
                Ok(None) => {}
                Err(refusal) => self.break_body(refusal),
            }
            if self.broken.is_none() && !ready!(self.poll_more(cx))? {
                return Poll::Ready(Ok(Received::End(None)));
            }
        }
    }

    /// Reads more of the body; false where it ends with the connection.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Error>> {
        if !self.answering && std::mem::take(&mut self.owes_continue) {
            self.output.print(|text| text.extend_from_slice(CONTINUE));
        }
        if self.output.size() > 0 && self.control.is_some() {
            // Where the socket takes no more just now, whoever writes next writes this too.
            let _whenever = self.poll_write(cx)?;
        }
        let Poll::Ready(read) = self.poll_fill(cx) else {
            self.enter(Phase::Client);
            match &mut self.reading {
                Some(waker) => waker.clone_from(cx.waker()),
                slot @ None => *slot = Some(cx.waker().clone()),
            }
            return Poll::Pending;
        };
        self.enter(Phase::Handler);
        let count = read?;
        self.pass(count);
        Poll::Ready(match (count, &self.decoder) {
            (1.., _) => Ok(true),
            (0, Decoder::UntilClose) => {
                self.decoder = Decoder::Length(0);
                Ok(false)
            }
            (0, _) => Err(Error::Closed),
        })
    }

    /// Ready once the other end has gone, which it says by closing. What it sends before its turn is kept, and no more
    /// is read then.
    pub(crate) fn poll_gone(&mut self, cx: &mut Context<'_>) -> Poll<Error> {
        if self.lent {
            self.wait(cx);
            return Poll::Pending;
        }
        while self.input.is_empty() && self.decoder.is_done() {
            match ready!(self.poll_fill(cx)) {
                Ok(1..) => {}
                Ok(0) => return Poll::Ready(Error::Closed),
                Err(error) => return Poll::Ready(error),
            }
        }
        Poll::Pending
    }
}

/// Takes from a body what is ready and writes it, until the body has been written whole. Pending with nothing left to
/// write: the body has nothing just now.
pub(crate) fn poll_send<IO, B>(
    wire: &RefCell<Wire<IO>>,
    encoder: &mut Encoder,
    mut body: Pin<&mut B>,
    cx: &mut Context<'_>,
) -> Poll<Result<(), Error>>
where
    IO: AsyncRead + AsyncWrite + Unpin,
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    loop {
        // The body may be one that is received on this very connection, so it is polled without the connection.
        let mut output = std::mem::take(&mut wire.borrow_mut().output);
        let filled = encoder.poll_fill(body.as_mut(), &mut output, cx);
        let wire = &mut *wire.borrow_mut();
        wire.output = output;
        // What came before a body broke off is still due.
        let written = wire.poll_write(cx);
        if let Poll::Ready(Err(error)) = filled {
            return Poll::Ready(Err(error));
        }
        wire.enter(if written.is_pending() { Phase::Client } else { Phase::Handler });
        ready!(written)?;
        if encoder.is_done() {
            return Poll::Ready(Ok(()));
        }
        if filled.is_pending() {
            return Poll::Pending;
        }
    }
}
