//! Holds a service to its `OpenAPI` document: every answer that a test gets must be one that is documented, every
//! route must be in the document, and everything in the document must be there.
//!
//! Checked are status, the type of every field, fields that are missing and fields that nobody documented.

use ::http::{Method, StatusCode};
use serde_json::{Map, Value};

use super::{Http, Reply};
use crate::openapi::operations_mut;

/// What a service says of itself.
pub(super) struct Contract(Value);

impl Contract {
    pub(super) fn new(document: Value) -> Self {
        Self(document)
    }

    /// Panics unless the document has that answer to that request.
    pub(super) fn check(&self, method: &Method, path: &str, reply: &Reply) {
        let path = path.split('?').next().unwrap();
        if is_unknown(reply) {
            return;
        }
        let method = method.as_str().to_lowercase();
        let paths = self.0["paths"].as_object().unwrap();
        // A template without parameters is meant before one with some.
        let mut fitting: Vec<_> = paths.iter().filter(|(template, _)| fits(template, path)).collect();
        fitting.sort_by_key(|(template, _)| template.matches('{').count());
        let operation = fitting.first().map_or(&Value::Null, |(_, item)| &item[&method]);
        assert!(operation.is_object(), "{method} {path} is not documented");
        let responses = operation["responses"].as_object().unwrap();
        let response = responses.get(reply.status.as_str());
        let response = response.or_else(|| responses.get("default").filter(|_| !reply.status.is_success()));
        let response =
            response.unwrap_or_else(|| panic!("{method} {path}: {} is not documented", reply.status));
        let Some(content) = self.resolve(response)["content"].as_object() else { return };
        let kind =
            reply.headers.get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap();
        let content =
            content.get(kind).unwrap_or_else(|| panic!("{method} {path}: {kind} is not documented"));
        if let Err(wrong) = self.conforms(&reply.body, &content["schema"]) {
            panic!("{method} {path} answers otherwise than documented: {wrong} in {}", reply.body);
        }
    }

    /// Panics unless a value is as the document describes what has that name.
    pub(super) fn check_named(&self, name: &str, value: &Value) {
        let schema = self.0.pointer(&format!("/components/schemas/{name}"));
        let schema = schema.unwrap_or_else(|| panic!("{name} is not documented"));
        if let Err(wrong) = self.conforms(value, schema) {
            panic!("{value} is no {name} as documented: {wrong}");
        }
    }

    fn resolve<'a>(&'a self, schema: &'a Value) -> &'a Value {
        let Some(reference) = schema["$ref"].as_str() else { return schema };
        let target = self.0.pointer(reference.trim_start_matches('#'));
        self.resolve(target.unwrap_or_else(|| panic!("{reference} leads nowhere")))
    }

    fn conforms(&self, value: &Value, schema: &Value) -> Result<(), String> {
        let schema = self.resolve(schema);
        if let Some(choices) = schema["oneOf"].as_array() {
            let fits = choices.iter().any(|choice| self.conforms(value, choice).is_ok());
            return if fits { Ok(()) } else { Err(format!("none of the choices fits {value}")) };
        }
        let types = match &schema["type"] {
            Value::Array(types) => types.iter().filter_map(Value::as_str).collect(),
            one => Vec::from_iter(one.as_str()),
        };
        if !types.is_empty() && !types.iter().any(|expect| is_a(value, expect)) {
            return Err(format!("{value} is no {}", types.join(" or ")));
        }
        if schema["enum"].as_array().is_some_and(|known| !known.contains(value)) {
            return Err(format!("{value} is not one of {}", schema["enum"]));
        }
        match value {
            Value::Object(fields) => self.fields_conform(fields, schema),
            Value::Array(items) => items.iter().try_for_each(|item| self.conforms(item, &schema["items"])),
            _ => Ok(()),
        }
    }

    fn fields_conform(&self, fields: &Map<String, Value>, schema: &Value) -> Result<(), String> {
        let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
        if let Some(missing) = required.into_iter().find(|name| !fields.contains_key(*name)) {
            return Err(format!("{missing} is missing"));
        }
        let other = &schema["additionalProperties"];
        for (name, value) in fields {
            match schema["properties"].get(name) {
                Some(known) => self.conforms(value, known).map_err(|wrong| format!("{name}: {wrong}"))?,
                None if other == &Value::Bool(true) => {}
                None if other.is_object() => self.conforms(value, other)?,
                None => return Err(format!("{name} is not documented")),
            }
        }
        Ok(())
    }

    /// Panics if a reference of the document leads nowhere.
    fn check_references(&self, value: &Value) {
        self.resolve(value);
        match value {
            Value::Object(fields) => fields.values().for_each(|value| self.check_references(value)),
            Value::Array(items) => items.iter().for_each(|value| self.check_references(value)),
            _ => {}
        }
    }
}

fn is_a(value: &Value, expect: &str) -> bool {
    match expect {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        _ => false,
    }
}

/// Whether the service has no such path, or not with that method.
fn is_unknown(reply: &Reply) -> bool {
    reply.status == StatusCode::METHOD_NOT_ALLOWED
        || reply.status == StatusCode::NOT_FOUND && reply.body["detail"] == "there is no such path"
}

fn fits(template: &str, path: &str) -> bool {
    let (template, path): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
    let fits = |(expect, part): (&&str, &&str)| expect == part || expect.starts_with('{');
    template.len() == path.len() && template.iter().zip(&path).all(fits)
}

/// Panics unless the document of a service has exactly its routes. `sources` are the files that make them.
pub async fn documented(http: &Http, sources: &[&str]) {
    let mut document = http.get("/openapi.json").await.body;
    let contract = Contract(document.clone());
    contract.check_references(&document);
    let mut documented: Vec<(String, String)> =
        operations_mut(&mut document).map(|(path, method, _)| (path.to_owned(), method.to_owned())).collect();
    for (path, method) in &documented {
        let path = path.split('/').map(|part| if part.starts_with('{') { "0" } else { part });
        let path = path.collect::<Vec<_>>().join("/");
        let reply = http.request(method.to_uppercase().parse().unwrap(), &path).await;
        assert!(!is_unknown(&reply), "{method} {path} is documented and not there");
    }
    let own = ["/health", "/info", "/metrics", "/openapi.json"];
    documented.retain(|(path, _)| !own.contains(&path.as_str()));
    documented.sort();
    let mut routes: Vec<_> = sources.iter().flat_map(|source| routes(source)).collect();
    routes.sort();
    routes.dedup();
    assert_eq!(documented, routes, "what is documented and what is routed differ");
}

/// The routes that a source makes: `.route("/path", get(show).put(change))`.
fn routes(source: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    for route in source.split(".route(").skip(1) {
        let path = route.split('"').nth(1).unwrap();
        let words = arguments(route).split(|c: char| !c.is_alphanumeric() && c != '_' && c != '(');
        let methods = words.filter_map(|word| word.split_once('(')).map(|(method, _)| method);
        // A WebSocket is asked for by GET.
        let methods = methods.map(|method| if method == "any" { "get" } else { method });
        let known = methods.filter(|method| ["get", "post", "put", "patch", "delete"].contains(method));
        found.extend(known.map(|method| (path.to_owned(), method.to_owned())));
    }
    found
}

/// The text up to the bracket that closes it.
fn arguments(text: &str) -> &str {
    let mut depth = 1;
    let end = text.find(|c| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        depth == 0
    });
    text.split_at(end.unwrap_or(text.len())).0
}
