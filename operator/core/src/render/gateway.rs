//! What a Gateway is made into: ServiceAccount, Deployment and Service of its proxies, and a disruption budget where
//! there are several. Annotations of the Gateway, or of its `spec.infrastructure`, say how many and of which type the
//! Service is; the labels and annotations of `spec.infrastructure` are put on everything made, as the Gateway API says.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, Lifecycle, LifecycleHandler, PodSpec, Service, ServiceAccount, ServicePort,
    ServiceSpec, SleepAction,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use weft_api::names::{
    CONFIG_PREFIX, CONFIG_REPLICAS, CONFIG_SERVICE_TYPE, INJECT, INJECT_DISABLED, gateway_port,
};
use weft_crds::gateway::{Gateway, Listener, ListenerProtocol};
use weft_crds::microservice::Disruption;

use super::{INVALID_PARAMETERS, Obstacle, Owned, OwnedKind, Owner, deployment, microservice};
use crate::compile::attach::kinds_of;
use crate::inject::Template;

/// Types that the Service may have; the first where none is asked for.
const SERVICE_TYPES: [&str; 3] = ["LoadBalancer", "NodePort", "ClusterIP"];
/// Most instances that may be asked for.
const MOST_REPLICAS: i32 = 100;
/// How long a proxy goes on before it ends, so that whoever balances over the instances learns of it first.
const DRAIN_DELAY: i64 = 5;

pub(super) fn objects(owner: &Owner, gateway: &Gateway, template: &Template) -> Result<Vec<Owned>, Obstacle> {
    let wishes = Wishes::read(gateway)?;
    let ports = ports(&gateway.spec.listeners);
    // A Service must have a port; the status of each listener says why it has none.
    if ports.is_empty() {
        return Ok(Vec::new());
    }
    let meta = || marked(owner.meta(), gateway);
    let account = ServiceAccount { metadata: meta(), ..ServiceAccount::default() };
    let service = Service { metadata: meta(), ..service(owner, &ports, &wishes) };
    let deployment = deployment(owner, gateway, &ports, (&wishes, template));
    let mut objects = vec![
        owner.owned(OwnedKind::ServiceAccount, &account),
        owner.owned(OwnedKind::Service, &service),
        owner.owned(OwnedKind::Deployment, &Deployment { metadata: meta(), ..deployment }),
    ];
    if wishes.replicas > 1 {
        let one = Disruption { max_unavailable: Some(IntOrString::Int(1)), min_available: None };
        let mut budget = microservice::budget(owner, &one);
        budget.metadata = meta();
        objects.push(owner.owned(OwnedKind::PodDisruptionBudget, &budget));
    }
    Ok(objects)
}

/// What annotations ask for.
struct Wishes {
    service_type: String,
    replicas: i32,
}

impl Wishes {
    fn read(gateway: &Gateway) -> Result<Self, Obstacle> {
        let infrastructure =
            gateway.spec.infrastructure.as_ref().map(|infrastructure| &infrastructure.annotations);
        let all = || infrastructure.into_iter().chain(&gateway.metadata.annotations);
        let find =
            |name: &str| all().find_map(|annotations| annotations.get(&format!("{CONFIG_PREFIX}{name}")));
        let service_type = find(CONFIG_SERVICE_TYPE).map_or(SERVICE_TYPES[0], String::as_str);
        if !SERVICE_TYPES.contains(&service_type) {
            let remedy = format!("write {}", SERVICE_TYPES.join(", "));
            return Err(invalid(CONFIG_SERVICE_TYPE, service_type, remedy));
        }
        let replicas = find(CONFIG_REPLICAS).map_or("1", String::as_str);
        let number = replicas.parse().ok().filter(|number| (0..=MOST_REPLICAS).contains(number));
        let remedy = || format!("write a number from 0 to {MOST_REPLICAS}");
        let number = number.ok_or_else(|| invalid(CONFIG_REPLICAS, replicas, remedy()))?;
        Ok(Self { service_type: service_type.to_owned(), replicas: number })
    }
}

fn invalid(name: &str, value: &str, remedy: String) -> Obstacle {
    let value: String = value.chars().take(60).collect();
    let message = format!("annotation {CONFIG_PREFIX}{name} cannot be `{value}`");
    Obstacle { reason: INVALID_PARAMETERS.to_owned(), message, remedy }
}

/// A port of the Service: its name, its number, and what it says is spoken there.
type NamedPort = (String, u16, &'static str);

/// Each number once, of the listeners that can be served.
fn ports(listeners: &[Listener]) -> Vec<NamedPort> {
    let mut seen = BTreeSet::new();
    let served =
        listeners.iter().filter(|listener| !kinds_of(listener).is_empty() && seen.insert(listener.port));
    let named = served.map(|listener| {
        let protocol = match listener.protocol {
            ListenerProtocol::Https => "https",
            ListenerProtocol::Tls => "tls",
            _ => "http",
        };
        (format!("{protocol}-{}", listener.port), listener.port, protocol)
    });
    named.collect()
}

fn service(owner: &Owner, ports: &[NamedPort], wishes: &Wishes) -> Service {
    let port = |(name, port, protocol): &NamedPort| ServicePort {
        name: Some(name.clone()),
        port: i32::from(*port),
        target_port: Some(IntOrString::Int(gateway_port(*port).into())),
        protocol: Some("TCP".to_owned()),
        app_protocol: Some((*protocol).to_owned()),
        ..ServicePort::default()
    };
    let spec = ServiceSpec {
        type_: Some(wishes.service_type.clone()),
        selector: Some(owner.selector.clone()),
        ports: Some(ports.iter().map(port).collect()),
        ..ServiceSpec::default()
    };
    Service { spec: Some(spec), ..Service::default() }
}

fn deployment(
    owner: &Owner,
    gateway: &Gateway,
    ports: &[NamedPort],
    (wishes, template): (&Wishes, &Template),
) -> Deployment {
    let pod = PodSpec {
        containers: vec![container(owner, ports, template)],
        volumes: Some(vec![Template::volume()]),
        // The proxy has a token of its own, for the operator only.
        automount_service_account_token: Some(false),
        ..deployment::pod(owner, None)
    };
    let mut deployment = deployment::deployment(owner, Some(wishes.replicas), pod);
    if let Some(template) = deployment.spec.as_mut().and_then(|spec| spec.template.metadata.as_mut()) {
        *template = marked(std::mem::take(template), gateway);
        let annotations = template.annotations.get_or_insert_default();
        annotations.insert(INJECT.to_owned(), INJECT_DISABLED.to_owned());
    }
    deployment
}

fn container(owner: &Owner, ports: &[NamedPort], template: &Template) -> Container {
    let mut container = template.proxy(&owner.name.to_string());
    container.args = Some(vec!["gateway".to_owned()]);
    let listening = ports.iter().map(|(name, port, _)| ContainerPort {
        name: Some(name.clone()),
        container_port: gateway_port(*port).into(),
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    });
    container.ports.get_or_insert_default().extend(listening);
    let sleep =
        LifecycleHandler { sleep: Some(SleepAction { seconds: DRAIN_DELAY }), ..LifecycleHandler::default() };
    container.lifecycle = Some(Lifecycle { pre_stop: Some(sleep), ..Lifecycle::default() });
    container
}

/// With what the Gateway wants on everything made of it; it cannot change how we tell what is ours.
fn marked(meta: ObjectMeta, gateway: &Gateway) -> ObjectMeta {
    let Some(infrastructure) = &gateway.spec.infrastructure else { return meta };
    let merged = |theirs: &BTreeMap<String, String>, ours: Option<BTreeMap<String, String>>| {
        let mut all = theirs.clone();
        all.extend(ours.unwrap_or_default());
        (!all.is_empty()).then_some(all)
    };
    ObjectMeta {
        labels: merged(&infrastructure.labels, meta.labels),
        annotations: merged(&infrastructure.annotations, meta.annotations),
        ..meta
    }
}
