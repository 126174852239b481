//! What the mesh trusts, as far as proxies and the status of the Mesh are told: roots and how the authority is. Made by
//! whoever keeps the authority (`ca`); here it is only what follows from it.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Namespace;
use weft_api::names::{INJECT, INJECT_ENABLED};
use weft_api::v1;
use weft_crds::mesh::MESH_NAME;

use super::World;
use super::affected::Affected;
use super::object::{Name, ObjectKind, ObjectRef};

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
        let mut all: BTreeSet<String> = labelled.chain(self.proxied_namespaces().cloned()).collect();
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

    /// Whether every proxy that is known, by its pod or by its word, says that it trusts this root, by its fingerprint.
    pub fn all_trust(&self, root: &str) -> bool {
        let says = |report: &v1::Report| report.roots.iter().any(|known| known == root);
        if !self.reports.values().all(says) {
            return false;
        }
        let said = self.reports.keys().map(|of| (of.workload.namespace.as_str(), of.instance.as_str()));
        let said: BTreeSet<_> = said.collect();
        let proxies = self.instances().filter(|instance| instance.meshed);
        let proxies = proxies.map(|instance| (instance.namespace.as_str(), instance.name.as_str()));
        let pods = self.pods().filter(|(_, pod)| pod.has_proxy());
        let pods = pods.map(|(name, _)| (name.namespace.as_str(), name.name.as_str()));
        proxies.chain(pods).all(|proxy| said.contains(&proxy))
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::instances::Instance;
    use crate::instances::pod::Pod;
    use crate::world::{Change, InstanceRef, Object};

    fn says(world: &mut World, instance: &str, roots: &[&str]) {
        let instance = InstanceRef::new(Name::new("shop", "order"), instance);
        let roots = roots.iter().map(|root| (*root).to_owned()).collect();
        let report = v1::Report { roots, ..v1::Report::default() };
        world.apply(Change::Report { instance, report: Some(report) });
    }

    fn instance(name: &str, meshed: bool) -> Instance {
        let instance = json!({
            "namespace": "shop", "service": "order", "name": name, "role": "Service", "address": "127.0.0.1",
            "ready": true, "meshed": meshed,
        });
        serde_json::from_value(instance).unwrap()
    }

    #[test]
    fn a_root_is_trusted_by_all_once_every_known_proxy_says_so() {
        let mut world = World::default();
        assert!(world.all_trust("a"), "nobody is there who could not");
        let workload = Name::new("shop", "order");
        let instances = vec![instance("order-0", true), instance("plain", false)];
        world.apply(Change::Instances { workload, instances });
        assert!(!world.all_trust("a"), "order-0 has said nothing");
        says(&mut world, "order-0", &["a", "b"]);
        assert!(world.all_trust("a") && world.all_trust("b"));
        says(&mut world, "order-1", &["a"]);
        assert!(world.all_trust("a") && !world.all_trust("b"), "one whose pod is not known counts too");
        let pod = Some(Pod { meshed: true, ..Pod::default() });
        world.apply(Change::Pod { name: Name::new("shop", "order-2"), pod });
        assert!(!world.all_trust("a"), "a pod that has said nothing counts too");
        says(&mut world, "order-2", &["a"]);
        assert!(world.all_trust("a"));
    }

    #[test]
    fn namespaces_of_the_mesh_are_those_with_the_label_and_those_with_proxies() {
        let mut world = World::in_cluster();
        let mut namespace = |name: &str, more: Value| {
            let mut object = json!({"metadata": {"name": name}});
            object["metadata"].as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let namespace = Object::Namespace(serde_json::from_value(object).unwrap());
            world.apply(Change::Upsert(Box::new(namespace)));
        };
        namespace("labelled", json!({"labels": {"weft.dev/inject": "enabled"}}));
        namespace("out", json!({"labels": {"weft.dev/inject": "disabled"}}));
        namespace("plain", json!({}));
        namespace("with-proxy", json!({}));
        let going = "2026-11-21T10:00:00Z";
        namespace("going", json!({"labels": {"weft.dev/inject": "enabled"}, "deletionTimestamp": going}));
        for (namespace, meshed) in [("with-proxy", true), ("plain", false), ("unknown", true)] {
            let pod = Some(Pod { meshed, ..Pod::default() });
            world.apply(Change::Pod { name: Name::new(namespace, "pod"), pod });
        }
        let all: Vec<String> = world.meshed_namespaces().into_iter().collect();
        assert_eq!(all, ["labelled", "with-proxy"]);
    }

    #[test]
    fn other_roots_reach_every_workload_and_another_problem_the_status_only() {
        let mut world = World::default();
        let workload = Name::new("shop", "order");
        world.apply(Change::Instances {
            workload: workload.clone(),
            instances: vec![instance("order-0", true)],
        });
        let trust = Trust { roots: vec![vec![1]], number: 1, ends: 9, problem: String::new() };
        let affected = world.apply(Change::Trust(trust.clone()));
        assert!(affected.workloads.contains(&workload) && affected.resources.len() == 1);
        assert!(world.apply(Change::Trust(trust.clone())).is_empty());
        let affected = world.apply(Change::Trust(Trust { problem: "ended".into(), ..trust }));
        assert!(affected.workloads.is_empty() && affected.resources.len() == 1);
    }
}
