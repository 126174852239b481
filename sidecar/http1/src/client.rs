//! One connection to a server: a request goes out, its answer comes back, and then perhaps another. The connection has no
//! task: it is polled by whoever waits for the answer, and unused it is looked at when it is wanted.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::Bytes;
use http::header::{EXPECT, HeaderMap};
use http::{Method, Response, StatusCode};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::sleep;

use crate::Config;
use crate::body::Body;
use crate::encode::{Encoder, framing_of};
use crate::error::{BoxError, Error, Refusal};
use crate::framing::{Framing, is_switch};
use crate::head::{AnswerHead, Asked, parse_answer, print_request};
use crate::upgrade::OnUpgrade;
use crate::wire::{Shared, Switch, Uploading, Wire, poll_send};

/// Answers before the final one that are read.
const MAX_INTERIM: usize = 32;

/// A connection to a server.
#[derive(Debug)]
pub struct Connection<IO> {
    wire: Shared<IO>,
    config: Config,
    /// Whether the server keeps the connection after the current exchange, as far as is known.
    persists: bool,
}

/// An answer.
#[derive(Debug)]
pub struct Answer<IO, B> {
    /// Head and body.
    pub response: Response<Body<IO>>,
    /// What is left to send of the request's body, where the answer came before it was sent whole.
    pub upload: Option<Upload<IO, B>>,
}

/// A request without an answer.
#[derive(Debug)]
pub struct SendError<B> {
    /// The request's body, where nothing of the request was written and nothing of the body taken.
    pub unsent: Option<B>,
    /// Whether nothing of the request was written, so that the server cannot have processed it.
    pub unwritten: bool,
    /// Whether not one byte of an answer came.
    pub silent: bool,
    /// What happened.
    pub error: Error,
}

/// Sends the rest of a request's body while its answer is read. Ends once it has been sent, or the answer has been read to
/// its end or given up; it is to be polled by a task of its own, since whoever reads the answer may wait for its reader.
#[derive(Debug)]
#[must_use = "the rest of the body is sent only while this is polled"]
pub struct Upload<IO, B> {
    wire: Shared<IO>,
    body: B,
    encoder: Encoder,
    exchange: u64,
}

/// A request being sent.
struct Sending<B> {
    body: B,
    encoder: Encoder,
    /// Whether the body waits for 100.
    held: bool,
    sent: bool,
    /// Bytes the connection had written before.
    written: u64,
    silent: bool,
    /// Writing failed; an answer may have come all the same.
    failed: Option<Error>,
    interim: usize,
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Connection<IO> {
    /// A connection on which nothing has been sent yet.
    pub fn new(io: IO, config: Config) -> Self {
        let wire = Wire::shared(io, None);
        wire.borrow_mut().input.answers = true;
        Self { wire, config, persists: true }
    }

    /// Whether the last exchange left the connection as it was: over both ways, with nothing beyond it.
    pub fn is_idle(&self) -> bool {
        let wire = self.wire.borrow();
        let over = wire.decoder.is_done() && !wire.lent && wire.upload == Uploading::No;
        self.persists && over && wire.input.is_empty()
    }

    /// Whether another request can be sent: the connection is idle, and the server has neither closed nor said anything
    /// since. Asks what the system has already told, so where nothing has happened it costs no system call.
    pub fn is_open(&self) -> bool {
        let mut nobody = Context::from_waker(Waker::noop());
        self.is_idle() && self.wire.borrow_mut().poll_fill(&mut nobody).is_pending()
    }

    /// Sends a request and waits for the head of its answer. `interim` is given the answers before the final one, other
    /// than 100.
    pub async fn send<B>(
        &mut self,
        asked: Asked<'_>,
        body: B,
        mut interim: impl FnMut(StatusCode, HeaderMap),
    ) -> Result<Answer<IO, B>, SendError<B>>
    where
        B: http_body::Body<Data = Bytes> + Unpin,
        B::Error: Into<BoxError>,
    {
        self.persists = false;
        let framing = framing_of(&body, asked.headers);
        let written = {
            let wire = &mut *self.wire.borrow_mut();
            wire.output.print(|text| print_request(text, asked, framing));
            wire.output.written()
        };
        let mut sending = Sending {
            held: framing != Framing::Length(0) && expects(asked.headers),
            encoder: Encoder::new(framing),
            body,
            sent: false,
            written,
            silent: true,
            failed: None,
            interim: 0,
        };
        let mut exchange = |sending: &mut Sending<B>, cx: &mut Context<'_>| {
            self.poll_exchange(asked.method, sending, &mut interim, cx)
        };
        let found = if sending.held {
            // Rare, and a timer is large.
            let mut patience = Box::pin(sleep(self.config.continue_after));
            poll_fn(|cx| {
                sending.held &= patience.as_mut().poll(cx).is_pending();
                exchange(&mut sending, cx)
            })
            .await
        } else {
            poll_fn(|cx| exchange(&mut sending, cx)).await
        };
        match found {
            Ok(head) => Ok(self.answer(asked.method, head, sending)),
            Err(error) => Err(self.failed(sending, error)),
        }
    }

    /// The connection after HTTP; an error unless the last answer ended HTTP on it.
    pub fn into_upgrade(self) -> OnUpgrade<IO> {
        OnUpgrade::new(self.wire)
    }

    fn poll_exchange<B>(
        &self,
        method: &Method,
        sending: &mut Sending<B>,
        interim: &mut impl FnMut(StatusCode, HeaderMap),
        cx: &mut Context<'_>,
    ) -> Poll<Result<AnswerHead, Error>>
    where
        B: http_body::Body<Data = Bytes> + Unpin,
        B::Error: Into<BoxError>,
    {
        loop {
            sending.poll(&self.wire, cx)?;
            let head = ready!(self.poll_head(method, sending, cx))?;
            match head.status {
                StatusCode::CONTINUE => sending.held = false,
                StatusCode::SWITCHING_PROTOCOLS => return Poll::Ready(Ok(head)),
                status if status.is_informational() => interim(status, head.headers),
                _ => return Poll::Ready(Ok(head)),
            }
            sending.interim += 1;
            if sending.interim > MAX_INTERIM {
                return Poll::Ready(Err(Refusal::Malformed("no final answer").into()));
            }
        }
    }

    fn poll_head<B>(
        &self,
        method: &Method,
        sending: &mut Sending<B>,
        cx: &mut Context<'_>,
    ) -> Poll<Result<AnswerHead, Error>> {
        let wire = &mut *self.wire.borrow_mut();
        loop {
            if let Some(head) = wire.input.head(&self.config)? {
                return Poll::Ready(Ok(parse_answer(&head, method, &self.config)?));
            }
            match ready!(wire.poll_fill(cx)) {
                Ok(1..) => sending.silent = false,
                Ok(0) => return Poll::Ready(Err(sending.failed.take().unwrap_or(Error::Closed))),
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    fn answer<B>(&mut self, method: &Method, head: AnswerHead, sending: Sending<B>) -> Answer<IO, B> {
        let AnswerHead { status, version, headers, framing, persists } = head;
        let mut wire = self.wire.borrow_mut();
        let switches = is_switch(method, status);
        let goes_on = !sending.sent && !sending.held && sending.failed.is_none() && !switches;
        let whole = if switches { Some(Bytes::new()) } else { wire.receive(framing) };
        self.persists = persists && (sending.sent || goes_on) && framing != Framing::UntilClose && !switches;
        if switches {
            wire.switch = Switch::Done;
        }
        if goes_on {
            wire.upload = Uploading::Yes;
        }
        let exchange = wire.exchange;
        drop(wire);
        let mut response = Response::new(Body::new(&self.wire, whole));
        *response.status_mut() = status;
        *response.version_mut() = version;
        *response.headers_mut() = headers;
        let Sending { body, encoder, .. } = sending;
        let wire = Rc::clone(&self.wire);
        Answer { response, upload: goes_on.then(|| Upload { wire, body, encoder, exchange }) }
    }

    fn failed<B>(&self, sending: Sending<B>, error: Error) -> SendError<B> {
        let unwritten = self.wire.borrow().output.written() == sending.written;
        let unsent = (unwritten && !sending.encoder.has_taken()).then_some(sending.body);
        SendError { unsent, unwritten, silent: sending.silent, error }
    }
}

impl<B> Sending<B>
where
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    /// Sends as much as goes. Where the socket fails an answer may have come before, so that is looked for first.
    fn poll<IO>(&mut self, wire: &Shared<IO>, cx: &mut Context<'_>) -> Result<(), Error>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        if self.sent || self.failed.is_some() {
            return Ok(());
        }
        let sent = if self.held {
            wire.borrow_mut().poll_write(cx).map_ok(|()| false)
        } else {
            poll_send(wire, &mut self.encoder, Pin::new(&mut self.body), cx).map_ok(|()| true)
        };
        match sent {
            Poll::Pending => {}
            Poll::Ready(Ok(sent)) => self.sent = sent,
            Poll::Ready(Err(Error::Io(error))) => self.failed = Some(Error::Io(error)),
            Poll::Ready(Err(error)) => return Err(error),
        }
        Ok(())
    }
}

impl<IO, B> Future for Upload<IO, B>
where
    IO: AsyncRead + AsyncWrite + Unpin,
    B: http_body::Body<Data = Bytes> + Unpin,
    B::Error: Into<BoxError>,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        if this.wire.borrow_mut().poll_settled(this.exchange, cx).is_ready() {
            return Poll::Ready(());
        }
        let sent = ready!(poll_send(&this.wire, &mut this.encoder, Pin::new(&mut this.body), cx));
        let mut wire = this.wire.borrow_mut();
        match sent {
            Ok(()) => wire.upload = Uploading::No,
            // The server still waits for what will never come.
            Err(Error::Body(_) | Error::Length) => {
                wire.break_body(Refusal::Malformed("the request broke off"));
            }
            Err(_) => {}
        }
        Poll::Ready(())
    }
}

impl<IO, B> Drop for Upload<IO, B> {
    fn drop(&mut self) {
        let mut wire = self.wire.borrow_mut();
        if wire.upload == Uploading::Yes {
            wire.upload = Uploading::Abandoned;
        }
    }
}

fn expects(headers: &HeaderMap) -> bool {
    headers.get(EXPECT).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
}
