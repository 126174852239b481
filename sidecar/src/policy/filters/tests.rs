//! Each filter, the Gateway API's table of prefixes, and what is refused.

use v1::filter::Filter;
use v1::path_edit::Edit;

use super::*;
use crate::policy::fixture;

fn filters(list: Vec<Filter>) -> Result<Filters, ConfigError> {
    Filters::new(&list.into_iter().map(|filter| v1::Filter { filter: Some(filter) }).collect::<Vec<_>>())
}

fn value(name: &str, value: &str) -> v1::HeaderValue {
    v1::HeaderValue { name: name.into(), value: value.into() }
}

fn edit(edit: Edit) -> v1::PathEdit {
    v1::PathEdit { edit: Some(edit) }
}

#[test]
fn headers_are_set_added_and_removed() {
    let edit = v1::HeaderEdit {
        set: vec![value("x-set", "new")],
        add: vec![value("x-add", "second")],
        remove: vec!["X-Remove".into()],
    };
    let filters = filters(vec![Filter::RequestHeaders(edit)]).unwrap();
    let mut headers = fixture::headers(&[("x-set", "old"), ("x-add", "first"), ("x-remove", "gone")]);
    filters.edit_request(&mut headers);
    assert_eq!(headers, fixture::headers(&[("x-set", "new"), ("x-add", "first"), ("x-add", "second")]));
    let before = headers.clone();
    filters.edit_response(&mut headers);
    assert_eq!(headers, before);
}

#[test]
fn headers_that_frame_the_message_are_out_of_reach() {
    for name in ["Content-Length", "transfer-encoding", "connection", "bad name"] {
        let edit = v1::HeaderEdit { set: vec![value(name, "1")], ..Default::default() };
        assert!(filters(vec![Filter::RequestHeaders(edit)]).is_err(), "{name}");
    }
    let edit = v1::HeaderEdit { set: vec![value("x-a", "a\r\nx-b: c")], ..Default::default() };
    assert!(filters(vec![Filter::ResponseHeaders(edit)]).is_err());
}

fn location(redirect: v1::Redirect, port: u16, prefix: usize) -> String {
    let filters = filters(vec![Filter::Redirect(redirect)]).unwrap();
    let cx = fixture::request("GET", "shop.example", "/old/item");
    let mut conn = (*cx.conn).clone();
    conn.tls = false;
    let cx = RequestCx { conn: Arc::new(conn), ..cx };
    let answer = filters.redirect(&cx, &Target { port, query: Some("a=1"), prefix }).unwrap();
    format!("{} {}", answer.status.as_u16(), answer.location.to_str().unwrap())
}

#[test]
fn a_redirect_changes_what_it_names_and_keeps_the_rest() {
    let check = |redirect, expect: &str| assert_eq!(location(redirect, 8080, "/old".len()), expect);
    let redirect = v1::Redirect::default;
    check(redirect(), "302 http://shop.example:8080/old/item?a=1");
    check(
        v1::Redirect { scheme: "https".into(), status: 301, ..redirect() },
        "301 https://shop.example/old/item?a=1",
    );
    check(
        v1::Redirect { host: "new.example".into(), port: 80, ..redirect() },
        "302 http://new.example/old/item?a=1",
    );
    let path = Some(edit(Edit::ReplacePrefix("/new/".into())));
    check(v1::Redirect { path, status: 308, ..redirect() }, "308 http://shop.example:8080/new/item?a=1");
    let path = Some(edit(Edit::ReplaceFull("/all".into())));
    check(v1::Redirect { path, ..redirect() }, "302 http://shop.example:8080/all?a=1");
}

#[test]
fn replacing_the_prefix_keeps_exactly_one_slash() {
    let check = |new: &str, path: &str, prefix: &str, expect: &str| {
        let rewrite = v1::Rewrite { host: String::new(), path: Some(edit(Edit::ReplacePrefix(new.into()))) };
        let filters = filters(vec![Filter::Rewrite(rewrite)]).unwrap();
        let target = Target { port: 80, query: None, prefix: prefix.len() };
        assert_eq!(
            filters.rewrite_path(path, &target).unwrap().as_str(),
            expect,
            "{new} for {prefix} in {path}"
        );
    };
    // The table of the Gateway API's documentation.
    check("/xyz", "/foo/bar", "/foo", "/xyz/bar");
    check("/xyz/", "/foo/bar", "/foo", "/xyz/bar");
    check("/xyz", "/foo", "/foo", "/xyz");
    check("/xyz", "/foo/", "/foo", "/xyz/");
    check("", "/foo/bar", "/foo", "/bar");
    check("", "/foo/", "/foo", "/");
    check("", "/foo", "/foo", "/");
    check("/", "/foo/", "/foo", "/");
    check("/", "/foo", "/foo", "/");
    check("/api", "/bar", "", "/api/bar");
}

#[test]
fn a_rewrite_changes_host_and_keeps_the_query() {
    let rewrite =
        v1::Rewrite { host: "inside.example".into(), path: Some(edit(Edit::ReplaceFull("/x".into()))) };
    let filters = filters(vec![Filter::Rewrite(rewrite)]).unwrap();
    assert_eq!(filters.rewrite_host(), Some("inside.example"));
    let target = Target { port: 80, query: Some("q=1"), prefix: 0 };
    assert_eq!(filters.rewrite_path("/y", &target).unwrap().as_str(), "/x?q=1");
    assert!(Filters::default().rewrite_path("/y", &target).is_none());
}

#[test]
fn what_would_break_the_answer_is_refused() {
    let redirect = |r: v1::Redirect| filters(vec![Filter::Redirect(r)]);
    assert!(redirect(v1::Redirect { host: "a\r\nb".into(), ..Default::default() }).is_err());
    assert!(redirect(v1::Redirect { scheme: "javascript".into(), ..Default::default() }).is_err());
    assert!(redirect(v1::Redirect { status: 200, ..Default::default() }).is_err());
    assert!(redirect(v1::Redirect { port: 70_000, ..Default::default() }).is_err());
    assert!(
        redirect(v1::Redirect { path: Some(edit(Edit::ReplaceFull("x".into()))), ..Default::default() })
            .is_err()
    );
}

#[test]
fn mirrors_take_their_share() {
    let mirror = |weight, per_million| {
        let destination = "shop/shadow:http".into();
        let backend = v1::Backend { destination, weight, per_million, ..Default::default() };
        let filters = filters(vec![Filter::Mirror(backend), Filter::Mirror(v1::Backend::default())]).unwrap();
        let [mirror] = filters.mirrors() else { panic!("{:?}", filters.mirrors()) };
        assert_eq!(&*mirror.destination, "shop/shadow:http");
        mirror.clone()
    };
    let taken = |mirror: Mirror| (0..3_000_000).filter(|random| mirror.takes(*random)).count();
    assert_eq!(taken(mirror(5, 0)), 150_000);
    assert_eq!(taken(mirror(1, 1_000)), 3_000);
    assert!(!mirror(0, 0).takes(0) && mirror(100, 0).takes(999_999) && mirror(u32::MAX, 0).takes(u32::MAX));
}
