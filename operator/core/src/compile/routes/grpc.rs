//! Rules of a `GRPCRoute`, as matches of the paths that gRPC calls have.
//!
//! A rule takes only gRPC calls, told by their content type, since an `HTTPRoute` may share the listener.

use weft_api::v1;
use weft_api::v1::filter::Filter;
use weft_crds::gateway_meta::{ValueMatchType, WeightedBackend};
use weft_crds::grpc_route::{
    GrpcFilterType, GrpcMethodMatch, GrpcRouteFilter, GrpcRouteMatch, GrpcRouteRule,
};

use super::filters;
use super::rank::{MatchRank, PathKind, PathRank};
use super::rule::{Said, beside};
use crate::world::{RouteView, World};

/// Content types of gRPC (`application/grpc`, `application/grpc+proto`, parameters after `;`).
const GRPC_CONTENT: &str = "application/grpc(?:[+;].*)?";

impl Said for GrpcRouteRule {
    type Match = GrpcRouteMatch;
    type Filter = GrpcRouteFilter;

    fn matches(&self) -> &[GrpcRouteMatch] {
        &self.matches
    }

    fn filters(&self) -> &[GrpcRouteFilter] {
        &self.filters
    }

    fn backends(&self) -> &[WeightedBackend<GrpcRouteFilter>] {
        &self.backend_refs
    }

    fn compile_match(matched: &GrpcRouteMatch) -> Result<(MatchRank, v1::RouteMatch), String> {
        call(matched)
    }

    fn compile_filter(
        world: &World,
        route: RouteView<'_>,
        filter: &GrpcRouteFilter,
    ) -> Result<Option<Filter>, String> {
        Ok(match &filter.type_ {
            GrpcFilterType::RequestHeaderModifier => {
                let modifier = beside("requestHeaderModifier", filter.request_header_modifier.as_ref())?;
                Some(Filter::RequestHeaders(filters::edit(modifier)))
            }
            GrpcFilterType::ResponseHeaderModifier => {
                let modifier = beside("responseHeaderModifier", filter.response_header_modifier.as_ref())?;
                Some(Filter::ResponseHeaders(filters::edit(modifier)))
            }
            GrpcFilterType::RequestMirror => {
                let mirror = beside("requestMirror", filter.request_mirror.as_ref())?;
                filters::mirror(world, route, mirror).map(Filter::Mirror)
            }
            GrpcFilterType::Other(other) => return Err(format!("filter type `{other}` is not known")),
        })
    }
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
