//! Deltas onto snapshots: what is good applies whole, what is bad changes nothing and is named.

use weft_api::v1::resource::Body;
use weft_api::v1::{Delta, Destination, Resource, ResourceVersion};

use super::*;
use crate::config::build::SELF;

fn resource(name: &str, body: Body) -> Resource {
    Resource { name: name.to_owned(), version: "1".to_owned(), body: Some(body) }
}

fn destination(name: &str, server_name: &str) -> Resource {
    let mtls = v1::Mtls {
        identities: vec!["spiffe://cluster.local/ns/shop/sa/product".to_owned()],
        server_name: server_name.to_owned(),
    };
    let body = Destination {
        mtls: Some(mtls),
        hosts: vec!["product".to_owned()],
        service: "shop/product".to_owned(),
        ..Destination::default()
    };
    resource(name, Body::Destination(body))
}

fn upserts(upserts: Vec<Resource>) -> Delta {
    Delta { nonce: "1".to_owned(), upserts, removals: Vec::new() }
}

fn removal(kind: Kind, name: &str) -> Delta {
    let removal = ResourceVersion { kind: kind.into(), name: name.to_owned(), version: String::new() };
    Delta { nonce: "2".to_owned(), upserts: Vec::new(), removals: vec![removal] }
}

const PRODUCT: &str = "shop/product:http";

#[test]
fn a_delta_adds_to_what_is_there() {
    let proxy = v1::Proxy { service: "shop/order".to_owned(), ..v1::Proxy::default() };
    let first = apply(&Snapshot::default(), upserts(vec![resource(SELF, Body::Proxy(proxy))])).unwrap();
    let second = apply(&first, upserts(vec![destination(PRODUCT, "product.shop")])).unwrap();
    assert_eq!(&*second.proxy.service, "shop/order");
    assert!(second.destinations.contains_key(PRODUCT));
}

#[test]
fn a_bad_resource_refuses_the_whole_delta_and_is_named() {
    let good = destination("shop/user:http", "user.shop");
    let delta = upserts(vec![good, destination(PRODUCT, "not a name")]);
    let errors = apply(&Snapshot::default(), delta).unwrap_err();
    assert_eq!(errors.len(), 1);
    assert_eq!((errors[0].kind(), errors[0].name.as_str()), (Kind::Destination, PRODUCT));
    assert!(errors[0].message.contains("server_name"), "{}", errors[0].message);
}

#[test]
fn a_resource_of_an_unknown_kind_is_refused_by_name() {
    let newer = Resource { name: "shop/new".to_owned(), version: "1".to_owned(), body: None };
    let errors = apply(&Snapshot::default(), upserts(vec![newer])).unwrap_err();
    assert_eq!(errors[0].name, "shop/new");
}

#[test]
fn a_removed_destination_is_known_not_to_exist_until_it_comes_back() {
    let there = apply(&Snapshot::default(), upserts(vec![destination(PRODUCT, "product.shop")])).unwrap();
    let gone = apply(&there, removal(Kind::Destination, PRODUCT)).unwrap();
    assert!(!gone.destinations.contains_key(PRODUCT) && gone.unknown.contains(PRODUCT));
    let back = apply(&gone, upserts(vec![destination(PRODUCT, "product.shop")])).unwrap();
    assert!(back.destinations.contains_key(PRODUCT) && back.unknown.is_empty());
}

#[test]
fn removing_what_is_not_there_says_that_it_does_not_exist() {
    let snapshot = apply(&Snapshot::default(), removal(Kind::Destination, PRODUCT)).unwrap();
    assert!(snapshot.unknown.contains(PRODUCT));
    let snapshot = apply(&snapshot, removal(Kind::Keys, "shop/user")).unwrap();
    assert_eq!(snapshot.unknown.len(), 1);
}

#[test]
fn a_new_version_replaces_the_old() {
    let first = apply(&Snapshot::default(), upserts(vec![destination(PRODUCT, "product.shop")])).unwrap();
    let mut newer = destination(PRODUCT, "other.shop");
    newer.version = "2".to_owned();
    let second = apply(&first, upserts(vec![newer])).unwrap();
    assert_eq!(second.resources.len(), 1);
    let mtls = second.destinations[PRODUCT].mtls.as_ref().unwrap();
    assert_eq!(mtls.server_name.to_str(), "other.shop");
}

fn endpoints(addresses: &[&str]) -> Resource {
    let endpoint =
        |address: &&str| v1::Endpoint { address: (*address).to_owned(), ..v1::Endpoint::default() };
    let endpoints = addresses.iter().map(endpoint).collect();
    resource(PRODUCT, Body::Endpoints(v1::Endpoints { endpoints }))
}

fn with_breaker(consecutive_failures: u32, retries: u32) -> Resource {
    let breaker = v1::CircuitBreaker {
        consecutive_failures,
        open_for_ms: 60_000,
        half_open_requests: 1,
        ..v1::CircuitBreaker::default()
    };
    let mut resource = destination(PRODUCT, "product.shop");
    resource.version = format!("{consecutive_failures}-{retries}");
    if let Some(Body::Destination(spec)) = &mut resource.body {
        spec.breaker = Some(breaker);
        spec.limits = Some(v1::Limits { requests: retries, ..v1::Limits::default() });
    }
    resource
}

#[test]
fn new_endpoints_keep_breaker_limits_budget_and_what_is_known_of_the_old_ones() {
    let delta = upserts(vec![with_breaker(5, 1), endpoints(&["10.0.0.1:80", "10.0.0.2:80"])]);
    let first = apply(&Snapshot::default(), delta).unwrap();
    let second = apply(&first, upserts(vec![endpoints(&["10.0.0.2:80", "10.0.0.3:80"])])).unwrap();
    let (before, after) = (&first.destinations[PRODUCT], &second.destinations[PRODUCT]);
    assert!(Arc::ptr_eq(before.breaker.as_ref().unwrap(), after.breaker.as_ref().unwrap()));
    assert!(Arc::ptr_eq(&before.limits, &after.limits) && Arc::ptr_eq(&before.budget, &after.budget));
    let addresses: Vec<String> =
        after.balancer.endpoints().iter().map(|endpoint| endpoint.address().to_string()).collect();
    assert_eq!(addresses, ["10.0.0.2:80", "10.0.0.3:80"]);
}

#[test]
fn what_did_not_change_is_not_compiled_again() {
    let first = apply(&Snapshot::default(), upserts(vec![with_breaker(5, 1)])).unwrap();
    let second = apply(&first, upserts(vec![destination("shop/user:http", "user.shop")])).unwrap();
    assert!(Arc::ptr_eq(&first.destinations[PRODUCT], &second.destinations[PRODUCT]));
}

#[test]
fn other_breaker_rules_begin_with_a_closed_breaker() {
    let first = apply(&Snapshot::default(), upserts(vec![with_breaker(5, 1)])).unwrap();
    let second = apply(&first, upserts(vec![with_breaker(7, 1)])).unwrap();
    let breaker = |snapshot: &Snapshot| snapshot.destinations[PRODUCT].breaker.clone().unwrap();
    assert!(!Arc::ptr_eq(&breaker(&first), &breaker(&second)));
}

#[test]
fn a_refused_delta_does_not_change_limits_in_use() {
    let first = apply(&Snapshot::default(), upserts(vec![with_breaker(5, 1)])).unwrap();
    let limits = Arc::clone(&first.destinations[PRODUCT].limits);
    let bad = destination("shop/user:http", "not a name");
    assert!(apply(&first, upserts(vec![with_breaker(5, 2), bad])).is_err());
    let _one = limits.request().unwrap();
    assert!(limits.request().is_err());
    apply(&first, upserts(vec![with_breaker(5, 2)])).unwrap();
    assert!(limits.request().is_ok());
}

#[test]
fn a_bad_endpoint_is_blamed_on_the_endpoints() {
    let delta = upserts(vec![destination(PRODUCT, "product.shop"), endpoints(&["nowhere"])]);
    let errors = apply(&Snapshot::default(), delta).unwrap_err();
    assert_eq!((errors[0].kind(), errors[0].name.as_str()), (Kind::Endpoints, PRODUCT));
}
