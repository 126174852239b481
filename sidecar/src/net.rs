//! Sockets and threads under the two paths: listeners, workers, streams, and the watch over accepted connections.
//! Leaves out every protocol above TCP except the boundaries of HTTP/1.1 heads (`scan`).

pub mod connections;
pub mod copy;
pub mod listen;
pub mod pump;
pub mod redirect;
pub mod scan;
pub mod stream;
pub mod worker;
