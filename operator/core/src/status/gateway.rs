//! The status of a Gateway and of each of its listeners, in the words of the Gateway API.

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use weft_crds::GATEWAY_GROUP;
use weft_crds::gateway::{Gateway, GatewayAddress, GatewayStatus, Listener, ListenerStatus, RouteKind};

use super::Status;
use super::condition::{Conditions, Verdict, accepted, unknown_fields};
use crate::compile::attach::{at_listener, kinds_of};
use crate::compile::gateway::{Unserved, serve};
use crate::instances::{Instance, Role};
use crate::validate::{self, Severity};
use crate::world::service::Service;
use crate::world::{Name, ObjectKind, ObjectRef, World};

pub(super) fn of(world: &World, reference: &ObjectRef, now: i64) -> Option<GatewayStatus> {
    let name = &reference.name;
    let gateway = world.gateway(name)?;
    let old = match world.statuses.get(reference) {
        Some(Status::Gateway(old)) => Some(old),
        _ => None,
    };
    let generation = world.generation(reference);
    let conditions = old.map(|old| old.conditions.as_slice()).unwrap_or_default();
    let make = Conditions { old: conditions, generation, now };
    let addresses = addresses(world, name);
    let unknown = unknown_fields(&gateway.unknown_fields());
    let mut conditions = vec![
        make.make("Accepted", accepts(world, reference, gateway)),
        make.make("Programmed", programmed(world, reference, &addresses)),
    ];
    conditions.extend(unknown.map(|verdict| make.make("weft.dev/UnknownFields", verdict)));
    let listeners = gateway.spec.listeners.iter().map(|listener| {
        let before =
            old.into_iter().flat_map(|old| &old.listeners).find(|before| before.name == listener.name);
        let make =
            Conditions { old: before.map(|before| before.conditions.as_slice()).unwrap_or_default(), ..make };
        listener_status(world, (name, gateway), listener, make)
    });
    Some(GatewayStatus { addresses, conditions, listeners: listeners.collect() })
}

fn accepts(world: &World, reference: &ObjectRef, gateway: &Gateway) -> Verdict {
    let unserved = |listener: &&Listener| serve(world, (&reference.name, gateway), listener).is_err();
    let bad: Vec<&str> =
        gateway.spec.listeners.iter().filter(unserved).map(|listener| listener.name.as_str()).collect();
    if bad.is_empty() {
        let mut problems = validate::object(world, reference);
        problems.retain(|problem| problem.severity == Severity::Error);
        return accepted(&problems);
    }
    let message = format!("left out: {}; their conditions say why", bad.join(", "));
    if bad.len() == gateway.spec.listeners.len() {
        Verdict::no("ListenersNotValid", message)
    } else {
        Verdict::yes("ListenersNotValid", message)
    }
}

fn addresses(world: &World, name: &Name) -> Vec<GatewayAddress> {
    let address = |value: String| {
        let is_ip = value.parse::<IpAddr>().is_ok();
        GatewayAddress { type_: Some(if is_ip { "IPAddress" } else { "Hostname" }.to_owned()), value }
    };
    if world.is_in_cluster() {
        let of_service = |service: &Service| {
            let own = || service.addresses.iter().map(ToString::to_string).collect();
            if service.balanced { service.ingress.clone() } else { own() }
        };
        return world
            .services
            .get(name)
            .map(of_service)
            .unwrap_or_default()
            .into_iter()
            .map(address)
            .collect();
    }
    let ready = world.instances_of(name).filter(|instance| serves(instance));
    let addresses: BTreeSet<String> = ready
        .flat_map(|instance| {
            let bound: BTreeSet<String> =
                instance.listeners.values().map(|address| address.ip().to_string()).collect();
            if bound.is_empty() { BTreeSet::from([instance.address.to_string()]) } else { bound }
        })
        .collect();
    addresses.into_iter().map(address).collect()
}

fn serves(instance: &Instance) -> bool {
    instance.ready && instance.role == Role::Gateway
}

fn programmed(world: &World, reference: &ObjectRef, addresses: &[GatewayAddress]) -> Verdict {
    if let Some(Some(obstacle)) = world.applied.get(reference) {
        Verdict::no(&obstacle.reason, obstacle.to_string())
    } else if !world.instances_of(&reference.name).any(serves) {
        Verdict::no("AddressNotAssigned", "no instance of the gateway is ready")
    } else if addresses.is_empty() {
        Verdict::no("AddressNotAssigned", "the load balancer of its Service has no address yet")
    } else {
        Verdict::yes("Programmed", "")
    }
}

fn listener_status(
    world: &World,
    gateway: (&Name, &Gateway),
    listener: &Listener,
    make: Conditions<'_>,
) -> ListenerStatus {
    let served = serve(world, gateway, listener);
    let attached = at_listener(world, gateway, listener).len();
    ListenerStatus {
        name: listener.name.clone(),
        supported_kinds: supported_kinds(listener),
        attached_routes: i32::try_from(attached).unwrap_or(i32::MAX),
        conditions: listener_conditions(listener, served.as_ref().err(), make),
    }
}

fn listener_conditions(
    listener: &Listener,
    wrong: Option<&Unserved>,
    make: Conditions<'_>,
) -> Vec<Condition> {
    let accepted = match wrong {
        Some(Unserved::Protocol(message)) => Verdict::no("UnsupportedProtocol", message.clone()),
        Some(Unserved::Conflict { reason, message }) => Verdict::no(reason, message.clone()),
        _ => Verdict::yes("Accepted", ""),
    };
    let unknown_kinds = unknown_kinds(listener);
    let resolved = match wrong {
        Some(Unserved::Certificate { reason, message }) => Verdict::no(reason, message.clone()),
        _ if !unknown_kinds.is_empty() => {
            Verdict::no("InvalidRouteKinds", format!("not served: {}", unknown_kinds.join(", ")))
        }
        _ => Verdict::yes("ResolvedRefs", ""),
    };
    let conflicted = match wrong {
        Some(Unserved::Conflict { reason, message }) => Verdict::yes(reason, message.clone()),
        _ => Verdict::no("NoConflicts", ""),
    };
    let programmed = match wrong {
        Some(_) => Verdict::no("Invalid", "the listener is left out"),
        None => Verdict::yes("Programmed", ""),
    };
    vec![
        make.make("Accepted", accepted),
        make.make("ResolvedRefs", resolved),
        make.make("Conflicted", conflicted),
        make.make("Programmed", programmed),
    ]
}

fn is_taken(listener: &Listener, kind: &RouteKind) -> bool {
    kind.group.as_deref().unwrap_or(GATEWAY_GROUP) == GATEWAY_GROUP
        && kinds_of(listener).iter().any(|taken| taken.as_str() == kind.kind)
}

fn asked_kinds(listener: &Listener) -> &[RouteKind] {
    listener.allowed_routes.as_ref().map(|allowed| allowed.kinds.as_slice()).unwrap_or_default()
}

fn unknown_kinds(listener: &Listener) -> Vec<String> {
    let unknown = asked_kinds(listener).iter().filter(|kind| !is_taken(listener, kind));
    unknown.map(|kind| kind.kind.clone()).collect()
}

fn supported_kinds(listener: &Listener) -> Vec<RouteKind> {
    let asked = asked_kinds(listener);
    if !asked.is_empty() {
        return asked.iter().filter(|kind| is_taken(listener, kind)).cloned().collect();
    }
    let kind = |kind: &ObjectKind| RouteKind {
        group: Some(GATEWAY_GROUP.to_owned()),
        kind: kind.as_str().to_owned(),
    };
    kinds_of(listener).iter().map(kind).collect()
}
