//! A chunked body: what comes out, and where it ends, does not depend on how the bytes are cut.

use bytes::Bytes;
use weft_http1::chunked::{Chunked, Piece};

/// The target.
pub fn run(data: &[u8]) {
    let Some((&size, bytes)) = data.split_first() else { return };
    let whole = decode([bytes]);
    let cut = decode(bytes.chunks(usize::from(size).max(1)));
    assert_eq!(whole, cut);
    assert!(whole.data.len() <= bytes.len());
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Decoded {
    data: Vec<u8>,
    trailers: Option<http::HeaderMap>,
    ended: bool,
    refused: bool,
    /// Bytes after the end.
    left: usize,
}

fn decode<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Decoded {
    let (mut body, mut found) = (Chunked::default(), Decoded::default());
    for piece in pieces {
        let mut bytes = Bytes::copy_from_slice(piece);
        while !found.ended && !found.refused {
            match body.next(&mut bytes) {
                Ok(Piece::Data(data)) => found.data.extend_from_slice(&data),
                Ok(Piece::End(trailers)) => (found.trailers, found.ended) = (trailers, true),
                Ok(Piece::More) => break,
                Err(_) => found.refused = true,
            }
        }
        if found.ended {
            found.left += bytes.len();
        }
    }
    found
}
