//! What is wrong with a Microservice because of others: who else claims its pods or name, whom its rules name, where its
//! keys come from.

use std::collections::BTreeMap;

use weft_crds::microservice::{Jwks, Microservice, Scope};

use super::Found;
use crate::world::lookup::{self, Uri, forbidden_host, jwks_of, service_of_host};
use crate::world::{Name, World, affected};

/// Checks one Microservice.
pub(super) fn check(world: &World, name: &Name, found: &mut Found) {
    let Some(service) = world.microservice(name) else { return };
    rivals(world, name, service, found);
    front(world, name, service, found);
    callers(world, name, service, found);
    for (at, jwks) in jwks_of(service).enumerate() {
        keys(world, name, (&format!("spec.authentication.jwt[{at}].jwks"), jwks), found);
    }
    let no_redis = world.mesh().redis.is_none();
    for (at, _) in service
        .spec
        .rate_limits
        .iter()
        .enumerate()
        .filter(|(_, limit)| no_redis && limit.scope == Scope::Global)
    {
        found.error(
            format!("spec.rateLimits[{at}].scope"),
            "Global needs a Redis, and the Mesh names none",
            "set spec.redis of the Mesh, or scope: Local",
        );
    }
}

/// Whether two selectors can mean the same pods as far as their labels tell: one asks for all that the other does.
pub(crate) fn overlap(one: &Microservice, other: &Microservice) -> bool {
    let (one, other) = (one.pod_selector(), other.pod_selector());
    let within = |inner: &BTreeMap<String, String>, outer: &BTreeMap<String, String>| {
        inner.iter().all(|(label, value)| outer.get(label) == Some(value))
    };
    within(&one, &other) || within(&other, &one)
}

/// Of two that clash the later one by name is told.
fn rivals(world: &World, name: &Name, service: &Microservice, found: &mut Found) {
    for rival in affected::rivals(world, name, service).filter(|rival| *rival < name) {
        found.error(
            "spec.selector",
            format!("selects the same pods as Microservice {rival}"),
            "give one of them a selector of its own, or make them one Microservice with two ports",
        );
    }
    if world.gateway(name).is_some() {
        found.error(
            "metadata.name",
            format!("Gateway {name} has the same name, and both would act with one identity"),
            "rename one of them",
        );
    }
}

/// A service that others run is found by a Service of its name. What is rendered brings its own.
fn front(world: &World, name: &Name, service: &Microservice, found: &mut Found) {
    if !world.is_in_cluster() || service.spec.workload.is_some() {
        return;
    }
    match world.service(name) {
        None => found.warning(
            "spec.selector",
            format!("there is no Service {name}, by which the pods would be found"),
            "create a Service of that name for them; until then nobody can call them",
        ),
        Some(front) if !front.selector.is_empty() && !front.stands_for(service) => found.warning(
            "spec.selector",
            format!("Service {name} selects other pods"),
            "give both the same labels; what the Service selects is called, what the Microservice selects is told how to act",
        ),
        Some(_) => {}
    }
}

fn callers(world: &World, name: &Name, service: &Microservice, found: &mut Found) {
    let rules = service.spec.authorization.as_ref().map(|authorization| authorization.rules.as_slice());
    for (at, rule) in rules.unwrap_or_default().iter().enumerate() {
        let path = format!("spec.authorization.rules[{at}]");
        for (place, text) in rule.from.services.iter().enumerate() {
            if world.callers(text, &name.namespace).is_empty() {
                let caller = Name::relative(text, &name.namespace);
                found.warning(
                    format!("{path}.from.services[{place}]"),
                    format!("there is no Microservice or Gateway {caller}"),
                    "correct the name, write namespace/name for another namespace, or add it; until then the rule means the service account so called",
                );
            }
        }
        for (place, port) in rule.to.ports.iter().enumerate() {
            if !service.spec.ports.iter().any(|known| known.target() == *port) {
                found.warning(
                    format!("{path}.to.ports[{place}]"),
                    format!("{port} is the targetPort of no port"),
                    "name a targetPort of spec.ports",
                );
            }
        }
    }
}

fn keys(world: &World, name: &Name, jwks: (&str, &Jwks), found: &mut Found) {
    let (path, jwks) = jwks;
    if let Some(reference) = &jwks.secret_ref {
        let secret = Name::new(&name.namespace, &reference.name);
        if world.secret_text(&secret, &reference.key).is_none() {
            let may_read = " and let the operator read it (RoleBinding to ClusterRole weft-secret-reader)";
            let may_read = if world.is_in_cluster() { may_read } else { "" };
            found.warning(
                format!("{path}.secretRef"),
                format!("Secret {secret} is not there or has no key `{}`", reference.key),
                format!("create the Secret{may_read}, or correct name and key; until then requests that need a token get 503"),
            );
        }
    }
    if let Some(uri) = &jwks.uri {
        address(world, &format!("{path}.uri"), uri, found);
    }
}

fn address(world: &World, path: &str, text: &str, found: &mut Found) {
    let Some(uri) = Uri::parse(text) else {
        found.error(
            path,
            format!("`{text}` is no http or https address"),
            "write http://host/path or https://host/path",
        );
        return;
    };
    if uri.credentials {
        found.error(
            path,
            "the address holds a user name",
            "key sets are public; write the address without it",
        );
    }
    if forbidden_host(uri.host) {
        found.error(
            path,
            format!("`{}` is a link-local or metadata address, from which nothing is fetched", uri.host),
            "name the issuer's public address or a service of the mesh",
        );
    }
    if lookup::is_inside(uri.host) && world.destination_at(uri.host, uri.port).is_none() {
        let service = service_of_host(uri.host).map(|service| service.to_string()).unwrap_or_default();
        found.warning(
            path,
            format!("there is no Microservice {service} with the port {}", uri.port),
            "correct the address; a service outside the mesh is asked without mutual TLS",
        );
    }
}
