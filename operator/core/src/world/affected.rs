//! What a change touches: which workloads may compile differently, which destinations, whose status may change.
//!
//! Each function answers for one world; [`World::apply`] asks before and after the change and joins the answers. Too
//! much here costs work, too little is a stale proxy: the property test compares with compiling everything anew.

use std::collections::{BTreeMap, BTreeSet};

use weft_api::{names, v1};
use weft_crds::microservice::Microservice;

use super::World;
use super::address;
use super::index::labels;
use super::lookup::{accounts, jwks_of, key_hosts};
use super::object::{InstanceRef, Name, ObjectKind, ObjectRef};
use super::route::RouteView;
use crate::instances::{Instance, Role};
use crate::validate::microservice::overlap;

/// What may differ after a change. Everything else is the same.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Affected {
    /// Services and gateways whose own resources (`compile::own`) may differ.
    pub workloads: BTreeSet<Name>,
    /// Destinations whose resources (`compile::destination`) may differ.
    pub destinations: BTreeSet<String>,
    /// Addresses that may lead elsewhere (`compile::address`).
    pub addresses: BTreeSet<String>,
    /// Objects whose status (`status::of`) may differ.
    pub resources: BTreeSet<ObjectRef>,
}

impl Affected {
    /// Joins two answers.
    pub fn merge(&mut self, other: Self) {
        self.workloads.extend(other.workloads);
        self.destinations.extend(other.destinations);
        self.addresses.extend(other.addresses);
        self.resources.extend(other.resources);
    }

    /// Whether nothing differs.
    pub fn is_empty(&self) -> bool {
        let Self { workloads, destinations, addresses, resources } = self;
        workloads.is_empty() && destinations.is_empty() && addresses.is_empty() && resources.is_empty()
    }

    fn microservice(&mut self, name: Name) {
        self.resources.insert(ObjectRef::new(ObjectKind::Microservice, name));
    }

    fn gateway(&mut self, name: Name) {
        self.resources.insert(ObjectRef::new(ObjectKind::Gateway, name));
    }
}

/// What depends on an object in this world, whether or not it is in it.
pub(super) fn by_object(world: &World, reference: &ObjectRef) -> Affected {
    let mut affected = match reference.kind {
        ObjectKind::Microservice => by_microservice(world, &reference.name),
        ObjectKind::Mesh => everything(world),
        ObjectKind::Gateway => by_gateway(world, &reference.name),
        ObjectKind::HttpRoute | ObjectKind::GrpcRoute | ObjectKind::TlsRoute => {
            world.route(reference).map(|route| by_route(world, route)).unwrap_or_default()
        }
        ObjectKind::ReferenceGrant => by_grant(world, &reference.name.namespace),
        ObjectKind::Secret => return by_secret(world, &reference.name),
        ObjectKind::Service => return by_service(world, &reference.name),
        ObjectKind::Namespace => return by_namespace(world, &reference.name.name),
        ObjectKind::GatewayClass => Affected::default(),
    };
    affected.resources.insert(reference.clone());
    affected
}

pub(super) fn everything(world: &World) -> Affected {
    let workloads =
        world.microservices.keys().chain(world.gateways.keys()).chain(world.instances.keys()).cloned();
    // How an instance is spoken to follows from the mode of mutual TLS.
    let peers = world.instances().flat_map(|instance| instance.ports.values());
    Affected {
        workloads: workloads.collect(),
        destinations: world.destinations(),
        addresses: peers.map(|addresses| addresses.peers.to_string()).collect(),
        resources: world.references(),
    }
}

fn by_microservice(world: &World, name: &Name) -> Affected {
    let mut affected = called(world, name);
    affected.addresses = world.addresses_of_microservice(name);
    affected.merge(naming(world, name));
    world.index.keyed_at.of(name).for_each(|user| affected.microservice(user.clone()));
    if let Some(service) = world.microservices.get(name) {
        // The services that serve its keys let the operator in for it.
        for host in key_hosts(service) {
            affected.merge(callers_of(world, &host));
            affected.workloads.insert(host);
        }
        rivals(world, name, service).for_each(|rival| affected.microservice(rival.clone()));
    }
    let routes = world.routes_to(name).chain(world.routes_on_service(name));
    affected.resources.extend(routes.map(RouteView::reference));
    affected
}

/// A service itself and all who call it.
fn called(world: &World, name: &Name) -> Affected {
    let mut affected = callers_of(world, name);
    affected.workloads.insert(name.clone());
    if world.is_in_cluster() {
        // Nobody has a listener of his own for each destination there.
        return affected;
    }
    let listens = |instance: &&Instance| instance.outbound.keys().any(|destination| is_of(destination, name));
    for instance in world.instances().filter(listens) {
        affected.workloads.insert(Name::new(&instance.namespace, &instance.service));
    }
    affected
}

/// What compiles with the destinations of a service in it: they themselves, the destinations whose routes lead to them
/// and the gateways that do.
fn callers_of(world: &World, service: &Name) -> Affected {
    let mut affected = Affected::default();
    affected.destinations.extend(world.destinations_of(service));
    for route in world.routes_to(service) {
        affected.workloads.extend(route.gateways());
        affected.destinations.extend(route.services().flat_map(|parent| world.destinations_of(&parent)));
    }
    affected
}

/// The services whose rules name that caller.
fn naming(world: &World, caller: &Name) -> Affected {
    let mut affected = Affected::default();
    for service in world.index.naming.of(caller) {
        affected.workloads.insert(service.clone());
        affected.microservice(service.clone());
    }
    affected
}

/// Other Microservices that may select the same pods.
pub(crate) fn rivals<'a>(
    world: &'a World,
    name: &'a Name,
    service: &'a Microservice,
) -> impl Iterator<Item = &'a Name> {
    let sharing: BTreeSet<&Name> = labels(name, service)
        .flat_map(|label| world.index.selecting.of(&label).collect::<Vec<_>>())
        .collect();
    let overlaps =
        |rival: &&Name| world.microservices.get(*rival).is_some_and(|rival| overlap(rival, service));
    sharing.into_iter().filter(move |rival| *rival != name).filter(overlaps)
}

fn by_gateway(world: &World, name: &Name) -> Affected {
    let mut affected = Affected::default();
    affected.workloads.insert(name.clone());
    affected.merge(naming(world, name));
    affected.merge(naming(world, &Name::new(&name.namespace, super::lookup::ANY_GATEWAY)));
    affected.resources.extend(world.routes_on_gateway(name).map(RouteView::reference));
    affected.microservice(name.clone());
    affected
}

fn by_route(world: &World, route: RouteView<'_>) -> Affected {
    let mut affected = Affected::default();
    affected.workloads.extend(route.gateways());
    route.gateways().for_each(|gateway| affected.gateway(gateway));
    affected.destinations.extend(route.services().flat_map(|service| world.destinations_of(&service)));
    affected.resources.insert(route.reference());
    affected
}

/// A grant counts for what points into its namespace from another one.
fn by_grant(world: &World, namespace: &str) -> Affected {
    let mut affected = Affected::default();
    for route in world.routes() {
        let own = route.name().namespace;
        if own != namespace && route.backends().iter().any(|(_, to)| to.namespace_or(&own) == namespace) {
            affected.merge(by_route(world, route));
        }
    }
    let crosses =
        |gateway: &Name, secret: &Name| secret.namespace == namespace && gateway.namespace != namespace;
    for (gateway, secrets) in certificates(world) {
        if secrets.iter().any(|secret| crosses(gateway, secret)) {
            affected.workloads.insert(gateway.clone());
            affected.gateway(gateway.clone());
        }
    }
    affected
}

/// A Service says where its addresses lead, and what the ports of the Microservice of its name speak.
fn by_service(world: &World, name: &Name) -> Affected {
    let mut affected = Affected::default();
    if world.microservices.contains_key(name) {
        affected.merge(called(world, name));
        affected.microservice(name.clone());
    }
    affected.addresses.extend(world.addresses_of_service(name));
    if world.gateways.contains_key(name) {
        affected.gateway(name.clone());
    }
    affected
}

/// The labels of a namespace say which listeners take its routes.
fn by_namespace(world: &World, namespace: &str) -> Affected {
    let mut affected = Affected::default();
    let here = world.routes().filter(|route| route.name().namespace == namespace);
    here.for_each(|route| affected.merge(by_route(world, route)));
    affected
}

fn by_secret(world: &World, name: &Name) -> Affected {
    if world.redis_secret().is_some_and(|(secret, _)| secret == *name) {
        return everything(world);
    }
    let mut affected = Affected::default();
    for (gateway, secrets) in certificates(world) {
        if secrets.contains(name) {
            affected.workloads.insert(gateway.clone());
            affected.gateway(gateway.clone());
        }
    }
    for (service, object) in
        world.microservices.iter().filter(|(service, _)| service.namespace == name.namespace)
    {
        let mut secrets = jwks_of(object).filter_map(|jwks| jwks.secret_ref.as_ref());
        if secrets.any(|secret| secret.name == name.name) {
            affected.merge(by_keys_of(world, service));
            affected.microservice(service.clone());
        }
    }
    affected
}

fn certificates(world: &World) -> impl Iterator<Item = (&Name, Vec<Name>)> {
    world.gateways.iter().map(|(name, gateway)| {
        let tls = gateway.spec.listeners.iter().filter_map(|listener| listener.tls.as_ref());
        let references = tls.flat_map(|tls| &tls.certificate_refs);
        let secrets = references.map(|secret| Name::new(secret.namespace_or(&name.namespace), &secret.name));
        (name, secrets.collect())
    })
}

/// The key sets of a service go to its own proxies and to the gateways that check its tokens.
fn by_keys_of(world: &World, service: &Name) -> Affected {
    let mut affected = Affected::default();
    affected.workloads.insert(service.clone());
    affected.workloads.extend(world.routes_to(service).flat_map(RouteView::gateways));
    affected
}

pub(super) fn by_keys(world: &World, name: &str) -> Affected {
    let mut affected = Affected::default();
    for (service, object) in &world.microservices {
        if jwks_of(object).any(|jwks| jwks.uri.as_deref() == Some(name)) {
            affected.merge(by_keys_of(world, service));
        }
    }
    affected
}

pub(super) fn by_instances(
    world: &World,
    workload: &Name,
    old: &BTreeMap<String, Instance>,
    new: &BTreeMap<String, Instance>,
) -> Affected {
    let mut affected = Affected::default();
    if old == new {
        return affected;
    }
    if project(old, own_part) != project(new, own_part) {
        affected.workloads.insert(workload.clone());
    }
    if project(old, endpoint_part) != project(new, endpoint_part) {
        affected.merge(callers_of(world, workload));
    }
    if accounts(old.values()) != accounts(new.values()) {
        affected.merge(callers_of(world, workload));
        affected.merge(naming(world, workload));
    }
    affected.addresses.extend(address::of_instances(old, new));
    affected.microservice(workload.clone());
    affected.gateway(workload.clone());
    // The breakers of instances that came or went count, or count no more.
    for instance in old.keys().filter(|name| !new.contains_key(*name)).chain(new.keys()) {
        let report = world.reports.get(&InstanceRef::new(workload.clone(), instance));
        let targets = report.into_iter().flat_map(|report| breakers(Some(report)).into_keys());
        targets.for_each(|service| affected.microservice(service));
    }
    affected
}

/// What of an instance its own resources hold; the rest blanked out.
#[expect(clippy::unnecessary_wraps, reason = "of one shape with endpoint_part")]
fn own_part(instance: &Instance) -> Option<Instance> {
    let rest = Instance { ready: true, meshed: true, ..instance.clone() };
    Some(Instance { token_sha256: String::new(), ..rest })
}

/// What of an instance its endpoints hold, none where it is no endpoint; the rest blanked out.
fn endpoint_part(instance: &Instance) -> Option<Instance> {
    if !instance.ready || instance.role != Role::Service {
        return None;
    }
    let mut part = Instance { outbound: BTreeMap::new(), listeners: BTreeMap::new(), ..instance.clone() };
    part.token_sha256.clear();
    part.ports.values_mut().for_each(|addresses| addresses.app = addresses.peers);
    Some(part)
}

type Part = fn(&Instance) -> Option<Instance>;

fn project(instances: &BTreeMap<String, Instance>, part: Part) -> Vec<Instance> {
    instances.values().filter_map(part).collect()
}

pub(super) fn by_report(
    world: &World,
    instance: &InstanceRef,
    old: Option<&v1::Report>,
    new: Option<&v1::Report>,
) -> Affected {
    let mut affected = Affected::default();
    let own = |report: Option<&v1::Report>| report.map(|report| (report.certificate_not_after, report.ready));
    if own(old) != own(new) {
        affected.microservice(instance.workload.clone());
        affected.gateway(instance.workload.clone());
        let pod = Name::new(&instance.workload.namespace, &instance.instance);
        world.listing(&pod).for_each(|service| affected.microservice(service.clone()));
    }
    let (old, new) = (breakers(old), breakers(new));
    let known = world.instance(instance).is_some();
    for service in
        old.keys().chain(new.keys()).filter(|service| known && old.get(*service) != new.get(*service))
    {
        affected.microservice(service.clone());
    }
    affected
}

/// Breaker states in a report, by the service they are about.
pub(crate) fn breakers(report: Option<&v1::Report>) -> BTreeMap<Name, Vec<v1::BreakerState>> {
    let mut by_service: BTreeMap<Name, Vec<v1::BreakerState>> = BTreeMap::new();
    for breaker in report.into_iter().flat_map(|report| &report.breakers) {
        if let Some((namespace, service, _)) = names::split_destination(&breaker.destination) {
            by_service.entry(Name::new(namespace, service)).or_default().push(breaker.state());
        }
    }
    by_service
}

fn is_of(destination: &str, service: &Name) -> bool {
    names::split_destination(destination)
        .is_some_and(|(namespace, name, _)| namespace == service.namespace && name == service.name)
}
