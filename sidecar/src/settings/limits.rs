//! Limits against clients that ask for too much, whoever they are: part of the table of settings.

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
