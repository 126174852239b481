//! A token from outside, in a header, a cookie or the query: refused, with the claim headers removed. No key is known,
//! so nothing may pass.

use std::sync::LazyLock;

use super::input::{headers, request};
use http::HeaderValue;
use weft_api::v1;
use weft_sidecar::policy::jwt::Policy;
use weft_sidecar::policy::path::NormalPath;

static POLICY: LazyLock<Policy> = LazyLock::new(|| {
    use v1::token_source::Source;
    let header = v1::HeaderSource { name: "authorization".into(), prefix: "Bearer ".into() };
    let places = [Source::Header(header), Source::Cookie("session".into()), Source::Query("token".into())];
    let provider = v1::JwtProvider {
        issuer: "issuer".into(),
        keys: "keys".into(),
        from: places.into_iter().map(|source| v1::TokenSource { source: Some(source) }).collect(),
        claim_headers: vec![v1::ClaimHeader { claim: "sub".into(), header: "x-user-id".into() }],
        ..Default::default()
    };
    let config = v1::Authentication { providers: vec![provider], required: true, exempt: Vec::new() };
    Policy::new(&config, &|_| None).expect("a good policy")
});

/// The target.
pub fn run(data: &[u8]) {
    // A first line that is a token, then headers; the whole is the query too.
    let mut headers = headers(data);
    let first = data.split(|byte| *byte == b'\n').next().unwrap_or_default();
    if let Ok(value) = HeaderValue::from_bytes(&[b"Bearer ", first].concat()) {
        headers.insert("authorization", value);
    }
    let mut cx = request("shop", NormalPath::parse("/").expect("the root"));
    let passed = POLICY.verify(&mut cx, &mut headers, std::str::from_utf8(data).ok(), 1_800_000_000);
    assert!(passed.is_err() && cx.claims.is_none());
    assert!(!headers.contains_key("x-user-id"));
}
