//! What both sides of a connection share between its driver and its streams: the streams, their credit, and what is queued.
//! Streams queue frames here and wake the driver; the driver hands what came to the streams and wakes them.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use http_body::Frame;
use tokio::time::Instant;

use crate::code::{Closed, Code, StreamError};
use crate::frame::{self, END, Hello, Kind, MAX_STREAM};
use crate::head::{self, HeadError, Opening};
use crate::limits::Limits;
use crate::meter::Meter;
use crate::outbox::Outbox;
use crate::stream::{Slot, Stream, Switch, remember};

/// What came of a large body before its credit grows.
const LARGE: u64 = 32 * 1024;
/// Less than this is not granted, bytes.
const GRANT: u32 = 16 * 1024;
/// A peer has no reason to send CREDIT more often than for so many bytes.
pub(crate) const CREDIT_COST: u64 = 4096;
/// DATA that may still come for a stream after this side gave it up is what it had credit for; besides, this many frames.
const LATE_FRAMES: u32 = 8;

/// A part of a body.
pub(crate) type Received = Poll<Option<Result<Frame<Bytes>, StreamError>>>;

/// Which side this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// Opens streams.
    Client,
    /// Answers them.
    Server,
}

/// How far shutting down has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Drain {
    /// It has not begun.
    No,
    /// The peer is told to open no more; what it had sent by then is still taken. Since.
    Soon(Instant),
    /// No stream beyond the last one is taken.
    Last,
}

/// A connection, shared by its driver and its streams.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) role: Role,
    pub(crate) limits: Limits,
    pub(crate) state: RefCell<State>,
    /// The driver is running and will write what is queued.
    pub(crate) driving: Cell<bool>,
    /// Handles that may open streams.
    pub(crate) handles: Cell<usize>,
}

/// What changes.
#[derive(Debug)]
pub(crate) struct State {
    pub(crate) streams: HashMap<u32, Slot, BuildHasherDefault<ById>>,
    pub(crate) out: Outbox,
    /// What the peer takes.
    pub(crate) peer: Hello,
    /// The peer's HELLO has come.
    pub(crate) greeted: bool,
    /// The highest stream opened so far.
    pub(crate) last: u32,
    pub(crate) drain: Drain,
    pub(crate) closed: Option<Closed>,
    pub(crate) driver: Option<Waker>,
    /// Streams that the peer opened and nobody has taken yet.
    pub(crate) accepted: Vec<(Slot, Opening)>,
    /// Streams that hold parts of the read buffer.
    pub(crate) sharing: Vec<Slot>,
    /// A head that is not whole yet.
    pub(crate) partial: Option<Partial>,
    /// Granted above the initial credit.
    pub(crate) extra: usize,
    pub(crate) late: Late,
    pub(crate) resets: Meter,
    pub(crate) pings: Meter,
    /// What the peer may still send CREDIT frames for, bytes.
    pub(crate) credits: u64,
    /// A PING of this side is unanswered.
    pub(crate) pinged: Option<Instant>,
}

/// The beginning of a head in several frames.
#[derive(Debug)]
pub(crate) struct Partial {
    pub(crate) kind: Kind,
    pub(crate) stream: u32,
    pub(crate) ends: bool,
    pub(crate) bytes: BytesMut,
}

/// What may still come for streams that this side gave up.
#[derive(Debug, Default)]
pub(crate) struct Late {
    pub(crate) bytes: u64,
    pub(crate) frames: u32,
}

/// Stream numbers are their own hash: they count up.
#[derive(Debug, Default)]
pub(crate) struct ById(u64);

impl Hasher for ById {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0 << 8 | u64::from(byte);
        }
    }

    fn write_u32(&mut self, number: u32) {
        // The table looks at the highest bits too.
        self.0 = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

impl Conn {
    pub(crate) fn new(role: Role, limits: Limits) -> Rc<Self> {
        let mut out = Outbox::default();
        Hello::new(&limits).encode(&mut out.small);
        let state = State {
            streams: HashMap::default(),
            out,
            peer: Hello::LEAST,
            greeted: false,
            last: 0,
            drain: Drain::No,
            closed: None,
            driver: None,
            accepted: Vec::new(),
            sharing: Vec::new(),
            partial: None,
            extra: 0,
            late: Late::default(),
            resets: Meter::new(limits.resets),
            pings: Meter::new(limits.pings),
            credits: 1024 * CREDIT_COST,
            pinged: None,
        };
        let (driving, handles) = (Cell::new(false), Cell::new(0));
        Rc::new(Self { role, limits, state: RefCell::new(state), driving, handles })
    }

    /// What this side said in its HELLO.
    pub(crate) fn own(&self) -> Hello {
        Hello::new(&self.limits)
    }

    /// Has the driver write what was queued.
    pub(crate) fn wake(&self, state: &State) {
        if !self.driving.get()
            && let Some(driver) = &state.driver
        {
            driver.wake_by_ref();
        }
    }

    /// Opens a stream with this head. `end`: without a body.
    pub(crate) fn open<E: From<HeadError>>(
        &self,
        end: bool,
        write: impl FnOnce(&mut BytesMut) -> Result<(), E>,
    ) -> Result<Slot, E> {
        let state = &mut *self.state.borrow_mut();
        let id = state.last + 1;
        let flags = if end { END } else { 0 };
        let written =
            Outbox::put_head(&mut state.out.small, (Kind::Head, flags, id), state.peer.max_head, write);
        written.map_err(|_| E::from(HeadError::TooLarge))??;
        state.last = id;
        state.out.head_of = id;
        state.credits += 2 * CREDIT_COST;
        let mut stream = Stream::new(id, state.peer.initial_credit, self.own().initial_credit);
        stream.send.ended = end;
        let slot = Rc::new(RefCell::new(stream));
        state.streams.insert(id, Rc::clone(&slot));
        self.wake(state);
        Ok(slot)
    }

    /// Whether another stream may be opened.
    pub(crate) fn has_room(&self) -> bool {
        let state = self.state.borrow();
        let most = usize::try_from(state.peer.max_streams).unwrap_or(usize::MAX);
        is_open(&state) && state.streams.len() < most
    }

    /// Whether streams may still be opened at all.
    pub(crate) fn is_open(&self) -> bool {
        is_open(&self.state.borrow())
    }

    /// Sends the head of an answer. `end`: without a body.
    pub(crate) fn answer(
        &self,
        slot: &Slot,
        status: StatusCode,
        headers: &HeaderMap,
        end: bool,
    ) -> Result<(), HeadError> {
        let state = &mut *self.state.borrow_mut();
        let mut stream = slot.borrow_mut();
        if stream.broken.is_some() {
            return Ok(());
        }
        let about = (Kind::Head, if end { END } else { 0 }, stream.id);
        let write = |out: &mut BytesMut| head::put_answer(out, status, headers);
        Outbox::put_head(&mut state.out.small, about, state.peer.max_head, write)
            .map_err(|_| HeadError::TooLarge)??;
        stream.got_answer = true;
        if end {
            self.ended(state, slot, &mut stream);
        }
        self.wake(state);
        Ok(())
    }

    /// How many bytes the stream may queue now; waits until it is some.
    pub(crate) fn poll_capacity(
        &self,
        slot: &Slot,
        cx: &mut Context<'_>,
    ) -> Poll<Result<usize, StreamError>> {
        let state = &mut *self.state.borrow_mut();
        let stream = &mut *slot.borrow_mut();
        if let Some(error) = stream.broken {
            return Poll::Ready(Err(error));
        }
        if stream.send.credit == 0 {
            stream.send.blocked.get_or_insert_with(Instant::now);
            remember(&mut stream.send.waker, cx);
            return Poll::Pending;
        }
        let own = self.limits.max_stream_pending.saturating_sub(stream.send.queued);
        let all = self.limits.max_pending.saturating_sub(state.out.queued);
        if own.min(all) == 0 {
            remember(&mut stream.send.waker, cx);
            if all == 0 && !stream.send.waiting {
                stream.send.waiting = true;
                state.out.waiting.push(Rc::clone(slot));
            }
            return Poll::Pending;
        }
        let credit = usize::try_from(stream.send.credit).unwrap_or(usize::MAX);
        Poll::Ready(Ok(credit.min(own).min(all)))
    }

    /// Queues bytes of a body, no more than [`Conn::poll_capacity`] has given.
    pub(crate) fn send_data(&self, slot: &Slot, data: Bytes, end: bool) {
        let state = &mut *self.state.borrow_mut();
        let mut stream = slot.borrow_mut();
        if stream.broken.is_some() || stream.send.ended || (data.is_empty() && !end) {
            return;
        }
        let length = u32::try_from(data.len()).unwrap_or(u32::MAX);
        stream.send.credit = stream.send.credit.saturating_sub(length);
        state.credits += u64::from(length);
        state.out.push_data(slot, &mut stream, data, end);
        if end {
            self.ended(state, slot, &mut stream);
        }
        self.wake(state);
    }

    /// Queues trailers, which end this side of the stream.
    pub(crate) fn send_trailers(&self, slot: &Slot, trailers: &HeaderMap) -> Result<(), HeadError> {
        let state = &mut *self.state.borrow_mut();
        let mut stream = slot.borrow_mut();
        if stream.broken.is_some() || stream.send.ended {
            return Ok(());
        }
        let mut frames = BytesMut::new();
        let about = (Kind::Trailers, 0, stream.id);
        let write = |out: &mut BytesMut| head::put_fields(out, trailers);
        Outbox::put_head(&mut frames, about, state.peer.max_head, write)
            .map_err(|_| HeadError::TooLarge)??;
        state.out.push_frames(slot, &mut stream, frames);
        self.ended(state, slot, &mut stream);
        self.wake(state);
        Ok(())
    }

    /// Gives a stream up, if it is not over.
    pub(crate) fn reset(&self, slot: &Slot, code: Code) {
        let state = &mut *self.state.borrow_mut();
        self.reset_in(state, slot, code, StreamError::Failed(code));
    }

    /// As [`Conn::reset`], where the state is at hand; those who use the stream are told `error`.
    pub(crate) fn reset_in(&self, state: &mut State, slot: &Slot, code: Code, error: StreamError) {
        let mut stream = slot.borrow_mut();
        if stream.broken.is_some() || state.streams.remove(&stream.id).is_none() {
            return;
        }
        state.late.expect(&stream);
        self.shrink(state, &stream);
        state.out.forget(&stream);
        stream.break_off(error);
        frame::put_number(&mut state.out.small, Kind::Reset, stream.id, code.number());
        state.out.forced += frame::HEADER + 4;
        self.wake(state);
    }

    /// The next part of what came.
    pub(crate) fn poll_recv(&self, slot: &Slot, cx: &mut Context<'_>) -> Received {
        let mut stream = slot.borrow_mut();
        if let Some(bytes) = stream.recv.pop() {
            drop(stream);
            self.grant(slot);
            return Poll::Ready(Some(Ok(Frame::data(bytes))));
        }
        if stream.recv.ended {
            let trailers = stream.recv.trailers.take();
            return Poll::Ready(trailers.map(|trailers| Ok(Frame::trailers(trailers))));
        }
        if let Some(error) = stream.broken {
            return Poll::Ready(Some(Err(error)));
        }
        remember(&mut stream.recv.waker, cx);
        Poll::Pending
    }

    /// Gives the peer credit for what was taken, once it is worth a frame.
    fn grant(&self, slot: &Slot) {
        let state = &mut *self.state.borrow_mut();
        let stream = &mut *slot.borrow_mut();
        let recv = &mut stream.recv;
        let known_to_fit = recv.left.is_some_and(|left| left <= u64::from(recv.credit));
        if recv.ended || recv.discard || known_to_fit || stream.broken.is_some() {
            return;
        }
        let full = self.limits.full_credit.min(frame::MAX_CREDIT);
        let more = usize::try_from(full.saturating_sub(recv.target)).unwrap_or(0);
        if recv.total >= LARGE && more > 0 && state.extra + more <= self.limits.extra_credit {
            state.extra += more;
            recv.target = full;
        }
        let held = u32::try_from(recv.held).unwrap_or(u32::MAX);
        let missing = recv.target.saturating_sub(recv.credit.saturating_add(held));
        if missing < (recv.target / 2).max(GRANT) {
            return;
        }
        recv.credit += missing;
        frame::put_number(&mut state.out.small, Kind::Credit, stream.id, missing);
        state.out.forced += frame::HEADER + 4;
        self.wake(state);
    }

    /// This side of the stream has ended.
    pub(crate) fn ended(&self, state: &mut State, slot: &Slot, stream: &mut Stream) {
        stream.send.ended = true;
        stream.send.blocked = None;
        if self.role == Role::Server && !stream.recv.ended && stream.switch != Switch::Done {
            // The answer is complete, so what is left of the request is not needed.
            state.late.expect(stream);
            stream.recv.ended = true;
            stream.recv.drop_held();
            let mut frames = BytesMut::new();
            frame::put_number(&mut frames, Kind::Reset, stream.id, Code::Done.number());
            state.out.push_frames(slot, stream, frames);
        }
        self.settle(state, stream);
    }

    /// Forgets a stream that has ended on both sides.
    pub(crate) fn settle(&self, state: &mut State, stream: &Stream) {
        if stream.send.ended && stream.recv.ended && state.streams.remove(&stream.id).is_some() {
            self.shrink(state, stream);
            if state.streams.is_empty() {
                // The driver may be waiting for that.
                self.wake(state);
            }
        }
    }

    /// Gives back what the stream had above its initial credit.
    pub(crate) fn shrink(&self, state: &mut State, stream: &Stream) {
        let extra = stream.recv.target.saturating_sub(self.own().initial_credit);
        state.extra = state.extra.saturating_sub(usize::try_from(extra).unwrap_or(0));
    }

    /// Ends everything.
    pub(crate) fn close(&self, closed: Closed) {
        let state = &mut *self.state.borrow_mut();
        if state.closed.is_some() {
            return;
        }
        state.closed = Some(closed);
        let written = state.out.written_head_of;
        for (id, slot) in state.streams.drain() {
            let mut stream = slot.borrow_mut();
            stream.unprocessed = id > written;
            stream.break_off(closed.into());
        }
        state.out.clear();
        state.accepted.clear();
        state.sharing.clear();
        state.partial = None;
    }
}

fn is_open(state: &State) -> bool {
    state.closed.is_none() && state.drain == Drain::No && state.last < MAX_STREAM
}

impl Late {
    /// What the peer may have sent before it hears that the stream is over.
    pub(crate) fn expect(&mut self, stream: &Stream) {
        self.bytes += u64::from(stream.recv.credit);
        self.frames = self.frames.saturating_add(LATE_FRAMES);
    }
}
