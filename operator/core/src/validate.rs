//! What is wrong with the world as a whole: rules across objects that no schema can say.
//!
//! Each problem names the object, the field and the remedy. What contradicts itself or is dangerous is an error: it is
//! refused, and the last good state stays in force. What is only absent (a backend, a Secret, a caller) is a warning,
//! since it may come later; until then requests that need it are answered with an error that says so. What one object
//! says by itself is checked in `weft-crds`.

pub mod gateway;
pub mod instances;
pub mod microservice;
mod review;
pub mod route;

use std::fmt;

use weft_crds::Violation;

use crate::world::{ObjectKind, ObjectRef, World};
pub use review::review;

/// Whether a problem keeps the objects from being used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It does.
    Error,
    /// It does not.
    Warning,
}

/// Something wrong or odd across objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Whether it keeps the objects from being used.
    pub severity: Severity,
    /// The object to change.
    pub object: ObjectRef,
    /// The field in it, `spec.ports[0].port`; empty: the object as a whole.
    pub field: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", self.object)?;
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        write!(f, "{}; {}", self.message, self.remedy)
    }
}

/// Everything that is wrong or odd, by object. Without errors the world may go into force.
pub fn world(world: &World) -> Vec<Problem> {
    let mut problems = Vec::new();
    for reference in world.references() {
        let mut found = Found::new(reference.clone());
        for violation in by_itself(world, &reference) {
            found.violation(violation);
        }
        problems.append(&mut found.problems);
        problems.extend(object(world, &reference));
    }
    problems.extend(instances::check(world));
    problems
}

/// Everything that is wrong or odd about one object because of others.
pub fn object(world: &World, reference: &ObjectRef) -> Vec<Problem> {
    let mut found = Found::new(reference.clone());
    match reference.kind {
        ObjectKind::Microservice => microservice::check(world, &reference.name, &mut found),
        ObjectKind::Mesh => mesh(world, &mut found),
        ObjectKind::Gateway => gateway::check(world, &reference.name, &mut found),
        ObjectKind::HttpRoute | ObjectKind::GrpcRoute | ObjectKind::TlsRoute => {
            route::check(world, reference, &mut found);
        }
        ObjectKind::ReferenceGrant
        | ObjectKind::Secret
        | ObjectKind::GatewayClass
        | ObjectKind::Service
        | ObjectKind::Namespace => {}
    }
    found.problems
}

/// What `weft-crds` says of our own kinds; where a schema stood before, nothing is left of it.
fn by_itself(world: &World, reference: &ObjectRef) -> Vec<Violation> {
    match reference.kind {
        ObjectKind::Microservice => world.microservice(&reference.name).map(weft_crds::validate),
        ObjectKind::Mesh => world.meshes.get(&reference.name).map(weft_crds::validate_mesh),
        _ => None,
    }
    .unwrap_or_default()
}

fn mesh(world: &World, found: &mut Found) {
    if let Some((secret, key)) = world.redis_secret()
        && world.secret_text(&secret, key).is_none()
    {
        found.warning(
            "spec.redis.secretRef",
            format!("Secret {secret} is not there or has no key `{key}`"),
            "create the Secret in the operator's namespace; until then each instance counts by itself",
        );
    }
}

/// Problems of one object.
pub(crate) struct Found {
    object: ObjectRef,
    problems: Vec<Problem>,
}

impl Found {
    fn new(object: ObjectRef) -> Self {
        Self { object, problems: Vec::new() }
    }

    fn error(&mut self, field: impl Into<String>, message: impl Into<String>, remedy: impl Into<String>) {
        self.add(Severity::Error, field.into(), message.into(), remedy.into());
    }

    fn warning(&mut self, field: impl Into<String>, message: impl Into<String>, remedy: impl Into<String>) {
        self.add(Severity::Warning, field.into(), message.into(), remedy.into());
    }

    fn violation(&mut self, violation: Violation) {
        self.add(Severity::Error, violation.field.to_string(), violation.message, violation.remedy);
    }

    fn add(&mut self, severity: Severity, field: String, message: String, remedy: String) {
        self.problems.push(Problem { severity, object: self.object.clone(), field, message, remedy });
    }
}

#[cfg(test)]
mod tests;
