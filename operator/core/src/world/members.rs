//! Which pods are whose in a cluster, and the instances that follow from pods and slices.
//!
//! A pod runs as one workload, its home: the Gateway it was made of, else the first Microservice that selects its
//! labels, else, with a proxy, none but its service account. A service's instances are what its slices list and the
//! pods at home there. Everything follows from what is stored, so that the order of changes does not count.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use weft_api::names::LABEL_GATEWAY;
use weft_crds::microservice::{Microservice, Port};

use super::index::{Label, Many};
use super::object::{Name, ObjectKind, ObjectRef};
use super::{Affected, World};
use crate::instances::pod::Pod;
use crate::instances::slice::{Endpoint, Slice};
use crate::instances::{Instance, PortAddresses, Role};

/// Pods and slices, and where they belong.
#[derive(Clone, Debug, Default)]
pub(super) struct Members {
    pods: BTreeMap<Name, Pod>,
    /// Pods that have a proxy, by namespace.
    proxied: Many<String, Name>,
    slices: BTreeMap<Name, Slice>,
    /// Pods by each of their labels.
    labelled: Many<Label, Name>,
    /// The workload that each pod runs as.
    homes: BTreeMap<Name, Name>,
    /// Pods by the workload they run as.
    at_home: Many<Name, Name>,
    /// Slices by their Service.
    of_service: Many<Name, Name>,
    /// Services by the pods that their slices list.
    listing: Many<Name, Name>,
}

impl Members {
    fn set_home(&mut self, pod: &Name, home: Option<&Name>) -> Option<Name> {
        if let Some(home) = home {
            self.at_home.add(home.clone(), pod.clone());
        }
        let before = match home {
            Some(home) => self.homes.insert(pod.clone(), home.clone()),
            None => self.homes.remove(pod),
        };
        if let Some(before) = before.as_ref().filter(|before| home != Some(*before)) {
            self.at_home.take(before, pod);
        }
        before
    }

    /// Pods of a namespace that have all these labels.
    fn selected(&self, namespace: &str, selector: &BTreeMap<String, String>) -> Vec<Name> {
        let label = |(key, value): (&String, &String)| (namespace.to_owned(), key.clone(), value.clone());
        let rarest = selector.iter().map(label).min_by_key(|label| self.labelled.count(label));
        let some = rarest.iter().flat_map(|label| self.labelled.of(label));
        some.filter(|pod| self.pods.get(*pod).is_some_and(|pod| has_all(pod, selector))).cloned().collect()
    }
}

fn has_all(pod: &Pod, selector: &BTreeMap<String, String>) -> bool {
    selector.iter().all(|(key, value)| pod.labels.get(key) == Some(value))
}

fn labels_of<'a>(name: &'a Name, pod: &'a Pod) -> impl Iterator<Item = Label> + 'a {
    pod.labels.iter().map(|(key, value)| (name.namespace.clone(), key.clone(), value.clone()))
}

/// Pods that a slice lists, in the namespace of `own`.
fn pods_of(own: &Name, slice: &Slice) -> BTreeSet<Name> {
    let pods = slice.endpoints.iter().filter_map(|endpoint| endpoint.pod.as_ref());
    pods.map(|pod| Name::new(&own.namespace, pod)).collect()
}

impl World {
    /// The workload that a pod runs as; none where the mesh does not know it.
    pub fn home(&self, pod: &Name) -> Option<&Name> {
        self.members.homes.get(pod)
    }

    /// The Services whose slices list a pod.
    pub(super) fn listing<'a>(&'a self, pod: &'a Name) -> impl Iterator<Item = &'a Name> {
        self.members.listing.of(pod)
    }

    /// All pods of a cluster.
    pub fn pods(&self) -> impl Iterator<Item = (&Name, &Pod)> {
        self.members.pods.iter()
    }

    /// Namespaces of pods that have a proxy.
    pub(super) fn proxied_namespaces(&self) -> impl Iterator<Item = &String> {
        self.members.proxied.keys()
    }

    /// The first Microservice of a namespace that selects pods with these labels.
    pub fn selecting(&self, namespace: &str, labels: &BTreeMap<String, String>) -> Option<&Name> {
        let label = |(key, value): (&String, &String)| (namespace.to_owned(), key.clone(), value.clone());
        let candidates =
            labels.iter().map(label).flat_map(|label| self.index.selecting.of(&label).collect::<Vec<_>>());
        let selects = |name: &&Name| {
            let selector = self.microservices.get(*name).map(Microservice::pod_selector).unwrap_or_default();
            selector.iter().all(|(key, value)| labels.get(key) == Some(value))
        };
        candidates.filter(selects).min()
    }

    pub(super) fn set_pod(&mut self, name: Name, pod: Option<Pod>) -> Affected {
        let members = &mut self.members;
        if members.pods.get(&name) == pod.as_ref() {
            return Affected::default();
        }
        if let Some(old) = members.pods.get(&name) {
            labels_of(&name, old).for_each(|label| members.labelled.take(&label, &name));
            members.proxied.take(&name.namespace, &name);
        }
        match pod {
            Some(pod) => {
                if pod.has_proxy() {
                    members.proxied.add(name.namespace.clone(), name.clone());
                }
                labels_of(&name, &pod).for_each(|label| members.labelled.add(label, name.clone()));
                members.pods.insert(name.clone(), pod);
            }
            None => drop(members.pods.remove(&name)),
        }
        let listing: BTreeSet<Name> = self.members.listing.of(&name).cloned().collect();
        let mut dirty = self.rehome([name]);
        dirty.extend(listing);
        self.derive(dirty)
    }

    pub(super) fn set_slice(&mut self, name: &Name, slice: Option<Slice>) -> Affected {
        let old = self.members.slices.remove(name);
        let changed = old != slice;
        let service = |slice: &Slice| Name::new(&name.namespace, &slice.service);
        let services: BTreeSet<Name> = old.iter().chain(&slice).map(service).collect();
        if let Some(slice) = slice {
            let service = service(&slice);
            for pod in pods_of(name, &slice) {
                self.members.listing.add(pod, service.clone());
            }
            self.members.of_service.add(service, name.clone());
            self.members.slices.insert(name.clone(), slice);
        }
        if !changed {
            return Affected::default();
        }
        if let Some(old) = old {
            self.unlist(name, &old);
        }
        self.derive(services)
    }

    /// Takes over that a slice does not list these pods of a Service any more; it, or another one, may still do so.
    fn unlist(&mut self, name: &Name, old: &Slice) {
        let members = &mut self.members;
        let service = Name::new(&name.namespace, &old.service);
        let new = members.slices.get(name).filter(|slice| slice.service == old.service);
        let kept = new.map(|slice| pods_of(name, slice)).unwrap_or_default();
        let left: BTreeSet<Name> = pods_of(name, old).difference(&kept).cloned().collect();
        if new.is_none() {
            members.of_service.take(&service, name);
        }
        if left.is_empty() {
            return;
        }
        let slices = members.of_service.of(&service).filter_map(|slice| members.slices.get(slice));
        let still: BTreeSet<Name> = slices.flat_map(|slice| pods_of(name, slice)).collect();
        for pod in left.difference(&still) {
            members.listing.take(pod, &service);
        }
    }

    /// Puts right what pods and slices mean after that object changed, came or went. `before` selects the pods that may
    /// have been its.
    pub(super) fn resettle(
        &mut self,
        reference: &ObjectRef,
        before: Option<BTreeMap<String, String>>,
    ) -> Affected {
        let name = &reference.name;
        if !self.in_cluster {
            return Affected::default();
        }
        let now = match reference.kind {
            ObjectKind::Microservice => self.microservices.get(name).map(Microservice::pod_selector),
            ObjectKind::Gateway => Some(BTreeMap::from([(LABEL_GATEWAY.to_owned(), name.name.clone())])),
            ObjectKind::Service => None,
            _ => return Affected::default(),
        };
        let selectors: Vec<_> = if before == now && reference.kind == ObjectKind::Microservice {
            Vec::new()
        } else {
            before.into_iter().chain(now).collect()
        };
        let pods: BTreeSet<Name> =
            selectors.iter().flat_map(|selector| self.members.selected(&name.namespace, selector)).collect();
        let mut dirty = self.rehome(pods);
        dirty.insert(name.clone());
        self.derive(dirty)
    }

    /// Finds anew where pods belong. Returns the workloads that lost or got some, or hold one that changed.
    fn rehome(&mut self, pods: impl IntoIterator<Item = Name>) -> BTreeSet<Name> {
        let mut touched = BTreeSet::new();
        for pod in pods {
            let home = self.members.pods.get(&pod).and_then(|found| self.home_of(&pod, found));
            let before = self.members.set_home(&pod, home.as_ref());
            touched.extend(before.into_iter().chain(home));
        }
        touched
    }

    fn home_of(&self, name: &Name, pod: &Pod) -> Option<Name> {
        let gateway = pod.gateway().map(|gateway| Name::new(&name.namespace, gateway));
        let gateway = gateway.filter(|gateway| self.gateways.contains_key(gateway));
        let service = || self.selecting(&name.namespace, &pod.labels).cloned();
        let bare =
            || (pod.meshed && !pod.account.is_empty()).then(|| Name::new(&name.namespace, &pod.account));
        gateway.or_else(service).or_else(bare)
    }

    fn derive(&mut self, workloads: BTreeSet<Name>) -> Affected {
        let mut affected = Affected::default();
        for workload in workloads {
            let instances = self.instances_now(&workload);
            affected.merge(self.set_instances(&workload, instances));
        }
        affected
    }

    /// The instances of a workload, as pods and slices tell them.
    fn instances_now(&self, workload: &Name) -> Vec<Instance> {
        let service = self.microservices.get(workload);
        let mut instances = BTreeMap::new();
        if service.is_some() || self.gateways.contains_key(workload) {
            let slices = self.slices_of(workload);
            let endpoints =
                || slices.iter().flat_map(|slice| slice.endpoints.iter().map(move |one| (*slice, one)));
            // With nothing else left, what is ending is better than nothing.
            let none_ready = endpoints().all(|(_, endpoint)| !endpoint.ready);
            for (slice, endpoint) in endpoints() {
                let ready = endpoint.ready || (none_ready && endpoint.draining);
                let ports = service.map(|service| self.ports(workload, service, slice, endpoint));
                let name = endpoint.pod.clone().unwrap_or_else(|| endpoint.address.to_string());
                let found = Found {
                    address: endpoint.address,
                    ready,
                    zone: &endpoint.zone,
                    for_zones: &endpoint.for_zones,
                    ports: ports.unwrap_or_default(),
                };
                instances.entry(name.clone()).or_insert_with(|| self.instance_at(workload, name, found));
            }
        }
        for pod in self.members.at_home.of(workload) {
            let nowhere = Found {
                address: Ipv4Addr::UNSPECIFIED.into(),
                ready: false,
                zone: "",
                for_zones: &[],
                ports: BTreeMap::new(),
            };
            let name = pod.name.clone();
            instances.entry(name.clone()).or_insert_with(|| self.instance_at(workload, name, nowhere));
        }
        instances.into_values().collect()
    }

    /// A Service's slices, those of IPv4 first: of a pod with two addresses one is enough.
    fn slices_of(&self, service: &Name) -> Vec<&Slice> {
        let slices = self.members.of_service.of(service);
        let mut slices: Vec<&Slice> = slices.filter_map(|slice| self.members.slices.get(slice)).collect();
        slices
            .sort_by_key(|slice| slice.endpoints.first().is_some_and(|endpoint| endpoint.address.is_ipv6()));
        slices
    }

    fn instance_at(&self, workload: &Name, name: String, found: Found<'_>) -> Instance {
        let pod_name = Name::new(&workload.namespace, &name);
        let pod = self.members.pods.get(&pod_name);
        let home = self.members.homes.get(&pod_name);
        let is_gateway = self.gateways.contains_key(workload)
            && pod.and_then(Pod::gateway).is_some_and(|gateway| gateway == workload.name);
        let is_bare = home == Some(workload)
            && found.ports.is_empty()
            && pod.is_some_and(|pod| self.selecting(&workload.namespace, &pod.labels) != Some(workload));
        let role = match () {
            () if is_gateway => Role::Gateway,
            () if is_bare => Role::Bare,
            () => Role::Service,
        };
        Instance {
            namespace: workload.namespace.clone(),
            service: workload.name.clone(),
            name,
            role,
            address: found.address,
            ports: found.ports,
            outbound: BTreeMap::new(),
            listeners: BTreeMap::new(),
            ready: found.ready,
            meshed: is_gateway || pod.is_some_and(|pod| pod.meshed),
            zone: found.zone.to_owned(),
            for_zones: found.for_zones.to_vec(),
            account: pod.map(|pod| pod.account.clone()).unwrap_or_default(),
            shared: home.is_some_and(|home| home != workload),
            token_sha256: String::new(),
        }
    }

    /// Where the ports of a service are at one of its endpoints. Its Service says which port of the slice is meant.
    fn ports(
        &self,
        workload: &Name,
        service: &Microservice,
        slice: &Slice,
        endpoint: &Endpoint,
    ) -> BTreeMap<String, PortAddresses> {
        let front = self.services.get(workload);
        let number = |port: &Port| {
            let by_service = front.and_then(|front| front.front_of(port)).map(|front| front.name.as_str());
            let name = by_service.unwrap_or(&port.name);
            slice.ports.iter().find(|(known, _)| known == name).map(|(_, number)| *number)
        };
        let at = |port: &Port| {
            let socket = SocketAddr::new(endpoint.address, number(port)?);
            Some((port.name.clone(), PortAddresses { app: socket, peers: socket }))
        };
        service.spec.ports.iter().filter_map(at).collect()
    }
}

/// What is known of where an instance is.
struct Found<'a> {
    address: IpAddr,
    ready: bool,
    zone: &'a str,
    for_zones: &'a [String],
    ports: BTreeMap<String, PortAddresses>,
}

#[cfg(test)]
mod tests;
