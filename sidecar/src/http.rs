//! HTTP under the two paths: hyper's glue, bodies, header hygiene, the way a request is entered and a refusal answered.
//! Leaves out every decision about a request: those are policies.

pub mod answer;
pub mod body;
pub mod carried;
pub mod deadline;
pub mod early;
pub mod enter;
pub mod exchange;
pub mod exec;
pub mod h2;
pub mod headers;
pub mod limited;
pub mod received;
pub mod replay;
pub mod serve;
pub mod upgrade;
