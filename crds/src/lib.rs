//! Custom resources of Weft, and tolerant types of the Gateway API objects it reads.
//!
//! One kind per file. Types are what people write; `effective` functions give what is in force. [`manifest`] reads
//! YAML of all kinds with positions, [`validate`] says in Rust what the schemas say to the API server.
//! There is no IO here: who reads files or talks to a cluster passes text and objects in.

pub mod defaults;
pub mod duration;
pub mod field_path;
pub mod gateway;
pub mod gateway_class;
pub mod gateway_meta;
pub mod grpc_route;
pub mod http_route;
pub mod manifest;
pub mod mesh;
pub mod microservice;
pub mod nearest;
pub mod reference_grant;
pub mod rules;
pub mod schema;
mod schema_check;
pub mod size;
pub mod tls_route;
pub mod validate;

pub use duration::Duration;
pub use field_path::FieldPath;
pub use mesh::{Mesh, MeshSpec, MeshStatus};
pub use microservice::{Microservice, MicroserviceSpec, MicroserviceStatus};
pub use size::Size;
pub use validate::{Violation, validate, validate_mesh};

/// API group of our kinds.
pub const GROUP: &str = "weft.dev";
/// Version of our kinds.
pub const VERSION: &str = "v1alpha1";
/// API group of the Gateway API.
pub const GATEWAY_GROUP: &str = "gateway.networking.k8s.io";
