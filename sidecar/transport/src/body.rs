//! A body as it came over the transport. What is taken of it gives the peer credit for more; dropped before its end, the
//! asking side gives the stream up and the answering side passes over the rest.

use std::fmt;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::SizeHint;

use crate::code::{Code, StreamError};
use crate::conn::{Conn, Received, Role};
use crate::informer::Informer;
use crate::stream::{Slot, Switch};
use crate::tunnel::{OnUpgrade, Tunnel};

/// A request's or an answer's body.
#[derive(Default)]
pub struct Body {
    stream: Option<Held>,
}

/// A use of a stream.
pub(crate) struct Held {
    pub(crate) conn: Rc<Conn>,
    pub(crate) slot: Slot,
    /// The stream is given up when this is dropped before its end.
    pub(crate) owner: bool,
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").field("stream", &self.stream).finish()
    }
}

impl fmt::Debug for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Stream").field(&self.slot.borrow().id).finish()
    }
}

impl Body {
    pub(crate) fn new(stream: Held) -> Self {
        Self { stream: Some(stream) }
    }

    /// Of a request that may end HTTP on its stream: what becomes of the stream once the answer agrees.
    pub fn take_upgrade(&mut self) -> Option<OnUpgrade> {
        let stream = self.stream.as_ref()?;
        let offered = stream.slot.borrow().switch == Switch::Offered && stream.conn.role == Role::Server;
        if offered { self.stream.take().map(OnUpgrade::new) } else { None }
    }

    /// Of a request: sends answers before the final one, which may go out until that does.
    pub fn informer(&self) -> Option<Informer> {
        let stream = self.stream.as_ref().filter(|stream| stream.conn.role == Role::Server)?;
        Some(Informer::new(&stream.conn, &stream.slot))
    }

    /// Of an answer that has ended HTTP on its stream: the bytes both ways.
    pub fn into_tunnel(mut self) -> Option<Tunnel> {
        let stream = self.stream.as_ref()?;
        let switched = stream.slot.borrow().switch == Switch::Done && stream.conn.role == Role::Client;
        if switched { self.stream.take().map(Tunnel::new) } else { None }
    }
}

impl http_body::Body for Body {
    type Data = Bytes;
    type Error = StreamError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Received {
        let Some(stream) = &self.stream else { return Poll::Ready(None) };
        if stream.slot.borrow().switch != Switch::No {
            return Poll::Ready(None);
        }
        stream.conn.poll_recv(&stream.slot, cx)
    }

    fn is_end_stream(&self) -> bool {
        self.stream.as_ref().is_none_or(|stream| {
            let stream = stream.slot.borrow();
            let recv = &stream.recv;
            stream.switch != Switch::No || (recv.ended && recv.is_empty() && recv.trailers.is_none())
        })
    }

    fn size_hint(&self) -> SizeHint {
        let Some(stream) = &self.stream else { return SizeHint::with_exact(0) };
        let stream = stream.slot.borrow();
        let held = stream.recv.held as u64;
        match stream.recv.left {
            _ if stream.switch != Switch::No => SizeHint::with_exact(0),
            _ if stream.recv.ended && stream.recv.trailers.is_none() => SizeHint::with_exact(held),
            Some(left) => SizeHint::with_exact(held + left),
            None => SizeHint::default(),
        }
    }
}

impl Drop for Body {
    fn drop(&mut self) {
        let Some(stream) = &mut self.stream else { return };
        match stream.conn.role {
            Role::Server => stream.slot.borrow_mut().recv.discard(),
            // A request may go on after its answer is complete.
            Role::Client => stream.owner = !stream.slot.borrow().recv.ended,
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.owner {
            self.conn.reset(&self.slot, Code::Cancelled);
        }
    }
}
