//! `weft inject`, as a user pipes it.

#![expect(clippy::unwrap_used, reason = "test code")]

mod support;

use std::io::Write;
use std::process::{Output, Stdio};

use serde_json::Value;
use support::{microservice, weft};

fn inject(text: &str, flags: &[&str]) -> Output {
    let mut command = weft();
    command.arg("inject").args(flags).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

/// What comes out, where nothing is wrong.
fn injected(text: &str, flags: &[&str]) -> String {
    let output = inject(text, flags);
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && told.is_empty(), "{told}");
    String::from_utf8(output.stdout).unwrap()
}

fn documents(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).unwrap()
}

const SERVICE: &str =
    "# A comment that stays.\napiVersion: v1\nkind: Service\nmetadata: {name: order} # and this\n";
const DEPLOYMENT: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: order, namespace: shop}
spec:
  newerField: {x: [1]}
  template:
    metadata: {labels: {app.kubernetes.io/name: order}}
    spec:
      containers:
      - {name: app, image: 'order:1', newerField: true, resources: {limits: {cpu: 1}}, env: [{name: A, value: 'on'}]}
";

#[test]
fn a_deployment_gets_a_proxy_and_the_rest_passes_as_written() {
    let microservice = microservice("order").replace("{name: order}", "{name: order, namespace: shop}");
    let text = format!("{SERVICE}---\n{DEPLOYMENT}--- # mine\n{microservice}");
    let out = injected(&text, &["--image", "weft-proxy:test", "--pull-policy", "Never"]);
    assert!(out.starts_with(SERVICE), "{out}");
    assert!(out.ends_with(&format!("--- # mine\n{microservice}")), "{out}");
    let pod = &documents(&out)[1]["spec"]["template"];
    let proxy = &pod["spec"]["initContainers"][1];
    assert_eq!((&proxy["image"], &proxy["imagePullPolicy"]), (&"weft-proxy:test".into(), &"Never".into()));
    assert_eq!(proxy["env"][0]["value"], "shop/order");
    assert_eq!(pod["metadata"]["annotations"]["weft.dev/account"], "default");
    let app = &pod["spec"]["containers"][0];
    assert_eq!((&app["newerField"], &app["resources"]["limits"]["cpu"]), (&true.into(), &1.into()));
    assert!(out.contains("value: \"on\""), "text that YAML 1.1 reads as something else is quoted: {out}");
    assert_eq!(documents(&out)[1]["spec"]["newerField"]["x"][0], 1);
    assert_eq!(
        injected(&out, &["--image", "weft-proxy:test", "--pull-policy", "Never"]),
        out,
        "twice is once"
    );
}

#[test]
fn every_kind_with_pods_gets_its_proxies() {
    let pod = "{spec: {containers: [{name: app, image: a}]}}";
    let kinds = [
        ("v1", "Pod", "spec: {containers: [{name: app, image: a}]}".to_owned(), ""),
        ("apps/v1", "StatefulSet", format!("spec: {{template: {pod}}}"), "/spec/template"),
        ("apps/v1", "DaemonSet", format!("spec: {{template: {pod}}}"), "/spec/template"),
        ("batch/v1", "Job", format!("spec: {{template: {pod}}}"), "/spec/template"),
        (
            "batch/v1",
            "CronJob",
            format!("spec: {{jobTemplate: {{spec: {{template: {pod}}}}}}}"),
            "/spec/jobTemplate/spec/template",
        ),
    ];
    for (version, kind, spec, place) in kinds {
        let object = format!("{{apiVersion: {version}, kind: {kind}, metadata: {{name: x}}, {spec}}}");
        let list = format!("{{apiVersion: v1, kind: List, items: [{object}, {{kind: Other}}]}}\n");
        for (text, place) in [(object.clone(), place.to_owned()), (list, format!("/items/0{place}"))] {
            let out = injected(&text, &["-n", "tools"]);
            let proxy = documents(&out)[0].pointer(&format!("{place}/spec/initContainers/1")).cloned();
            assert_eq!(proxy.unwrap()["env"][0]["value"], "tools/default", "{kind}");
        }
    }
}

#[test]
fn what_cannot_have_a_proxy_is_told_and_nothing_is_written() {
    let bad = DEPLOYMENT.replace("{labels:", "{annotations: {config.weft.dev/skip-uids: root}, labels:");
    let output = inject(&bad, &[]);
    assert!(!output.status.success() && output.stdout.is_empty());
    let expect = "error: -: Deployment shop/order: spec.template.metadata.annotations[\"config.weft.dev/skip-uids\"]: \
                  `root` is no user id; write numbers, as in 0,1001\n";
    assert_eq!(String::from_utf8_lossy(&output.stderr), expect);
    let host = DEPLOYMENT.replace("containers:", "hostNetwork: true\n      containers:");
    let output = inject(&host, &[]);
    assert!(output.status.success());
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.starts_with("warning: -: Deployment shop/order: pod is not in the mesh"), "{told}");
    let out = DEPLOYMENT.replace("{labels:", "{annotations: {weft.dev/inject: disabled}, labels:");
    assert_eq!(injected(&out, &[]), out);
}

#[test]
fn what_is_no_yaml_is_told_with_its_file() {
    let output = inject("a: [", &[]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && told.starts_with("weft: -: not readable as YAML"), "{told}");
    let output = weft().args(["inject", "/no/such/file"]).output().unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("/no/such/file cannot be read"));
}
