//! What the admin pages show, as JSON. Field names are those of the manifests (camel case) where it is Weft's own state,
//! and those of the wire protocol where it is a resource as it came. Secrets are taken out here: keys of certificates,
//! keys of token issuers, passwords in addresses.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde_json::{Map, Value, json};
use tokio::time::Instant;
use weft_api::tls::validity;
use weft_api::v1::{Resource, resource::Body};

use crate::config::Shared;
use crate::config::snapshot::{Destination, Snapshot};
use crate::telemetry::clock;
use crate::tls::TlsMaterial;

const REDACTED: &str = "(not shown)";

/// The resources in use by kind, in order of their names.
pub(super) fn config(snapshot: &Snapshot) -> Value {
    let mut resources: Vec<_> = snapshot.resources.iter().collect();
    resources.sort_unstable_by(|a, b| (a.0.0 as i32, &a.0.1).cmp(&(b.0.0 as i32, &b.0.1)));
    let resources: Vec<Value> = resources.into_iter().map(|(_, resource)| of_resource(resource)).collect();
    let mut unknown: Vec<&str> = snapshot.unknown.iter().map(AsRef::as_ref).collect();
    unknown.sort_unstable();
    json!({ "resources": resources, "unknownDestinations": unknown })
}

fn of_resource(resource: &Resource) -> Value {
    let mut resource = resource.clone();
    match &mut resource.body {
        Some(Body::Gateway(gateway)) => {
            for tls in gateway.listeners.iter_mut().filter_map(|listener| listener.tls.as_mut()) {
                REDACTED.clone_into(&mut tls.key);
            }
        }
        Some(Body::Keys(keys)) => keys.jwks = public_keys(&keys.jwks),
        Some(Body::Proxy(proxy)) => proxy.redis_url = without_password(&proxy.redis_url),
        _ => {}
    }
    let kind = resource.kind().as_str_name().trim_start_matches("KIND_").to_ascii_lowercase();
    let body = resource.body.as_ref().and_then(|body| serde_json::to_value(body).ok());
    json!({ "kind": kind, "name": resource.name, "version": resource.version, "body": body })
}

/// What may be known of the keys: symmetric ones are secrets, so only the names of the rest are listed.
fn public_keys(jwks: &str) -> String {
    let parsed: Value = serde_json::from_str(jwks).unwrap_or_default();
    let keys = parsed.get("keys").and_then(Value::as_array).into_iter().flatten();
    let public = |key: &Value| {
        let known = ["kid", "kty", "alg", "crv", "use"].into_iter();
        let fields = known.filter_map(|name| Some((name.to_owned(), key.get(name)?.clone())));
        Value::Object(fields.collect::<Map<_, _>>())
    };
    json!({ "keys": keys.map(public).collect::<Vec<_>>() }).to_string()
}

/// `redis://user:password@host` with the part before the `@` taken out.
fn without_password(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{REDACTED}@{host}"),
        _ => url.to_owned(),
    }
}

fn sorted(snapshot: &Snapshot) -> Vec<&Arc<Destination>> {
    let mut all: Vec<_> = snapshot.destinations.values().collect();
    all.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    all
}

/// Endpoints of one destination, or of all.
pub(super) fn endpoints(snapshot: &Snapshot, only: Option<&str>, now: Instant) -> Value {
    let all = sorted(snapshot).into_iter().filter(|one| only.is_none_or(|name| name == &*one.name));
    Value::Array(all.map(|destination| endpoints_of(destination, now)).collect())
}

fn endpoints_of(destination: &Destination, now: Instant) -> Value {
    let endpoint = |endpoint: &Arc<crate::upstream::balance::Endpoint>| {
        let ejection = endpoint.ejection();
        json!({
            "address": endpoint.address(),
            "instance": &**endpoint.instance(),
            "meshed": endpoint.is_meshed(),
            "zone": endpoint.zone(),
            "forZones": endpoint.for_zones(),
            "weight": endpoint.weight(),
            "inFlight": endpoint.inflight(),
            "latencyMs": milliseconds(endpoint.latency(now)),
            "failures": ejection.failures(),
            "ejectedForMs": ejection.remaining(now).map(milliseconds),
        })
    };
    let endpoints: Vec<Value> = destination.balancer.endpoints().iter().map(endpoint).collect();
    json!({
        "destination": &*destination.name,
        "inFlight": destination.limits.usage(),
        "panic": destination.balancer.panics(now),
        "endpoints": endpoints,
    })
}

/// Every breaker there is.
pub(super) fn breakers(snapshot: &Snapshot, now: Instant) -> Value {
    let breaker = |destination: &Arc<Destination>| {
        let breaker = destination.breaker.as_ref()?.snapshot(now);
        Some(json!({
            "destination": &*destination.name,
            "state": breaker.state,
            "failureCount": breaker.failures,
            "successCount": breaker.successes,
            "threshold": breaker.threshold,
            "windowRequests": breaker.window_requests,
            "windowFailures": breaker.window_failures,
            "timeout": milliseconds(breaker.open_for),
            "opensForMs": breaker.remaining.map(milliseconds),
        }))
    };
    Value::Array(sorted(snapshot).into_iter().filter_map(breaker).collect())
}

/// Certificate and roots; dates, no keys.
pub(super) fn certs(material: Option<&TlsMaterial>, now: i64) -> Value {
    let Some(material) = material else { return json!({ "identity": null }) };
    let root = |root: &rustls_pki_types::CertificateDer<'static>| {
        let (not_before, not_after) = validity(root)?;
        Some(json!({ "notBefore": date(not_before), "notAfter": date(not_after) }))
    };
    json!({
        "identity": material.id.as_str(),
        "notBefore": date(material.not_before),
        "notAfter": date(material.not_after),
        "secondsLeft": material.not_after - now,
        "roots": material.identity.roots.iter().map(root).collect::<Vec<_>>(),
    })
}

/// What is going on.
pub(super) fn stats(shared: &Shared) -> Value {
    let config = shared.config.load();
    let metrics = &shared.telemetry.metrics;
    json!({
        "workload": shared.settings.workload,
        "instance": shared.settings.instance,
        "version": env!("CARGO_PKG_VERSION"),
        "ready": shared.is_ready(),
        "draining": shared.tasks.is_draining(),
        "activeRequests": shared.active_requests.load(Ordering::Relaxed),
        "openConnections": shared.open_connections.load(Ordering::Relaxed),
        "destinations": config.destinations.len(),
        "operator": {
            "address": shared.settings.operator,
            "connected": metrics.config.connected.get() == 1,
            "updates": metrics.config.updates.get(),
            "rejected": metrics.config.rejected.get(),
        },
        "dropped": { "logLines": metrics.dropped.log_lines.get(), "spans": metrics.dropped.spans.get() },
        "listeners": shared.bound.borrow().iter().map(|(k, v)| (k.clone(), json!(v))).collect::<Map<_, _>>(),
    })
}

fn date(unix: i64) -> String {
    let since = std::time::Duration::from_secs(u64::try_from(unix).unwrap_or(0));
    clock::rfc3339(std::time::UNIX_EPOCH + since)
}

/// Whole milliseconds would hide what a mesh adds; more than microseconds is noise.
fn milliseconds(duration: std::time::Duration) -> f64 {
    (duration.as_secs_f64() * 1_000_000.0).round() / 1000.0
}
