//! The future of a connection, of either side: reads what has come, hands it to the streams, and writes everything that was
//! queued since it last ran. Whoever queues a frame wakes it, and it runs after all that were woken before it, so the
//! frames of many streams go in one write. Keeps the times (README, "Times") and ends the connection in good order.

use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::time::{Instant, Sleep, sleep};

use crate::code::{Closed, Code};
use crate::conn::{Conn, Drain, Role, State};
use crate::dispatch::{DRAINING, Piece, THERE};
use crate::frame::{self, DRAIN_SOON, HEADER, Header, Kind, Next};
use crate::stream::{Slot, Switch, remember};

/// Bytes read at a time. The buffer is taken from the thread's own when there is something to read, and given back.
pub const BUFFER: usize = 128 * 1024;
/// A piece of a body from this size on is handed on as it lies in the buffer.
const SHARE: usize = 8 * 1024;
/// Buffers kept per thread.
const SPARE: usize = 4;
/// Between two looks at the times.
const TICK: Duration = Duration::from_secs(1);
/// How long the other side's last bytes are waited for, so that it sees the end and not a reset.
const LINGER: Duration = Duration::from_secs(1);
/// Slices given to one write.
const SLICES: usize = 32;

thread_local! {
    static BUFFERS: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
}

/// Drives one connection.
#[derive(Debug)]
pub(crate) struct Driver<IO> {
    io: IO,
    conn: Rc<Conn>,
    input: BytesMut,
    phase: Phase,
    tick: Option<Pin<Box<Sleep>>>,
    started: Instant,
    /// When bytes came last.
    heard: Instant,
    /// Since when nothing could be written.
    stuck: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// Writes what is left, then the end. The deadline is the tick.
    Closing(Option<Closed>),
    /// Waits for the end of the peer's bytes.
    Lingering(Option<Closed>),
}

/// Why reading ends.
#[derive(Clone, Copy)]
enum End {
    /// The peer breaks the protocol.
    Code(Code),
    /// The connection is over.
    Closed(Closed),
}

impl From<Code> for End {
    fn from(code: Code) -> Self {
        Self::Code(code)
    }
}

impl From<io::Error> for End {
    fn from(error: io::Error) -> Self {
        Self::Closed(Closed::Io(error.kind()))
    }
}

impl<IO: AsyncRead + AsyncWrite + Unpin> Driver<IO> {
    pub(crate) fn new(io: IO, conn: Rc<Conn>) -> Self {
        let now = Instant::now();
        let (input, phase) = (BytesMut::new(), Phase::Open);
        Self { io, conn, input, phase, tick: None, started: now, heard: now, stuck: None }
    }

    /// Runs until the connection is over.
    pub(crate) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        remember(&mut self.conn.state.borrow_mut().driver, cx);
        self.conn.driving.set(true);
        let polled = self.poll_phase(cx);
        self.conn.driving.set(false);
        polled
    }

    /// Tells the peer to open no more streams; the connection ends when those that are open have.
    pub(crate) fn drain(&self) {
        let state = &mut *self.conn.state.borrow_mut();
        if state.drain == Drain::No && self.conn.role == Role::Server {
            state.drain = Drain::Soon(Instant::now());
            frame::put_number(&mut state.out.small, Kind::Drain, 0, DRAIN_SOON);
            frame::put_ping(&mut state.out.small, Kind::Ping, DRAINING);
            self.conn.wake(state);
        }
    }

    fn poll_phase(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Closed>> {
        loop {
            let ended = match self.phase {
                Phase::Open => match self.go_on(cx) {
                    Ok(()) => return Poll::Pending,
                    Err(end) => self.begin_end(end),
                },
                Phase::Closing(closed) => {
                    let said = self.is_late(cx) || ready!(self.poll_goodbye(cx)).is_err();
                    self.linger(closed, said)
                }
                Phase::Lingering(closed) => Some(ready!(self.poll_end(cx, closed))),
            };
            if let Some(ended) = ended {
                return Poll::Ready(ended);
            }
        }
    }

    /// Writes what is left, and the end.
    fn poll_goodbye(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_write(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    /// Waits for the peer's end, unless it cannot be told ours.
    fn linger(&mut self, closed: Option<Closed>, failed: bool) -> Option<Result<(), Closed>> {
        if failed {
            return Some(closed.map_or(Ok(()), Err));
        }
        self.tick = Some(Box::pin(sleep(LINGER)));
        self.phase = Phase::Lingering(closed);
        None
    }

    /// Reads, keeps the times and writes. An error ends the connection.
    fn go_on(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        let more = self.read(cx)?;
        self.keep_times(cx)?;
        if let Poll::Ready(written) = self.poll_write(cx) {
            written?;
            let state = self.conn.state.borrow();
            let wanted = match self.conn.role {
                Role::Client => self.conn.handles.get() > 0 && state.drain != Drain::Last,
                Role::Server => state.drain != Drain::Last,
            };
            if !wanted && state.streams.is_empty() && state.out.is_empty() {
                return Err(End::Closed(Closed::Dropped));
            }
        }
        if more {
            // Those who were woken by what was read run first.
            cx.waker().wake_by_ref();
        }
        Ok(())
    }

    /// What follows the end: nothing, or goodbye.
    fn begin_end(&mut self, end: End) -> Option<Result<(), Closed>> {
        let in_use = !self.conn.state.borrow().streams.is_empty();
        match end {
            End::Code(code) => {
                self.conn.close(Closed::ByUs(code));
                let out = &mut self.conn.state.borrow_mut().out;
                frame::put_number(&mut out.small, Kind::Close, 0, code.number());
                self.phase = Phase::Closing(Some(Closed::ByUs(code)));
            }
            End::Closed(Closed::Dropped) => {
                self.conn.close(Closed::Dropped);
                self.phase = Phase::Closing(None);
            }
            End::Closed(closed) => {
                self.conn.close(closed);
                let expected = closed == Closed::Eof && !in_use;
                return Some(if expected { Ok(()) } else { Err(closed) });
            }
        }
        self.tick = Some(Box::pin(sleep(LINGER)));
        None
    }

    fn is_late(&mut self, cx: &mut Context<'_>) -> bool {
        self.tick.as_mut().is_none_or(|tick| tick.as_mut().poll(cx).is_ready())
    }

    /// Reads what there is, up to a buffer full. Returns whether there may be more.
    fn read(&mut self, cx: &mut Context<'_>) -> Result<bool, End> {
        let mut taken = 0;
        while taken < BUFFER {
            self.make_room();
            let reading = pin!(self.io.read_buf(&mut self.input)).poll(cx);
            let Poll::Ready(count) = reading else {
                self.give_back();
                return Ok(false);
            };
            let count = count?;
            if count == 0 {
                return Err(End::Closed(Closed::Eof));
            }
            taken += count;
            self.heard = Instant::now();
            self.decode()?;
        }
        Ok(true)
    }

    /// Hands on every whole frame.
    fn decode(&mut self) -> Result<(), End> {
        loop {
            let header = match Header::decode(&self.input)? {
                Next::Unknown(length) if self.input.len() >= HEADER + length => {
                    self.input.advance(HEADER + length);
                    continue;
                }
                Next::Partial | Next::Unknown(_) => return Ok(()),
                Next::Frame(header) => header,
            };
            let whole = HEADER + usize::from(header.length);
            let Some(payload) = self.input.get(HEADER..whole) else { return Ok(()) };
            match header.kind {
                Kind::Data if payload.len() >= SHARE => {
                    let mut piece = self.input.split_to(whole);
                    piece.advance(HEADER);
                    self.conn.take_data(header, Piece::Shared(piece.freeze()))?;
                    continue;
                }
                Kind::Data => self.conn.take_data(header, Piece::Copied(payload))?,
                Kind::Close => {
                    let code = Code::from_number(frame::number(payload)?);
                    return Err(End::Closed(Closed::ByPeer(code)));
                }
                _ => self.conn.take_frame(header, payload)?,
            }
            self.input.advance(whole);
        }
    }

    /// Sees to it that a good part of the buffer is free. What streams still hold of it is copied rather than keep all of
    /// it: a stream keeps in memory what it has credit for, and no more.
    fn make_room(&mut self) {
        let held = self.input.len();
        if self.input.capacity() - held >= BUFFER / 4 || self.input.try_reclaim(BUFFER / 2) {
            return;
        }
        self.unshare();
        if !self.input.try_reclaim(BUFFER / 2) {
            let mut fresh =
                BUFFERS.with_borrow_mut(Vec::pop).unwrap_or_else(|| BytesMut::with_capacity(BUFFER));
            fresh.extend_from_slice(&self.input);
            self.input = fresh;
        }
    }

    fn unshare(&self) {
        let sharing = std::mem::take(&mut self.conn.state.borrow_mut().sharing);
        for slot in sharing {
            slot.borrow_mut().recv.unshare();
        }
    }

    /// Gives the buffer back if nobody needs it.
    fn give_back(&mut self) {
        if !self.input.is_empty() || !self.input.try_reclaim(BUFFER / 2) {
            return;
        }
        self.conn.state.borrow_mut().sharing.clear();
        let buffer = std::mem::take(&mut self.input);
        BUFFERS.with_borrow_mut(|buffers| {
            if buffers.len() < SPARE {
                buffers.push(buffer);
            }
        });
    }

    /// Writes everything that is queued.
    fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let polled = self.poll_write_all(cx);
        match &polled {
            Poll::Pending => drop(self.stuck.get_or_insert_with(Instant::now)),
            Poll::Ready(_) => self.stuck = None,
        }
        polled
    }

    fn poll_write_all(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.conn.state.borrow_mut().out.fill() {
            let count = {
                let state = self.conn.state.borrow();
                let mut slices = [IoSlice::new(&[]); SLICES];
                let filled = state.out.slices(&mut slices);
                let slices = slices.get(..filled).unwrap_or_default();
                ready!(Pin::new(&mut self.io).poll_write_vectored(cx, slices))?
            };
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.stuck = None;
            self.conn.state.borrow_mut().out.advance(count);
        }
        Pin::new(&mut self.io).poll_flush(cx)
    }

    /// Reads and forgets until the peer has closed, or for long enough.
    fn poll_end(&mut self, cx: &mut Context<'_>, closed: Option<Closed>) -> Poll<Result<(), Closed>> {
        while !self.is_late(cx) {
            self.input.clear();
            self.input.reserve(HEADER);
            if let Ok(0) | Err(_) = ready!(pin!(self.io.read_buf(&mut self.input)).poll(cx)) {
                break;
            }
        }
        Poll::Ready(closed.map_or(Ok(()), Err))
    }

    fn keep_times(&mut self, cx: &mut Context<'_>) -> Result<(), End> {
        loop {
            if self.tick.is_none() && !self.is_watched() {
                return Ok(());
            }
            let tick = self.tick.get_or_insert_with(|| Box::pin(sleep(TICK)));
            if tick.as_mut().poll(cx).is_pending() {
                return Ok(());
            }
            self.tick = None;
            self.look(Instant::now())?;
            self.give_back();
        }
    }

    /// Whether anything may take too long.
    fn is_watched(&self) -> bool {
        let state = self.conn.state.borrow();
        let draining = matches!(state.drain, Drain::Soon(_));
        let waits = !state.greeted || !state.streams.is_empty() || draining || state.pinged.is_some();
        waits || self.stuck.is_some() || self.input.capacity() > 0
    }

    fn look(&self, now: Instant) -> Result<(), End> {
        let limits = &self.conn.limits;
        let past = |since: Instant, limit: Duration| now.saturating_duration_since(since) >= limit;
        let state = &mut *self.conn.state.borrow_mut();
        if !state.greeted && past(self.started, limits.hello_timeout) {
            return Err(End::Code(Code::Timeout));
        }
        if self.stuck.is_some_and(|since| past(since, limits.write_timeout)) {
            return Err(End::Code(Code::Stalled));
        }
        if let Drain::Soon(since) = state.drain
            && self.conn.role == Role::Server
            && past(since, limits.ping_timeout)
        {
            state.last_drain();
        }
        if state.pinged.is_some_and(|since| past(since, limits.ping_timeout))
            && past(self.heard, limits.ping_timeout)
        {
            return Err(End::Code(Code::Timeout));
        }
        if state.pinged.is_none() && !state.streams.is_empty() && past(self.heard, limits.ping_after) {
            state.pinged = Some(now);
            frame::put_ping(&mut state.out.small, Kind::Ping, THERE);
        }
        self.give_up_stalled(state, &past);
        Ok(())
    }

    /// Requests and answers that have something to send and were given no credit for too long. Raw bytes have their own
    /// time in which nothing may pass, which is not the connection's to know: whoever reads them may well pause.
    fn give_up_stalled(&self, state: &mut State, past: &impl Fn(Instant, Duration) -> bool) {
        let limit = self.conn.limits.stall_timeout;
        let is_stalled = |slot: &&Slot| {
            let stream = slot.borrow();
            stream.switch != Switch::Done && stream.send.blocked.is_some_and(|since| past(since, limit))
        };
        let stalled: Vec<Slot> = state.streams.values().filter(is_stalled).map(Rc::clone).collect();
        for slot in stalled {
            self.conn.fail(state, &slot, Code::Stalled);
        }
    }
}

impl<IO> Drop for Driver<IO> {
    fn drop(&mut self) {
        self.conn.close(Closed::Dropped);
    }
}
