//! The world: everything the operator knows, from which everything else is computed.
//!
//! Objects, instances, keys and reports come in as [`Change`]s, one by one. [`World::apply`] stores one and says in
//! [`Affected`] what may now compile or report differently, so that a push stays as small as the change. Which way a
//! change came (a directory, a cluster) is not known here, and nothing is refused here: that is `validate`.

pub mod address;
pub mod affected;
mod index;
pub mod lookup;
mod members;
pub mod object;
pub mod route;
pub mod service;
mod suppose;
mod trust;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Namespace, Secret};
use weft_api::v1;
use weft_crds::gateway::Gateway;
use weft_crds::gateway_class::GatewayClass;
use weft_crds::grpc_route::GrpcRoute;
use weft_crds::http_route::HttpRoute;
use weft_crds::mesh::{MESH_NAME, Mesh, MeshSpec};
use weft_crds::microservice::Microservice;
use weft_crds::reference_grant::ReferenceGrant;
use weft_crds::tls_route::TlsRoute;
use weft_crds::validate::Violation;

use crate::instances::Instance;
use crate::instances::pod::Pod;
use crate::instances::slice::Slice;
use crate::render::Obstacle;
use crate::status::Status;
pub use address::Lead;
pub use affected::Affected;
pub use object::{InstanceRef, Name, Object, ObjectKind, ObjectRef};
pub use route::RouteView;
pub use service::Service;
pub use trust::Trust;

/// Everything the operator knows. The same changes in any order give the same world, as long as those to one thing
/// keep theirs.
#[derive(Clone, Debug, Default)]
pub struct World {
    pub(crate) microservices: BTreeMap<Name, Microservice>,
    pub(crate) meshes: BTreeMap<Name, Mesh>,
    pub(crate) gateways: BTreeMap<Name, Gateway>,
    pub(crate) http_routes: BTreeMap<Name, HttpRoute>,
    pub(crate) grpc_routes: BTreeMap<Name, GrpcRoute>,
    pub(crate) tls_routes: BTreeMap<Name, TlsRoute>,
    pub(crate) grants: BTreeMap<Name, ReferenceGrant>,
    pub(crate) secrets: BTreeMap<Name, Secret>,
    pub(crate) services: BTreeMap<Name, Service>,
    addresses: address::Index,
    pub(crate) classes: BTreeMap<Name, GatewayClass>,
    pub(crate) namespaces: BTreeMap<Name, Namespace>,
    /// Objects whose newest form cannot be read, with what is wrong with it. What is in force is an earlier form, if any.
    pub(crate) invalid: BTreeMap<ObjectRef, Invalid>,
    /// Key sets that were fetched, by the name that compiled config gives them.
    pub(crate) keys: BTreeMap<String, v1::Keys>,
    pub(crate) instances: BTreeMap<Name, BTreeMap<String, Instance>>,
    pub(crate) reports: BTreeMap<InstanceRef, v1::Report>,
    generations: BTreeMap<ObjectRef, i64>,
    pub(crate) statuses: BTreeMap<ObjectRef, Status>,
    trust: Trust,
    /// How making what a resource needs went last, where that is known here.
    pub(crate) applied: BTreeMap<ObjectRef, Option<Obstacle>>,
    no_mesh: MeshSpec,
    in_cluster: bool,
    members: members::Members,
    index: index::Index,
}

/// Why the newest form of an object is not in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invalid {
    /// Generation of that form.
    pub generation: i64,
    /// What is wrong with it, with field and remedy.
    pub violations: Vec<Violation>,
}

/// Something new about one thing.
#[derive(Clone, Debug)]
pub enum Change {
    /// The object is there, or is now like this.
    Upsert(Box<Object>),
    /// The object is gone.
    Remove(ObjectRef),
    /// The object is there, but its newest form cannot be read: an earlier one stays in force.
    Invalid {
        /// Which.
        reference: ObjectRef,
        /// Why.
        invalid: Invalid,
    },
    /// A pod is like this, or gone. Instances follow from pods and slices where these are told.
    Pod {
        /// Which.
        name: Name,
        /// What it is like now.
        pod: Option<Pod>,
    },
    /// An `EndpointSlice` is like this, or gone.
    Slice {
        /// Which.
        name: Name,
        /// What it says now.
        slice: Option<Slice>,
    },
    /// These are now the instances of one service or gateway.
    Instances {
        /// Whose.
        workload: Name,
        /// All of them.
        instances: Vec<Instance>,
    },
    /// These are now all instances of all services and gateways.
    ReplaceInstances(Vec<Instance>),
    /// A key set was fetched, or could not be (then it keeps the last good set and says the error).
    Keys {
        /// As [`crate::compile::keys_wanted`] names it.
        name: String,
        /// The set.
        keys: v1::Keys,
    },
    /// The mesh trusts this now.
    Trust(Trust),
    /// What the proxy of an instance says of itself; none when its stream has ended.
    Report {
        /// Which.
        instance: InstanceRef,
        /// What it says.
        report: Option<v1::Report>,
    },
    /// What a resource needs was made in the cluster, or could not be.
    Applied {
        /// Which.
        owner: ObjectRef,
        /// What is in the way; none: it is there.
        obstacle: Option<Obstacle>,
    },
}

impl World {
    /// Stores a change and says what may now compile or report differently.
    pub fn apply(&mut self, change: Change) -> Affected {
        match change {
            Change::Upsert(object) => self.upsert(*object),
            Change::Remove(reference) => self.remove(&reference),
            Change::Invalid { reference, invalid } => self.refuse(reference, invalid),
            Change::Pod { name, pod } => self.set_pod(name, pod),
            Change::Slice { name, slice } => self.set_slice(&name, slice),
            Change::Instances { workload, instances } => self.set_instances(&workload, instances),
            Change::ReplaceInstances(all) => self.replace_instances(all),
            Change::Keys { name, keys } => self.set_keys(name, keys),
            Change::Trust(trust) => self.set_trust(trust),
            Change::Report { instance, report } => self.set_report(&instance, report.as_ref()),
            Change::Applied { owner, obstacle } => self.set_applied(owner, obstacle),
        }
    }

    /// Keeps the status that was written for an object, so that the next one keeps its transition times. In a cluster
    /// the objects bring it themselves.
    pub fn keep_status(&mut self, reference: &ObjectRef, status: Status) {
        if self.contains(reference) {
            self.statuses.insert(reference.clone(), status);
        }
    }

    fn upsert(&mut self, object: Object) -> Affected {
        let reference = object.reference();
        let status = object.status();
        let was_invalid = self.invalid.remove(&reference).is_some();
        if self.object(&reference).is_some_and(|old| old.same_spec(&object)) {
            // Only metadata or status changed: nothing compiles differently, the status may have to be put right.
            let mut affected = Affected::default();
            let moved = self.object(&reference).is_some_and(|old| !old.same_meta(&object));
            affected.resources.extend((was_invalid || moved).then(|| reference.clone()));
            let before = (self.generation(&reference), self.statuses.get(&reference).cloned());
            self.store(reference.clone(), object, status);
            if before != (self.generation(&reference), self.statuses.get(&reference).cloned()) {
                affected.resources.insert(reference);
            }
            return affected;
        }
        let mut affected = affected::by_object(self, &reference);
        let selector = self.microservices.get(&reference.name).map(Microservice::pod_selector);
        let selector = selector.filter(|_| reference.kind == ObjectKind::Microservice);
        self.unindex(&reference);
        self.store(reference.clone(), object, status);
        self.reindex(&reference);
        affected.merge(affected::by_object(self, &reference));
        affected.merge(self.resettle(&reference, selector));
        affected
    }

    /// Takes out of the index what an object put into it.
    fn unindex(&mut self, reference: &ObjectRef) {
        let mut index = std::mem::take(&mut self.index);
        match reference.kind {
            ObjectKind::Microservice => {
                index.microservice(&reference.name, self.microservices.get(&reference.name), None);
            }
            _ => self.route(reference).into_iter().for_each(|route| index.take_route(route)),
        }
        self.index = index;
    }

    /// Puts into the index what an object says.
    fn reindex(&mut self, reference: &ObjectRef) {
        let mut index = std::mem::take(&mut self.index);
        match reference.kind {
            ObjectKind::Microservice => {
                index.microservice(&reference.name, None, self.microservices.get(&reference.name));
            }
            _ => self.route(reference).into_iter().for_each(|route| index.add_route(route)),
        }
        self.index = index;
    }

    fn store(&mut self, reference: ObjectRef, object: Object, status: Option<Status>) {
        let same = self.object(&reference).is_some_and(|old| old.same_spec(&object));
        let known = self.generations.get(&reference).copied().unwrap_or_default();
        let counted = if same { known } else { known + 1 };
        let generation = object.meta().generation.unwrap_or(counted);
        self.generations.insert(reference.clone(), generation);
        if let Some(status) = status {
            self.statuses.insert(reference.clone(), status);
        }
        let name = reference.name;
        match object {
            Object::Microservice(object) => drop(self.microservices.insert(name, object)),
            Object::Mesh(object) => drop(self.meshes.insert(name, object)),
            Object::Gateway(object) => drop(self.gateways.insert(name, object)),
            Object::HttpRoute(object) => drop(self.http_routes.insert(name, object)),
            Object::GrpcRoute(object) => drop(self.grpc_routes.insert(name, object)),
            Object::TlsRoute(object) => drop(self.tls_routes.insert(name, object)),
            Object::ReferenceGrant(object) => drop(self.grants.insert(name, object)),
            Object::Secret(object) => drop(self.secrets.insert(name, object)),
            Object::Service(object) => {
                let new = Service::of(&object);
                self.addresses.service(&name, self.services.get(&name), Some(&new));
                self.services.insert(name, new);
            }
            Object::GatewayClass(object) => drop(self.classes.insert(name, object)),
            Object::Namespace(object) => drop(self.namespaces.insert(name, object)),
        }
    }

    fn remove(&mut self, reference: &ObjectRef) -> Affected {
        if !self.contains(reference) {
            return Affected::default();
        }
        self.invalid.remove(reference);
        let mut affected = affected::by_object(self, reference);
        let name = &reference.name;
        let selector = self.microservices.get(name).map(Microservice::pod_selector);
        let selector = selector.filter(|_| reference.kind == ObjectKind::Microservice);
        self.unindex(reference);
        match reference.kind {
            ObjectKind::Microservice => drop(self.microservices.remove(name)),
            ObjectKind::Mesh => drop(self.meshes.remove(name)),
            ObjectKind::Gateway => drop(self.gateways.remove(name)),
            ObjectKind::HttpRoute => drop(self.http_routes.remove(name)),
            ObjectKind::GrpcRoute => drop(self.grpc_routes.remove(name)),
            ObjectKind::TlsRoute => drop(self.tls_routes.remove(name)),
            ObjectKind::ReferenceGrant => drop(self.grants.remove(name)),
            ObjectKind::Secret => drop(self.secrets.remove(name)),
            ObjectKind::Service => {
                let old = self.services.remove(name);
                self.addresses.service(name, old.as_ref(), None);
            }
            ObjectKind::GatewayClass => drop(self.classes.remove(name)),
            ObjectKind::Namespace => drop(self.namespaces.remove(name)),
        }
        self.generations.remove(reference);
        self.statuses.remove(reference);
        self.applied.remove(reference);
        affected.merge(affected::by_object(self, reference));
        affected.merge(self.resettle(reference, selector));
        affected
    }

    /// The last good form of an object stays; its status says why the newest is not in force.
    fn refuse(&mut self, reference: ObjectRef, invalid: Invalid) -> Affected {
        let mut affected = Affected::default();
        if self.invalid.get(&reference) != Some(&invalid) {
            affected.resources.insert(reference.clone());
            self.invalid.insert(reference, invalid);
        }
        affected
    }

    fn replace_instances(&mut self, all: Vec<Instance>) -> Affected {
        let mut by_workload: BTreeMap<Name, Vec<Instance>> =
            self.instances.keys().map(|workload| (workload.clone(), Vec::new())).collect();
        for instance in all {
            let workload = Name::new(&instance.namespace, &instance.service);
            by_workload.entry(workload).or_default().push(instance);
        }
        let mut affected = Affected::default();
        for (workload, instances) in by_workload {
            affected.merge(self.set_instances(&workload, instances));
        }
        affected
    }

    fn set_instances(&mut self, workload: &Name, instances: Vec<Instance>) -> Affected {
        let new: BTreeMap<String, Instance> =
            instances.into_iter().map(|instance| (instance.name.clone(), instance)).collect();
        let old = if new.is_empty() {
            self.instances.remove(workload)
        } else {
            self.instances.insert(workload.clone(), new.clone())
        };
        let old = old.unwrap_or_default();
        self.addresses.instances(workload, &old, &new);
        affected::by_instances(self, workload, &old, &new)
    }

    fn set_keys(&mut self, name: String, keys: v1::Keys) -> Affected {
        if self.keys.get(&name) == Some(&keys) {
            return Affected::default();
        }
        let affected = affected::by_keys(self, &name);
        self.keys.insert(name, keys);
        affected
    }

    fn set_report(&mut self, instance: &InstanceRef, report: Option<&v1::Report>) -> Affected {
        let old = match report {
            Some(report) => self.reports.insert(instance.clone(), report.clone()),
            None => self.reports.remove(instance),
        };
        self.index.report(instance, old.as_ref(), report);
        affected::by_report(self, instance, old.as_ref(), report)
    }

    /// Nothing yet, in a cluster: instances follow from pods and slices, Services are there apart from Microservices.
    pub fn in_cluster() -> Self {
        Self { in_cluster: true, ..Self::default() }
    }

    /// Whether it is a cluster's.
    pub fn is_in_cluster(&self) -> bool {
        self.in_cluster
    }

    /// All that can be computed of it: what to look at once it is whole.
    pub fn everything(&self) -> Affected {
        affected::everything(self)
    }

    fn set_applied(&mut self, owner: ObjectRef, obstacle: Option<Obstacle>) -> Affected {
        let mut affected = Affected::default();
        if self.contains(&owner) && self.applied.get(&owner) != Some(&obstacle) {
            self.applied.insert(owner.clone(), obstacle);
            affected.resources.insert(owner);
        }
        affected
    }

    /// The mesh in force: the one named `default`, else built-in values.
    pub fn mesh(&self) -> &MeshSpec {
        self.meshes.get(&Name::new("", MESH_NAME)).map_or(&self.no_mesh, |mesh| &mesh.spec)
    }

    /// Whether a Mesh is in force; without one, built-in values are.
    pub fn has_mesh(&self) -> bool {
        self.meshes.contains_key(&Name::new("", MESH_NAME))
    }

    /// The Mesh named `default` as it is in force, built-in values where there is none.
    pub fn mesh_object(&self) -> Mesh {
        let named = self.meshes.get(&Name::new("", MESH_NAME)).cloned();
        named.unwrap_or_else(|| Mesh::new(MESH_NAME, MeshSpec::default()))
    }

    /// The Microservice of that name.
    pub fn microservice(&self, name: &Name) -> Option<&Microservice> {
        self.microservices.get(name)
    }

    /// All Microservices by name.
    pub fn microservices(&self) -> impl Iterator<Item = (&Name, &Microservice)> {
        self.microservices.iter()
    }

    /// The Gateway of that name.
    pub fn gateway(&self, name: &Name) -> Option<&Gateway> {
        self.gateways.get(name)
    }

    /// All Gateways by name.
    pub fn gateways(&self) -> impl Iterator<Item = (&Name, &Gateway)> {
        self.gateways.iter()
    }

    /// One instance.
    pub fn instance(&self, reference: &InstanceRef) -> Option<&Instance> {
        self.instances.get(&reference.workload)?.get(&reference.instance)
    }

    /// Instances of a service or gateway, by name.
    pub fn instances_of(&self, workload: &Name) -> impl Iterator<Item = &Instance> {
        self.instances.get(workload).into_iter().flat_map(BTreeMap::values)
    }

    /// All instances.
    pub fn instances(&self) -> impl Iterator<Item = &Instance> {
        self.instances.values().flat_map(BTreeMap::values)
    }

    /// What is in the way of making what a resource needs, as far as that is known here.
    pub fn obstacle(&self, reference: &ObjectRef) -> Option<&Obstacle> {
        self.applied.get(reference)?.as_ref()
    }

    /// What the proxy of an instance last said of itself.
    pub fn report(&self, reference: &InstanceRef) -> Option<&v1::Report> {
        self.reports.get(reference)
    }

    /// The Service of that name.
    pub fn service(&self, name: &Name) -> Option<&Service> {
        self.services.get(name)
    }

    /// Labels of a namespace, in a cluster.
    pub fn namespace_labels(&self, namespace: &str) -> Option<&BTreeMap<String, String>> {
        self.namespaces.get(&Name::new("", namespace))?.metadata.labels.as_ref()
    }

    /// Why the newest form of an object is not in force, where it is not.
    pub fn invalid(&self, reference: &ObjectRef) -> Option<&Invalid> {
        self.invalid.get(reference)
    }

    /// Reports that say something of the breakers before a service.
    pub(crate) fn reports_of<'a>(
        &'a self,
        service: &'a Name,
    ) -> impl Iterator<Item = (&'a InstanceRef, &'a v1::Report)> {
        self.index.reporting.of(service).filter_map(|caller| Some((caller, self.reports.get(caller)?)))
    }

    /// Every object that has a status, and every `ReferenceGrant`.
    pub fn references(&self) -> BTreeSet<ObjectRef> {
        let told = |kind: ObjectKind| kind.has_status() || kind == ObjectKind::ReferenceGrant;
        let all = self.generations.keys().chain(self.invalid.keys());
        all.filter(|reference| told(reference.kind)).cloned().collect()
    }

    /// Whether that object is there, readable or not.
    pub fn contains(&self, reference: &ObjectRef) -> bool {
        self.generations.contains_key(reference) || self.invalid.contains_key(reference)
    }

    /// How many objects of each kind are in force.
    pub fn counts(&self) -> [(ObjectKind, usize); 11] {
        [
            (ObjectKind::Microservice, self.microservices.len()),
            (ObjectKind::Mesh, self.meshes.len()),
            (ObjectKind::Gateway, self.gateways.len()),
            (ObjectKind::HttpRoute, self.http_routes.len()),
            (ObjectKind::GrpcRoute, self.grpc_routes.len()),
            (ObjectKind::TlsRoute, self.tls_routes.len()),
            (ObjectKind::ReferenceGrant, self.grants.len()),
            (ObjectKind::Secret, self.secrets.len()),
            (ObjectKind::GatewayClass, self.classes.len()),
            (ObjectKind::Service, self.services.len()),
            (ObjectKind::Namespace, self.namespaces.len()),
        ]
    }

    /// Generation of the newest form of an object: what its metadata says, else how often its spec changed.
    pub fn generation(&self, reference: &ObjectRef) -> i64 {
        let refused = self.invalid.get(reference).map(|invalid| invalid.generation);
        refused.or(self.generations.get(reference).copied()).unwrap_or_default()
    }

    /// Every destination there is: each port of each Microservice.
    pub fn destinations(&self) -> BTreeSet<String> {
        self.microservices.keys().flat_map(|service| self.destinations_of(service)).collect()
    }
}

#[cfg(test)]
mod tests;
