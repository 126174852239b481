//! What objects say to each other that cannot be: each rule with its field, words and remedy.

use serde_json::{Value, json};

use super::*;
use crate::world::{Change, Name, Object};

fn world_of(services: &[(&str, Value)]) -> World {
    let mut world = World::default();
    for (name, spec) in services {
        let object = json!({"metadata": {"name": name, "namespace": "shop"}, "spec": spec});
        let object = Object::Microservice(serde_json::from_value(object).unwrap());
        world.apply(Change::Upsert(Box::new(object)));
    }
    world
}

fn http() -> Value {
    json!([{"name": "http", "port": 80, "protocol": "HTTP"}])
}

#[test]
fn an_empty_world_is_right() {
    assert_eq!(world(&World::default()), []);
}

#[test]
fn a_problem_names_object_field_and_remedy() {
    let spec = json!({"ports": http(), "authorization": {"rules": [{"name": "r", "from": {"services": ["nobody"]}}]}});
    let found = world(&world_of(&[("order", spec)]));
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].severity, Severity::Warning);
    let text = found[0].to_string();
    assert!(
        text.starts_with("Microservice shop/order: spec.authorization.rules[0].from.services[0]: "),
        "{text}"
    );
    assert!(text.contains("there is no Microservice or Gateway shop/nobody; correct the name"), "{text}");
}

#[test]
fn what_the_schema_says_is_said_here_too() {
    let found = world(&world_of(&[("order", json!({"ports": []}))]));
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].severity, found[0].field.as_str()), (Severity::Error, "spec.ports"));
}

#[test]
fn of_two_that_select_the_same_pods_the_later_is_told() {
    let spec = |labels: Value| json!({"ports": http(), "selector": labels});
    let clash = world(&world_of(&[
        ("one", spec(json!({"app": "x"}))),
        ("two", spec(json!({"app": "x", "tier": "y"}))),
        ("three", spec(json!({"app": "z"}))),
    ]));
    let told: Vec<(Name, &str)> =
        clash.iter().map(|problem| (problem.object.name.clone(), problem.field.as_str())).collect();
    assert_eq!(told, [(Name::new("shop", "two"), "spec.selector")]);
}
