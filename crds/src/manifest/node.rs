//! YAML as a tree that knows where each key and value stands.
//!
//! serde-saphyr parses (with its limits on depth, aliases and size); this keeps positions beside values, so that a
//! refusal can name line and column whatever the style of the text.

use std::fmt;

use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use serde_saphyr::{Location, Spanned};

use crate::field_path::{FieldPath, Part};

/// A place in a text, from 1. Columns count characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Position {
    /// Line.
    pub line: u64,
    /// Column.
    pub column: u64,
}

impl Position {
    /// The beginning of a text.
    pub const START: Self = Self { line: 1, column: 1 };
}

impl From<Location> for Position {
    fn from(location: Location) -> Self {
        // An unknown location is line 0.
        Self { line: location.line().max(1), column: location.column().max(1) }
    }
}

/// A value and where it stands.
#[derive(Debug)]
pub(super) struct Node {
    pub(super) at: Position,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Plain(Value),
    List(Vec<Node>),
    Block(Vec<Entry>),
}

#[derive(Debug)]
struct Entry {
    key: String,
    at: Position,
    node: Node,
}

impl Node {
    /// The value without positions.
    pub(super) fn to_value(&self) -> Value {
        match &self.content {
            Content::Plain(value) => value.clone(),
            Content::List(items) => items.iter().map(Self::to_value).collect(),
            Content::Block(entries) => {
                let fields = entries.iter().map(|entry| (entry.key.clone(), entry.node.to_value()));
                Value::Object(fields.collect::<Map<_, _>>())
            }
        }
    }

    /// Where that field's value stands, or the nearest block around it where the field is not there.
    pub(super) fn position_of(&self, path: &FieldPath) -> Position {
        self.walk(path).1
    }

    /// Where that field's key stands, or the nearest block around it.
    pub(super) fn key_position_of(&self, path: &FieldPath) -> Position {
        self.walk(path).0
    }

    /// Positions of the key and of the value at the end of the path, as far as it goes.
    fn walk(&self, path: &FieldPath) -> (Position, Position) {
        let (mut node, mut key) = (self, self.at);
        for part in path.parts() {
            let next = match (&node.content, part) {
                (Content::List(items), Part::Index(index)) => items.get(*index).map(|item| (item, item.at)),
                (Content::Block(entries), Part::Field(name)) => {
                    let entry = entries.iter().find(|entry| entry.key == *name);
                    entry.map(|entry| (&entry.node, entry.at))
                }
                _ => None,
            };
            match next {
                Some(found) => (node, key) = found,
                // Missing here: the key of the block around it says best where to add it.
                None => return (key, key),
            }
        }
        (key, node.at)
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let spanned = Spanned::<Content>::deserialize(deserializer)?;
        Ok(Self { at: spanned.referenced.into(), content: spanned.value })
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ContentVisitor)
    }
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML that can be written as JSON")
    }

    fn visit_bool<E: de::Error>(self, value: bool) -> Result<Content, E> {
        Ok(Content::Plain(value.into()))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Content, E> {
        Ok(Content::Plain(value.into()))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Content, E> {
        Ok(Content::Plain(value.into()))
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Content, E> {
        let number = Number::from_f64(value).ok_or_else(|| E::custom("a number must be finite"))?;
        Ok(Content::Plain(Value::Number(number)))
    }

    fn visit_str<E: de::Error>(self, value: &str) -> Result<Content, E> {
        Ok(Content::Plain(value.into()))
    }

    fn visit_unit<E: de::Error>(self) -> Result<Content, E> {
        Ok(Content::Plain(Value::Null))
    }

    fn visit_none<E: de::Error>(self) -> Result<Content, E> {
        self.visit_unit()
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Content, D::Error> {
        Content::deserialize(deserializer)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Content, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Content::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Content, A::Error> {
        let mut entries = Vec::new();
        while let Some(key) = fields.next_key::<Spanned<String>>()? {
            entries.push(Entry { key: key.value, at: key.referenced.into(), node: fields.next_value()? });
        }
        Ok(Content::Block(entries))
    }
}
