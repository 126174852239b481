//! Instances that get in each other's way: standalone two of them may be told to listen on one address.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use super::{Problem, Severity};
use crate::instances::{Instance, Role};
use crate::world::{Name, ObjectKind, ObjectRef, World};

/// Every address that is taken twice.
pub(super) fn check(world: &World) -> Vec<Problem> {
    let mut taken: BTreeMap<SocketAddr, (&Instance, String)> = BTreeMap::new();
    let mut problems = Vec::new();
    for instance in world.instances() {
        for (address, what) in listens(instance) {
            if let Some((other, for_what)) = taken.get(&address) {
                problems.push(clash(instance, &what, address, &format!("{} {for_what}", other.name)));
            } else {
                taken.insert(address, (instance, what));
            }
        }
    }
    problems
}

/// Every address that an instance or its proxy binds, with what for. In a cluster each pod has its own, and the proxy's
/// is the application's.
fn listens(instance: &Instance) -> Vec<(SocketAddr, String)> {
    let mut bound = Vec::new();
    for (port, addresses) in &instance.ports {
        bound.push((addresses.app, format!("for its port {port}")));
        if addresses.peers != addresses.app {
            bound.push((addresses.peers, format!("for peers of its port {port}")));
        }
    }
    let outbound = instance.outbound.iter().map(|(to, address)| (*address, format!("for calls to {to}")));
    let listeners =
        instance.listeners.iter().map(|(name, address)| (*address, format!("for its listener {name}")));
    bound.extend(outbound.chain(listeners));
    bound
}

fn clash(instance: &Instance, what: &str, address: SocketAddr, other: &str) -> Problem {
    let kind = match instance.role {
        Role::Service | Role::Bare => ObjectKind::Microservice,
        Role::Gateway => ObjectKind::Gateway,
    };
    Problem {
        severity: Severity::Error,
        object: ObjectRef::new(kind, Name::new(&instance.namespace, &instance.service)),
        field: String::new(),
        message: format!("{} would listen on {address} {what}, where {other} listens", instance.name),
        remedy: "give one of them another port or address".to_owned(),
    }
}
