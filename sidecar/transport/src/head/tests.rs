//! Any head is read as it was written, and any bytes are refused or are one head's.

use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Version};
use proptest::prelude::*;

use super::*;

fn name() -> impl Strategy<Value = HeaderName> {
    prop_oneof![
        (0..names::NAMES.len()).prop_map(|at| names::NAMES[at].clone()),
        "x-[a-z0-9_-]{0,20}".prop_map(|name| HeaderName::try_from(name).unwrap()),
    ]
}

fn headers() -> impl Strategy<Value = HeaderMap> {
    let value = proptest::collection::vec(prop_oneof![0x20..0x7f_u8, 0x80..=0xff_u8], 0..300);
    proptest::collection::vec((name(), value), 0..20).prop_map(|fields| {
        let allowed = fields.into_iter().filter(|(name, _)| *name != TE && *name != CONTENT_LENGTH);
        allowed.map(|(name, value)| (name, HeaderValue::from_bytes(&value).unwrap())).collect()
    })
}

fn method() -> impl Strategy<Value = Method> {
    "GET|HEAD|POST|PUT|DELETE|OPTIONS|TRACE|PATCH|PURGE|[A-Z]{1,40}"
        .prop_map(|method| Method::from_bytes(method.as_bytes()).unwrap())
        .prop_filter("CONNECT has another form", |method| *method != Method::CONNECT)
}

fn asked(parts: &http::request::Parts) -> Asked<'_> {
    let http::request::Parts { method, uri, version, headers, .. } = parts;
    Asked { method, uri, version: *version, headers, upgrade: None }
}

fn version() -> impl Strategy<Value = Version> {
    prop_oneof![Just(Version::HTTP_10), Just(Version::HTTP_11), Just(Version::HTTP_2)]
}

proptest! {
    #[test]
    fn any_request_is_read_as_it_was_written(
        method in method(),
        version in version(),
        target in "/[a-z0-9/._~%-]{0,200}([?][a-z=&]{0,50})?",
        host in "[a-z0-9.]{0,30}",
        headers in headers(),
    ) {
        let (mut parts, ()) = Request::new(()).into_parts();
        (parts.method, parts.version, parts.headers) = (method, version, headers);
        parts.uri = target.parse().unwrap();
        parts.headers.insert(HOST, host.parse().unwrap());
        let mut out = BytesMut::new();
        put_request(&mut out, asked(&parts), false).unwrap();
        let Ok(Opening::Request(read)) = opening(out.freeze(), 256) else { panic!("refused") };
        prop_assert_eq!((&read.method, read.version, &read.uri), (&parts.method, parts.version, &parts.uri));
        prop_assert_eq!(&read.headers, &parts.headers);
    }

    #[test]
    fn any_answer_and_any_trailers_are_read_as_they_were_written(status in 200..1000_u16, headers in headers()) {
        let status = StatusCode::from_u16(status).unwrap();
        let mut out = BytesMut::new();
        put_answer(&mut out, status, &headers).unwrap();
        let read = answer(out.freeze(), 256).unwrap();
        prop_assert_eq!((read.status, &read.headers), (status, &headers));
        let mut out = BytesMut::new();
        put_fields(&mut out, &headers).unwrap();
        prop_assert_eq!(trailers(out.freeze(), 256).unwrap(), headers);
    }

    #[test]
    fn any_bytes_are_refused_or_one_request(bytes in proptest::collection::vec(any::<u8>(), 0..200), start in 0..4_u8) {
        let mut bytes = bytes;
        bytes.splice(0..0, [start, 11, 1, 1, b'/']);
        let given = Bytes::from(bytes);
        if let Ok(Opening::Request(parts)) = opening(given.clone(), 256) {
            let mut out = BytesMut::new();
            put_request(&mut out, asked(&parts), false).unwrap();
            let Ok(Opening::Request(again)) = opening(out.freeze(), 256) else { panic!("refused") };
            prop_assert_eq!(again.headers, parts.headers);
        }
        drop(answer(given.clone(), 256));
        drop(trailers(given, 256));
    }

    #[test]
    fn a_length_has_one_form(length in 0..=MAX_LENGTH) {
        let mut out = BytesMut::new();
        put_text(&mut out, &vec![b'a'; length]).unwrap();
        let mut cursor = Cursor { bytes: out.freeze(), at: 0 };
        prop_assert_eq!(cursor.text().unwrap().len(), length);
        cursor.end().unwrap();
    }
}

fn check(bytes: &[u8], error: HeadError) {
    assert_eq!(opening(Bytes::copy_from_slice(bytes), 256).unwrap_err(), error, "{bytes:?}");
}

#[test]
fn what_has_two_meanings_is_refused() {
    check(b"\x01\x0b\x01\x80\x01/\x01a\x00\x00", HeadError::Long);
    check(b"\x01\x0b\x01\x81\x80\x80\x00", HeadError::Long);
    check(b"\x01\x0b\x01\x01/\x01a\x00\x01\x00\x04host\x01b", HeadError::Forbidden);
    check(b"\x01\x0b\x01\x01/\x01a\x00\x01\x00\x0atransfer-e\x01b\x00", HeadError::Length);
    check(b"\x01\x0b\x01\x03/#a\x01a\x00\x00", HeadError::Target);
    check(b"\x01\x0b\x06\x01/\x01a\x00\x00", HeadError::Kind);
    check(b"\x02\x0b\x01\x01/\x01a\x00\x00\x00", HeadError::Kind);
    check(b"\x01\x0b\x01\x01/\x01a\x00\x01\x38\x04gzip", HeadError::Forbidden);
    check(b"\x01\x0b\x01\x01/\x03a\r\n\x00\x00", HeadError::Value);
}

#[test]
fn hop_by_hop_names_are_left_out() {
    let mut headers = HeaderMap::new();
    for name in ["connection", "keep-alive", "proxy-connection", "transfer-encoding", "upgrade", "te", "x-a"]
    {
        headers.insert(name, HeaderValue::from_static("gzip"));
    }
    let mut out = BytesMut::new();
    put_fields(&mut out, &headers).unwrap();
    let read = trailers(out.freeze(), 256).unwrap();
    assert_eq!(read.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["x-a"]);
}

#[test]
fn a_length_that_is_no_number_or_said_twice_is_ambiguous() {
    let length = |values: &[&str]| {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(CONTENT_LENGTH, value.parse().unwrap());
        }
        content_length(&headers)
    };
    assert_eq!(length(&[]), Ok(None));
    assert_eq!(length(&["007"]), Ok(Some(7)));
    for bad in [&["1", "1"][..], &["1, 1"], &["+1"], &["-1"], &[""], &["0x1"], &["1234567890123456789"]] {
        assert_eq!(length(bad), Err(HeadError::Ambiguous), "{bad:?}");
    }
}
