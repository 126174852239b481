//! The kinds that a manifest may hold, and how each is read.
//!
//! Ours are checked in full; those of the Gateway API and the core are checked for types only, and fields that Weft
//! does not know are warnings. Everything else is [`Object::Unknown`].

use k8s_openapi::api::core::v1::{Namespace, Secret, Service};
use kube::Resource;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::field_path::{FieldPath, Part};
use crate::gateway::Gateway;
use crate::gateway_class::GatewayClass;
use crate::grpc_route::GrpcRoute;
use crate::http_route::HttpRoute;
use crate::reference_grant::ReferenceGrant;
use crate::schema_check::{Findings, check};
use crate::tls_route::TlsRoute;
use crate::validate::{Violation, mesh_rules, microservice_rules};
use crate::{GATEWAY_GROUP, GROUP, Mesh, Microservice, VERSION, schema, tls_route};

/// An object of a manifest.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    /// Everything about one service.
    Microservice(Box<Microservice>),
    /// What holds for all services.
    Mesh(Box<Mesh>),
    /// Listeners for traffic from outside.
    Gateway(Box<Gateway>),
    /// Which controller a Gateway belongs to.
    GatewayClass(Box<GatewayClass>),
    /// Which requests go where.
    HttpRoute(Box<HttpRoute>),
    /// Which gRPC calls go where.
    GrpcRoute(Box<GrpcRoute>),
    /// Which TLS connections go where.
    TlsRoute(Box<TlsRoute>),
    /// Who may point into a namespace.
    ReferenceGrant(Box<ReferenceGrant>),
    /// Certificates and keys.
    Secret(Box<Secret>),
    /// A Service of Kubernetes.
    Service(Box<Service>),
    /// A namespace with its labels.
    Namespace(Box<Namespace>),
    /// Something that Weft does not read.
    Unknown(ObjectId),
}

/// What an object is and what it is called.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectId {
    /// API version, like `weft.dev/v1alpha1`.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Namespace; none for one without, and where the manifest leaves it out.
    pub namespace: Option<String>,
    /// Name.
    pub name: String,
}

impl std::fmt::Display for ObjectId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

impl Object {
    /// What it is and what it is called.
    pub fn id(&self) -> ObjectId {
        match self {
            Self::Microservice(object) => id(object.as_ref()),
            Self::Mesh(object) => id(object.as_ref()),
            Self::Gateway(object) => id(object.as_ref()),
            Self::GatewayClass(object) => id(object.as_ref()),
            Self::HttpRoute(object) => id(object.as_ref()),
            Self::GrpcRoute(object) => id(object.as_ref()),
            Self::TlsRoute(object) => id(object.as_ref()),
            Self::ReferenceGrant(object) => id(object.as_ref()),
            Self::Secret(object) => id(object.as_ref()),
            Self::Service(object) => id(object.as_ref()),
            Self::Namespace(object) => id(object.as_ref()),
            Self::Unknown(id) => id.clone(),
        }
    }

    /// Gives a namespaced object that names no namespace this one.
    pub fn default_namespace(&mut self, namespace: &str) {
        let meta = match self {
            Self::Microservice(object) => object.meta_mut(),
            Self::Gateway(object) => object.meta_mut(),
            Self::HttpRoute(object) => object.meta_mut(),
            Self::GrpcRoute(object) => object.meta_mut(),
            Self::TlsRoute(object) => object.meta_mut(),
            Self::ReferenceGrant(object) => object.meta_mut(),
            Self::Secret(object) => object.meta_mut(),
            Self::Service(object) => object.meta_mut(),
            Self::Mesh(_) | Self::GatewayClass(_) | Self::Namespace(_) | Self::Unknown(_) => return,
        };
        meta.namespace.get_or_insert_with(|| namespace.to_owned());
    }
}

fn id<K: Resource<DynamicType = ()>>(object: &K) -> ObjectId {
    ObjectId {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        namespace: object.meta().namespace.clone(),
        name: object.meta().name.clone().unwrap_or_default(),
    }
}

/// An object as far as it could be read, and what is wrong with it.
#[derive(Debug, Default)]
pub struct Reading {
    /// The object, where nothing is wrong with it and Weft knows its kind.
    pub object: Option<Object>,
    /// What is wrong.
    pub errors: Vec<Violation>,
    /// What is odd.
    pub warnings: Vec<Violation>,
}

/// Reads an object of that kind; none where Weft does not know the kind.
pub(super) fn read(api_version: &str, kind: &str, value: &Value) -> Option<Reading> {
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    let reading = match (group, version, kind) {
        (GROUP, VERSION, "Microservice") => {
            ours(value, &schema::MICROSERVICE, microservice_rules, |o| Object::Microservice(Box::new(o)))
        }
        (GROUP, VERSION, "Mesh") => ours(value, &schema::MESH, mesh_rules, |o| Object::Mesh(Box::new(o))),
        (GATEWAY_GROUP, "v1" | "v1beta1", "Gateway") => {
            foreign(value, &schema::GATEWAY, |o| Object::Gateway(Box::new(o)))
        }
        (GATEWAY_GROUP, "v1" | "v1beta1", "GatewayClass") => {
            foreign(value, &schema::GATEWAY_CLASS, |o| Object::GatewayClass(Box::new(o)))
        }
        (GATEWAY_GROUP, "v1" | "v1beta1", "HTTPRoute") => {
            foreign(value, &schema::HTTP_ROUTE, |o| Object::HttpRoute(Box::new(o)))
        }
        (GATEWAY_GROUP, "v1", "GRPCRoute") => {
            foreign(value, &schema::GRPC_ROUTE, |o| Object::GrpcRoute(Box::new(o)))
        }
        (GATEWAY_GROUP, version, "TLSRoute") if tls_route::VERSIONS.contains(&version) => {
            foreign(value, &schema::TLS_ROUTE, |o| Object::TlsRoute(Box::new(o)))
        }
        (GATEWAY_GROUP, "v1" | "v1beta1", "ReferenceGrant") => {
            foreign(value, &schema::REFERENCE_GRANT, |o| Object::ReferenceGrant(Box::new(o)))
        }
        ("", "v1", "Secret") => foreign(value, &schema::SECRET, |o| Object::Secret(Box::new(o))),
        ("", "v1", "Service") => foreign(value, &schema::SERVICE, |o| Object::Service(Box::new(o))),
        ("", "v1", "Namespace") => foreign(value, &schema::NAMESPACE, |o| Object::Namespace(Box::new(o))),
        _ => return None,
    };
    Some(reading)
}

/// Reads one of our kinds: unknown fields and broken rules are errors.
fn ours<K: DeserializeOwned>(
    value: &Value,
    schema: &Value,
    rules: impl Fn(&K) -> Vec<Violation>,
    wrap: impl Fn(K) -> Object,
) -> Reading {
    let mut findings = Findings::default();
    check(schema, value, &FieldPath::default(), &mut findings);
    let mut errors = findings.violations;
    errors.append(&mut findings.unknown);
    match parse::<K>(value) {
        Ok(object) => {
            errors.append(&mut rules(&object));
            let object = errors.is_empty().then(|| wrap(object));
            Reading { object, errors, warnings: Vec::new() }
        }
        Err(violation) => failed(errors, violation),
    }
}

/// Reads a kind of others: unknown fields are warnings.
fn foreign<K: DeserializeOwned>(value: &Value, schema: &Value, wrap: impl Fn(K) -> Object) -> Reading {
    let mut findings = Findings::default();
    check(schema, value, &FieldPath::default(), &mut findings);
    match parse::<K>(value) {
        Ok(object) if findings.violations.is_empty() => {
            Reading { object: Some(wrap(object)), errors: Vec::new(), warnings: findings.unknown }
        }
        Ok(_) => Reading { object: None, errors: findings.violations, warnings: findings.unknown },
        Err(violation) => failed(findings.violations, violation),
    }
}

/// What the type says counts only where the schema said nothing; it knows less of the place.
fn failed(mut errors: Vec<Violation>, violation: Violation) -> Reading {
    if errors.is_empty() {
        errors.push(violation);
    }
    Reading { object: None, errors, warnings: Vec::new() }
}

fn parse<K: DeserializeOwned>(value: &Value) -> Result<K, Violation> {
    serde_path_to_error::deserialize(value).map_err(|error: serde_path_to_error::Error<serde_json::Error>| {
        let mut path = FieldPath::default();
        for segment in error.path() {
            match segment {
                serde_path_to_error::Segment::Seq { index } => path.push(Part::Index(*index)),
                serde_path_to_error::Segment::Map { key } => path.push(Part::Field(key.clone())),
                _ => break,
            }
        }
        Violation::new(path, error.inner().to_string(), "correct it")
    })
}
