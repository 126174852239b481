//! The words of the service: what it is asked over HTTP. Over gRPC it only tells its health.

pub mod http;
