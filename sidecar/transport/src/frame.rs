//! Frames: their header, types and flags (README, "Frames"), and HELLO, the first on both sides. Pure: bytes in, bytes out.

use bytes::{Buf, BufMut};

use crate::code::Code;
use crate::limits::Limits;

/// Bytes of a frame's header.
pub const HEADER: usize = 8;
/// Bytes after the header: with it, a frame fills one TLS record of 16,384 bytes (RFC 8446, section 5.1) and no more.
pub const MAX_PAYLOAD: usize = 16_384 - HEADER;
/// Streams that every side takes.
pub const MIN_STREAMS: u32 = 32;
/// Credit that every side grants on a new stream, bytes.
pub const MIN_CREDIT: u32 = 64 * 1024;
/// Bytes of a head that every side takes.
pub const MIN_HEAD: u32 = 64 * 1024;
/// The most credit a stream may have.
pub const MAX_CREDIT: u32 = 0x7fff_ffff;
/// The last id a stream may have.
pub const MAX_STREAM: u32 = 0x7fff_ffff;
/// What DRAIN says while it is not yet known which stream is the last.
pub const DRAIN_SOON: u32 = u32::MAX;
/// The minor version this crate speaks.
pub const VERSION: u16 = 1;
/// Flag: the sender's side of the stream ends with this frame.
pub const END: u8 = 0x1;
/// Flag: the next frame continues this head.
pub const MORE: u8 = 0x2;

const MAGIC: [u8; 4] = *b"weft";

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Kind {
    /// Version and limits.
    Hello = 0,
    /// A request, an answer, or a raw stream.
    Head = 1,
    /// Bytes of a body.
    Data = 2,
    /// Fields after a body; ends the sender's side.
    Trailers = 3,
    /// The sender may send this many bytes more.
    Credit = 4,
    /// Gives a stream up.
    Reset = 5,
    /// No new streams beyond this one.
    Drain = 6,
    /// To be answered by PONG.
    Ping = 7,
    /// Answers PING.
    Pong = 8,
    /// Ends the connection.
    Close = 9,
}

impl Kind {
    /// The kind of this number; none where it is not known.
    pub const fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            0 => Self::Hello,
            1 => Self::Head,
            2 => Self::Data,
            3 => Self::Trailers,
            4 => Self::Credit,
            5 => Self::Reset,
            6 => Self::Drain,
            7 => Self::Ping,
            8 => Self::Pong,
            9 => Self::Close,
            _ => return None,
        })
    }

    /// Flags that this kind may carry.
    const fn flags(self) -> u8 {
        match self {
            Self::Head => END | MORE,
            Self::Data => END,
            Self::Trailers => MORE,
            _ => 0,
        }
    }

    /// Whether it concerns one stream.
    const fn has_stream(self) -> bool {
        matches!(self, Self::Head | Self::Data | Self::Trailers | Self::Credit | Self::Reset)
    }

    /// Whether its payload may be this long.
    const fn takes(self, length: usize) -> bool {
        match self {
            Self::Hello => length >= 18,
            Self::Credit | Self::Reset | Self::Drain | Self::Close => length == 4,
            Self::Ping | Self::Pong => length == 8,
            Self::Head | Self::Data | Self::Trailers => true,
        }
    }
}

/// The header of a frame of a known kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Bytes that follow.
    pub length: u16,
    /// What it is.
    pub kind: Kind,
    /// [`END`], [`MORE`].
    pub flags: u8,
    /// Stream; 0 for the connection.
    pub stream: u32,
}

/// What the next bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Not all of a frame's header yet.
    Partial,
    /// A frame.
    Frame(Header),
    /// A frame of a kind that is not known, to be passed over: bytes that follow its header.
    Unknown(usize),
}

impl Header {
    /// Its bytes.
    pub const fn encode(self) -> [u8; HEADER] {
        let ([l0, l1], [s0, s1, s2, s3]) = (self.length.to_be_bytes(), self.stream.to_be_bytes());
        [l0, l1, self.kind as u8, self.flags, s0, s1, s2, s3]
    }

    /// Reads a header. An error is one of the whole connection, since where the next frame begins is no longer known or
    /// what the peer means is not.
    pub fn decode(bytes: &[u8]) -> Result<Next, Code> {
        let Some(&[l0, l1, kind, flags, s0, s1, s2, s3]) = bytes.first_chunk::<HEADER>() else {
            return Ok(Next::Partial);
        };
        let length = u16::from_be_bytes([l0, l1]);
        if usize::from(length) > MAX_PAYLOAD {
            return Err(Code::Protocol);
        }
        let Some(kind) = Kind::from_number(kind) else { return Ok(Next::Unknown(length.into())) };
        let stream = u32::from_be_bytes([s0, s1, s2, s3]);
        let stream_fits = if kind.has_stream() { (1..=MAX_STREAM).contains(&stream) } else { stream == 0 };
        if flags & !kind.flags() != 0 || !stream_fits || !kind.takes(length.into()) {
            return Err(Code::Protocol);
        }
        Ok(Next::Frame(Self { length, kind, flags, stream }))
    }

    /// Whether the sender's side of the stream ends with this frame.
    pub const fn ends(self) -> bool {
        self.flags & END != 0
    }

    /// Whether the next frame continues this head.
    pub const fn continues(self) -> bool {
        self.flags & MORE != 0
    }
}

/// What a side takes, said in its first frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// Minor version; the lower of both is spoken.
    pub version: u16,
    /// Streams open at a time.
    pub max_streams: u32,
    /// Credit of a new stream, bytes.
    pub initial_credit: u32,
    /// Bytes of a head.
    pub max_head: u32,
}

impl Hello {
    /// What every side takes, before it has said more.
    pub const LEAST: Self =
        Self { version: VERSION, max_streams: MIN_STREAMS, initial_credit: MIN_CREDIT, max_head: MIN_HEAD };

    /// What a side with these limits says.
    pub fn new(limits: &Limits) -> Self {
        Self {
            version: VERSION,
            max_streams: limits.max_streams.max(MIN_STREAMS),
            initial_credit: limits.initial_credit.clamp(MIN_CREDIT, MAX_CREDIT),
            max_head: limits.max_head.max(MIN_HEAD),
        }
    }

    /// Writes the frame.
    pub fn encode(self, out: &mut impl BufMut) {
        out.put_slice(&Header { length: 18, kind: Kind::Hello, flags: 0, stream: 0 }.encode());
        out.put_slice(&MAGIC);
        out.put_u16(self.version);
        out.put_u32(self.max_streams);
        out.put_u32(self.initial_credit);
        out.put_u32(self.max_head);
    }

    /// Reads a payload; what follows the known fields is of a later version and passed over.
    pub fn decode(mut payload: &[u8]) -> Result<Self, Code> {
        if payload.len() < 18 || payload.get(..4) != Some(&MAGIC) {
            return Err(Code::Protocol);
        }
        payload.advance(4);
        let hello = Self {
            version: payload.get_u16(),
            max_streams: payload.get_u32(),
            initial_credit: payload.get_u32(),
            max_head: payload.get_u32(),
        };
        if hello.version == 0 {
            return Err(Code::Version);
        }
        let enough = hello.max_streams >= MIN_STREAMS
            && (MIN_CREDIT..=MAX_CREDIT).contains(&hello.initial_credit)
            && hello.max_head >= MIN_HEAD;
        if enough { Ok(hello) } else { Err(Code::Protocol) }
    }
}

/// Writes a frame whose payload is one number: CREDIT, RESET, DRAIN, CLOSE.
pub fn put_number(out: &mut impl BufMut, kind: Kind, stream: u32, number: u32) {
    out.put_slice(&Header { length: 4, kind, flags: 0, stream }.encode());
    out.put_u32(number);
}

/// Writes PING or PONG.
pub fn put_ping(out: &mut impl BufMut, kind: Kind, opaque: [u8; 8]) {
    out.put_slice(&Header { length: 8, kind, flags: 0, stream: 0 }.encode());
    out.put_slice(&opaque);
}

/// The number of a frame written by [`put_number`].
pub fn number(payload: &[u8]) -> Result<u32, Code> {
    payload.first_chunk().map(|bytes| u32::from_be_bytes(*bytes)).ok_or(Code::Protocol)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header(length: u16, kind: u8, flags: u8, stream: u32) -> Result<Next, Code> {
        let [a, b] = length.to_be_bytes();
        let [s0, s1, s2, s3] = stream.to_be_bytes();
        Header::decode(&[a, b, kind, flags, s0, s1, s2, s3])
    }

    #[test]
    fn a_frame_fills_one_tls_record_and_no_more() {
        assert!(header(16_376, 2, 0, 1).is_ok());
        assert_eq!(header(16_377, 2, 0, 1), Err(Code::Protocol));
        assert_eq!(header(16_377, 99, 0, 1), Err(Code::Protocol));
    }

    #[test]
    fn unknown_kinds_are_passed_over_and_unknown_flags_refused() {
        assert_eq!(header(5, 10, 0xff, 7), Ok(Next::Unknown(5)));
        assert_eq!(header(5, 2, 0x4, 7), Err(Code::Protocol));
        assert_eq!(header(5, 2, MORE, 7), Err(Code::Protocol));
        assert_eq!(header(5, 3, END, 7), Err(Code::Protocol));
    }

    #[test]
    fn stream_and_length_must_fit_the_kind() {
        for (length, kind, stream) in
            [(0, 2, 0), (0, 2, 1 << 31), (4, 4, 0), (4, 6, 1), (3, 4, 1), (9, 7, 0), (17, 0, 0)]
        {
            assert_eq!(header(length, kind, 0, stream), Err(Code::Protocol), "{kind} {length} {stream}");
        }
    }

    #[test]
    fn a_hello_below_the_least_is_refused_and_a_longer_one_is_not() {
        let mut bytes = Vec::new();
        Hello::LEAST.encode(&mut bytes);
        bytes.extend([1, 2, 3]);
        assert_eq!(Hello::decode(&bytes[HEADER..]), Ok(Hello::LEAST));
        let mut less = Vec::new();
        Hello { max_streams: 31, ..Hello::LEAST }.encode(&mut less);
        assert_eq!(Hello::decode(&less[HEADER..]), Err(Code::Protocol));
        let mut none = Vec::new();
        Hello { version: 0, ..Hello::LEAST }.encode(&mut none);
        assert_eq!(Hello::decode(&none[HEADER..]), Err(Code::Version));
    }

    proptest! {
        #[test]
        fn any_header_is_read_as_it_was_written(length in 0..=16_376u16, flags in 0..=3u8, stream in 1..=MAX_STREAM) {
            let header = Header { length, kind: Kind::Head, flags, stream };
            prop_assert_eq!(Header::decode(&header.encode()), Ok(Next::Frame(header)));
        }

        #[test]
        fn any_bytes_are_refused_or_make_sense(bytes in proptest::collection::vec(any::<u8>(), 0..32)) {
            if let Ok(Next::Frame(header)) = Header::decode(&bytes) {
                prop_assert_eq!(&header.encode()[..], &bytes[..HEADER]);
            }
            prop_assert!(Hello::decode(&bytes).is_err());
        }
    }
}
