//! What is wrong with a route because of what it points to: parents that do not take it, backends that are not there.

use super::Found;
use crate::compile::attach::{self, Refusal};
use crate::compile::routes;
use crate::world::lookup::Backend;
use crate::world::{Name, ObjectKind, ObjectRef, RouteView, World};

/// Checks one route.
pub(super) fn check(world: &World, reference: &ObjectRef, found: &mut Found) {
    let Some(route) = world.route(reference) else { return };
    parents(world, route, found);
    let lost = match route.kind() {
        ObjectKind::TlsRoute => "its share of connections is closed",
        _ => "its share of requests gets 500",
    };
    for (path, reference) in route.backends() {
        let service = Name::new(reference.namespace_or(&route.name().namespace), &reference.name);
        match world.backend(route, reference) {
            Backend::Destination(_) => {}
            Backend::InvalidKind => found.warning(
                path,
                format!("`{}` is not a Service", reference.kind.as_deref().unwrap_or_default()),
                format!("point to a Service; until then {lost}"),
            ),
            Backend::NotFound => {
                let port = reference.port.map_or_else(|| "(none given)".to_owned(), |port| port.to_string());
                found.warning(
                    path,
                    format!("there is no Microservice {service} with the port {port}"),
                    format!("correct name and port, or add the service; until then {lost}"),
                );
            }
            Backend::NotPermitted => found.warning(
                path,
                format!("no ReferenceGrant in {} lets it point to {service}", service.namespace),
                format!("add a ReferenceGrant there; until then {lost}"),
            ),
        }
    }
    for (at, rule) in routes::rules(world, route).iter().enumerate() {
        for unsupported in &rule.unsupported {
            found.warning(
                format!("spec.rules[{at}].{}", unsupported.field),
                unsupported.message.clone(),
                "correct it; a match that is not understood takes nothing, a filter that is not done makes the rule answer 500",
            );
        }
    }
}

fn parents(world: &World, route: RouteView<'_>, found: &mut Found) {
    let own = route.name().namespace;
    for (at, parent) in route.parents().iter().enumerate() {
        let Err(refusal) = attach::to_parent(world, parent, route) else { continue };
        let name = Name::new(parent.namespace_or(&own), &parent.name);
        let kind = parent.kind.as_deref().unwrap_or("Gateway");
        let (message, remedy) = match refusal {
            Refusal::NoMatchingParent => (
                format!("there is no {kind} {name} with that listener or port"),
                "correct name, namespace, sectionName or port",
            ),
            Refusal::NotAllowedByListeners => (
                format!("{kind} {name} takes no routes of this kind from namespace {own}"),
                "set allowedRoutes of the listener",
            ),
            Refusal::NoMatchingListenerHostname => (
                format!("no listener of {kind} {name} has a hostname in common with it"),
                "correct hostnames here or hostname of the listener",
            ),
            Refusal::OtherNamespace => (
                format!("{kind} {name} is in another namespace, whose owner alone routes its requests"),
                "move the route to the namespace of the Service",
            ),
            Refusal::InvalidKind if route.kind() == ObjectKind::TlsRoute => {
                (format!("a {kind} takes no TLSRoutes"), "name a Gateway")
            }
            Refusal::InvalidKind => {
                (format!("a {kind} takes no routes"), "name a Gateway, or a Service with group: \"\"")
            }
        };
        found.warning(
            format!("spec.parentRefs[{at}]"),
            message,
            format!("{remedy}; until then the route takes nothing there"),
        );
    }
}
