//! Trace headers of a caller (W3C and B3): whatever they say, the next hop gets one that is read as the same trace.

use super::input::headers;
use weft_sidecar::telemetry::trace;

/// The target.
pub fn run(data: &[u8]) {
    let mut headers = headers(data);
    let here = trace::begin(&mut headers, 0.5);
    assert!(here.trace_id != 0 && here.span_id != 0);
    here.inject(&mut headers);
    let next = trace::begin(&mut headers, 0.5);
    assert_eq!((next.trace_id, next.parent_id, next.sampled), (here.trace_id, here.span_id, here.sampled));
}
