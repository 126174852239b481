//! `weft.yaml`: what `weft run DIR` starts on this machine for the manifests beside it: commands, environments, private
//! servers, addresses of gateways. Not a custom resource; a cluster never sees it. Here are its types and its strict
//! parser; what the names in it refer to is checked in project.rs, which knows the manifests too.

use std::collections::BTreeMap;
use std::net::IpAddr;

pub(crate) use super::yaml_node::{At, Fault, Position};
use super::yaml_node::{Node, Reader, join, parse as parse_tree};

/// Name of the file.
pub(crate) const FILE_NAME: &str = "weft.yaml";
/// More instances of one service than this are a slip.
const MOST_INSTANCES: u32 = 64;

/// The whole file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct WeftYaml {
    /// Namespace of manifests that name none. Default: `default`.
    pub(crate) namespace: Option<At<String>>,
    /// Private servers to start.
    pub(crate) servers: Servers,
    /// What to start for each Microservice, by `name` or `namespace/name`.
    pub(crate) services: Vec<(At<String>, ServiceEntry)>,
    /// How each Gateway is reached here, by `name` or `namespace/name`.
    pub(crate) gateways: Vec<(At<String>, GatewayEntry)>,
}

/// Private servers in the state folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Servers {
    /// PostgreSQL, with these databases.
    pub(crate) postgres: Option<Vec<At<String>>>,
    /// Redis.
    pub(crate) redis: bool,
}

/// How one service is started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ServiceEntry {
    /// Program and arguments; the program is looked up beside `weft`, then on PATH.
    pub(crate) command: Vec<At<String>>,
    /// Number of instances. Default: the manifest's `replicas`, else 1.
    pub(crate) instances: Option<u32>,
    /// Environment, with `${...}` filled in.
    pub(crate) env: BTreeMap<String, At<String>>,
    /// Folder to run in, relative to DIR. Default: DIR.
    pub(crate) directory: Option<At<String>>,
}

/// How one gateway is reached.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct GatewayEntry {
    /// Address its listeners are bound to. Default: 127.0.0.1.
    pub(crate) address: Option<IpAddr>,
    /// Other port numbers for listeners, by their names.
    pub(crate) ports: BTreeMap<String, At<u16>>,
    /// Host names for which a certificate is made here, for TLS listeners without a Secret of their own.
    pub(crate) self_signed: Vec<At<String>>,
}

/// Reads the file; every problem in it, not only the first.
pub(crate) fn parse(text: &str) -> Result<WeftYaml, Vec<Fault>> {
    if text.lines().all(|line| line.trim_start().starts_with('#') || line.trim().is_empty()) {
        return Ok(WeftYaml::default());
    }
    let root = parse_tree(text).map_err(|fault| vec![fault])?;
    let mut reader = Reader::default();
    let mut file = WeftYaml::default();
    for (name, node) in reader.fields(&root, "", &["namespace", "servers", "services", "gateways"]) {
        match name {
            "namespace" => file.namespace = reader.text(node, name),
            "servers" => file.servers = servers(&mut reader, node),
            "services" => file.services = named(&mut reader, node, name, service),
            _ => file.gateways = named(&mut reader, node, name, gateway),
        }
    }
    if reader.faults.is_empty() { Ok(file) } else { Err(reader.faults) }
}

fn named<T>(
    reader: &mut Reader,
    node: &Node,
    field: &str,
    read: fn(&mut Reader, &Node, &str) -> T,
) -> Vec<(At<String>, T)> {
    let entries = reader.map(node, field);
    entries
        .iter()
        .map(|(name, entry)| (name.clone(), read(reader, entry, &join(field, &name.value))))
        .collect()
}

fn servers(reader: &mut Reader, node: &Node) -> Servers {
    let mut servers = Servers::default();
    for (name, node) in reader.fields(node, "servers", &["postgres", "redis"]) {
        let field = join("servers", name);
        if name == "redis" {
            reader.fields(node, &field, &[]);
            servers.redis = true;
            continue;
        }
        let mut databases = Vec::new();
        for (_, list) in reader.fields(node, &field, &["databases"]) {
            databases = reader.texts(list, "servers.postgres.databases");
        }
        for database in &databases {
            if !is_identifier(&database.value) {
                let message =
                    "must be 1 to 63 lower-case letters, digits and underscores with a letter first";
                reader.fault(database.at, "servers.postgres.databases", message);
            }
        }
        servers.postgres = Some(databases);
    }
    servers
}

fn service(reader: &mut Reader, node: &Node, field: &str) -> ServiceEntry {
    let mut entry = ServiceEntry::default();
    for (name, node) in reader.fields(node, field, &["command", "instances", "env", "directory"]) {
        let field = join(field, name);
        match name {
            "command" => entry.command = reader.texts(node, &field),
            "instances" => entry.instances = reader.number(node, &field, (0, MOST_INSTANCES)),
            "directory" => entry.directory = reader.text(node, &field),
            _ => entry.env = environment(reader, node, &field),
        }
    }
    if entry.command.is_empty() {
        reader.fault(
            node.at,
            &join(field, "command"),
            "is missing; name the program to run: command: [my-service]",
        );
    }
    entry
}

fn environment(reader: &mut Reader, node: &Node, field: &str) -> BTreeMap<String, At<String>> {
    let mut env = BTreeMap::new();
    for (key, value) in reader.map(node, field) {
        if key.value.is_empty() || key.value.contains(['=', '\0', ' ']) {
            reader.fault(key.at, &join(field, &key.value), "is not a name for an environment variable");
        }
        if let Some(text) = reader.text(value, &join(field, &key.value)) {
            env.insert(key.value.clone(), text);
        }
    }
    env
}

fn gateway(reader: &mut Reader, node: &Node, field: &str) -> GatewayEntry {
    let mut entry = GatewayEntry::default();
    for (name, node) in reader.fields(node, field, &["address", "ports", "selfSigned"]) {
        let field = join(field, name);
        match name {
            "address" => entry.address = ip_address(reader, node, &field),
            "selfSigned" => entry.self_signed = reader.texts(node, &field),
            _ => {
                for (listener, port) in reader.map(node, &field) {
                    let number = reader.number(port, &join(&field, &listener.value), (1, 65535));
                    let number = number.and_then(|number| u16::try_from(number).ok());
                    entry
                        .ports
                        .extend(number.map(|n| (listener.value.clone(), At { value: n, at: listener.at })));
                }
            }
        }
    }
    entry
}

fn ip_address(reader: &mut Reader, node: &Node, field: &str) -> Option<IpAddr> {
    let text = reader.text(node, field)?;
    let address = text.value.parse().ok();
    if address.is_none() {
        reader.fault(text.at, field, "is not an IP address; write for example 127.0.0.1, or 0.0.0.0 for all");
    }
    address
}

/// A name PostgreSQL takes without quotes.
fn is_identifier(name: &str) -> bool {
    let starts = name.starts_with(|c: char| c.is_ascii_lowercase());
    starts
        && name.len() <= 63
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

#[cfg(test)]
mod tests;
