//! What the facts of made-up clusters mean.

use k8s_openapi::serde::de::DeserializeOwned;
use serde_json::{Value, json};
use weft_api::status::{ConfigState, InstanceStatus, MeshStatus, Problem, ServiceStatus};

use super::*;
use crate::cluster::check::facts::Operator;
use crate::cluster::check::probe::Probe;
use crate::cluster::check::report::Mark;

const NOW: i64 = 1_800_000_000;
const DAY: i64 = 86_400;

fn of<K: DeserializeOwned>(value: Value) -> K {
    serde_json::from_value(value).unwrap()
}

fn definition(name: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {"group": "weft.dev", "names": {"kind": "X", "plural": "x"}, "scope": "Cluster", "versions": []},
        "status": {"conditions": [{"type": "Established", "status": "True"}]},
    })
}

fn webhook(name: &str, bundle: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "webhooks": [{
            "name": "a.weft.dev",
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
            "clientConfig": {"caBundle": bundle},
        }],
    })
}

/// A cluster that is ready for Weft.
fn bare() -> Facts {
    let versions = json!({"major": "1", "minor": "34", "gitVersion": "v1.34.4", "buildDate": "", "compiler": "",
        "gitCommit": "", "gitTreeState": "", "goVersion": "", "platform": ""});
    Facts {
        version: Ok(of(versions)),
        gateway_kinds: Ok(vec!["Gateway".into()]),
        definitions: Ok(vec![of(definition("microservices.weft.dev")), of(definition("meshes.weft.dev"))]),
        mutating: Ok(Vec::new()),
        validator: Ok(None),
        meshed: Ok(Vec::new()),
        operator: Ok(Installed::No(Ok(Vec::new()))),
    }
}

fn proxy(name: &str) -> InstanceStatus {
    InstanceStatus {
        name: name.into(),
        address: "10.244.1.7".parse().unwrap(),
        ready: true,
        meshed: true,
        connected: true,
        proxy_version: env!("CARGO_PKG_VERSION").into(),
        config: ConfigState::Synced,
        acked_version: String::new(),
        refusal: String::new(),
        certificate_expires: NOW + DAY,
        breakers: Vec::new(),
        active_requests: 0,
        open_connections: 0,
    }
}

fn pod(name: &str, more: &Value) -> Value {
    let mut pod = json!({
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"containers": [{"name": "app"}]},
        "status": {"phase": "Running"},
    });
    json_patch(&mut pod, more);
    pod
}

/// Lays one object over another.
fn json_patch(to: &mut Value, from: &Value) {
    match (to, from) {
        (Value::Object(to), Value::Object(from)) => {
            for (key, value) in from {
                json_patch(to.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (to, from) => *to = from.clone(),
    }
}

fn injected(name: &str) -> Value {
    pod(name, &json!({"metadata": {"annotations": {"weft.dev/injected": "0.1.0"}}}))
}

/// A cluster in which Weft works.
fn healthy() -> (Facts, Operator) {
    let facts = Facts {
        mutating: Ok(vec![of(webhook("weft-injector", "Y2E="))]),
        validator: Ok(Some(of(webhook("weft-validator", "Y2E=")))),
        meshed: Ok(vec![of(json!({"metadata": {"name": "shop"}}))]),
        ..bare()
    };
    let instances = vec![proxy("order-1")];
    let service = ServiceStatus { namespace: "shop".into(), instances, ..ServiceStatus::default() };
    let renewed = "2027-01-15T07:59:55.000000Z"; // five seconds before NOW
    let operator = Operator {
        deployment: of(
            json!({"spec": {"replicas": 2, "selector": {}, "template": {}}, "status": {"readyReplicas": 2}}),
        ),
        pods: Ok(Vec::new()),
        lease: Ok(Some(of(json!({"spec": {
            "holderIdentity": "weft-operator-1_10.244.1.2", "renewTime": renewed, "leaseDurationSeconds": 15}})))),
        mesh: Ok(MeshStatus {
            version: env!("CARGO_PKG_VERSION").into(),
            root_expires: NOW + 300 * DAY,
            services: vec![service],
            ..MeshStatus::default()
        }),
        roots: Ok(vec![of(json!({"metadata": {"namespace": "shop"}, "data": {"roots.pem": "a"}}))]),
        workloads: Ok(vec![of(injected("order-1"))]),
        injector: Probe::Answers,
        validator: Probe::Answers,
    };
    (facts, operator)
}

/// What is not as it should be: mark and sentence of each.
fn found(mut facts: Facts, operator: Option<Operator>) -> Vec<String> {
    if let Some(operator) = operator {
        facts.operator = Ok(Installed::Yes(Box::new(operator)));
    }
    let lines = all(&facts, NOW).into_iter();
    lines
        .filter(|line| line.result != Mark::Ok)
        .map(|line| format!("{}{}", if line.result == Mark::Error { "✗ " } else { "! " }, line.message))
        .collect()
}

#[test]
fn a_cluster_without_weft_is_told_how_to_install_it() {
    assert_eq!(found(bare(), None), ["! the operator is not installed"]);
    let facts = Facts { definitions: Ok(Vec::new()), ..bare() };
    assert_eq!(
        found(facts, None),
        ["! the definitions are not installed", "! the operator is not installed"]
    );
}

#[test]
fn what_stands_in_the_way_of_an_installation_is_told() {
    let old = json!({"major": "1", "minor": "28+", "gitVersion": "v1.28.9-gke", "buildDate": "", "compiler": "",
        "gitCommit": "", "gitTreeState": "", "goVersion": "", "platform": ""});
    let facts = Facts {
        version: Ok(of(old)),
        gateway_kinds: Ok(Vec::new()),
        definitions: Ok(vec![of(definition("meshes.weft.dev"))]),
        mutating: Ok(vec![of(webhook("istio-sidecar-injector", "")), of(webhook("weft-injector", ""))]),
        operator: Ok(Installed::No(Ok(vec!["clusterroles".into()]))),
        ..bare()
    };
    assert_eq!(
        found(facts, None),
        [
            "✗ Kubernetes v1.28.9-gke has no native sidecars",
            "! the Gateway API is not installed, so there are no gateways and routes",
            "! Istio gives pods a proxy too",
            "✗ the definitions microservices.weft.dev are missing",
            "✗ you may not create clusterroles",
            "✗ the webhook weft-injector is there, but no operator to answer it: no pod of the mesh can start",
        ]
    );
}

#[test]
fn a_healthy_mesh_has_nothing_to_complain_of() {
    let (facts, operator) = healthy();
    assert_eq!(found(facts, Some(operator)), Vec::<String>::new());
}

#[test]
fn an_operator_that_does_not_work_is_told() {
    let (facts, operator) = healthy();
    let facts = Facts { mutating: Ok(vec![of(webhook("weft-injector", ""))]), validator: Ok(None), ..facts };
    let waiting = json!({"metadata": {"name": "weft-operator-1"}, "status": {"containerStatuses": [{
        "name": "operator", "image": "", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"waiting": {"reason": "ImagePullBackOff"}}}]}});
    let operator = Operator {
        deployment: of(json!({"spec": {"replicas": 2, "selector": {}, "template": {}}, "status": {}})),
        pods: Ok(vec![of(waiting)]),
        lease: Ok(None),
        mesh: Err("no operator leads".into()),
        injector: Probe::Unreachable("no endpoints".into()),
        validator: Probe::Unknown("forbidden".into()),
        ..operator
    };
    assert_eq!(
        found(facts, Some(operator)),
        [
            "✗ 0 of 2 replicas ready: weft-operator-1 ImagePullBackOff",
            "✗ no operator leads: nothing is applied and no status written",
            "✗ the leader does not say how the mesh is: no operator leads",
            "✗ the webhook weft-injector has no caBundle: the API server cannot trust its operator",
            "✗ the webhook weft-validator is gone",
            "✗ the injector does not answer the API server: no endpoints",
            "! the validator cannot be looked at: forbidden",
        ]
    );
}

#[test]
fn a_leader_that_fell_silent_is_told() {
    let (facts, operator) = healthy();
    let lease = json!({"spec": {"holderIdentity": "weft-operator-1_10.244.1.2", "leaseDurationSeconds": 15,
        "renewTime": "2027-01-15T07:58:00.000000Z"}});
    let operator = Operator { lease: Ok(Some(of(lease))), ..operator };
    assert_eq!(
        found(facts, Some(operator)),
        ["✗ weft-operator-1 led, but has not said so for 120 s: nothing is applied and no status written"]
    );
}

#[test]
fn what_is_wrong_in_the_mesh_is_told() {
    let (facts, operator) = healthy();
    let namespaces = json!([
        {"metadata": {"name": "shop", "labels": {"pod-security.kubernetes.io/enforce": "baseline"}}},
        {"metadata": {"name": "ops", "labels": {"istio-injection": "enabled"}}},
        {"metadata": {"name": "kube-system"}},
    ]);
    let pods = json!([
        pod("old", &json!({})),
        pod("done", &json!({"status": {"phase": "Succeeded"}})),
        pod("out", &json!({"metadata": {"annotations": {"weft.dev/inject": "disabled"}}})),
        pod("host", &json!({"spec": {"hostNetwork": true}})),
        injected("new"),
    ]);
    let facts = Facts { meshed: Ok(of(namespaces)), ..facts };
    let instances = vec![
        InstanceStatus { proxy_version: "0.0.9".into(), ..proxy("a") },
        InstanceStatus { config: ConfigState::Refused, ..proxy("b") },
        InstanceStatus { connected: false, ..proxy("c") },
    ];
    let mesh = MeshStatus {
        version: env!("CARGO_PKG_VERSION").into(),
        root_expires: NOW + 2 * DAY,
        services: vec![ServiceStatus { instances, ..ServiceStatus::default() }],
        problems: vec![Problem { message: "two of a kind".into(), ..Problem::default() }],
        ..MeshStatus::default()
    };
    let operator = Operator { mesh: Ok(mesh), workloads: Ok(of(pods)), ..operator };
    assert_eq!(
        found(facts, Some(operator)),
        [
            "! the root certificate of the mesh ends in 2 days",
            "✗ no ConfigMap weft-roots in ops: pods there cannot start",
            "✗ shop enforces Pod Security baseline, which refuses the container that redirects traffic (NET_ADMIN)",
            "✗ ops is in the mesh of Istio too, so its pods would get two proxies",
            "! kube-system is labelled weft.dev/inject=enabled, but its pods never get a proxy",
            "! 1 pod of shop without a proxy: old",
            "! 1 proxy of another version than the operator: a",
            "✗ refused the newest configuration and run on their last good one: b",
            "! not connected to an operator: c",
            "! two of a kind",
        ]
    );
}

#[test]
fn many_names_are_cut_short() {
    let names: Vec<String> = ["a", "b", "c", "d", "e"].map(str::to_owned).to_vec();
    assert_eq!(some(&names[..2]), "a, b");
    assert_eq!(some(&names), "a, b, c and 2 more");
}
