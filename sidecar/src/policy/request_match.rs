//! Which requests a rule is about: methods, paths, hosts, ports. Shared by authorization, token exemptions and rate
//! limits, so that the same words mean the same everywhere. Compiled once; matching compares and allocates nothing.

use http::Method;
use weft_api::v1;

use super::ConfigError;
use super::path::NormalPath;
use super::pattern::{HostPattern, TextPattern};
use crate::cx::{ConnCx, RequestCx};

/// All given parts must match; within a part any of its values.
#[derive(Clone, Debug, Default)]
pub struct RequestMatch {
    methods: Box<[Method]>,
    paths: Box<[TextPattern]>,
    hosts: Box<[HostPattern]>,
    ports: Box<[u16]>,
}

impl RequestMatch {
    /// Compiles the wire form.
    pub fn new(config: &v1::RequestMatch) -> Result<Self, ConfigError> {
        Ok(Self {
            methods: config.methods.iter().map(|m| method(m)).collect::<Result<_, _>>()?,
            paths: config.paths.iter().map(|p| path(p)).collect::<Result<_, _>>()?,
            hosts: config.hosts.iter().map(|h| HostPattern::new(h)).collect(),
            ports: config.ports.iter().map(|p| port(*p)).collect::<Result<_, _>>()?,
        })
    }

    /// Compiles a list.
    pub fn all(config: &[v1::RequestMatch]) -> Result<Box<[Self]>, ConfigError> {
        config.iter().map(Self::new).collect()
    }

    /// Whether the request is meant.
    pub fn matches(&self, cx: &RequestCx) -> bool {
        (self.methods.is_empty() || self.methods.contains(&cx.method))
            && (self.paths.is_empty() || self.paths.iter().any(|p| p.matches(cx.path.as_str())))
            && (self.hosts.is_empty() || self.hosts.iter().any(|h| h.matches(&cx.host)))
            && self.matches_port(&cx.conn)
    }

    /// Whether the connection's port is meant; the other parts are not looked at.
    pub fn matches_port(&self, conn: &ConnCx) -> bool {
        self.ports.is_empty() || self.ports.contains(&conn.port)
    }

    /// Whether a request is needed to decide: a raw connection has neither method, path nor host.
    pub fn needs_request(&self) -> bool {
        !(self.methods.is_empty() && self.paths.is_empty() && self.hosts.is_empty())
    }

    /// Whether the decision depends on the path.
    pub fn needs_path(&self) -> bool {
        !self.paths.is_empty()
    }
}

/// Whether the list is empty (all requests) or any of it matches.
pub(crate) fn any_or_all(list: &[RequestMatch], cx: &RequestCx) -> bool {
    list.is_empty() || list.iter().any(|m| m.matches(cx))
}

fn method(text: &str) -> Result<Method, ConfigError> {
    Method::from_bytes(text.as_bytes())
        .map_err(|_| ConfigError::invalid("methods", text, "write an HTTP method, `GET`"))
}

fn port(number: u32) -> Result<u16, ConfigError> {
    u16::try_from(number).map_err(|_| ConfigError::invalid("ports", number.to_string(), "write 1 to 65535"))
}

/// Requests are compared by their normalised path, so a pattern is normalised too, or it could never match.
fn path(text: &str) -> Result<TextPattern, ConfigError> {
    let refuse = || {
        ConfigError::invalid(
            "paths",
            text,
            "write a normalised path that begins with `/`; `*` only at the end",
        )
    };
    if text == "*" {
        return Ok(TextPattern::new(text));
    }
    let (raw, prefix) = match text.strip_suffix('*') {
        Some(raw) => (raw, true),
        None => (text, false),
    };
    // A prefix that ends in dots would resolve to a shorter one and match more than it says.
    if raw.is_empty() || (prefix && raw.ends_with('.') && raw.trim_end_matches('.').ends_with('/')) {
        return Err(refuse());
    }
    let normal = NormalPath::parse(raw).map_err(|_| refuse())?;
    Ok(if prefix {
        TextPattern::Prefix(normal.as_str().into())
    } else {
        TextPattern::Exact(normal.as_str().into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::fixture;

    fn compile(
        methods: &[&str],
        paths: &[&str],
        hosts: &[&str],
        ports: &[u32],
    ) -> Result<RequestMatch, ConfigError> {
        let own = |list: &[&str]| list.iter().map(ToString::to_string).collect();
        RequestMatch::new(&v1::RequestMatch {
            methods: own(methods),
            paths: own(paths),
            hosts: own(hosts),
            ports: ports.to_vec(),
        })
    }

    #[test]
    fn all_parts_must_match_and_any_value_of_a_part() {
        let cx = fixture::request("POST", "shop.example", "/orders/1");
        let check =
            |m: &[&str], p: &[&str], h: &[&str], ports: &[u32]| compile(m, p, h, ports).unwrap().matches(&cx);
        assert!(check(&[], &[], &[], &[]));
        assert!(check(&["GET", "POST"], &["/orders*"], &["*.example"], &[80]));
        assert!(!check(&["GET"], &["/orders*"], &[], &[]));
        assert!(!check(&[], &["/orders"], &[], &[]));
        assert!(!check(&[], &[], &["other.example"], &[]));
        assert!(!check(&[], &[], &[], &[81]));
        assert!(check(&[], &["*"], &[], &[]));
        assert!(check(&[], &["/x/../orders/1"], &[], &[]));
    }

    #[test]
    fn what_could_never_match_is_refused() {
        for path in ["orders", "/a%zz", "", "/a/.*", "/a/..*", "orders*"] {
            assert!(compile(&[], &[path], &[], &[]).is_err(), "{path}");
        }
        assert!(compile(&["GE T"], &[], &[], &[]).is_err());
        assert!(compile(&[], &[], &[], &[70_000]).is_err());
    }
}
