//! How manifests and weft.yaml come together.

use super::*;

fn load_files(files: &[(&str, &str)]) -> Loaded {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        fs::write(dir.path().join(name), text).unwrap();
    }
    load(dir.path())
}

fn microservice(name: &str, spec: &str) -> String {
    format!("apiVersion: weft.dev/v1alpha1\nkind: Microservice\nmetadata: {name}\nspec: {spec}\n")
}

const PORTS: &str =
    "ports: [{name: http, port: 80, targetPort: 8080, protocol: HTTP}, {name: grpc, port: 9090}]";

#[test]
fn replicas_health_and_account_come_from_the_manifest() {
    let workload =
        "workload: {image: x, replicas: 3, serviceAccountName: sa, health: {path: /up, port: grpc}}";
    let manifest = microservice("{name: a, namespace: shop}", &format!("{{{workload}, {PORTS}}}"));
    let yaml = "namespace: shop\nservices:\n  a: {command: [run]}\n";
    let loaded = load_files(&[("a.yaml", &manifest), ("weft.yaml", yaml)]);
    assert!(loaded.findings.errors.is_empty(), "{:?}", loaded.findings.errors);
    let a = &loaded.project.services[0];
    assert_eq!((a.instances, a.account.as_str()), (3, "sa"));
    assert_eq!(a.health, Health::Http { port: "grpc".into(), path: "/up".into() });
    let expect: BTreeSet<String> = ["shop/a:http", "shop/a:grpc"].map(str::to_owned).into();
    assert_eq!(loaded.project.destinations, expect);
}

#[test]
fn weft_yaml_says_otherwise_for_this_machine() {
    let manifest = microservice("{name: a}", &format!("{{{PORTS}}}"));
    let yaml = "services:\n  a: {command: [run], instances: 2, directory: sub}\n";
    let loaded = load_files(&[("a.yaml", &manifest), ("weft.yaml", yaml)]);
    let a = &loaded.project.services[0];
    assert_eq!((a.instances, a.namespace.as_str(), a.prefix.as_str()), (2, "default", "a"));
    assert!(a.directory.ends_with("sub"));
    assert_eq!(a.health, Health::Http { port: "http".into(), path: "/health".into() });
}

#[test]
fn a_service_of_another_namespace_is_named_with_it() {
    let manifest =
        microservice("{name: a, namespace: other}", "{ports: [{name: db, port: 5432, protocol: TCP}]}");
    let yaml = "namespace: shop\nservices:\n  other/a: {command: [run]}\n";
    let loaded = load_files(&[("a.yaml", &manifest), ("weft.yaml", yaml)]);
    let a = &loaded.project.services[0];
    assert_eq!(a.prefix, "a.other");
    assert_eq!(a.health, Health::Tcp { port: "db".into() });
    assert_eq!(outbound_variable("other/a:db", "shop").as_deref(), Some("outbound.a.other.db"));
    assert_eq!(outbound_variable("other/a:db", "other").as_deref(), Some("outbound.a.db"));
}

#[test]
fn gateways_take_ports_and_certificates_from_weft_yaml() {
    let gateway = "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: public}\nspec:\n  \
                   gatewayClassName: weft\n  listeners:\n  - {name: http, port: 8080, protocol: HTTP}\n  - {name: https, \
                   port: 8443, protocol: HTTPS, tls: {certificateRefs: [{name: cert}]}}\n";
    let yaml = "gateways:\n  public: {ports: {http: 9000}, selfSigned: [localhost]}\n";
    let loaded = load_files(&[("g.yaml", gateway), ("weft.yaml", yaml)]);
    assert!(loaded.findings.errors.is_empty(), "{:?}", loaded.findings.errors);
    let public = &loaded.project.gateways[0];
    let listeners: Vec<(u16, &str)> = public.listeners.iter().map(|l| (l.port, l.scheme)).collect();
    assert_eq!(listeners, [(9000, "http"), (8443, "https")]);
    assert_eq!(public.certificates["cert"], ["localhost"]);
    let clash = "gateways:\n  public: {ports: {http: 8443}}\n";
    let loaded = load_files(&[("g.yaml", gateway), ("weft.yaml", clash)]);
    assert!(
        loaded.findings.errors[0].message.contains("both want port 8443"),
        "{:?}",
        loaded.findings.errors
    );
    let slip = "gateways:\n  public: {ports: {htp: 9000}}\n";
    let loaded = load_files(&[("g.yaml", gateway), ("weft.yaml", slip)]);
    assert!(
        loaded.findings.errors[0].message.contains("did you mean `http`?"),
        "{:?}",
        loaded.findings.errors
    );
}

/// The names a refusal lists as known.
fn known_fields(text: &str) -> Vec<String> {
    let faults = weft_yaml::parse(text).unwrap_err();
    let list = faults.iter().find_map(|fault| fault.message.split_once("(known here: ")).unwrap().1;
    list.trim_end_matches(')').split(", ").map(|name| name.trim_matches('`').to_owned()).collect()
}

#[test]
fn the_readme_shows_every_field_and_variable_in_an_example_that_is_good() {
    let readme = include_str!("../../../README.md");
    let (_, yaml) = readme.split_once("```yaml\n").unwrap();
    let (yaml, after) = yaml.split_once("```").unwrap();
    let gateway = "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: public, namespace: shop}\n\
        spec: {gatewayClassName: weft, listeners: [{name: https, port: 443, protocol: HTTPS, tls: {certificateRefs: \
        [{name: edge}]}}]}\n";
    let service = |name: &str| microservice(name, &format!("{{{PORTS}}}"));
    let loaded = load_files(&[
        ("order.yaml", &service("{name: order}")),
        ("user.yaml", &service("{name: user}")),
        ("audit.yaml", &service("{name: audit, namespace: ops}")),
        ("gateway.yaml", gateway),
        ("weft.yaml", yaml),
    ]);
    assert!(loaded.findings.errors.is_empty(), "{:?}", loaded.findings.errors);
    for probe in [
        "x: 1",
        "servers: {x: {}}",
        "servers: {postgres: {x: 1}}",
        "services: {a: {x: 1}}",
        "gateways: {a: {x: 1}}",
    ] {
        for field in known_fields(probe) {
            assert!(yaml.contains(&format!("{field}:")), "operator/cli/README.md lacks the field {field}");
        }
    }
    let project = &loaded.project;
    for name in variables::variables(project, &project.services[0]) {
        let row = match name.split('.').collect::<Vec<_>>()[..] {
            ["port", _] => "${port.NAME}".to_owned(),
            ["outbound", _, _] => "${outbound.SERVICE.PORT}".to_owned(),
            ["outbound", _, _, _] => "${outbound.SERVICE.NAMESPACE.PORT}".to_owned(),
            _ => format!("${{{name}}}"),
        };
        assert!(after.contains(&format!("| `{row}` | ")), "operator/cli/README.md lacks the variable {row}");
    }
}
