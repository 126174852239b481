//! `HTTPRoute`, `GRPCRoute` and `TLSRoute` seen as one thing: what they attach to, for which hosts, and what they point to.
//!
//! What their rules mean is compiled in `compile/routes`.

use weft_crds::gateway_meta::{ObjectReference, ParentReference};
use weft_crds::grpc_route::{GrpcRoute, GrpcRouteFilter, GrpcRouteRule};
use weft_crds::http_route::{HttpRoute, HttpRouteFilter, HttpRouteRule};
use weft_crds::tls_route::{TlsRoute, TlsRouteRule};

use super::World;
use super::object::{Name, ObjectKind, ObjectRef};

/// A reference with the path of the field it stands in.
pub type Pointer<'a> = (String, &'a ObjectReference);

/// A route of any kind.
#[derive(Clone, Copy, Debug)]
pub enum RouteView<'a> {
    /// An HTTPRoute.
    Http(&'a HttpRoute),
    /// A GRPCRoute.
    Grpc(&'a GrpcRoute),
    /// A TLSRoute.
    Tls(&'a TlsRoute),
}

impl<'a> RouteView<'a> {
    /// What points to it.
    pub fn reference(self) -> ObjectRef {
        ObjectRef::new(self.kind(), self.name())
    }

    /// Its kind.
    pub fn kind(self) -> ObjectKind {
        match self {
            Self::Http(_) => ObjectKind::HttpRoute,
            Self::Grpc(_) => ObjectKind::GrpcRoute,
            Self::Tls(_) => ObjectKind::TlsRoute,
        }
    }

    /// Its namespace and name.
    pub fn name(self) -> Name {
        match self {
            Self::Http(route) => Name::of(&route.metadata),
            Self::Grpc(route) => Name::of(&route.metadata),
            Self::Tls(route) => Name::of(&route.metadata),
        }
    }

    /// What it attaches to.
    pub fn parents(self) -> &'a [ParentReference] {
        match self {
            Self::Http(route) => &route.spec.parent_refs,
            Self::Grpc(route) => &route.spec.parent_refs,
            Self::Tls(route) => &route.spec.parent_refs,
        }
    }

    /// Hosts it is for.
    pub fn hostnames(self) -> &'a [String] {
        match self {
            Self::Http(route) => &route.spec.hostnames,
            Self::Grpc(route) => &route.spec.hostnames,
            Self::Tls(route) => &route.spec.hostnames,
        }
    }

    /// Fields that are not known.
    pub fn unknown_fields(self) -> Vec<String> {
        match self {
            Self::Http(route) => route.unknown_fields(),
            Self::Grpc(route) => route.unknown_fields(),
            Self::Tls(route) => route.unknown_fields(),
        }
    }

    /// Seconds since the Unix epoch of its creation; objects without time count as the newest.
    pub fn created(self) -> i64 {
        let meta = match self {
            Self::Http(route) => &route.metadata,
            Self::Grpc(route) => &route.metadata,
            Self::Tls(route) => &route.metadata,
        };
        meta.creation_timestamp.as_ref().map_or(i64::MAX, |time| time.0.as_second())
    }

    /// Everything it points to with the field's path: backends and mirrors, wherever they stand.
    pub fn backends(self) -> Vec<Pointer<'a>> {
        match self {
            Self::Http(route) => route.spec.rules.iter().enumerate().flat_map(http_rule).collect(),
            Self::Grpc(route) => route.spec.rules.iter().enumerate().flat_map(grpc_rule).collect(),
            Self::Tls(route) => route.spec.rules.iter().enumerate().flat_map(tls_rule).collect(),
        }
    }

    /// Gateways among its parents, there or not.
    pub fn gateways(self) -> impl Iterator<Item = Name> {
        let own = self.name().namespace;
        let gateways = self.parents().iter().filter(|parent| parent.is_gateway());
        gateways.map(move |parent| Name::new(parent.namespace_or(&own), &parent.name))
    }

    /// Services among its parents, there or not.
    pub fn services(self) -> impl Iterator<Item = Name> {
        let own = self.name().namespace;
        let services = self.parents().iter().filter(|parent| parent.is_service());
        services.map(move |parent| Name::new(parent.namespace_or(&own), &parent.name))
    }

    /// Services that it leads to, there or not.
    pub fn backend_services(self) -> impl Iterator<Item = Name> {
        let own = self.name().namespace;
        let backends = self.backends().into_iter();
        backends.map(move |(_, reference)| Name::new(reference.namespace_or(&own), &reference.name))
    }
}

fn http_rule((at, rule): (usize, &HttpRouteRule)) -> Vec<Pointer<'_>> {
    let path = format!("spec.rules[{at}]");
    let mut found = http_mirrors(&path, &rule.filters);
    for (at, backend) in rule.backend_refs.iter().enumerate() {
        let path = format!("{path}.backendRefs[{at}]");
        found.extend(http_mirrors(&path, &backend.filters));
        found.push((path, &backend.reference));
    }
    found
}

fn grpc_rule((at, rule): (usize, &GrpcRouteRule)) -> Vec<Pointer<'_>> {
    let path = format!("spec.rules[{at}]");
    let mut found = grpc_mirrors(&path, &rule.filters);
    for (at, backend) in rule.backend_refs.iter().enumerate() {
        let path = format!("{path}.backendRefs[{at}]");
        found.extend(grpc_mirrors(&path, &backend.filters));
        found.push((path, &backend.reference));
    }
    found
}

fn tls_rule((at, rule): (usize, &TlsRouteRule)) -> Vec<Pointer<'_>> {
    let backends = rule.backend_refs.iter().enumerate();
    backends
        .map(|(backend, to)| (format!("spec.rules[{at}].backendRefs[{backend}]"), &to.reference))
        .collect()
}

fn http_mirrors<'a>(path: &str, filters: &'a [HttpRouteFilter]) -> Vec<Pointer<'a>> {
    let mirrors =
        filters.iter().enumerate().filter_map(|(at, filter)| Some((at, filter.request_mirror.as_ref()?)));
    mirrors.map(|(at, mirror)| (mirror_path(path, at), &mirror.backend_ref)).collect()
}

fn grpc_mirrors<'a>(path: &str, filters: &'a [GrpcRouteFilter]) -> Vec<Pointer<'a>> {
    let mirrors =
        filters.iter().enumerate().filter_map(|(at, filter)| Some((at, filter.request_mirror.as_ref()?)));
    mirrors.map(|(at, mirror)| (mirror_path(path, at), &mirror.backend_ref)).collect()
}

fn mirror_path(path: &str, at: usize) -> String {
    format!("{path}.filters[{at}].requestMirror.backendRef")
}

impl World {
    /// All routes of all kinds.
    pub fn routes(&self) -> impl Iterator<Item = RouteView<'_>> {
        let http = self.http_routes.values().map(RouteView::Http);
        let grpc = self.grpc_routes.values().map(RouteView::Grpc);
        http.chain(grpc).chain(self.tls_routes.values().map(RouteView::Tls))
    }

    /// Routes that lead to a service.
    pub fn routes_to<'a>(&'a self, service: &'a Name) -> impl Iterator<Item = RouteView<'a>> {
        self.index.leading_to.of(service).filter_map(|route| self.route(route))
    }

    /// Routes that name a Service as their parent.
    pub fn routes_on_service<'a>(&'a self, service: &'a Name) -> impl Iterator<Item = RouteView<'a>> {
        self.index.on_service.of(service).filter_map(|route| self.route(route))
    }

    /// Routes that name a Gateway as their parent.
    pub fn routes_on_gateway<'a>(&'a self, gateway: &'a Name) -> impl Iterator<Item = RouteView<'a>> {
        self.index.on_gateway.of(gateway).filter_map(|route| self.route(route))
    }

    /// The route that a reference points to.
    pub fn route(&self, reference: &ObjectRef) -> Option<RouteView<'_>> {
        match reference.kind {
            ObjectKind::HttpRoute => self.http_routes.get(&reference.name).map(RouteView::Http),
            ObjectKind::GrpcRoute => self.grpc_routes.get(&reference.name).map(RouteView::Grpc),
            ObjectKind::TlsRoute => self.tls_routes.get(&reference.name).map(RouteView::Tls),
            _ => None,
        }
    }
}
