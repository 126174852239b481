//! The way back for answers before the final one (1xx other than 100 and 101, RFC 9110, section 15.2): 103 with its links
//! reaches the client while the application still works. A client of HTTP/1.0 is told nothing. Neither is one of HTTP/2:
//! hyper has no way to send such an answer, and none to see one that came.

use http::{HeaderMap, StatusCode};
use weft_api::names::HEADER_REASON;

use super::headers::strip_answer;
use crate::net::stream::Stream;

/// Where a request came from, to be told of answers before the final one.
#[derive(Clone, Debug)]
pub enum Early {
    /// A client of HTTP/1.1.
    Http1(weft_http1::server::Handle<Stream>),
    /// Another proxy.
    Weft(weft_transport::Informer),
}

/// Tells of an answer before the final one, if there is somebody to tell.
pub fn tell(early: Option<&Early>, status: StatusCode, mut headers: HeaderMap) {
    strip_answer(&mut headers);
    headers.remove(HEADER_REASON);
    match early {
        Some(Early::Http1(handle)) => handle.inform(status, &headers),
        Some(Early::Weft(informer)) => informer.inform(status, &headers),
        None => {}
    }
}
