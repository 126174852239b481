//! Probes of a Microservice's container, by its `health` and ports.
//!
//! Readiness asks for the health, and so does start-up; an instance that is unwell because something it needs is away
//! is taken out, not restarted, so liveness only asks whether it still accepts connections. Injection turns all of them
//! into questions to the proxy, which asks the application in their place.

use k8s_openapi::api::core::v1::{GRPCAction, HTTPGetAction, Probe, TCPSocketAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use weft_crds::microservice::{Health, Port, Protocol};

/// The three of a container; none where it has no port.
#[derive(Default)]
pub(super) struct Probes {
    pub(super) startup: Option<Probe>,
    pub(super) readiness: Option<Probe>,
    pub(super) liveness: Option<Probe>,
}

pub(super) fn of(ports: &[Port], health: Option<&Health>) -> Probes {
    let default = Health::default();
    let named = health.and_then(|health| health.port.as_ref());
    let by_name = named.and_then(|name| ports.iter().find(|port| port.name == *name));
    let first_http = || ports.iter().find(|port| port.protocol == Some(Protocol::Http));
    let Some(port) = by_name.or_else(first_http).or(ports.first()) else { return Probes::default() };
    // What speaks is not known: a path is asked for only where the user says that there is one.
    let said = health.is_some() || port.protocol.is_some();
    let ask = match port.protocol {
        Some(Protocol::Http) => http(port, health.unwrap_or(&default)),
        None if said => http(port, health.unwrap_or(&default)),
        Some(Protocol::Grpc) if named.is_some() => grpc(port),
        _ => tcp(port),
    };
    Probes {
        startup: Some(Probe {
            period_seconds: Some(2),
            timeout_seconds: Some(2),
            failure_threshold: Some(90),
            ..ask.clone()
        }),
        readiness: Some(Probe {
            period_seconds: Some(5),
            timeout_seconds: Some(2),
            failure_threshold: Some(2),
            ..ask
        }),
        liveness: Some(Probe {
            period_seconds: Some(10),
            timeout_seconds: Some(5),
            failure_threshold: Some(3),
            ..tcp(port)
        }),
    }
}

fn http(port: &Port, health: &Health) -> Probe {
    let get = HTTPGetAction {
        path: Some(health.path.clone()),
        port: number(port),
        scheme: Some("HTTP".to_owned()),
        ..HTTPGetAction::default()
    };
    Probe { http_get: Some(get), ..Probe::default() }
}

fn grpc(port: &Port) -> Probe {
    let action = GRPCAction { port: port.target().into(), service: Some(String::new()) };
    Probe { grpc: Some(action), ..Probe::default() }
}

fn tcp(port: &Port) -> Probe {
    let socket = TCPSocketAction { port: number(port), host: None };
    Probe { tcp_socket: Some(socket), ..Probe::default() }
}

fn number(port: &Port) -> IntOrString {
    IntOrString::Int(port.target().into())
}
