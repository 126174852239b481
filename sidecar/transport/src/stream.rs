//! One stream: what has come and was not taken yet, what is to go and has not gone yet, and who waits for either.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Waker};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode, response};
use tokio::time::Instant;

use crate::code::StreamError;
use crate::informer::MAX_INFORMATIONAL;

/// A stream, shared by the connection and whoever uses it.
pub(crate) type Slot = Rc<RefCell<Stream>>;

/// The state of one stream.
#[derive(Debug, Default)]
pub(crate) struct Stream {
    /// Its number.
    pub(crate) id: u32,
    /// What comes.
    pub(crate) recv: Recv,
    /// What goes.
    pub(crate) send: Send,
    /// Why it ended before its end.
    pub(crate) broken: Option<StreamError>,
    /// The peer certainly did not process it.
    pub(crate) unprocessed: bool,
    /// Head of the answer, on the side that asked.
    pub(crate) answer: Option<Box<response::Parts>>,
    /// Whoever runs this stream: it waits for the answer, or makes it.
    pub(crate) task: Option<Waker>,
    /// Who waits to switch to raw bytes, and whether that has been agreed.
    pub(crate) switch: Switch,
    /// Somebody wants the raw bytes once that has been agreed.
    pub(crate) claimed: bool,
    /// The head of an answer has come, or none is to come.
    pub(crate) got_answer: bool,
    /// Answers before the one that counts (1xx) that may still come, or go.
    pub(crate) informational: u32,
    /// Those that have come and nobody was told of yet.
    pub(crate) early: Vec<(StatusCode, HeaderMap)>,
    /// What was asked, where it changes what an answer means (RFC 9110, sections 9.3.2 and 9.3.6).
    pub(crate) asked: Asking,
}

/// What a request asked for.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asking {
    /// An answer with a body, if it has one.
    #[default]
    Answer,
    /// HEAD: the head of the answer.
    Head,
    /// CONNECT: a tunnel.
    Tunnel,
}

/// Whether a stream stops being HTTP.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Switch {
    /// It cannot.
    #[default]
    No,
    /// It may: an upgrade or CONNECT.
    Offered,
    /// It has.
    Done,
}

/// The receiving half.
#[derive(Debug, Default)]
pub(crate) struct Recv {
    pieces: VecDeque<Held>,
    /// Small pieces, joined: many of them cost no more than their bytes.
    tail: BytesMut,
    /// Bytes in both.
    pub(crate) held: usize,
    /// Fields after the body.
    pub(crate) trailers: Option<HeaderMap>,
    /// The peer's side has ended.
    pub(crate) ended: bool,
    /// Nobody wants what comes.
    pub(crate) discard: bool,
    /// What the peer may still send.
    pub(crate) credit: u32,
    /// To what its credit is filled up.
    pub(crate) target: u32,
    /// Bytes that came so far.
    pub(crate) total: u64,
    /// Bytes still to come, where the head says so.
    pub(crate) left: Option<u64>,
    /// Who waits for more.
    pub(crate) waker: Option<Waker>,
}

/// The sending half.
#[derive(Debug, Default)]
pub(crate) struct Send {
    /// What this side may still send.
    pub(crate) credit: u32,
    /// Frames that wait for their turn; their credit is spent already.
    pub(crate) queue: VecDeque<Piece>,
    /// Bytes of body in the queue.
    pub(crate) queued: usize,
    /// It stands in the connection's row of turns.
    pub(crate) in_turn: bool,
    /// It waits until the connection takes more.
    pub(crate) waiting: bool,
    /// This side has ended; its last frame may still be queued.
    pub(crate) ended: bool,
    /// Without credit since.
    pub(crate) blocked: Option<Instant>,
    /// Who waits to send more.
    pub(crate) waker: Option<Waker>,
}

/// What is to go on one stream.
#[derive(Debug)]
pub(crate) enum Piece {
    /// Bytes of the body, and whether they are the last.
    Data(Bytes, bool),
    /// Frames as they are.
    Frames(BytesMut),
}

/// Bytes that came.
#[derive(Debug)]
struct Held {
    bytes: Bytes,
    /// They are part of the connection's buffer and keep all of it.
    shared: bool,
}

impl Stream {
    /// A stream of this number and credit both ways.
    pub(crate) fn new(id: u32, send_credit: u32, recv_credit: u32) -> Self {
        let recv = Recv { credit: recv_credit, target: recv_credit, ..Recv::default() };
        let send = Send { credit: send_credit, ..Send::default() };
        Self { id, recv, send, informational: MAX_INFORMATIONAL, ..Self::default() }
    }

    /// Wakes everybody who waits for anything of this stream.
    pub(crate) fn wake_all(&mut self) {
        let wakers = [self.task.take(), self.recv.waker.take(), self.send.waker.take()];
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    /// Ends it in both directions: what was queued is dropped, what came can still be taken if all of it came.
    pub(crate) fn break_off(&mut self, error: StreamError) {
        self.broken.get_or_insert(error);
        self.send.queue.clear();
        self.send.queued = 0;
        self.send.ended = true;
        self.send.blocked = None;
        if !self.recv.ended {
            self.recv.drop_held();
        }
        self.wake_all();
    }
}

impl Recv {
    /// Keeps a piece of the connection's buffer.
    pub(crate) fn push_shared(&mut self, bytes: Bytes) {
        self.flush_tail();
        self.held += bytes.len();
        self.pieces.push_back(Held { bytes, shared: true });
    }

    /// Keeps a copy.
    pub(crate) fn push_copied(&mut self, bytes: &[u8]) {
        self.held += bytes.len();
        self.tail.extend_from_slice(bytes);
    }

    /// The next bytes, in order.
    pub(crate) fn pop(&mut self) -> Option<Bytes> {
        let bytes = match self.pieces.pop_front() {
            Some(held) => held.bytes,
            None if self.tail.is_empty() => return None,
            None => std::mem::take(&mut self.tail).freeze(),
        };
        self.held -= bytes.len();
        Some(bytes)
    }

    /// Whether nothing is held.
    pub(crate) fn is_empty(&self) -> bool {
        self.held == 0
    }

    /// Copies what is still part of the connection's buffer, which can then be used again.
    pub(crate) fn unshare(&mut self) {
        for held in self.pieces.iter_mut().filter(|held| held.shared) {
            *held = Held { bytes: Bytes::copy_from_slice(&held.bytes), shared: false };
        }
    }

    /// Nobody wants what has come and what still comes.
    pub(crate) fn discard(&mut self) {
        self.discard = true;
        self.drop_held();
    }

    /// Drops what has come.
    pub(crate) fn drop_held(&mut self) {
        self.pieces.clear();
        self.tail = BytesMut::new();
        self.held = 0;
    }

    fn flush_tail(&mut self) {
        if !self.tail.is_empty() {
            let bytes = std::mem::take(&mut self.tail).freeze();
            self.pieces.push_back(Held { bytes, shared: false });
        }
    }
}

/// Remembers whom to wake.
pub(crate) fn remember(waker: &mut Option<Waker>, cx: &Context<'_>) {
    match waker {
        Some(known) if known.will_wake(cx.waker()) => {}
        _ => *waker = Some(cx.waker().clone()),
    }
}
