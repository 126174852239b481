//! Filters that HTTPRoute and GRPCRoute share, and value matches.

use weft_api::v1;
use weft_crds::gateway_meta::{HeaderModifier, HeaderValue, RequestMirror, ValueMatch, ValueMatchType};

use super::backend;
use crate::world::{RouteView, World};

/// Longest regular expression that is taken, and the memory that a compiled one may use.
const MAX_PATTERN: usize = 1024;
const MAX_COMPILED: usize = 1 << 20;

/// What a text that is no usable regular expression is refused with.
pub fn regex_problem(pattern: &str) -> Option<String> {
    if pattern.len() > MAX_PATTERN {
        return Some(format!("regular expression is longer than {MAX_PATTERN} bytes"));
    }
    let built = regex::RegexBuilder::new(&format!("^(?:{pattern})$")).size_limit(MAX_COMPILED).build();
    built
        .err()
        .map(|_| format!("`{pattern}` is not a regular expression of the syntax of Rust's regex crate"))
}

/// A header that must match.
pub(super) fn header(matched: &ValueMatch) -> Result<v1::HeaderMatch, String> {
    use v1::header_match::Value;
    let value = value(matched, Value::Exact, Value::Regex)?;
    Ok(v1::HeaderMatch { name: matched.name.to_ascii_lowercase(), value: Some(value) })
}

/// A query parameter that must match.
pub(super) fn query(matched: &ValueMatch) -> Result<v1::QueryMatch, String> {
    use v1::query_match::Value;
    let value = value(matched, Value::Exact, Value::Regex)?;
    Ok(v1::QueryMatch { name: matched.name.clone(), value: Some(value) })
}

fn value<V>(
    matched: &ValueMatch,
    exact: impl Fn(String) -> V,
    regex: impl Fn(String) -> V,
) -> Result<V, String> {
    match &matched.type_ {
        ValueMatchType::Exact => Ok(exact(matched.value.clone())),
        ValueMatchType::RegularExpression => match regex_problem(&matched.value) {
            None => Ok(regex(matched.value.clone())),
            Some(problem) => Err(problem),
        },
        ValueMatchType::Other(other) => Err(format!("match type `{other}` is not known")),
    }
}

/// A change of headers.
pub(super) fn edit(modifier: &HeaderModifier) -> v1::HeaderEdit {
    let value = |header: &HeaderValue| v1::HeaderValue {
        name: header.name.to_ascii_lowercase(),
        value: header.value.clone(),
    };
    v1::HeaderEdit {
        set: modifier.set.iter().map(value).collect(),
        add: modifier.add.iter().map(value).collect(),
        remove: modifier.remove.iter().map(|name| name.to_ascii_lowercase()).collect(),
    }
}

/// A mirror; its weight is the share of requests in percent. None where nothing is mirrored.
pub(super) fn mirror(world: &World, route: RouteView<'_>, mirror: &RequestMirror) -> Option<v1::Backend> {
    let (percent, per_million) = share(mirror);
    let copied = || backend(world, route, &mirror.backend_ref, percent);
    (percent > 0).then(|| v1::Backend { per_million, ..copied() })
}

/// The share of requests that is copied, in percent, and where that is rounded up, in millionths; at least one of them.
fn share(mirror: &RequestMirror) -> (u32, u32) {
    if let Some(percent) = mirror.percent {
        return (percent.into(), 0);
    }
    let Some(fraction) = &mirror.fraction else { return (100, 0) };
    let denominator = u64::from(fraction.denominator.unwrap_or(100).max(1));
    let numerator = u64::from(fraction.numerator).min(denominator);
    let of = |whole: u64| u32::try_from((numerator * whole).div_ceil(denominator)).unwrap_or(u32::MAX);
    let is_whole = (numerator * 100).is_multiple_of(denominator);
    (of(100), if is_whole { 0 } else { of(1_000_000) })
}

/// A filter of the wire.
pub(super) fn filter(filter: v1::filter::Filter) -> v1::Filter {
    v1::Filter { filter: Some(filter) }
}

#[cfg(test)]
mod tests {
    use weft_crds::gateway_meta::Fraction;

    use super::*;

    #[test]
    fn a_mirrors_share_is_told_as_exactly_as_it_is_said() {
        let of = |percent, fraction: Option<(u32, Option<u32>)>| {
            let fraction = fraction.map(|(numerator, denominator)| Fraction { numerator, denominator });
            share(&RequestMirror { percent, fraction, ..RequestMirror::default() })
        };
        assert_eq!(of(None, None), (100, 0));
        assert_eq!(of(Some(7), None), (7, 0));
        assert_eq!(of(None, Some((5, None))), (5, 0));
        assert_eq!(of(None, Some((1, Some(1_000)))), (1, 1_000));
        assert_eq!(of(None, Some((1, Some(u32::MAX)))), (1, 1));
        assert_eq!(of(None, Some((0, Some(3)))), (0, 0));
        assert_eq!(of(None, Some((7, Some(3)))), (100, 0));
        assert_eq!(of(None, Some((u32::MAX, Some(0)))), (100, 0));
    }

    #[test]
    fn regular_expressions_are_bounded() {
        assert_eq!(regex_problem("/v[0-9]+/.*"), None);
        assert!(regex_problem("(").is_some());
        assert!(regex_problem("(?=lookahead)").is_some());
        assert!(regex_problem(&"a".repeat(2000)).is_some());
        assert!(regex_problem("((a{1000}){1000}){1000}").is_some());
    }
}
