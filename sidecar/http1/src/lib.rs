//! HTTP/1.1 as a proxy wants it: strict where leniency lets requests be smuggled (RFC 9112), and cheap per request.
//!
//! One task serves a connection, handler and bodies included; a body reads the socket itself when it is polled, so
//! there is no channel and no other task to wake. A head and the first piece of its body go out in one write. Header
//! values share the bytes they were read as, bodies are never copied. A connection without a request holds no buffer.
//! Nothing here is `Send`: a connection stays on its thread.
//!
//! What it leaves out: names and addresses, connection pools, TLS, time limits (a watch judges by [`control::Control`]),
//! and every decision about a request.

pub mod body;
pub mod chunked;
pub mod client;
pub mod control;
mod encode;
pub mod error;
pub mod framing;
pub mod head;
mod input;
mod output;
pub mod server;
pub mod upgrade;
mod wire;

pub use body::Body;
pub use control::{Control, Order};
pub use error::{BoxError, Error, Refusal};
pub use upgrade::{OnUpgrade, Upgraded};

use std::time::Duration;

/// Limits of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Bytes of a request line; more is refused with 414.
    pub max_line: usize,
    /// Bytes of a head, its first line included; more is refused with 431.
    pub max_head: usize,
    /// Header lines of a head, at most [`head::MAX_HEADERS`]; more is refused with 431.
    pub max_headers: usize,
    /// Bytes of what a request's body still has that are read and dropped for the next request; with more left the
    /// connection is closed.
    pub max_unread: u64,
    /// How long a closed connection is read to its end, so that the client sees the last answer instead of a reset.
    pub linger: Duration,
    /// How long a client that was told `Expect: 100-continue` waits before it sends the body all the same.
    pub continue_after: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            max_line: 16 << 10,
            max_head: 64 << 10,
            max_headers: 100,
            max_unread: 64 << 10,
            linger: Duration::from_secs(1),
            continue_after: Duration::from_secs(1),
        }
    }
}
