//! Rules that edit headers and targets. First line: path; second: replacement of its prefix; third: the prefix; fourth:
//! host. Lines after that are header edits, `+name:value`, `=name:value` and `-name`. What is accepted never writes
//! anything that is no path or header.

use weft_api::v1::{self, filter::Filter, path_edit::Edit};
use weft_sidecar::policy::filters::{Filters, Target};
use weft_sidecar::policy::path::NormalPath;

use super::input::{headers, request};

/// The target.
pub fn run(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let mut lines = text.split('\n');
    let mut next = || lines.next().unwrap_or_default();
    let (path, replacement, prefix, host) = (next(), next(), next(), next());
    let Ok(path) = NormalPath::parse(path) else { return };
    let rewrite = v1::Rewrite {
        path: Some(v1::PathEdit { edit: Some(Edit::ReplacePrefix(replacement.to_owned())) }),
        host: host.to_owned(),
    };
    let redirect =
        v1::Redirect { host: host.to_owned(), status: 302, path: rewrite.path.clone(), ..Default::default() };
    let edit = edits(lines);
    let all = [
        Filter::RequestHeaders(edit.clone()),
        Filter::ResponseHeaders(edit),
        Filter::Rewrite(rewrite),
        Filter::Redirect(redirect),
    ];
    let config: Vec<v1::Filter> = all.into_iter().map(|filter| v1::Filter { filter: Some(filter) }).collect();
    let Ok(filters) = Filters::new(&config) else { return };
    let prefix = if path.as_str().starts_with(prefix) { prefix.len() } else { 0 };
    let target = Target { port: 80, query: Some("a=1"), prefix };
    if let Some(path) = filters.rewrite_path(path.as_str(), &target) {
        assert!(path.as_str().starts_with('/') || path.as_str() == "*", "{path} is no path");
    }
    if let Some(answer) = filters.redirect(&request("shop", path), &target) {
        assert!(!answer.location.is_empty() && answer.status.is_redirection());
    }
    let mut map = headers(b"x-a: 1\nx-b: 2\ncontent-length: 3\n");
    filters.edit_request(&mut map);
    filters.edit_response(&mut map);
    assert_eq!(map.get("content-length").map(http::HeaderValue::as_bytes), Some(&b"3"[..]));
}

fn edits<'a>(lines: impl Iterator<Item = &'a str>) -> v1::HeaderEdit {
    let mut edit = v1::HeaderEdit::default();
    for line in lines.take(32) {
        let named = |rest: &str| {
            let (name, value) = rest.split_once(':').unwrap_or((rest, ""));
            v1::HeaderValue { name: name.to_owned(), value: value.to_owned() }
        };
        match line.split_at_checked(1) {
            Some(("+", rest)) => edit.add.push(named(rest)),
            Some(("=", rest)) => edit.set.push(named(rest)),
            Some(("-", rest)) => edit.remove.push(rest.to_owned()),
            _ => {}
        }
    }
    edit
}
