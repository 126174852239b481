//! YAML as a tree that knows where everything stands, and a reader that collects every problem instead of the first.
//! Under `weft_yaml.rs`; knows nothing of its fields.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Location, Spanned};

use crate::suggest;

/// Line and column, both from 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Position {
    /// Line.
    pub(crate) line: u64,
    /// Column.
    pub(crate) column: u64,
}

impl From<Location> for Position {
    fn from(location: Location) -> Self {
        Self { line: location.line(), column: location.column() }
    }
}

/// A value and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct At<T> {
    /// The value.
    pub(crate) value: T,
    /// Where it begins.
    pub(crate) at: Position,
}

/// A node of the document.
pub(crate) type Node = At<Value>;

/// What a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// Nothing, `~` or `null`.
    Null,
    /// `true`, `false` and their YAML 1.1 spellings.
    Bool(bool),
    /// A whole number.
    Number(i128),
    /// A number with a fraction.
    Fraction(String),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A map, in the order of the file.
    Map(Vec<(At<String>, Node)>),
}

impl Value {
    /// Its kind, for a message.
    fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "a boolean",
            Self::Number(_) => "a number",
            Self::Fraction(_) => "a fraction",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a map",
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Value>::deserialize(deserializer)?;
        Ok(Self { value: spanned.value, at: spanned.referenced.into() })
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyValue)
    }
}

struct AnyValue;

impl<'de> Visitor<'de> for AnyValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_none<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Fraction(value.to_string()))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element::<Node>()? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Vec::new();
        while let Some((key, value)) = entries.next_entry::<Spanned<String>, Node>()? {
            map.push((At { value: key.value, at: key.referenced.into() }, value));
        }
        Ok(Value::Map(map))
    }
}

/// A problem at a position, not yet tied to a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    /// Where.
    pub(crate) at: Position,
    /// Path of the field.
    pub(crate) field: String,
    /// What is wrong and what to write instead.
    pub(crate) message: String,
}

/// The document as a tree, or why it is not YAML.
pub(crate) fn parse(text: &str) -> Result<Node, Fault> {
    serde_saphyr::from_str::<Node>(text).map_err(|error| {
        let inner = error.without_snippet();
        let at = inner.location().map(Position::from).unwrap_or_default();
        // The text of the error ends with the position, which the caller puts in front.
        let message = inner.to_string();
        let message = message.lines().next().unwrap_or_default();
        let message = message.split(" at line ").next().unwrap_or(message);
        Fault { at, field: String::new(), message: format!("not valid YAML: {message}") }
    })
}

/// Reads fields of a tree and collects what is wrong with them.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    /// What was wrong so far.
    pub(crate) faults: Vec<Fault>,
}

impl Reader {
    /// Notes a problem.
    pub(crate) fn fault(&mut self, at: Position, field: &str, message: impl Into<String>) {
        self.faults.push(Fault { at, field: field.to_owned(), message: message.into() });
    }

    /// The entries of a map; nothing for an absent one.
    pub(crate) fn map<'n>(&mut self, node: &'n Node, field: &str) -> &'n [(At<String>, Node)] {
        match &node.value {
            Value::Map(entries) => entries,
            Value::Null => &[],
            other => {
                self.fault(node.at, field, format!("is {}, expected a map of `name: value`", other.kind()));
                &[]
            }
        }
    }

    /// The entries of a map whose keys are known in advance; others are reported.
    pub(crate) fn fields<'n>(
        &mut self,
        node: &'n Node,
        field: &str,
        known: &[&str],
    ) -> Vec<(&'n str, &'n Node)> {
        let mut found = Vec::new();
        for (key, value) in self.map(node, field) {
            if known.contains(&key.value.as_str()) {
                found.push((key.value.as_str(), value));
                continue;
            }
            let hint = suggest::hint(&key.value, known.iter().copied());
            let list = known.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            self.fault(key.at, &join(field, &key.value), format!("unknown field{hint} (known here: {list})"));
        }
        found
    }

    /// Text. A number is taken as it is written; a boolean is not, since `yes` and `on` would silently change.
    pub(crate) fn text(&mut self, node: &Node, field: &str) -> Option<At<String>> {
        let value = match &node.value {
            Value::Text(text) => text.clone(),
            Value::Number(number) => number.to_string(),
            Value::Fraction(fraction) => fraction.clone(),
            Value::Bool(value) => {
                self.fault(
                    node.at,
                    field,
                    format!("is a boolean, expected text; put it in quotes: \"{value}\""),
                );
                return None;
            }
            other => {
                self.fault(node.at, field, format!("is {}, expected text", other.kind()));
                return None;
            }
        };
        Some(At { value, at: node.at })
    }

    /// A list of texts.
    pub(crate) fn texts(&mut self, node: &Node, field: &str) -> Vec<At<String>> {
        let Value::List(items) = &node.value else {
            self.fault(node.at, field, format!("is {}, expected a list of texts: [a, b]", node.value.kind()));
            return Vec::new();
        };
        let read = |(index, item)| self.text(item, &format!("{field}[{index}]"));
        items.iter().enumerate().filter_map(read).collect()
    }

    /// A whole number between two bounds, both included.
    pub(crate) fn number(&mut self, node: &Node, field: &str, bounds: (u32, u32)) -> Option<u32> {
        let (least, most) = bounds;
        let in_range = |number: &u32| (least..=most).contains(number);
        let read = match &node.value {
            Value::Number(number) => u32::try_from(*number).ok().filter(in_range),
            _ => None,
        };
        if read.is_none() {
            self.fault(node.at, field, format!("must be a whole number from {least} to {most}"));
        }
        read
    }
}

/// The path of a field in another.
pub(crate) fn join(field: &str, name: &str) -> String {
    if field.is_empty() { name.to_owned() } else { format!("{field}.{name}") }
}
