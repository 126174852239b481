//! Trace context (W3C Trace Context, B3 read): which trace a request belongs to and which span is this hop's.

/// Trace and span of this hop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TraceContext {
    /// 16 bytes, not all zero.
    pub trace_id: u128,
    /// Span of this hop.
    pub span_id: u64,
    /// Span of the caller; 0: this hop started the trace.
    pub parent_id: u64,
    /// Whether it is recorded.
    pub sampled: bool,
}
