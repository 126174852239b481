//! Heads and trailers of `weft/1`: what is taken can be sent on, and then says the same.

use bytes::{Bytes, BytesMut};
use weft_transport::head::{self, Asked, Opening};

const FIELDS: u16 = 32;

/// The target.
pub fn run(data: &[u8]) {
    let bytes = Bytes::copy_from_slice(data);
    match head::opening(bytes.clone(), FIELDS) {
        Ok(Opening::Request(parts)) => opened(&parts, false),
        Ok(Opening::Switch(parts)) => opened(&parts, true),
        _ => {}
    }
    if let Ok(parts) = head::answer(bytes.clone(), FIELDS) {
        let mut out = BytesMut::new();
        head::put_answer(&mut out, parts.status, &parts.headers).expect("what was read can be written");
        let again = head::answer(out.freeze(), FIELDS).expect("what was written can be read");
        assert_eq!((again.status, again.headers), (parts.status, parts.headers));
    }
    if let Ok(trailers) = head::trailers(bytes, FIELDS) {
        let mut out = BytesMut::new();
        head::put_fields(&mut out, &trailers).expect("what was read can be written");
        assert_eq!(head::trailers(out.freeze(), FIELDS).ok(), Some(trailers));
    }
}

fn opened(parts: &http::request::Parts, switch: bool) {
    let mut out = BytesMut::new();
    let http::request::Parts { method, uri, version, headers, .. } = parts;
    let asked = Asked { method, uri, version: *version, headers, upgrade: headers.get("upgrade") };
    head::put_request(&mut out, asked, switch).expect("what was read can be written");
    let again = match head::opening(out.freeze(), FIELDS) {
        Ok(Opening::Request(again)) if !switch => again,
        Ok(Opening::Switch(again)) if switch => again,
        other => panic!("read as something else: {other:?}"),
    };
    assert_eq!((&again.method, &again.uri, &again.headers), (&parts.method, &parts.uri, &parts.headers));
}
