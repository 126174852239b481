//! Quantities written as bare numbers: `cpu: 1` instead of `cpu: "1"`.
//!
//! People write both and the API server takes both, but `k8s-openapi` reads text only. One such number would keep the
//! operator from reading any service at all, so blocks that hold quantities are read through here.

use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, Error};
use serde_json::Value;

/// Blocks whose values are all quantities.
const BLOCKS: [&str; 2] = ["limits", "requests"];
/// Fields that are quantities.
const FIELDS: [&str; 2] = ["sizeLimit", "divisor"];

/// Reads a block, with quantities that are numbers as text.
pub(super) fn as_text<'de, D: Deserializer<'de>, T: DeserializeOwned>(
    deserializer: D,
) -> Result<T, D::Error> {
    let mut value = Value::deserialize(deserializer)?;
    numbers_to_text(&mut value);
    serde_json::from_value(value).map_err(D::Error::custom)
}

/// Makes text of every quantity in a pod, or in a part of one, that is a number.
pub fn numbers_to_text(value: &mut Value) {
    match value {
        Value::Array(items) => items.iter_mut().for_each(numbers_to_text),
        Value::Object(fields) => {
            for (name, inner) in fields {
                if FIELDS.contains(&name.as_str()) {
                    number_to_text(inner);
                } else if let Some(block) = inner.as_object_mut().filter(|_| BLOCKS.contains(&name.as_str()))
                {
                    block.values_mut().for_each(number_to_text);
                } else {
                    numbers_to_text(inner);
                }
            }
        }
        _ => {}
    }
}

fn number_to_text(value: &mut Value) {
    if let Value::Number(number) = value {
        *value = Value::String(number.to_string());
    }
}

#[cfg(test)]
mod tests {
    use crate::microservice::Workload;

    #[test]
    fn numbers_are_read_as_the_text_they_mean() {
        let workload: Workload = serde_json::from_value(serde_json::json!({
            "image": "a",
            "resources": {"requests": {"cpu": 1, "memory": "64Mi"}, "limits": {"cpu": 2}},
            "volumes": [{"name": "a", "emptyDir": {"sizeLimit": 1024}}],
            "env": [{"name": "A", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": 1}}}],
        }))
        .unwrap();
        let again = serde_json::to_value(&workload).unwrap();
        assert_eq!(again["resources"]["requests"], serde_json::json!({"cpu": "1", "memory": "64Mi"}));
        assert_eq!(again["resources"]["limits"]["cpu"], "2");
        assert_eq!(again["volumes"][0]["emptyDir"]["sizeLimit"], "1024");
        assert_eq!(again["env"][0]["valueFrom"]["resourceFieldRef"]["divisor"], "1");
    }
}
