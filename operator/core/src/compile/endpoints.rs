//! Where a destination is: its instances that are to get traffic.
//!
//! An instance without proxy would take plain text from anyone, so where mutual TLS is strict it is no endpoint.

use weft_api::v1;
use weft_crds::microservice::{Microservice, MtlsMode, Port};

use super::resource::Body;
use crate::instances::{Instance, Role};
use crate::world::{Name, World};

/// The Endpoints resource of a destination, by instance name.
pub fn of(world: &World, workload: &Name, service: &Microservice, port: &Port) -> Body {
    let strict = world.mtls_mode(service) == MtlsMode::Strict;
    let serves = |instance: &&Instance| {
        instance.role == Role::Service && instance.ready && (instance.meshed || !strict)
    };
    let endpoint = |instance: &Instance| {
        let addresses = instance.ports.get(&port.name)?;
        Some(v1::Endpoint {
            address: addresses.peers.to_string(),
            instance: instance.name.clone(),
            meshed: instance.meshed,
            zone: instance.zone.clone(),
            for_zones: instance.for_zones.clone(),
            weight: 0,
        })
    };
    let endpoints = world.instances_of(workload).filter(serves).filter_map(endpoint).collect();
    Body::Endpoints(v1::Endpoints { endpoints })
}
