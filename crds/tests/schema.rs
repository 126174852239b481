//! The generated definitions: up to date, documented field by field, and of the form that the API server takes.
//!
//! The rules of structural schemas are written out here, so that a change that a cluster would refuse fails
//! without one.

use std::path::{Path, PathBuf};

use serde_json::Value;
use weft_crds::schema;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Calls `visit` with each field's path and schema.
fn walk(schema: &Value, path: &str, visit: &mut impl FnMut(&str, &Value)) {
    visit(path, schema);
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        walk(inner, &format!("{path}.{name}"), visit);
    }
    if schema["items"].is_object() {
        walk(&schema["items"], &format!("{path}[]"), visit);
    }
    if schema["additionalProperties"].is_object() {
        walk(&schema["additionalProperties"], &format!("{path}{{}}"), visit);
    }
}

fn schemas() -> [Value; 2] {
    [schema::of_crd(&schema::microservice()), schema::of_crd(&schema::mesh())]
}

/// Blocks of a Pod, which Kubernetes describes.
fn is_kubernetes_own(path: &str) -> bool {
    let blocks =
        ["imagePullSecrets", "env", "envFrom", "resources", "volumes", "volumeMounts", "securityContext"];
    blocks.iter().any(|block| {
        path.strip_prefix(".spec.workload.")
            .and_then(|rest| rest.strip_prefix(block))
            .is_some_and(|rest| rest.starts_with(['.', '[']))
    })
}

#[test]
fn generated_files_are_up_to_date() {
    for schema::File { path, content } in schema::files().unwrap() {
        let found = std::fs::read_to_string(repository().join(&path)).unwrap_or_default();
        assert!(found == content, "{path} is out of date; run `cargo run -p weft-crds --bin crdgen`");
    }
}

/// Helm would take braces in a description for its own.
#[test]
fn the_chart_holds_the_definitions_and_one_line_of_template_each() {
    for [plain, chart] in schema::files().unwrap().as_chunks().0 {
        let is_template = |line: &&str| line.contains("{{");
        assert_eq!(plain.content.lines().filter(is_template).count(), 0, "{}", plain.path);
        let rest: Vec<&str> = chart.content.lines().filter(|line| !is_template(line)).collect();
        assert_eq!(rest, plain.content.lines().collect::<Vec<_>>(), "{}", chart.path);
        assert_eq!(chart.content.lines().filter(is_template).count(), 1, "{}", chart.path);
    }
}

#[test]
fn the_chart_has_the_version_of_the_crate_and_a_schema_for_every_value() {
    let read =
        |name: &str| std::fs::read_to_string(repository().join("charts/weft-crds").join(name)).unwrap();
    let chart: Value = serde_saphyr::from_str(&read("Chart.yaml")).unwrap();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!((&chart["version"], &chart["appVersion"]), (&version.into(), &version.into()));
    let values: Value = serde_saphyr::from_str(&read("values.yaml")).unwrap();
    let schema: Value = serde_json::from_str(&read("values.schema.json")).unwrap();
    for name in values.as_object().unwrap().keys() {
        assert!(schema["properties"][name]["type"].is_string(), "{name} is not in values.schema.json");
        assert!(read("README.md").contains(&format!("| `{name}` |")), "{name} is not in the chart's README");
    }
}

#[test]
fn generated_files_fit_into_the_annotation_of_kubectl_apply() {
    for crd in [schema::microservice(), schema::mesh()] {
        let size = serde_json::to_string(&crd).unwrap().len();
        assert!(size < 200_000, "{} has {size} bytes, the limit is 262144", crd.metadata.name.unwrap());
    }
}

#[test]
fn every_field_says_what_it_is_with_default_and_example() {
    let mut poor = Vec::new();
    for schema in schemas() {
        walk(&schema, "", &mut |path, field| {
            let named = path.starts_with(".spec.") && !path.ends_with([']', '}']) && !is_kubernetes_own(path);
            let text = field["description"].as_str().unwrap_or_default();
            if !named {
                return;
            }
            if text.is_empty() || !text.contains("Example: ") {
                poor.push(format!("{path}: no description or example"));
            }
        });
    }
    assert!(poor.is_empty(), "{poor:#?}");
}

/// What is wrong with what a block's optional fields say of their defaults.
fn wrong_defaults(path: &str, block: &Value) -> Vec<String> {
    let required = block["required"].as_array().cloned().unwrap_or_default();
    let mut wrong = Vec::new();
    for (name, field) in block["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        let text = field["description"].as_str().unwrap_or_default();
        let optional = !required.iter().any(|required| required == name);
        if optional && !is_kubernetes_own(&path) && !text.contains("Default: ") {
            wrong.push(format!("{path}: optional, but names no default"));
        }
        let default = &field["default"];
        let plain = default.as_str().map_or_else(|| default.to_string(), str::to_owned);
        let scalar = !default.is_null() && !default.is_object() && !default.is_array();
        let said =
            text.contains(&format!("Default: `{plain}`")) || text.contains(&format!("Default: {plain}"));
        if scalar && !said {
            wrong.push(format!("{path}: the schema's default {plain} is not the description's"));
        }
    }
    wrong
}

#[test]
fn optional_fields_say_their_default_and_the_schema_agrees() {
    let mut wrong = Vec::new();
    for schema in schemas() {
        walk(&schema, "", &mut |path, block| {
            if path.starts_with(".spec") && !is_kubernetes_own(path) {
                wrong.append(&mut wrong_defaults(path, block));
            }
        });
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn schemas_are_structural() {
    for schema in schemas() {
        walk(&schema, "", &mut |path, field| {
            let any = field["x-kubernetes-int-or-string"] == true
                || field["x-kubernetes-preserve-unknown-fields"] == true;
            assert!(any || field["type"].is_string(), "{path}: no type in {field}");
            for refused in [
                "$ref",
                "$schema",
                "definitions",
                "oneOf",
                "allOf",
                "not",
                "const",
                "uniqueItems",
                "exclusiveMinimum",
                "exclusiveMaximum",
            ] {
                assert!(field.get(refused).is_none(), "{path}: {refused}");
            }
            assert!(field.get("anyOf").is_none() || any, "{path}: anyOf");
            let closed = field["additionalProperties"].is_boolean();
            assert!(!closed, "{path}: additionalProperties is true or false");
            let both = field["additionalProperties"].is_object() && field["properties"].is_object();
            assert!(!both, "{path}: properties and additionalProperties");
            assert!(field["type"] != "array" || field["items"].is_object(), "{path}: no items");
            let format = field["format"].as_str().unwrap_or_default();
            assert!(
                ["", "int32", "int64", "double", "date-time"].contains(&format),
                "{path}: format {format}"
            );
        });
    }
}

#[test]
fn patterns_compile() {
    for schema in schemas() {
        walk(&schema, "", &mut |path, field| {
            if let Some(pattern) = field["pattern"].as_str() {
                regex::Regex::new(pattern).unwrap_or_else(|error| panic!("{path}: {error}"));
            }
        });
    }
}

/// The API server estimates what a rule may cost; without bounds on what it reads the definition is refused.
#[test]
fn what_rules_read_is_bounded() {
    for schema in schemas() {
        walk(&schema, "", &mut |path, field| {
            if !path.starts_with(".spec") || is_kubernetes_own(path) {
                return;
            }
            if field["type"] == "array" {
                let own = path.starts_with(".spec.workload.")
                    && field["items"].get("x-kubernetes-validations").is_none();
                assert!(own || field["maxItems"].is_u64(), "{path}: no maxItems");
            }
            let rules = field["x-kubernetes-validations"].as_array().cloned().unwrap_or_default();
            for rule in rules {
                let message = rule["message"].as_str().expect("a message");
                assert!(!message.contains('\n') && message.len() < 2048, "{path}: {message}");
            }
        });
    }
}

#[test]
fn columns_and_names_are_those_that_people_type() {
    let crd = schema::microservice();
    let names = &crd.spec.names;
    assert_eq!(names.short_names.as_deref(), Some(&["msvc".to_owned()][..]));
    assert_eq!(names.categories.as_deref(), Some(&["weft".to_owned()][..]));
    let version = crd.spec.versions.first().unwrap();
    let columns: Vec<String> = version
        .additional_printer_columns
        .iter()
        .flatten()
        .map(|column| column.name.to_uppercase())
        .collect();
    assert_eq!(columns, ["READY", "MESHED", "MTLS", "BREAKER", "CERT", "AGE"]);
    assert!(version.subresources.as_ref().unwrap().status.is_some());
    let mesh = schema::mesh();
    assert_eq!((mesh.spec.scope.as_str(), crd.spec.scope.as_str()), ("Cluster", "Namespaced"));
}
