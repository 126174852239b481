//! Where a request enters a path: checks what codecs do not, brings it into the one form all steps see (origin-form
//! target with the normalised path, one `Host`, no hop-by-hop headers), and fills the [`RequestCx`].

use std::net::IpAddr;
use std::sync::Arc;

use http::header::{CONTENT_TYPE, FORWARDED, HOST, HeaderMap, MAX_FORWARDS};
use http::uri::{Authority, PathAndQuery, Uri};
use http::{HeaderName, HeaderValue, Method, StatusCode, Version, request};
use tokio::time::Instant;
use weft_api::names::HEADER_REQUEST_ID;

use super::headers::strip_request;
use crate::cx::{ConnCx, RequestCx};
use crate::policy::path::NormalPath;
use crate::reject::{Reason, Reject};
use crate::telemetry::{Direction, Telemetry};

const REQUEST_ID: HeaderName = HeaderName::from_static(HEADER_REQUEST_ID);
const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
/// Ids from outside are kept up to this length.
const MAX_ID: usize = 128;

/// Among a request's extensions: its codec would not have it let in.
#[derive(Clone, Copy, Debug)]
pub struct Refused(pub Reason);

/// A request that has entered.
#[derive(Debug)]
pub struct Entered {
    /// What the steps share.
    pub cx: RequestCx,
    /// The protocol it wants to switch to.
    pub upgrade: Option<HeaderValue>,
    /// Why it must be refused at once.
    pub refused: Option<Reject>,
}

/// Lets a request in.
pub fn enter(
    direction: Direction,
    conn: &Arc<ConnCx>,
    telemetry: &Telemetry,
    parts: &mut request::Parts,
) -> Entered {
    let started = Instant::now();
    let mut refused = parts.extensions.remove::<Refused>().map(|Refused(reason)| reason.into());
    let host = authority(parts).unwrap_or_else(|reject| {
        refused.get_or_insert(reject);
        Box::default()
    });
    let path = target(parts).unwrap_or_else(|reject| {
        refused.get_or_insert(reject);
        NormalPath::parse("/").expect("the root is a normal path")
    });
    if let Err(reject) = count_forwards(parts) {
        refused.get_or_insert(reject);
    }
    let upgrade = strip_request(&mut parts.headers);
    if direction == Direction::Gateway {
        from_outside(conn, parts);
    }
    let trace = telemetry.trace(&mut parts.headers);
    trace.inject(&mut parts.headers);
    let cx = RequestCx {
        id: request_id(&mut parts.headers),
        client_ip: client_ip(direction, conn, &parts.headers),
        grpc: is_grpc(&parts.headers),
        trace,
        method: parts.method.clone(),
        version: parts.version,
        host,
        ..RequestCx::new(Arc::clone(conn), path, started)
    };
    Entered { cx, upgrade, refused }
}

/// The authority without port, lower case, from the target or from the one `Host` there must be (RFC 9112, section 3.2);
/// leaves exactly that one `Host`.
fn authority(parts: &mut request::Parts) -> Result<Box<str>, Reject> {
    let mut hosts = parts.headers.get_all(HOST).iter();
    let first = hosts.next();
    if hosts.next().is_some() {
        return Err(bad("more than one Host"));
    }
    if let Some(authority) = parts.uri.authority() {
        let host = host_of(authority)?;
        check_target(parts, authority)?;
        if first.is_none_or(|first| first.as_bytes() != authority.as_str().as_bytes()) {
            let value = HeaderValue::from_str(authority.as_str()).map_err(|_| bad("bad authority"))?;
            parts.headers.insert(HOST, value);
        }
        return Ok(host);
    }
    if parts.method == Method::CONNECT {
        return Err(bad("CONNECT without an authority"));
    }
    match first {
        None if parts.version == Version::HTTP_10 => {
            // The next hop speaks HTTP/1.1, where there must be one.
            parts.headers.insert(HOST, HeaderValue::from_static(""));
            Ok(Box::default())
        }
        None => Err(bad("no Host")),
        Some(value) if value.is_empty() => Ok(Box::default()),
        Some(value) => {
            let text = value.to_str().map_err(|_| bad("bad Host"))?;
            if let Some(host) = simple(text) {
                return Ok(lower(host));
            }
            host_of(&text.parse().map_err(|_| bad("bad Host"))?)
        }
    }
}

fn bad(why: &'static str) -> Reject {
    Reject::new(Reason::BadRequest).because(why)
}

/// What a target with an authority must be beside: authority-form for CONNECT, with a port, and for nothing else (RFC
/// 9112, section 3.2.3); accompanied by `Host` in HTTP/1.1 (section 3.2), and in HTTP/2 by none that names another host
/// (RFC 9113, section 8.3.1).
fn check_target(parts: &request::Parts, authority: &Authority) -> Result<(), Reject> {
    let host = parts.headers.get(HOST);
    match (parts.method == Method::CONNECT, parts.uri.scheme()) {
        (false, None) => return Err(bad("the target is an authority")),
        (true, None) if authority.port_u16().is_none() => return Err(bad("CONNECT without a port")),
        _ => {}
    }
    match parts.version {
        Version::HTTP_11 if host.is_none() => Err(bad("no Host")),
        Version::HTTP_2 if host.is_some_and(|host| !is_authority(host, authority)) => {
            Err(bad("`:authority` and `host` differ"))
        }
        _ => Ok(()),
    }
}

fn is_authority(host: &HeaderValue, authority: &Authority) -> bool {
    host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes())
}

/// The host of an authority, which must have one, no user information (RFC 9110, section 4.2.4) and no port that is none.
fn host_of(authority: &Authority) -> Result<Box<str>, Reject> {
    let host = authority.host();
    let port = authority.as_str().strip_prefix(host);
    match port {
        _ if host.is_empty() => Err(bad("empty host")),
        Some("" | ":") => Ok(lower(host)),
        Some(_) if authority.port_u16().is_some() => Ok(lower(host)),
        _ => Err(bad("bad authority")),
    }
}

/// The host of what nearly every `Host` is: a name or address, perhaps with a port.
fn simple(text: &str) -> Option<&str> {
    let (host, port) = text.split_once(':').unwrap_or((text, ""));
    let is_host =
        !host.is_empty() && host.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-'));
    let is_port =
        port.bytes().all(|c| c.is_ascii_digit()) && (port.is_empty() || port.parse::<u16>().is_ok());
    (is_host && is_port).then_some(host)
}

fn lower(host: &str) -> Box<str> {
    host.to_ascii_lowercase().into()
}

/// Normalises the path and leaves the target in origin-form, with the query as it came.
fn target(parts: &mut request::Parts) -> Result<NormalPath, Reject> {
    if parts.method == Method::CONNECT {
        return NormalPath::parse("/");
    }
    let path = NormalPath::parse(parts.uri.path())?;
    if path.as_str() == "*" && parts.method != Method::OPTIONS {
        return Err(bad("`*` is a target of OPTIONS only"));
    }
    let absolute = parts.uri.authority().is_some();
    if path.as_str() != parts.uri.path() {
        let text = match parts.uri.query() {
            Some(query) => format!("{}?{query}", path.as_str()),
            None => path.as_str().to_owned(),
        };
        let target = PathAndQuery::try_from(text).map_err(|_| Reject::new(Reason::BadRequest))?;
        parts.uri = Uri::from(target);
    } else if absolute {
        let target = parts.uri.path_and_query().cloned();
        parts.uri = Uri::from(target.unwrap_or_else(|| PathAndQuery::from_static("/")));
    }
    Ok(path)
}

/// One hop less for OPTIONS and TRACE that say how many they may take; with none left it is this proxy that answers: a
/// plain 200 to OPTIONS, and no echo of its own head to TRACE (RFC 9110, sections 7.6.2 and 9.3.8).
fn count_forwards(parts: &mut request::Parts) -> Result<(), Reject> {
    if !matches!(parts.method, Method::OPTIONS | Method::TRACE) {
        return Ok(());
    }
    let Some(left) = parts.headers.get(MAX_FORWARDS).and_then(|value| value.to_str().ok()) else {
        return Ok(());
    };
    if left.is_empty() || !left.bytes().all(|digit| digit.is_ascii_digit()) {
        return Ok(());
    }
    // More than can be counted is more hops than there are.
    let Some(less) = left.parse().unwrap_or(u64::MAX).checked_sub(1) else {
        let reject = Reject::new(Reason::MaxForwards);
        let answers = parts.method == Method::OPTIONS;
        return Err(if answers { reject.with_status(StatusCode::OK) } else { reject });
    };
    parts.headers.insert(MAX_FORWARDS, HeaderValue::from(less));
    Ok(())
}

/// Nobody outside may speak for the mesh; what a gateway knows about the client it says itself, in `x-forwarded-*`. So a
/// `Forwarded` (RFC 7239) of the client's own, which an application might believe, goes.
fn from_outside(conn: &ConnCx, parts: &mut request::Parts) {
    let headers = &mut parts.headers;
    let ours: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with("x-weft-")).cloned().collect();
    for name in ours {
        headers.remove(name);
    }
    headers.remove(REQUEST_ID);
    headers.remove(FORWARDED);
    let client = conn.peer.ip();
    let chain = match headers.get(&FORWARDED_FOR).and_then(|value| value.to_str().ok()) {
        Some(before) => format!("{before}, {client}"),
        None => client.to_string(),
    };
    if let Ok(chain) = HeaderValue::try_from(chain) {
        headers.insert(FORWARDED_FOR, chain);
    }
    let scheme = if conn.tls { "https" } else { "http" };
    headers.insert(FORWARDED_PROTO, HeaderValue::from_static(scheme));
    if let Some(host) = headers.get(HOST).cloned() {
        headers.insert(FORWARDED_HOST, host);
    }
}

fn request_id(headers: &mut HeaderMap) -> Box<str> {
    let given = headers.get(&REQUEST_ID).and_then(|value| value.to_str().ok());
    if let Some(id) = given.filter(|id| !id.is_empty() && id.len() <= MAX_ID) {
        return id.into();
    }
    let mut text = uuid::Uuid::encode_buffer();
    let id: &str = uuid::Uuid::from_u128(rand::random()).simple().encode_lower(&mut text);
    if let Ok(value) = HeaderValue::from_str(id) {
        headers.insert(REQUEST_ID, value);
    }
    id.into()
}

/// The client where trusted proxies stand in front of the gateway: of the addresses in `x-forwarded-for`, the one before
/// theirs, or the first where there are fewer. Only of a request that came through a gateway.
pub fn behind(cx: &mut RequestCx, direction: Direction, headers: &HeaderMap, trusted: usize) {
    let believed = match direction {
        Direction::Gateway => true,
        Direction::Inbound => cx.conn.identity.is_some(),
        Direction::Outbound => false,
    };
    if trusted == 0 || !believed {
        return;
    }
    let lines = headers.get_all(&FORWARDED_FOR).iter().rev().filter_map(|line| line.to_str().ok());
    let hops = lines.flat_map(|line| line.rsplit(',')).take(trusted + 1);
    // What is no address ends what can be believed.
    let known = hops.map_while(|hop| hop.trim().parse().ok());
    cx.client_ip = known.last().unwrap_or(cx.client_ip);
}

/// Inside the mesh the gateway's word counts: the last hop of `x-forwarded-for`, from a peer with an identity.
fn client_ip(direction: Direction, conn: &ConnCx, headers: &HeaderMap) -> IpAddr {
    let peer = conn.peer.ip();
    if direction != Direction::Inbound || conn.identity.is_none() {
        return peer;
    }
    let last = headers.get_all(&FORWARDED_FOR).iter().next_back().and_then(|value| value.to_str().ok());
    last.and_then(|chain| chain.rsplit(',').next()).and_then(|hop| hop.trim().parse().ok()).unwrap_or(peer)
}

/// Whether this is a request of gRPC.
pub(super) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}
