//! Probes of the kubelet, which come without a certificate and would be refused by a proxy that is strict: the kubelet
//! asks the proxy instead, at `/probe/<container>/<probe>` of its health port, and the proxy the application on loopback.
//! What it asks is handed to it in one variable. Probes that run a command in the container stay as they are.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, HTTPGetAction, PodSpec, Probe};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Map, Value, json};
use weft_api::names;
use weft_crds::FieldPath;

use super::Found;
use super::annotations::Wishes;

/// Rewrites every probe that comes over the network; gives what the proxy is to ask, by `<container>/<probe>`. `known` is
/// what an earlier injection took over.
pub(super) fn rewrite(
    spec: &mut PodSpec,
    wishes: &Wishes,
    known: Map<String, Value>,
    found: &mut Found,
) -> Map<String, Value> {
    let mut rewrite = Rewrite { wishes, known, taken: Map::new(), found };
    let path = FieldPath::of(&["spec"]);
    for (at, container) in spec.containers.iter_mut().enumerate() {
        rewrite.container(container, &path.field("containers").index(at));
    }
    for (at, container) in spec.init_containers.iter_mut().flatten().enumerate() {
        rewrite.container(container, &path.field("initContainers").index(at));
    }
    rewrite.taken
}

struct Rewrite<'a> {
    wishes: &'a Wishes,
    known: Map<String, Value>,
    taken: Map<String, Value>,
    found: &'a mut Found,
}

impl Rewrite<'_> {
    fn container(&mut self, container: &mut Container, path: &FieldPath) {
        let name = container.name.clone();
        let ports = ports(container);
        let probes = [
            ("liveness", &mut container.liveness_probe),
            ("readiness", &mut container.readiness_probe),
            ("startup", &mut container.startup_probe),
        ];
        for (kind, probe) in probes {
            let Some(probe) = probe else { continue };
            let key = format!("{name}/{kind}");
            let path = path.field(&format!("{kind}Probe"));
            if is_rewritten(probe, &key) {
                self.again(probe, &key, path);
            } else if let Some(asks) = self.asks(probe, &ports, &path) {
                take(probe, &key);
                self.taken.insert(key, asks);
            }
        }
    }

    /// A probe that was taken over before.
    fn again(&mut self, probe: &Probe, key: &str, path: FieldPath) {
        match self.known.remove(key) {
            Some(mut asks) => {
                asks["timeoutMs"] = timeout(probe);
                self.taken.insert(key.to_owned(), asks);
            }
            None => self.found.wrong(
                path,
                "asks the proxy in place of the application, and nothing says what the proxy is to ask",
                "write the probe of the application itself",
            ),
        }
    }

    /// What the proxy is to ask in place of the kubelet; none: the kubelet asks by itself.
    fn asks(&mut self, probe: &Probe, ports: &BTreeMap<String, u16>, path: &FieldPath) -> Option<Value> {
        let mut asks = if let Some(http) = &probe.http_get {
            self.port(&http.port, http.host.as_deref(), ports, &path.field("httpGet"))
                .map(|port| json!({"http": http_asks(http, port)}))
        } else if let Some(tcp) = &probe.tcp_socket {
            self.port(&tcp.port, tcp.host.as_deref(), ports, &path.field("tcpSocket"))
                .map(|port| json!({"tcp": {"port": port}}))
        } else if let Some(grpc) = &probe.grpc {
            let port = IntOrString::Int(grpc.port);
            let service = grpc.service.as_deref().unwrap_or_default();
            self.port(&port, None, ports, &path.field("grpc"))
                .map(|port| json!({"grpc": {"port": port, "service": service}}))
        } else {
            None
        }?;
        asks["timeoutMs"] = timeout(probe);
        Some(asks)
    }

    /// The number of a port that is behind the proxy.
    fn port(
        &mut self,
        port: &IntOrString,
        host: Option<&str>,
        ports: &BTreeMap<String, u16>,
        path: &FieldPath,
    ) -> Option<u16> {
        // Another host than the pod is not behind its proxy.
        if host.is_some_and(|host| !host.is_empty()) {
            return None;
        }
        let number = match port {
            IntOrString::Int(number) => u16::try_from(*number).ok(),
            IntOrString::String(name) => ports.get(name).copied().or_else(|| name.parse().ok()),
        };
        let Some(number) = number.filter(|number| *number > 0) else {
            let port = match port {
                IntOrString::Int(number) => number.to_string(),
                IntOrString::String(name) => name.clone(),
            };
            let path = path.field("port");
            self.found
                .warnings
                .push(format!("{path}: the container has no port {port}; the probe will fail"));
            return None;
        };
        let open = [names::PORT_HEALTH, names::PORT_METRICS].contains(&number);
        (!open && !self.wishes.skip_inbound_ports.contains(&number)).then_some(number)
    }
}

fn http_asks(http: &HTTPGetAction, port: u16) -> Value {
    let headers = http.http_headers.iter().flatten();
    let headers: Vec<[&str; 2]> =
        headers.map(|header| [header.name.as_str(), header.value.as_str()]).collect();
    json!({
        "port": port,
        "path": http.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/"),
        "host": "",
        "scheme": http.scheme.as_deref().filter(|scheme| !scheme.is_empty()).unwrap_or("HTTP"),
        "headers": headers,
    })
}

fn ports(container: &Container) -> BTreeMap<String, u16> {
    let ports = container.ports.iter().flatten();
    ports.filter_map(|port| Some((port.name.clone()?, u16::try_from(port.container_port).ok()?))).collect()
}

fn timeout(probe: &Probe) -> Value {
    let seconds = probe.timeout_seconds.filter(|seconds| *seconds > 0).unwrap_or(1);
    Value::from(i64::from(seconds) * 1000)
}

fn is_rewritten(probe: &Probe, key: &str) -> bool {
    let port = IntOrString::Int(i32::from(names::PORT_HEALTH));
    let path = format!("{}/{key}", names::PROBE_PATH);
    probe.http_get.as_ref().is_some_and(|get| get.port == port && get.path.as_ref() == Some(&path))
}

/// Lets the kubelet ask the proxy; how often and how long stays.
fn take(probe: &mut Probe, key: &str) {
    (probe.tcp_socket, probe.grpc) = (None, None);
    probe.http_get = Some(HTTPGetAction {
        path: Some(format!("{}/{key}", names::PROBE_PATH)),
        port: IntOrString::Int(i32::from(names::PORT_HEALTH)),
        ..HTTPGetAction::default()
    });
}
