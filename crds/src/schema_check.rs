//! Checks a value against a schema: types, fields, bounds, patterns, with a remedy for each refusal.
//!
//! It reads the very schema that the API server gets, so the two cannot disagree about bounds. It knows the
//! keywords that our schemas use, no more. Rules across fields are in [`crate::validate`],
//! rules of single values here.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use regex::Regex;
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::duration::Duration;
use crate::field_path::FieldPath;
use crate::microservice::RetryOn;
use crate::nearest::nearest;
use crate::rules::{self, Rule};
use crate::validate::Violation;

/// What a check finds.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    /// What is wrong.
    pub(crate) violations: Vec<Violation>,
    /// Fields that the schema does not know; wrong in our kinds, a warning in others.
    pub(crate) unknown: Vec<Violation>,
}

impl Findings {
    fn add(&mut self, path: &FieldPath, message: impl Into<String>, remedy: impl Into<String>) {
        self.violations.push(Violation::new(path.clone(), message, remedy));
    }
}

/// Checks a value and all that is in it.
pub(crate) fn check(schema: &Value, value: &Value, path: &FieldPath, findings: &mut Findings) {
    if value.is_null() {
        // A null is a field left out; whether it may be is its parent's to say.
        return;
    }
    if let Some(branches) = ["anyOf", "oneOf"].iter().find_map(|key| schema.get(key)?.as_array()) {
        check_branches(branches, value, path, findings);
    }
    if !type_fits(schema, value) {
        let message = format!("must be {}, is {}", type_in_words(schema), kind_in_words(value));
        findings.add(path, message, right_kind(schema, value));
        return;
    }
    check_leaf_rules(schema, value, path, findings);
    check_enum(schema, value, path, findings);
    match value {
        Value::String(text) => check_text(schema, text, path, findings),
        Value::Number(number) => check_number(schema, number.as_f64().unwrap_or(f64::NAN), path, findings),
        Value::Array(items) => check_list(schema, items, path, findings),
        Value::Object(fields) => check_object(schema, fields, path, findings),
        Value::Null | Value::Bool(_) => {}
    }
}

/// One branch must fit; where none does, the first one's findings say why.
fn check_branches(branches: &[Value], value: &Value, path: &FieldPath, findings: &mut Findings) {
    let mut first = None;
    for branch in branches {
        let mut tried = Findings::default();
        check(branch, value, path, &mut tried);
        if tried.violations.is_empty() {
            findings.unknown.append(&mut tried.unknown);
            return;
        }
        first.get_or_insert(tried);
    }
    findings.violations.append(&mut first.unwrap_or_default().violations);
}

fn type_fits(schema: &Value, value: &Value) -> bool {
    if is_int_or_string(schema) {
        return value.is_string() || value.is_i64() || value.is_u64();
    }
    match schema["type"].as_str() {
        Some("string") => value.is_string(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        Some("boolean") => value.is_boolean(),
        Some("array") => value.is_array(),
        Some("object") => value.is_object(),
        _ => true,
    }
}

/// What to write instead of a value of another kind.
fn right_kind(schema: &Value, value: &Value) -> String {
    if let Some(allowed) = schema["enum"].as_array() {
        return format!("write one of {}", in_words(allowed));
    }
    let bare = schema["type"] == "string" && (value.is_boolean() || value.is_number());
    example_or(schema, if bare { "put it in quotes" } else { "write a value of that kind" })
}

fn in_words(allowed: &[Value]) -> String {
    let words: Vec<String> = allowed.iter().filter(|value| !value.is_null()).map(plain).collect();
    words.join(", ")
}

/// A rule of a single value, and the same in Rust.
struct LeafRule {
    rule: Rule,
    holds: fn(&Value) -> bool,
}

/// Rules of single values, wherever the schema carries them.
const LEAF_RULES: [LeafRule; 2] = [
    LeafRule { rule: rules::POSITIVE_DURATION, holds: is_positive },
    LeafRule { rule: rules::RETRY_ON_KNOWN, holds: is_retry_on },
];

fn check_leaf_rules(schema: &Value, value: &Value, path: &FieldPath, findings: &mut Findings) {
    for carried in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
        let known = LEAF_RULES.iter().find(|leaf| carried["rule"] == leaf.rule.cel);
        if let Some(leaf) = known.filter(|leaf| !(leaf.holds)(value)) {
            findings.add(path, leaf.rule.message, leaf.rule.remedy);
        }
    }
}

/// Not no time; what is no duration at all is refused by its form.
fn is_positive(value: &Value) -> bool {
    let parsed = value.as_str().and_then(|text| text.parse::<Duration>().ok());
    parsed.is_none_or(|duration| !duration.is_zero())
}

fn is_retry_on(value: &Value) -> bool {
    RetryOn::deserialize(value).is_ok()
}

fn is_int_or_string(schema: &Value) -> bool {
    schema["x-kubernetes-int-or-string"] == true || schema["format"] == "int-or-string"
}

fn type_in_words(schema: &Value) -> &'static str {
    if is_int_or_string(schema) {
        return "a whole number or a text";
    }
    match schema["type"].as_str() {
        Some("string") => "a text",
        Some("integer") => "a whole number",
        Some("number") => "a number",
        Some("boolean") => "true or false",
        Some("array") => "a list",
        _ => "a block of fields",
    }
}

fn kind_in_words(value: &Value) -> String {
    match value {
        Value::Null => "nothing".to_owned(),
        Value::Bool(value) => format!("{value}"),
        Value::Number(number) if number.is_f64() => format!("the fraction {number}"),
        Value::Number(number) => format!("the number {number}"),
        Value::String(text) => format!("the text {}", quoted(text)),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a block of fields".to_owned(),
    }
}

/// A text from outside, short enough for a message.
fn quoted(text: &str) -> String {
    let mut shown: String = text.chars().take(60).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("{shown:?}")
}

fn check_enum(schema: &Value, value: &Value, path: &FieldPath, findings: &mut Findings) {
    let constant = schema.get("const").map(std::slice::from_ref);
    let Some(allowed) = schema["enum"].as_array().map(Vec::as_slice).or(constant) else { return };
    if allowed.contains(value) {
        return;
    }
    let texts = || allowed.iter().filter_map(Value::as_str);
    let meant = value.as_str().and_then(|text| nearest(text, texts()));
    let remedy = match meant {
        Some(meant) => format!("did you mean {meant}? It takes {}", in_words(allowed)),
        None => format!("write one of {}", in_words(allowed)),
    };
    findings.add(path, format!("{} is not allowed", quoted(&plain(value))), remedy);
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn check_text(schema: &Value, text: &str, path: &FieldPath, findings: &mut Findings) {
    let length = text.chars().count() as u64;
    let bounds = (schema["minLength"].as_u64(), schema["maxLength"].as_u64());
    if let Some(message) = outside(length, bounds, "character") {
        findings.add(path, message, example_or(schema, "shorten or lengthen it"));
        return;
    }
    let Some(pattern) = schema["pattern"].as_str() else { return };
    if !matches(pattern, text) {
        let remedy = example_or(schema, &format!("it must match {pattern}"));
        findings.add(path, format!("{} does not have the right form", quoted(text)), remedy);
    }
}

/// Whether a text matches; patterns are compiled once.
fn matches(pattern: &str, text: &str) -> bool {
    static COMPILED: Mutex<BTreeMap<String, Regex>> = Mutex::new(BTreeMap::new());
    let mut compiled = COMPILED.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(regex) = compiled.get(pattern) {
        return regex.is_match(text);
    }
    // A test compiles every pattern of our schemas, so a failure here could only be a foreign one.
    let Ok(regex) = Regex::new(pattern) else { return true };
    compiled.entry(pattern.to_owned()).or_insert(regex).is_match(text)
}

fn check_number(schema: &Value, number: f64, path: &FieldPath, findings: &mut Findings) {
    let (min, max) = (schema["minimum"].as_f64(), schema["maximum"].as_f64());
    let low = min.is_some_and(|min| number < min);
    let high = max.is_some_and(|max| number > max);
    if !low && !high {
        return;
    }
    let message = match (min, max) {
        (Some(min), Some(max)) => format!("must be from {min} to {max}, is {number}"),
        (Some(min), None) => format!("must be at least {min}, is {number}"),
        _ => format!("must be at most {}, is {number}", max.unwrap_or_default()),
    };
    findings.add(path, message, example_or(schema, "write a number within these bounds"));
}

fn check_list(schema: &Value, items: &[Value], path: &FieldPath, findings: &mut Findings) {
    let bounds = (schema["minItems"].as_u64(), schema["maxItems"].as_u64());
    if let Some(message) = outside(items.len() as u64, bounds, "entry") {
        findings.add(path, message, example_or(schema, "add or remove entries"));
    }
    for (index, item) in items.iter().enumerate() {
        check(&schema["items"], item, &path.index(index), findings);
    }
}

fn check_object(schema: &Value, fields: &Map<String, Value>, path: &FieldPath, findings: &mut Findings) {
    let bounds = (schema["minProperties"].as_u64(), schema["maxProperties"].as_u64());
    if let Some(message) = outside(fields.len() as u64, bounds, "entry") {
        findings.add(path, message, example_or(schema, "add or remove entries"));
    }
    let properties = schema["properties"].as_object();
    let known = |name: &str| properties.and_then(|properties| properties.get(name));
    check_required(schema, fields, path, findings);
    let others = schema.get("additionalProperties").filter(|others| others.is_object());
    for (name, value) in fields {
        match (known(name), others, properties) {
            (Some(inner), ..) | (None, Some(inner), _) => check(inner, value, &path.field(name), findings),
            (None, None, Some(properties)) => findings.unknown.push(unknown_field(name, properties, path)),
            // A block that the schema does not describe, like metadata.
            (None, None, None) => {}
        }
    }
}

fn check_required(schema: &Value, fields: &Map<String, Value>, path: &FieldPath, findings: &mut Findings) {
    let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    for name in required {
        if fields.get(name).is_none_or(Value::is_null) {
            let remedy = example_or(&schema["properties"][name], "add it");
            findings.add(&path.field(name), "is missing", remedy);
        }
    }
}

fn unknown_field(name: &str, known: &Map<String, Value>, path: &FieldPath) -> Violation {
    let names = known.keys().map(String::as_str);
    let remedy = match nearest(name, names.clone()) {
        Some(meant) => format!("did you mean {meant}?"),
        None => format!("remove it; known here: {}", names.collect::<Vec<_>>().join(", ")),
    };
    Violation::new(path.field(name), "unknown field", remedy)
}

fn outside(count: u64, (min, max): (Option<u64>, Option<u64>), unit: &str) -> Option<String> {
    let plural = |count: u64| match unit {
        "entry" if count != 1 => format!("{count} entries"),
        unit if count != 1 => format!("{count} {unit}s"),
        unit => format!("1 {unit}"),
    };
    let low =
        min.filter(|min| count < *min).map(|min| format!("needs at least {}, has {count}", plural(min)));
    low.or_else(|| {
        max.filter(|max| count > *max).map(|max| format!("takes at most {}, has {count}", plural(max)))
    })
}

/// The example that the field's description gives, as a remedy; `other` where it gives none.
fn example_or(schema: &Value, other: &str) -> String {
    let description = schema["description"].as_str().unwrap_or_default();
    let example =
        description.rsplit_once("Example: ").map(|(_, example)| example.trim_end().trim_end_matches('.'));
    example.map_or_else(|| other.to_owned(), |example| format!("write for example {example}"))
}
