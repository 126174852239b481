//! `weft/1`: requests, upgraded connections and raw TCP of one worker, multiplexed over one mutual-TLS connection between
//! two proxies. `README.md` is its specification; this crate is both of its sides, for one thread (`Rc`, never `Send`) and
//! for any stream of bytes. A side is a future that reads, decodes and hands on what came, and writes everything that was
//! queued since in one go; requests, answers and bodies queue their frames and never touch the connection themselves.
//!
//! Leaves out TLS and who is at the other end, pools of connections, and what happens to a request.

mod body;
mod client;
mod code;
mod conn;
mod dispatch;
mod driver;
pub mod frame;
pub mod head;
mod informer;
mod limits;
mod meter;
mod names;
mod outbox;
mod pump;
mod server;
mod stream;
mod tunnel;

pub use body::Body;
pub use client::{Client, ClientConnection, Refused, SendError, connect};
pub use code::{Closed, Code, StreamError};
pub use driver::BUFFER;
pub use informer::Informer;
pub use limits::{Limits, Rate};
pub use server::{Handler, ServerConnection, serve};
pub use tunnel::{OnUpgrade, Tunnel};

/// Runs futures on this thread: the transport spawns a task per request served, and none per connection.
pub trait Spawn {
    /// Runs this future to its end.
    fn spawn<F: Future<Output = ()> + 'static>(&self, task: F);
}
