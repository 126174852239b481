//! Headers of a request: whatever they say, nothing that concerns one hop goes on, and no deadline grows.

use std::time::Duration;

use http::header::{CONNECTION, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE};
use weft_sidecar::http::deadline;
use weft_sidecar::http::headers::{strip_answer, strip_request};

use super::input::headers;

/// The target.
pub fn run(data: &[u8]) {
    let given = headers(data);
    let limit = Duration::from_secs(5);
    assert!(deadline::of(&given, Some(limit)).is_some_and(|left| left <= limit));
    let mut request = given.clone();
    strip_request(&mut request);
    for name in [CONNECTION, UPGRADE, TRANSFER_ENCODING, PROXY_AUTHORIZATION] {
        assert!(!request.contains_key(&name), "{name} goes on");
    }
    for te in request.get_all(TE) {
        assert!(te.as_bytes().eq_ignore_ascii_case(b"trailers"), "te: {te:?} goes on");
    }
    let once = request.clone();
    strip_request(&mut request);
    assert_eq!(once, request, "something is left for the second time");
    let mut answer = given;
    strip_answer(&mut answer);
    assert!(!answer.contains_key(CONNECTION) && !answer.contains_key(TRANSFER_ENCODING));
}
