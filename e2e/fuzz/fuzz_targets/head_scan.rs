//! Bytes of an HTTP/1.1 client: what the scanner finds does not depend on how they are cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_sidecar::net::scan::scan_pieces;

fuzz_target!(|data: &[u8]| {
    let Some((&size, bytes)) = data.split_first() else { return };
    let whole = scan_pieces([bytes]);
    let cut = scan_pieces(bytes.chunks(usize::from(size).max(1)));
    let found = |heads: &weft_sidecar::net::scan::Heads| {
        (heads.complete(), heads.is_inside(), heads.is_bad(heads.complete()))
    };
    assert_eq!(found(&whole), found(&cut));
});
