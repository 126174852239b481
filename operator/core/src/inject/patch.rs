//! The difference between two objects as a JSON patch (RFC 6902) that can be applied to more than was compared: what the
//! types of this code do not know of an object is in neither side, so it stays as it is.
//!
//! For that, entries of lists are told apart by their names, as Kubernetes does, not by their places: an entry put first
//! moves the others on instead of writing itself over the first.

use std::collections::BTreeSet;

use json_patch::jsonptr::PointerBuf;
use json_patch::{AddOperation, MoveOperation, Patch, PatchOperation, RemoveOperation, ReplaceOperation};
use serde_json::{Map, Value};

/// What makes `after` of `before`.
pub fn between(before: &Value, after: &Value) -> Patch {
    let mut patch = Patch::default();
    values(&PointerBuf::root(), before, after, &mut patch);
    patch
}

fn values(path: &PointerBuf, before: &Value, after: &Value, patch: &mut Patch) {
    match (before, after) {
        _ if before == after => {}
        (Value::Object(before), Value::Object(after)) => fields(path, before, after, patch),
        (Value::Array(before), Value::Array(after)) if has_names(before) && has_names(after) => {
            entries(path, before, after, patch);
        }
        _ => replace(path, after, patch),
    }
}

fn fields(path: &PointerBuf, before: &Map<String, Value>, after: &Map<String, Value>, patch: &mut Patch) {
    for name in before.keys().filter(|name| !after.contains_key(*name)) {
        remove(&path.with_trailing_token(name), patch);
    }
    for (name, value) in after {
        let path = path.with_trailing_token(name);
        match before.get(name) {
            Some(before) => values(&path, before, value, patch),
            None => add(&path, value, patch),
        }
    }
}

/// Goes through the list from the front; `order` is what it is by then.
fn entries(path: &PointerBuf, before: &[Value], after: &[Value], patch: &mut Patch) {
    let mut order: Vec<&Value> = before.iter().collect();
    for at in (0..before.len()).rev() {
        if before.get(at).is_some_and(|entry| !after.iter().any(|kept| kept["name"] == entry["name"])) {
            order.remove(at);
            remove(&path.with_trailing_token(at), patch);
        }
    }
    for (at, entry) in after.iter().enumerate() {
        let here = path.with_trailing_token(at);
        if let Some(from) = order.iter().position(|known| known["name"] == entry["name"]) {
            let known = order.remove(from);
            order.insert(at, known);
            if from != at {
                let from = path.with_trailing_token(from);
                patch.0.push(PatchOperation::Move(MoveOperation { from, path: here.clone() }));
            }
            values(&here, known, entry, patch);
        } else {
            order.insert(at, entry);
            add(&here, entry, patch);
        }
    }
}

/// Whether every entry has a name, and each its own.
fn has_names(list: &[Value]) -> bool {
    let names: BTreeSet<&str> = list.iter().filter_map(|entry| entry["name"].as_str()).collect();
    names.len() == list.len()
}

fn add(path: &PointerBuf, value: &Value, patch: &mut Patch) {
    patch.0.push(PatchOperation::Add(AddOperation { path: path.clone(), value: value.clone() }));
}

fn replace(path: &PointerBuf, value: &Value, patch: &mut Patch) {
    patch.0.push(PatchOperation::Replace(ReplaceOperation { path: path.clone(), value: value.clone() }));
}

fn remove(path: &PointerBuf, patch: &mut Patch) {
    patch.0.push(PatchOperation::Remove(RemoveOperation { path: path.clone() }));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn check(before: &Value, after: &Value) -> Patch {
        let patch = between(before, after);
        let mut patched = before.clone();
        json_patch::patch(&mut patched, &patch).unwrap();
        assert_eq!(&patched, after, "{patch}");
        patch
    }

    #[test]
    fn what_is_not_known_of_an_entry_moves_with_it() {
        let before = json!({"list": [{"name": "a", "x": 1}, {"name": "b"}]});
        let after = json!({"list": [{"name": "new"}, {"name": "b"}, {"name": "a", "x": 2}]});
        let patch = check(&before, &after);
        let mut whole =
            json!({"list": [{"name": "a", "x": 1, "unknown": "of a"}, {"name": "b", "unknown": "of b"}]});
        json_patch::patch(&mut whole, &patch).unwrap();
        let expect = json!({"list": [{"name": "new"}, {"name": "b", "unknown": "of b"},
            {"name": "a", "x": 2, "unknown": "of a"}]});
        assert_eq!(whole, expect);
    }

    #[test]
    fn keys_with_slashes_and_lists_without_names_are_taken() {
        let before = json!({"annotations": {"a/b~c": "1"}, "args": ["x", "y"], "same": [{"name": "a"}, {"name": "a"}]});
        let after =
            json!({"annotations": {"a/b~c": "2", "d/e": "3"}, "args": ["y"], "same": [{"name": "a"}]});
        check(&before, &after);
        assert_eq!(between(&after, &after).0, []);
    }

    proptest! {
        #[test]
        fn any_list_becomes_any_other(
            before in prop::collection::btree_set("[a-e]", 0..5),
            after in prop::collection::vec("[a-e]", 0..5),
        ) {
            let named = |names: Vec<String>| -> Value {
                names.into_iter().enumerate().map(|(at, name)| json!({"name": name, "at": at})).collect()
            };
            let before = json!({"list": named(before.into_iter().collect())});
            check(&before, &json!({"list": named(after)}));
        }
    }
}
