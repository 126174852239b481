//! Status of each kind: conditions with their reasons, and that transition times are kept.

use serde_json::{Value, json};

use super::*;
use crate::instances::{Instance, Role};
use crate::world::{Change, InstanceRef, Name, Object};
use weft_api::v1;
use weft_crds::microservice::BreakerState;

const NOW: i64 = 1_795_255_200;

fn order() -> ObjectRef {
    ObjectRef::new(ObjectKind::Microservice, Name::new("shop", "order"))
}

fn world_of(spec: &Value) -> World {
    let mut world = World::default();
    upsert(&mut world, spec);
    world
}

fn upsert(world: &mut World, spec: &Value) {
    let object = json!({"metadata": {"name": "order", "namespace": "shop"}, "spec": spec});
    world.apply(Change::Upsert(Box::new(Object::Microservice(serde_json::from_value(object).unwrap()))));
}

fn spec(mode: &str) -> Value {
    json!({"ports": [{"name": "http", "port": 80}], "mtls": {"mode": mode}, "workload": {"image": "i", "replicas": 2}})
}

fn run(world: &mut World, ready: &[bool]) {
    let instance = |(at, ready): (usize, &bool)| Instance {
        namespace: "shop".to_owned(),
        service: "order".to_owned(),
        name: format!("order-{at}"),
        role: Role::Service,
        address: "127.0.0.1".parse().unwrap(),
        ports: [].into(),
        outbound: [].into(),
        listeners: [].into(),
        ready: *ready,
        meshed: true,
        zone: String::new(),
        account: String::new(),
        shared: false,
        for_zones: Vec::new(),
        token_sha256: String::new(),
    };
    let instances = ready.iter().enumerate().map(instance).collect();
    world.apply(Change::Instances { workload: order().name, instances });
}

fn report(world: &mut World, instance: &str, certificate_not_after: i64, breaker: Option<v1::BreakerState>) {
    let breakers = breaker.map(|state| v1::BreakerReport {
        destination: "shop/order:http".to_owned(),
        state: state.into(),
        failures: 0,
        successes: 0,
    });
    let breakers = breakers.into_iter().collect();
    let report = v1::Report { certificate_not_after, breakers, ready: true, ..v1::Report::default() };
    let instance = InstanceRef::new(order().name, instance);
    world.apply(Change::Report { instance, report: Some(report) });
}

fn microservice(world: &World, now: i64) -> MicroserviceStatus {
    match of(world, &order(), now) {
        Some(Status::Microservice(status)) => status,
        other => panic!("{other:?}"),
    }
}

fn check(world: &World, kind: &str, expect: (&str, &str)) {
    let status = microservice(world, NOW);
    let condition = status.conditions.iter().find(|condition| condition.type_ == kind).unwrap();
    assert_eq!((condition.status.as_str(), condition.reason.as_str()), expect, "{}", condition.message);
}

#[test]
fn what_is_not_there_has_no_status() {
    assert_eq!(of(&World::default(), &order(), NOW), None);
}

#[test]
fn ready_follows_the_instances() {
    let mut world = world_of(&spec("Strict"));
    for (instances, expect) in [
        ([].as_slice(), ("False", "NoInstances")),
        (&[false, false], ("False", "NoInstanceReady")),
        (&[true, false], ("False", "TooFewReady")),
        (&[true, true], ("True", "InstancesReady")),
        (&[true, true, false], ("True", "InstancesReady")),
    ] {
        run(&mut world, instances);
        check(&world, "Ready", expect);
    }
    upsert(
        &mut world,
        &json!({"ports": [{"name": "http", "port": 80}], "workload": {"image": "i", "replicas": 0}}),
    );
    run(&mut world, &[]);
    check(&world, "Ready", ("True", "ScaledToZero"));
}

#[test]
fn meshed_and_secured_follow_the_reports() {
    let mut world = world_of(&spec("Strict"));
    check(&world, "Secured", ("Unknown", "NoInstances"));
    run(&mut world, &[true, true]);
    check(&world, "Meshed", ("False", "ProxyNotConnected"));
    check(&world, "Secured", ("Unknown", "CertificateUnknown"));
    report(&mut world, "order-0", NOW + 50, None);
    report(&mut world, "order-1", NOW + 90, None);
    check(&world, "Meshed", ("True", "AllMeshed"));
    check(&world, "Secured", ("True", "MutualTls"));
    assert_eq!(microservice(&world, NOW).certificate_expires, Some(condition::time(NOW + 50)));
    report(&mut world, "order-1", NOW, None);
    check(&world, "Secured", ("False", "CertificateExpired"));
    for (mode, reason) in [("Permissive", "PlainTextAllowed"), ("Disabled", "MutualTlsDisabled")] {
        upsert(&mut world, &spec(mode));
        check(&world, "Secured", ("False", reason));
    }
}

#[test]
fn the_worst_breaker_counts_and_only_of_instances_that_run() {
    let mut world = world_of(&spec("Strict"));
    run(&mut world, &[true, true]);
    assert_eq!(microservice(&world, NOW).breaker, None);
    report(&mut world, "order-0", NOW + 50, Some(v1::BreakerState::HalfOpen));
    report(&mut world, "gone-7", NOW + 50, Some(v1::BreakerState::Open));
    let breaker = microservice(&world, NOW).breaker.unwrap();
    assert_eq!((breaker.state, breaker.open_for), (BreakerState::HalfOpen, vec![]));
    report(&mut world, "order-1", NOW + 50, Some(v1::BreakerState::Open));
    let breaker = microservice(&world, NOW).breaker.unwrap();
    assert_eq!((breaker.state, breaker.open_for), (BreakerState::Open, vec!["shop/order".to_owned()]));
}

#[test]
fn a_condition_keeps_its_time_until_its_status_changes() {
    let mut world = world_of(&spec("Strict"));
    run(&mut world, &[true, false]);
    let first = of(&world, &order(), NOW).unwrap();
    world.keep_status(&order(), first);
    let since = |world: &World, now: i64, kind: &str| {
        let status = microservice(world, now);
        let condition = status.conditions.iter().find(|condition| condition.type_ == kind).unwrap();
        condition.last_transition_time.clone()
    };
    assert_eq!(since(&world, NOW + 100, "Ready"), condition::time(NOW));
    run(&mut world, &[true, true]);
    assert_eq!(since(&world, NOW + 100, "Ready"), condition::time(NOW + 100));
    assert_eq!(since(&world, NOW + 100, "Accepted"), condition::time(NOW));
}

#[test]
fn the_generation_counts_changes_of_the_spec() {
    let mut world = world_of(&spec("Strict"));
    upsert(&mut world, &spec("Strict"));
    assert_eq!(microservice(&world, NOW).observed_generation, Some(1));
    upsert(&mut world, &spec("Permissive"));
    assert_eq!(microservice(&world, NOW).observed_generation, Some(2));
}
