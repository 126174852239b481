//! The `OpenAPI` document of a service, served at /openapi.json: its own `openapi.yaml` and what all have in common.
//!
//! Written by hand, next to the code, so that it can be read and reviewed like any interface. That it says what the
//! service does is for tests to hold: `testing::Http` compares every answer of a described service with it, and
//! `testing::documented` the routes.

use serde_json::{Map, Value, json};

const COMMON: &str = include_str!("../openapi.yaml");
const METHODS: [&str; 5] = ["get", "post", "put", "patch", "delete"];

/// The document of a service.
pub fn document(own: &str, version: &str) -> Result<Value, serde_saphyr::Error> {
    let mut document: Value = serde_saphyr::from_str(COMMON)?;
    merge(&mut document, serde_saphyr::from_str(own)?);
    document["info"]["version"] = version.into();
    let failed = json!({ "$ref": "#/components/responses/Problem" });
    for (_, _, operation) in operations_mut(&mut document) {
        operation["responses"]["default"] = failed.clone();
    }
    Ok(document)
}

/// All operations of a document, with their path and method.
pub fn operations_mut(document: &mut Value) -> impl Iterator<Item = (&str, &str, &mut Value)> {
    let paths = document.get_mut("paths").and_then(Value::as_object_mut).into_iter().flatten();
    paths.flat_map(|(path, item)| {
        let operations = item.as_object_mut().into_iter().flat_map(Map::iter_mut);
        let known = operations.filter(|(method, _)| METHODS.contains(&method.as_str()));
        known.map(move |(method, operation)| (path.as_str(), method.as_str(), operation))
    })
}

/// Puts what is in one value into the other; where both have something that is no object, the new one wins.
fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_has_its_own_paths_and_those_of_all_and_every_operation_may_fail() {
        let own = "{info: {title: odd}, paths: {/odd: {parameters: [], get: {responses: {'200': {description: x}}}}}}";
        let mut document = document(own, "1.2.3").unwrap();
        assert_eq!(document["info"], json!({"title": "odd", "version": "1.2.3"}));
        let operations: Vec<_> = operations_mut(&mut document)
            .map(|(path, method, operation)| (path.to_owned(), method.to_owned(), operation.clone()))
            .collect();
        let paths: Vec<_> = operations.iter().map(|(path, ..)| path.as_str()).collect();
        assert_eq!(paths, ["/health", "/info", "/metrics", "/odd", "/openapi.json"]);
        assert!(operations.iter().all(|(.., operation)| operation["responses"]["default"].is_object()));
        assert!(super::document("paths: [", "1").is_err());
    }
}
