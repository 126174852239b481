//! Ties weft.yaml to the manifests: every name in it must mean something there, every `${...}` something that the
//! service has. What is tied becomes a [`Project`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use weft_api::names::destination;
use weft_api::status::Problem;
use weft_crds::Microservice;
use weft_crds::gateway::{Gateway as GatewayObject, ListenerProtocol};
use weft_crds::manifest::{Manifest, Object};

use super::variables::{unknown, variables};
use super::{Gateway, Health, Listener, Project, Service};
use crate::problem::Findings;
use crate::run::template;
use crate::run::weft_yaml::{At, Fault, GatewayEntry, Position, ServiceEntry, WeftYaml};
use crate::suggest;

/// What is tied, and where faults go.
pub(super) struct Linker<'a> {
    /// The weft.yaml.
    pub(super) file: &'a Path,
    /// What is in it.
    pub(super) yaml: &'a WeftYaml,
    /// Where faults go.
    pub(super) findings: &'a mut Findings,
}

impl Linker<'_> {
    /// The project that manifests and weft.yaml make together.
    pub(super) fn link(&mut self, directory: &Path, namespace: &str, manifests: &[Manifest]) -> Project {
        let directory = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
        let services = by_name(manifests, |object| match object {
            Object::Microservice(service) => Some((&service.metadata, &**service)),
            _ => None,
        });
        let gateways = by_name(manifests, |object| match object {
            Object::Gateway(gateway) => Some((&gateway.metadata, &**gateway)),
            _ => None,
        });
        let ports = |((namespace, name), service): (&(String, String), &&Microservice)| {
            let named = service.spec.ports.iter().map(|port| destination(namespace, name, &port.name));
            named.collect::<Vec<_>>()
        };
        let mut project = Project {
            destinations: services.iter().flat_map(ports).collect(),
            databases: self
                .yaml
                .servers
                .postgres
                .as_ref()
                .map(|list| list.iter().map(|d| d.value.clone()).collect()),
            redis: self.yaml.servers.redis,
            directory,
            ..Project::default()
        };
        self.link_services(&mut project, &services, namespace);
        self.link_gateways(&mut project, &gateways, namespace);
        self.check_listeners(&project);
        project
    }

    fn link_services(
        &mut self,
        project: &mut Project,
        services: &BTreeMap<(String, String), &Microservice>,
        namespace: &str,
    ) {
        let yaml = self.yaml;
        let mut missing: BTreeSet<&(String, String)> = services.keys().collect();
        for (name, entry) in &yaml.services {
            let key = full_name(&name.value, namespace);
            let Some(object) = services.get(&key) else {
                self.no_such("services", name, "Microservice", &short_names(services.keys(), namespace));
                continue;
            };
            missing.remove(&key);
            let service = service_of(&key, object, entry, (namespace, &project.directory));
            self.check_variables(project, &service, (name, entry));
            project.services.push(service);
        }
        for (namespace, name) in missing {
            let message = format!(
                "Microservice {namespace}/{name} has no entry under `services`, so it is not started here"
            );
            self.findings.warnings.push(Problem {
                file: self.file.display().to_string(),
                message,
                ..Default::default()
            });
        }
    }

    fn link_gateways(
        &mut self,
        project: &mut Project,
        gateways: &BTreeMap<(String, String), &GatewayObject>,
        namespace: &str,
    ) {
        let yaml = self.yaml;
        for (name, _) in &yaml.gateways {
            if !gateways.contains_key(&full_name(&name.value, namespace)) {
                self.no_such("gateways", name, "Gateway", &short_names(gateways.keys(), namespace));
            }
        }
        for (key, object) in gateways {
            let entry = yaml.gateways.iter().find(|(name, _)| full_name(&name.value, namespace) == *key);
            let default = GatewayEntry::default();
            let gateway = gateway_of(key, object, entry.map_or(&default, |(_, entry)| entry), namespace);
            if let Some((_, entry)) = entry {
                self.check_ports(&gateway, entry);
            }
            project.gateways.push(gateway);
        }
    }

    /// Ports in weft.yaml are for listeners that there are.
    fn check_ports(&mut self, gateway: &Gateway, entry: &GatewayEntry) {
        let names: Vec<&str> = gateway.listeners.iter().map(|known| known.name.as_str()).collect();
        for (listener, port) in entry.ports.iter().filter(|(name, _)| !names.contains(&name.as_str())) {
            let hint = suggest::hint(listener, names.iter().copied());
            let message = format!("Gateway {} has no listener `{listener}`{hint}", gateway.name);
            self.error(port.at, &format!("gateways.{}.ports.{listener}", gateway.name), message);
        }
    }

    fn no_such(&mut self, field: &str, name: &At<String>, kind: &str, known: &[String]) {
        let hint = suggest::hint(&name.value, known.iter().map(String::as_str));
        let list = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
        let message = format!("the manifests have no {kind} of this name{hint} (there are: {list})");
        self.error(name.at, &format!("{field}.{}", name.value), message);
    }

    /// Every `${...}` must be something this service has.
    fn check_variables(
        &mut self,
        project: &Project,
        service: &Service,
        written: (&At<String>, &ServiceEntry),
    ) {
        let known = variables(project, service);
        let (name, entry) = written;
        let command = entry.command.iter().enumerate().map(|(n, text)| (format!("command[{n}]"), text));
        let env = entry.env.iter().map(|(key, text)| (format!("env.{key}"), text));
        for (field, text) in command.chain(env) {
            let field = format!("services.{}.{field}", name.value);
            let names = match template::names(&text.value) {
                Ok(names) => names,
                Err(error) => {
                    self.error(text.at, &field, error.to_string());
                    continue;
                }
            };
            for name in names.iter().filter(|name| !known.contains(name)) {
                self.error(text.at, &field, unknown(name, &known));
            }
        }
    }

    /// Two listeners cannot share an address and port.
    fn check_listeners(&mut self, project: &Project) {
        let all =
            project.gateways.iter().flat_map(|gateway| gateway.listeners.iter().map(move |l| (gateway, l)));
        let mut seen: BTreeMap<(IpAddr, u16), String> = BTreeMap::new();
        for (gateway, listener) in all {
            let address = gateway.address.unwrap_or(Ipv4Addr::LOCALHOST.into());
            let this = format!("{}/{} listener {}", gateway.namespace, gateway.name, listener.name);
            let Some(other) = seen.insert((address, listener.port), this.clone()) else { continue };
            let (port, name) = (listener.port, &gateway.name);
            let message = format!(
                "Gateways {other} and {this} both want port {port} of {address}; give one another port with \
                 `gateways.{name}.ports.{}` here",
                listener.name
            );
            self.error(Position { line: 1, column: 1 }, "gateways", message);
        }
    }

    fn error(&mut self, at: Position, field: &str, message: String) {
        let fault = Fault { at, field: field.to_owned(), message };
        self.findings.add_faults(self.file, vec![fault]);
    }
}

/// Objects of one kind by namespace and name.
fn by_name<'m, T>(
    manifests: &'m [Manifest],
    pick: impl Fn(&'m Object) -> Option<(&'m ObjectMeta, &'m T)>,
) -> BTreeMap<(String, String), &'m T> {
    let picked = manifests.iter().filter_map(|manifest| pick(&manifest.object));
    let text = |part: &Option<String>| part.clone().unwrap_or_default();
    picked.map(|(meta, object)| ((text(&meta.namespace), text(&meta.name)), object)).collect()
}

/// `name` or `namespace/name`, as both parts.
fn full_name(name: &str, namespace: &str) -> (String, String) {
    let (namespace, name) = name.split_once('/').unwrap_or((namespace, name));
    (namespace.to_owned(), name.to_owned())
}

/// Names as weft.yaml would write them.
fn short_names<'k>(keys: impl Iterator<Item = &'k (String, String)>, namespace: &str) -> Vec<String> {
    let short =
        |(of, name): &(String, String)| if of == namespace { name.clone() } else { format!("{of}/{name}") };
    keys.map(short).collect()
}

/// `order`, or `order.other` in another namespace than the usual one.
fn prefix(key: &(String, String), namespace: &str) -> String {
    if key.0 == namespace { key.1.clone() } else { format!("{}.{}", key.1, key.0) }
}

fn service_of(
    key: &(String, String),
    object: &Microservice,
    entry: &ServiceEntry,
    at: (&str, &Path),
) -> Service {
    let (namespace, directory) = at;
    let workload = object.spec.workload.as_ref();
    let account = workload.and_then(|workload| workload.service_account_name.clone());
    let replicas = workload.map_or(1, weft_crds::microservice::Workload::initial_replicas);
    Service {
        prefix: prefix(key, namespace),
        namespace: key.0.clone(),
        name: key.1.clone(),
        account: account.unwrap_or_else(|| key.1.clone()),
        ports: object.spec.ports.iter().map(|port| (port.name.clone(), port.target())).collect(),
        health: health_of(object),
        command: entry.command.iter().map(|word| word.value.clone()).collect(),
        env: entry.env.iter().map(|(name, text)| (name.clone(), text.value.clone())).collect(),
        directory: entry.directory.as_ref().map_or(directory.to_owned(), |path| directory.join(&path.value)),
        instances: entry.instances.unwrap_or(replicas),
    }
}

/// The declared check, else `/health` on the first HTTP port, else a connection to the first port.
fn health_of(object: &Microservice) -> Health {
    use weft_crds::microservice::Protocol;
    let declared = object.spec.workload.as_ref().and_then(|workload| workload.health.clone());
    let wanted = declared.clone().unwrap_or_default();
    let plain = object.spec.ports.iter().find(|port| port.protocol == Some(Protocol::Http));
    let named = object.spec.ports.iter().find(|port| port.name == "http");
    let port = wanted.port.or_else(|| named.or(plain).map(|port| port.name.clone()));
    match port {
        Some(port) => Health::Http { port, path: wanted.path },
        None => {
            Health::Tcp { port: object.spec.ports.first().map(|port| port.name.clone()).unwrap_or_default() }
        }
    }
}

fn gateway_of(
    key: &(String, String),
    object: &GatewayObject,
    entry: &GatewayEntry,
    namespace: &str,
) -> Gateway {
    let scheme = |protocol: &ListenerProtocol| match protocol {
        ListenerProtocol::Http => "http",
        ListenerProtocol::Https => "https",
        ListenerProtocol::Tls => "tls",
        ListenerProtocol::Tcp | ListenerProtocol::Other(_) => "tcp",
    };
    let listeners = object.spec.listeners.iter().map(|listener| Listener {
        name: listener.name.clone(),
        port: entry.ports.get(&listener.name).map_or(listener.port, |port| port.value),
        scheme: scheme(&listener.protocol),
    });
    let hosts: Vec<String> = entry.self_signed.iter().map(|host| host.value.clone()).collect();
    let secrets = object.spec.listeners.iter().filter_map(|listener| listener.tls.as_ref());
    let secrets = secrets.flat_map(|tls| &tls.certificate_refs).map(|secret| secret.name.clone());
    Gateway {
        prefix: prefix(key, namespace),
        namespace: key.0.clone(),
        name: key.1.clone(),
        address: entry.address,
        listeners: listeners.collect(),
        certificates: if hosts.is_empty() {
            BTreeMap::new()
        } else {
            secrets.map(|secret| (secret, hosts.clone())).collect()
        },
    }
}
