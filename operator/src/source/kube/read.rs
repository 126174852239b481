//! From objects of the API server to changes of the world, one by one: an object that cannot be read harms no other.
//! Pure: watching is done before.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Namespace, Pod, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DynamicObject, PartialObjectMeta};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use weft_core::instances;
use weft_core::world::{Change, Invalid, Name, Object, ObjectRef};
use weft_crds::manifest;

use super::kind::Kind;

/// What a watch says.
#[derive(Debug)]
pub(super) enum Said {
    /// An object is like this.
    Seen { kind: Kind, name: Name, change: Change },
    /// An object is gone, or is not there.
    Gone { kind: Kind, name: Name },
    /// These are all of a kind.
    Listed { kind: Kind, all: BTreeSet<Name> },
    /// A kind may not be watched, so nothing is known of it yet.
    Unanswered(Kind),
    /// It could not be found out whether that Secret is there.
    SecretUnanswered(Name),
    /// There is nothing to say.
    Nothing,
}

/// The way to read an object of a kind.
pub(super) type Read<K> = fn(Kind, Name, &K) -> Said;

/// The change by which something of a kind goes.
pub(super) fn removal(kind: Kind, name: Name) -> Change {
    match kind.object() {
        Some(kind) => Change::Remove(ObjectRef::new(kind, name)),
        None if kind == Kind::Pod => Change::Pod { name, pod: None },
        None => Change::Slice { name, slice: None },
    }
}

/// An object of a kind that a `CustomResourceDefinition` brings. It came as it was written, maybe by a newer version:
/// what cannot be read is told with field and remedy.
pub(super) fn custom(kind: Kind, name: Name, object: &DynamicObject) -> Said {
    let Some(known) = kind.object() else { return Said::Nothing };
    let reference = ObjectRef::new(known, name.clone());
    let generation = object.metadata.generation.unwrap_or_default();
    let change = match parse(kind, object) {
        Ok(object) => Change::Upsert(Box::new(object)),
        Err(violations) => Change::Invalid { reference, invalid: Invalid { generation, violations } },
    };
    Said::Seen { kind, name, change }
}

fn parse(kind: Kind, object: &DynamicObject) -> Result<Object, Vec<weft_crds::Violation>> {
    let resource = kind.resource();
    let mut value = object.data.clone();
    // What another version said of it does not make it wrong.
    let status = value.as_object_mut().and_then(|fields| fields.remove("status"));
    value["apiVersion"] = resource.api_version.into();
    value["kind"] = resource.kind.into();
    value["metadata"] = json!(object.metadata);
    let mut read = Object::of_cluster(manifest::read(&value)?);
    if let (Some(read), Some(status)) = (&mut read, status) {
        take_status(read, status);
    }
    read.ok_or_else(Vec::new)
}

/// A status that cannot be read is as good as none: it is written anew.
fn take_status(object: &mut Object, status: Value) {
    fn read<S: DeserializeOwned>(status: Value) -> Option<S> {
        serde_json::from_value(status).ok()
    }
    match object {
        Object::Microservice(object) => object.status = read(status),
        Object::Mesh(object) => object.status = read(status),
        Object::Gateway(object) => object.status = read(status),
        Object::HttpRoute(object) => object.status = read(status),
        Object::GrpcRoute(object) => object.status = read(status),
        Object::TlsRoute(object) => object.status = read(status),
        Object::GatewayClass(object) => object.status = read(status),
        Object::ReferenceGrant(_) | Object::Secret(_) | Object::Service(_) | Object::Namespace(_) => {}
    }
}

/// A Service: its addresses and ports, without what people noted on it.
pub(super) fn service(kind: Kind, name: Name, object: &Service) -> Said {
    let object = Service {
        metadata: bare(&object.metadata),
        spec: object.spec.clone(),
        status: object.status.clone(),
    };
    Said::Seen { kind, name, change: Change::Upsert(Box::new(Object::Service(object))) }
}

/// A namespace: its labels.
pub(super) fn namespace(kind: Kind, name: Name, object: &PartialObjectMeta<Namespace>) -> Said {
    let metadata = ObjectMeta {
        labels: object.metadata.labels.clone(),
        deletion_timestamp: object.metadata.deletion_timestamp.clone(),
        ..bare(&object.metadata)
    };
    let object = Namespace { metadata, ..Namespace::default() };
    Said::Seen { kind, name, change: Change::Upsert(Box::new(Object::Namespace(object))) }
}

/// A pod: what its metadata says.
pub(super) fn pod(kind: Kind, name: Name, object: &PartialObjectMeta<Pod>) -> Said {
    let pod = Some(instances::pod::Pod::of(&object.metadata));
    Said::Seen { kind, name: name.clone(), change: Change::Pod { name, pod } }
}

/// A slice: the endpoints that can be called.
pub(super) fn slice(kind: Kind, name: Name, object: &EndpointSlice) -> Said {
    let slice = instances::slice::Slice::of(object);
    Said::Seen { kind, name: name.clone(), change: Change::Slice { name, slice } }
}

/// A Secret.
pub(super) fn secret(name: Name, mut object: Secret) -> Said {
    object.metadata = bare(&object.metadata);
    Said::Seen { kind: Kind::Secret, name, change: Change::Upsert(Box::new(Object::Secret(object))) }
}

/// What of metadata every object needs.
fn bare(meta: &ObjectMeta) -> ObjectMeta {
    ObjectMeta { name: meta.name.clone(), namespace: meta.namespace.clone(), ..ObjectMeta::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(value: Value) -> DynamicObject {
        serde_json::from_value(value).unwrap()
    }

    fn upsert(said: Said) -> Object {
        match said {
            Said::Seen { change: Change::Upsert(object), .. } => *object,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_status_of_another_version_harms_nothing() {
        let service = |status: Value| {
            let spec = json!({"ports": [{"name": "http", "port": 80}]});
            let meta = json!({"name": "order", "namespace": "shop", "uid": "u", "resourceVersion": "7"});
            let service = object(json!({"metadata": meta, "spec": spec, "status": status}));
            match upsert(custom(Kind::Microservice, Name::new("shop", "order"), &service)) {
                Object::Microservice(service) => service.status,
                other => panic!("{other:?}"),
            }
        };
        assert_eq!(service(json!({"replicas": 2})).unwrap().replicas, Some(2));
        assert_eq!(service(json!({"replicas": "many", "news": 1})), None);
    }

    #[test]
    fn fields_of_the_gateway_api_that_are_not_known_are_kept_for_the_status() {
        let meta = json!({"name": "r", "namespace": "shop"});
        let spec = json!({"parentRefs": [{"name": "edge"}], "rules": [], "useDefaultGateways": "All"});
        let route = object(json!({"metadata": meta, "spec": spec}));
        let Object::HttpRoute(route) = upsert(custom(Kind::HttpRoute, Name::new("shop", "r"), &route)) else {
            panic!("no route")
        };
        assert_eq!(route.unknown_fields(), ["spec.useDefaultGateways"]);
    }

    #[test]
    fn of_a_secret_no_note_is_kept() {
        let secret =
            json!({"metadata": {"name": "s", "namespace": "shop", "annotations": {"a": "b"}}, "data": {}});
        let secret = serde_json::from_value(secret).unwrap();
        let Object::Secret(kept) = upsert(super::secret(Name::new("shop", "s"), secret)) else {
            panic!("no Secret")
        };
        assert_eq!((kept.metadata.annotations, kept.metadata.name.as_deref()), (None, Some("s")));
    }
}
