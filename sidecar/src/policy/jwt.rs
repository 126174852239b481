//! JSON Web Tokens: who the user is. Stands on the inbound path before authorization, and at a gateway already.
//!
//! Headers that carry claims are removed from what comes in, always and first. Then the token is found, its issuer's
//! keys check its signature, and only then its times and audience are looked at. Claims go into `cx` and, where the
//! policy says so, into headers; the token is taken out of the request unless it is to be forwarded. Verified tokens are
//! remembered until they expire. Keys come with the configuration: nothing is fetched here.

mod cache;
mod claims;
mod keys;
mod source;
mod token;

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use weft_api::v1;

use self::cache::Cache;
pub use self::claims::Claims;
pub use self::keys::KeySet;
use self::source::Source;
use self::token::Token;
use super::ConfigError;
use super::pattern::header_name;
use super::request_match::RequestMatch;
use crate::cx::RequestCx;
use crate::reject::{Reason, Reject};

/// Finds a key set by its name.
pub type FindKeys<'a> = dyn Fn(&str) -> Option<Arc<KeySet>> + 'a;

/// A claim and the header it goes into.
type ClaimHeader = (Box<str>, HeaderName);

/// Longest token that is looked at.
const MAX_TOKEN: usize = 16 * 1024;

/// Who issues the tokens of one workload and what they must say.
#[derive(Debug)]
pub struct Policy {
    providers: Box<[Provider]>,
    /// Every place a token may come from; providers name them by index.
    sources: Box<[Source]>,
    /// Headers that only this policy may set.
    claim_headers: Box<[HeaderName]>,
    required: bool,
    exempt: Box<[RequestMatch]>,
    keep_token: bool,
    cache: Cache,
}

#[derive(Debug)]
struct Provider {
    issuer: Box<str>,
    audiences: Box<[Box<str>]>,
    keys: Option<Arc<KeySet>>,
    sources: Box<[usize]>,
    claim_headers: Box<[ClaimHeader]>,
    forward_token: bool,
    /// Seconds.
    leeway: i64,
}

/// A token that was checked, with what it brings.
#[derive(Debug)]
struct Verified {
    provider: usize,
    claims: Arc<Claims>,
    headers: Box<[(HeaderName, HeaderValue)]>,
    /// First second at which it is no longer good, leeway included.
    expires: i64,
    /// First second at which it is good, leeway included.
    begins: i64,
}

impl Policy {
    /// Compiles the wire form. `keys` finds a key set by name; without one, tokens of that provider cannot be checked
    /// yet and the configuration is good all the same.
    pub fn new(config: &v1::Authentication, keys: &FindKeys<'_>) -> Result<Self, ConfigError> {
        let mut sources = Vec::new();
        let providers: Box<[Provider]> = config
            .providers
            .iter()
            .map(|p| Provider::new(p, keys, &mut sources))
            .collect::<Result<_, _>>()?;
        let mut claim_headers: Vec<HeaderName> =
            providers.iter().flat_map(|p| &p.claim_headers).map(|(_, header)| header.clone()).collect();
        claim_headers.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        claim_headers.dedup();
        if let Some(taken) = claim_headers.iter().find(|header| sources.iter().any(|s| s.is_header(header))) {
            let remedy = "name a header that does not carry the token";
            return Err(ConfigError::invalid("authentication.jwt[].claimHeaders", taken.as_str(), remedy));
        }
        Ok(Self {
            providers,
            sources: sources.into(),
            claim_headers: claim_headers.into(),
            required: config.required,
            exempt: RequestMatch::all(&config.exempt)?,
            keep_token: false,
            cache: Cache::new(),
        })
    }

    /// The policy for a gateway: it leaves the token in place, so that the destination's own proxy checks it again.
    #[must_use]
    pub fn at_edge(self) -> Self {
        Self { keep_token: true, ..self }
    }

    /// Checks the request's token at this time (seconds since the Unix epoch). Answers with the query to forward where
    /// the token was taken out of it.
    pub fn verify(
        &self,
        cx: &mut RequestCx,
        headers: &mut HeaderMap,
        query: Option<&str>,
        now: i64,
    ) -> Result<Option<String>, Reject> {
        self.remove_claim_headers(headers);
        let verified = match self.checked(headers, query, now) {
            Ok(Some(verified)) => verified,
            Ok(None) if !self.required || self.is_exempt(cx) => return Ok(None),
            Ok(None) => return Err(Reject::new(Reason::JwtMissing)),
            // The way to a new token must not be closed by an old one.
            Err(_) if self.is_exempt(cx) => return Ok(self.strip(headers, query)),
            Err(reject) => return Err(reject),
        };
        for (name, value) in &verified.headers {
            headers.insert(name, value.clone());
        }
        cx.claims = Some(Arc::clone(&verified.claims));
        let forward = self.providers.get(verified.provider).is_some_and(|p| p.forward_token);
        Ok(if forward { None } else { self.strip(headers, query) })
    }

    /// Removes what only this policy may set; `x_user_id` too, which some applications read as `x-user-id`.
    fn remove_claim_headers(&self, headers: &mut HeaderMap) {
        for name in &self.claim_headers {
            headers.remove(name);
        }
        let alike = |name: &&HeaderName| self.claim_headers.iter().any(|own| reads_as(name, own));
        let alike: Vec<HeaderName> = headers.keys().filter(alike).cloned().collect();
        for name in alike {
            headers.remove(name);
        }
    }

    fn is_exempt(&self, cx: &RequestCx) -> bool {
        !cx.path.is_ambiguous() && self.exempt.iter().any(|m| m.matches(cx))
    }

    fn strip(&self, headers: &mut HeaderMap, query: Option<&str>) -> Option<String> {
        if self.keep_token {
            return None;
        }
        self.sources.iter().for_each(|source| source.strip_headers(headers));
        source::strip_query(&self.sources, query)
    }

    /// The request's token, checked; none if it has none.
    fn checked(
        &self,
        headers: &HeaderMap,
        query: Option<&str>,
        now: i64,
    ) -> Result<Option<Arc<Verified>>, Reject> {
        for (source, place) in self.sources.iter().enumerate() {
            let found = place.find(headers, query).map_err(|why| malformed().because(why))?;
            if let Some(token) = found {
                return self.check(source, token, now).map(Some);
            }
        }
        Ok(None)
    }

    fn check(&self, source: usize, token: &str, now: i64) -> Result<Arc<Verified>, Reject> {
        if token.len() > MAX_TOKEN {
            return Err(malformed().because("the token is longer than 16 KiB"));
        }
        if let Some(known) = self.cache.get(token, now)
            && self.providers.get(known.provider).is_some_and(|p| p.sources.contains(&source))
        {
            return Ok(known);
        }
        let parsed = Token::parse(token).map_err(|why| malformed().because(why))?;
        let issuer = parsed.claims.issuer();
        let fits = |(_, p): &(usize, &Provider)| *p.issuer == *issuer && p.sources.contains(&source);
        let Some((index, provider)) = self.providers.iter().enumerate().find(fits) else {
            return Err(Reject::new(Reason::JwtIssuer));
        };
        let verified = provider.verify(index, parsed, now).map_err(|reject| reject.by(&*provider.issuer))?;
        let verified = Arc::new(verified);
        self.cache.put(token, &verified, now);
        Ok(verified)
    }
}

impl Provider {
    fn new(
        config: &v1::JwtProvider,
        keys: &FindKeys<'_>,
        sources: &mut Vec<Source>,
    ) -> Result<Self, ConfigError> {
        if config.issuer.is_empty() {
            return Err(ConfigError::invalid("authentication.jwt[].issuer", "", "write the tokens' `iss`"));
        }
        let own: Vec<Source> = match &config.from[..] {
            [] => vec![Source::authorization()],
            from => from.iter().map(Source::new).collect::<Result<_, _>>()?,
        };
        let mut index = |source: Source| {
            sources.iter().position(|known| *known == source).unwrap_or_else(|| {
                sources.push(source);
                sources.len() - 1
            })
        };
        let claim_header = |c: &v1::ClaimHeader| Ok((c.claim.as_str().into(), claim_header_name(&c.header)?));
        Ok(Self {
            issuer: config.issuer.as_str().into(),
            audiences: config.audiences.iter().map(|a| a.as_str().into()).collect(),
            keys: keys(&config.keys),
            sources: own.into_iter().map(&mut index).collect(),
            claim_headers: config.claim_headers.iter().map(claim_header).collect::<Result<_, _>>()?,
            forward_token: config.forward_token,
            leeway: i64::try_from(config.leeway_ms.div_ceil(1000)).unwrap_or(i64::MAX),
        })
    }

    /// Signature first: nothing is said about a token that somebody else made.
    fn verify(&self, index: usize, token: Token<'_>, now: i64) -> Result<Verified, Reject> {
        self.keys.as_ref().ok_or_else(|| Reject::new(Reason::JwksUnavailable))?.check(&token)?;
        let expires = token.claims.time("exp").map_err(malformed_because)?;
        let expires = expires.ok_or_else(|| malformed().because("`exp` is missing"))?;
        let begins = token.claims.time("nbf").map_err(malformed_because)?.unwrap_or(i64::MIN);
        let verified = Verified {
            provider: index,
            expires: expires.saturating_add(self.leeway),
            begins: begins.saturating_sub(self.leeway),
            headers: self.headers(&token.claims),
            claims: Arc::new(token.claims),
        };
        verified.check_time(now)?;
        if !self.audiences.is_empty() && !verified.claims.has_audience(&self.audiences) {
            return Err(Reject::new(Reason::JwtAudience));
        }
        Ok(verified)
    }

    fn headers(&self, claims: &Claims) -> Box<[(HeaderName, HeaderValue)]> {
        let header =
            |(claim, name): &(Box<str>, HeaderName)| Some((name.clone(), claims.header_value(claim)?));
        self.claim_headers.iter().filter_map(header).collect()
    }
}

impl Verified {
    fn check_time(&self, now: i64) -> Result<(), Reject> {
        if now >= self.expires {
            return Err(Reject::new(Reason::JwtExpired));
        }
        if now < self.begins {
            return Err(Reject::new(Reason::JwtNotYetValid));
        }
        Ok(())
    }
}

/// A header that may carry a claim: none that other parts of a request's handling depend on.
fn claim_header_name(text: &str) -> Result<HeaderName, ConfigError> {
    use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
    let field = "authentication.jwt[].claimHeaders";
    let name = header_name(field, text)?;
    let reserved = [CONNECTION, CONTENT_LENGTH, COOKIE, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE];
    if reserved.contains(&name) || name.as_str().starts_with("x-weft-") {
        return Err(ConfigError::invalid(field, text, "name a header of the application, `x-user-id`"));
    }
    Ok(name)
}

/// Whether two names are the same to an application that takes `_` for `-`, as CGI and its heirs do.
fn reads_as(name: &HeaderName, own: &HeaderName) -> bool {
    let (name, own) = (name.as_str(), own.as_str());
    let same = |(a, b): (u8, u8)| a == b || (a == b'_' && b == b'-') || (a == b'-' && b == b'_');
    name.len() == own.len() && name.bytes().zip(own.bytes()).all(same)
}

fn malformed() -> Reject {
    Reject::new(Reason::JwtMalformed)
}

fn malformed_because(why: &'static str) -> Reject {
    malformed().because(why)
}

#[cfg(test)]
mod tests;
