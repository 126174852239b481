//! The JSON API, the way into a WebSocket, and the page.

pub mod guest;
pub mod http;
pub mod page;
