//! Limits against clients and peers that ask for too much, whoever they are: part of the table of settings.

use std::time::Duration;

use weft_transport::Rate;
use weft_transport::frame::MIN_STREAMS;

use super::duration;

/// What one client or listener may have at most.
#[derive(Clone, Debug, clap::Args)]
pub struct ClientLimits {
    /// Connections that one listener has open at a time; more are closed at once. 0: no limit.
    #[arg(long, env = "WEFT_MAX_CONNECTIONS", default_value_t = 10_000)]
    pub max_connections: u32,

    /// TLS handshakes under way at a time on one worker; one more makes the oldest be given up. 0: no limit.
    #[arg(long, env = "WEFT_MAX_HANDSHAKES", default_value_t = 512)]
    pub max_handshakes: usize,

    /// Requests in flight on one connection of HTTP/2.
    #[arg(long, env = "WEFT_MAX_STREAMS", default_value_t = 256)]
    pub max_streams: u32,

    /// Frames without content (PING, SETTINGS, resets) that a client of HTTP/2 may send per second; twice that at once.
    /// 0: no limit.
    #[arg(long, env = "WEFT_MAX_CONTROL_FRAMES", default_value_t = 1000)]
    pub max_control_frames: u32,

    /// Bytes of a request line; more is refused with 414.
    #[arg(long, env = "WEFT_MAX_REQUEST_LINE", default_value_t = 16 << 10)]
    pub max_request_line: usize,

    /// Bytes of a request's head; more is refused with 431.
    #[arg(long, env = "WEFT_MAX_HEADER_BYTES", default_value_t = 64 << 10)]
    pub max_header_bytes: u32,

    /// Header lines of a request, up to 256; more is refused with 431.
    #[arg(long, env = "WEFT_MAX_HEADERS", default_value_t = 100)]
    pub max_headers: usize,

    /// Bytes of a request's body; more is refused with 413. 0: no limit.
    #[arg(long, env = "WEFT_MAX_BODY_BYTES", default_value_t = 0)]
    pub max_body_bytes: u64,

    /// Bytes per second that must come of a body of known length while it is waited for, on average over the time a body
    /// may stand still. 0: it must only not stand still.
    #[arg(long, env = "WEFT_MIN_BODY_RATE", default_value_t = 64)]
    pub min_body_rate: u32,
}

/// What another proxy may have at most on one connection of `weft/1`, which carries all that it asks for.
#[derive(Clone, Debug, clap::Args)]
pub struct PeerLimits {
    /// Requests and raw connections open on one connection between proxies, at least 32; more are refused unprocessed.
    #[arg(
        long,
        env = "WEFT_MAX_PEER_STREAMS",
        default_value_t = 1024,
        value_parser = clap::value_parser!(u32).range(i64::from(MIN_STREAMS)..)
    )]
    pub max_peer_streams: u32,

    /// Requests that a proxy may give up per second before they are answered, four times that at once, at least 1; more
    /// end its connection.
    #[arg(
        long,
        env = "WEFT_MAX_PEER_RESETS",
        default_value_t = 500,
        value_parser = clap::value_parser!(u32).range(1..)
    )]
    pub max_peer_resets: u32,

    /// Bytes of large bodies that one connection between proxies may have under way, besides 64 KiB for each request.
    #[arg(long, env = "WEFT_PEER_BUFFER", default_value_t = 8 << 20)]
    pub peer_buffer: usize,

    /// How long a proxy may leave a body standing that it is to take; raw connections may wait. 0s: so may all.
    #[arg(long, env = "WEFT_PEER_STALL_TIMEOUT", default_value = "5m", value_parser = duration)]
    pub peer_stall_timeout: Duration,
}

impl PeerLimits {
    /// In the transport's words; `hello_timeout` is how long a peer may take to say HELLO.
    pub fn of_connection(&self, hello_timeout: Duration) -> weft_transport::Limits {
        let stall = Some(self.peer_stall_timeout).filter(|timeout| !timeout.is_zero());
        weft_transport::Limits {
            max_streams: self.max_peer_streams,
            extra_credit: self.peer_buffer,
            resets: Rate { burst: self.max_peer_resets.saturating_mul(4), per_second: self.max_peer_resets },
            hello_timeout,
            stall_timeout: stall.unwrap_or(Duration::MAX),
            ..weft_transport::Limits::default()
        }
    }
}
