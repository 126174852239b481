//! Objects of all kinds and how they are named.
//!
//! One enum for what the operator stores, one reference type for what it points to. The kinds themselves are in
//! `weft-crds`.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use k8s_openapi::api::core::v1::{Namespace, Secret, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use weft_api::names::SYSTEM_NAMESPACE;
use weft_crds::gateway::Gateway;
use weft_crds::gateway_class::GatewayClass;
use weft_crds::grpc_route::GrpcRoute;
use weft_crds::http_route::HttpRoute;
use weft_crds::manifest;
use weft_crds::mesh::Mesh;
use weft_crds::microservice::Microservice;
use weft_crds::reference_grant::ReferenceGrant;
use weft_crds::tls_route::TlsRoute;

use super::lookup::jwks_of;
use super::service;
use crate::status::Status;

/// Namespace and name; the namespace is empty for what is cluster-scoped.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name {
    /// Namespace.
    pub namespace: String,
    /// Name in it.
    pub name: String,
}

impl Name {
    /// A name in a namespace.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.to_owned(), name: name.to_owned() }
    }

    /// `name` or `namespace/name`, seen from an object in `own`.
    pub fn relative(text: &str, own: &str) -> Self {
        let (namespace, name) = text.split_once('/').unwrap_or((own, text));
        Self::new(namespace, name)
    }

    pub(crate) fn of(meta: &ObjectMeta) -> Self {
        Self {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

/// A text is no `<namespace>/<name>`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not of the form <namespace>/<name>")]
pub struct InvalidName(String);

impl FromStr for Name {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        match text.split_once('/') {
            Some((namespace, name)) if !namespace.is_empty() && !name.is_empty() && !name.contains('/') => {
                Ok(Self::new(namespace, name))
            }
            _ => Err(InvalidName(text.chars().take(200).collect())),
        }
    }
}

/// One instance of a service or gateway.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceRef {
    /// The Microservice or Gateway.
    pub workload: Name,
    /// Name of the instance.
    pub instance: String,
}

impl InstanceRef {
    /// An instance of a service or gateway.
    pub fn new(workload: Name, instance: &str) -> Self {
        Self { workload, instance: instance.to_owned() }
    }
}

impl fmt::Display for InstanceRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.workload, self.instance)
    }
}

/// Kinds of objects in the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ObjectKind {
    /// `Microservice`.
    Microservice,
    /// `Mesh`.
    Mesh,
    /// `Gateway`.
    Gateway,
    /// `HTTPRoute`.
    HttpRoute,
    /// `GRPCRoute`.
    GrpcRoute,
    /// `TLSRoute`.
    TlsRoute,
    /// `ReferenceGrant`.
    ReferenceGrant,
    /// `Secret`.
    Secret,
    /// `Service`.
    Service,
    /// `GatewayClass`.
    GatewayClass,
    /// `Namespace`.
    Namespace,
}

impl ObjectKind {
    /// As manifests spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Microservice => "Microservice",
            Self::Mesh => "Mesh",
            Self::Gateway => "Gateway",
            Self::HttpRoute => "HTTPRoute",
            Self::GrpcRoute => "GRPCRoute",
            Self::TlsRoute => "TLSRoute",
            Self::ReferenceGrant => "ReferenceGrant",
            Self::Secret => "Secret",
            Self::Service => "Service",
            Self::GatewayClass => "GatewayClass",
            Self::Namespace => "Namespace",
        }
    }

    /// Whether something is said of objects of this kind in their status.
    pub fn has_status(self) -> bool {
        !matches!(self, Self::ReferenceGrant | Self::Secret | Self::Service | Self::Namespace)
    }
}

/// Points to one object. Prints as `Microservice shop/order`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef {
    /// Kind.
    pub kind: ObjectKind,
    /// Namespace and name.
    pub name: Name,
}

impl ObjectRef {
    /// An object of that kind and name.
    pub fn new(kind: ObjectKind, name: Name) -> Self {
        Self { kind, name }
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind.as_str(), self.name)
    }
}

/// An object of any kind.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "changes carry it in a box, the world stores kinds apart")]
pub enum Object {
    /// One service.
    Microservice(Microservice),
    /// What holds for all services.
    Mesh(Mesh),
    /// Listeners for traffic from outside.
    Gateway(Gateway),
    /// Which requests go where.
    HttpRoute(HttpRoute),
    /// Which calls go where.
    GrpcRoute(GrpcRoute),
    /// Which TLS connections go where.
    TlsRoute(TlsRoute),
    /// Who may point into a namespace.
    ReferenceGrant(ReferenceGrant),
    /// Certificates, key sets, addresses with passwords.
    Secret(Secret),
    /// Cluster addresses and ports; only what counts of it is kept.
    Service(Service),
    /// Whose a Gateway is.
    GatewayClass(GatewayClass),
    /// A namespace of a cluster with its labels.
    Namespace(Namespace),
}

impl Object {
    /// An object of a manifest; none for kinds that count in a cluster only.
    pub fn from_manifest(object: manifest::Object) -> Option<Self> {
        Some(match object {
            manifest::Object::Microservice(object) => Self::Microservice(*object),
            manifest::Object::Mesh(object) => Self::Mesh(*object),
            manifest::Object::Gateway(object) => Self::Gateway(*object),
            manifest::Object::HttpRoute(object) => Self::HttpRoute(*object),
            manifest::Object::GrpcRoute(object) => Self::GrpcRoute(*object),
            manifest::Object::TlsRoute(object) => Self::TlsRoute(*object),
            manifest::Object::ReferenceGrant(object) => Self::ReferenceGrant(*object),
            manifest::Object::Secret(object) => Self::Secret(*object),
            manifest::Object::Service(object) => Self::Service(*object),
            manifest::Object::GatewayClass(_)
            | manifest::Object::Namespace(_)
            | manifest::Object::Unknown(_) => return None,
        })
    }

    /// An object of a cluster, of whichever kind; none for kinds that the world does not hold.
    pub fn of_cluster(object: manifest::Object) -> Option<Self> {
        Some(match object {
            manifest::Object::GatewayClass(object) => Self::GatewayClass(*object),
            manifest::Object::Namespace(object) => Self::Namespace(*object),
            object => return Self::from_manifest(object),
        })
    }

    /// Secrets that it points to: key sets, certificates, addresses with passwords.
    pub fn secrets(&self) -> BTreeSet<Name> {
        let own = Name::of(self.meta()).namespace;
        match self {
            Self::Microservice(service) => {
                let keys = jwks_of(service).filter_map(|jwks| jwks.secret_ref.as_ref());
                keys.map(|secret| Name::new(&own, &secret.name)).collect()
            }
            Self::Gateway(gateway) => {
                let tls = gateway.spec.listeners.iter().filter_map(|listener| listener.tls.as_ref());
                let references = tls.flat_map(|tls| &tls.certificate_refs);
                let secrets = references.filter(|reference| reference.is_core("Secret", "Secret"));
                secrets.map(|secret| Name::new(secret.namespace_or(&own), &secret.name)).collect()
            }
            Self::Mesh(mesh) => {
                let redis = mesh.spec.redis.as_ref().and_then(|redis| redis.secret_ref.as_ref());
                redis.map(|secret| Name::new(SYSTEM_NAMESPACE, &secret.name)).into_iter().collect()
            }
            _ => BTreeSet::new(),
        }
    }

    /// Its metadata.
    pub fn meta(&self) -> &ObjectMeta {
        match self {
            Self::Microservice(object) => &object.metadata,
            Self::Mesh(object) => &object.metadata,
            Self::Gateway(object) => &object.metadata,
            Self::HttpRoute(object) => &object.metadata,
            Self::GrpcRoute(object) => &object.metadata,
            Self::TlsRoute(object) => &object.metadata,
            Self::ReferenceGrant(object) => &object.metadata,
            Self::Secret(object) => &object.metadata,
            Self::Service(object) => &object.metadata,
            Self::GatewayClass(object) => &object.metadata,
            Self::Namespace(object) => &object.metadata,
        }
    }

    /// What points to it.
    pub fn reference(&self) -> ObjectRef {
        let kind = match self {
            Self::Microservice(_) => ObjectKind::Microservice,
            Self::Mesh(_) => ObjectKind::Mesh,
            Self::Gateway(_) => ObjectKind::Gateway,
            Self::HttpRoute(_) => ObjectKind::HttpRoute,
            Self::GrpcRoute(_) => ObjectKind::GrpcRoute,
            Self::TlsRoute(_) => ObjectKind::TlsRoute,
            Self::ReferenceGrant(_) => ObjectKind::ReferenceGrant,
            Self::Secret(_) => ObjectKind::Secret,
            Self::Service(_) => ObjectKind::Service,
            Self::GatewayClass(_) => ObjectKind::GatewayClass,
            Self::Namespace(_) => ObjectKind::Namespace,
        };
        ObjectRef::new(kind, Name::of(self.meta()))
    }

    /// The status it came with.
    pub fn status(&self) -> Option<Status> {
        match self {
            Self::Microservice(object) => object.status.clone().map(Status::Microservice),
            Self::Mesh(object) => object.status.clone().map(Status::Mesh),
            Self::Gateway(object) => object.status.clone().map(Status::Gateway),
            Self::HttpRoute(object) => object.status.clone().map(Status::Route),
            Self::GrpcRoute(object) => object.status.clone().map(Status::Route),
            Self::TlsRoute(object) => object.status.clone().map(Status::Route),
            Self::GatewayClass(object) => object.status.clone().map(Status::GatewayClass),
            Self::ReferenceGrant(_) | Self::Secret(_) | Self::Service(_) | Self::Namespace(_) => None,
        }
    }
}

/// An object where it is stored.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Stored<'a> {
    Microservice(&'a Microservice),
    Mesh(&'a Mesh),
    Gateway(&'a Gateway),
    HttpRoute(&'a HttpRoute),
    GrpcRoute(&'a GrpcRoute),
    TlsRoute(&'a TlsRoute),
    ReferenceGrant(&'a ReferenceGrant),
    Secret(&'a Secret),
    Service(&'a service::Service),
    GatewayClass(&'a GatewayClass),
    Namespace(&'a Namespace),
}

impl Stored<'_> {
    /// Whether what is made of it in a cluster is the same, as far as metadata tells.
    pub(crate) fn same_meta(self, new: &Object) -> bool {
        match (self, new) {
            (Self::Microservice(old), Object::Microservice(new)) => old.metadata.uid == new.metadata.uid,
            (Self::Gateway(old), Object::Gateway(new)) => {
                old.metadata.uid == new.metadata.uid && old.metadata.annotations == new.metadata.annotations
            }
            _ => true,
        }
    }

    /// Whether that object says the same: its spec and what of its metadata counts.
    pub(crate) fn same_spec(self, new: &Object) -> bool {
        match (self, new) {
            (Self::Microservice(old), Object::Microservice(new)) => old.spec == new.spec,
            (Self::Mesh(old), Object::Mesh(new)) => old.spec == new.spec,
            (Self::Gateway(old), Object::Gateway(new)) => old.spec == new.spec,
            (Self::HttpRoute(old), Object::HttpRoute(new)) => {
                old.spec == new.spec && old.metadata.creation_timestamp == new.metadata.creation_timestamp
            }
            (Self::GrpcRoute(old), Object::GrpcRoute(new)) => {
                old.spec == new.spec && old.metadata.creation_timestamp == new.metadata.creation_timestamp
            }
            (Self::TlsRoute(old), Object::TlsRoute(new)) => {
                old.spec == new.spec && old.metadata.creation_timestamp == new.metadata.creation_timestamp
            }
            (Self::ReferenceGrant(old), Object::ReferenceGrant(new)) => old.spec == new.spec,
            (Self::Secret(old), Object::Secret(new)) => {
                old.data == new.data && old.string_data == new.string_data
            }
            (Self::Service(old), Object::Service(new)) => *old == service::Service::of(new),
            (Self::GatewayClass(old), Object::GatewayClass(new)) => old.spec == new.spec,
            (Self::Namespace(old), Object::Namespace(new)) => old.metadata.labels == new.metadata.labels,
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_and_print() {
        let name: Name = "shop/order".parse().unwrap();
        assert_eq!(name, Name::new("shop", "order"));
        assert_eq!(name.to_string(), "shop/order");
        assert_eq!(Name::relative("order", "shop"), name);
        assert_eq!(Name::relative("shop/order", "other"), name);
        for bad in ["", "order", "/order", "shop/", "a/b/c"] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
        let reference = ObjectRef::new(ObjectKind::HttpRoute, name);
        assert_eq!(reference.to_string(), "HTTPRoute shop/order");
    }
}
