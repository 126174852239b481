//! The beginning of a TLS connection at a gateway that lets it through, in pieces of the size that the first byte says:
//! however it is cut, the same name is read, and what goes on are the bytes that came.

use weft_sidecar::tls::hello::{Hello, MAX_HELLO};

/// The target.
pub fn run(data: &[u8]) {
    let Some((size, bytes)) = data.split_first() else { return };
    let bytes = bytes.get(..MAX_HELLO).unwrap_or(bytes);
    let whole = read(bytes, MAX_HELLO);
    let pieces = read(bytes, usize::from(*size).max(1));
    assert_eq!(whole.is_some(), pieces.is_some(), "how it is cut decides");
    if let (Some((whole, name)), Some((pieces, again))) = (whole, pieces) {
        assert_eq!(name, again);
        assert!(bytes.starts_with(&whole.read) && whole.read.starts_with(&pieces.read), "bytes differ");
        assert!(bytes.ends_with(&whole.rest()), "more is left than came");
    }
}

/// A message that is whole, and the server name in it.
type Whole = (Hello, Option<String>);

fn read(bytes: &[u8], size: usize) -> Option<Whole> {
    let mut hello = Hello::default();
    for piece in bytes.chunks(size) {
        let piece = piece.get(..hello.room()).unwrap_or(piece);
        hello.read.extend_from_slice(piece);
        assert!(hello.read.len() <= MAX_HELLO, "more is kept than may be");
        if let Some(accepted) = hello.look().ok()? {
            let name = accepted.client_hello().server_name().map(str::to_owned);
            return Some((hello, name));
        }
    }
    None
}
