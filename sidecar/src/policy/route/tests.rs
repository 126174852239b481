//! Each part of a match, precedence by order, weights, and a naive reference that matching must agree with.

use proptest::prelude::*;
use v1::header_match::Value;
use v1::path_match::Path;
use v1::query_match::Value as Query;

use super::*;
use crate::policy::fixture;

fn path(path: Path) -> v1::PathMatch {
    v1::PathMatch { path: Some(path) }
}

fn prefix(text: &str) -> v1::RouteMatch {
    v1::RouteMatch { path: Some(path(Path::Prefix(text.into()))), ..Default::default() }
}

fn route(name: &str, matches: Vec<v1::RouteMatch>) -> v1::Route {
    v1::Route { name: name.into(), matches, ..Default::default() }
}

fn table(routes: Vec<v1::Route>) -> Table {
    Table::new(&v1::Routes { routes }).unwrap()
}

/// Name of the route for `GET shop.example` + target, and the part of the path its prefix covers.
fn select(table: &Table, target: &str) -> Option<(String, String)> {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let mut cx = fixture::request("GET", "shop.example", path);
    let headers = fixture::headers(&[("x-version", "v2"), ("x-version", "v3")]);
    let selected = table.select(&mut cx, query, &headers)?;
    assert_eq!(cx.route.as_deref(), Some(&*selected.route.name));
    Some((selected.route.name.to_string(), cx.path.as_str().get(..selected.prefix).unwrap().to_owned()))
}

fn matches(config: v1::RouteMatch, target: &str) -> bool {
    select(&table(vec![route("only", vec![config])]), target).is_some()
}

#[test]
fn of_a_connection_only_its_host_counts() {
    let to = |name: &str, hosts: &[&str]| v1::Route {
        hosts: hosts.iter().map(ToString::to_string).collect(),
        ..route(name, vec![prefix("/never")])
    };
    let named = table(vec![to("exact", &["a.example"]), to("below", &["*.example", "*.test"])]);
    let all = table(vec![to("all", &[])]);
    let check = |table: &Table, host: &str, expect: Option<&str>| {
        assert_eq!(table.of_host(host).as_ref().map(|route| &*route.name), expect, "{host}");
    };
    check(&named, "a.example", Some("exact"));
    check(&named, "a.example.", Some("exact"));
    check(&named, "b.a.example", Some("below"));
    check(&named, "example", None);
    check(&named, "", None);
    check(&all, "", Some("all"));
}

#[test]
fn the_first_route_that_matches_wins() {
    let table = table(vec![
        route(
            "exact",
            vec![v1::RouteMatch { path: Some(path(Path::Exact("/api/a".into()))), ..Default::default() }],
        ),
        route("long", vec![prefix("/api/"), prefix("/v2")]),
        route("rest", vec![]),
    ]);
    let check = |target: &str, name: &str, covered: &str| {
        assert_eq!(select(&table, target), Some((name.into(), covered.into())), "{target}");
    };
    check("/api/a", "exact", "/api/a");
    check("/api/b", "long", "/api");
    check("/api", "long", "/api");
    check("/v2/x", "long", "/v2");
    check("/apis", "rest", "");
}

#[test]
fn a_prefix_matches_whole_segments() {
    assert!(matches(prefix("/"), "/"));
    assert!(matches(prefix("/"), "/anything"));
    assert!(matches(prefix("/api"), "/api/"));
    assert!(!matches(prefix("/api"), "/apis"));
    assert!(!matches(prefix("/api"), "/"));
}

#[test]
fn a_regex_matches_the_whole_path() {
    let regex =
        |text: &str| v1::RouteMatch { path: Some(path(Path::Regex(text.into()))), ..Default::default() };
    assert!(matches(regex("/users/[0-9]+"), "/users/42"));
    assert!(!matches(regex("/users/[0-9]+"), "/users/42/orders"));
    assert!(!matches(regex("users"), "/users"));
}

#[test]
fn methods_hosts_and_headers_must_match() {
    let method = |text: &str| v1::RouteMatch { method: text.into(), ..Default::default() };
    assert!(matches(method("GET"), "/") && !matches(method("POST"), "/"));
    let host = |host: &str| {
        let route = v1::Route { hosts: vec!["other.example".into(), host.into()], ..route("host", vec![]) };
        select(&table(vec![route]), "/").is_some()
    };
    assert!(host("shop.example") && host("*.example") && !host("*.shop.example"));
    let header = |value| {
        let header = v1::HeaderMatch { name: "x-version".into(), value };
        matches(v1::RouteMatch { headers: vec![header], ..Default::default() }, "/")
    };
    assert!(header(Some(Value::Exact("v2".into()))) && header(Some(Value::Exact("v3".into()))));
    assert!(!header(Some(Value::Exact("v".into()))));
    assert!(header(Some(Value::Regex("v[0-9]".into()))) && !header(Some(Value::Regex("v".into()))));
    assert!(header(Some(Value::Present(true))) && !header(Some(Value::Present(false))));
}

#[test]
fn query_parameters_are_compared_decoded_and_the_first_decides() {
    let query = |name: &str, value: Option<Query>, target: &str| {
        let query = vec![v1::QueryMatch { name: name.into(), value }];
        matches(v1::RouteMatch { query, ..Default::default() }, target)
    };
    let exact = |text: &str| Some(Query::Exact(text.into()));
    assert!(query("a", exact("1"), "/?b=2&a=1"));
    assert!(query("a", exact("x y&z"), "/?a=x+y%26z"));
    assert!(query("a b", exact(""), "/?a%20b"));
    assert!(query("a", exact("100%"), "/?a=100%"));
    assert!(!query("a", exact("2"), "/?a=1&a=2"));
    assert!(!query("a", exact("1"), "/"));
    assert!(query("a", Some(Query::Regex("[0-9]+".into())), "/?a=42"));
    assert!(query("a", None, "/?a") && !query("a", None, "/?ab"));
}

#[test]
fn requests_are_divided_by_weight() {
    let backend = |name: &str, weight| v1::Backend { destination: name.into(), weight, ..Default::default() };
    let route = |backends| v1::Route { backends, ..route("weights", vec![]) };
    let table = table(vec![route(vec![backend("a", 1), backend("off", 0), backend("b", 3)])]);
    let at = |random| table.routes()[0].backend(random).unwrap().destination.as_deref().unwrap().to_owned();
    assert_eq!([0, (1 << 30) - 1, 1 << 30, u32::MAX].map(at), ["a", "a", "b", "b"]);
    let none = self::table(vec![route(vec![backend("off", 0)]), route(vec![])]);
    assert!(none.routes().iter().all(|route| route.backend(7).is_none()));
    let invalid = self::table(vec![route(vec![backend("", 1)])]);
    assert!(invalid.routes()[0].backend(7).unwrap().destination.is_none());
}

#[test]
fn what_does_not_compile_is_refused() {
    let refused = |config| Table::new(&v1::Routes { routes: vec![route("bad", vec![config])] }).is_err();
    assert!(refused(v1::RouteMatch { path: Some(path(Path::Regex("(".into()))), ..Default::default() }));
    assert!(refused(v1::RouteMatch { path: Some(path(Path::Exact("x".into()))), ..Default::default() }));
    assert!(refused(v1::RouteMatch { method: "G T".into(), ..Default::default() }));
    let header = v1::HeaderMatch { name: "a b".into(), value: None };
    assert!(refused(v1::RouteMatch { headers: vec![header], ..Default::default() }));
}

/// The same, segment by segment and without anything compiled.
fn naive(
    config: &v1::RouteMatch,
    method: &str,
    path: &str,
    headers: &[(String, String)],
    query: &str,
) -> bool {
    fn segments(text: &str) -> Vec<&str> {
        text.split('/').filter(|s| !s.is_empty()).collect()
    }
    let path_fits = match config.path.as_ref().and_then(|p| p.path.as_ref()) {
        Some(Path::Exact(exact)) => path == exact,
        Some(Path::Prefix(prefix)) => segments(path).starts_with(&segments(prefix)),
        _ => true,
    };
    let header_fits = |wanted: &v1::HeaderMatch| match &wanted.value {
        Some(Value::Exact(v)) => headers.iter().any(|(n, value)| *n == wanted.name && value == v),
        _ => headers.iter().any(|(n, _)| *n == wanted.name),
    };
    let query_fits = |wanted: &v1::QueryMatch| {
        let first = query.split('&').filter_map(|p| p.split_once('=')).find(|(n, _)| *n == wanted.name);
        first.is_some_and(|(_, v)| wanted.value == Some(Query::Exact(v.to_owned())))
    };
    path_fits
        && (config.method.is_empty() || config.method == method)
        && config.headers.iter().all(header_fits)
        && config.query.iter().all(query_fits)
}

fn route_match() -> impl Strategy<Value = v1::RouteMatch> {
    let path = prop_oneof![
        Just(None),
        "(/[ab]{1,2}){1,3}".prop_map(|text| Some(path(Path::Exact(text)))),
        "(/[ab]{1,2}){0,2}/?"
            .prop_filter("begins with /", |t| t.starts_with('/'))
            .prop_map(|t| Some(path(Path::Prefix(t)))),
    ];
    let header = ("[xy]", prop::option::of("[01]"))
        .prop_map(|(name, value)| v1::HeaderMatch { name, value: value.map(Value::Exact) });
    let query =
        ("[pq]", "[01]").prop_map(|(name, value)| v1::QueryMatch { name, value: Some(Query::Exact(value)) });
    let lists = (prop::collection::vec(header, 0..2), prop::collection::vec(query, 0..2));
    (path, "|GET|POST", lists).prop_map(|(path, method, (headers, query))| v1::RouteMatch {
        path,
        method,
        headers,
        query,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1024))]

    #[test]
    fn matching_equals_the_naive_reading(
        configs in prop::collection::vec(prop::collection::vec(route_match(), 1..3), 1..4),
        method in "GET|POST",
        target in "(/[ab]{1,2}){1,3}",
        headers in prop::collection::vec(("[xy]", "[01]"), 0..3),
        query in prop::collection::vec("[pq]=[01]", 0..3).prop_map(|pairs| pairs.join("&")),
    ) {
        let first = configs.iter().position(|any| any.iter().any(|m| naive(m, &method, &target, &headers, &query)));
        let table = table(configs.into_iter().enumerate().map(|(n, any)| route(&n.to_string(), any)).collect());
        let pairs: Vec<_> = headers.iter().map(|(name, value)| (&**name, &**value)).collect();
        let mut cx = fixture::request(&method, "shop.example", &target);
        let selected = table.select(&mut cx, Some(&query), &fixture::headers(&pairs));
        prop_assert_eq!(selected.map(|s| s.route.name.to_string()), first.map(|n| n.to_string()));
    }
}
