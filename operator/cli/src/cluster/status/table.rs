//! The status of a cluster as lines of text, in the columns of a local one. Pure: the time is an argument.

use weft_api::status::{Condition, InstanceStatus, MeshStatus};

use crate::status::table::{align, breakers, config, expiry, keys, mtls, titled};

/// The status, line by line.
pub(crate) fn lines(cluster: &str, leader: &str, mesh: &MeshStatus, now: i64) -> Vec<String> {
    let root = expiry(mesh.root_expires, now);
    let headline = format!(
        "cluster {cluster}: weft {}, trust domain {}, root certificate {root}, leader {leader}",
        mesh.version, mesh.trust_domain
    );
    let mut out = vec![headline];
    out.extend(titled(instances(mesh, now)));
    out.extend(titled(gateways(mesh)));
    out.extend(titled(breakers(mesh)));
    out.extend(titled(keys(mesh, now)));
    let problems = problems(mesh);
    if !problems.is_empty() {
        out.extend([String::new(), "PROBLEMS".into()]);
        out.extend(problems.into_iter().map(|problem| format!("  {problem}")));
    }
    out
}

/// One of a mesh that runs in pods.
struct Owner<'a> {
    namespace: &'a str,
    name: &'a str,
    kind: &'a str,
    mtls: &'a str,
}

fn instances(mesh: &MeshStatus, now: i64) -> Option<Vec<String>> {
    let header = ["NAMESPACE", "NAME", "KIND", "ADDRESS", "READY", "MTLS", "CERTIFICATE", "CONFIG", "NOTE"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    for service in &mesh.services {
        let secured = service.conditions.iter().find(|condition| condition.kind == "Secured");
        let mtls = secured.map_or("-", |condition| mtls(&condition.reason));
        let owner = Owner { namespace: &service.namespace, name: &service.name, kind: "service", mtls };
        rows.extend(of_owner(&owner, &service.instances, now));
    }
    for gateway in &mesh.gateways {
        let owner = Owner { namespace: &gateway.namespace, name: &gateway.name, kind: "gateway", mtls: "-" };
        rows.extend(of_owner(&owner, &gateway.instances, now));
    }
    (rows.len() > 1).then(|| align(&rows))
}

fn of_owner(owner: &Owner<'_>, instances: &[InstanceStatus], now: i64) -> Vec<Vec<String>> {
    let row = |cells: [String; 5], note: String| {
        let [name, address, ready, certificate, config] = cells;
        let (kind, mtls) = (owner.kind.to_owned(), owner.mtls.to_owned());
        vec![owner.namespace.to_owned(), name, kind, address, ready, mtls, certificate, config, note]
    };
    if instances.is_empty() {
        let none = || "-".to_owned();
        return vec![row([owner.name.to_owned(), none(), none(), none(), none()], "no pod".into())];
    }
    instances
        .iter()
        .map(|instance| {
            let ready = if instance.ready { "yes" } else { "no" };
            let certificate =
                if instance.meshed { expiry(instance.certificate_expires, now) } else { "-".into() };
            let cells = [
                instance.name.clone(),
                instance.address.to_string(),
                ready.into(),
                certificate,
                config(instance.config).into(),
            ];
            row(cells, note(instance))
        })
        .collect()
}

fn note(instance: &InstanceStatus) -> String {
    if !instance.meshed {
        return "has no proxy; restart it once its namespace is in the mesh".into();
    }
    if !instance.refusal.is_empty() {
        return format!("config refused: {}", instance.refusal);
    }
    if instance.connected { String::new() } else { "not connected to an operator".into() }
}

fn gateways(mesh: &MeshStatus) -> Option<Vec<String>> {
    let mut rows = vec![vec!["GATEWAY".to_owned(), "ADDRESSES".to_owned()]];
    rows.extend(mesh.gateways.iter().filter(|gateway| !gateway.addresses.is_empty()).map(|gateway| {
        let addresses = gateway.addresses.iter();
        let addresses = addresses.map(|place| format!("{}={}", place.listener, place.address));
        vec![format!("{}/{}", gateway.namespace, gateway.name), addresses.collect::<Vec<_>>().join("  ")]
    }));
    (rows.len() > 1).then(|| align(&rows))
}

fn problems(mesh: &MeshStatus) -> Vec<String> {
    let mut all: Vec<String> = mesh.problems.iter().map(ToString::to_string).collect();
    for service in &mesh.services {
        for Condition { kind, status, reason, message } in &service.conditions {
            // A mode that somebody chose is no problem; the table says it.
            let is_chosen = ["Permissive", "Disabled"].contains(&mtls(reason));
            if status == "False" && !is_chosen {
                let (namespace, name) = (&service.namespace, &service.name);
                let text = format!("Microservice {namespace}/{name}: not {kind} ({reason}): {message}");
                all.push(text.trim_end_matches([':', ' ']).to_owned());
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use weft_api::status::{ConfigState, GatewayStatus, ListenerAddress, ServiceStatus};

    use super::*;
    use crate::status::table::tests::{NOW, instance};

    fn pod(name: &str) -> InstanceStatus {
        InstanceStatus { address: "10.244.1.7".parse().unwrap(), ..instance(name, Vec::new()) }
    }

    fn condition(kind: &str, status: &str, reason: &str, message: &str) -> Condition {
        Condition { kind: kind.into(), status: status.into(), reason: reason.into(), message: message.into() }
    }

    #[test]
    fn everything_is_shown_in_tables() {
        let bare = InstanceStatus { meshed: false, connected: false, config: ConfigState::None, ..pod("b") };
        let away = InstanceStatus { connected: false, ready: false, ..pod("c") };
        let mesh = MeshStatus {
            version: "0.1.0".into(),
            trust_domain: "cluster.local".into(),
            root_expires: NOW + 364 * 86_400,
            services: vec![
                ServiceStatus {
                    namespace: "shop".into(),
                    name: "order".into(),
                    conditions: vec![
                        condition("Secured", "False", "PlainTextAllowed", "mtls.mode is Permissive"),
                        condition("Meshed", "False", "PodsWithoutProxy", "1 of 3"),
                    ],
                    instances: vec![pod("order-7d9-a"), bare, away],
                },
                ServiceStatus { namespace: "shop".into(), name: "user".into(), ..ServiceStatus::default() },
            ],
            gateways: vec![GatewayStatus {
                namespace: "shop".into(),
                name: "public".into(),
                addresses: vec![ListenerAddress {
                    listener: "http".into(),
                    address: "10.96.0.9:80".parse().unwrap(),
                }],
                instances: vec![pod("public-5f6-x")],
            }],
            ..MeshStatus::default()
        };
        let expect = "\
cluster kind-weft: weft 0.1.0, trust domain cluster.local, root certificate for 364d0h, leader weft-operator-1

NAMESPACE  NAME          KIND     ADDRESS     READY  MTLS        CERTIFICATE  CONFIG  NOTE
shop       order-7d9-a   service  10.244.1.7  yes    Permissive  for 23h0m    synced
shop       b             service  10.244.1.7  yes    Permissive  -            -       has no proxy; restart it once its namespace is in the mesh
shop       c             service  10.244.1.7  no     Permissive  for 23h0m    synced  not connected to an operator
shop       user          service  -           -      -           -            -       no pod
shop       public-5f6-x  gateway  10.244.1.7  yes    -           for 23h0m    synced

GATEWAY      ADDRESSES
shop/public  http=10.96.0.9:80

PROBLEMS
  Microservice shop/order: not Meshed (PodsWithoutProxy): 1 of 3";
        assert_eq!(lines("kind-weft", "weft-operator-1", &mesh, NOW).join("\n"), expect);
    }
}
