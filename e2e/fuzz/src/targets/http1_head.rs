//! The head of an HTTP/1.1 message: where it ends does not depend on how the bytes are cut, and a request that is taken is
//! understood the same once it is written again, framing included.

use bytes::Bytes;
use http::Method;
use weft_http1::Config;
use weft_http1::framing::Framing;
use weft_http1::head::{Asked, Scan, parse_answer, parse_request, print_request};

/// The target.
pub fn run(data: &[u8]) {
    let Some((&size, bytes)) = data.split_first() else { return };
    let config = Config { max_line: 256, max_head: 2048, max_headers: 16, ..Config::default() };
    let whole = Scan::default().scan(bytes, &config);
    let mut scan = Scan::default();
    let step = usize::from(size).max(1);
    let cuts = (step..bytes.len()).step_by(step).chain([bytes.len()]);
    let cut = cuts.map(|end| scan.scan(&bytes[..end], &config)).find(|found| !matches!(found, Ok(None)));
    assert_eq!(format!("{whole:?}"), format!("{:?}", cut.unwrap_or(Ok(None))));
    let Ok(Some((begin, end))) = whole else { return };
    let head = Bytes::copy_from_slice(&bytes[begin..end]);
    // Whether it is taken is not the question here, only that it is decided.
    parse_answer(&head, &Method::GET, &config).ok();
    let Ok(request) = parse_request(&head, &config) else { return };
    assert_ne!(request.framing, Framing::UntilClose, "a request cannot end with its connection");
    again(&request, &config);
}

fn again(request: &weft_http1::head::RequestHead, config: &Config) {
    let asked =
        Asked { method: &request.method, uri: &request.uri, headers: &request.headers, upgrade: None };
    let mut text = Vec::new();
    print_request(&mut text, asked, request.framing);
    // A name or a line may be longer when written out; that is a limit and not another meaning.
    let config = Config { max_line: 4096, max_head: 1 << 16, max_headers: 64, ..*config };
    let found = Scan::default().scan(&text, &config);
    assert_eq!(found.ok().flatten(), Some((0, text.len())), "what is written is not one head");
    let read = parse_request(&Bytes::from(text), &config).expect("what is written is taken");
    assert_eq!(read.method, request.method);
    assert_eq!(read.framing, request.framing);
}
