//! A body that is being received. It reads the connection itself when it is polled; where all of it came with the head it
//! needs the connection no more.

use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::error::Error;
use crate::wire::{Decoder, Received, Shared};

type PolledFrame = Poll<Option<Result<Frame<Bytes>, Error>>>;

/// The body of a request at the server, or of an answer at the client.
#[derive(Debug)]
pub struct Body<IO>(Inner<IO>);

#[derive(Debug)]
enum Inner<IO> {
    Whole(Bytes),
    Wire(Lent<IO>),
}

/// The right to read one body off a connection.
#[derive(Debug)]
struct Lent<IO> {
    wire: Shared<IO>,
    exchange: u64,
    ended: bool,
}

impl<IO> Body<IO> {
    pub(crate) fn new(wire: &Shared<IO>, whole: Option<Bytes>) -> Self {
        if let Some(bytes) = whole {
            return Self(Inner::Whole(bytes));
        }
        let exchange = wire.borrow().exchange;
        Self(Inner::Wire(Lent { wire: Rc::clone(wire), exchange, ended: false }))
    }
}

impl<IO> Lent<IO> {
    /// Whether the connection still is at the exchange of this body.
    fn is_current(&self) -> bool {
        let wire = self.wire.borrow();
        wire.exchange == self.exchange && wire.lent
    }

    fn end(&mut self) {
        if !std::mem::replace(&mut self.ended, true) && self.is_current() {
            self.wire.borrow_mut().settle();
        }
    }
}

impl<IO> Drop for Lent<IO> {
    fn drop(&mut self) {
        self.end();
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> http_body::Body for Body<IO> {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> PolledFrame {
        match &mut self.get_mut().0 {
            Inner::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Inner::Whole(bytes) => Poll::Ready(Some(Ok(Frame::data(std::mem::take(bytes))))),
            Inner::Wire(lent) => lent.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.0 {
            Inner::Whole(bytes) => bytes.is_empty(),
            Inner::Wire(lent) => lent.ended,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.0 {
            Inner::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Inner::Wire(lent) if lent.ended => SizeHint::with_exact(0),
            Inner::Wire(lent) => match &lent.wire.borrow().decoder {
                Decoder::Length(left) if lent.is_current() => SizeHint::with_exact(*left),
                _ => SizeHint::default(),
            },
        }
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Lent<IO> {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> PolledFrame {
        if self.ended {
            return Poll::Ready(None);
        }
        if !self.is_current() {
            self.ended = true;
            return Poll::Ready(Some(Err(Error::Over)));
        }
        let polled = self.wire.borrow_mut().poll_body(cx);
        let received = ready!(polled);
        let all = !matches!(received, Ok(Received::Data(_))) || self.wire.borrow().decoder.is_done();
        if all {
            self.end();
        }
        Poll::Ready(match received {
            Ok(Received::Data(data)) => Some(Ok(Frame::data(data))),
            Ok(Received::End(trailers)) => trailers.map(|trailers| Ok(Frame::trailers(trailers))),
            Err(error) => Some(Err(error)),
        })
    }
}
