//! What is wrong with the world as a whole: rules across objects that no schema can say.
//!
//! Each problem names the object, the field and the remedy. Errors are refused (the last good state stays in force),
//! warnings are told. What one object says by itself is checked in `weft-crds`.

use std::fmt;

use crate::world::{ObjectRef, World};

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

/// Everything that is wrong or odd across objects, by object.
pub fn world(world: &World) -> Vec<Problem> {
    let _ = world;
    Vec::new()
}
