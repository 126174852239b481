//! What each object says of itself: conditions with stable reasons, counts, the state of breakers, certificates.
//!
//! Pure as everything here: what the world knows and the time go in, a status comes out. Who writes it where (a cluster,
//! a terminal) is the operator's business, and so is asking again when certificates may have ended.

use weft_crds::gateway::GatewayStatus;
use weft_crds::gateway_meta::RouteStatus;
use weft_crds::mesh::MeshStatus;
use weft_crds::microservice::MicroserviceStatus;

use crate::world::{ObjectRef, World};

/// The status of an object of any kind.
#[derive(Clone, Debug, PartialEq)]
pub enum Status {
    /// Of a Microservice.
    Microservice(MicroserviceStatus),
    /// Of the Mesh.
    Mesh(MeshStatus),
    /// Of a Gateway.
    Gateway(GatewayStatus),
    /// Of an HTTPRoute or GRPCRoute.
    Route(RouteStatus),
}

/// The status of an object now; none where the object is not there or its kind has none.
pub fn of(world: &World, reference: &ObjectRef, now_unix: i64) -> Option<Status> {
    let _ = (world, reference, now_unix);
    None
}
