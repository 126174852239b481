//! Applications behind the sidecars: real servers on loopback that say what reached them and fail when told to.

pub mod grpc;
pub mod http;
pub mod raw;
pub mod tcp;
pub mod tls;
pub mod websocket;
