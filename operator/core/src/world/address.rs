//! Who is behind an address: what a proxy whose traffic is redirected asks before it knows any destination.
//!
//! An address is a port of a service by number (what an authority says), the cluster address of a Service, or that of one
//! instance. The index keeps answers cheap: no event looks through all Services or instances.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use weft_api::names::{self, Address};
use weft_crds::microservice::{Microservice, MtlsMode, Port, Protocol};

use super::World;
use super::index::{Label, Many};
use super::object::{InstanceRef, Name};
use super::service::{Service, ServicePort};
use crate::instances::{Instance, Role};

/// Where an address leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lead {
    /// The destination.
    pub destination: String,
    /// Where the address is that of one instance: where that is, and whether to speak mutual TLS with it.
    pub endpoint: Option<(SocketAddr, bool)>,
}

/// Owners of addresses. Several at once are a mistake or a moment between two events; the first in order counts.
#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    services: BTreeMap<IpAddr, BTreeSet<Name>>,
    /// Services by every label of the pods that they stand for.
    fronts: Many<Label, Name>,
    instances: BTreeMap<SocketAddr, BTreeSet<InstanceRef>>,
}

impl Index {
    /// Takes over that a Service changed, came or went.
    pub(super) fn service(&mut self, name: &Name, old: Option<&Service>, new: Option<&Service>) {
        for address in old.into_iter().flat_map(|old| &old.addresses) {
            take_out(&mut self.services, address, name);
        }
        for label in old.into_iter().flat_map(|old| labels(&name.namespace, &old.selector)) {
            self.fronts.take(&label, name);
        }
        for label in new.into_iter().flat_map(|new| labels(&name.namespace, &new.selector)) {
            self.fronts.add(label, name.clone());
        }
        for address in new.into_iter().flat_map(|new| &new.addresses) {
            self.services.entry(*address).or_default().insert(name.clone());
        }
    }

    /// Takes over that the instances of a workload changed.
    pub(super) fn instances(
        &mut self,
        workload: &Name,
        old: &BTreeMap<String, Instance>,
        new: &BTreeMap<String, Instance>,
    ) {
        let gone = old.values().filter(|instance| new.get(&instance.name) != Some(instance));
        for (address, instance) in gone.flat_map(|instance| peers(workload, instance)) {
            take_out(&mut self.instances, &address, &instance);
        }
        let come = new.values().filter(|instance| old.get(&instance.name) != Some(instance));
        for (address, instance) in come.flat_map(|instance| peers(workload, instance)) {
            self.instances.entry(address).or_default().insert(instance);
        }
    }
}

fn take_out<K: Ord, V: Ord>(map: &mut BTreeMap<K, BTreeSet<V>>, key: &K, value: &V) {
    if let Some(owners) = map.get_mut(key) {
        owners.remove(value);
        if owners.is_empty() {
            map.remove(key);
        }
    }
}

/// Where peers reach an instance that serves; a gateway is no destination.
fn peers<'a>(
    workload: &'a Name,
    instance: &'a Instance,
) -> impl Iterator<Item = (SocketAddr, InstanceRef)> + 'a {
    let serves = instance.role == Role::Service;
    let ports = instance.ports.values().filter(move |_| serves);
    ports.map(|addresses| (addresses.peers, InstanceRef::new(workload.clone(), &instance.name)))
}

impl World {
    /// Where an address leads; none where the mesh knows no destination there.
    pub fn lead(&self, address: Address<'_>) -> Option<Lead> {
        let to_port = |service: &Name, port: u16| {
            let (workload, port) = self.port_at(service, port)?;
            Some(Lead { destination: destination(&workload, port), endpoint: None })
        };
        match address {
            Address::Port { namespace, service, port } => to_port(&Name::new(namespace, service), port),
            Address::Socket(socket) => {
                let services = self.addresses.services.get(&socket.ip()).into_iter().flatten();
                let has = |service: &&Name| self.services.get(service)?.port(socket.port());
                let mut services = services.filter(|service| has(service).is_some());
                let by_service = services.find_map(|service| to_port(service, socket.port()));
                by_service.or_else(|| self.lead_to_instance(socket))
            }
        }
    }

    fn lead_to_instance(&self, socket: SocketAddr) -> Option<Lead> {
        self.addresses.instances.get(&socket)?.iter().find_map(|reference| {
            let instance = self.instance(reference)?;
            let service = self.microservice(&reference.workload)?;
            let mut ports = instance.ports.iter().filter(|(_, addresses)| addresses.peers == socket);
            let port = ports.find_map(|(name, _)| service.spec.port(name))?;
            // Where it must be mutual TLS, plain text is not tried.
            let secured = instance.meshed || self.mtls_mode(service) == MtlsMode::Strict;
            let endpoint = Some((socket, secured));
            Some(Lead { destination: destination(&reference.workload, port), endpoint })
        })
    }

    /// The Microservice and its port behind a port of a Service, by number. A Service that bears no Microservice's name may
    /// stand for the pods of one.
    fn port_at(&self, service: &Name, number: u16) -> Option<(Name, &Port)> {
        let front = self.services.get(service);
        let port = front.and_then(|front| front.port(number));
        if let Some(own) = self.microservices.get(service) {
            return Some((service.clone(), own_port(own, port, number)?));
        }
        let (front, port) = (front?, port?);
        let name = self.selecting(&service.namespace, &front.selector)?;
        let behind = self.microservices.get(name)?;
        Some((name.clone(), behind.spec.ports.iter().find(|candidate| port.leads_to(candidate))?))
    }

    /// What is spoken on a port: what the Microservice says, else what its Service says.
    pub fn protocol(&self, service: &Name, port: &Port) -> Option<Protocol> {
        let said = || self.services.get(service)?.ports.iter().find(|front| is_same(front, port))?.protocol;
        port.protocol.or_else(said)
    }

    /// Addresses that lead to a Service's ports or did: its own, and its ports by number.
    pub(super) fn addresses_of_service(&self, name: &Name) -> BTreeSet<String> {
        let Some(service) = self.services.get(name) else { return BTreeSet::new() };
        let Name { namespace, name } = name;
        let ports = service.ports.iter().map(|port| port.port);
        ports
            .flat_map(|port| {
                let sockets = service.addresses.iter().map(move |ip| Address::Socket((*ip, port).into()));
                sockets.chain([Address::Port { namespace, service: name, port }])
            })
            .map(|address| address.to_string())
            .collect()
    }

    /// Addresses that lead to a Microservice: by its own name, by Services that stand for it, and of its instances.
    pub(super) fn addresses_of_microservice(&self, name: &Name) -> BTreeSet<String> {
        let mut all = self.addresses_of_service(name);
        let ports = self.microservices.get(name).map(|service| service.spec.ports.as_slice());
        let numbers: Vec<u16> = ports.unwrap_or_default().iter().map(|port| port.port).collect();
        let (namespace, service) = (name.namespace.as_str(), name.name.as_str());
        let by_number = numbers.iter().map(|&port| Address::Port { namespace, service, port }.to_string());
        all.extend(by_number);
        if let Some(behind) = self.microservices.get(name) {
            for front in self.fronts_of(namespace, behind) {
                all.extend(self.addresses_of_service(front));
            }
        }
        let instances = self.instances_of(name).flat_map(|instance| instance.ports.values());
        all.extend(instances.map(|addresses| addresses.peers.to_string()));
        all
    }

    /// Services that stand for the pods of a Microservice, whatever their names.
    fn fronts_of<'a>(
        &'a self,
        namespace: &'a str,
        behind: &'a Microservice,
    ) -> impl Iterator<Item = &'a Name> {
        let selector = behind.pod_selector();
        let fronts = &self.addresses.fronts;
        let rarest = labels(namespace, &selector).min_by_key(|label| fronts.count(label));
        let some: Vec<&Name> = rarest.iter().flat_map(|label| fronts.of(label)).collect();
        let stands = |name: &&Name| self.services.get(*name).is_some_and(|front| front.stands_for(behind));
        some.into_iter().filter(stands)
    }
}

fn labels(namespace: &str, selector: &BTreeMap<String, String>) -> impl Iterator<Item = Label> {
    selector.iter().map(|(key, value)| (namespace.to_owned(), key.clone(), value.clone()))
}

/// Addresses of instances that are not what they were.
pub(super) fn of_instances(
    old: &BTreeMap<String, Instance>,
    new: &BTreeMap<String, Instance>,
) -> BTreeSet<String> {
    let differ = |one: &BTreeMap<String, Instance>, other: &BTreeMap<String, Instance>| {
        let changed = one.values().filter(|instance| {
            let part = |instance: &Instance| (instance.ports.clone(), instance.meshed, instance.role);
            other.get(&instance.name).map(part) != Some(part(instance))
        });
        let peers = changed.flat_map(|instance| instance.ports.values());
        peers.map(|addresses| addresses.peers.to_string()).collect::<BTreeSet<_>>()
    };
    let mut all = differ(old, new);
    all.append(&mut differ(new, old));
    all
}

fn destination(workload: &Name, port: &Port) -> String {
    names::destination(&workload.namespace, &workload.name, &port.name)
}

/// The port of a Microservice that a port of the Service of its own name leads to.
fn own_port<'a>(service: &'a Microservice, front: Option<&ServicePort>, number: u16) -> Option<&'a Port> {
    let ports = &service.spec.ports;
    let by_service = front.and_then(|front| {
        let by_name = ports.iter().find(|port| port.name == front.name);
        by_name.or_else(|| ports.iter().find(|port| front.leads_to(port)))
    });
    by_service.or_else(|| ports.iter().find(|port| port.port == number))
}

/// Whether a port of a Service is that port of the Microservice of the same name.
fn is_same(front: &ServicePort, port: &Port) -> bool {
    front.name == port.name || (front.name.is_empty() && front.port == port.port)
}
