//! gRPC reflection: a service tells tools such as grpcurl which messages it understands.
//! Each service shows the protos of its own package and what they are made of, and the standard health service.

use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::service::Routes;
use tonic_reflection::server::{Builder, Error};

use crate::pb;

/// Adds reflection to the gRPC API of a service, in both versions that tools ask for.
pub fn add(routes: Routes, service: &str) -> Result<Routes, Error> {
    let package = format!("shop.{service}.");
    let mut protos = FileDescriptorSet::decode(pb::DESCRIPTORS)?;
    protos.file.retain(|file| !file.package().starts_with("shop.") || file.package().starts_with(&package));
    let builder = || {
        Builder::configure()
            .register_file_descriptor_set(protos.clone())
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    Ok(routes.add_service(builder().build_v1()?).add_service(builder().build_v1alpha()?))
}
