//! A request body that can be sent again: what has been read from the client is kept, up to a bound, while it is sent
//! the first time. Beyond the bound it streams on and cannot be sent again. Nothing is copied, pieces are shared.

use std::cell::RefCell;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};

use super::received::{BodyError, PolledFrame, Received};

/// Bytes kept per request.
pub const LIMIT: usize = 64 * 1024;

/// One sending of a kept body.
#[derive(Debug)]
pub struct Replay {
    kept: Rc<RefCell<Kept>>,
    /// Pieces already given out in this sending.
    sent: usize,
    trailers_sent: bool,
}

#[derive(Debug)]
struct Kept {
    rest: Received,
    pieces: Vec<Bytes>,
    size: usize,
    trailers: Option<HeaderMap>,
    read_to_end: bool,
    /// No longer whole: too large, or broken off.
    lost: bool,
}

/// Makes sendings of one body.
#[derive(Debug)]
pub struct Keeper(Rc<RefCell<Kept>>);

impl Keeper {
    /// Keeps this body.
    pub fn new(rest: Received) -> Self {
        Self(Rc::new(RefCell::new(Kept {
            rest,
            pieces: Vec::new(),
            size: 0,
            trailers: None,
            read_to_end: false,
            lost: false,
        })))
    }

    /// Whether it can still be sent from its start.
    pub fn is_whole(&self) -> bool {
        !self.0.borrow().lost
    }

    /// The same body for another request, once it is here to its end.
    pub fn complete(&self) -> Option<Self> {
        let kept = self.0.borrow();
        let all_read = kept.read_to_end || kept.rest.is_end_stream();
        (all_read && !kept.lost).then(|| Self(Rc::clone(&self.0)))
    }

    /// One sending from the start. Earlier sendings must be over.
    pub fn replay(&self) -> Replay {
        Replay { kept: Rc::clone(&self.0), sent: 0, trailers_sent: false }
    }
}

impl Replay {
    fn poll_rest(&mut self, cx: &mut Context<'_>) -> PolledFrame {
        let kept = &mut *self.kept.borrow_mut();
        let frame = ready!(Pin::new(&mut kept.rest).poll_frame(cx));
        match &frame {
            None => kept.read_to_end = true,
            Some(Err(_)) => kept.lost = true,
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    kept.keep(data);
                } else if let Some(trailers) = frame.trailers_ref() {
                    kept.trailers = Some(trailers.clone());
                    kept.read_to_end = true;
                    self.trailers_sent = true;
                }
                self.sent = kept.pieces.len();
            }
        }
        Poll::Ready(frame)
    }
}

impl Kept {
    fn keep(&mut self, data: &Bytes) {
        self.size = self.size.saturating_add(data.len());
        if self.size > LIMIT {
            self.lost = true;
            self.pieces.clear();
        } else {
            self.pieces.push(data.clone());
        }
    }
}

impl Body for Replay {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> PolledFrame {
        let this = self.get_mut();
        let kept = this.kept.borrow();
        if let Some(piece) = kept.pieces.get(this.sent) {
            this.sent += 1;
            return Poll::Ready(Some(Ok(Frame::data(piece.clone()))));
        }
        if kept.read_to_end {
            let trailers = kept.trailers.clone().filter(|_| !this.trailers_sent);
            this.trailers_sent = true;
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        }
        drop(kept);
        this.poll_rest(cx)
    }

    fn is_end_stream(&self) -> bool {
        let kept = self.kept.borrow();
        let all = self.sent >= kept.pieces.len();
        let no_trailers = kept.trailers.is_none() || self.trailers_sent;
        all && no_trailers && (kept.read_to_end || kept.rest.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let kept = self.kept.borrow();
        let ahead: usize = kept.pieces.iter().skip(self.sent).map(Bytes::len).sum();
        let mut hint = kept.rest.size_hint();
        let lower = hint.lower() + ahead as u64;
        match hint.upper() {
            Some(upper) => {
                hint.set_upper(upper + ahead as u64);
                hint.set_lower(lower);
            }
            None => hint.set_lower(lower),
        }
        hint
    }
}
