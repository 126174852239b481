//! Sends a body on a stream: as fast as the peer gives credit and the connection takes it, and no faster than that is the
//! body asked for more.

use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame};

use crate::code::{Code, StreamError};
use crate::conn::Conn;
use crate::stream::Slot;

/// A body on its way.
#[derive(Debug)]
pub(crate) struct Pump<B> {
    body: B,
    /// Of the last piece, what did not fit yet.
    rest: Bytes,
    done: bool,
    /// Why the body broke off.
    pub(crate) cause: Option<Box<dyn Error>>,
    /// Nothing has been asked of the body yet.
    pub(crate) untouched: bool,
}

/// Why a body did not get to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PumpError {
    /// It broke off itself.
    Body,
    /// The stream ended.
    Stream(StreamError),
}

impl<B: Body<Data = Bytes, Error: Into<Box<dyn Error>>> + Unpin> Pump<B> {
    pub(crate) fn new(body: B) -> Self {
        Self { body, rest: Bytes::new(), done: false, cause: None, untouched: true }
    }

    /// A body that has nothing to send.
    pub(crate) fn done(body: B) -> Self {
        Self { done: true, ..Self::new(body) }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.done
    }

    pub(crate) fn into_body(self) -> B {
        self.body
    }

    /// Sends all of it.
    pub(crate) async fn run(&mut self, conn: &Conn, slot: &Slot) -> Result<(), PumpError> {
        std::future::poll_fn(|cx| self.poll(conn, slot, cx)).await
    }

    /// Sends what can be sent; ready once all has been queued. A body that breaks off gives the stream up.
    pub(crate) fn poll(
        &mut self,
        conn: &Conn,
        slot: &Slot,
        cx: &mut Context<'_>,
    ) -> Poll<Result<(), PumpError>> {
        while !self.done {
            let room = ready!(conn.poll_capacity(slot, cx)).map_err(PumpError::Stream)?;
            if !self.rest.is_empty() {
                self.send(conn, slot, room);
                continue;
            }
            self.untouched = false;
            match ready!(Pin::new(&mut self.body).poll_frame(cx)).transpose() {
                Ok(None) => {
                    conn.send_data(slot, Bytes::new(), true);
                    self.done = true;
                }
                Ok(Some(frame)) => self.take(conn, slot, (frame, room))?,
                Err(error) => {
                    self.cause = Some(error.into());
                    conn.reset(slot, Code::Cancelled);
                    return Poll::Ready(Err(PumpError::Body));
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    fn take(
        &mut self,
        conn: &Conn,
        slot: &Slot,
        (frame, room): (Frame<Bytes>, usize),
    ) -> Result<(), PumpError> {
        match frame.into_data().map_err(Frame::into_trailers) {
            Ok(data) => {
                self.rest = data;
                self.send(conn, slot, room);
            }
            Err(Ok(trailers)) => {
                if conn.send_trailers(slot, &trailers).is_err() {
                    conn.reset(slot, Code::HeadTooLarge);
                    return Err(PumpError::Body);
                }
                self.done = true;
            }
            Err(Err(_)) => {}
        }
        Ok(())
    }

    fn send(&mut self, conn: &Conn, slot: &Slot, room: usize) {
        let part = self.rest.split_to(room.min(self.rest.len()));
        let end = self.rest.is_empty() && self.body.is_end_stream();
        conn.send_data(slot, part, end);
        self.done = end;
    }
}
