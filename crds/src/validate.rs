//! Everything that the schemas and their CEL rules say, in Rust and in the same words.
//!
//! `weft check`, the webhook and standalone mode refuse with this what the API server would refuse. Bounds come
//! from the schema itself ([`crate::schema_check`]); the rules across fields of [`crate::rules`] are written out here.
//! What needs other objects (does a Secret exist, is a name taken) is core's to say.

mod blocks;

use std::fmt;

use serde::Serialize;
use serde_json::Value;

use crate::field_path::FieldPath;
use crate::rules::{self, Rule};
use crate::schema_check::{Findings, check};
use crate::{Mesh, Microservice, mesh, schema};

/// Something that is wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Where in the object.
    pub field: FieldPath,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub remedy: String,
}

impl Violation {
    /// A violation.
    pub fn new(field: FieldPath, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { field, message: message.into(), remedy: remedy.into() }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}; {}", self.field, self.message, self.remedy)
    }
}

/// Everything that is wrong with a service. Empty means that the API server takes it.
pub fn validate(service: &Microservice) -> Vec<Violation> {
    let mut violations = against_schema(&schema::MICROSERVICE, service);
    violations.extend(microservice_rules(service));
    violations
}

/// Everything that is wrong with a mesh.
pub fn validate_mesh(mesh: &Mesh) -> Vec<Violation> {
    let mut violations = against_schema(&schema::MESH, mesh);
    violations.extend(mesh_rules(mesh));
    violations
}

/// The rules across fields of a service.
pub(crate) fn microservice_rules(service: &Microservice) -> Vec<Violation> {
    let mut broken = Broken::default();
    let name = service.metadata.name.as_deref().unwrap_or_default();
    broken.unless(is_label(name), &rules::MICROSERVICE_NAME, &FieldPath::of(&["metadata", "name"]));
    blocks::microservice(&service.spec, &FieldPath::of(&["spec"]), &mut broken);
    broken.violations
}

/// The rules across fields of a mesh.
pub(crate) fn mesh_rules(mesh: &Mesh) -> Vec<Violation> {
    let mut broken = Broken::default();
    let is_default = mesh.metadata.name.as_deref() == Some(mesh::MESH_NAME);
    broken.unless(is_default, &rules::MESH_IS_DEFAULT, &FieldPath::of(&["metadata", "name"]));
    blocks::mesh(&mesh.spec, &FieldPath::of(&["spec"]), &mut broken);
    broken.violations
}

fn against_schema(schema: &Value, object: &impl Serialize) -> Vec<Violation> {
    let value = serde_json::to_value(object).expect("our kinds have string keys only");
    let mut findings = Findings::default();
    check(schema, &value, &FieldPath::default(), &mut findings);
    findings.violations.append(&mut findings.unknown);
    findings.violations
}

/// Whether a text may be the name of a Service: a DNS label that starts with a letter.
fn is_label(name: &str) -> bool {
    let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    name.len() <= 63
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && !name.ends_with('-')
        && name.chars().all(letters)
}

/// Rules that do not hold, as they are found.
#[derive(Debug, Default)]
struct Broken {
    violations: Vec<Violation>,
}

impl Broken {
    fn unless(&mut self, holds: bool, rule: &Rule, field: &FieldPath) {
        if !holds {
            self.violations.push(Violation::new(field.clone(), rule.message, rule.remedy));
        }
    }
}
