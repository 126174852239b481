//! What would let one request hide in another is refused with the connection closed, however it is cut; nothing after it
//! is served.

use crate::support::{ask_in_pieces, statuses};

const NEXT: &str = "GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n";

/// Heads and bodies that must be refused, each with the status of the answer.
const CASES: &[(&str, &str)] = &[
    // Content-Length beside Transfer-Encoding.
    ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", "400"),
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 4\r\n\r\n0\r\n\r\n", "400"),
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ncontent-length: 0\r\n\r\n0\r\n\r\n", "400"),
    ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\ntransfer-encoding: identity\r\n\r\n", "400"),
    // Lengths.
    ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello", "400"),
    ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 5\r\n\r\nhello", "400"),
    ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5, 5\r\n\r\nhello", "400"),
    ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: +5\r\n\r\nhello", "400"),
    ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: -1\r\n\r\nhello", "400"),
    ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0x5\r\n\r\nhello", "400"),
    ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5 \t 5\r\n\r\nhello", "400"),
    ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length:\r\n\r\nhello", "400"),
    ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999999999999\r\n\r\nhello", "400"),
    ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length : 5\r\n\r\nhello", "400"),
    ("POST / HTTP/1.1\r\nhost: a\r\ncontent-length\t: 5\r\n\r\nhello", "400"),
    // Transfer codings.
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, identity\r\n\r\n0\r\n\r\n", "400"),
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n", "400"),
    (
        "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\ntransfer-encoding: x\r\n\r\n0\r\n\r\n",
        "400",
    ),
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: x\r\n\r\n0\r\n\r\n", "400"),
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n", "400"),
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked;x=1\r\n\r\n0\r\n\r\n", "400"),
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: \"chunked\"\r\n\r\n0\r\n\r\n", "400"),
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: \x0bchunked\r\n\r\n0\r\n\r\n", "400"),
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding:\r\n\r\n0\r\n\r\n", "400"),
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding : chunked\r\n\r\n0\r\n\r\n", "400"),
    ("POST / HTTP/1.1\r\nhost: a\r\n transfer-encoding: chunked\r\n\r\n0\r\n\r\n", "400"),
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding:\r\n chunked\r\n\r\n0\r\n\r\n", "400"),
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "501"),
    (
        "POST / HTTP/1.0\r\nhost: a\r\nconnection: keep-alive\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "400",
    ),
    // Lines.
    ("GET / HTTP/1.1\nhost: a\n\n", "400"),
    ("GET / HTTP/1.1\r\nhost: a\nx: y\r\n\r\n", "400"),
    ("GET / HTTP/1.1\r\nhost: a\r\n\n", "400"),
    ("GET / HTTP/1.1\r\nhost: a\rx: y\r\n\r\n", "400"),
    ("GET / HTTP/1.1\r\r\nhost: a\r\n\r\n", "400"),
    ("GET / HTTP/1.1\r\nhost: a\r\r\n\r\n", "400"),
    ("GET / HTTP/1.1\r\nhost: a\r\n folded: b\r\n\r\n", "400"),
    ("GET / HTTP/1.1\r\nhost: a\r\nx: b\r\n c\r\n\r\n", "400"),
    ("GET / HTTP/1.1\r\n host: a\r\n\r\n", "400"),
    ("GET / HTTP/1.1\r\nhost : a\r\n\r\n", "400"),
    ("GET / HTTP/1.1\r\nno colon\r\n\r\n", "400"),
    ("GET / HTTP/1.1\r\n: empty\r\n\r\n", "400"),
    ("GET / HTTP/1.1\r\nx(y): z\r\n\r\n", "400"),
    ("GET / HTTP/1.1\r\nx: a\0b\r\n\r\n", "400"),
    ("GET / HTTP/1.1\r\nx: a\x7fb\r\n\r\n", "400"),
    ("\nGET / HTTP/1.1\r\nhost: a\r\n\r\n", "400"),
    // Request lines.
    ("GET  / HTTP/1.1\r\nhost: a\r\n\r\n", "400"),
    ("GET /  HTTP/1.1\r\nhost: a\r\n\r\n", "400"),
    (" GET / HTTP/1.1\r\nhost: a\r\n\r\n", "400"),
    ("GET\t/ HTTP/1.1\r\nhost: a\r\n\r\n", "400"),
    ("GET / a HTTP/1.1\r\nhost: a\r\n\r\n", "400"),
    ("GET /\0 HTTP/1.1\r\nhost: a\r\n\r\n", "400"),
    ("GET / HTTP/1.2\r\nhost: a\r\n\r\n", "400"),
    ("GET / HTTP/2.0\r\nhost: a\r\n\r\n", "400"),
    ("GET / http/1.1\r\nhost: a\r\n\r\n", "400"),
    ("GET / HTTP/1.1 \r\nhost: a\r\n\r\n", "400"),
    ("GET /\r\nhost: a\r\n\r\n", "400"),
    ("G@T / HTTP/1.1\r\nhost: a\r\n\r\n", "400"),
    ("GET path HTTP/1.1\r\nhost: a\r\n\r\n", "400"),
    ("GET a:80 HTTP/1.1\r\nhost: a\r\n\r\n", "400"),
    ("GET * HTTP/1.1\r\nhost: a\r\n\r\n", "400"),
    ("GET http://user@a/ HTTP/1.1\r\nhost: a\r\n\r\n", "400"),
    ("CONNECT /path HTTP/1.1\r\nhost: a\r\n\r\n", "400"),
    ("CONNECT a HTTP/1.1\r\nhost: a\r\n\r\n", "400"),
    ("CONNECT a:1 HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc", "400"),
    ("CONNECT a:1 HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", "400"),
    // Chunks.
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\nzz\r\nhello\r\n0\r\n\r\n", "400"),
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n", "400"),
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello0\r\n\r\n", "400"),
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\n0\r\n\r\n", "400"),
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n", "400"),
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n", "400"),
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n", "400"),
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5;\n\r\nhello\r\n0\r\n\r\n", "400"),
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n10000000000000000\r\nhello", "400"),
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\n", "400"),
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx: y\n\r\n", "400"),
    ("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx : y\r\n\r\n", "400"),
];

#[tokio::test(start_paused = true)]
async fn every_case_is_refused_and_nothing_after_it_is_served() {
    for (case, status) in CASES {
        let bytes = [case, NEXT].concat();
        for size in [usize::MAX, 1, 7] {
            let (answer, ended) = ask_in_pieces(bytes.as_bytes(), size).await;
            assert_eq!(statuses(&answer), [*status], "{case:?} by {size} was answered with {answer:?}");
            assert!(answer.contains("\r\nconnection: close\r\n"), "{case:?}: {answer:?}");
            assert!(!answer.contains("smuggled"), "{case:?}: {answer:?}");
            assert!(matches!(ended, Some(Ok(()))), "{case:?} ended with {ended:?}");
        }
    }
}
