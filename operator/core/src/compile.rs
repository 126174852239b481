//! From the world to what each proxy gets.
//!
//! [`own`] is what concerns a proxy itself: its Proxy, its Inbound or Gateway, the keys and, at a gateway, everything
//! its routes lead to. [`destination`] is what it needs to call one port of one service, [`address`] says which one an
//! address means. All are pure: the same world
//! gives the same resources with the same versions, so that only what differs is sent. Which world change makes which
//! of them differ says [`crate::world::Affected`]; what is wrong with the world says [`crate::validate`].

pub mod address;
pub mod attach;
pub mod authentication;
pub mod authorization;
pub mod destination;
pub mod endpoints;
pub mod gateway;
pub mod inbound;
pub mod keys;
pub mod proxy;
pub mod resource;
pub mod routes;

use weft_api::v1;

use crate::instances::Role;
use crate::world::{InstanceRef, World};
pub use keys::{KeysSource, keys_wanted};
use resource::{Body, Set};

/// What concerns the proxy of an instance itself; nothing where its service or gateway is not known.
pub fn own(world: &World, instance: &InstanceRef) -> Vec<v1::Resource> {
    let mut set = Set::default();
    match role(world, instance) {
        Some(Role::Service) => service(world, instance, &mut set),
        Some(Role::Bare) => {
            set.add(resource::SELF, proxy::of(world, instance));
            set.add(resource::SELF, inbound::bare(world, instance));
        }
        Some(Role::Gateway) => gateway_itself(world, instance, &mut set),
        None => {}
    }
    set.into_resources()
}

/// What a caller needs for a destination; nothing where it is not known.
pub fn destination(world: &World, name: &str) -> Vec<v1::Resource> {
    let mut set = Set::default();
    if call(world, name, &mut set) {
        let routes = routes::of_destination(world, name);
        for backend in routes::destinations(&routes) {
            call(world, &backend, &mut set);
        }
        set.add(name, Body::Routes(routes));
    }
    set.into_resources()
}

/// Where an address leads; said of every address, also where nobody knows it.
pub fn address(world: &World, name: &str) -> v1::Resource {
    address::of(world, name)
}

fn service(world: &World, instance: &InstanceRef, set: &mut Set) {
    let Some(service) = world.microservice(&instance.workload) else { return };
    set.add(resource::SELF, proxy::of(world, instance));
    set.add(resource::SELF, inbound::of(world, instance, service));
    keys::of(world, &instance.workload, set);
}

fn gateway_itself(world: &World, instance: &InstanceRef, set: &mut Set) {
    let Some(gateway) = world.gateway(&instance.workload) else { return };
    set.add(resource::SELF, proxy::of(world, instance));
    let (compiled, all_routes) = gateway::of(world, instance, gateway);
    set.add(resource::SELF, compiled);
    for (name, routes) in all_routes {
        for backend in routes::destinations(&routes) {
            call(world, &backend, set);
            if let Some((service, ..)) = world.destination(&backend) {
                keys::of(world, &service, set);
            }
        }
        set.add(&name, Body::Routes(routes));
    }
}

/// How to call a destination and where it is. Its own routes are not part of it: they count for who calls it by name.
fn call(world: &World, name: &str, set: &mut Set) -> bool {
    let Some((workload, service, port)) = world.destination(name) else { return false };
    set.add(name, destination::of(world, &workload, service, port));
    set.add(name, endpoints::of(world, &workload, service, port));
    true
}

/// What an instance runs: as it is known, else what there is under its name.
fn role(world: &World, instance: &InstanceRef) -> Option<Role> {
    let known = world.instance(instance).map(|instance| instance.role);
    let service = world.microservice(&instance.workload).map(|_| Role::Service);
    known.or(service).or(world.gateway(&instance.workload).map(|_| Role::Gateway))
}
