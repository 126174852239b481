//! Rules of a `GRPCRoute`, as matches of the paths that gRPC calls have.
//!
//! A rule takes only gRPC calls, told by their content type, since an `HTTPRoute` may share the listener.

use weft_api::v1;
use weft_api::v1::filter::Filter;
use weft_crds::gateway_meta::ValueMatchType;
use weft_crds::grpc_route::{
    GrpcBackendRef, GrpcFilterType, GrpcMethodMatch, GrpcRouteFilter, GrpcRouteMatch, GrpcRouteRule,
};

use super::filters;
use super::rank::{MatchRank, PathKind, PathRank};
use super::{Rule, Unsupported, backend};
use crate::world::{RouteView, World};

/// Content types of gRPC (`application/grpc`, `application/grpc+proto`, parameters after `;`).
const GRPC_CONTENT: &str = "application/grpc(?:[+;].*)?";

/// One rule, compiled but for hosts and order.
pub(super) fn rule(world: &World, route: RouteView<'_>, rule: &GrpcRouteRule) -> Rule {
    let mut compiled = Rule::default();
    let everything = [GrpcRouteMatch::default()];
    let matches = if rule.matches.is_empty() { everything.as_slice() } else { rule.matches.as_slice() };
    for (at, matched) in matches.iter().enumerate() {
        match call(matched) {
            Ok(matched) => compiled.matches.push(matched),
            Err(message) => {
                compiled.unsupported.push(Unsupported { field: format!("matches[{at}]"), message });
            }
        }
    }
    let mut unsupported = Vec::new();
    let filters = all_filters(world, route, &rule.filters, &mut unsupported);
    let serving = rule.backend_refs.iter().filter(|backend| backend.weight > 0);
    let backends = serving.map(|reference| weighted(world, route, reference, &mut unsupported)).collect();
    if unsupported.is_empty() {
        compiled.action.filters = filters;
        compiled.action.backends = backends;
    }
    compiled.unsupported.append(&mut unsupported);
    compiled
}

fn call(matched: &GrpcRouteMatch) -> Result<(MatchRank, v1::RouteMatch), String> {
    let everything = ((PathKind::Prefix, 1), None);
    let (rank, path) = matched.method.as_ref().map(method).transpose()?.unwrap_or(everything);
    let mut headers = matched.headers.iter().map(filters::header).collect::<Result<Vec<_>, _>>()?;
    let content = v1::header_match::Value::Regex(GRPC_CONTENT.to_owned());
    headers.push(v1::HeaderMatch { name: "content-type".to_owned(), value: Some(content) });
    // The content type counts: a rule for all calls goes before one for all requests.
    let rank = MatchRank::new(rank, false, headers.len(), 0);
    Ok((rank, v1::RouteMatch { path, headers, ..v1::RouteMatch::default() }))
}

/// A method as a path, and how specific it is: the longer its names, the more.
fn method(matched: &GrpcMethodMatch) -> Result<(PathRank, Option<v1::PathMatch>), String> {
    use v1::path_match::Path;
    let named = |name: &Option<String>| name.clone().filter(|name| !name.is_empty());
    let (service, method) = (named(&matched.service), named(&matched.method));
    let length = service.as_ref().map_or(0, String::len) + method.as_ref().map_or(0, String::len);
    let (kind, path) = match (&matched.type_, service, method) {
        (_, None, None) => return Err("names neither service nor method".to_owned()),
        (ValueMatchType::Exact, Some(service), Some(method)) => {
            (PathKind::Exact, Path::Exact(format!("/{service}/{method}")))
        }
        (ValueMatchType::Exact, Some(service), None) => {
            (PathKind::Prefix, Path::Prefix(format!("/{service}")))
        }
        (ValueMatchType::Exact, None, Some(method)) => {
            (PathKind::Regex, Path::Regex(format!("/[^/]+/{}", regex::escape(&method))))
        }
        (ValueMatchType::RegularExpression, service, method) => {
            let part = |pattern: Option<String>| pattern.unwrap_or_else(|| "[^/]+".to_owned());
            let (service, method) = (part(service), part(method));
            if let Some(problem) =
                [&service, &method].into_iter().find_map(|part| filters::regex_problem(part))
            {
                return Err(problem);
            }
            let pattern = format!("/(?:{service})/(?:{method})");
            (PathKind::Regex, Path::Regex(pattern))
        }
        (ValueMatchType::Other(other), ..) => {
            return Err(format!("method match type `{other}` is not known"));
        }
    };
    Ok(((kind, length), Some(v1::PathMatch { path: Some(path) })))
}

fn weighted(
    world: &World,
    route: RouteView<'_>,
    reference: &GrpcBackendRef,
    unsupported: &mut Vec<Unsupported>,
) -> v1::Backend {
    let mut compiled = backend(world, route, &reference.reference, reference.weight);
    compiled.filters = all_filters(world, route, &reference.filters, unsupported);
    compiled
}

fn all_filters(
    world: &World,
    route: RouteView<'_>,
    said: &[GrpcRouteFilter],
    unsupported: &mut Vec<Unsupported>,
) -> Vec<v1::Filter> {
    let mut compiled = Vec::new();
    for (at, filter) in said.iter().enumerate() {
        match one_filter(world, route, filter) {
            Ok(filter) => compiled.extend(filter.map(filters::filter)),
            Err(message) => unsupported.push(Unsupported { field: format!("filters[{at}]"), message }),
        }
    }
    compiled
}

fn one_filter(
    world: &World,
    route: RouteView<'_>,
    filter: &GrpcRouteFilter,
) -> Result<Option<Filter>, String> {
    let missing = |field: &str| format!("`{field}` is missing beside the type");
    Ok(match &filter.type_ {
        GrpcFilterType::RequestHeaderModifier => {
            let modifier = filter.request_header_modifier.as_ref();
            let modifier = modifier.ok_or_else(|| missing("requestHeaderModifier"))?;
            Some(Filter::RequestHeaders(filters::edit(modifier)))
        }
        GrpcFilterType::ResponseHeaderModifier => {
            let modifier = filter.response_header_modifier.as_ref();
            let modifier = modifier.ok_or_else(|| missing("responseHeaderModifier"))?;
            Some(Filter::ResponseHeaders(filters::edit(modifier)))
        }
        GrpcFilterType::RequestMirror => {
            let mirror = filter.request_mirror.as_ref().ok_or_else(|| missing("requestMirror"))?;
            filters::mirror(world, route, mirror).map(Filter::Mirror)
        }
        GrpcFilterType::Other(other) => return Err(format!("filter type `{other}` is not known")),
    })
}
