//! HTTP/2 frame by frame, for what no client library would send (RFC 9113, sections 4 and 6). Fields go out as literals,
//! never indexed; of answers only the status is read.

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::site::Duplex;

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

/// A frame as received.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

/// How a stream ended, or began to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Status(u16),
    /// By `RST_STREAM` with this code.
    Reset(u32),
    /// With its connection, by GOAWAY with this code.
    GoAway(u32),
    Closed,
}

/// A connection.
pub(crate) struct Frames {
    io: Box<dyn Duplex>,
}

impl Frames {
    /// Begins HTTP/2 by prior knowledge.
    pub(crate) async fn over(io: Box<dyn Duplex>) -> Self {
        let mut frames = Self { io };
        frames.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        frames.send(SETTINGS, 0, 0, &[]).await;
        frames
    }

    /// Sends a frame. That the other end has closed shows when reading.
    pub(crate) async fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) -> bool {
        self.write(&frame(kind, flags, stream, payload)).await
    }

    /// Sends bytes as they are; whether they could be written.
    pub(crate) async fn write(&mut self, bytes: &[u8]) -> bool {
        self.io.write_all(bytes).await.is_ok() && self.io.flush().await.is_ok()
    }

    pub(crate) async fn headers(&mut self, stream: u32, fields: &[(&str, &str)], end: bool) {
        let flags = END_HEADERS | if end { END_STREAM } else { 0 };
        self.send(HEADERS, flags, stream, &block(fields)).await;
    }

    pub(crate) async fn data(&mut self, stream: u32, bytes: &[u8], end: bool) {
        self.send(DATA, if end { END_STREAM } else { 0 }, stream, bytes).await;
    }

    /// The next frame; none, once the connection is closed. Settings are acknowledged.
    pub(crate) async fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.io.read_exact(&mut head).await.ok()?;
        let [a, b, c, kind, flags, rest @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.io.read_exact(&mut payload).await.ok()?;
        let stream = u32::from_be_bytes(rest) & 0x7fff_ffff;
        if kind == SETTINGS && flags & ACK == 0 {
            self.send(SETTINGS, ACK, 0, &[]).await;
        }
        Some(Frame { kind, stream, payload })
    }

    /// Waits until this stream is answered or over.
    pub(crate) async fn ended(&mut self, stream: u32) -> Ended {
        while let Some(frame) = self.next().await {
            let code = |at: usize| {
                frame.payload.get(at..at + 4).map_or(0, |code| u32::from_be_bytes(code.try_into().unwrap()))
            };
            match frame.kind {
                HEADERS if frame.stream == stream => return Ended::Status(status(&frame.payload)),
                RST_STREAM if frame.stream == stream => return Ended::Reset(code(0)),
                GOAWAY if code(4) != 0 => return Ended::GoAway(code(4)),
                _ => {}
            }
        }
        Ended::Closed
    }
}

/// A frame's bytes.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = length[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A header block: literals without indexing, without Huffman coding (RFC 7541, section 6.2.2).
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in fields {
        out.push(0);
        for text in [name, value] {
            length(&mut out, text.len());
            out.extend(text.as_bytes());
        }
    }
    out
}

/// An integer with a prefix of 7 bits (RFC 7541, section 5.1).
fn length(out: &mut Vec<u8>, value: usize) {
    if value < 127 {
        return out.push(u8::try_from(value).unwrap());
    }
    out.push(127);
    let mut rest = value - 127;
    while rest >= 128 {
        out.push(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    out.push(u8::try_from(rest).unwrap());
}

/// The status that a header block begins with: indexed, or a literal with its name indexed (RFC 7541, appendix A).
fn status(block: &[u8]) -> u16 {
    match block {
        [0x88, ..] => 200,
        [0x89, ..] => 204,
        [0x8a, ..] => 206,
        [0x8b, ..] => 304,
        [0x8c, ..] => 400,
        [0x8d, ..] => 404,
        [0x8e, ..] => 500,
        [0x08 | 0x18 | 0x48, 3, a, b, c, ..] => {
            [a, b, c].iter().fold(0, |sum, &&digit| sum * 10 + u16::from(digit - b'0'))
        }
        [0x08 | 0x18 | 0x48, length, rest @ ..] if length & 0x80 != 0 => {
            digits(&rest[..usize::from(length & 0x7f)])
        }
        other => panic!("no status in {other:x?}"),
    }
}

/// Three Huffman-coded digits (RFC 7541, appendix B): `0` to `2` have five bits, the others six.
fn digits(coded: &[u8]) -> u16 {
    let bits: Vec<u16> =
        coded.iter().flat_map(|byte| (0..8).rev().map(move |bit| u16::from(byte >> bit & 1))).collect();
    let (mut value, mut at) = (0, 0);
    let number = |bits: &[u16]| bits.iter().fold(0, |sum, bit| sum * 2 + bit);
    for _ in 0..3 {
        let five = number(&bits[at..at + 5]);
        let (digit, length) = if five < 3 { (five, 5) } else { (number(&bits[at..at + 6]) - 0x19 + 3, 6) };
        value = value * 10 + digit;
        at += length;
    }
    value
}

#[test]
fn statuses_are_read_in_every_form() {
    assert_eq!(status(&[0x88]), 200);
    assert_eq!(status(&[0x48, 3, b'4', b'3', b'1']), 431);
    // `302`, as in RFC 7541, appendix C.6.1.
    assert_eq!(status(&[0x48, 0x82, 0x64, 0x02]), 302);
    // `431`: 011010 011001 00001 and padding of ones.
    assert_eq!(status(&[0x48, 0x83, 0x69, 0x90, 0xff]), 431);
}
