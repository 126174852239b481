//! The world: that a change affects what depends on it and nothing else, and any order gives the same.

use serde_json::{Value, json};

use super::*;
use crate::instances::{PortAddresses, Role};

fn upsert(world: &mut World, object: Object) -> Affected {
    world.apply(Change::Upsert(Box::new(object)))
}

fn microservice(name: &str, spec: &Value) -> Object {
    let object = json!({"metadata": {"name": name, "namespace": "shop"}, "spec": spec});
    Object::Microservice(serde_json::from_value(object).unwrap())
}

fn http() -> Value {
    json!({"ports": [{"name": "http", "port": 80, "protocol": "HTTP"}]})
}

fn route(parent: &Value) -> Object {
    let spec = json!({"parentRefs": [parent], "rules": [{"backendRefs": [{"name": "product", "port": 80}]}]});
    let object = json!({"metadata": {"name": "route", "namespace": "shop"}, "spec": spec});
    Object::HttpRoute(serde_json::from_value(object).unwrap())
}

fn instance(ready: bool) -> Instance {
    let socket = |port: u16| std::net::SocketAddr::from(([127, 0, 0, 1], port));
    Instance {
        namespace: "shop".to_owned(),
        service: "product".to_owned(),
        name: "product-0".to_owned(),
        role: Role::Service,
        address: "127.0.0.1".parse().unwrap(),
        ports: [("http".to_owned(), PortAddresses { app: socket(8080), peers: socket(15201) })].into(),
        outbound: [].into(),
        listeners: [].into(),
        ready,
        meshed: true,
        zone: String::new(),
        account: String::new(),
        shared: false,
        for_zones: Vec::new(),
        token_sha256: String::new(),
    }
}

fn shop() -> World {
    let mut world = World::default();
    upsert(&mut world, microservice("product", &http()));
    upsert(&mut world, microservice("order", &http()));
    let gateway =
        json!({"gatewayClassName": "weft", "listeners": [{"name": "http", "port": 80, "protocol": "HTTP"}]});
    let gateway = json!({"metadata": {"name": "gateway", "namespace": "shop"}, "spec": gateway});
    upsert(&mut world, Object::Gateway(serde_json::from_value(gateway).unwrap()));
    upsert(&mut world, route(&json!({"name": "gateway"})));
    world.apply(Change::ReplaceInstances(vec![instance(true)]));
    world
}

fn workloads(affected: &Affected) -> Vec<String> {
    affected.workloads.iter().map(ToString::to_string).collect()
}

fn destinations(affected: &Affected) -> Vec<&str> {
    affected.destinations.iter().map(String::as_str).collect()
}

#[test]
fn what_changes_nothing_affects_nothing() {
    let mut world = shop();
    assert!(upsert(&mut world, microservice("order", &http())).is_empty());
    assert!(world.apply(Change::ReplaceInstances(vec![instance(true)])).is_empty());
    let absent = ObjectRef::new(ObjectKind::Microservice, Name::new("shop", "absent"));
    assert!(world.apply(Change::Remove(absent)).is_empty());
    let keys = || Change::Keys { name: "unused".to_owned(), keys: v1::Keys::default() };
    assert!(world.apply(keys()).is_empty());
}

#[test]
fn an_instance_that_gets_ready_touches_its_destinations_and_who_holds_them() {
    let mut world = shop();
    let affected = world.apply(Change::ReplaceInstances(vec![instance(false)]));
    assert_eq!(destinations(&affected), ["shop/product:http"]);
    assert_eq!(workloads(&affected), ["shop/gateway"], "its own proxy hears nothing");
    let own = crate::compile::own(&world, &InstanceRef::new(Name::new("shop", "gateway"), "any"));
    world.apply(Change::ReplaceInstances(vec![instance(true)]));
    let again = crate::compile::own(&world, &InstanceRef::new(Name::new("shop", "gateway"), "any"));
    let differ: Vec<v1::Kind> =
        again.iter().filter(|resource| !own.contains(resource)).map(v1::Resource::kind).collect();
    assert_eq!(differ, [v1::Kind::Endpoints]);
}

#[test]
fn a_route_within_the_mesh_ties_two_destinations() {
    let mut world = shop();
    let affected = upsert(&mut world, route(&json!({"group": "", "kind": "Service", "name": "order"})));
    assert_eq!(destinations(&affected), ["shop/order:http"]);
    assert_eq!(workloads(&affected), ["shop/gateway"], "which it left");
    let affected = world.apply(Change::ReplaceInstances(vec![instance(false)]));
    assert_eq!(destinations(&affected), ["shop/order:http", "shop/product:http"]);
}

#[test]
fn a_report_touches_statuses_only() {
    let mut world = shop();
    let report = |requests: u32, state: v1::BreakerState| {
        let destination = "shop/order:http".to_owned();
        let breaker = v1::BreakerReport { destination, state: state.into(), failures: 0, successes: 0 };
        let report =
            v1::Report { active_requests: requests, breakers: vec![breaker], ..v1::Report::default() };
        let instance = InstanceRef::new(Name::new("shop", "product"), "product-0");
        Change::Report { instance, report: Some(report) }
    };
    let told = |affected: &Affected| affected.resources.iter().map(ToString::to_string).collect::<Vec<_>>();
    let first = world.apply(report(1, v1::BreakerState::Closed));
    assert!(first.workloads.is_empty() && first.destinations.is_empty());
    assert!(world.apply(report(2, v1::BreakerState::Closed)).is_empty());
    let opened = world.apply(report(2, v1::BreakerState::Open));
    assert_eq!(told(&opened), ["Microservice shop/order"]);
}

#[test]
fn removed_objects_are_gone() {
    let mut world = shop();
    let order = ObjectRef::new(ObjectKind::Microservice, Name::new("shop", "order"));
    let affected = world.apply(Change::Remove(order.clone()));
    assert_eq!(destinations(&affected), ["shop/order:http"]);
    assert!(affected.workloads.contains(&order.name) && affected.resources.contains(&order));
    assert!(!world.contains(&order));
    assert_eq!(crate::compile::destination(&world, "shop/order:http"), []);
    assert_eq!(crate::compile::own(&world, &InstanceRef::new(order.name, "order-0")), []);
}
