//! Header hygiene: what concerns one connection only is taken out (RFC 9110, section 7.6.1), framing is left to codecs.
//! Edits in place; a request without such headers costs a few look-ups.

use http::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE,
};
use http::header::{TRANSFER_ENCODING, UPGRADE};
use weft_http1::chunked::may_trail;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Takes hop-by-hop headers and those that `Connection` names out of a request. Returns the protocol it wants to switch
/// to, which the caller puts back once it knows that the next hop can do that.
pub fn strip_request(headers: &mut HeaderMap) -> Option<HeaderValue> {
    let upgrade = strip(headers);
    headers.remove(PROXY_AUTHORIZATION);
    // `te: trailers` is how gRPC asks for trailers and must reach the application; nothing else of TE does.
    if !headers.get_all(TE).iter().all(|te| te.as_bytes().eq_ignore_ascii_case(b"trailers")) {
        headers.remove(TE);
    }
    upgrade.filter(|protocol| !protocol.as_bytes().eq_ignore_ascii_case(b"h2c"))
}

/// The same for an answer.
pub fn strip_answer(headers: &mut HeaderMap) -> Option<HeaderValue> {
    headers.remove(PROXY_AUTHENTICATE);
    strip(headers)
}

/// Takes out of trailers what must not stand in them (RFC 9110, section 6.5.1), whatever they came by: whoever joins them
/// with the head, as the RFC allows, would be told by a body how to route, whom to believe, or where the body ends.
pub fn strip_trailers(trailers: &mut HeaderMap) {
    let never: Vec<HeaderName> = trailers.keys().filter(|name| !may_trail(name)).cloned().collect();
    for name in never {
        trailers.remove(name);
    }
}

/// Asks the next hop to switch to this protocol, or tells the hop before that it has been done.
pub fn put_upgrade(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol);
}

fn strip(headers: &mut HeaderMap) -> Option<HeaderValue> {
    let upgrade = headers.remove(UPGRADE);
    headers.remove(KEEP_ALIVE);
    headers.remove(PROXY_CONNECTION);
    // The framing has been decoded, and what is sent gets its own.
    headers.remove(TRANSFER_ENCODING);
    if !headers.contains_key(CONNECTION) {
        return None;
    }
    let mut wants_upgrade = false;
    let mut nominated: Vec<HeaderName> = Vec::new();
    for token in headers.get_all(CONNECTION).iter().flat_map(|value| value.as_bytes().split(|&b| b == b',')) {
        let token = token.trim_ascii();
        if token.eq_ignore_ascii_case(b"upgrade") {
            wants_upgrade = true;
        } else if !token.eq_ignore_ascii_case(b"close")
            && !token.eq_ignore_ascii_case(b"keep-alive")
            && let Ok(name) = HeaderName::from_bytes(token)
        {
            nominated.push(name);
        }
    }
    headers.remove(CONNECTION);
    for name in nominated.into_iter().filter(may_be_nominated) {
        headers.remove(name);
    }
    upgrade.filter(|_| wants_upgrade)
}

/// What the mesh itself relies on cannot be taken out by a client's `Connection` header.
fn may_be_nominated(name: &HeaderName) -> bool {
    use http::header::{AUTHORIZATION, CONTENT_LENGTH, COOKIE, HOST};
    let kept = [&HOST, &CONTENT_LENGTH, &AUTHORIZATION, &COOKIE, &TE];
    let text = name.as_str();
    let prefixes = ["x-weft-", "x-forwarded-", "x-b3-", "grpc-"];
    let names = ["x-request-id", "traceparent", "tracestate", "b3"];
    !kept.contains(&name) && !names.contains(&text) && !prefixes.iter().any(|prefix| text.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(given: &[(&'static str, &'static str)], left: &[&str], upgrade: Option<&str>) {
        let mut headers = HeaderMap::new();
        for (name, value) in given {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let found = strip_request(&mut headers);
        assert_eq!(found.as_ref().map(|value| value.to_str().unwrap()), upgrade, "{given:?}");
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, left, "{given:?}");
    }

    #[test]
    fn hop_by_hop_headers_are_taken_out() {
        check(&[("host", "a"), ("connection", "keep-alive"), ("keep-alive", "5")], &["host"], None);
        check(
            &[("host", "a"), ("connection", "foo, close"), ("foo", "1"), ("bar", "2")],
            &["bar", "host"],
            None,
        );
        check(&[("te", "trailers")], &["te"], None);
        check(&[("te", "gzip, trailers")], &[], None);
        check(&[("te", "trailers"), ("te", "gzip")], &[], None);
        check(&[("proxy-connection", "x"), ("transfer-encoding", "chunked")], &[], None);
    }

    #[test]
    fn trailers_keep_only_what_may_stand_in_them() {
        let mut trailers = HeaderMap::new();
        for name in [
            "x-sum",
            "content-length",
            "transfer-encoding",
            "host",
            "authorization",
            "set-cookie",
            "content-type",
            "cache-control",
            "if-match",
            "x-weft-reason",
            "grpc-status",
            "etag",
            "server-timing",
        ] {
            trailers.append(name, HeaderValue::from_static("1"));
        }
        strip_trailers(&mut trailers);
        let mut left: Vec<_> = trailers.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["etag", "grpc-status", "server-timing", "x-sum"]);
    }

    #[test]
    fn an_upgrade_is_taken_out_and_told() {
        check(&[("connection", "Upgrade"), ("upgrade", "websocket")], &[], Some("websocket"));
        check(&[("upgrade", "websocket")], &[], None);
        check(
            &[("connection", "upgrade, http2-settings"), ("upgrade", "h2c"), ("http2-settings", "x")],
            &[],
            None,
        );
    }

    #[test]
    fn a_client_cannot_nominate_what_the_mesh_relies_on() {
        check(
            &[("connection", "x-request-id, authorization, host"), ("x-request-id", "1"), ("host", "a")],
            &["host", "x-request-id"],
            None,
        );
    }
}
