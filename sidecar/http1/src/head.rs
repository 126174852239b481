//! Heads: where one ends in the bytes that come (`scan`), what it says (`parse`), and how one is written (`print`).

pub mod parse;
pub mod print;
pub mod scan;

pub use parse::{AnswerHead, RequestHead, parse_answer, parse_request};
pub use print::{Asked, print_answer, print_request};
pub use scan::Scan;

/// Most header lines of a head, whatever the limits say.
pub const MAX_HEADERS: usize = 256;
