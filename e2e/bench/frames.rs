//! As much of HTTP/2 (RFC 9113) and of its header compression (RFC 7541) as a client and an origin need whose messages
//! are known beforehand: frames read from a buffer and written to one, header blocks built once.

use anyhow::{Result, bail, ensure};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

pub(crate) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;

pub(crate) const ACK: u8 = 0x1;
pub(crate) const END_STREAM: u8 = 0x1;
pub(crate) const END_HEADERS: u8 = 0x4;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;

pub(crate) const HEADER_TABLE_SIZE: u16 = 1;
pub(crate) const MAX_CONCURRENT_STREAMS: u16 = 3;
pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;

/// Window of a connection, and of a stream, before anything was said.
pub(crate) const FIRST_WINDOW: i64 = 65_535;
const HEAD: usize = 9;

/// A frame in a buffer.
pub(crate) struct Frame<'a> {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: &'a [u8],
}

impl<'a> Frame<'a> {
    pub(crate) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// What is left of HEADERS or DATA without padding and priority.
    pub(crate) fn content(&self) -> Result<&'a [u8]> {
        let mut rest = self.payload;
        let mut padding = 0;
        if self.has(PADDED) {
            let Some((&length, after)) = rest.split_first() else { bail!("padding without its length") };
            (padding, rest) = (usize::from(length), after);
        }
        if self.kind == HEADERS && self.has(PRIORITY) {
            ensure!(rest.len() >= 5, "priority that is cut off");
            rest = &rest[5..];
        }
        ensure!(rest.len() >= padding, "more padding than payload");
        Ok(&rest[..rest.len() - padding])
    }

    /// Number in `WINDOW_UPDATE`.
    pub(crate) fn increment(&self) -> Result<i64> {
        let bytes: [u8; 4] = self.payload.try_into()?;
        Ok(i64::from(u32::from_be_bytes(bytes) & 0x7fff_ffff))
    }

    /// Settings with their values.
    pub(crate) fn settings(&self) -> impl Iterator<Item = (u16, u32)> + 'a {
        self.payload.chunks_exact(6).map(|six| {
            let value = u32::from_be_bytes([six[2], six[3], six[4], six[5]]);
            (u16::from_be_bytes([six[0], six[1]]), value)
        })
    }
}

/// What has been read and not yet understood.
pub(crate) struct Input {
    buffer: Vec<u8>,
    begin: usize,
    end: usize,
}

impl Input {
    pub(crate) fn new() -> Self {
        Self { buffer: vec![0; 128 * 1024], begin: 0, end: 0 }
    }

    /// Reads once; false at the end of the stream.
    pub(crate) async fn read(&mut self, stream: &mut TcpStream) -> Result<bool> {
        self.buffer.copy_within(self.begin..self.end, 0);
        (self.begin, self.end) = (0, self.end - self.begin);
        let read = stream.read(&mut self.buffer[self.end..]).await?;
        self.end += read;
        Ok(read > 0)
    }

    /// Takes so many bytes once they are there.
    pub(crate) fn take(&mut self, length: usize) -> Option<&[u8]> {
        (self.end - self.begin >= length).then(|| {
            self.begin += length;
            &self.buffer[self.begin - length..self.begin]
        })
    }

    /// Takes the next frame once it is whole.
    pub(crate) fn frame(&mut self) -> Result<Option<Frame<'_>>> {
        let Some(&[a, b, c, kind, flags, s1, s2, s3, s4]) =
            self.buffer[self.begin..self.end].first_chunk::<HEAD>()
        else {
            return Ok(None);
        };
        let length = usize::try_from(u32::from_be_bytes([0, a, b, c]))?;
        ensure!(length <= 16_384, "a frame larger than was allowed");
        let stream = u32::from_be_bytes([s1, s2, s3, s4]) & 0x7fff_ffff;
        Ok(self.take(HEAD + length).map(|whole| Frame { kind, flags, stream, payload: &whole[HEAD..] }))
    }
}

/// Appends a frame.
pub(crate) fn write(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    // Every payload of this bench is shorter than 16 KiB.
    let [_, a, b, c] = (payload.len() as u32).to_be_bytes();
    out.extend_from_slice(&[a, b, c, kind, flags]);
    out.extend_from_slice(&stream.to_be_bytes());
    out.extend_from_slice(payload);
}

/// Appends SETTINGS.
pub(crate) fn write_settings(out: &mut Vec<u8>, settings: &[(u16, u32)]) {
    let mut payload = Vec::new();
    for (name, value) in settings {
        payload.extend_from_slice(&name.to_be_bytes());
        payload.extend_from_slice(&value.to_be_bytes());
    }
    write(out, SETTINGS, 0, 0, &payload);
}

/// How a field of a header block is written.
#[derive(Clone, Copy)]
pub(crate) enum Indexing {
    /// Put into the other side's table (RFC 7541, section 6.2.1).
    Add,
    /// Left out of it (section 6.2.2).
    Leave,
}

/// Appends a field, its name by number in the static table or, where that is 0, in letters.
pub(crate) fn write_field(out: &mut Vec<u8>, indexing: Indexing, number: u8, name: &str, value: &str) {
    match (indexing, number) {
        (Indexing::Add, number) => out.push(0x40 | number),
        (Indexing::Leave, 0..15) => out.push(number),
        (Indexing::Leave, _) => out.extend_from_slice(&[0x0f, number - 15]),
    }
    if number == 0 {
        write_string(out, name);
    }
    write_string(out, value);
}

fn write_string(out: &mut Vec<u8>, text: &str) {
    let mut rest = text.len();
    if rest < 127 {
        out.push(rest as u8);
    } else {
        out.push(127);
        rest -= 127;
        while rest >= 128 {
            out.push((rest % 128) as u8 | 0x80);
            rest /= 128;
        }
        out.push(rest as u8);
    }
    out.extend_from_slice(text.as_bytes());
}

/// Whether a header block begins with `:status: 200`, however it is written where no table is allowed.
pub(crate) fn is_ok(block: &[u8]) -> bool {
    let mut rest = block;
    while let [first, after @ ..] = rest
        && first & 0xe0 == 0x20
    {
        rest = after;
    }
    match rest {
        [0x88, ..] => true,
        [name, value @ ..] if matches!(name & 0x3f, 8..=14) => {
            value.starts_with(b"\x03200") || value.starts_with(b"\x82\x10\x01")
        }
        _ => false,
    }
}

/// Whether trailers hold `grpc-status: 0`, in letters or Huffman's code.
pub(crate) fn is_grpc_ok(block: &[u8]) -> bool {
    let plain = b"\x0bgrpc-status";
    let coded = b"\x88\x9a\xca\xc8\xb2\x12\x34\xda\x8f";
    let holds = |name: &[u8]| {
        let at = block.windows(name.len()).position(|window| window == name);
        let value = at.and_then(|at| block.get(at + name.len()..));
        value.is_some_and(|value| value.starts_with(b"\x010") || value.starts_with(b"\x81\x07"))
    };
    holds(plain) || holds(coded)
}
