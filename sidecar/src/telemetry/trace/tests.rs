//! Vectors from the W3C Trace Context specification and its test suite, and from the B3 specification.

use proptest::prelude::*;

use super::*;

const TRACE: u128 = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736;
const SPAN: u64 = 0x00f0_67aa_0ba9_02b7;

fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.append(*name, value.parse().unwrap());
    }
    headers
}

fn begin_at(pairs: &[(&'static str, &str)], sampling: f64) -> (TraceContext, HeaderMap) {
    let mut headers = headers(pairs);
    let mut next = 0;
    let cx = begin_with(&mut headers, sampling, || {
        next += 1;
        next
    });
    (cx, headers)
}

#[track_caller]
fn continues(pairs: &[(&'static str, &str)], trace_id: u128, sampled: bool) {
    let (cx, _) = begin_at(pairs, 0.0);
    assert_eq!(cx, TraceContext { trace_id, span_id: 1, parent_id: SPAN, sampled });
}

#[track_caller]
fn restarts(pairs: &[(&'static str, &str)]) {
    let (cx, headers) = begin_at(pairs, 1.0);
    assert_eq!(cx.parent_id, 0, "{pairs:?}");
    assert!(!headers.contains_key(TRACESTATE));
}

#[test]
fn a_valid_traceparent_is_continued() {
    continues(&[("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")], TRACE, true);
    continues(&[("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00")], TRACE, false);
    // Unknown flags are ignored.
    continues(&[("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-ff")], TRACE, true);
}

#[test]
fn a_higher_version_is_read_as_far_as_it_is_known() {
    continues(&[("traceparent", "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")], TRACE, true);
    continues(
        &[("traceparent", "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-what-next")],
        TRACE,
        true,
    );
    restarts(&[("traceparent", "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01.what")]);
}

#[test]
fn an_invalid_traceparent_begins_a_new_trace_without_its_tracestate() {
    for value in [
        "",
        "00",
        "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
        "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b-01",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-",
        "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0x",
        "0-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-010",
        "..-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "00.4bf92f3577b34da6a3ce929d0e0e4736.00f067aa0ba902b7.01",
    ] {
        restarts(&[("traceparent", value), ("tracestate", "vendor=1")]);
    }
}

#[test]
fn two_traceparents_begin_a_new_trace() {
    let value = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    restarts(&[("traceparent", value), ("traceparent", value), ("tracestate", "vendor=1")]);
}

#[test]
fn tracestate_passes_with_its_traceparent() {
    let (_, headers) = begin_at(
        &[
            ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
            ("tracestate", "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"),
        ],
        0.0,
    );
    assert_eq!(headers[TRACESTATE], "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7");
}

#[test]
fn b3_single_header_is_read() {
    continues(&[("b3", "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1")], TRACE, true);
    continues(&[("b3", "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-d")], TRACE, true);
    continues(
        &[("b3", "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-0-05e3ac9a4f6e3b90")],
        TRACE,
        false,
    );
    continues(&[("b3", "a3ce929d0e0e4736-00f067aa0ba902b7-1")], 0xa3ce_929d_0e0e_4736, true);
    restarts(&[("b3", "4bf92f3577b34da6a3ce929d0e0e4736")]);
    restarts(&[("b3", "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-x")]);
}

#[test]
fn b3_multi_headers_are_read() {
    let ids = [("x-b3-traceid", "4bf92f3577b34da6a3ce929d0e0e4736"), ("x-b3-spanid", "00f067aa0ba902b7")];
    continues(&[ids[0], ids[1], ("x-b3-sampled", "1")], TRACE, true);
    continues(&[ids[0], ids[1], ("x-b3-sampled", "0")], TRACE, false);
    continues(&[ids[0], ids[1], ("x-b3-flags", "1")], TRACE, true);
    restarts(&[ids[0]]);
}

#[test]
fn b3_without_decision_leaves_it_to_this_hop() {
    let pairs = [("b3", "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7")];
    assert!(begin_at(&pairs, 1.0).0.sampled);
    assert!(!begin_at(&pairs, 0.0).0.sampled);
}

#[test]
fn b3_deny_alone_is_obeyed_in_the_new_trace() {
    assert!(!begin_at(&[("b3", "0")], 1.0).0.sampled);
    assert!(!begin_at(&[("x-b3-sampled", "0")], 1.0).0.sampled);
    assert!(begin_at(&[("b3", "1")], 0.0).0.sampled);
}

#[test]
fn w3c_wins_over_b3() {
    continues(
        &[
            ("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
            ("b3", "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-0"),
        ],
        TRACE,
        true,
    );
}

#[test]
fn what_is_injected_is_read_back_by_the_next_hop() {
    let (cx, mut headers) = begin_at(&[], 1.0);
    assert!(cx.sampled && cx.trace_id != 0);
    let attempt = cx.child();
    attempt.inject(&mut headers);
    let next = begin(&mut headers, 0.0);
    assert_eq!((next.trace_id, next.parent_id, next.sampled), (cx.trace_id, attempt.span_id, true));
    assert_eq!(attempt.parent_id, cx.span_id);
}

#[test]
fn the_share_of_recorded_traces_is_as_asked() {
    assert!(!decide(0.0, 0) && decide(1.0, u64::MAX));
    assert!(decide(0.1, u64::MAX / 11) && !decide(0.1, u64::MAX / 9));
}

proptest! {
    #[test]
    fn any_traceparent_is_read_or_refused_without_panic(value in proptest::collection::vec(any::<u8>(), 0..80)) {
        if let Some(parent) = parse_traceparent(&value) {
            prop_assert!(parent.trace_id != 0 && parent.span_id != 0);
        }
        if let Some(parent) = parse_b3(&value) {
            prop_assert!(parent.trace_id != 0 && parent.span_id != 0);
        }
    }

    #[test]
    fn any_headers_give_a_valid_context(parent in "[ -~]{0,70}", b3 in "[0-9a-f-]{0,60}", sampling in 0.0..1.0_f64) {
        let mut headers = headers(&[("traceparent", &parent), ("b3", &b3)]);
        let cx = begin(&mut headers, sampling);
        prop_assert!(cx.trace_id != 0 && cx.span_id != 0);
        cx.inject(&mut headers);
        let sent = parse_traceparent(headers[TRACEPARENT].as_bytes());
        let expect = Parent { trace_id: cx.trace_id, span_id: cx.span_id, sampled: Some(cx.sampled) };
        prop_assert_eq!(sent, Some(expect));
    }
}
