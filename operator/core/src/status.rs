//! What each object says of itself: conditions with stable reasons, counts, the state of breakers, certificates.
//!
//! Pure as everything here: what the world knows and the time go in, a status comes out. Who writes it where (a cluster,
//! a terminal) is the operator's business, and so is asking again when certificates may have ended. Transition times
//! are kept from the status that the world holds ([`World::keep_status`]).

pub mod condition;
pub mod gateway;
pub mod gateway_class;
pub mod mesh;
pub mod microservice;
pub mod route;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use weft_crds::gateway::GatewayStatus;
use weft_crds::gateway_class::GatewayClassStatus;
use weft_crds::gateway_meta::RouteStatus;
use weft_crds::mesh::MeshStatus;
use weft_crds::microservice::MicroserviceStatus;

use crate::world::{ObjectKind, ObjectRef, World};

/// The status of an object of any kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Status {
    /// Of a Microservice.
    Microservice(MicroserviceStatus),
    /// Of the Mesh.
    Mesh(MeshStatus),
    /// Of a Gateway.
    Gateway(GatewayStatus),
    /// Of an HTTPRoute, GRPCRoute or TLSRoute.
    Route(RouteStatus),
    /// Of a `GatewayClass`.
    GatewayClass(GatewayClassStatus),
}

impl Status {
    /// Conditions of the object itself; a route's are those of its first parent.
    pub fn conditions(&self) -> &[Condition] {
        match self {
            Self::Microservice(status) => &status.conditions,
            Self::Mesh(status) => &status.conditions,
            Self::Gateway(status) => &status.conditions,
            Self::GatewayClass(status) => &status.conditions,
            Self::Route(status) => {
                status.parents.first().map(|parent| parent.conditions.as_slice()).unwrap_or_default()
            }
        }
    }
}

/// The status of an object now; none where the object is not there or its kind has none.
pub fn of(world: &World, reference: &ObjectRef, now_unix: i64) -> Option<Status> {
    if !world.contains(reference) {
        return None;
    }
    match reference.kind {
        ObjectKind::Microservice => microservice::of(world, reference, now_unix).map(Status::Microservice),
        ObjectKind::Mesh => Some(Status::Mesh(mesh::of(world, reference, now_unix))),
        ObjectKind::Gateway => gateway::of(world, reference, now_unix).map(Status::Gateway),
        ObjectKind::HttpRoute | ObjectKind::GrpcRoute | ObjectKind::TlsRoute => {
            route::of(world, reference, now_unix).map(Status::Route)
        }
        ObjectKind::GatewayClass => Some(Status::GatewayClass(gateway_class::of(world, reference, now_unix))),
        ObjectKind::ReferenceGrant | ObjectKind::Secret | ObjectKind::Service | ObjectKind::Namespace => None,
    }
}

#[cfg(test)]
mod tests;
