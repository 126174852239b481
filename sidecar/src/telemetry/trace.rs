//! Trace context: which trace a request belongs to and which span is this hop's. Reads W3C Trace Context and, where
//! there is none, B3 (single and multi header); writes W3C. `tracestate` is passed on untouched, or removed where the
//! `traceparent` it belongs to is invalid (W3C Trace Context, section 3.3). Leaves out: export (`export.rs`).

use http::{HeaderMap, HeaderName, HeaderValue};

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

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const B3: HeaderName = HeaderName::from_static("b3");
const B3_TRACE: HeaderName = HeaderName::from_static("x-b3-traceid");
const B3_SPAN: HeaderName = HeaderName::from_static("x-b3-spanid");
const B3_SAMPLED: HeaderName = HeaderName::from_static("x-b3-sampled");
const B3_FLAGS: HeaderName = HeaderName::from_static("x-b3-flags");

impl TraceContext {
    /// A span below this one in the same trace, for one attempt upstream.
    #[must_use]
    pub fn child(&self) -> Self {
        Self { span_id: random_id(), parent_id: self.span_id, ..*self }
    }

    /// Tells the next hop: its caller is this context's span.
    pub fn inject(&self, headers: &mut HeaderMap) {
        headers.insert(TRACEPARENT, self.header());
    }

    /// The trace id as logs and headers write it, 32 hexadecimal digits.
    pub fn trace_id_hex(&self) -> String {
        format!("{:032x}", self.trace_id)
    }

    fn header(&self) -> HeaderValue {
        // Every request has one, and the formatter would allocate it in four steps.
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        let [_, _, _, rest @ .., _, sampled] = &mut text;
        let (trace, span) = rest.split_at_mut(32);
        put_hex(trace, &self.trace_id.to_be_bytes());
        put_hex(span.split_at_mut(1).1, &self.span_id.to_be_bytes());
        *sampled += u8::from(self.sampled);
        HeaderValue::from_bytes(&text).expect("hexadecimal digits and dashes")
    }
}

/// Two digits for each byte, as far as there is room.
fn put_hex(to: &mut [u8], bytes: &[u8]) {
    const DIGITS: [u8; 16] = *b"0123456789abcdef";
    for (pair, byte) in to.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
        *pair = [DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]];
    }
}

/// The caller's span as it came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Parent {
    trace_id: u128,
    span_id: u64,
    /// None: left to us (B3 without a decision).
    sampled: Option<bool>,
}

/// Continues the trace in the headers, or begins one that is recorded with a chance of `sampling`. An invalid
/// `traceparent` begins a new trace and takes its `tracestate` along.
pub fn begin(headers: &mut HeaderMap, sampling: f64) -> TraceContext {
    begin_with(headers, sampling, rand::random)
}

fn begin_with(headers: &mut HeaderMap, sampling: f64, mut random: impl FnMut() -> u64) -> TraceContext {
    let parent = read_w3c(headers).or_else(|| {
        headers.remove(TRACESTATE);
        read_b3(headers)
    });
    let span_id = random().max(1);
    let Some(parent) = parent else {
        let trace_id = (u128::from(random()) << 64 | u128::from(random())).max(1);
        let sampled = b3_decision(headers).unwrap_or_else(|| decide(sampling, random()));
        return TraceContext { trace_id, span_id, parent_id: 0, sampled };
    };
    let sampled = parent.sampled.unwrap_or_else(|| decide(sampling, random()));
    TraceContext { trace_id: parent.trace_id, span_id, parent_id: parent.span_id, sampled }
}

/// Whether a new trace is recorded: the random number's upper 53 bits as a fraction of one against the share.
#[expect(clippy::cast_precision_loss, reason = "53 bits fit a double exactly")]
fn decide(sampling: f64, random: u64) -> bool {
    const UNIT: f64 = (1_u64 << 53) as f64;
    ((random >> 11) as f64) < sampling * UNIT
}

fn random_id() -> u64 {
    rand::random::<u64>().max(1)
}

/// More than one `traceparent` is as good as none: it is not known whose trace this is.
fn read_w3c(headers: &HeaderMap) -> Option<Parent> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let only = values.next()?;
    if values.next().is_some() {
        return None;
    }
    parse_traceparent(only.as_bytes())
}

/// `version-traceid-parentid-flags` (section 3.2). Version ff is forbidden; a higher version than 00 may be longer, but
/// starts the same. Hexadecimal digits must be lower case.
fn parse_traceparent(value: &[u8]) -> Option<Parent> {
    let (fixed, rest) = value.split_at_checked(55)?;
    let [v1, v2, b'-', ids @ .., b'-', f1, f2] = fixed else { return None };
    let version = hex(&[*v1, *v2])?;
    let more_is_fine = version > 0 && rest.first() == Some(&b'-');
    if version == 0xff || !(rest.is_empty() || more_is_fine) {
        return None;
    }
    let (trace, span) = ids.split_at_checked(32)?;
    let span = span.strip_prefix(b"-")?;
    let flags = hex(&[*f1, *f2])?;
    parent(hex(trace)?, hex(span)?, Some(flags & 1 == 1))
}

fn read_b3(headers: &HeaderMap) -> Option<Parent> {
    if let Some(single) = headers.get(B3) {
        return parse_b3(single.as_bytes());
    }
    let id = |name: HeaderName, most: usize| b3_id(headers.get(name)?.as_bytes(), most);
    parent(id(B3_TRACE, 32)?, id(B3_SPAN, 16)?, b3_decision(headers))
}

/// `{trace id}-{span id}[-{sampling}[-{parent}]]`; the trace id has 16 or 32 digits.
fn parse_b3(value: &[u8]) -> Option<Parent> {
    let mut parts = value.split(|byte| *byte == b'-');
    let (trace, span) = (b3_id(parts.next()?, 32)?, b3_id(parts.next()?, 16)?);
    let sampled = match parts.next() {
        None => None,
        Some(b"1" | b"d") => Some(true),
        Some(b"0") => Some(false),
        Some(_) => return None,
    };
    parent(trace, span, sampled)
}

/// The caller's decision alone, which B3 may send without ids (`b3: 0`).
fn b3_decision(headers: &HeaderMap) -> Option<bool> {
    if let Some(single) = headers.get(B3) {
        return match single.as_bytes() {
            b"0" => Some(false),
            b"1" | b"d" => Some(true),
            _ => None,
        };
    }
    if headers.get(B3_FLAGS).is_some_and(|value| value == "1") {
        return Some(true);
    }
    match headers.get(B3_SAMPLED)?.as_bytes() {
        b"1" | b"true" => Some(true),
        b"0" | b"false" => Some(false),
        _ => None,
    }
}

fn b3_id(text: &[u8], most: usize) -> Option<u128> {
    if text.len() == most || text.len() == 16 { hex(text) } else { None }
}

fn parent(trace_id: u128, span_id: u128, sampled: Option<bool>) -> Option<Parent> {
    let span_id = u64::try_from(span_id).ok()?;
    (trace_id != 0 && span_id != 0).then_some(Parent { trace_id, span_id, sampled })
}

/// At most 32 lower-case hexadecimal digits.
fn hex(text: &[u8]) -> Option<u128> {
    text.iter().try_fold(0_u128, |value, digit| {
        let digit = match digit {
            b'0'..=b'9' => digit - b'0',
            b'a'..=b'f' => digit - b'a' + 10,
            _ => return None,
        };
        Some(value << 4 | u128::from(digit))
    })
}

#[cfg(test)]
mod tests;
