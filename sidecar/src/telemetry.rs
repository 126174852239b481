//! What the proxy tells about the traffic: metrics, traces, the access log.

pub mod trace;
