//! Golden cases of what the operator makes in a cluster: a resource in, objects out. Each `<case>.yaml` beside this file
//! holds the resource first and then every object made of it, as separate documents. `UPDATE_GOLDEN=1` writes the
//! objects anew.

#![expect(clippy::unwrap_used, clippy::panic, reason = "test code")]

#[path = "../common/golden.rs"]
mod golden;

use std::fs;
use std::path::Path;

use serde_json::Value;
use weft_core::inject::Template;
use weft_core::render;
use weft_core::world::{Change, Object, ObjectRef, World};
use weft_crds::manifest;

#[test]
fn every_case_makes_what_is_expected() {
    let is_case = |path: &Path| path.extension().is_some_and(|is| is == "yaml");
    let cases = golden::cases("render", is_case, 8);
    let wrong: Vec<String> = cases.iter().filter_map(|case| check(case)).collect();
    golden::all_as_expected("render", &wrong);
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

fn check(case: &Path) -> Option<String> {
    let text = fs::read_to_string(case).unwrap();
    let input = text.split("---\n").next().unwrap();
    let (world, reference) = world(input, "5a1e3f0c-0000-4000-8000-000000000001");
    let rendered = render::of(&world, &reference, &Template::default()).unwrap().unwrap();
    let bodies = rendered.objects.iter().map(|object| yaml(&object.body));
    let documents: Vec<String> = std::iter::once(input.to_owned()).chain(bodies).collect();
    golden::compare(case, &documents.join("---\n"))
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
