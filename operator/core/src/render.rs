//! What a Microservice or Gateway needs in a cluster: the objects that the operator makes of it, whole, for server-side
//! apply.
//!
//! Pure: a resource goes in, objects come out; who applies them, and what happens to those no longer wanted, is the
//! operator's business. Everything made carries the labels of [`Owner`] and an owner reference, so that it is told from
//! what others made and goes with its owner. What injection adds to pods is not here: it comes by the webhook, as for
//! every pod. Only a gateway's Deployment is complete, since its container is the proxy.

mod deployment;
mod gateway;

mod microservice;
mod probes;

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use serde::Serialize;
use serde_json::Value;
use weft_api::names::{LABEL_GATEWAY, LABEL_MANAGED_BY, LABEL_MICROSERVICE, MANAGER};
use weft_crds::defaults::NAME_LABEL;
use weft_crds::{GATEWAY_GROUP, GROUP, VERSION};

use crate::inject::Template;
use crate::world::{Name, ObjectKind, ObjectRef, World};

/// Kinds of objects that the operator makes, in the order in which they are applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OwnedKind {
    /// `ServiceAccount`.
    ServiceAccount,
    /// `Service`.
    Service,
    /// `Deployment`.
    Deployment,
    /// `PodDisruptionBudget`.
    PodDisruptionBudget,
    /// `HorizontalPodAutoscaler`.
    HorizontalPodAutoscaler,
}

impl OwnedKind {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::ServiceAccount,
        Self::Service,
        Self::Deployment,
        Self::PodDisruptionBudget,
        Self::HorizontalPodAutoscaler,
    ];

    /// As manifests spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ServiceAccount => "ServiceAccount",
            Self::Service => "Service",
            Self::Deployment => "Deployment",
            Self::PodDisruptionBudget => "PodDisruptionBudget",
            Self::HorizontalPodAutoscaler => "HorizontalPodAutoscaler",
        }
    }
}

/// One object that the operator makes.
#[derive(Clone, Debug, PartialEq)]
pub struct Owned {
    /// Its kind.
    pub kind: OwnedKind,
    /// Its name, in the namespace of its owner.
    pub name: String,
    /// All of it that the operator has a say in, with `apiVersion` and `kind`.
    pub body: Value,
}

/// Everything that a resource needs in the cluster now.
#[derive(Clone, Debug, PartialEq)]
pub struct Rendered {
    /// The resource's uid: what is made belongs to this very object, not to one of the same name before or after it.
    pub uid: String,
    /// In the order in which to apply them; none where the resource attaches to what others run.
    pub objects: Vec<Owned>,
}

/// Why what a resource needs cannot be made in the cluster. Prints as `message; remedy`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstacle {
    /// One word in upper camel case, stable.
    pub reason: String,
    /// What is in the way.
    pub message: String,
    /// What to do.
    pub remedy: String,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.message, self.remedy)
    }
}

/// Reason of an obstacle that lies in the resource itself.
pub const INVALID_PARAMETERS: &str = "InvalidParameters";

/// What a Microservice or Gateway needs; nothing where it is not there, is of another kind, or (standalone) has no uid.
/// An obstacle where it asks for what cannot be.
pub fn of(world: &World, reference: &ObjectRef, template: &Template) -> Option<Result<Rendered, Obstacle>> {
    match reference.kind {
        ObjectKind::Microservice => {
            let service = world.microservice(&reference.name)?;
            let owner = Owner::new(reference, &service.metadata)?;
            let make = |workload| microservice::objects(&owner, service, workload);
            let objects = service.spec.workload.as_ref().map(make).unwrap_or_default();
            Some(Ok(Rendered { uid: owner.uid, objects }))
        }
        ObjectKind::Gateway => {
            let gateway = world.gateway(&reference.name)?;
            let owner = Owner::new(reference, &gateway.metadata)?;
            let objects = gateway::objects(&owner, gateway, template);
            Some(objects.map(|objects| Rendered { uid: owner.uid, objects }))
        }
        _ => None,
    }
}

/// Whose the objects are.
pub(crate) struct Owner {
    name: Name,
    uid: String,
    reference: OwnerReference,
    /// Select its pods; no others have them.
    selector: BTreeMap<String, String>,
}

impl Owner {
    fn new(reference: &ObjectRef, meta: &ObjectMeta) -> Option<Self> {
        let uid = meta.uid.clone()?;
        let name = reference.name.clone();
        let (api_version, label) = match reference.kind {
            ObjectKind::Gateway => (format!("{GATEWAY_GROUP}/v1"), LABEL_GATEWAY),
            _ => (format!("{GROUP}/{VERSION}"), LABEL_MICROSERVICE),
        };
        let selector = [(NAME_LABEL, &name.name), (label, &name.name)];
        let selector = selector.into_iter().map(|(label, value)| (label.to_owned(), value.clone())).collect();
        let reference = OwnerReference {
            api_version,
            kind: reference.kind.as_str().to_owned(),
            name: name.name.clone(),
            uid: uid.clone(),
            controller: Some(true),
            block_owner_deletion: Some(true),
        };
        Some(Self { name, uid, reference, selector })
    }

    fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.selector.clone();
        labels.insert(LABEL_MANAGED_BY.to_owned(), MANAGER.to_owned());
        labels
    }

    /// Metadata of an object of the owner's name.
    fn meta(&self) -> ObjectMeta {
        ObjectMeta {
            name: Some(self.name.name.clone()),
            namespace: Some(self.name.namespace.clone()),
            labels: Some(self.labels()),
            owner_references: Some(vec![self.reference.clone()]),
            ..ObjectMeta::default()
        }
    }

    fn label_selector(&self) -> LabelSelector {
        LabelSelector { match_labels: Some(self.selector.clone()), ..LabelSelector::default() }
    }

    fn owned(&self, kind: OwnedKind, object: &impl Serialize) -> Owned {
        let body = serde_json::to_value(object).expect("objects of Kubernetes have string keys only");
        Owned { kind, name: self.name.name.clone(), body }
    }
}
