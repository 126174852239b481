//! What is to be written (README, "Order of what is sent"): small frames first and whole, then large bodies in turns of one
//! frame each. Everything that waits is in memory bounded by the connection's limits, and nothing that waits lacks credit.

use std::collections::VecDeque;
use std::io::IoSlice;

use bytes::{Buf, Bytes, BytesMut};

use crate::frame::{END, HEADER, Header, Kind, MAX_PAYLOAD, MORE};
use crate::stream::{Piece, Slot, Stream};

/// A body's piece up to this size is copied next to its header; a larger one is written from where it lies.
const SMALL: usize = 4 * 1024;
/// Of large bodies, what goes into one write at least while there is any.
const TURNS: usize = 64 * 1024;
/// A buffer that has grown beyond this is not kept.
const KEEP: usize = 64 * 1024;

/// Output of one connection.
#[derive(Debug, Default)]
pub(crate) struct Outbox {
    /// Whole frames, in their order.
    pub(crate) small: BytesMut,
    /// Bytes of bodies in `small`.
    small_data: usize,
    /// Bytes in `small` that the peer made this side send: PONG, CREDIT, RESET.
    pub(crate) forced: usize,
    /// Streams with large pieces.
    turns: VecDeque<Slot>,
    /// Bytes of bodies in `small` and in queues.
    pub(crate) queued: usize,
    /// Streams that wait until less is queued.
    pub(crate) waiting: Vec<Slot>,
    /// The highest stream whose head stands in `small`.
    pub(crate) head_of: u32,
    /// The highest stream whose head may have been written.
    pub(crate) written_head_of: u32,
    batch: Batch,
}

/// What is being written.
#[derive(Debug, Default)]
struct Batch {
    small: BytesMut,
    large: VecDeque<Segment>,
}

#[derive(Debug)]
struct Segment {
    header: [u8; HEADER],
    /// Bytes of the header that are written.
    at: usize,
    data: Bytes,
}

impl Outbox {
    /// Queues bytes of a body; their credit must have been spent.
    pub(crate) fn push_data(&mut self, slot: &Slot, stream: &mut Stream, data: Bytes, end: bool) {
        self.queued += data.len();
        if stream.send.queue.is_empty() && data.len() <= SMALL {
            self.small_data += data.len();
            self.put_frame(Kind::Data, if end { END } else { 0 }, stream.id, &data);
            return;
        }
        stream.send.queued += data.len();
        self.enqueue(slot, stream, Piece::Data(data, end));
    }

    /// Queues whole frames behind what the stream has queued.
    pub(crate) fn push_frames(&mut self, slot: &Slot, stream: &mut Stream, frames: BytesMut) {
        if stream.send.queue.is_empty() {
            self.small.unsplit(frames);
        } else {
            self.enqueue(slot, stream, Piece::Frames(frames));
        }
    }

    fn enqueue(&mut self, slot: &Slot, stream: &mut Stream, piece: Piece) {
        stream.send.queue.push_back(piece);
        if !stream.send.in_turn {
            stream.send.in_turn = true;
            self.turns.push_back(Slot::clone(slot));
        }
    }

    fn put_frame(&mut self, kind: Kind, flags: u8, stream: u32, payload: &[u8]) {
        let length = u16::try_from(payload.len()).unwrap_or(u16::MAX);
        self.small.extend_from_slice(&Header { length, kind, flags, stream }.encode());
        self.small.extend_from_slice(payload);
    }

    /// Writes a head or trailers by this function, in as many frames as it needs.
    pub(crate) fn put_head<E>(
        out: &mut BytesMut,
        (kind, flags, stream): (Kind, u8, u32),
        most: u32,
        write: impl FnOnce(&mut BytesMut) -> Result<(), E>,
    ) -> Result<Result<(), E>, TooLarge> {
        let start = out.len();
        out.extend_from_slice(&[0; HEADER]);
        if let Err(error) = write(out) {
            out.truncate(start);
            return Ok(Err(error));
        }
        let length = out.len() - start - HEADER;
        if length > usize::try_from(most).unwrap_or(usize::MAX) {
            out.truncate(start);
            return Err(TooLarge);
        }
        if length > MAX_PAYLOAD {
            let whole = out.split_off(start);
            split(out, (kind, flags, stream), &whole[HEADER..]);
        } else if let Some(place) = out.get_mut(start..start + HEADER) {
            let length = u16::try_from(length).unwrap_or(u16::MAX);
            place.copy_from_slice(&Header { length, kind, flags, stream }.encode());
        }
        Ok(Ok(()))
    }

    /// Whether there is nothing to write.
    pub(crate) fn is_empty(&self) -> bool {
        self.small.is_empty() && self.turns.is_empty() && self.batch.is_empty()
    }

    /// What to write next; takes from what is queued when the last batch has gone.
    pub(crate) fn slices<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let mut count = 0;
        let mut put = |bytes: &'a [u8]| {
            if let Some(place) = slices.get_mut(count).filter(|_| !bytes.is_empty()) {
                *place = IoSlice::new(bytes);
                count += 1;
            }
        };
        put(&self.batch.small);
        for segment in &self.batch.large {
            put(segment.header.get(segment.at..).unwrap_or_default());
            put(&segment.data);
        }
        count
    }

    /// These many bytes have been written.
    pub(crate) fn advance(&mut self, mut count: usize) {
        let small = count.min(self.batch.small.len());
        self.batch.small.advance(small);
        count -= small;
        while count > 0 {
            let Some(segment) = self.batch.large.front_mut() else { return };
            let header = count.min(HEADER - segment.at);
            segment.at += header;
            count -= header;
            let data = count.min(segment.data.len());
            segment.data.advance(data);
            count -= data;
            if segment.at == HEADER && segment.data.is_empty() {
                self.batch.large.pop_front();
            }
        }
    }

    /// Makes the next batch once the last one has gone. Returns whether there is anything to write. Streams whose pieces
    /// were taken may queue more.
    pub(crate) fn fill(&mut self) -> bool {
        if !self.batch.is_empty() {
            return true;
        }
        self.written_head_of = self.head_of;
        if self.batch.small.capacity() > KEEP {
            self.batch.small = BytesMut::new();
        }
        self.batch.small.clear();
        std::mem::swap(&mut self.small, &mut self.batch.small);
        self.queued -= self.small_data;
        (self.small_data, self.forced) = (0, 0);
        let mut taken = 0;
        while taken < TURNS && self.turns.front().is_some() {
            taken += self.turn();
        }
        self.release();
        !self.batch.is_empty()
    }

    /// One stream's turn: a frame of data, with the small frames before and after it.
    fn turn(&mut self) -> usize {
        let Some(slot) = self.turns.pop_front() else { return 0 };
        let mut stream = slot.borrow_mut();
        let id = stream.id;
        let mut taken = 0;
        while let Some(piece) = stream.send.queue.front_mut() {
            let is_data = matches!(piece, Piece::Data(..));
            if is_data && taken > 0 {
                break;
            }
            let (segment, gone) = piece.next(id);
            taken += if is_data { segment.data.len() } else { 0 };
            self.batch.large.push_back(segment);
            if gone {
                stream.send.queue.pop_front();
            }
        }
        self.queued = self.queued.saturating_sub(taken);
        stream.send.queued = stream.send.queued.saturating_sub(taken);
        stream.send.in_turn = !stream.send.queue.is_empty();
        if let Some(waker) = stream.send.waker.take() {
            waker.wake();
        }
        let again = stream.send.in_turn;
        drop(stream);
        if again {
            self.turns.push_back(slot);
        }
        taken
    }

    /// A stream has given up what it had queued.
    pub(crate) fn forget(&mut self, stream: &Stream) {
        self.queued = self.queued.saturating_sub(stream.send.queued);
    }

    /// Lets those go on that waited until less is queued.
    fn release(&mut self) {
        for slot in self.waiting.drain(..) {
            let mut stream = slot.borrow_mut();
            stream.send.waiting = false;
            if let Some(waker) = stream.send.waker.take() {
                waker.wake();
            }
        }
    }

    /// Drops everything.
    pub(crate) fn clear(&mut self) {
        self.release();
        *self = Self { written_head_of: self.written_head_of, ..Self::default() };
    }
}

impl Piece {
    /// Its next frame, and whether that was all of it.
    fn next(&mut self, stream: u32) -> (Segment, bool) {
        match self {
            Self::Data(data, end) => {
                let part = data.split_to(data.len().min(MAX_PAYLOAD));
                let last = data.is_empty();
                let flags = if last && *end { END } else { 0 };
                let length = u16::try_from(part.len()).unwrap_or(u16::MAX);
                let header = Header { length, kind: Kind::Data, flags, stream }.encode();
                (Segment { header, at: 0, data: part }, last)
            }
            Self::Frames(frames) => {
                let mut frames = std::mem::take(frames);
                let mut header = [0; HEADER];
                frames.copy_to_slice(&mut header);
                (Segment { header, at: 0, data: frames.freeze() }, true)
            }
        }
    }
}

/// A head over the peer's limit.
#[derive(Debug)]
pub(crate) struct TooLarge;

fn split(out: &mut BytesMut, (kind, flags, stream): (Kind, u8, u32), whole: &[u8]) {
    let mut parts = whole.chunks(MAX_PAYLOAD).peekable();
    while let Some(part) = parts.next() {
        let flags = if parts.peek().is_some() { flags | MORE } else { flags };
        let length = u16::try_from(part.len()).unwrap_or(u16::MAX);
        out.extend_from_slice(&Header { length, kind, flags, stream }.encode());
        out.extend_from_slice(part);
    }
}

impl Batch {
    fn is_empty(&self) -> bool {
        self.small.is_empty() && self.large.is_empty()
    }
}
