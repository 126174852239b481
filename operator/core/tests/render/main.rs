//! Golden cases of what the operator makes in a cluster: a resource in, objects out. Each `<case>.yaml` beside this file
//! holds the resource first and then every object made of it, as separate documents. `UPDATE_GOLDEN=1` writes the
//! objects anew.

#![expect(clippy::unwrap_used, clippy::panic, reason = "test code")]

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use weft_core::inject::Template;
use weft_core::render;
use weft_core::world::{Change, Object, ObjectRef, World};
use weft_crds::manifest;

#[test]
fn every_case_makes_what_is_expected() {
    let mut cases: Vec<PathBuf> =
        fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.retain(|path| path.extension().is_some_and(|is| is == "yaml"));
    cases.sort();
    assert!(cases.len() >= 8, "{} cases", cases.len());
    let wrong: Vec<String> = cases.iter().filter_map(|case| check(case)).collect();
    assert!(
        wrong.is_empty(),
        "these differ from what is expected; look at the change, and if it is meant, run \
         `UPDATE_GOLDEN=1 cargo test -p weft-core --test render`:\n{}",
        wrong.join("\n")
    );
}

#[test]
fn nothing_is_made_of_a_resource_that_no_cluster_holds() {
    let (world, reference) = world(
        "apiVersion: weft.dev/v1alpha1\nkind: Microservice\n\
        metadata: {name: order}\nspec: {workload: {image: i}, ports: [{name: http, port: 80}]}\n",
        "",
    );
    assert_eq!(render::of(&world, &reference, &Template::default()), None);
}

#[test]
fn an_annotation_that_cannot_be_is_named_with_its_remedy() {
    for (name, value, remedy) in [
        ("service-type", "Cluster", "LoadBalancer, NodePort, ClusterIP"),
        ("replicas", "many", "a number from 0 to 100"),
        ("replicas", "101", "a number from 0 to 100"),
    ] {
        let (world, reference) = world(
            &format!(
                "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata:\n  name: edge\n  \
                 annotations: {{config.weft.dev/{name}: '{value}'}}\nspec: {{gatewayClassName: weft, \
                 listeners: [{{name: web, port: 80, protocol: HTTP}}]}}\n"
            ),
            "u1",
        );
        let obstacle = render::of(&world, &reference, &Template::default()).unwrap().unwrap_err();
        assert_eq!(obstacle.reason, "InvalidParameters");
        let text = obstacle.to_string();
        assert!(text.contains(name) && text.contains(value) && text.contains(remedy), "{text}");
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/render")
}

fn check(case: &Path) -> Option<String> {
    let text = fs::read_to_string(case).unwrap();
    let input = text.split("---\n").next().unwrap();
    let (world, reference) = world(input, "5a1e3f0c-0000-4000-8000-000000000001");
    let rendered = render::of(&world, &reference, &Template::default()).unwrap().unwrap();
    let bodies = rendered.objects.iter().map(|object| yaml(&object.body));
    let documents: Vec<String> = std::iter::once(input.to_owned()).chain(bodies).collect();
    let got = documents.join("---\n");
    if update() {
        fs::write(case, &got).unwrap();
        return None;
    }
    (got != text).then(|| format!("{}\n{}", case.display(), first_difference(&text, &got)))
}

fn yaml(body: &Value) -> String {
    serde_saphyr::to_string(body).unwrap()
}

fn world(input: &str, uid: &str) -> (World, ObjectRef) {
    let parsed = manifest::parse("case", input);
    let errors: Vec<String> = parsed.errors().map(ToString::to_string).collect();
    assert!(errors.is_empty(), "{errors:#?}");
    let mut world = World::default();
    let mut references = Vec::new();
    for mut found in parsed.manifests {
        found.object.default_namespace("shop");
        let mut object = Object::from_manifest(found.object).unwrap();
        let meta = match &mut object {
            Object::Microservice(object) => &mut object.metadata,
            Object::Gateway(object) => &mut object.metadata,
            other => panic!("{}", other.reference()),
        };
        meta.uid = (!uid.is_empty()).then(|| uid.to_owned());
        references.push(object.reference());
        world.apply(Change::Upsert(Box::new(object)));
    }
    (world, references.remove(0))
}

#[expect(clippy::disallowed_methods, reason = "a switch of this test, not a setting of the product")]
fn update() -> bool {
    std::env::var("UPDATE_GOLDEN").is_ok_and(|value| value == "1")
}

fn first_difference(expected: &str, got: &str) -> String {
    let mut lines = expected.lines().zip(got.lines()).enumerate();
    match lines.find(|(_, (expected, got))| expected != got) {
        Some((at, (expected, got))) => format!("line {}:\n- {expected}\n+ {got}", at + 1),
        None => format!("{} lines expected, {} lines got", expected.lines().count(), got.lines().count()),
    }
}
