//! The chart of the operator agrees with the rest: its values with their comments, schema and README; its variables with
//! the operator's settings; its names with those the parts use. Where `helm` is on PATH, what it renders is looked at too.

#![expect(clippy::unwrap_used, clippy::panic, clippy::print_stdout, reason = "test code")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use weft_api::names::{
    CONTAINER_PROXY, INJECT, INJECT_DISABLED, INJECT_ENABLED, LEASE, MUTATING_WEBHOOK, NEVER_INJECTED,
    OPERATOR_ACCOUNT, PATH_MUTATE, PATH_VALIDATE, PORT_METRICS, PORT_OPERATOR, PORT_OPERATOR_ADMIN,
    PORT_WEBHOOK, RELEASE_OWNER, ROOTS_CONFIG_MAP, SYSTEM_NAMESPACE, VALIDATING_WEBHOOK,
};
use weft_crds::gateway_class::CONTROLLER;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(name: &str) -> String {
    std::fs::read_to_string(repository().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn templates() -> String {
    let folder = repository().join("charts/weft/templates");
    let files = std::fs::read_dir(folder).unwrap();
    let files: Vec<String> =
        files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap()).collect();
    files.concat()
}

/// Paths of values.yaml that have a comment of their own; what stands in them is not looked at.
fn commented_values() -> BTreeSet<String> {
    let (mut above, mut groups) = ("", Vec::<(usize, &str, bool)>::new());
    let mut paths = BTreeSet::new();
    let text = read("charts/weft/values.yaml");
    for line in text.lines() {
        let key = line.trim_start().split_once(':').filter(|_| !line.trim_start().starts_with('#'));
        if let Some((key, rest)) = key {
            let (indent, commented) = (line.len() - line.trim_start().len(), above.starts_with('#'));
            groups.retain(|(outer, ..)| *outer < indent);
            let within_commented = groups.iter().any(|(.., commented)| *commented);
            groups.push((indent, key, commented));
            let path = groups.iter().map(|(_, key, _)| *key).collect::<Vec<_>>().join(".");
            assert!(within_commented || commented || rest.is_empty(), "{path} has no comment in values.yaml");
            if commented && !within_commented {
                paths.insert(path);
            }
        }
        above = line.trim_start();
    }
    paths
}

fn resolve<'a>(schema: &'a Value, node: &'a Value) -> &'a Value {
    match node["$ref"].as_str() {
        Some(place) => schema.pointer(place.trim_start_matches('#')).unwrap_or(&Value::Null),
        None => node,
    }
}

/// Paths of the schema, down to those in `leaves`.
fn schema_paths(schema: &Value, node: &Value, path: &str, leaves: &BTreeSet<String>) -> BTreeSet<String> {
    let node = resolve(schema, node);
    match node["properties"].as_object() {
        Some(properties) if !leaves.contains(path) => {
            assert_eq!(node["additionalProperties"], false, "`{path}` takes unknown values");
            let dot = if path.is_empty() { "" } else { "." };
            let of = |(name, inner)| schema_paths(schema, inner, &format!("{path}{dot}{name}"), leaves);
            properties.iter().flat_map(of).collect()
        }
        _ => BTreeSet::from([path.to_owned()]),
    }
}

#[test]
fn every_value_has_a_comment_a_schema_and_a_row_in_the_readme() {
    let values = commented_values();
    let schema: Value = serde_json::from_str(&read("charts/weft/values.schema.json")).unwrap();
    let mut known = schema_paths(&schema, &schema, "", &values);
    // Helm itself adds it.
    assert!(known.remove("global"));
    assert_eq!(known, values);
    let readme = read("charts/weft/README.md");
    let rows: BTreeSet<String> = readme
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
        .filter(|(name, _)| !name.contains(' '))
        .map(|(name, _)| name.to_owned())
        .collect();
    assert_eq!(rows, values);
}

#[test]
fn every_chart_has_the_version_of_the_command() {
    for chart in ["weft", "weft-crds", "shop"] {
        let chart: Value = serde_saphyr::from_str(&read(&format!("charts/{chart}/Chart.yaml"))).unwrap();
        let version = env!("CARGO_PKG_VERSION");
        assert_eq!((&chart["version"], &chart["appVersion"]), (&version.into(), &version.into()));
    }
}

#[test]
fn names_and_ports_are_those_of_the_parts() {
    let templates = templates();
    for expected in [
        format!("ne .Release.Namespace \"{SYSTEM_NAMESPACE}\""),
        format!("serviceAccountName: {OPERATOR_ACCOUNT}"),
        format!("name: grpc, port: {PORT_OPERATOR}"),
        format!("0.0.0.0:{PORT_OPERATOR}"),
        format!("0.0.0.0:{PORT_OPERATOR_ADMIN}"),
        format!("0.0.0.0:{PORT_WEBHOOK}"),
        format!("regex: \"{PORT_METRICS}\""),
        format!("regex: {CONTAINER_PROXY}"),
        format!("controllerName: {CONTROLLER}"),
        format!("name: {MUTATING_WEBHOOK}"),
        format!("name: {VALIDATING_WEBHOOK}"),
        format!("\"path\" \"{PATH_MUTATE}\""),
        format!("\"path\" \"{PATH_VALIDATE}\""),
        format!("key: {INJECT}, operator: In, values: [{INJECT_ENABLED}]"),
        format!("annotations['{INJECT}'] != '{INJECT_DISABLED}'"),
        format!("resourceNames: [{ROOTS_CONFIG_MAP}]"),
        format!("resourceNames: [{LEASE}]"),
        format!("kind: ClusterRole\nmetadata:\n  name: {RELEASE_OWNER}"),
    ] {
        assert!(templates.contains(&expected), "no template has `{expected}`");
    }
    let (_, never) = templates.split_once("define \"weft.neverMeshed\" -}}\n[").unwrap();
    let never: BTreeSet<&str> = never.split_once(']').unwrap().0.split(", ").collect();
    assert_eq!(never, BTreeSet::from(NEVER_INJECTED));
}

/// The table of settings in the operator's README is compared with its settings by a test of the operator.
#[test]
fn every_variable_of_the_chart_is_a_setting_of_the_operator() {
    let settings = read("operator/README.md");
    let templates = templates();
    let names: BTreeSet<&str> = templates
        .split("name: WEFT_")
        .skip(1)
        .map(|rest| rest.split([',', '}', '\n']).next().unwrap())
        .collect();
    assert!(names.len() > 10, "{names:?}");
    for name in names {
        assert!(
            settings.contains(&format!("| `WEFT_{name}` |")),
            "WEFT_{name} is no setting of the operator"
        );
    }
}

#[test]
fn no_secret_is_read_everywhere() {
    let role = read("charts/weft/templates/clusterrole.yaml");
    assert!(!role.contains("secrets"), "the ClusterRole that is bound everywhere names Secrets");
    let reader = read("charts/weft/templates/secret-reader.yaml");
    assert!(!reader.contains("ClusterRoleBinding"));
}

/// What `helm template` says; nothing where there is no helm.
fn render(flags: &[&str]) -> Option<Result<String, String>> {
    let mut helm = Command::new("helm");
    helm.args(["template", "weft"]).arg(repository().join("charts/weft"));
    helm.args(["--kube-version", "1.34.0"]).args(flags);
    let Ok(output) = helm.output() else {
        println!("skipped: there is no helm on PATH to render the chart with");
        return None;
    };
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Some(if output.status.success() { Ok(text(output.stdout)) } else { Err(text(output.stderr)) })
}

/// `Kind name` of every object, `Kind namespace/name` of one that is not in weft-system.
fn objects(manifests: &str) -> BTreeSet<String> {
    let documents = manifests.split("\n---\n").map(|text| serde_saphyr::from_str::<Value>(text).unwrap());
    documents
        .filter(Value::is_object)
        .map(|object| {
            let metadata = &object["metadata"];
            let name = metadata["name"].as_str().unwrap();
            let namespace = metadata["namespace"].as_str().filter(|it| *it != SYSTEM_NAMESPACE);
            let place = namespace.map(|namespace| format!("{namespace}/")).unwrap_or_default();
            format!("{} {place}{name}", object["kind"].as_str().unwrap())
        })
        .collect()
}

#[test]
fn values_add_and_remove_objects() {
    let Some(plain) = render(&["--namespace", SYSTEM_NAMESPACE]) else { return };
    let plain = objects(&plain.unwrap());
    let all = "ClusterRole weft-edit, ClusterRole weft-operator, ClusterRole weft-secret-reader, \
               ClusterRole weft-view, ClusterRoleBinding weft-operator, Deployment weft-operator, Mesh default, \
               MutatingWebhookConfiguration weft-injector, PodDisruptionBudget weft-operator, Role weft-operator, \
               RoleBinding weft-operator, Service weft-operator, ServiceAccount weft-operator, \
               ValidatingWebhookConfiguration weft-validator";
    assert_eq!(plain.iter().map(String::as_str).collect::<Vec<_>>().join(", "), all);
    for (flags, changed) in [
        ("--set secretNamespaces={shop}", "+RoleBinding shop/weft-secret-reader"),
        ("--set networkPolicy.enabled=true", "+NetworkPolicy weft-operator"),
        ("--set serviceMonitor.enabled=true", "+ServiceMonitor weft-operator"),
        ("--set podMonitor.enabled=true", "+PodMonitor weft-proxies"),
        ("--set webhook.certManager.enabled=true", "+Certificate weft-webhook +Issuer weft-webhook"),
        (
            "--set webhook.certManager.enabled=true --set webhook.certManager.issuerRef.name=x",
            "+Certificate weft-webhook",
        ),
        ("--api-versions gateway.networking.k8s.io/v1/GatewayClass", "+GatewayClass weft"),
        ("--set mesh.create=false", "-Mesh default"),
        ("--set podDisruptionBudget.enabled=false", "-PodDisruptionBudget weft-operator"),
        ("--set aggregateRoles=false", "-ClusterRole weft-edit -ClusterRole weft-view"),
    ] {
        let flags: Vec<&str> =
            ["--namespace", SYSTEM_NAMESPACE].into_iter().chain(flags.split(' ')).collect();
        let found = objects(&render(&flags).unwrap().unwrap());
        let added = found.difference(&plain).map(|object| format!("+{object}"));
        let removed = plain.difference(&found).map(|object| format!("-{object}"));
        assert_eq!(added.chain(removed).collect::<Vec<_>>().join(" "), changed, "{flags:?}");
    }
}

#[test]
fn what_cannot_work_is_refused_with_a_remedy() {
    let refused = |flags: &str, expect: &str| {
        let Some(rendered) = render(&flags.split(' ').collect::<Vec<_>>()) else { return };
        let error = rendered.expect_err(flags);
        assert!(error.contains(expect), "{flags}: {error}");
    };
    refused("--namespace mesh", "Add --namespace weft-system --create-namespace");
    refused("--namespace weft-system --set replicas=3", "additional properties 'replicas' not allowed");
    refused("--namespace weft-system --set image.pullPolicy=Often", "must be one of 'Always'");
}
