//! Sockets and threads under the two paths: listeners, workers, streams, and the watch over accepted connections.
//! Leaves out every protocol above TCP.

pub mod buffered;
pub mod connections;
pub mod copy;
pub mod flood;
pub mod handshakes;
pub mod linger;
pub mod listen;
pub mod pump;
pub mod redirect;
pub mod stream;
pub mod worker;
