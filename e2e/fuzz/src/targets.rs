//! What is fuzzed: each target feeds what comes from outside (bytes of clients, of peers, of the operator, files) into the
//! code that must survive it, and checks what must hold whatever comes. A file per target, with seeds in
//! `corpus/<target>`.

mod input;

pub mod client_hello;
pub mod config_delta;
pub mod detection;
pub mod filters;
pub mod flood;
pub mod headers;
pub mod http1;
pub mod http1_chunked;
pub mod http1_head;
pub mod jwt;
pub mod manifest;
pub mod path;
pub mod route;
pub mod spiffe;
pub mod tap;
pub mod trace;
pub mod transport;
pub mod weft1_frame;
pub mod weft1_head;

/// A target takes any bytes and panics when something does not hold.
pub type Target = fn(&[u8]);

/// All of them, by name.
pub const ALL: &[(&str, Target)] = &[
    ("client_hello", client_hello::run),
    ("config_delta", config_delta::run),
    ("detection", detection::run),
    ("filters", filters::run),
    ("flood", flood::run),
    ("headers", headers::run),
    ("http1", http1::run),
    ("http1_chunked", http1_chunked::run),
    ("http1_head", http1_head::run),
    ("jwt", jwt::run),
    ("manifest", manifest::run),
    ("path", path::run),
    ("route", route::run),
    ("spiffe", spiffe::run),
    ("tap", tap::run),
    ("trace", trace::run),
    ("transport", transport::run),
    ("weft1_frame", weft1_frame::run),
    ("weft1_head", weft1_head::run),
];
