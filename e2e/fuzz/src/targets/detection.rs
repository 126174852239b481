//! What a connection speaks, judged by its first bytes: a judgement that is made does not change as more of them come.

use weft_sidecar::http::serve::{Http, begins_like_http, version_of};

/// The target.
pub fn run(data: &[u8]) {
    let mut found = None;
    for end in 1..=data.len().min(64) {
        let now = data.get(..end).and_then(version_of);
        assert!(found.is_none() || found == now, "{found:?}, then {now:?} of {end} bytes");
        found = now;
    }
    if found == Some(Http::Two) {
        assert!(begins_like_http(data), "a preface begins like a request");
    }
    if begins_like_http(data) {
        assert!(data.first().is_some_and(u8::is_ascii_uppercase));
    }
}
