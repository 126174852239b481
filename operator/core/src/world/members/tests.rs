//! Pods, slices and Services in a cluster: which instances follow, and that one pod's change stays small.

use serde_json::{Value, json};

use super::super::{Change, InstanceRef, Object};
use super::*;

fn microservice(world: &mut World, name: &str, selector: &Value) -> Affected {
    let spec = json!({"selector": selector, "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "HTTP"}]});
    let object = json!({"metadata": {"name": name, "namespace": "shop"}, "spec": spec});
    world.apply(Change::Upsert(Box::new(Object::Microservice(serde_json::from_value(object).unwrap()))))
}

fn front(world: &mut World, name: &str, port: &str) -> Affected {
    let spec = json!({"selector": {"app": name}, "ports": [{"name": port, "port": 80, "targetPort": 8080}]});
    let object = json!({"metadata": {"name": name, "namespace": "shop"}, "spec": spec});
    world.apply(Change::Upsert(Box::new(Object::Service(serde_json::from_value(object).unwrap()))))
}

fn pod(world: &mut World, name: &str, app: &str, account: &str) -> Affected {
    let labels = BTreeMap::from([("app".to_owned(), app.to_owned())]);
    let pod = Pod { labels, account: account.to_owned(), meshed: !account.is_empty() };
    world.apply(Change::Pod { name: Name::new("shop", name), pod: Some(pod) })
}

fn slice(world: &mut World, service: &str, port: &str, pods: &[(&str, bool)]) -> Affected {
    let endpoint = |(at, (pod, ready)): (usize, &(&str, bool))| Endpoint {
        address: Ipv4Addr::new(10, 1, 0, u8::try_from(at).unwrap() + 1).into(),
        ready: *ready,
        draining: !ready,
        zone: "a".to_owned(),
        for_zones: vec!["a".to_owned()],
        pod: Some((*pod).to_owned()),
    };
    let endpoints = pods.iter().enumerate().map(endpoint).collect();
    let slice = Slice { service: service.to_owned(), ports: vec![(port.to_owned(), 8080)], endpoints };
    world.apply(Change::Slice { name: Name::new("shop", &format!("{service}-x")), slice: Some(slice) })
}

fn home(world: &World, pod: &str) -> Option<String> {
    world.home(&Name::new("shop", pod)).map(ToString::to_string)
}

fn instance<'a>(world: &'a World, workload: &str, pod: &str) -> Option<&'a Instance> {
    world.instance(&InstanceRef::new(Name::new("shop", workload), pod))
}

fn order() -> World {
    let mut world = World::in_cluster();
    microservice(&mut world, "order", &json!({"app": "order"}));
    front(&mut world, "order", "web");
    pod(&mut world, "order-1", "order", "till");
    slice(&mut world, "order", "web", &[("order-1", true)]);
    world
}

#[test]
fn a_pod_with_its_slice_and_service_is_an_instance() {
    let world = order();
    let found = instance(&world, "order", "order-1").unwrap();
    assert_eq!((found.role, found.ready, found.meshed), (Role::Service, true, true));
    assert_eq!((found.account.as_str(), found.zone.as_str()), ("till", "a"));
    assert_eq!(found.for_zones, ["a"]);
    assert_eq!(
        found.ports["http"].peers.to_string(),
        "10.1.0.1:8080",
        "by the name that the Service gives the port"
    );
}

#[test]
fn the_order_in_which_things_are_told_does_not_count() {
    let mut world = World::in_cluster();
    slice(&mut world, "order", "web", &[("order-1", true)]);
    pod(&mut world, "order-1", "order", "till");
    front(&mut world, "order", "web");
    assert_eq!(home(&world, "order-1").as_deref(), Some("shop/till"), "nothing selects it yet");
    microservice(&mut world, "order", &json!({"app": "order"}));
    assert_eq!(world.instances().collect::<Vec<_>>(), order().instances().collect::<Vec<_>>());
}

#[test]
fn a_pod_moves_with_its_labels() {
    let mut world = order();
    assert_eq!(home(&world, "order-1").as_deref(), Some("shop/order"));
    let affected = pod(&mut world, "order-1", "else", "till");
    assert_eq!(home(&world, "order-1").as_deref(), Some("shop/till"));
    let told: Vec<String> = affected.workloads.iter().map(ToString::to_string).collect();
    assert_eq!(told, ["shop/order", "shop/till"]);
    assert_eq!(instance(&world, "till", "order-1").unwrap().role, Role::Bare);
    assert!(instance(&world, "order", "order-1").unwrap().shared, "the slice still lists it");
    world.apply(Change::Pod { name: Name::new("shop", "order-1"), pod: None });
    assert_eq!(home(&world, "order-1"), None);
    assert!(instance(&world, "till", "order-1").is_none());
    assert!(!instance(&world, "order", "order-1").unwrap().meshed, "nobody vouches for a pod that is gone");
}

#[test]
fn a_pod_that_two_services_call_reports_to_both() {
    let mut world = order();
    microservice(&mut world, "basket", &json!({"app": "basket"}));
    front(&mut world, "basket", "http");
    slice(&mut world, "basket", "http", &[("order-1", true)]);
    let instance = InstanceRef::new(Name::new("shop", "order"), "order-1");
    let report = weft_api::v1::Report { certificate_not_after: 1, ..Default::default() };
    let affected = world.apply(Change::Report { instance, report: Some(report) });
    for service in ["basket", "order"] {
        let reference = ObjectRef::new(ObjectKind::Microservice, Name::new("shop", service));
        assert!(affected.resources.contains(&reference), "{service}");
        let Some(crate::status::Status::Microservice(status)) = crate::status::of(&world, &reference, 0)
        else {
            panic!("no status")
        };
        assert_eq!(status.meshed_replicas, Some(1), "{service}");
    }
}

#[test]
fn of_two_that_select_a_pod_the_first_by_name_has_it() {
    let mut world = order();
    microservice(&mut world, "basket", &json!({"app": "order"}));
    assert_eq!(home(&world, "order-1").as_deref(), Some("shop/basket"));
    world.apply(Change::Remove(ObjectRef::new(ObjectKind::Microservice, Name::new("shop", "basket"))));
    assert_eq!(home(&world, "order-1").as_deref(), Some("shop/order"));
}

#[test]
fn one_pods_change_touches_one_service() {
    let mut world = order();
    for at in 0..50 {
        let name = format!("s{at}");
        microservice(&mut world, &name, &json!({"app": name}));
        front(&mut world, &name, "http");
        pod(&mut world, &format!("{name}-1"), &name, &name);
        slice(&mut world, &name, "http", &[(&format!("{name}-1"), true)]);
    }
    let affected = slice(&mut world, "s7", "http", &[("s7-1", true), ("s7-2", true)]);
    assert_eq!(affected.destinations.iter().collect::<Vec<_>>(), ["shop/s7:http"]);
    assert_eq!(affected.workloads.iter().map(ToString::to_string).collect::<Vec<_>>(), ["shop/s7"]);
    assert_eq!(affected.resources.iter().filter(|one| one.kind == ObjectKind::Microservice).count(), 1);
    assert!(slice(&mut world, "s7", "http", &[("s7-1", true), ("s7-2", true)]).is_empty());
}

#[test]
fn callers_expect_the_accounts_of_all_instances() {
    let mut world = order();
    let identities = |world: &World| world.serving_identities(&Name::new("shop", "order"));
    let id = |account: &str| format!("spiffe://cluster.local/ns/shop/sa/{account}");
    assert_eq!(identities(&world), [id("till")]);
    pod(&mut world, "order-2", "order", "canary");
    assert_eq!(identities(&world), [id("canary"), id("till")]);
    assert_eq!(world.calling_identities(&Name::new("shop", "order")), identities(&world));
    for name in ["order-1", "order-2"] {
        world.apply(Change::Pod { name: Name::new("shop", name), pod: None });
    }
    assert_eq!(identities(&world), [id("order")], "with nobody there, none but its own name");
}

#[test]
fn what_is_ending_is_called_when_nothing_else_is_left() {
    let mut world = order();
    pod(&mut world, "order-2", "order", "till");
    slice(&mut world, "order", "web", &[("order-1", true), ("order-2", false)]);
    assert!(!instance(&world, "order", "order-2").unwrap().ready);
    slice(&mut world, "order", "web", &[("order-1", false), ("order-2", false)]);
    assert!(instance(&world, "order", "order-1").unwrap().ready);
}

#[test]
fn a_gateways_pods_are_its_instances() {
    let mut world = World::in_cluster();
    let labels = BTreeMap::from([(LABEL_GATEWAY.to_owned(), "edge".to_owned())]);
    let pod = Pod { labels, account: String::new(), meshed: false };
    world.apply(Change::Pod { name: Name::new("shop", "edge-1"), pod: Some(pod) });
    assert_eq!(home(&world, "edge-1"), None);
    let gateway = json!({"gatewayClassName": "weft", "listeners": []});
    let gateway = json!({"metadata": {"name": "edge", "namespace": "shop"}, "spec": gateway});
    world.apply(Change::Upsert(Box::new(Object::Gateway(serde_json::from_value(gateway).unwrap()))));
    assert_eq!(home(&world, "edge-1").as_deref(), Some("shop/edge"));
    let found = instance(&world, "edge", "edge-1").unwrap();
    assert_eq!((found.role, found.meshed), (Role::Gateway, true));
    let reference = InstanceRef::new(Name::new("shop", "edge"), "edge-1");
    assert_eq!(world.instance_account(&reference), Some(Name::new("shop", "edge")));
}
