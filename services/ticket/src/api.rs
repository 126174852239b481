//! What the service says to others: JSON at the edge. Words only; `domain` does the work.

pub mod http;
