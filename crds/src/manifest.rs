//! Manifests: YAML texts of one or more objects, read with positions.
//!
//! [`parse`] finds everything that is wrong with a text at once, each with file, line, column, field and remedy, and
//! gives the objects that are right. It reads no file itself. `weft run`, `weft check` and the tests of core use it.

mod node;
mod object;

use std::fmt;

use serde_json::Value;

pub use node::Position;
pub use object::{Object, ObjectId, Reading};

use crate::field_path::FieldPath;
use crate::nearest::nearest;
use crate::validate::Violation;
use crate::{GATEWAY_GROUP, GROUP, VERSION};
use node::Node;

/// An object and where it came from.
#[derive(Clone, Debug, PartialEq)]
pub struct Manifest {
    /// The object.
    pub object: Object,
    /// Where it came from.
    pub source: Source,
}

/// Where an object came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Name of the file, as the caller gave it.
    pub file: String,
    /// Line of the object's first field, from 1.
    pub line: u64,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.file, self.line)
    }
}

/// What a text holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Parsed {
    /// Objects without errors, in the order of the text.
    pub manifests: Vec<Manifest>,
    /// Everything that is wrong or odd, in the order of the text.
    pub problems: Vec<Problem>,
}

impl Parsed {
    /// The problems that keep an object from being used.
    pub fn errors(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter().filter(|problem| problem.severity == Severity::Error)
    }

    /// The problems that do not.
    pub fn warnings(&self) -> impl Iterator<Item = &Problem> {
        self.problems.iter().filter(|problem| problem.severity == Severity::Warning)
    }
}

/// Whether a problem keeps an object from being used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It does.
    Error,
    /// It does not.
    Warning,
}

/// Something wrong or odd in a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Whether it keeps the object from being used.
    pub severity: Severity,
    /// Name of the file, as the caller gave it.
    pub file: String,
    /// Where in it.
    pub at: Position,
    /// The object, where one could be made out.
    pub object: Option<ObjectId>,
    /// The field; empty for the object or text as a whole.
    pub field: FieldPath,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub remedy: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}: ", self.file, self.at.line, self.at.column)?;
        if let Some(object) = &self.object {
            write!(f, "{object}: ")?;
        }
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        write!(f, "{}; {}", self.message, self.remedy)
    }
}

/// Reads a text of one or more objects. `file` is only named in what is found.
pub fn parse(file: &str, text: &str) -> Parsed {
    let mut parsed = Parsed::default();
    match serde_saphyr::from_multiple::<Node>(text) {
        Ok(documents) => documents.iter().for_each(|document| read_document(file, document, &mut parsed)),
        Err(error) => parsed.problems.push(unreadable(file, &error)),
    }
    parsed.problems.sort_by_key(|problem| problem.at);
    parsed
}

/// Reads one object as the API server gives it: the object, or everything that is wrong with it. Unknown fields of kinds
/// that are not ours are kept in it.
pub fn read(value: &Value) -> Result<Object, Vec<Violation>> {
    let id = identify(value);
    let Some(reading) = object::read(&id.api_version, &id.kind, value) else {
        return Err(vec![unknown_kind(&id).1]);
    };
    reading.object.ok_or(reading.errors)
}

/// Reads one object as the API server gives it, and finds all that is wrong or odd with it.
pub fn examine(value: &Value) -> Reading {
    let id = identify(value);
    object::read(&id.api_version, &id.kind, value).unwrap_or_else(|| {
        let (severity, violation) = unknown_kind(&id);
        let (errors, warnings) = match severity {
            Severity::Error => (vec![violation], Vec::new()),
            Severity::Warning => (Vec::new(), vec![violation]),
        };
        Reading { object: None, errors, warnings }
    })
}

/// Where a field stands of the object that begins in that line ([`Source::line`]), or the block around it: for what is
/// found wrong only with other objects beside it.
pub fn locate(text: &str, line: u64, field: &FieldPath) -> Option<Position> {
    let documents = serde_saphyr::from_multiple::<Node>(text).ok()?;
    let document = documents.iter().find(|document| document.at.line == line)?;
    Some(document.position_of(field))
}

/// A text that is no YAML at all.
fn unreadable(file: &str, error: &serde_saphyr::Error) -> Problem {
    let plain = error.without_snippet();
    Problem {
        severity: Severity::Error,
        file: file.to_owned(),
        at: plain.location().map_or(Position::START, Position::from),
        object: None,
        field: FieldPath::default(),
        message: format!("not readable as YAML: {plain}"),
        remedy: "correct the YAML here or just before".to_owned(),
    }
}

fn read_document(file: &str, document: &Node, parsed: &mut Parsed) {
    let value = document.to_value();
    if value.is_null() {
        return;
    }
    let id = identify(&value);
    let problem = |severity: Severity, violation: Violation| {
        let unknown = violation.message == "unknown field";
        let find = if unknown { Node::key_position_of } else { Node::position_of };
        Problem {
            severity,
            file: file.to_owned(),
            at: find(document, &violation.field),
            object: (!id.kind.is_empty()).then(|| id.clone()),
            field: violation.field,
            message: violation.message,
            remedy: violation.remedy,
        }
    };
    if let Some(violation) = no_object(&value) {
        parsed.problems.push(problem(Severity::Error, violation));
        return;
    }
    let Some(reading) = object::read(&id.api_version, &id.kind, &value) else {
        let (severity, violation) = unknown_kind(&id);
        parsed.problems.push(problem(severity, violation));
        if severity == Severity::Warning {
            let source = Source { file: file.to_owned(), line: document.at.line };
            parsed.manifests.push(Manifest { object: Object::Unknown(id.clone()), source });
        }
        return;
    };
    parsed.problems.extend(reading.errors.into_iter().map(|violation| problem(Severity::Error, violation)));
    parsed
        .problems
        .extend(reading.warnings.into_iter().map(|violation| problem(Severity::Warning, violation)));
    let source = Source { file: file.to_owned(), line: document.at.line };
    parsed.manifests.extend(reading.object.map(|object| Manifest { object, source }));
}

fn identify(value: &Value) -> ObjectId {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    ObjectId {
        api_version: text(&value["apiVersion"]),
        kind: text(&value["kind"]),
        namespace: value["metadata"]["namespace"].as_str().map(str::to_owned),
        name: text(&value["metadata"]["name"]),
    }
}

/// What every object needs and this value does not have.
fn no_object(value: &Value) -> Option<Violation> {
    if !value.is_object() {
        return Some(Violation::new(
            FieldPath::default(),
            "not an object",
            "write apiVersion, kind, metadata and spec",
        ));
    }
    let needed = [
        (&["apiVersion"][..], "weft.dev/v1alpha1"),
        (&["kind"], "Microservice"),
        (&["metadata", "name"], "order"),
    ];
    needed.into_iter().find_map(|(fields, example)| {
        let found = fields.iter().try_fold(value, |value, field| value.get(field));
        let given = found.and_then(Value::as_str).is_some_and(|text| !text.is_empty());
        let remedy = format!("write for example {}: {example}", fields.join("."));
        (!given).then(|| Violation::new(FieldPath::of(fields), "is missing or no text", remedy))
    })
}

/// Kinds that Weft reads, with their API versions.
const KINDS: [(&str, &str); 11] = [
    ("Microservice", "weft.dev/v1alpha1"),
    ("Mesh", "weft.dev/v1alpha1"),
    ("Gateway", "gateway.networking.k8s.io/v1"),
    ("GatewayClass", "gateway.networking.k8s.io/v1"),
    ("HTTPRoute", "gateway.networking.k8s.io/v1"),
    ("GRPCRoute", "gateway.networking.k8s.io/v1"),
    ("TLSRoute", "gateway.networking.k8s.io/v1"),
    ("ReferenceGrant", "gateway.networking.k8s.io/v1beta1"),
    ("Secret", "v1"),
    ("Service", "v1"),
    ("Namespace", "v1"),
];

/// A kind of our group that does not exist is an error, one of others a warning.
fn unknown_kind(id: &ObjectId) -> (Severity, Violation) {
    let group = id.api_version.rsplit_once('/').map_or("", |(group, _)| group);
    if let Some((kind, version)) = KINDS.iter().find(|(kind, _)| *kind == id.kind)
        && [GROUP, GATEWAY_GROUP].contains(&version.rsplit_once('/').map_or("", |(group, _)| group))
    {
        let message = format!("{kind} is not read at {:?}", id.api_version);
        let violation =
            Violation::new(FieldPath::of(&["apiVersion"]), message, format!("write apiVersion: {version}"));
        let ours =
            group == GROUP || group == GATEWAY_GROUP || nearest(group, [GROUP, GATEWAY_GROUP]).is_some();
        return (if ours { Severity::Error } else { Severity::Warning }, violation);
    }
    let field = FieldPath::of(&["kind"]);
    if group == GROUP {
        let kinds = KINDS.iter().filter(|(_, version)| version.ends_with(VERSION)).map(|(kind, _)| *kind);
        let remedy = match nearest(&id.kind, kinds) {
            Some(meant) => format!("did you mean {meant}?"),
            None => "write Microservice or Mesh".to_owned(),
        };
        return (
            Severity::Error,
            Violation::new(field, format!("{GROUP} has no kind {:?}", id.kind), remedy),
        );
    }
    let message = format!("Weft does not read the kind {:?} of {:?}", id.kind, id.api_version);
    (
        Severity::Warning,
        Violation::new(field, message, "it is left alone; remove it if it was meant for Weft"),
    )
}
