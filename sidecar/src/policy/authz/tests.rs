//! Who may do what: precedence of rules, each kind of condition, audit, raw connections.

use serde_json::json;
use v1::peer_match::Peer as Wire;

use super::*;
use crate::policy::fixture;

fn identity(id: &str) -> v1::PeerMatch {
    v1::PeerMatch { peer: Some(Wire::Identity(id.into())) }
}

fn namespace(name: &str) -> v1::PeerMatch {
    v1::PeerMatch { peer: Some(Wire::Namespace(name.into())) }
}

fn to(methods: &[&str], paths: &[&str]) -> v1::RequestMatch {
    let own = |list: &[&str]| list.iter().map(ToString::to_string).collect();
    v1::RequestMatch { methods: own(methods), paths: own(paths), ..Default::default() }
}

fn rule(name: &str) -> v1::Rule {
    v1::Rule { name: name.into(), ..Default::default() }
}

fn policy(rules: Vec<v1::Rule>) -> Policy {
    Policy::new(&v1::Authorization { default_allow: false, rules, audit: false }).unwrap()
}

/// What the policy says about `GET /orders/1` from `shop/order`: the rule's name, or `!` and the refusing policy's.
fn verdict(policy: &Policy, change: impl FnOnce(&mut RequestCx)) -> String {
    let mut cx = fixture::request("GET", "order", "/orders/1");
    change(&mut cx);
    match policy.check(&mut cx, &fixture::headers(&[("x-tenant", "blue")])) {
        Decision::Allowed { rule } => {
            assert_eq!(rule, cx.rule);
            rule.as_deref().unwrap_or("by default").to_owned()
        }
        Decision::Denied(reject) => format!("!{}", reject.policy.unwrap_or_default()),
        Decision::WouldDeny(reject) => format!("?{}", reject.policy.unwrap_or_default()),
    }
}

fn connection(policy: &Policy, identity: Option<&str>) -> bool {
    matches!(policy.check_connection(&fixture::connection(identity)), Decision::Allowed { .. })
}

const ORDER: &str = "spiffe://cluster.local/ns/shop/sa/order";

#[test]
fn what_no_rule_names_falls_to_the_default() {
    assert_eq!(verdict(&policy(vec![]), |_| {}), "!default");
    let open = Policy::new(&v1::Authorization { default_allow: true, ..Default::default() }).unwrap();
    assert_eq!(verdict(&open, |_| {}), "by default");
}

#[test]
fn a_deny_rule_wins_wherever_it_stands() {
    let deny = v1::Rule { deny: true, to: vec![to(&[], &["/orders*"])], ..rule("closed") };
    for rules in [vec![rule("all"), deny.clone()], vec![deny.clone(), rule("all")]] {
        assert_eq!(verdict(&policy(rules), |_| {}), "!closed");
    }
    assert_eq!(verdict(&policy(vec![deny, rule("all")]), |cx| cx.path = path("/users")), "all");
}

fn path(text: &str) -> crate::policy::path::NormalPath {
    crate::policy::path::NormalPath::parse(text).unwrap()
}

#[test]
fn peers_are_told_apart_by_identity_prefix_and_namespace() {
    let check = |from: v1::PeerMatch| {
        let policy = policy(vec![v1::Rule { from: vec![from], ..rule("peer") }]);
        let without = verdict(&policy, |cx| cx.conn = Arc::new(fixture::connection(None)));
        assert_eq!(without, "!default", "a peer without identity is nobody");
        verdict(&policy, |_| {}) == "peer"
    };
    assert!(check(identity(ORDER)));
    assert!(check(identity("spiffe://cluster.local/ns/shop/*")));
    assert!(check(identity("*")));
    assert!(check(namespace("shop")));
    assert!(!check(identity("spiffe://cluster.local/ns/shop/sa/orde")));
    assert!(!check(identity("spiffe://other.domain/ns/shop/sa/order")));
    assert!(!check(namespace("sho")));
    let anybody = policy(vec![rule("anybody")]);
    assert_eq!(verdict(&anybody, |cx| cx.conn = Arc::new(fixture::connection(None))), "anybody");
}

#[test]
fn claims_match_texts_lists_scopes_and_nested_objects() {
    let check = |claim: &str, values: &[&str]| {
        let claims = vec![v1::ClaimMatch {
            claim: claim.into(),
            values: values.iter().map(ToString::to_string).collect(),
        }];
        let policy = policy(vec![v1::Rule { claims, ..rule("claims") }]);
        assert_eq!(verdict(&policy, |_| {}), "!default", "no token, no claims");
        let token = json!({
            "role": "customer", "groups": ["a", "b"], "level": 3, "vip": true, "scope": "read write",
            "realm": {"role": "admin"}, "https://shop.example/tier": "gold", "empty": null,
        });
        let claims = Claims { map: token.as_object().unwrap().clone() };
        verdict(&policy, |cx| cx.claims = Some(Arc::new(claims))) == "claims"
    };
    assert!(check("role", &["customer", "admin"]));
    assert!(!check("role", &["admin"]));
    assert!(!check("role", &[]));
    assert!(check("groups", &["b"]));
    assert!(check("level", &["3"]));
    assert!(check("vip", &["true"]));
    assert!(check("scope", &["write"]));
    assert!(!check("scope", &["read write extra"]));
    assert!(check("realm.role", &["admin"]));
    assert!(check("https://shop.example/tier", &["gold"]));
    assert!(!check("empty", &[""]));
    assert!(!check("missing", &[""]));
    assert!(check("role", &["*"]) && check("realm", &["*"]) && check("groups", &["*"]));
    assert!(!check("missing", &["*"]) && !check("empty", &["*"]));
}

#[test]
fn all_conditions_of_a_rule_must_hold() {
    let full = v1::Rule {
        from: vec![namespace("shop")],
        to: vec![to(&["GET"], &["/orders*"])],
        headers: vec![v1::HeaderMatch {
            name: "x-tenant".into(),
            value: Some(v1::header_match::Value::Exact("blue".into())),
        }],
        ..rule("full")
    };
    let policy = policy(vec![full]);
    assert_eq!(verdict(&policy, |_| {}), "full");
    assert_eq!(verdict(&policy, |cx| cx.method = http::Method::POST), "!default");
    assert_eq!(verdict(&policy, |cx| cx.path = path("/users")), "!default");
}

#[test]
fn audit_refuses_nothing_and_says_what_it_would() {
    let config = v1::Authorization { default_allow: false, rules: vec![], audit: true };
    assert_eq!(verdict(&Policy::new(&config).unwrap(), |_| {}), "?default");
}

#[test]
fn a_path_with_two_readings_is_refused_where_rules_decide_by_path() {
    let ambiguous =
        |cx: &mut RequestCx| cx.path = path("/orders%2F..%2fadmin".trim_end_matches("..%2fadmin"));
    assert_eq!(verdict(&policy(vec![rule("all")]), ambiguous), "all");
    let by_path = policy(vec![v1::Rule { to: vec![to(&[], &["/orders*"])], ..rule("orders") }]);
    assert_eq!(verdict(&by_path, ambiguous), "!");
}

#[test]
fn a_raw_connection_is_judged_by_peer_and_port() {
    let allow = |change: fn(&mut v1::Rule)| {
        let mut rule = v1::Rule { from: vec![namespace("shop")], ..rule("tcp") };
        change(&mut rule);
        let policy = policy(vec![rule]);
        assert!(!connection(&policy, None));
        connection(&policy, Some(ORDER))
    };
    assert!(allow(|_| {}));
    assert!(allow(|rule| rule.to = vec![v1::RequestMatch { ports: vec![80], ..Default::default() }]));
    assert!(!allow(|rule| rule.to = vec![v1::RequestMatch { ports: vec![81], ..Default::default() }]));
    assert!(!allow(|rule| rule.to = vec![to(&["GET"], &[])]), "methods cannot be seen");
    let deny = v1::Rule { deny: true, to: vec![to(&["DELETE"], &[])], ..rule("no-delete") };
    assert!(!connection(&policy(vec![rule("all"), deny]), Some(ORDER)), "it could be a DELETE");
}

#[test]
fn a_peer_that_is_nobody_is_refused() {
    for from in [identity("order"), identity(""), namespace(""), v1::PeerMatch { peer: None }] {
        let config = v1::Authorization {
            rules: vec![v1::Rule { from: vec![from], ..rule("x") }],
            ..Default::default()
        };
        assert!(Policy::new(&config).is_err());
    }
}
