//! The status of an `HTTPRoute`, `GRPCRoute` or `TLSRoute`: one report for each parent that is ours.
//!
//! Parents that are not in the world may belong to another controller, so nothing is said of them, and what others said
//! stays as it is.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use weft_crds::gateway_class::CONTROLLER;
use weft_crds::gateway_meta::{ParentReference, RouteParentStatus, RouteStatus};

use super::Status;
use super::condition::{Conditions, Verdict, unknown_fields};
use crate::compile::attach::{self, Refusal};
use crate::compile::routes;
use crate::world::lookup::Backend;
use crate::world::{Name, ObjectKind, ObjectRef, RouteView, World};

pub(super) fn of(world: &World, reference: &ObjectRef, now: i64) -> Option<RouteStatus> {
    let route = world.route(reference)?;
    let old = match world.statuses.get(reference) {
        Some(Status::Route(old)) => old.parents.as_slice(),
        _ => &[],
    };
    let generation = world.generation(reference);
    let mut parents: Vec<RouteParentStatus> =
        old.iter().filter(|parent| parent.controller_name != CONTROLLER).cloned().collect();
    for parent in route.parents().iter().filter(|parent| is_known(world, route, parent)) {
        let before = old.iter().find(|old| old.controller_name == CONTROLLER && old.parent_ref == *parent);
        let old = before.map(|before| before.conditions.as_slice()).unwrap_or_default();
        parents.push(RouteParentStatus {
            parent_ref: parent.clone(),
            controller_name: CONTROLLER.to_owned(),
            conditions: conditions(world, route, parent, Conditions { old, generation, now }),
        });
    }
    Some(RouteStatus { parents })
}

fn is_known(world: &World, route: RouteView<'_>, parent: &ParentReference) -> bool {
    let name = Name::new(parent.namespace_or(&route.name().namespace), &parent.name);
    (parent.is_gateway() && world.gateway(&name).is_some())
        || (parent.is_service() && world.microservice(&name).is_some())
}

fn conditions(
    world: &World,
    route: RouteView<'_>,
    parent: &ParentReference,
    make: Conditions<'_>,
) -> Vec<Condition> {
    let attached = attach::to_parent(world, parent, route);
    let rules = routes::rules(world, route);
    let unsupported: Vec<String> = rules
        .iter()
        .enumerate()
        .flat_map(|(at, rule)| {
            rule.unsupported.iter().map(move |part| format!("rules[{at}].{}: {}", part.field, part.message))
        })
        .collect();
    let usable = rules.iter().any(|rule| rule.unsupported.is_empty());
    let accepted = match attached {
        Err(refusal) => Verdict::no(reason(refusal), message(refusal, route)),
        Ok(()) if !unsupported.is_empty() && !usable => {
            Verdict::no("UnsupportedValue", unsupported.join(" | "))
        }
        Ok(()) => Verdict::yes("Accepted", ""),
    };
    let mut conditions = Vec::new();
    let partly = accepted.holds() && !unsupported.is_empty();
    conditions.push(make.make("Accepted", accepted));
    conditions.push(make.make("ResolvedRefs", resolved(world, route)));
    if partly {
        conditions
            .push(make.make("PartiallyInvalid", Verdict::yes("UnsupportedValue", unsupported.join(" | "))));
    }
    let unknown = unknown_fields(&route.unknown_fields());
    conditions.extend(unknown.map(|verdict| make.make("weft.dev/UnknownFields", verdict)));
    conditions
}

/// The first reference that leads nowhere gives the reason.
fn resolved(world: &World, route: RouteView<'_>) -> Verdict {
    for (path, reference) in route.backends() {
        let reason = match world.backend(route, reference) {
            Backend::Destination(_) => continue,
            Backend::InvalidKind => "InvalidKind",
            Backend::NotFound => "BackendNotFound",
            Backend::NotPermitted => "RefNotPermitted",
        };
        let service = Name::new(reference.namespace_or(&route.name().namespace), &reference.name);
        let port = reference.port.map(|port| format!(":{port}")).unwrap_or_default();
        return Verdict::no(reason, format!("{path}: {service}{port}"));
    }
    Verdict::yes("ResolvedRefs", "")
}

fn reason(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::NoMatchingParent => "NoMatchingParent",
        Refusal::NotAllowedByListeners => "NotAllowedByListeners",
        Refusal::NoMatchingListenerHostname => "NoMatchingListenerHostname",
        Refusal::OtherNamespace => "OtherNamespace",
        Refusal::InvalidKind => "InvalidKind",
    }
}

fn message(refusal: Refusal, route: RouteView<'_>) -> &'static str {
    match refusal {
        Refusal::InvalidKind if route.kind() == ObjectKind::TlsRoute => "parents are Gateways",
        Refusal::NoMatchingParent => "no listener or port fits sectionName and port",
        Refusal::NotAllowedByListeners => "no listener takes routes of this kind from this namespace",
        Refusal::NoMatchingListenerHostname => "no listener has a hostname in common with it",
        Refusal::OtherNamespace => "only routes of the Service's own namespace route its requests",
        Refusal::InvalidKind => "parents are Gateways and Services",
    }
}
