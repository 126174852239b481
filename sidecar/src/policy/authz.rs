//! Authorization: whether this peer with these claims may send this request. Stands on the inbound path after the token
//! is verified. A matching deny rule wins over every allow rule; what no rule names falls to the default. In audit mode
//! nothing is refused, what would be is said.

use std::sync::Arc;

use http::HeaderMap;
use serde_json::Value;
use weft_api::spiffe::SpiffeId;
use weft_api::v1;

use super::ConfigError;
use super::jwt::Claims;
use super::pattern::{HeaderPattern, TextPattern};
use super::request_match::{RequestMatch, any_or_all};
use crate::cx::{ConnCx, RequestCx};
use crate::reject::{Reason, Reject};

/// The rules of one workload.
#[derive(Debug)]
pub struct Policy {
    rules: Box<[Rule]>,
    default_allow: bool,
    audit: bool,
    /// Whether any rule looks at the path.
    by_path: bool,
}

/// What the rules say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// It may pass, by this rule or by default.
    Allowed {
        /// Name of the rule.
        rule: Option<Arc<str>>,
    },
    /// It may not.
    Denied(Reject),
    /// It may pass because the policy only audits; log and count this.
    WouldDeny(Reject),
}

#[derive(Debug)]
struct Rule {
    name: Arc<str>,
    deny: bool,
    from: Box<[Peer]>,
    to: Box<[RequestMatch]>,
    claims: Box<[ClaimMatch]>,
    headers: Box<[HeaderPattern]>,
}

#[derive(Debug)]
enum Peer {
    Identity(TextPattern),
    Namespace(Box<str>),
}

#[derive(Debug)]
struct ClaimMatch {
    claim: Box<str>,
    values: Box<[Box<str>]>,
}

impl Policy {
    /// Compiles the wire form.
    pub fn new(config: &v1::Authorization) -> Result<Self, ConfigError> {
        let rules: Box<[Rule]> = config.rules.iter().map(Rule::new).collect::<Result<_, _>>()?;
        let by_path = rules.iter().flat_map(|rule| &rule.to).any(RequestMatch::needs_path);
        Ok(Self { rules, default_allow: config.default_allow, audit: config.audit, by_path })
    }

    /// Decides about a request; an allowing rule is noted in `cx`.
    pub fn check(&self, cx: &mut RequestCx, headers: &HeaderMap) -> Decision {
        if self.by_path && cx.path.is_ambiguous() {
            let why =
                "the path holds an encoded slash or backslash, and rules of this workload decide by path";
            return self.refuse(Reject::new(Reason::BadRequest).because(why));
        }
        let decision = self.decide(|rule| rule.matches(cx, headers));
        if let Decision::Allowed { rule } = &decision {
            cx.rule.clone_from(rule);
        }
        decision
    }

    /// Decides about a raw connection. An allow rule that asks for anything of a request never allows it; a deny rule
    /// denies it by peer and port alone, since what else it asks for cannot be seen.
    pub fn check_connection(&self, conn: &ConnCx) -> Decision {
        self.decide(|rule| rule.matches_connection(conn))
    }

    fn decide(&self, matches: impl Fn(&Rule) -> bool) -> Decision {
        let find = |deny: bool| self.rules.iter().find(|rule| rule.deny == deny && matches(rule));
        if let Some(rule) = find(true) {
            return self.refuse(Reject::new(Reason::Forbidden).by(&*rule.name));
        }
        match find(false) {
            Some(rule) => Decision::Allowed { rule: Some(Arc::clone(&rule.name)) },
            None if self.default_allow => Decision::Allowed { rule: None },
            None => self.refuse(Reject::new(Reason::Forbidden).by("default").because("no rule allows it")),
        }
    }

    fn refuse(&self, reject: Reject) -> Decision {
        if self.audit { Decision::WouldDeny(reject) } else { Decision::Denied(reject) }
    }
}

impl Rule {
    fn new(config: &v1::Rule) -> Result<Self, ConfigError> {
        let claim = |c: &v1::ClaimMatch| ClaimMatch {
            claim: c.claim.as_str().into(),
            values: c.values.iter().map(|v| v.as_str().into()).collect(),
        };
        Ok(Self {
            name: config.name.as_str().into(),
            deny: config.deny,
            from: config.from.iter().map(Peer::new).collect::<Result<_, _>>()?,
            to: RequestMatch::all(&config.to)?,
            claims: config.claims.iter().map(claim).collect(),
            headers: config.headers.iter().map(HeaderPattern::new).collect::<Result<_, _>>()?,
        })
    }

    fn matches(&self, cx: &RequestCx, headers: &HeaderMap) -> bool {
        self.matches_peer(cx.conn.identity.as_deref())
            && any_or_all(&self.to, cx)
            && self.claims.iter().all(|claim| claim.matches(cx.claims.as_deref()))
            && self.headers.iter().all(|header| header.matches(headers))
    }

    fn matches_connection(&self, conn: &ConnCx) -> bool {
        let needs_more = !self.claims.is_empty() || !self.headers.is_empty();
        let to = |m: &RequestMatch| (self.deny || !m.needs_request()) && m.matches_port(conn);
        self.matches_peer(conn.identity.as_deref())
            && (self.deny || !needs_more)
            && (self.to.is_empty() || self.to.iter().any(to))
    }

    fn matches_peer(&self, identity: Option<&SpiffeId>) -> bool {
        self.from.is_empty() || identity.is_some_and(|id| self.from.iter().any(|peer| peer.matches(id)))
    }
}

impl Peer {
    fn new(config: &v1::PeerMatch) -> Result<Self, ConfigError> {
        use v1::peer_match::Peer as Wire;
        match &config.peer {
            Some(Wire::Identity(id)) if id == "*" || id.starts_with("spiffe://") => {
                Ok(Self::Identity(TextPattern::new(id)))
            }
            Some(Wire::Namespace(namespace)) if !namespace.is_empty() => {
                Ok(Self::Namespace(namespace.as_str().into()))
            }
            other => Err(ConfigError::invalid(
                "authorization.rules[].from",
                format!("{other:?}"),
                "write a SPIFFE id (`spiffe://…`, may end in `*`) or a namespace",
            )),
        }
    }

    fn matches(&self, id: &SpiffeId) -> bool {
        match self {
            Self::Identity(pattern) => pattern.matches(id.as_str()),
            Self::Namespace(namespace) => **namespace == *id.namespace(),
        }
    }
}

impl ClaimMatch {
    fn matches(&self, claims: Option<&Claims>) -> bool {
        let Some(value) = claims.and_then(|claims| claims.get(&self.claim)) else { return false };
        match value {
            Value::Null => false,
            _ if self.has("*") => true,
            Value::Array(list) => list.iter().any(|item| self.matches_scalar(item)),
            // OAuth 2.0 writes scopes as one text of words (RFC 8693, section 4.2).
            Value::String(text) if *self.claim == *"scope" => text.split(' ').any(|word| self.has(word)),
            scalar => self.matches_scalar(scalar),
        }
    }

    fn matches_scalar(&self, value: &Value) -> bool {
        match value {
            Value::String(text) => self.has(text),
            Value::Bool(true) => self.has("true"),
            Value::Bool(false) => self.has("false"),
            Value::Number(number) => self.has(&number.to_string()),
            Value::Null | Value::Array(_) | Value::Object(_) => false,
        }
    }

    fn has(&self, text: &str) -> bool {
        self.values.iter().any(|value| **value == *text)
    }
}

#[cfg(test)]
mod tests;
