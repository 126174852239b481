//! Heads: what is written is read as it was, and what is read is what others read too.

use std::fmt::Write as _;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use proptest::prelude::*;
use weft_http1::Config;
use weft_http1::framing::Framing;
use weft_http1::head::{Asked, RequestHead, Scan, parse_request, print_request};

fn read(bytes: &[u8]) -> Option<RequestHead> {
    let config = Config::default();
    let (start, end) = Scan::default().scan(bytes, &config).ok()??;
    parse_request(&Bytes::copy_from_slice(&bytes[start..end]), &config).ok()
}

fn name() -> impl Strategy<Value = HeaderName> {
    "x-[a-z0-9_.!#$%&'*+^`|~-]{1,20}".prop_map(|name| HeaderName::try_from(name).unwrap())
}

fn value() -> impl Strategy<Value = HeaderValue> {
    proptest::collection::vec(prop_oneof![0x21_u8..=0x7e, 0x80_u8..=0xff], 0..40)
        .prop_map(|bytes| HeaderValue::from_bytes(&bytes).unwrap())
}

fn target() -> impl Strategy<Value = Uri> {
    prop_oneof![
        "/[a-zA-Z0-9/._~%-]{0,40}(\\?[a-z0-9=&%]{0,20})?",
        "http://[a-z]{1,10}\\.example(:[1-9][0-9]{0,3})?/[a-z0-9/]{0,20}(\\?[a-z=&]{1,10})?",
    ]
    .prop_map(|text| text.parse().unwrap())
}

proptest! {
    #[test]
    fn what_is_written_is_read_as_it_was(
        method in "[A-Z]{1,10}",
        uri in target(),
        lines in proptest::collection::vec((name(), value()), 0..20),
        length in 0_u64..100_000,
    ) {
        let method = Method::from_bytes(method.as_bytes()).unwrap();
        prop_assume!(method != Method::CONNECT);
        let headers: HeaderMap = lines.into_iter().collect();
        let mut bytes = Vec::new();
        print_request(&mut bytes, Asked { method: &method, uri: &uri, headers: &headers, upgrade: None }, Framing::Length(length));
        let head = read(&bytes).expect("it is read");
        let mut found = head.headers;
        found.remove("content-length");
        prop_assert_eq!((head.method, head.uri, found, head.framing), (method, uri, headers, Framing::Length(length)));
    }

    /// Whatever is accepted here httparse accepts too, and finds the same in it.
    #[test]
    fn nothing_is_accepted_that_others_read_differently(
        bytes in proptest::collection::vec(prop_oneof![
            8 => Just(b"GET / HTTP/1.1\r\n".to_vec()),
            3 => Just(b"\r\n".to_vec()),
            4 => Just(b"a: b\r\n".to_vec()),
            2 => Just(b"content-length: 1\r\n".to_vec()),
            2 => Just(b"transfer-encoding: chunked\r\n".to_vec()),
            1 => proptest::collection::vec(any::<u8>(), 1..4),
            1 => "[ \t\r\n:]{1,3}".prop_map(String::into_bytes),
        ], 1..8),
    ) {
        let bytes = bytes.concat();
        let Some(head) = read(&bytes) else { return Ok(()) };
        let mut slots = [httparse::EMPTY_HEADER; 100];
        let mut other = httparse::Request::new(&mut slots);
        prop_assert!(other.parse(&bytes).unwrap().is_complete());
        prop_assert_eq!(other.method, Some(head.method.as_str()));
        let found: Vec<_> = head.headers.iter().map(|(name, value)| (name.as_str().to_owned(), value.as_bytes().to_vec())).collect();
        let mut expect: Vec<_> =
            other.headers.iter().map(|line| (line.name.to_lowercase(), line.value.to_vec())).collect();
        let mut found_sorted = found;
        found_sorted.sort();
        expect.sort();
        prop_assert_eq!(found_sorted, expect);
    }
}

/// What is accepted here hyper accepts too, with the same body; hyper is the more lenient one.
#[tokio::test]
async fn hyper_reads_the_same() {
    use http_body_util::BodyExt;
    use hyper::service::service_fn;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    for request in [
        "GET /a?b HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
        "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 3\r\n\r\nabc",
        "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n3;x=y\r\nabc\r\n0\r\n\r\n",
        "PUT /%41 HTTP/1.1\r\nHOST: A\r\nX-Y:  z \t\r\nConnection: Close\r\nContent-Length: 0\r\n\r\n",
    ] {
        let (mut near, far) = tokio::io::duplex(4096);
        near.write_all(request.as_bytes()).await.unwrap();
        let service = service_fn(|request: http::Request<hyper::body::Incoming>| async move {
            let (parts, body) = request.into_parts();
            let mut said = format!("{} {} {:?}\n", parts.method, parts.uri, parts.version);
            for (name, value) in &parts.headers {
                writeln!(said, "{name}: {}", value.to_str().unwrap()).unwrap();
            }
            let body = body.collect().await.unwrap().to_bytes();
            write!(said, "\n{}", String::from_utf8_lossy(&body)).unwrap();
            Ok::<_, std::convert::Infallible>(http::Response::new(said))
        });
        let io = hyper_util::rt::TokioIo::new(far);
        hyper::server::conn::http1::Builder::new().serve_connection(io, service).await.unwrap();
        let mut theirs = String::new();
        near.read_to_string(&mut theirs).await.unwrap();
        let ours = crate::support::ask(request.as_bytes()).await;
        let body = |answer: &str| answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
        assert_eq!(body(&ours), body(&theirs), "{request:?}");
    }
}
