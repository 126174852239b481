//! What the mesh trusts, as far as proxies and the status of the Mesh are told: roots and how the authority is. Made by
//! whoever keeps the authority (`ca`); here it is only what follows from it.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Namespace;
use weft_api::names::{INJECT, INJECT_ENABLED};
use weft_crds::mesh::MESH_NAME;

use super::World;
use super::affected::Affected;
use super::object::{InstanceRef, Name, ObjectKind, ObjectRef};
use crate::instances::Instance;

/// The roots of the mesh and how the authority is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// The roots, each DER.
    pub roots: Vec<Vec<u8>>,
    /// Which these are: a higher number is newer.
    pub number: i64,
    /// When the last root ends, seconds since the Unix epoch.
    pub ends: i64,
    /// What is wrong with the issuer that the Mesh names, and what to do; empty: nothing.
    pub problem: String,
}

impl World {
    /// Namespaces of a cluster that need the roots: those whose pods get proxies, and those of pods that have one.
    pub fn meshed_namespaces(&self) -> BTreeSet<String> {
        let is_meshed = |namespace: &Namespace| {
            let label = namespace.metadata.labels.as_ref().and_then(|labels| labels.get(INJECT));
            label.is_some_and(|label| label == INJECT_ENABLED)
        };
        let labelled = self.namespaces.iter().filter(|(_, namespace)| is_meshed(namespace));
        let labelled = labelled.map(|(name, _)| name.name.clone());
        let of_pods = self.pods().filter(|(_, pod)| pod.meshed || pod.gateway().is_some());
        let mut all: BTreeSet<String> =
            labelled.chain(of_pods.map(|(name, _)| name.namespace.clone())).collect();
        let going = |name: &String| {
            let namespace = self.namespaces.get(&Name::new("", name));
            namespace.is_none_or(|namespace| namespace.metadata.deletion_timestamp.is_some())
        };
        all.retain(|name| !going(name));
        all
    }

    /// What the mesh trusts.
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// Whether every proxy that is known says that it trusts this root, by its fingerprint.
    pub fn all_trust(&self, root: &str) -> bool {
        let trusts = |instance: &Instance| {
            let workload = Name::new(&instance.namespace, &instance.service);
            let report = self.reports.get(&InstanceRef::new(workload, &instance.name));
            report.is_some_and(|report| report.roots.iter().any(|known| known == root))
        };
        self.instances().filter(|instance| instance.meshed && !instance.shared).all(trusts)
    }

    pub(super) fn set_trust(&mut self, trust: Trust) -> Affected {
        if self.trust == trust {
            return Affected::default();
        }
        let mut affected = Affected::default();
        affected.resources.insert(ObjectRef::new(ObjectKind::Mesh, Name::new("", MESH_NAME)));
        if self.trust.roots != trust.roots || self.trust.number != trust.number {
            let owners = self.microservices.keys().chain(self.gateways.keys()).chain(self.instances.keys());
            affected.workloads.extend(owners.cloned());
        }
        self.trust = trust;
        affected
    }
}
