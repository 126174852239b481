//! Where the status of resources goes. Standalone ([`StatusWriter::Print`]) a condition that changes is logged once,
//! and the latest ones are kept for `/status.json`; in a cluster they are written into the objects.

use std::collections::HashMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use tracing::info;
use weft_api::status::Condition;
use weft_core::status::Status;
use weft_core::world::{Object, ObjectKind, ObjectRef};
use weft_crds::gateway_meta::RouteStatus;

use crate::cluster::Statuses;

/// The way status is made known.
#[derive(Debug)]
pub(crate) enum StatusWriter {
    /// By the log.
    Print(Latest),
    /// In the objects, by the leader; the log says transitions too.
    Cluster(Latest, Statuses),
}

/// The latest conditions by resource.
#[derive(Debug, Default)]
pub(crate) struct Latest(HashMap<ObjectRef, Vec<Condition>>);

impl StatusWriter {
    /// A writer for the log.
    pub(crate) fn print() -> Self {
        Self::Print(Latest::default())
    }

    /// A writer into objects.
    pub(crate) fn cluster(statuses: Statuses) -> Self {
        Self::Cluster(Latest::default(), statuses)
    }

    /// Takes note of what an object holds.
    pub(crate) fn hold(&self, object: &Object) {
        if let Self::Cluster(_, statuses) = self
            && has_status(object.reference().kind)
        {
            let uid = object.meta().uid.as_deref().unwrap_or_default();
            statuses.hold(&object.reference(), uid, object.status());
        }
    }

    /// Makes the status of a resource known; none: the resource is gone.
    pub(crate) fn put(&mut self, resource: &ObjectRef, status: Option<&Status>) {
        match self {
            Self::Print(latest) => latest.put(resource, status.map(conditions).unwrap_or_default()),
            Self::Cluster(latest, statuses) => {
                latest.put(resource, status.map(conditions).unwrap_or_default());
                statuses.put(resource, status);
            }
        }
    }

    /// The latest conditions of a resource.
    pub(crate) fn conditions(&self, resource: &ObjectRef) -> Vec<Condition> {
        match self {
            Self::Print(latest) | Self::Cluster(latest, _) => {
                latest.0.get(resource).cloned().unwrap_or_default()
            }
        }
    }
}

fn has_status(kind: ObjectKind) -> bool {
    match kind {
        ObjectKind::Microservice
        | ObjectKind::Mesh
        | ObjectKind::Gateway
        | ObjectKind::HttpRoute
        | ObjectKind::GrpcRoute
        | ObjectKind::TlsRoute
        | ObjectKind::GatewayClass => true,
        ObjectKind::ReferenceGrant | ObjectKind::Secret | ObjectKind::Service | ObjectKind::Namespace => {
            false
        }
    }
}

impl Latest {
    fn put(&mut self, resource: &ObjectRef, conditions: Vec<Condition>) {
        for condition in transitions(self.0.get(resource).map_or(&[], Vec::as_slice), &conditions) {
            let Condition { kind, status, reason, message } = condition;
            info!(%resource, condition = kind, status, reason, why = message, "condition changed");
        }
        if conditions.is_empty() {
            self.0.remove(resource);
        } else {
            self.0.insert(resource.clone(), conditions);
        }
    }
}

/// Conditions whose status or reason is another than before; their message alone may change without a word.
fn transitions<'a>(old: &[Condition], new: &'a [Condition]) -> Vec<&'a Condition> {
    let is_same = |condition: &Condition| {
        let known = old.iter().find(|known| known.kind == condition.kind);
        known.is_some_and(|known| known.status == condition.status && known.reason == condition.reason)
    };
    new.iter().filter(|condition| !is_same(condition)).collect()
}

fn conditions(status: &Status) -> Vec<Condition> {
    let of_parents = |status: &RouteStatus| {
        let conditions = status.parents.iter().flat_map(|parent| &parent.conditions);
        conditions.map(condition).collect()
    };
    match status {
        Status::Microservice(status) => status.conditions.iter().map(condition).collect(),
        Status::Mesh(status) => status.conditions.iter().map(condition).collect(),
        Status::Gateway(status) => status.conditions.iter().map(condition).collect(),
        Status::Route(status) => of_parents(status),
        Status::GatewayClass(status) => status.conditions.iter().map(condition).collect(),
    }
}

fn condition(condition: &meta::Condition) -> Condition {
    let meta::Condition { type_, status, reason, message, .. } = condition.clone();
    Condition { kind: type_, status, reason, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_transitions_are_said() {
        let condition = |kind: &str, status: &str, message: &str| Condition {
            kind: kind.into(),
            status: status.into(),
            reason: status.into(),
            message: message.into(),
        };
        let old = [condition("Ready", "False", "0 of 2"), condition("Meshed", "True", "")];
        let new = [
            condition("Ready", "False", "1 of 2"),
            condition("Meshed", "False", ""),
            condition("New", "True", ""),
        ];
        let kinds: Vec<&str> =
            transitions(&old, &new).iter().map(|condition| condition.kind.as_str()).collect();
        assert_eq!(kinds, ["Meshed", "New"]);
    }
}
