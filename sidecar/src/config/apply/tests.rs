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
    assert_eq!(&*second.hosts["product"][0], PRODUCT);
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
    assert!(gone.hosts.is_empty());
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
