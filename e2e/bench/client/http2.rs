//! HTTP/2 by prior knowledge: so many streams always open on a connection, plain GETs or unary gRPC calls. Fields that
//! repeat are put into the other side's table once, as every client does; the other side may not use ours, so that its
//! answers can be checked without one.

use std::net::SocketAddr;
use std::rc::Rc;

use anyhow::{Result, bail, ensure};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

use super::{HOST, Record};
use crate::frames::{self, Frame, Indexing, Input};

/// What every stream asks.
pub(super) struct Call {
    pub(super) token: String,
    pub(super) grpc: bool,
    pub(super) answer: usize,
    pub(super) streams: usize,
}

/// Keeps the streams of one connection busy.
pub(super) async fn connection(address: SocketAddr, call: Call, record: Rc<Record>) -> Result<()> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut connection = Connection::new(call);
    let mut input = Input::new();
    // Its settings say whether it has a table to put our fields into.
    while !connection.knows_peer {
        connection.round(&mut stream, &mut input, &record).await?;
    }
    sleep_until(record.begin).await;
    connection.now = Instant::now();
    connection.waiting = connection.call.streams;
    connection.ask();
    while connection.open + connection.waiting > 0 {
        connection.round(&mut stream, &mut input, &record).await?;
    }
    Ok(())
}

struct Connection {
    call: Call,
    knows_peer: bool,
    /// Header block of the first request, and of those after it.
    first: Vec<u8>,
    later: Vec<u8>,
    output: Vec<u8>,
    next: u32,
    open: usize,
    /// Requests that are due and wait for room in the window.
    waiting: usize,
    window: i64,
    slots: Vec<Slot>,
    now: Instant,
}

/// A stream; which one is said by its number.
#[derive(Clone, Copy)]
struct Slot {
    stream: u32,
    since: Instant,
    has_head: bool,
    body: usize,
}

const SLOTS: usize = 4096;
/// What our side lets the other send without being told again.
const WINDOW: u32 = 1 << 30;
/// A message of 16 bytes.
const MESSAGE: &[u8] = b"\x00\x00\x00\x00\x10weft-bench-asks!";

impl Connection {
    fn new(call: Call) -> Self {
        let mut output = frames::PREFACE.to_vec();
        frames::write_settings(
            &mut output,
            &[(frames::HEADER_TABLE_SIZE, 0), (frames::INITIAL_WINDOW_SIZE, 1 << 20)],
        );
        frames::write(&mut output, frames::WINDOW_UPDATE, 0, 0, &WINDOW.to_be_bytes());
        let now = Instant::now();
        let (first, later) = blocks(&call);
        Self {
            call,
            knows_peer: false,
            first,
            later,
            output,
            next: 1,
            open: 0,
            waiting: 0,
            window: frames::FIRST_WINDOW,
            slots: vec![Slot { stream: 0, since: now, has_head: false, body: 0 }; SLOTS],
            now,
        }
    }

    /// Sends what is due, reads once, and makes of it what is due next.
    async fn round(&mut self, stream: &mut TcpStream, input: &mut Input, record: &Record) -> Result<()> {
        stream.write_all(&self.output).await?;
        self.output.clear();
        ensure!(input.read(stream).await?, "the connection was closed");
        self.now = Instant::now();
        while let Some(frame) = input.frame()? {
            self.take(&frame, record)?;
        }
        self.ask();
        Ok(())
    }

    fn take(&mut self, frame: &Frame<'_>, record: &Record) -> Result<()> {
        match frame.kind {
            frames::HEADERS => self.head(frame)?,
            frames::DATA => self.slot(frame.stream)?.body += frame.content()?.len(),
            frames::SETTINGS if !frame.has(frames::ACK) => self.settings(frame)?,
            frames::PING if !frame.has(frames::ACK) => {
                frames::write(&mut self.output, frames::PING, frames::ACK, 0, frame.payload);
            }
            frames::WINDOW_UPDATE if frame.stream == 0 => self.window += frame.increment()?,
            frames::RST_STREAM => bail!("stream {} was reset: {:?}", frame.stream, frame.payload),
            frames::GOAWAY => bail!("the connection is to end: {:?}", frame.payload),
            _ => {}
        }
        let ends = matches!(frame.kind, frames::HEADERS | frames::DATA) && frame.has(frames::END_STREAM);
        if ends { self.end(frame, record) } else { Ok(()) }
    }

    fn head(&mut self, frame: &Frame<'_>) -> Result<()> {
        ensure!(frame.has(frames::END_HEADERS), "more headers than fit in a frame");
        let block = frame.content()?;
        let slot = self.slot(frame.stream)?;
        if slot.has_head {
            ensure!(frames::is_grpc_ok(block), "unexpected trailers: {block:02x?}");
        } else {
            ensure!(frames::is_ok(block), "unexpected answer: {block:02x?}");
            slot.has_head = true;
        }
        Ok(())
    }

    fn end(&mut self, frame: &Frame<'_>, record: &Record) -> Result<()> {
        let (grpc, answer) = (self.call.grpc, self.call.answer);
        let slot = self.slot(frame.stream)?;
        ensure!(slot.body == answer, "{} bytes of body instead of {answer}", slot.body);
        ensure!(!grpc || frame.kind == frames::HEADERS, "an answer without status");
        let since = slot.since;
        slot.stream = 0;
        self.open -= 1;
        self.now = record.answer(since);
        if self.now < record.end {
            self.waiting += 1;
        } else {
            self.waiting = 0;
        }
        Ok(())
    }

    fn settings(&mut self, frame: &Frame<'_>) -> Result<()> {
        for (name, value) in frame.settings() {
            match name {
                frames::HEADER_TABLE_SIZE if value < 4096 => self.later.clone_from(&self.first),
                frames::MAX_CONCURRENT_STREAMS => {
                    ensure!(value as usize >= self.call.streams, "only {value} streams allowed");
                }
                _ => {}
            }
        }
        self.knows_peer = true;
        frames::write(&mut self.output, frames::SETTINGS, frames::ACK, 0, &[]);
        Ok(())
    }

    /// Opens the streams that are due.
    fn ask(&mut self) {
        while self.waiting > 0 && (!self.call.grpc || self.window >= MESSAGE.len() as i64) {
            let block = if self.next == 1 { &self.first } else { &self.later };
            let end = if self.call.grpc { 0 } else { frames::END_STREAM };
            frames::write(&mut self.output, frames::HEADERS, frames::END_HEADERS | end, self.next, block);
            if self.call.grpc {
                frames::write(&mut self.output, frames::DATA, frames::END_STREAM, self.next, MESSAGE);
                self.window -= MESSAGE.len() as i64;
            }
            let slot = Slot { stream: self.next, since: self.now, has_head: false, body: 0 };
            self.slots[index(self.next)] = slot;
            self.next += 2;
            self.open += 1;
            self.waiting -= 1;
        }
    }

    fn slot(&mut self, stream: u32) -> Result<&mut Slot> {
        let slot = &mut self.slots[index(stream)];
        ensure!(slot.stream == stream, "an answer on stream {stream}, which asked nothing");
        Ok(slot)
    }
}

/// The header blocks of a first request, which adds its fields to the other side's table, and of later ones, which name
/// them by their places there (RFC 7541, sections 2.3.3 and 6.1).
fn blocks(call: &Call) -> (Vec<u8>, Vec<u8>) {
    let bearer = format!("Bearer {}", call.token);
    let mut fields = vec![(1, "", HOST)];
    // :method, :scheme and, but for calls, :path stand in the static table as they are.
    let (mut first, mut later) = if call.grpc {
        fields.extend([(4, "", "/bench.Echo/Get"), (31, "", "application/grpc"), (0, "te", "trailers")]);
        (vec![0x83, 0x86], vec![0x83, 0x86])
    } else {
        (vec![0x82, 0x86, 0x84], vec![0x82, 0x86, 0x84])
    };
    fields.extend([(58, "", "weft-bench"), (23, "", bearer.as_str())]);
    // The field added last has the number 62, the one before it 63, and so on.
    for ((number, name, value), place) in fields.iter().zip((0..fields.len() as u8).rev()) {
        frames::write_field(&mut first, Indexing::Add, *number, name, value);
        later.push(0x80 | (62 + place));
    }
    (first, later)
}

fn index(stream: u32) -> usize {
    stream as usize / 2 % SLOTS
}
