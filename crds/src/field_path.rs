//! Where in an object something is: `spec.ports[0].protocol`.
//!
//! Kept as parts so that a position in the YAML can be found for it; a key that is no plain word is written in
//! brackets and quotes, as in `spec.selector["app.kubernetes.io/name"]`.

use std::fmt;

/// One step into an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// A field or key.
    Field(String),
    /// An entry of a list, from 0.
    Index(usize),
}

/// A way into an object, from its top.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldPath(Vec<Part>);

impl FieldPath {
    /// The way through these fields.
    pub fn of(fields: &[&str]) -> Self {
        fields.iter().fold(Self::default(), |path, field| path.field(field))
    }

    /// The way that a text means which was written from one; what cannot be read ends it.
    pub fn parse(text: &str) -> Self {
        let mut path = Self::default();
        let mut rest = text;
        while let Some((part, after)) = first_part(rest) {
            path.push(part);
            rest = after;
        }
        path
    }

    /// The way to a field of what is here.
    #[must_use]
    pub fn field(&self, name: &str) -> Self {
        self.with(Part::Field(name.to_owned()))
    }

    /// The way to an entry of the list that is here.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        self.with(Part::Index(index))
    }

    /// The steps.
    pub fn parts(&self) -> &[Part] {
        &self.0
    }

    /// Whether it means the object itself.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn push(&mut self, part: Part) {
        self.0.push(part);
    }

    fn with(&self, part: Part) -> Self {
        let mut path = self.clone();
        path.push(part);
        path
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, part) in self.0.iter().enumerate() {
            match part {
                Part::Index(index) => write!(f, "[{index}]")?,
                Part::Field(name) if !is_word(name) => write!(f, "[{name:?}]")?,
                Part::Field(name) if position == 0 => f.write_str(name)?,
                Part::Field(name) => write!(f, ".{name}")?,
            }
        }
        Ok(())
    }
}

fn first_part(text: &str) -> Option<(Part, &str)> {
    if let Some((name, after)) = text.strip_prefix("[\"").and_then(|rest| rest.split_once("\"]")) {
        return Some((Part::Field(name.to_owned()), after));
    }
    if let Some((index, after)) = text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return Some((Part::Index(index.parse().ok()?), after));
    }
    let text = text.strip_prefix('.').unwrap_or(text);
    let (name, after) = text.split_at_checked(text.find(['.', '[']).unwrap_or(text.len()))?;
    (!name.is_empty()).then(|| (Part::Field(name.to_owned()), after))
}

fn is_word(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_written_as_kubernetes_writes_it() {
        let ports = FieldPath::of(&["spec", "ports"]);
        assert_eq!(ports.index(0).field("protocol").to_string(), "spec.ports[0].protocol");
        let label = FieldPath::of(&["spec", "selector"]).field("app.kubernetes.io/name");
        assert_eq!(label.to_string(), r#"spec.selector["app.kubernetes.io/name"]"#);
        assert_eq!(FieldPath::default().to_string(), "");
        for path in [ports.index(0).field("protocol"), label.index(12), FieldPath::default()] {
            assert_eq!(FieldPath::parse(&path.to_string()), path);
        }
    }
}
