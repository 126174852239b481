//! What the world keeps of a Kubernetes Service: its own addresses, its ports, and whom it selects. Everything else of it
//! is for Kubernetes; tens of thousands of them must fit into the operator's memory.

use std::collections::BTreeMap;
use std::net::IpAddr;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use weft_crds::microservice::{Microservice, Port, Protocol};

/// A Service.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Service {
    /// Its cluster addresses; none where it is headless or stands for an external name.
    pub addresses: Vec<IpAddr>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// Labels of the pods it stands for; empty: of none.
    pub selector: BTreeMap<String, String>,
    /// Whether it is to be reached from outside by a load balancer.
    pub balanced: bool,
    /// Addresses and names of that load balancer, once it has any.
    pub ingress: Vec<String>,
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name; empty where the Service has only one.
    pub name: String,
    /// The number under which callers reach it.
    pub port: u16,
    /// The number or name of the pod's port.
    pub target: Option<IntOrString>,
    /// What it says is spoken there.
    pub protocol: Option<Protocol>,
}

impl Service {
    /// What counts of a Service.
    pub fn of(service: &core::Service) -> Self {
        let Some(spec) = &service.spec else { return Self::default() };
        let several = spec.cluster_ips.iter().flatten();
        let mut addresses: Vec<IpAddr> =
            several.chain(&spec.cluster_ip).filter_map(|address| address.parse().ok()).collect();
        addresses.sort_unstable();
        addresses.dedup();
        Self {
            addresses,
            ports: spec.ports.iter().flatten().filter_map(ServicePort::of).collect(),
            selector: spec.selector.clone().unwrap_or_default(),
            balanced: spec.type_.as_deref() == Some("LoadBalancer"),
            ingress: ingress(service),
        }
    }

    /// Its port of that number.
    pub fn port(&self, number: u16) -> Option<&ServicePort> {
        self.ports.iter().find(|port| port.port == number)
    }

    /// Its port that leads to that port of the Microservice of its name.
    pub fn front_of(&self, port: &Port) -> Option<&ServicePort> {
        let by_name = || self.ports.iter().find(|front| front.name == port.name);
        let by_target = || self.ports.iter().find(|front| front.leads_to(port));
        by_name().or_else(by_target).or_else(|| self.port(port.port))
    }

    /// Whether all the pods it stands for are those of that Microservice.
    pub fn stands_for(&self, service: &Microservice) -> bool {
        let wanted = service.pod_selector();
        !wanted.is_empty() && wanted.iter().all(|(key, value)| self.selector.get(key) == Some(value))
    }
}

fn ingress(service: &core::Service) -> Vec<String> {
    let balancer = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let points = balancer.and_then(|balancer| balancer.ingress.as_ref()).into_iter().flatten();
    points.filter_map(|point| point.ip.clone().or_else(|| point.hostname.clone())).collect()
}

impl ServicePort {
    /// None for UDP and SCTP, which the mesh leaves alone.
    fn of(port: &core::ServicePort) -> Option<Self> {
        let tcp = port.protocol.as_deref().is_none_or(|protocol| protocol == "TCP");
        let number = u16::try_from(port.port).ok().filter(|_| tcp)?;
        Some(Self {
            name: port.name.clone().unwrap_or_default(),
            port: number,
            target: port.target_port.clone(),
            protocol: port.app_protocol.as_deref().and_then(Protocol::from_app_protocol),
        })
    }

    /// Whether it leads to that port of a Microservice: by the port of the pod, else by name or number.
    pub fn leads_to(&self, port: &Port) -> bool {
        match &self.target {
            Some(IntOrString::Int(target)) => i32::from(port.target()) == *target,
            Some(IntOrString::String(target)) => port.name == *target || port.name == self.name,
            None => port.name == self.name || port.port == self.port,
        }
    }
}
