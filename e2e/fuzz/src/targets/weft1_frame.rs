//! Frames of `weft/1`: a header that is taken is written back as it came, and so is a greeting.

use weft_transport::frame::{Header, Hello, Next};

/// The target.
pub fn run(data: &[u8]) {
    if let Ok(Next::Frame(header)) = Header::decode(data) {
        assert_eq!(header.encode().as_slice(), &data[..header.encode().len()]);
    }
    if let Ok(hello) = Hello::decode(data) {
        let mut out = Vec::new();
        hello.encode(&mut out);
        let header = out.len() - 18;
        assert_eq!(Hello::decode(&out[header..]), Ok(hello));
    }
}
