//! Rules of an `HTTPRoute`.
//!
//! A match that cannot be understood is left out, so it takes nothing; a filter that cannot be done makes the rule
//! answer 500, as the Gateway API asks: skipping it would send on requests that it was to change or stop.

use weft_api::v1;
use weft_api::v1::filter::Filter;
use weft_crds::http_route::{
    Cors, HttpBackendRef, HttpFilterType, HttpRouteFilter, HttpRouteMatch, HttpRouteRule, PathMatch,
    PathMatchType, PathModifier, PathModifierType, RequestRedirect, UrlRewrite,
};

use super::filters;
use super::rank::{MatchRank, PathKind, PathRank};
use super::{Rule, Unsupported, backend};
use crate::compile::inbound::millis;
use crate::world::{RouteView, World};

/// Seconds that a preflight holds where the route does not say (Gateway API, `HTTPCORSFilter`).
const CORS_MAX_AGE: u32 = 5;

/// One rule, compiled but for hosts and order.
pub(super) fn rule(world: &World, route: RouteView<'_>, rule: &HttpRouteRule) -> Rule {
    let mut compiled = Rule::default();
    let everything = [HttpRouteMatch { path: Some(PathMatch::default()), ..HttpRouteMatch::default() }];
    let matches = if rule.matches.is_empty() { everything.as_slice() } else { rule.matches.as_slice() };
    for (at, matched) in matches.iter().enumerate() {
        match request(matched) {
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
    let redirects = |filter: &v1::Filter| matches!(filter.filter, Some(Filter::Redirect(_)));
    if unsupported.is_empty() {
        // A redirect answers by itself.
        compiled.action.backends = if filters.iter().any(redirects) { Vec::new() } else { backends };
        compiled.action.filters = filters;
    }
    compiled.unsupported.append(&mut unsupported);
    if let Some(timeouts) = &rule.timeouts {
        compiled.action.timeout_ms = timeouts.request.map(millis).unwrap_or_default();
        compiled.action.backend_timeout_ms = timeouts.backend_request.map(millis).unwrap_or_default();
    }
    compiled
}

fn request(matched: &HttpRouteMatch) -> Result<(MatchRank, v1::RouteMatch), String> {
    let default = PathMatch::default();
    let (path_rank, path) = path(matched.path.as_ref().unwrap_or(&default))?;
    let headers = matched.headers.iter().map(filters::header).collect::<Result<Vec<_>, _>>()?;
    let query = matched.query_params.iter().map(filters::query).collect::<Result<Vec<_>, _>>()?;
    let rank = MatchRank::new(path_rank, matched.method.is_some(), headers.len(), query.len());
    let method = matched.method.clone().unwrap_or_default();
    Ok((rank, v1::RouteMatch { path: Some(path), method, headers, query }))
}

fn path(path: &PathMatch) -> Result<(PathRank, v1::PathMatch), String> {
    use v1::path_match::Path;
    let value = path.value.clone();
    let (kind, length, path) = match &path.type_ {
        PathMatchType::Exact => (PathKind::Exact, value.len(), Path::Exact(value)),
        PathMatchType::PathPrefix => {
            // A slash at the end means the same prefix.
            let trimmed = value.trim_end_matches('/');
            let prefix = if trimmed.is_empty() { "/" } else { trimmed }.to_owned();
            (PathKind::Prefix, prefix.len(), Path::Prefix(prefix))
        }
        PathMatchType::RegularExpression => match filters::regex_problem(&value) {
            None => (PathKind::Regex, value.len(), Path::Regex(value)),
            Some(problem) => return Err(problem),
        },
        PathMatchType::Other(other) => return Err(format!("path match type `{other}` is not known")),
    };
    Ok(((kind, length), v1::PathMatch { path: Some(path) }))
}

fn weighted(
    world: &World,
    route: RouteView<'_>,
    reference: &HttpBackendRef,
    unsupported: &mut Vec<Unsupported>,
) -> v1::Backend {
    let mut compiled = backend(world, route, &reference.reference, reference.weight);
    compiled.filters = all_filters(world, route, &reference.filters, unsupported);
    compiled
}

fn all_filters(
    world: &World,
    route: RouteView<'_>,
    said: &[HttpRouteFilter],
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
    filter: &HttpRouteFilter,
) -> Result<Option<Filter>, String> {
    let missing = |field: &str| format!("`{field}` is missing beside the type");
    Ok(match &filter.type_ {
        HttpFilterType::RequestHeaderModifier => {
            let modifier = filter.request_header_modifier.as_ref();
            let modifier = modifier.ok_or_else(|| missing("requestHeaderModifier"))?;
            Some(Filter::RequestHeaders(filters::edit(modifier)))
        }
        HttpFilterType::ResponseHeaderModifier => {
            let modifier = filter.response_header_modifier.as_ref();
            let modifier = modifier.ok_or_else(|| missing("responseHeaderModifier"))?;
            Some(Filter::ResponseHeaders(filters::edit(modifier)))
        }
        HttpFilterType::RequestRedirect => Some(Filter::Redirect(redirect(
            filter.request_redirect.as_ref().ok_or_else(|| missing("requestRedirect"))?,
        )?)),
        HttpFilterType::UrlRewrite => {
            Some(Filter::Rewrite(rewrite(filter.url_rewrite.as_ref().ok_or_else(|| missing("urlRewrite"))?)?))
        }
        HttpFilterType::RequestMirror => {
            let mirror = filter.request_mirror.as_ref().ok_or_else(|| missing("requestMirror"))?;
            filters::mirror(world, route, mirror).map(Filter::Mirror)
        }
        HttpFilterType::Cors => {
            Some(Filter::Cors(cors(filter.cors.as_ref().ok_or_else(|| missing("cors"))?)))
        }
        HttpFilterType::Other(other) => return Err(format!("filter type `{other}` is not known")),
    })
}

fn cors(cors: &Cors) -> v1::Cors {
    v1::Cors {
        allow_origins: cors.allow_origins.clone(),
        allow_credentials: cors.allow_credentials.unwrap_or_default(),
        allow_methods: cors.allow_methods.clone(),
        allow_headers: cors.allow_headers.clone(),
        expose_headers: cors.expose_headers.clone(),
        max_age: cors.max_age.unwrap_or(CORS_MAX_AGE),
    }
}

fn redirect(redirect: &RequestRedirect) -> Result<v1::Redirect, String> {
    Ok(v1::Redirect {
        scheme: redirect.scheme.clone().unwrap_or_default(),
        host: redirect.hostname.clone().unwrap_or_default(),
        path: redirect.path.as_ref().map(path_edit).transpose()?,
        port: redirect.port.unwrap_or_default().into(),
        status: redirect.status_code.unwrap_or(302).into(),
    })
}

fn rewrite(rewrite: &UrlRewrite) -> Result<v1::Rewrite, String> {
    Ok(v1::Rewrite {
        host: rewrite.hostname.clone().unwrap_or_default(),
        path: rewrite.path.as_ref().map(path_edit).transpose()?,
    })
}

fn path_edit(modifier: &PathModifier) -> Result<v1::PathEdit, String> {
    use v1::path_edit::Edit;
    let edit = match &modifier.type_ {
        PathModifierType::ReplaceFullPath => {
            Edit::ReplaceFull(modifier.replace_full_path.clone().unwrap_or_default())
        }
        PathModifierType::ReplacePrefixMatch => {
            Edit::ReplacePrefix(modifier.replace_prefix_match.clone().unwrap_or_default())
        }
        PathModifierType::Other(other) => return Err(format!("path modifier type `{other}` is not known")),
    };
    Ok(v1::PathEdit { edit: Some(edit) })
}
