//! Admin pages on loopback: what the proxy was told, what it makes of it, and two things to change (breakers, the log).
//! For people with a shell beside the proxy and for `weft`'s commands; never for the network, never showing a secret.

mod show;

use http::header::{HOST, ORIGIN};
use http::{Method, StatusCode};
use serde_json::json;
use tokio::time::Instant;

use crate::config::Shared;
use crate::logging;
use crate::pages::{Answer, Ask, json, lines, not_allowed, reads, text};
use crate::telemetry::clock::unix_now;
use crate::telemetry::tap::{Filter, TapError};

const INDEX: &str = "\
GET  /config                        resources in use, without secrets
GET  /endpoints[?destination=NAME]  endpoints, their load, latency and ejection
GET  /breakers                      circuit breakers
POST /breakers/reset[?destination=NAME]  close one breaker, or all
GET  /certs                         certificate and roots
GET  /log                           the log's filter
PUT  /log                           change it; the body is a level or target=level,…
GET  /tap[?path=/orders*&status=5xx&seconds=60&max=1000&…]  finished requests, a line each, as they come
GET  /stats                         what is in flight, what is configured
";

/// The admin port.
pub fn admin(shared: &Shared, ask: &Ask) -> Answer {
    if let Some(refusal) = refuse(ask) {
        return refusal;
    }
    let request = &ask.request;
    match (request.uri().path(), request.method()) {
        ("/breakers/reset", &Method::POST) => reset_breakers(shared, destination(ask).as_deref()),
        ("/breakers/reset", _) => not_allowed("POST"),
        ("/log", &Method::PUT) => set_log(request.body()),
        ("/log", method) if !reads(method) => not_allowed("GET, PUT"),
        (_, method) if !reads(method) => not_allowed("GET"),
        ("/", _) => text(StatusCode::OK, INDEX),
        ("/config", _) => json(&show::config(&shared.config.load())),
        ("/endpoints", _) => {
            json(&show::endpoints(&shared.config.load(), destination(ask).as_deref(), Instant::now()))
        }
        ("/breakers", _) => json(&show::breakers(&shared.config.load(), Instant::now())),
        ("/certs", _) => json(&show::certs(shared.identity.load().as_deref(), unix_now())),
        ("/log", _) => match logging::filter() {
            Ok(filter) => json(&json!({ "filter": filter })),
            Err(error) => text(StatusCode::CONFLICT, format!("{error}\n")),
        },
        ("/tap", _) => tap(shared, ask.request.uri().query().unwrap_or_default()),
        ("/stats", _) => json(&show::stats(shared)),
        _ => text(StatusCode::NOT_FOUND, INDEX),
    }
}

/// Only programs on this machine, and no web page in a browser on it: browsers send `Origin` with what changes
/// something, and a name that was rebound to loopback shows in `Host`.
fn refuse(ask: &Ask) -> Option<Answer> {
    let headers = ask.request.headers();
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let local = matches!(name, "" | "localhost" | "[::1]") || name.starts_with("127.");
    let allowed = ask.peer.ip().is_loopback() && local && !headers.contains_key(ORIGIN);
    (!allowed).then(|| text(StatusCode::FORBIDDEN, "the admin pages are for programs on this machine\n"))
}

/// `destination` of the query; names need no decoding but for `/` and `:`, which clients may encode.
fn destination(ask: &Ask) -> Option<String> {
    let query = ask.request.uri().query()?;
    let value = query.split('&').find_map(|pair| pair.strip_prefix("destination="))?;
    Some(value.replace("%2F", "/").replace("%2f", "/").replace("%3A", ":").replace("%3a", ":"))
}

/// Shows requests as they end, until the client has seen enough.
fn tap(shared: &Shared, query: &str) -> Answer {
    let opened = Filter::parse(query).and_then(|filter| shared.telemetry.taps.open(filter));
    match opened {
        Ok(stream) => lines(stream),
        Err(error @ TapError::Parameter { .. }) => text(StatusCode::BAD_REQUEST, format!("{error}\n")),
        Err(error @ TapError::TooMany) => text(StatusCode::TOO_MANY_REQUESTS, format!("{error}\n")),
    }
}

fn reset_breakers(shared: &Shared, name: Option<&str>) -> Answer {
    let config = shared.config.load();
    if let Some(name) = name.filter(|name| !config.destinations.contains_key(*name)) {
        return text(
            StatusCode::NOT_FOUND,
            format!("there is no destination `{name}` in use; see /breakers\n"),
        );
    }
    let mut reset = Vec::new();
    for destination in config.destinations.values() {
        let asked = name.is_none_or(|name| name == &*destination.name);
        let Some(breaker) = destination.breaker.as_ref().filter(|_| asked) else { continue };
        if let Some(transition) = breaker.reset() {
            destination.metrics(shared.direction(), &shared.telemetry.metrics).breaker_moved(transition);
        }
        reset.push(&*destination.name);
    }
    reset.sort_unstable();
    json(&json!({ "reset": reset }))
}

fn set_log(body: &[u8]) -> Answer {
    let Ok(filter) = std::str::from_utf8(body) else {
        return text(StatusCode::BAD_REQUEST, "the body is not text\n");
    };
    match logging::set_filter(filter) {
        Ok(()) => json(&json!({ "filter": filter.trim() })),
        Err(error @ logging::LogError::Filter { .. }) => text(StatusCode::BAD_REQUEST, format!("{error}\n")),
        Err(error) => text(StatusCode::CONFLICT, format!("{error}\n")),
    }
}

#[cfg(test)]
mod tests;
