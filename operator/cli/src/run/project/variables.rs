//! The names that `${...}` may have in weft.yaml, and what is said of others. Their values are given in specs.rs.

use super::{Project, Service};
use crate::suggest;

/// The names that `${...}` may have in the entry of a service.
pub(crate) fn variables(project: &Project, service: &Service) -> Vec<String> {
    let mut names: Vec<String> =
        ["address", "instance", "index", "namespace", "service", "directory", "state"]
            .map(str::to_owned)
            .to_vec();
    names.extend(service.ports.iter().map(|(name, _)| format!("port.{name}")));
    names.extend(project.databases.is_some().then(|| "postgres".to_owned()));
    names.extend(project.redis.then(|| "redis".to_owned()));
    names.extend(project.destinations.iter().filter_map(|name| outbound_variable(name, &service.namespace)));
    names
}

/// `outbound.user.grpc` for a destination, `outbound.user.other.grpc` where it is in another namespace.
pub(crate) fn outbound_variable(destination: &str, from: &str) -> Option<String> {
    let (namespace, service, port) = weft_api::names::split_destination(destination)?;
    let service = if namespace == from { service.to_owned() } else { format!("{service}.{namespace}") };
    Some(format!("outbound.{service}.{port}"))
}

/// What to say of a name that there is not.
pub(super) fn unknown(name: &str, known: &[String]) -> String {
    if name == "postgres" {
        return "`${postgres}` needs a server; add `servers: {postgres: {databases: [...]}}`".into();
    }
    if name == "redis" {
        return "`${redis}` needs a server; add `servers: {redis: {}}`".into();
    }
    let hint = suggest::hint(name, known.iter().map(String::as_str));
    let list = known.iter().map(|name| format!("${{{name}}}")).collect::<Vec<_>>().join(", ");
    format!("unknown variable `${{{name}}}`{hint} (known here: {list})")
}
