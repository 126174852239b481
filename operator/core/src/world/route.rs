//! HTTPRoutes and GRPCRoutes seen as one thing: what they attach to, for which hosts, and what they point to.
//!
//! What their rules mean is compiled in `compile/routes`.

use weft_crds::gateway_meta::{ObjectReference, ParentReference, RouteStatus};
use weft_crds::grpc_route::{GrpcRoute, GrpcRouteFilter};
use weft_crds::http_route::{HttpRoute, HttpRouteFilter};

use super::World;
use super::object::{Name, ObjectKind, ObjectRef};

/// A route of either kind.
#[derive(Clone, Copy, Debug)]
pub enum RouteView<'a> {
    /// An HTTPRoute.
    Http(&'a HttpRoute),
    /// A GRPCRoute.
    Grpc(&'a GrpcRoute),
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
        }
    }

    /// Its namespace and name.
    pub fn name(self) -> Name {
        match self {
            Self::Http(route) => Name::of(&route.metadata),
            Self::Grpc(route) => Name::of(&route.metadata),
        }
    }

    /// What it attaches to.
    pub fn parents(self) -> &'a [ParentReference] {
        match self {
            Self::Http(route) => &route.spec.parent_refs,
            Self::Grpc(route) => &route.spec.parent_refs,
        }
    }

    /// Hosts it is for.
    pub fn hostnames(self) -> &'a [String] {
        match self {
            Self::Http(route) => &route.spec.hostnames,
            Self::Grpc(route) => &route.spec.hostnames,
        }
    }

    /// Fields that are not known.
    pub fn unknown_fields(self) -> Vec<String> {
        match self {
            Self::Http(route) => route.unknown_fields(),
            Self::Grpc(route) => route.unknown_fields(),
        }
    }

    /// The status it came with.
    pub fn status(self) -> Option<&'a RouteStatus> {
        match self {
            Self::Http(route) => route.status.as_ref(),
            Self::Grpc(route) => route.status.as_ref(),
        }
    }

    /// Seconds since the Unix epoch of its creation; objects without time count as the newest.
    pub fn created(self) -> i64 {
        let meta = match self {
            Self::Http(route) => &route.metadata,
            Self::Grpc(route) => &route.metadata,
        };
        meta.creation_timestamp.as_ref().map_or(i64::MAX, |time| time.0.as_second())
    }

    /// Everything it points to with the field's path: backends and mirrors, wherever they stand.
    pub fn backends(self) -> Vec<(String, &'a ObjectReference)> {
        let mut found = Vec::new();
        match self {
            Self::Http(route) => {
                for (at, rule) in route.spec.rules.iter().enumerate() {
                    let path = format!("spec.rules[{at}]");
                    http_mirrors(&mut found, &path, &rule.filters);
                    for (at, backend) in rule.backend_refs.iter().enumerate() {
                        let path = format!("{path}.backendRefs[{at}]");
                        http_mirrors(&mut found, &path, &backend.filters);
                        found.push((path, &backend.reference));
                    }
                }
            }
            Self::Grpc(route) => {
                for (at, rule) in route.spec.rules.iter().enumerate() {
                    let path = format!("spec.rules[{at}]");
                    grpc_mirrors(&mut found, &path, &rule.filters);
                    for (at, backend) in rule.backend_refs.iter().enumerate() {
                        let path = format!("{path}.backendRefs[{at}]");
                        grpc_mirrors(&mut found, &path, &backend.filters);
                        found.push((path, &backend.reference));
                    }
                }
            }
        }
        found
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

    /// Whether one of its backends is that service.
    pub fn has_backend(self, service: &Name) -> bool {
        let own = self.name().namespace;
        let is = |reference: &ObjectReference| {
            reference.name == service.name && reference.namespace_or(&own) == service.namespace
        };
        self.backends().iter().any(|(_, reference)| is(reference))
    }
}

fn http_mirrors<'a>(
    found: &mut Vec<(String, &'a ObjectReference)>,
    path: &str,
    filters: &'a [HttpRouteFilter],
) {
    for (at, filter) in filters.iter().enumerate() {
        if let Some(mirror) = &filter.request_mirror {
            found.push((format!("{path}.filters[{at}].requestMirror.backendRef"), &mirror.backend_ref));
        }
    }
}

fn grpc_mirrors<'a>(
    found: &mut Vec<(String, &'a ObjectReference)>,
    path: &str,
    filters: &'a [GrpcRouteFilter],
) {
    for (at, filter) in filters.iter().enumerate() {
        if let Some(mirror) = &filter.request_mirror {
            found.push((format!("{path}.filters[{at}].requestMirror.backendRef"), &mirror.backend_ref));
        }
    }
}

impl World {
    /// All routes of both kinds.
    pub fn routes(&self) -> impl Iterator<Item = RouteView<'_>> {
        let http = self.http_routes.values().map(RouteView::Http);
        http.chain(self.grpc_routes.values().map(RouteView::Grpc))
    }

    /// The route that a reference points to.
    pub fn route(&self, reference: &ObjectRef) -> Option<RouteView<'_>> {
        match reference.kind {
            ObjectKind::HttpRoute => self.http_routes.get(&reference.name).map(RouteView::Http),
            ObjectKind::GrpcRoute => self.grpc_routes.get(&reference.name).map(RouteView::Grpc),
            _ => None,
        }
    }
}
