//! Rules of an `HTTPRoute`.

use weft_api::v1;
use weft_api::v1::filter::Filter;
use weft_crds::gateway_meta::WeightedBackend;
use weft_crds::http_route::{
    Cors, HttpFilterType, HttpRouteFilter, HttpRouteMatch, HttpRouteRule, PathMatch, PathMatchType,
    PathModifier, PathModifierType, RequestRedirect, UrlRewrite,
};

use super::Rule;
use super::filters;
use super::rank::{MatchRank, PathKind, PathRank};
use super::rule::{self, Said, beside};
use crate::compile::inbound::millis;
use crate::world::{RouteView, World};

/// Seconds that a preflight holds where the route does not say (Gateway API, `HTTPCORSFilter`).
const CORS_MAX_AGE: u32 = 5;

/// One rule, compiled but for hosts and order.
pub(super) fn rule(world: &World, route: RouteView<'_>, said: &HttpRouteRule) -> Rule {
    let mut rule = rule::compile(world, route, said);
    let action = &mut rule.action;
    if action.filters.iter().any(|filter| matches!(filter.filter, Some(Filter::Redirect(_)))) {
        // A redirect answers by itself.
        action.backends.clear();
    }
    if let Some(timeouts) = &said.timeouts {
        action.timeout_ms = timeouts.request.map(millis).unwrap_or_default();
        action.backend_timeout_ms = timeouts.backend_request.map(millis).unwrap_or_default();
    }
    rule
}

impl Said for HttpRouteRule {
    type Match = HttpRouteMatch;
    type Filter = HttpRouteFilter;

    fn matches(&self) -> &[HttpRouteMatch] {
        &self.matches
    }

    fn filters(&self) -> &[HttpRouteFilter] {
        &self.filters
    }

    fn backends(&self) -> &[WeightedBackend<HttpRouteFilter>] {
        &self.backend_refs
    }

    fn compile_match(matched: &HttpRouteMatch) -> Result<(MatchRank, v1::RouteMatch), String> {
        request(matched)
    }

    fn compile_filter(
        world: &World,
        route: RouteView<'_>,
        filter: &HttpRouteFilter,
    ) -> Result<Option<Filter>, String> {
        Ok(match &filter.type_ {
            HttpFilterType::RequestHeaderModifier => {
                let modifier = beside("requestHeaderModifier", filter.request_header_modifier.as_ref())?;
                Some(Filter::RequestHeaders(filters::edit(modifier)))
            }
            HttpFilterType::ResponseHeaderModifier => {
                let modifier = beside("responseHeaderModifier", filter.response_header_modifier.as_ref())?;
                Some(Filter::ResponseHeaders(filters::edit(modifier)))
            }
            HttpFilterType::RequestRedirect => {
                let said = beside("requestRedirect", filter.request_redirect.as_ref())?;
                Some(Filter::Redirect(redirect(said)?))
            }
            HttpFilterType::UrlRewrite => {
                Some(Filter::Rewrite(rewrite(beside("urlRewrite", filter.url_rewrite.as_ref())?)?))
            }
            HttpFilterType::RequestMirror => {
                let mirror = beside("requestMirror", filter.request_mirror.as_ref())?;
                filters::mirror(world, route, mirror).map(Filter::Mirror)
            }
            HttpFilterType::Cors => Some(Filter::Cors(cors(beside("cors", filter.cors.as_ref())?))),
            HttpFilterType::Other(other) => return Err(format!("filter type `{other}` is not known")),
        })
    }
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
