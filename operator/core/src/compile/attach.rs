//! Which routes hang on which listeners, and for which hosts.
//!
//! Gateway API: a route names its parents, a listener says from which namespaces and of which kinds it takes routes, and
//! the hosts of both must have something in common. Compile uses what attaches, status tells why something does not.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use weft_crds::GATEWAY_GROUP;
use weft_crds::gateway::{FromNamespaces, Gateway, Listener, ListenerProtocol, TlsMode};
use weft_crds::gateway_meta::ParentReference;

use crate::world::{Name, ObjectKind, RouteView, World};

/// Label that every namespace has; its value is the namespace's name.
const NAMESPACE_LABEL: &str = "kubernetes.io/metadata.name";

/// Why a route does not hang on what it names, in the words of the Gateway API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There is no such Gateway, Service, listener or port.
    NoMatchingParent,
    /// No listener takes routes of this namespace and kind.
    NotAllowedByListeners,
    /// No listener has a host in common with the route.
    NoMatchingListenerHostname,
    /// It is for a Service of another namespace: only the owner of a Service routes its traffic.
    OtherNamespace,
    /// The parent is of a kind that takes no routes, or none of this kind.
    InvalidKind,
}

/// A listener that a route hangs on, and the hosts it is for there (empty: all).
pub type Attachment<'a> = (&'a Listener, Vec<String>);

/// Whether a route hangs on what one of its parent references names.
pub fn to_parent(world: &World, parent: &ParentReference, route: RouteView<'_>) -> Result<(), Refusal> {
    if parent.is_service() {
        return to_service(world, parent, route).map(drop);
    }
    if !parent.is_gateway() {
        return Err(Refusal::InvalidKind);
    }
    let name = Name::new(parent.namespace_or(&route.name().namespace), &parent.name);
    let gateway = world.gateway(&name).ok_or(Refusal::NoMatchingParent)?;
    to_gateway(world, (&name, gateway), parent, route).map(drop)
}

/// The listeners of a Gateway that a route hangs on by one of its parent references.
pub fn to_gateway<'a>(
    world: &World,
    gateway: (&Name, &'a Gateway),
    parent: &ParentReference,
    route: RouteView<'_>,
) -> Result<Vec<Attachment<'a>>, Refusal> {
    let (name, gateway) = gateway;
    let section = |listener: &&Listener| {
        parent.section_name.as_deref().is_none_or(|section| section == listener.name)
            && parent.port.is_none_or(|port| port == listener.port)
    };
    let meant: Vec<&Listener> = gateway.spec.listeners.iter().filter(section).collect();
    if meant.is_empty() {
        return Err(Refusal::NoMatchingParent);
    }
    let allowing: Vec<&Listener> =
        meant.into_iter().filter(|listener| allows(world, name, listener, route)).collect();
    if allowing.is_empty() {
        return Err(Refusal::NotAllowedByListeners);
    }
    let hosts = |listener: &'a Listener| {
        Some((listener, common_hosts(listener.hostname.as_deref().unwrap_or_default(), route.hostnames())?))
    };
    let attached: Vec<Attachment<'a>> = allowing.into_iter().filter_map(hosts).collect();
    if attached.is_empty() { Err(Refusal::NoMatchingListenerHostname) } else { Ok(attached) }
}

/// The routes on a listener with their hosts there, each route once.
pub fn at_listener<'w>(
    world: &'w World,
    gateway: (&'w Name, &Gateway),
    listener: &Listener,
) -> Vec<(RouteView<'w>, Vec<String>)> {
    let mut attached = Vec::new();
    for route in world.routes_on_gateway(gateway.0) {
        let own = route.name().namespace;
        let parents = route.parents().iter().filter(|parent| {
            parent.is_gateway() && Name::new(parent.namespace_or(&own), &parent.name) == *gateway.0
        });
        let mut listeners =
            parents.filter_map(|parent| to_gateway(world, gateway, parent, route).ok()).flatten();
        if let Some((_, hosts)) = listeners.find(|(found, _)| found.name == listener.name) {
            attached.push((route, hosts));
        }
    }
    attached
}

/// Whether a route hangs on a Service by one of its parent references.
pub fn to_service(world: &World, parent: &ParentReference, route: RouteView<'_>) -> Result<Name, Refusal> {
    if route.kind() == ObjectKind::TlsRoute {
        return Err(Refusal::InvalidKind);
    }
    let own = route.name().namespace;
    let name = Name::new(parent.namespace_or(&own), &parent.name);
    let service = world.microservice(&name).ok_or(Refusal::NoMatchingParent)?;
    if name.namespace != own {
        return Err(Refusal::OtherNamespace);
    }
    let port = |port: u16| service.spec.ports.iter().any(|candidate| candidate.port == port);
    if parent.port.is_none_or(port) { Ok(name) } else { Err(Refusal::NoMatchingParent) }
}

/// The kinds of routes that a listener can take by what it speaks; none where Weft does not serve it.
pub fn kinds_of(listener: &Listener) -> &'static [ObjectKind] {
    match listener.protocol {
        ListenerProtocol::Http | ListenerProtocol::Https => &[ObjectKind::HttpRoute, ObjectKind::GrpcRoute],
        ListenerProtocol::Tls if passes_through(listener) => &[ObjectKind::TlsRoute],
        ListenerProtocol::Tls | ListenerProtocol::Tcp | ListenerProtocol::Other(_) => &[],
    }
}

/// Whether TLS does not end at a listener.
pub fn passes_through(listener: &Listener) -> bool {
    listener.tls.as_ref().is_some_and(|tls| tls.mode == TlsMode::Passthrough)
}

fn allows(world: &World, gateway: &Name, listener: &Listener, route: RouteView<'_>) -> bool {
    let allowed = listener.allowed_routes.as_ref();
    let kinds = allowed.map(|allowed| allowed.kinds.as_slice()).unwrap_or_default();
    let kind = kinds.is_empty()
        || kinds.iter().any(|kind| {
            kind.group.as_deref().unwrap_or(GATEWAY_GROUP) == GATEWAY_GROUP
                && kind.kind == route.kind().as_str()
        });
    let own = route.name().namespace;
    let same = own == gateway.namespace;
    let namespace = match allowed.and_then(|allowed| allowed.namespaces.as_ref()) {
        None => same,
        Some(namespaces) => match namespaces.from {
            FromNamespaces::Same => same,
            FromNamespaces::All => true,
            FromNamespaces::Selector => {
                namespaces.selector.as_ref().is_some_and(|selector| selects(world, selector, &own))
            }
            FromNamespaces::None | FromNamespaces::Other(_) => false,
        },
    };
    kinds_of(listener).contains(&route.kind()) && kind && namespace
}

/// Whether a selector takes a namespace by its labels; standalone it has one, its name.
fn selects(world: &World, selector: &LabelSelector, namespace: &str) -> bool {
    let known = world.namespace_labels(namespace);
    let value = |key: &str| match known.and_then(|labels| labels.get(key)) {
        Some(value) => Some(value.as_str()),
        None => (key == NAMESPACE_LABEL).then_some(namespace),
    };
    let mut labels = selector.match_labels.iter().flatten();
    let mut expressions = selector.match_expressions.iter().flatten();
    let listed = |values: &Option<Vec<String>>, value: &str| values.iter().flatten().any(|one| one == value);
    labels.all(|(key, wanted)| value(key) == Some(wanted))
        && expressions.all(|expression| {
            let value = value(&expression.key);
            match expression.operator.as_str() {
                "In" => value.is_some_and(|value| listed(&expression.values, value)),
                "NotIn" => value.is_none_or(|value| !listed(&expression.values, value)),
                "Exists" => value.is_some(),
                "DoesNotExist" => value.is_none(),
                _ => false,
            }
        })
}

/// Hosts that a listener and a route have in common; an empty list means all, none that there is no such host.
fn common_hosts(listener: &str, route: &[String]) -> Option<Vec<String>> {
    let listener = listener.to_ascii_lowercase();
    let mut common: Vec<String> = Vec::new();
    for host in route {
        let host = host.to_ascii_lowercase();
        if listener.is_empty() || host == listener || covers(&listener, &host) {
            common.push(host);
        } else if covers(&host, &listener) {
            common.push(listener.clone());
        }
    }
    if route.is_empty() && !listener.is_empty() {
        common.push(listener);
    }
    common.sort();
    common.dedup();
    (route.is_empty() || !common.is_empty()).then_some(common)
}

/// Whether a wildcard takes a host, or a narrower wildcard.
fn covers(wildcard: &str, host: &str) -> bool {
    let Some(suffix) = wildcard.strip_prefix('*') else { return false };
    let bare = host.strip_prefix('*').unwrap_or(host);
    bare.len() > suffix.len() && bare.ends_with(suffix)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_of_listener_and_route_are_intersected() {
        let check = |listener: &str, route: &[&str], expect: Option<&[&str]>| {
            let route: Vec<String> = route.iter().map(|host| (*host).to_owned()).collect();
            let expect = expect.map(|hosts| hosts.iter().map(|host| (*host).to_owned()).collect::<Vec<_>>());
            assert_eq!(common_hosts(listener, &route), expect, "{listener} {route:?}");
        };
        check("", &[], Some(&[]));
        check("", &["a.example"], Some(&["a.example"]));
        check("a.example", &[], Some(&["a.example"]));
        check("a.example", &["a.example", "b.example"], Some(&["a.example"]));
        check("a.example", &["b.example"], None);
        check("*.example", &["a.example", "a.b.example", "example"], Some(&["a.b.example", "a.example"]));
        check("a.example", &["*.example"], Some(&["a.example"]));
        check("*.b.example", &["*.example"], Some(&["*.b.example"]));
        check("*.example", &["*.b.example"], Some(&["*.b.example"]));
        check("*.example", &["*.example"], Some(&["*.example"]));
        check("*.example", &["example"], None);
        check("A.Example", &["a.example"], Some(&["a.example"]));
    }
}
