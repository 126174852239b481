//! The asking side: opens streams for requests and raw connections, and waits for answers.

use std::error::Error;
use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode, response};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::Spawn;
use crate::body::{Body, Held};
use crate::code::{Closed, StreamError};
use crate::conn::{Conn, Drain, Role};
use crate::driver::Driver;
use crate::head::{self, Asked, HeadError};
use crate::limits::Limits;
use crate::pump::{Pump, PumpError};
use crate::stream::{Asking, Slot, Switch, remember};
use crate::tunnel::Tunnel;

/// Opens streams on one connection. Clones share it; when all are dropped the connection ends with its last stream.
pub struct Client<S> {
    conn: Rc<Conn>,
    spawn: S,
}

/// The connection; nothing happens unless it is polled.
#[derive(Debug)]
#[must_use = "futures do nothing unless polled"]
pub struct ClientConnection<IO>(Driver<IO>);

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The connection takes no more streams, now or ever.
    #[error("the connection takes no more streams")]
    Full,
    /// The head cannot be sent.
    #[error("the request cannot be sent")]
    Head(#[from] HeadError),
    /// The body broke off.
    #[error("the request's body broke off")]
    Body,
    /// The stream ended.
    #[error(transparent)]
    Stream(#[from] StreamError),
}

/// A request without an answer.
pub struct SendError<B> {
    /// Why.
    pub reason: Refused,
    /// The request's body, where the peer certainly did not process the request and its body is still whole.
    pub unsent: Option<B>,
    /// Whether the peer certainly did not process it.
    pub unprocessed: bool,
    /// Why the body broke off.
    pub cause: Option<Box<dyn Error>>,
}

impl<S> fmt::Debug for Client<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("streams", &self.streams()).finish_non_exhaustive()
    }
}

impl<B> fmt::Debug for SendError<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { reason, unsent, unprocessed, cause } = self;
        f.debug_struct("SendError")
            .field("reason", reason)
            .field("unsent", &unsent.is_some())
            .field("unprocessed", unprocessed)
            .field("cause", cause)
            .finish()
    }
}

/// The asking side of this stream of bytes. `spawn` runs what is left of a request's body when its answer came first.
pub fn connect<IO, S: Spawn + Clone>(io: IO, limits: Limits, spawn: S) -> (Client<S>, ClientConnection<IO>)
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let conn = Conn::new(Role::Client, limits);
    conn.handles.set(1);
    (Client { conn: Rc::clone(&conn), spawn }, ClientConnection(Driver::new(io, conn)))
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Future for ClientConnection<IO> {
    type Output = Result<(), Closed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.0.poll(cx)
    }
}

impl<S> Client<S> {
    /// Whether streams may still be opened: the connection is up and the peer has not said that it is going.
    pub fn is_usable(&self) -> bool {
        self.conn.is_open()
    }

    /// Whether one may be opened now.
    pub fn has_room(&self) -> bool {
        self.conn.has_room()
    }

    /// Streams that are open.
    pub fn streams(&self) -> usize {
        self.conn.state.borrow().streams.len()
    }

    /// Whether the peer has said that it is going.
    pub fn is_draining(&self) -> bool {
        self.conn.state.borrow().drain != Drain::No
    }

    /// Opens a stream of raw bytes. Bytes may be written at once; a peer that cannot serve it breaks it off.
    pub fn open_tcp(&self) -> Result<Tunnel, Refused> {
        if !self.has_room() {
            return Err(Refused::Full);
        }
        let slot = self.conn.open(false, |out| -> Result<(), Refused> {
            head::put_tcp(out);
            Ok(())
        })?;
        let mut stream = slot.borrow_mut();
        (stream.got_answer, stream.switch) = (true, Switch::Done);
        drop(stream);
        Ok(Tunnel::new(Held { conn: Rc::clone(&self.conn), slot, owner: true }))
    }
}

impl<S: Spawn> Client<S> {
    /// Sends a request and waits for the head of its answer. Dropped before, the peer is told to give it up. A request to
    /// switch without a body may end HTTP on its stream ([`Body::into_tunnel`]). `interim` is given the answers before the
    /// final one, other than 100.
    pub async fn send<B>(
        &self,
        asked: Asked<'_>,
        body: B,
        mut interim: impl FnMut(StatusCode, HeaderMap),
    ) -> Result<Response<Body>, SendError<B>>
    where
        B: http_body::Body<Data = Bytes, Error: Into<Box<dyn Error>>> + Unpin + 'static,
    {
        let slot = match self.open(asked, body.is_end_stream()) {
            Ok(slot) => slot,
            Err(reason) => {
                return Err(SendError { reason, unsent: Some(body), unprocessed: true, cause: None });
            }
        };
        let is_switch = slot.borrow().switch == Switch::Offered;
        let empty = slot.borrow().send.ended || is_switch;
        let mut pump = if empty { Pump::done(body) } else { Pump::new(body) };
        let held = Held { conn: Rc::clone(&self.conn), slot, owner: true };
        let answered = std::future::poll_fn(|cx| poll_answer(&held, &mut pump, &mut interim, cx)).await;
        let parts = match answered {
            Ok(parts) => parts,
            Err(reason) => {
                let unprocessed = held.slot.borrow().unprocessed;
                let cause = pump.cause.take();
                let unsent = (unprocessed && pump.untouched).then(|| pump.into_body());
                return Err(SendError { reason, unsent, unprocessed, cause });
            }
        };
        if is_switch && held.slot.borrow().switch == Switch::Offered {
            // It stays HTTP, so there is nothing more to say.
            held.slot.borrow_mut().switch = Switch::No;
            self.conn.send_data(&held.slot, Bytes::new(), true);
        }
        if !pump.is_done() {
            self.go_on_sending(Rc::clone(&held.slot), pump);
        }
        Ok(Response::from_parts(*parts, Body::new(held)))
    }

    fn open(&self, asked: Asked<'_>, empty: bool) -> Result<Slot, Refused> {
        if !self.has_room() {
            return Err(Refused::Full);
        }
        // What follows the head of a switch is raw bytes, so a body has no place there.
        let switch = empty && asked.is_switch();
        if *asked.method == Method::CONNECT && !switch {
            return Err(HeadError::Method.into());
        }
        let slot = self
            .conn
            .open(empty && !switch, |out| head::put_request(out, asked, switch).map_err(Refused::Head))?;
        let mut stream = slot.borrow_mut();
        stream.asked = match *asked.method {
            Method::HEAD => Asking::Head,
            Method::CONNECT => Asking::Tunnel,
            _ => Asking::Answer,
        };
        stream.switch = if switch { Switch::Offered } else { Switch::No };
        drop(stream);
        Ok(slot)
    }

    /// The answer came before the request's end, and whoever reads it may read slower than the request goes on.
    fn go_on_sending<B>(&self, slot: Slot, mut pump: Pump<B>)
    where
        B: http_body::Body<Data = Bytes, Error: Into<Box<dyn Error>>> + Unpin + 'static,
    {
        let conn = Rc::clone(&self.conn);
        self.spawn.spawn(async move {
            // How it ends is told by the answer.
            pump.run(&conn, &slot).await.ok();
        });
    }
}

type Answered = Poll<Result<Box<response::Parts>, Refused>>;

fn poll_answer<B>(
    held: &Held,
    pump: &mut Pump<B>,
    interim: &mut impl FnMut(StatusCode, HeaderMap),
    cx: &mut Context<'_>,
) -> Answered
where
    B: http_body::Body<Data = Bytes, Error: Into<Box<dyn Error>>> + Unpin,
{
    let pumped = if pump.is_done() { Poll::Pending } else { pump.poll(&held.conn, &held.slot, cx) };
    let early = std::mem::take(&mut held.slot.borrow_mut().early);
    for (status, headers) in early {
        interim(status, headers);
    }
    let mut stream = held.slot.borrow_mut();
    if let Some(answer) = stream.answer.take() {
        return Poll::Ready(Ok(answer));
    }
    if let Poll::Ready(Err(PumpError::Body)) = pumped {
        return Poll::Ready(Err(Refused::Body));
    }
    if let Some(error) = stream.broken {
        return Poll::Ready(Err(error.into()));
    }
    remember(&mut stream.task, cx);
    Poll::Pending
}

impl<S: Clone> Clone for Client<S> {
    fn clone(&self) -> Self {
        self.conn.handles.set(self.conn.handles.get() + 1);
        Self { conn: Rc::clone(&self.conn), spawn: self.spawn.clone() }
    }
}

impl<S> Drop for Client<S> {
    fn drop(&mut self) {
        self.conn.handles.set(self.conn.handles.get() - 1);
        if self.conn.handles.get() == 0 {
            self.conn.wake(&self.conn.state.borrow());
        }
    }
}
