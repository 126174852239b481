//! The scanner against whole requests, cut at every byte, and against what would smuggle another one.

use proptest::prelude::*;

use super::*;

/// Heads completed, number of the first bad one, and whether the bytes end inside a head; fed in pieces of this size.
fn check_in_pieces(bytes: &[u8], piece: usize, expect: (u32, u32, bool)) {
    let heads = scan_pieces(bytes.chunks(piece));
    let found = (heads.complete(), heads.bad.load(Ordering::Relaxed), heads.is_inside());
    assert_eq!(found, expect, "{:?} in pieces of {piece}", String::from_utf8_lossy(bytes));
}

fn check(bytes: &str, expect: (u32, u32, bool)) {
    for piece in [1, 2, 3, 7, 4096] {
        check_in_pieces(bytes.as_bytes(), piece, expect);
    }
}

#[test]
fn pipelined_requests_with_and_without_bodies_are_counted() {
    check("GET / HTTP/1.1\r\nhost: a\r\n\r\nGET /b HTTP/1.1\r\nhost: a\r\n\r\n", (2, 0, false));
    check(
        "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nab\n\r\nGET /b HTTP/1.1\r\nhost: a\r\n\r\n",
        (2, 0, false),
    );
    check(
        "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3;x=\"1\"\r\nab\n\r\n0\r\nt: 1\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        (2, 0, false),
    );
    check("\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n", (1, 0, false));
}

#[test]
fn a_head_that_has_begun_is_noticed() {
    check("GET / HT", (0, 0, true));
    check("GET / HTTP/1.1\r\nhost: a\r\n\r\nG", (1, 0, true));
}

#[test]
fn a_bare_line_feed_is_bad() {
    check("GET / HTTP/1.1\nhost: a\r\n\r\n", (1, 1, false));
    check("GET / HTTP/1.1\r\nhost: a\n\r\n", (1, 1, false));
    check("GET / HTTP/1.1\r\nhost: a\r\n\n", (1, 1, false));
    check("GET / HTTP/1.1\r\nhost: a\r\n\r\nGET / HTTP/1.1\nhost: a\r\n\r\n", (2, 2, false));
}

#[test]
fn two_lengths_are_bad() {
    check("POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", (1, 1, false));
    check("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n", (1, 1, false));
}

#[test]
fn nothing_is_served_after_a_broken_body() {
    check("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3\nabc", (1, 2, false));
}

#[test]
fn what_follows_an_upgrade_is_not_looked_at() {
    check("GET / HTTP/1.1\r\nupgrade: websocket\r\n\r\n\n\n\n", (1, 0, false));
    check("CONNECT a:1 HTTP/1.1\r\nhost: a\r\n\r\n\n\n\n", (1, 0, false));
    check("GET / HTTP/1.1\r\nupgrade: h2c\r\n\r\nGET / HTTP/1.1\r\n\r\n", (2, 0, false));
}

proptest! {
    #[test]
    fn pieces_do_not_matter(bytes in "[ \r\nA-c0-9:]{0,120}", piece in 1_usize..20) {
        let whole = Arc::new(Heads::default());
        Scanner::new(Arc::clone(&whole)).scan(bytes.as_bytes());
        let expect = (whole.complete(), whole.bad.load(Ordering::Relaxed), whole.is_inside());
        check_in_pieces(bytes.as_bytes(), piece, expect);
    }
}
