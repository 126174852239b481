//! Answers before the final one (1xx, RFC 9110, section 15.2) on the answering side: whoever makes an answer may say how far
//! it has come. They are advice, so what would cost the connection too much is left unsaid.

use std::fmt;
use std::rc::Rc;

use http::{HeaderMap, StatusCode};

use crate::conn::Conn;
use crate::frame::Kind;
use crate::head;
use crate::outbox::Outbox;
use crate::stream::Slot;

/// Of one answer; a client takes no more (README, "Streams").
pub(crate) const MAX_INFORMATIONAL: u32 = 16;

/// Sends answers before the final one of a stream.
#[derive(Clone)]
pub struct Informer {
    conn: Rc<Conn>,
    slot: Slot,
}

impl fmt::Debug for Informer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Informer").field(&self.slot.borrow().id).finish()
    }
}

impl Informer {
    pub(crate) fn new(conn: &Rc<Conn>, slot: &Slot) -> Self {
        Self { conn: Rc::clone(conn), slot: Rc::clone(slot) }
    }

    /// Sends an answer before the final one; nothing where whoever asked knows none
    /// (HTTP/1.0), the final one has begun, the peer has given the stream up or
    /// takes no more of them, or much waits to be written already.
    pub fn inform(&self, status: StatusCode, headers: &HeaderMap) {
        if status.is_informational() && status != StatusCode::SWITCHING_PROTOCOLS {
            self.conn.inform(&self.slot, status, headers);
        }
    }
}

impl Conn {
    fn inform(&self, slot: &Slot, status: StatusCode, headers: &HeaderMap) {
        let state = &mut *self.state.borrow_mut();
        let mut stream = slot.borrow_mut();
        let too_late = stream.broken.is_some() || stream.got_answer;
        if too_late || stream.informational == 0 || state.out.small.len() >= self.limits.max_pending {
            return;
        }
        let about = (Kind::Head, 0, stream.id);
        let write = |out: &mut _| head::put_answer(out, status, headers);
        // What cannot be said in a head is advice that is not given.
        if let Ok(Ok(())) = Outbox::put_head(&mut state.out.small, about, state.peer.max_head, write) {
            stream.informational -= 1;
            self.wake(state);
        }
    }
}
