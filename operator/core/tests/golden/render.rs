//! Messages of the wire as YAML, from their debug text, which is the one form in which generated types show every
//! field with its name and enums by theirs. Fields that hold nothing are left out.

use serde_json::{Map, Number, Value};

/// Marks the one field of a `oneof` that is there: it stands in its message as any other field does.
const VARIANT: char = '@';

/// What is in a resource.
pub(crate) fn body(debug: &str) -> Value {
    let mut reader = Reader { text: debug.chars().collect(), at: 0 };
    match reader.value() {
        // The name of the only variant that is there is the kind, which stands in the title already.
        Value::Object(variant) => variant.into_iter().next().map(|(_, body)| body).unwrap_or_default(),
        other => other,
    }
}

struct Reader {
    text: Vec<char>,
    at: usize,
}

impl Reader {
    fn value(&mut self) -> Value {
        match self.peek() {
            '"' => Value::String(self.string()),
            '[' => self.list(),
            '-' | '0'..='9' => self.number(),
            _ => self.named(),
        }
    }

    fn named(&mut self) -> Value {
        let name = self.word();
        if self.skip(" {") {
            return self.fields();
        }
        if !self.skip("(") {
            return match name.as_str() {
                "None" => Value::Null,
                "true" | "false" => Value::Bool(name == "true"),
                _ => Value::String(name),
            };
        }
        let inner = self.value();
        self.expect(")");
        if name == "Some" {
            inner
        } else {
            Value::Object(Map::from_iter([(format!("{VARIANT}{}", camel(&name)), inner)]))
        }
    }

    fn fields(&mut self) -> Value {
        let mut fields = std::collections::BTreeMap::new();
        while !self.skip(" }") {
            self.skip(",");
            self.expect(" ");
            let name = self.word();
            self.expect(": ");
            match self.value() {
                Value::Object(variant) if variant.keys().any(|key| key.starts_with(VARIANT)) => {
                    let shown = variant.into_iter().map(|(key, value)| (key.replace(VARIANT, ""), value));
                    fields.extend(shown);
                }
                value if is_nothing(&value) => {}
                value => drop(fields.insert(camel_from_snake(&name), value)),
            }
        }
        Value::Object(fields.into_iter().collect())
    }

    fn list(&mut self) -> Value {
        self.expect("[");
        let mut entries = Vec::new();
        while !self.skip("]") {
            self.skip(", ");
            entries.push(self.value());
        }
        Value::Array(entries)
    }

    fn number(&mut self) -> Value {
        let start = self.at;
        while self.at < self.text.len() && matches!(self.text[self.at], '-' | '+' | '.' | 'e' | '0'..='9') {
            self.at += 1;
        }
        let text: String = self.text[start..self.at].iter().collect();
        match text.parse::<i64>() {
            Ok(whole) => Value::Number(whole.into()),
            Err(_) => Value::Number(Number::from_f64(text.parse().unwrap()).unwrap()),
        }
    }

    fn string(&mut self) -> String {
        self.expect("\"");
        let mut text = String::new();
        loop {
            let c = self.next();
            match c {
                '"' => return text,
                '\\' => text.push(self.escaped()),
                c => text.push(c),
            }
        }
    }

    fn escaped(&mut self) -> char {
        match self.next() {
            'n' => '\n',
            't' => '\t',
            'r' => '\r',
            '0' => '\0',
            'u' => {
                self.expect("{");
                let digits = self.word();
                self.expect("}");
                char::from_u32(u32::from_str_radix(&digits, 16).unwrap()).unwrap()
            }
            c => c,
        }
    }

    fn word(&mut self) -> String {
        let start = self.at;
        while self.at < self.text.len() && (self.text[self.at].is_alphanumeric() || self.text[self.at] == '_')
        {
            self.at += 1;
        }
        assert!(self.at > start, "a word was expected at {}: {:?}", start, self.rest());
        self.text[start..self.at].iter().collect()
    }

    fn skip(&mut self, what: &str) -> bool {
        let fits = self.rest().starts_with(what);
        if fits {
            self.at += what.chars().count();
        }
        fits
    }

    fn expect(&mut self, what: &str) {
        assert!(self.skip(what), "{what:?} was expected: {:?}", self.rest());
    }

    fn peek(&self) -> char {
        self.text[self.at]
    }

    fn next(&mut self) -> char {
        self.at += 1;
        self.text[self.at - 1]
    }

    fn rest(&self) -> String {
        self.text[self.at..].iter().take(40).collect()
    }
}

fn is_nothing(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(is) => !is,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(entries) => entries.is_empty(),
        Value::Object(_) => false,
    }
}

fn camel(name: &str) -> String {
    let mut chars = name.chars();
    chars.next().map(|first| first.to_lowercase().chain(chars).collect()).unwrap_or_default()
}

fn camel_from_snake(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |all, word| {
        let mut chars = word.chars();
        let head = chars.next().map(|c| c.to_uppercase().to_string()).unwrap_or_default();
        all + &head + chars.as_str()
    })
}
