//! What each frame of the peer does. An error ends the connection with this code; what concerns one stream only ends that
//! stream (README, "Limits against an abusive peer").

use std::cell::RefMut;
use std::rc::Rc;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode, response};
use tokio::time::Instant;

use crate::code::{Code, StreamError};
use crate::conn::{CREDIT_COST, Conn, Drain, Partial, Role, State};
use crate::frame::{self, DRAIN_SOON, Header, Hello, Kind, MAX_CREDIT, MAX_PAYLOAD};
use crate::head::{self, HeadError, Opening};
use crate::stream::{Asking, Slot, Stream, Switch};

/// Frames that the peer made this side queue, bytes; more of them unread is a flood.
const MAX_FORCED: usize = 256 * 1024;
/// What PING says when it asks how far DRAIN has come.
pub(crate) const DRAINING: [u8; 8] = *b"draining";
/// What PING says when it asks whether the peer is there.
pub(crate) const THERE: [u8; 8] = *b"there?\0\0";

/// Bytes of a body, as they came.
pub(crate) enum Piece<'a> {
    /// To be copied.
    Copied(&'a [u8]),
    /// Part of the read buffer.
    Shared(Bytes),
}

impl Piece<'_> {
    fn len(&self) -> usize {
        match self {
            Self::Copied(bytes) => bytes.len(),
            Self::Shared(bytes) => bytes.len(),
        }
    }
}

impl Conn {
    /// Takes a frame that is not DATA.
    pub(crate) fn take_frame(&self, header: Header, payload: &[u8]) -> Result<(), Code> {
        let state = &mut *self.state.borrow_mut();
        if !state.greeted && header.kind != Kind::Hello && header.kind != Kind::Close {
            return Err(Code::Protocol);
        }
        if state
            .partial
            .as_ref()
            .is_some_and(|partial| (partial.kind, partial.stream) != (header.kind, header.stream))
        {
            return Err(Code::Protocol);
        }
        match header.kind {
            Kind::Hello => hello(state, payload),
            Kind::Head | Kind::Trailers => self.part_of_head(state, header, payload),
            Kind::Data => Err(Code::Internal),
            Kind::Credit => credit(state, header.stream, frame::number(payload)?),
            Kind::Reset => self.given_up(state, header.stream, Code::from_number(frame::number(payload)?)),
            Kind::Drain => self.drained(state, frame::number(payload)?),
            Kind::Ping => ping(state, payload),
            Kind::Pong => {
                pong(state, payload);
                Ok(())
            }
            Kind::Close => Ok(()),
        }?;
        if state.out.forced > MAX_FORCED { Err(Code::Flood) } else { Ok(()) }
    }

    /// Takes bytes of a body.
    pub(crate) fn take_data(&self, header: Header, piece: Piece<'_>) -> Result<(), Code> {
        let state = &mut *self.state.borrow_mut();
        let length = u32::try_from(piece.len()).map_err(|_| Code::Protocol)?;
        // An empty frame that ends nothing says nothing and costs this side more than the sender.
        if !state.greeted || state.partial.is_some() || (length == 0 && !header.ends()) {
            return Err(Code::Protocol);
        }
        let Some(slot) = state.streams.get(&header.stream).map(Rc::clone) else {
            return late_data(state, header.stream, length);
        };
        let mut stream = slot.borrow_mut();
        if stream.recv.ended || stream.is_unanswered(self.role) {
            return Err(Code::Protocol);
        }
        let recv = &mut stream.recv;
        recv.credit = recv.credit.checked_sub(length).ok_or(Code::Flow)?;
        recv.total += u64::from(length);
        if let Some(left) = &mut recv.left {
            match left.checked_sub(length.into()) {
                Some(less) if less == 0 || !header.ends() => *left = less,
                _ => {
                    drop(stream);
                    self.fail(state, &slot, Code::Malformed);
                    return Ok(());
                }
            }
        }
        if !recv.discard && length > 0 {
            match piece {
                Piece::Copied(bytes) => recv.push_copied(bytes),
                Piece::Shared(bytes) => {
                    recv.push_shared(bytes);
                    state.sharing.push(Rc::clone(&slot));
                }
            }
        }
        if header.ends() {
            self.peer_ended(state, &mut stream, None);
        } else if let Some(waker) = stream.recv.waker.take() {
            waker.wake();
        }
        Ok(())
    }

    /// Joins the frames of a head; whole, it is taken.
    fn part_of_head(&self, state: &mut State, header: Header, payload: &[u8]) -> Result<(), Code> {
        let mut whole = match state.partial.take() {
            None if !header.continues() => return self.head(state, header, Bytes::copy_from_slice(payload)),
            None => Partial {
                kind: header.kind,
                stream: header.stream,
                ends: header.ends(),
                bytes: BytesMut::new(),
            },
            Some(partial) if partial.ends == header.ends() => partial,
            Some(_) => return Err(Code::Protocol),
        };
        whole.bytes.extend_from_slice(payload);
        let most = usize::try_from(self.own().max_head).unwrap_or(usize::MAX);
        if whole.bytes.len() > most {
            return Err(Code::HeadTooLarge);
        }
        if header.continues() {
            // Only what does not fit in one frame is sent in several.
            if payload.len() < MAX_PAYLOAD {
                return Err(Code::Protocol);
            }
            state.partial = Some(whole);
            return Ok(());
        }
        self.head(state, header, whole.bytes.freeze())
    }

    fn head(&self, state: &mut State, header: Header, bytes: Bytes) -> Result<(), Code> {
        match (header.kind, self.role) {
            (Kind::Trailers, _) => self.trailers(state, header.stream, bytes),
            (_, Role::Client) => self.answered(state, header, bytes),
            (_, Role::Server) => self.opened(state, header, bytes),
        }
    }

    /// A new stream of the peer's.
    fn opened(&self, state: &mut State, header: Header, bytes: Bytes) -> Result<(), Code> {
        let id = header.stream;
        if id <= state.last {
            return Err(Code::Protocol);
        }
        state.last = id;
        let own = self.own();
        let opening = head::opening(bytes, self.limits.max_headers)
            .and_then(|opening| Ok((expected(&opening)?, opening)))
            .map_err(code_of);
        let full = state.streams.len() >= usize::try_from(own.max_streams).unwrap_or(usize::MAX);
        let refused = match &opening {
            _ if state.drain == Drain::Last || full => Some(Code::Refused),
            Err(code) => Some(*code),
            Ok((Some(1..), _) | (_, Opening::Switch(_) | Opening::Tcp)) if header.ends() => {
                Some(Code::Malformed)
            }
            Ok(_) => None,
        };
        let mut stream = Stream::new(id, state.peer.initial_credit, own.initial_credit);
        let (left, opening) = match (opening, refused) {
            (Ok(opened), None) => opened,
            (_, code) => {
                if !state.resets.take(Instant::now()) {
                    return Err(Code::Flood);
                }
                state.late.expect(&stream);
                let code = code.unwrap_or(Code::Malformed).number();
                frame::put_number(&mut state.out.small, Kind::Reset, id, code);
                state.out.forced += frame::HEADER + 4;
                return Ok(());
            }
        };
        stream.recv.left = left;
        stream.recv.ended = header.ends();
        stream.switch = if matches!(opening, Opening::Request(_)) { Switch::No } else { Switch::Offered };
        let slot = Rc::new(std::cell::RefCell::new(stream));
        state.streams.insert(id, Rc::clone(&slot));
        state.credits += 2 * CREDIT_COST;
        state.accepted.push((slot, opening));
        Ok(())
    }

    /// The head of an answer.
    fn answered(&self, state: &mut State, header: Header, bytes: Bytes) -> Result<(), Code> {
        let Some(slot) = state.streams.get(&header.stream).map(Rc::clone) else {
            return late_frame(state, header.stream);
        };
        let mut stream = slot.borrow_mut();
        if stream.got_answer {
            return Err(Code::Protocol);
        }
        let answer = match head::answer(bytes, self.limits.max_headers) {
            Ok(answer) => answer,
            Err(error) => {
                drop(stream);
                self.fail(state, &slot, code_of(error));
                return Ok(());
            }
        };
        let switches = answer.status == StatusCode::SWITCHING_PROTOCOLS;
        if answer.status.is_informational() && !switches {
            self.informed(state, &slot, stream, (header, answer));
            return Ok(());
        }
        let bodiless = stream.asked == Asking::Head
            || matches!(answer.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        let length = head::content_length(&answer.headers);
        let left = if bodiless { Ok(Some(0)) } else { length };
        let offered = stream.switch == Switch::Offered;
        let agreed = offered && (switches || (stream.asked == Asking::Tunnel && answer.status.is_success()));
        let wrong = match left {
            Err(_) => true,
            Ok(left) => {
                (switches && !agreed)
                    || (agreed && header.ends())
                    || (header.ends() && left.is_some_and(|left| left > 0))
            }
        };
        if wrong {
            drop(stream);
            self.fail(state, &slot, Code::Malformed);
            return Ok(());
        }
        stream.recv.left = if agreed { None } else { left.unwrap_or(None) };
        stream.answer = Some(Box::new(answer));
        stream.got_answer = true;
        if agreed {
            stream.switch = Switch::Done;
        }
        if header.ends() {
            self.peer_ended(state, &mut stream, None);
        }
        if let Some(task) = stream.task.take() {
            task.wake();
        }
        Ok(())
    }

    /// An answer before the one that counts: kept for whoever waits for that. 100 concerns this hop only.
    fn informed(
        &self,
        state: &mut State,
        slot: &Slot,
        mut stream: RefMut<'_, Stream>,
        (header, answer): (Header, response::Parts),
    ) {
        if header.ends() || stream.informational == 0 {
            drop(stream);
            return self.fail(state, slot, Code::Malformed);
        }
        stream.informational -= 1;
        if answer.status != StatusCode::CONTINUE {
            stream.early.push((answer.status, answer.headers));
            if let Some(task) = stream.task.take() {
                task.wake();
            }
        }
    }

    fn trailers(&self, state: &mut State, id: u32, bytes: Bytes) -> Result<(), Code> {
        let Some(slot) = state.streams.get(&id).map(Rc::clone) else { return late_frame(state, id) };
        let mut stream = slot.borrow_mut();
        if stream.recv.ended || stream.is_unanswered(self.role) {
            return Err(Code::Protocol);
        }
        let short = stream.recv.left.is_some_and(|left| left > 0);
        match head::trailers(bytes, self.limits.max_headers) {
            Ok(trailers) if !short && stream.switch != Switch::Done => {
                self.peer_ended(state, &mut stream, Some(trailers));
            }
            _ => {
                drop(stream);
                self.fail(state, &slot, Code::Malformed);
            }
        }
        Ok(())
    }

    /// The peer's side of a stream has ended.
    fn peer_ended(&self, state: &mut State, stream: &mut Stream, trailers: Option<HeaderMap>) {
        stream.recv.ended = true;
        if !stream.recv.discard {
            stream.recv.trailers = trailers;
        }
        if let Some(waker) = stream.recv.waker.take() {
            waker.wake();
        }
        self.settle(state, stream);
    }

    /// The peer has given a stream up.
    fn given_up(&self, state: &mut State, id: u32, code: Code) -> Result<(), Code> {
        if id > state.last {
            return Err(Code::Protocol);
        }
        let Some(slot) = state.streams.remove(&id) else { return Ok(()) };
        let mut stream = slot.borrow_mut();
        if self.role == Role::Server && !state.resets.take(Instant::now()) {
            return Err(Code::Flood);
        }
        self.shrink(state, &stream);
        state.out.forget(&stream);
        stream.unprocessed = code == Code::Refused;
        stream.break_off(StreamError::Reset(code));
        drop(stream);
        // What was opened and given up at once never reaches a handler.
        state.accepted.retain(|(accepted, _)| !Rc::ptr_eq(accepted, &slot));
        Ok(())
    }

    /// The peer takes no stream beyond this one.
    fn drained(&self, state: &mut State, last: u32) -> Result<(), Code> {
        if self.role == Role::Server {
            return Err(Code::Protocol);
        }
        if last == DRAIN_SOON {
            state.drain = if state.drain == Drain::No { Drain::Soon(Instant::now()) } else { state.drain };
            return Ok(());
        }
        state.drain = Drain::Last;
        let beyond: Vec<Slot> = state.streams.extract_if(|&id, _| id > last).map(|(_, slot)| slot).collect();
        for slot in beyond {
            let mut stream = slot.borrow_mut();
            self.shrink(state, &stream);
            state.out.forget(&stream);
            stream.unprocessed = true;
            stream.break_off(StreamError::Reset(Code::Refused));
        }
        Ok(())
    }

    /// Gives a stream up since the peer breaks the protocol on it.
    pub(crate) fn fail(&self, state: &mut State, slot: &Slot, code: Code) {
        self.reset_in(state, slot, code, StreamError::Failed(code));
    }
}

impl Stream {
    /// A side that asked takes no body before an answer; raw streams have none.
    fn is_unanswered(&self, role: Role) -> bool {
        role == Role::Client && !self.got_answer
    }
}

fn hello(state: &mut State, payload: &[u8]) -> Result<(), Code> {
    if state.greeted {
        return Err(Code::Protocol);
    }
    let hello = Hello::decode(payload)?;
    let more = hello.initial_credit.saturating_sub(state.peer.initial_credit);
    for slot in state.streams.values() {
        let stream = &mut *slot.borrow_mut();
        stream.send.credit = stream.send.credit.saturating_add(more).min(MAX_CREDIT);
        if let Some(waker) = stream.send.waker.take() {
            waker.wake();
        }
    }
    state.peer = hello;
    state.greeted = true;
    Ok(())
}

fn credit(state: &mut State, id: u32, more: u32) -> Result<(), Code> {
    if more == 0 || id > state.last {
        return Err(Code::Protocol);
    }
    state.credits = state.credits.checked_sub(CREDIT_COST).ok_or(Code::Flood)?;
    let Some(slot) = state.streams.get(&id) else { return Ok(()) };
    let stream = &mut *slot.borrow_mut();
    let sum = stream.send.credit.checked_add(more).filter(|&sum| sum <= MAX_CREDIT);
    stream.send.credit = sum.ok_or(Code::Flow)?;
    stream.send.blocked = None;
    if let Some(waker) = stream.send.waker.take() {
        waker.wake();
    }
    Ok(())
}

fn ping(state: &mut State, payload: &[u8]) -> Result<(), Code> {
    if !state.pings.take(Instant::now()) {
        return Err(Code::Flood);
    }
    let opaque = payload.first_chunk().ok_or(Code::Protocol)?;
    frame::put_ping(&mut state.out.small, Kind::Pong, *opaque);
    state.out.forced += frame::HEADER + 8;
    Ok(())
}

fn pong(state: &mut State, payload: &[u8]) {
    state.pinged = None;
    if payload == DRAINING && matches!(state.drain, Drain::Soon(_)) {
        state.last_drain();
    }
}

impl State {
    /// Tells the peer which stream is the last.
    pub(crate) fn last_drain(&mut self) {
        self.drain = Drain::Last;
        frame::put_number(&mut self.out.small, Kind::Drain, 0, self.last);
    }
}

/// DATA for a stream that is over: as much as was on its way when this side gave it up.
fn late_data(state: &mut State, id: u32, length: u32) -> Result<(), Code> {
    if id > state.last {
        return Err(Code::Protocol);
    }
    if length == 0 {
        return late_frame(state, id);
    }
    state.late.bytes = state.late.bytes.checked_sub(length.into()).ok_or(Code::Protocol)?;
    Ok(())
}

fn late_frame(state: &mut State, id: u32) -> Result<(), Code> {
    state.late.frames = state.late.frames.checked_sub(1).ok_or(Code::Protocol)?;
    if id > state.last { Err(Code::Protocol) } else { Ok(()) }
}

/// How long a request's body must be.
fn expected(opening: &Opening) -> Result<Option<u64>, HeadError> {
    match opening {
        Opening::Request(parts) => head::content_length(&parts.headers),
        Opening::Switch(_) | Opening::Tcp => Ok(None),
    }
}

fn code_of(error: HeadError) -> Code {
    match error {
        HeadError::TooMany | HeadError::TooLarge => Code::HeadTooLarge,
        _ => Code::Malformed,
    }
}
