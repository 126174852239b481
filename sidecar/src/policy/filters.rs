//! What a route does to its requests and answers: headers set, added and removed, a redirect instead of a call, another
//! path or host for the backend, a copy to a mirror, what other origins may do (`cors.rs`). Follows the Gateway API's HTTPRoute filters.

use std::sync::Arc;

use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use weft_api::v1;

use super::ConfigError;
use super::cors::Cors;
use super::pattern::header_name;
use crate::cx::RequestCx;

/// The filters of one route or backend.
#[derive(Clone, Debug, Default)]
pub struct Filters {
    request: Box<[HeaderEdit]>,
    response: Box<[HeaderEdit]>,
    redirect: Option<Redirect>,
    rewrite: Option<Rewrite>,
    mirrors: Box<[Mirror]>,
    cors: Option<Cors>,
}

#[derive(Clone, Debug)]
struct HeaderEdit {
    set: Box<[(HeaderName, HeaderValue)]>,
    add: Box<[(HeaderName, HeaderValue)]>,
    remove: Box<[HeaderName]>,
}

#[derive(Clone, Debug)]
struct Redirect {
    scheme: Option<Scheme>,
    host: Option<Box<str>>,
    path: Option<PathEdit>,
    port: Option<u16>,
    status: StatusCode,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scheme {
    Http,
    Https,
}

#[derive(Clone, Debug)]
struct Rewrite {
    host: Option<Box<str>>,
    path: Option<PathEdit>,
}

#[derive(Clone, Debug)]
enum PathEdit {
    Full(Box<str>),
    Prefix(Box<str>),
}

/// A destination that gets a copy of requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mirror {
    /// Where the copies go.
    pub destination: Arc<str>,
    per_million: u32,
}

impl Mirror {
    /// Whether it gets a copy of this request, for which `random` was drawn.
    pub fn takes(&self, random: u32) -> bool {
        random % 1_000_000 < self.per_million
    }
}

/// The answer a redirect filter gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Redirection {
    /// 301, 302, 303, 307 or 308.
    pub status: StatusCode,
    /// Where to.
    pub location: HeaderValue,
}

/// The request a redirect answers: what the location is built from.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// Port of the listener the request came in on.
    pub port: u16,
    /// Query as received.
    pub query: Option<&'a str>,
    /// As in [`super::route::Selected`].
    pub prefix: usize,
}

impl Filters {
    /// Compiles the wire form.
    pub fn new(config: &[v1::Filter]) -> Result<Self, ConfigError> {
        use v1::filter::Filter;
        let (mut request, mut response, mut mirrors) = (Vec::new(), Vec::new(), Vec::new());
        let (mut redirect, mut rewrite, mut cors) = (None, None, None);
        for filter in config.iter().filter_map(|f| f.filter.as_ref()) {
            match filter {
                Filter::RequestHeaders(edit) => request.push(HeaderEdit::new(edit)?),
                Filter::ResponseHeaders(edit) => response.push(HeaderEdit::new(edit)?),
                Filter::Redirect(config) => redirect = Some(Redirect::new(config)?),
                Filter::Rewrite(config) => rewrite = Some(Rewrite::new(config)?),
                Filter::Cors(config) => cors = Some(Cors::new(config)?),
                Filter::Mirror(backend) if backend.destination.is_empty() => {}
                Filter::Mirror(backend) => {
                    let destination = backend.destination.as_str().into();
                    let per_million = match backend.per_million {
                        0 => backend.weight.saturating_mul(10_000),
                        said => said,
                    };
                    mirrors.push(Mirror { destination, per_million });
                }
            }
        }
        Ok(Self {
            request: request.into(),
            response: response.into(),
            redirect,
            rewrite,
            mirrors: mirrors.into(),
            cors,
        })
    }

    /// Edits the headers of a request.
    pub fn edit_request(&self, headers: &mut HeaderMap) {
        self.request.iter().for_each(|edit| edit.apply(headers));
    }

    /// Edits the headers of an answer.
    pub fn edit_response(&self, headers: &mut HeaderMap) {
        self.response.iter().for_each(|edit| edit.apply(headers));
    }

    /// The redirect to answer with, where there is one.
    pub fn redirect(&self, cx: &RequestCx, target: &Target<'_>) -> Option<Redirection> {
        self.redirect.as_ref().and_then(|redirect| redirect.answer(cx, target))
    }

    /// The path and query to send to the backend, where the filters change it.
    pub fn rewrite_path(&self, path: &str, target: &Target<'_>) -> Option<PathAndQuery> {
        let edit = self.rewrite.as_ref()?.path.as_ref()?;
        let mut text = edit.apply(path, target.prefix);
        push_query(&mut text, target.query);
        PathAndQuery::try_from(text).ok()
    }

    /// The host to send to the backend, where the filters change it.
    pub fn rewrite_host(&self) -> Option<&str> {
        self.rewrite.as_ref()?.host.as_deref()
    }

    /// What other origins may do, where that is said.
    pub fn cors(&self) -> Option<&Cors> {
        self.cors.as_ref()
    }

    /// Destinations that get a copy of requests, whose answers nobody waits for.
    pub fn mirrors(&self) -> &[Mirror] {
        &self.mirrors
    }
}

impl HeaderEdit {
    fn new(config: &v1::HeaderEdit) -> Result<Self, ConfigError> {
        let pairs = |list: &[v1::HeaderValue]| list.iter().map(pair).collect::<Result<_, _>>();
        Ok(Self {
            set: pairs(&config.set)?,
            add: pairs(&config.add)?,
            remove: config.remove.iter().map(|name| editable(name)).collect::<Result<_, _>>()?,
        })
    }

    fn apply(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.set {
            headers.insert(name, value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name, value.clone());
        }
        for name in &self.remove {
            headers.remove(name);
        }
    }
}

fn pair(config: &v1::HeaderValue) -> Result<(HeaderName, HeaderValue), ConfigError> {
    let value = HeaderValue::from_str(&config.value).map_err(|_| {
        ConfigError::invalid(
            "filters[].headers.value",
            &*config.value,
            "write a value without control characters",
        )
    })?;
    Ok((editable(&config.name)?, value))
}

/// A header that a filter may touch: not one that frames the message, which the codec alone decides about.
fn editable(name: &str) -> Result<HeaderName, ConfigError> {
    use http::header::{CONNECTION, CONTENT_LENGTH, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
    let field = "filters[].headers.name";
    let parsed = header_name(field, name)?;
    if [CONNECTION, CONTENT_LENGTH, TE, TRAILER, TRANSFER_ENCODING, UPGRADE].contains(&parsed) {
        return Err(ConfigError::invalid(field, name, "leave headers that frame the message to the proxy"));
    }
    Ok(parsed)
}

impl Redirect {
    fn new(config: &v1::Redirect) -> Result<Self, ConfigError> {
        let scheme = match config.scheme.as_str() {
            "" => None,
            "http" => Some(Scheme::Http),
            "https" => Some(Scheme::Https),
            other => {
                return Err(ConfigError::invalid(
                    "filters[].redirect.scheme",
                    other,
                    "write `http` or `https`",
                ));
            }
        };
        Ok(Self {
            scheme,
            host: host("filters[].redirect.host", &config.host)?,
            path: config.path.as_ref().map(PathEdit::new).transpose()?.flatten(),
            port: redirect_port(config.port)?,
            status: redirect_status(config.status)?,
        })
    }

    fn answer(&self, cx: &RequestCx, target: &Target<'_>) -> Option<Redirection> {
        let own = if cx.conn.tls { Scheme::Https } else { Scheme::Http };
        let scheme = self.scheme.unwrap_or(own);
        // Without a port: a new scheme means its usual port, else the port stays (Gateway API, HTTPRequestRedirect).
        let port = self.port.unwrap_or(if self.scheme.is_some() { scheme.port() } else { target.port });
        let path = match &self.path {
            Some(edit) => edit.apply(cx.path.as_str(), target.prefix),
            None => cx.path.as_str().to_owned(),
        };
        let host = self.host.as_deref().unwrap_or(&cx.host);
        let mut location = format!("{}://{host}", scheme.name());
        if port != scheme.port() {
            location.push(':');
            location.push_str(&port.to_string());
        }
        location.push_str(&path);
        push_query(&mut location, target.query);
        Some(Redirection { status: self.status, location: HeaderValue::try_from(location).ok()? })
    }
}

fn redirect_port(port: u32) -> Result<Option<u16>, ConfigError> {
    let refuse = || ConfigError::invalid("filters[].redirect.port", port.to_string(), "write 1 to 65535");
    if port == 0 { Ok(None) } else { u16::try_from(port).map(Some).map_err(|_| refuse()) }
}

fn redirect_status(status: u32) -> Result<StatusCode, ConfigError> {
    match status {
        301 => Ok(StatusCode::MOVED_PERMANENTLY),
        0 | 302 => Ok(StatusCode::FOUND),
        303 => Ok(StatusCode::SEE_OTHER),
        307 => Ok(StatusCode::TEMPORARY_REDIRECT),
        308 => Ok(StatusCode::PERMANENT_REDIRECT),
        other => {
            let remedy = "write 301, 302, 303, 307 or 308";
            Err(ConfigError::invalid("filters[].redirect.status", other.to_string(), remedy))
        }
    }
}

impl Scheme {
    const fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    const fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

impl Rewrite {
    fn new(config: &v1::Rewrite) -> Result<Self, ConfigError> {
        Ok(Self {
            host: host("filters[].rewrite.host", &config.host)?,
            path: config.path.as_ref().map(PathEdit::new).transpose()?.flatten(),
        })
    }
}

impl PathEdit {
    fn new(config: &v1::PathEdit) -> Result<Option<Self>, ConfigError> {
        use v1::path_edit::Edit;
        let checked = |text: &str| match PathAndQuery::try_from(text) {
            Ok(path) if path.query().is_none() && text.starts_with('/') => Ok(text.into()),
            _ => Err(ConfigError::invalid(
                "filters[].path",
                text,
                "write a path that begins with `/`, without query",
            )),
        };
        Ok(match &config.edit {
            Some(Edit::ReplaceFull(text)) => Some(Self::Full(checked(text)?)),
            // Nothing in place of the prefix is allowed and means `/`.
            Some(Edit::ReplacePrefix(text)) if text.is_empty() => Some(Self::Prefix("".into())),
            Some(Edit::ReplacePrefix(text)) => {
                let text: Box<str> = checked(text)?;
                Some(Self::Prefix(text.strip_suffix('/').unwrap_or(&text).into()))
            }
            None => None,
        })
    }

    fn apply(&self, path: &str, prefix: usize) -> String {
        match self {
            Self::Full(full) => full.to_string(),
            Self::Prefix(new) => {
                let rest = path.get(prefix..).unwrap_or_default();
                let slash =
                    if rest.starts_with('/') || (rest.is_empty() && !new.is_empty()) { "" } else { "/" };
                [new, slash, rest].concat()
            }
        }
    }
}

fn push_query(text: &mut String, query: Option<&str>) {
    if let Some(query) = query {
        text.push('?');
        text.push_str(query);
    }
}

fn host(field: &'static str, text: &str) -> Result<Option<Box<str>>, ConfigError> {
    let allowed = |b: u8| b.is_ascii_alphanumeric() || b"-._[]:".contains(&b);
    if !text.bytes().all(allowed) {
        return Err(ConfigError::invalid(field, text, "write a host name, `shop.example`"));
    }
    Ok((!text.is_empty()).then(|| text.into()))
}

#[cfg(test)]
mod tests;
