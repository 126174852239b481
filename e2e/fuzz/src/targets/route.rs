//! A request against a route table with every kind of match. First line: host; second: target; then headers.

use std::sync::LazyLock;

use super::input::{headers, request};
use weft_api::v1::{self, header_match, path_match, query_match};
use weft_sidecar::policy::path::NormalPath;
use weft_sidecar::policy::route::Table;

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    use path_match::Path;
    let path = |path| v1::RouteMatch { path: Some(v1::PathMatch { path: Some(path) }), ..Default::default() };
    let header =
        v1::HeaderMatch { name: "x-a".into(), value: Some(header_match::Value::Regex("[0-9]+".into())) };
    let query = v1::QueryMatch { name: "q".into(), value: Some(query_match::Value::Regex("a.*".into())) };
    let route = |name: &str, hosts: &[&str], matches| v1::Route {
        name: name.into(),
        hosts: hosts.iter().map(|host| (*host).to_owned()).collect(),
        matches,
        ..Default::default()
    };
    let routes = vec![
        route("exact", &[], vec![path(Path::Exact("/exact".into()))]),
        route("prefix", &["*.example.org"], vec![path(Path::Prefix("/api".into()))]),
        route("regex", &[], vec![path(Path::Regex("/v[0-9]+/.*".into()))]),
        route("header", &[], vec![v1::RouteMatch { headers: vec![header], ..Default::default() }]),
        route("query", &["shop"], vec![v1::RouteMatch { query: vec![query], ..Default::default() }]),
    ];
    Table::new(&v1::Routes { routes }).expect("a good table")
});

/// The target.
pub fn run(data: &[u8]) {
    let mut lines = data.splitn(3, |byte| *byte == b'\n');
    let (host, target) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let (Ok(host), Ok(target)) = (std::str::from_utf8(host), std::str::from_utf8(target)) else { return };
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let Ok(path) = NormalPath::parse(path) else { return };
    let mut cx = request(host, path);
    if let Some(selected) = TABLE.select(&mut cx, query, &headers(lines.next().unwrap_or_default())) {
        assert!(cx.path.as_str().get(..selected.prefix).is_some(), "the prefix ends inside the path");
    }
}
