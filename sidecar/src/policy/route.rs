//! Routes: which rule of a table a request falls under, and which backend it goes to. Stands first on the outbound path
//! and at a gateway; the first match wins, since the operator has sorted the table by the Gateway API's precedence.
//! Everything is compiled; a match compares and allocates nothing.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method};
use weft_api::v1;

use super::ConfigError;
use super::filters::Filters;
use super::pattern::{HeaderPattern, HostPattern, ValuePattern, WholeRegex};
use crate::cx::RequestCx;

/// The routes of a gateway listener or of one destination, in order.
#[derive(Debug, Default)]
pub struct Table {
    routes: Box<[Arc<Route>]>,
}

/// One rule: which requests, what is done to them, where they go.
#[derive(Debug)]
pub struct Route {
    /// `<namespace>/<HTTPRoute>/<rule index>`.
    pub name: Arc<str>,
    /// What is done to the request before and the answer after.
    pub filters: Filters,
    /// For the whole request, retries included; none: the destination's own.
    pub timeout: Option<Duration>,
    /// For one attempt.
    pub backend_timeout: Option<Duration>,
    hosts: Box<[HostPattern]>,
    matches: Box<[Match]>,
    backends: Box<[Backend]>,
    /// Sum of the backends' weights.
    weight: u64,
}

/// Where a share of a route's requests goes.
#[derive(Debug)]
pub struct Backend {
    /// Destination name; none: an invalid reference, answered with `Reason::InvalidRoute`.
    pub destination: Option<Arc<str>>,
    /// What is done for this backend only, after the route's own filters.
    pub filters: Filters,
    weight: u32,
}

/// A route and how the request's path matched it.
#[derive(Clone, Debug)]
pub struct Selected {
    /// The route.
    pub route: Arc<Route>,
    /// Bytes of the path that the matching prefix covers; what a filter that replaces the prefix takes away.
    pub prefix: usize,
}

#[derive(Debug)]
struct Match {
    path: Option<PathMatch>,
    method: Option<Method>,
    headers: Box<[HeaderPattern]>,
    query: Box<[QueryPattern]>,
}

/// Name and value of a query parameter.
type QueryPattern = (Box<str>, ValuePattern);

#[derive(Debug)]
enum PathMatch {
    Exact(Box<str>),
    /// Without a slash at the end; empty for `/`.
    Prefix(Box<str>),
    Regex(WholeRegex),
}

impl Table {
    /// Compiles the wire form.
    pub fn new(config: &v1::Routes) -> Result<Self, ConfigError> {
        let route = |route| Route::new(route).map(Arc::new);
        Ok(Self { routes: config.routes.iter().map(route).collect::<Result<_, _>>()? })
    }

    /// All routes, in order.
    pub fn routes(&self) -> &[Arc<Route>] {
        &self.routes
    }

    /// The first route for this host, whatever else it asks for: for connections that nothing else is known of.
    pub fn of_host(&self, host: &str) -> Option<Arc<Route>> {
        self.routes.iter().find(|route| route.is_for(host)).map(Arc::clone)
    }

    /// The first route that matches, noted in `cx`.
    pub fn select(&self, cx: &mut RequestCx, query: Option<&str>, headers: &HeaderMap) -> Option<Selected> {
        let selected = self.routes.iter().find_map(|route| {
            let prefix = route.matches(cx, query, headers)?;
            Some(Selected { route: Arc::clone(route), prefix })
        })?;
        cx.route = Some(Arc::clone(&selected.route.name));
        Some(selected)
    }
}

impl Route {
    fn new(config: &v1::Route) -> Result<Self, ConfigError> {
        let millis = |ms: u64| (ms > 0).then(|| Duration::from_millis(ms));
        let backends: Box<[_]> = config.backends.iter().map(Backend::new).collect::<Result<_, _>>()?;
        Ok(Self {
            name: config.name.as_str().into(),
            filters: Filters::new(&config.filters)?,
            timeout: millis(config.timeout_ms),
            backend_timeout: millis(config.backend_timeout_ms),
            hosts: config.hosts.iter().map(|host| HostPattern::new(host)).collect(),
            matches: config.matches.iter().map(Match::new).collect::<Result<_, _>>()?,
            weight: backends.iter().map(|b| u64::from(b.weight)).sum(),
            backends,
        })
    }

    /// The backends, with and without weight.
    pub fn backends(&self) -> &[Backend] {
        &self.backends
    }

    /// The backend for this random number, by weight; none if there is none or all have weight 0.
    pub fn backend(&self, random: u32) -> Option<&Backend> {
        let mut at = (u64::from(random) * self.weight) >> 32;
        self.backends.iter().find(|backend| {
            let weight = u64::from(backend.weight);
            let found = at < weight;
            at = at.saturating_sub(weight);
            found
        })
    }

    fn is_for(&self, host: &str) -> bool {
        self.hosts.is_empty() || self.hosts.iter().any(|pattern| pattern.matches(host))
    }

    /// Bytes of the path that the matching prefix covers; none if the route does not match.
    fn matches(&self, cx: &RequestCx, query: Option<&str>, headers: &HeaderMap) -> Option<usize> {
        if !self.is_for(&cx.host) {
            return None;
        }
        if self.matches.is_empty() {
            return Some(0);
        }
        self.matches.iter().find_map(|m| m.matches(cx, query, headers))
    }
}

impl Match {
    fn new(config: &v1::RouteMatch) -> Result<Self, ConfigError> {
        let method = match config.method.as_str() {
            "" => None,
            text => Some(Method::from_bytes(text.as_bytes()).map_err(|_| {
                ConfigError::invalid("matches[].method", text, "write an HTTP method, `GET`")
            })?),
        };
        Ok(Self {
            path: config.path.as_ref().map(PathMatch::new).transpose()?.flatten(),
            method,
            headers: config.headers.iter().map(HeaderPattern::new).collect::<Result<_, _>>()?,
            query: config.query.iter().map(query_pattern).collect::<Result<_, _>>()?,
        })
    }

    fn matches(&self, cx: &RequestCx, query: Option<&str>, headers: &HeaderMap) -> Option<usize> {
        let prefix = match &self.path {
            Some(path) => path.matches(cx.path.as_str())?,
            None => 0,
        };
        let rest = self.method.as_ref().is_none_or(|method| *method == cx.method)
            && self.headers.iter().all(|header| header.matches(headers))
            && self.query.iter().all(|(name, value)| query_matches(query, name, value));
        rest.then_some(prefix)
    }
}

impl PathMatch {
    fn new(config: &v1::PathMatch) -> Result<Option<Self>, ConfigError> {
        use v1::path_match::Path;
        Ok(match &config.path {
            Some(Path::Exact(text)) => Some(Self::Exact(normal("matches[].path.exact", text)?)),
            Some(Path::Prefix(text)) => {
                let text = normal("matches[].path.prefix", text)?;
                Some(Self::Prefix(text.strip_suffix('/').unwrap_or(&text).into()))
            }
            Some(Path::Regex(text)) => Some(Self::Regex(WholeRegex::new("matches[].path.regex", text)?)),
            None => None,
        })
    }

    fn matches(&self, path: &str) -> Option<usize> {
        match self {
            Self::Exact(exact) => (**exact == *path).then_some(path.len()),
            Self::Prefix(prefix) => {
                let rest = path.strip_prefix(&**prefix)?;
                (rest.is_empty() || rest.starts_with('/')).then_some(prefix.len())
            }
            Self::Regex(regex) => regex.matches(path.as_bytes()).then_some(0),
        }
    }
}

impl Backend {
    fn new(config: &v1::Backend) -> Result<Self, ConfigError> {
        Ok(Self {
            destination: (!config.destination.is_empty()).then(|| config.destination.as_str().into()),
            filters: Filters::new(&config.filters)?,
            weight: config.weight,
        })
    }
}

/// Requests are compared by their normalised path, so what they are compared with is normalised too.
fn normal(field: &'static str, text: &str) -> Result<Box<str>, ConfigError> {
    super::path::NormalPath::parse(text)
        .map(|path| path.as_str().into())
        .map_err(|_| ConfigError::invalid(field, text, "write a path that begins with `/`"))
}

fn query_pattern(config: &v1::QueryMatch) -> Result<QueryPattern, ConfigError> {
    use v1::query_match::Value;
    let value = match &config.value {
        Some(Value::Exact(exact)) => ValuePattern::Exact(exact.as_bytes().into()),
        Some(Value::Regex(regex)) => ValuePattern::Regex(WholeRegex::new("matches[].query.regex", regex)?),
        None => ValuePattern::Present,
    };
    Ok((config.name.as_str().into(), value))
}

/// The first parameter of that name decides, as the Gateway API recommends.
fn query_matches(query: Option<&str>, name: &str, value: &ValuePattern) -> bool {
    let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
    let mut named = pairs.filter_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (*decode(key) == *name.as_bytes()).then_some(value)
    });
    named.next().is_some_and(|given| value.matches(&decode(given)))
}

/// Decodes `+` and escapes of a query; a broken escape stays as it is. Allocates only where there is something to decode.
fn decode(text: &str) -> Cow<'_, [u8]> {
    let bytes = text.as_bytes();
    if !bytes.iter().any(|b| matches!(b, b'%' | b'+')) {
        return Cow::Borrowed(bytes);
    }
    let digit = |at: usize| {
        bytes.get(at).and_then(|b| char::from(*b).to_digit(16)).and_then(|d| u8::try_from(d).ok())
    };
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        at += 1;
        match (byte, digit(at), digit(at + 1)) {
            (b'+', ..) => out.push(b' '),
            (b'%', Some(high), Some(low)) => {
                out.push(high << 4 | low);
                at += 2;
            }
            _ => out.push(byte),
        }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests;
