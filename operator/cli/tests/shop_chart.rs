//! The chart of the shop says what examples/shop says. Where `helm` is on PATH, what it renders is compared too.

#![expect(clippy::unwrap_used, clippy::panic, reason = "test code")]

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

const SERVICES: [&str; 8] =
    ["user", "product", "order", "ticket", "chat", "payment", "notification", "mailbox"];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn read(name: &str) -> String {
    std::fs::read_to_string(repository().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn documents(text: &str) -> Vec<Value> {
    let documents = text.split("\n---\n").map(|text| serde_saphyr::from_str(text).unwrap());
    documents.filter(Value::is_object).collect()
}

#[test]
fn the_chart_holds_the_manifests_of_the_example() {
    for name in SERVICES.into_iter().chain(["gateway"]) {
        let (example, chart) =
            (format!("examples/shop/{name}.yaml"), format!("charts/shop/manifests/{name}.yaml"));
        assert_eq!(read(&example), read(&chart), "{chart} differs from {example}: run make generate");
    }
}

#[test]
fn every_value_has_a_row_in_the_readme() {
    let values: Value = serde_saphyr::from_str(&read("charts/shop/values.yaml")).unwrap();
    let readme = read("charts/shop/README.md");
    for (name, value) in values.as_object().unwrap() {
        let inner = value.as_object().map(|group| group.keys().map(|key| format!("{name}.{key}")));
        let names: Vec<String> = inner.map_or_else(|| vec![name.clone()], Iterator::collect);
        for name in names {
            assert!(
                readme.contains(&format!("| `{name}` |")),
                "charts/shop/README.md has no row of `{name}`"
            );
        }
    }
}

#[test]
fn what_it_installs_has_the_policies_of_the_example() {
    let mut helm = Command::new("helm");
    helm.args(["template", "shop"]).arg(repository().join("charts/shop"));
    let Ok(output) = helm.args(["--namespace", "shop", "--kube-version", "1.34.0"]).output() else {
        println!("skipped: there is no helm on PATH to render the chart with");
        return;
    };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let rendered = documents(&String::from_utf8(output.stdout).unwrap());
    for name in SERVICES {
        let is = |object: &&Value| object["kind"] == "Microservice" && object["metadata"]["name"] == name;
        let mut installed = rendered.iter().find(is).unwrap()["spec"].clone();
        let mut example = documents(&read(&format!("examples/shop/{name}.yaml"))).remove(0)["spec"].clone();
        // What only a cluster knows.
        installed.as_object_mut().unwrap().remove("telemetry").unwrap();
        for spec in [&mut installed, &mut example] {
            spec.as_object_mut().unwrap().remove("workload").unwrap();
        }
        assert_eq!(installed, example, "{name}");
    }
    let routes = |objects: &[Value]| {
        let route = objects.iter().find(|object| object["kind"] == "HTTPRoute").unwrap();
        route["spec"].clone()
    };
    assert_eq!(routes(&rendered), routes(&documents(&read("examples/shop/gateway.yaml"))));
}
