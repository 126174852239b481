//! What one side takes from the other (README, "Limits against an abusive peer").

use std::time::Duration;

/// How often something may happen: this many at once, and so many more per second.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// At once.
    pub burst: u32,
    /// More per second.
    pub per_second: u32,
}

/// Limits of one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Streams that a peer may have open at a time; at least [`crate::frame::MIN_STREAMS`].
    pub max_streams: u32,
    /// Bytes of body that a peer may send on each stream before any of it has been taken; at least
    /// [`crate::frame::MIN_CREDIT`].
    pub initial_credit: u32,
    /// To what a stream's credit grows once its body is seen to be large.
    pub full_credit: u32,
    /// What all streams of a connection together may have been granted above their initial credit.
    pub extra_credit: usize,
    /// Bytes of one head or of trailers; at least [`crate::frame::MIN_HEAD`].
    pub max_head: u32,
    /// Header lines of one head.
    pub max_headers: u16,
    /// Bytes of bodies queued for the connection; producers of bodies wait beyond.
    pub max_pending: usize,
    /// Bytes of one body queued.
    pub max_stream_pending: usize,
    /// Streams that the peer may give up before they are answered.
    pub resets: Rate,
    /// PINGs.
    pub pings: Rate,
    /// Until the peer's HELLO.
    pub hello_timeout: Duration,
    /// How long a peer may leave everything unread.
    pub write_timeout: Duration,
    /// How long a stream with something to send may be without credit.
    pub stall_timeout: Duration,
    /// How long a peer with open streams may be silent before it is asked whether it is there.
    pub ping_after: Duration,
    /// How long it may take to answer that.
    pub ping_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_streams: 1024,
            initial_credit: 64 * 1024,
            full_credit: 512 * 1024,
            extra_credit: 8 * 1024 * 1024,
            max_head: 64 * 1024,
            max_headers: 256,
            max_pending: 256 * 1024,
            max_stream_pending: 128 * 1024,
            resets: Rate { burst: 2000, per_second: 500 },
            pings: Rate { burst: 32, per_second: 2 },
            hello_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(30),
            stall_timeout: Duration::from_mins(5),
            ping_after: Duration::from_secs(30),
            ping_timeout: Duration::from_secs(20),
        }
    }
}
