//! The examples load without a word, and together show every field.

#![expect(clippy::unwrap_used, reason = "test code")]

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;
use weft_crds::manifest::{self, Object};
use weft_crds::schema;

fn examples() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    let read = |path: &Path| (path.display().to_string(), std::fs::read_to_string(path).unwrap());
    files.iter().map(|path| read(path)).collect()
}

#[test]
fn every_example_loads_without_a_word() {
    let examples = examples();
    assert!(examples.len() >= 3);
    for (file, text) in examples {
        let parsed = manifest::parse(&file, &text);
        assert_eq!(parsed.problems, [], "{file}");
        assert!(!parsed.manifests.is_empty(), "{file}");
    }
}

#[test]
fn every_example_survives_a_round_trip() {
    for (file, text) in examples() {
        for manifest in manifest::parse(&file, &text).manifests {
            let again = match &manifest.object {
                Object::Microservice(object) => serde_json::to_string(object),
                Object::Mesh(object) => serde_json::to_string(object),
                Object::Gateway(object) => serde_json::to_string(object),
                Object::HttpRoute(object) => serde_json::to_string(object),
                Object::GrpcRoute(object) => serde_json::to_string(object),
                Object::TlsRoute(object) => serde_json::to_string(object),
                Object::ReferenceGrant(object) => serde_json::to_string(object),
                _ => continue,
            };
            let parsed = manifest::parse(&file, &again.unwrap());
            assert_eq!(parsed.problems, [], "{file}");
            assert_eq!(parsed.manifests.first().unwrap().object, manifest.object, "{file}");
        }
    }
}

/// Adds the paths of all fields of a schema that are ours to show.
fn fields_of(schema: &Value, path: &str, fields: &mut BTreeSet<String>) {
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        let kubernetes_own =
            ["env", "envFrom", "resources", "volumes", "volumeMounts", "securityContext", "imagePullSecrets"];
        fields.insert(path.clone());
        if !(path.starts_with(".workload.") && kubernetes_own.contains(&name.as_str())) {
            fields_of(inner, &path, fields);
            fields_of(&inner["items"], &path, fields);
        }
    }
}

fn mentioned(value: &Value, path: &str, fields: &mut BTreeSet<String>) {
    match value {
        Value::Object(object) => {
            for (name, inner) in object {
                let path = format!("{path}.{name}");
                fields.insert(path.clone());
                mentioned(inner, &path, fields);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| mentioned(item, path, fields)),
        _ => {}
    }
}

#[test]
fn full_yaml_shows_every_field() {
    let documents: Vec<Value> = serde_saphyr::from_multiple(include_str!("../examples/full.yaml")).unwrap();
    for (kind, crd) in [("Microservice", schema::microservice()), ("Mesh", schema::mesh())] {
        let (mut known, mut shown) = (BTreeSet::new(), BTreeSet::new());
        fields_of(&schema::of_crd(&crd)["properties"]["spec"], "", &mut known);
        for document in documents.iter().filter(|document| document["kind"] == kind) {
            mentioned(&document["spec"], "", &mut shown);
        }
        // The address of Redis excludes its Secret, and there is only one Mesh to show it in.
        shown.insert(".redis.url".to_owned());
        let missing: Vec<_> = known.difference(&shown).collect();
        assert!(missing.is_empty(), "examples/full.yaml does not show {missing:?} of {kind}");
    }
}
