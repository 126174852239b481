//! What a proxy is told about itself: trust domain, traces, access log and, standalone, where it listens for callers.
//!
//! The same for services and gateways; only services say telemetry of their own.

use std::net::SocketAddr;

use weft_api::v1;
use weft_crds::mesh::OutboundPolicy;
use weft_crds::microservice::{AccessLog, Port, Protocol, Telemetry};

use super::resource::Body;
use crate::instances::Role;
use crate::world::{InstanceRef, Name, World};

/// The Proxy resource of an instance.
pub fn of(world: &World, instance: &InstanceRef) -> Body {
    let mesh = world.mesh();
    let is_bare = world.instance(instance).is_some_and(|instance| instance.role == Role::Bare);
    let service = world.microservice(&instance.workload).filter(|_| !is_bare);
    let telemetry = Telemetry::effective(service.and_then(|service| service.spec.telemetry.as_ref()), mesh);
    let otlp = mesh.tracing.as_ref().and_then(|tracing| tracing.otlp.clone());
    Body::Proxy(v1::Proxy {
        trust_domain: mesh.trust_domain.clone(),
        service: instance.workload.to_string(),
        tracing: Some(v1::Tracing { otlp_endpoint: otlp.unwrap_or_default(), sampling: telemetry.sampling }),
        access_log: access_log(telemetry.access_log).into(),
        outbound: outbound(world, instance),
        outbound_policy: outbound_policy(mesh.outbound_policy).into(),
        redis_url: world.redis_url(),
        roots: world.trust().roots.clone(),
        roots_number: world.trust().number,
        trusted_hops: mesh.trusted_hops.into(),
        zone: world.instance(instance).map(|instance| instance.zone.clone()).unwrap_or_default(),
    })
}

fn outbound(world: &World, instance: &InstanceRef) -> Vec<v1::OutboundListener> {
    let addresses = world.instance(instance).map(|instance| &instance.outbound);
    let listener = |(destination, address): (&String, &SocketAddr)| v1::OutboundListener {
        listen: address.to_string(),
        destination: destination.clone(),
        protocol: world
            .destination(destination)
            .map_or(v1::Protocol::Unspecified, |(service, _, port)| protocol(world, &service, port))
            .into(),
    };
    addresses.into_iter().flatten().map(listener).collect()
}

/// What is spoken on a port; what is not said is detected.
pub(super) fn protocol(world: &World, service: &Name, port: &Port) -> v1::Protocol {
    match world.protocol(service, port) {
        Some(Protocol::Http) => v1::Protocol::Http,
        Some(Protocol::Http2) => v1::Protocol::Http2,
        Some(Protocol::Grpc) => v1::Protocol::Grpc,
        Some(Protocol::Tcp) => v1::Protocol::Tcp,
        None => v1::Protocol::Unspecified,
    }
}

fn access_log(log: AccessLog) -> v1::AccessLog {
    match log {
        AccessLog::Off => v1::AccessLog::Off,
        AccessLog::Errors => v1::AccessLog::Errors,
        AccessLog::All => v1::AccessLog::All,
    }
}

fn outbound_policy(policy: OutboundPolicy) -> v1::OutboundPolicy {
    match policy {
        OutboundPolicy::Allow => v1::OutboundPolicy::Allow,
        OutboundPolicy::RegistryOnly => v1::OutboundPolicy::RegistryOnly,
    }
}
