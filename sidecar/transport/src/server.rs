//! The answering side: runs a task per stream, and has it give up when the peer does.

use std::error::Error;
use std::fmt;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Version, request};
use tokio::io::{AsyncRead, AsyncWrite};

use crate::Spawn;
use crate::body::{Body, Held};
use crate::code::{Closed, Code};
use crate::conn::{Conn, Role};
use crate::driver::Driver;
use crate::head::Opening;
use crate::limits::Limits;
use crate::pump::Pump;
use crate::stream::{Slot, Switch, remember};
use crate::tunnel::Tunnel;

/// Serves what a peer asks for. What it returns is dropped where it stands when the peer gives the stream up.
pub trait Handler {
    /// Body of an answer.
    type Body: http_body::Body<Data = Bytes, Error: Into<Box<dyn Error>>> + Unpin + 'static;

    /// Answers a request. A request that may end HTTP on its stream has [`Body::take_upgrade`].
    fn request(&self, request: Request<Body>) -> impl Future<Output = Response<Self::Body>> + 'static;

    /// Serves raw bytes.
    fn tcp(&self, stream: Tunnel) -> impl Future<Output = ()> + 'static;
}

/// The connection; nothing happens unless it is polled.
#[must_use = "futures do nothing unless polled"]
pub struct ServerConnection<IO, H, S> {
    driver: Driver<IO>,
    conn: Rc<Conn>,
    handler: H,
    spawn: S,
}

impl<IO: fmt::Debug, H, S> fmt::Debug for ServerConnection<IO, H, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerConnection").field("driver", &self.driver).finish_non_exhaustive()
    }
}

/// The answering side of this stream of bytes. `spawn` runs one task per stream.
pub fn serve<IO, H, S>(io: IO, limits: Limits, handler: H, spawn: S) -> ServerConnection<IO, H, S>
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let conn = Conn::new(Role::Server, limits);
    ServerConnection { driver: Driver::new(io, Rc::clone(&conn)), conn, handler, spawn }
}

impl<IO: AsyncRead + AsyncWrite + Unpin, H, S> ServerConnection<IO, H, S> {
    /// Tells the peer to open no more streams. The connection ends once those that are open have.
    pub fn drain(&self) {
        self.driver.drain();
    }

    /// Streams that are open.
    pub fn streams(&self) -> usize {
        self.conn.state.borrow().streams.len()
    }
}

impl<IO, H, S> Future for ServerConnection<IO, H, S>
where
    IO: AsyncRead + AsyncWrite + Unpin,
    H: Handler + Unpin,
    S: Spawn + Unpin,
{
    type Output = Result<(), Closed>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let polled = this.driver.poll(cx);
        let accepted = std::mem::take(&mut this.conn.state.borrow_mut().accepted);
        for (slot, opening) in accepted {
            let held = Held { conn: Rc::clone(&this.conn), slot, owner: true };
            match opening {
                Opening::Request(parts) | Opening::Switch(parts) => this.run(held, *parts),
                Opening::Tcp => {
                    held.slot.borrow_mut().switch = Switch::Done;
                    this.spawn.spawn(this.handler.tcp(Tunnel::new(held)));
                }
            }
        }
        polled
    }
}

impl<IO, H: Handler, S: Spawn> ServerConnection<IO, H, S> {
    fn run(&self, held: Held, parts: request::Parts) {
        let method = parts.method.clone();
        if parts.version == Version::HTTP_10 {
            // It knows no answers before the one that counts.
            held.slot.borrow_mut().informational = 0;
        }
        let body = Body::new(Held { conn: Rc::clone(&held.conn), slot: Rc::clone(&held.slot), owner: false });
        let answer = self.handler.request(Request::from_parts(parts, body));
        self.spawn.spawn(run(held, method, answer));
    }
}

/// One stream, until it is over or the peer gives it up.
async fn run<B>(mut held: Held, method: Method, answer: impl Future<Output = Response<B>>)
where
    B: http_body::Body<Data = Bytes, Error: Into<Box<dyn Error>>> + Unpin,
{
    let (conn, slot) = (Rc::clone(&held.conn), Rc::clone(&held.slot));
    let mut answered = pin!(respond(&conn, &slot, &method, answer));
    std::future::poll_fn(|cx| {
        if is_given_up(&slot, cx) {
            return Poll::Ready(());
        }
        answered.as_mut().poll(cx)
    })
    .await;
    // What has switched belongs to the tunnel.
    held.owner = slot.borrow().switch != Switch::Done || !slot.borrow().claimed;
}

fn is_given_up(slot: &Slot, cx: &mut Context<'_>) -> bool {
    let mut stream = slot.borrow_mut();
    remember(&mut stream.task, cx);
    stream.broken.is_some()
}

async fn respond<B>(conn: &Rc<Conn>, slot: &Slot, method: &Method, answer: impl Future<Output = Response<B>>)
where
    B: http_body::Body<Data = Bytes, Error: Into<Box<dyn Error>>> + Unpin,
{
    let (parts, body) = answer.await.into_parts();
    let (status, headers) = (parts.status, &parts.headers);
    let agreed = agrees(slot, method, status);
    let switching = status == StatusCode::SWITCHING_PROTOCOLS;
    let bodiless =
        *method == Method::HEAD || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let end = !agreed && (bodiless || body.is_end_stream());
    if !agreed && slot.borrow().switch == Switch::Offered {
        slot.borrow_mut().switch = Switch::No;
    }
    // Nobody has asked for that, or it cannot be said: a fault of this side.
    if (switching && !agreed) || conn.answer(slot, status, headers, end).is_err() {
        return conn.reset(slot, Code::Internal);
    }
    if agreed {
        let mut stream = slot.borrow_mut();
        stream.switch = Switch::Done;
        if let Some(waker) = stream.recv.waker.take() {
            waker.wake();
        }
    } else if !end {
        let mut pump = Pump::new(body);
        // A body that breaks off has given the stream up.
        pump.run(conn, slot).await.ok();
    }
}

/// Whether this answer ends HTTP on its stream.
fn agrees(slot: &Slot, method: &Method, status: StatusCode) -> bool {
    let asked = slot.borrow().switch == Switch::Offered;
    let accepts = if *method == Method::CONNECT {
        status.is_success()
    } else {
        status == StatusCode::SWITCHING_PROTOCOLS
    };
    asked && accepts
}
