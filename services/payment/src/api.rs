//! What the service says to others: JSON at the edge, gRPC inside. Words only; `domain` does the work.

pub mod grpc;
pub mod http;
