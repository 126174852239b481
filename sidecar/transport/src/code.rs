//! Why a stream or a connection ended: the codes on the wire (README, "Codes"), and what a caller is told.

use std::io;

/// The reason in a RESET, DRAIN or CLOSE frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Code {
    /// Nothing is wrong: what is left is not needed.
    Done = 0,
    /// Frames that this specification does not allow.
    Protocol = 1,
    /// The sender cannot go on.
    Internal = 2,
    /// More data than was granted, or more granted than can be counted.
    Flow = 3,
    /// Whoever wanted this went away.
    Cancelled = 4,
    /// Not processed at all: may be sent again elsewhere, whatever it is.
    Refused = 5,
    /// A head, a body's length or trailers that cannot be.
    Malformed = 6,
    /// A head over the limit.
    HeadTooLarge = 7,
    /// Too much of what costs the peer more than the sender.
    Flood = 8,
    /// No credit, or no byte read from the connection, for too long.
    Stalled = 9,
    /// No answer to HELLO or PING in time.
    Timeout = 10,
    /// A version that is not spoken.
    Version = 11,
    /// What a raw stream leads to cannot be reached.
    Unreachable = 12,
}

impl Code {
    /// Its number on the wire.
    pub const fn number(self) -> u32 {
        self as u32
    }

    /// The code of this number; one that is not known counts as [`Code::Internal`].
    pub const fn from_number(number: u32) -> Self {
        match number {
            0 => Self::Done,
            1 => Self::Protocol,
            3 => Self::Flow,
            4 => Self::Cancelled,
            5 => Self::Refused,
            6 => Self::Malformed,
            7 => Self::HeadTooLarge,
            8 => Self::Flood,
            9 => Self::Stalled,
            10 => Self::Timeout,
            11 => Self::Version,
            12 => Self::Unreachable,
            _ => Self::Internal,
        }
    }
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Closed {
    /// The peer closed it.
    #[error("the peer closed the connection")]
    Eof,
    /// Reading or writing failed.
    #[error("connection broke: {0}")]
    Io(io::ErrorKind),
    /// The peer closed it for this reason.
    #[error("the peer closed the connection: {0:?}")]
    ByPeer(Code),
    /// This side closed it for this reason.
    #[error("connection closed: {0:?}")]
    ByUs(Code),
    /// It was dropped where it stood.
    #[error("connection dropped")]
    Dropped,
}

/// Why a stream ended before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// The peer gave it up.
    #[error("the peer ended the stream: {0:?}")]
    Reset(Code),
    /// This side gave it up: what came, or did not come, breaks the protocol.
    #[error("stream ended: {0:?}")]
    Failed(Code),
    /// Its connection ended.
    #[error(transparent)]
    Closed(#[from] Closed),
}

impl From<StreamError> for io::Error {
    fn from(error: StreamError) -> Self {
        let kind = match error {
            StreamError::Reset(_) => io::ErrorKind::ConnectionReset,
            StreamError::Failed(_) => io::ErrorKind::InvalidData,
            StreamError::Closed(_) => io::ErrorKind::BrokenPipe,
        };
        Self::new(kind, error)
    }
}
