//! Resources to snapshot: parses and compiles everything a request will read, or says per resource what is wrong.
//! Whole or not at all: with one error the caller keeps the last good snapshot. Unchanged resources keep their compiled
//! form and state.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use tokio::time::Instant;
use weft_api::v1::{self, Kind, resource::Body};

use super::snapshot::{
    Address, Addresses, Destination, EdgeTls, GatewayConfig, GatewayListener, InboundConfig, InboundPort,
    MtlsPeer, Origin, OutboundListener, ParsedKeys, Pinned, ProxyConfig, Resources, Roots, Snapshot, Sources,
};
use crate::policy::ConfigError;
use crate::policy::breaker::Breaker;
use crate::policy::fault::Faults;
use crate::policy::jwt::KeySet;
use crate::policy::limits::Limits;
use crate::policy::pattern::HostPattern;
use crate::policy::rate_limit::RateLimits;
use crate::policy::retry::{self, budget::Budget};
use crate::policy::route::Table;
use crate::policy::{authz, jwt, outlier};
use crate::upstream::balance::{Balancer, Rules};

/// Name of the resources there is only one of.
pub const SELF: &str = "self";
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const IDLE_TIMEOUT: Duration = Duration::from_secs(90);
/// Copies under way to one destination, over all workers.
const MAX_MIRRORS: u32 = 128;

/// What is wrong with one resource, in words for a person.
type Wrong = String;
/// A destination's routes, and its tokens as a gateway checks them.
type Compiled = (Option<Table>, Option<jwt::Policy>);

/// Resources as a map, the last of a name wins.
pub fn index(resources: impl IntoIterator<Item = v1::Resource>) -> Resources {
    resources.into_iter().map(|r| ((r.kind(), r.name.clone()), Arc::new(r))).collect()
}

/// The snapshot these resources make. What did not change since `previous` is taken from there.
pub fn build(resources: Resources, previous: &Snapshot) -> Result<Snapshot, Vec<v1::ResourceError>> {
    let mut builder = Builder { resources: &resources, previous, keys: HashMap::new(), errors: Vec::new() };
    builder.keys();
    let proxy = builder.proxy();
    let inbound = builder.inbound();
    let gateway = builder.gateway();
    let destinations = builder.destinations(&proxy.zone);
    let addresses = builder.addresses();
    let Builder { keys, errors, .. } = builder;
    if !errors.is_empty() {
        return Err(errors);
    }
    // Nothing can fail any more: only now may state that is shared with the previous snapshot follow its new policy.
    if let Some(inbound) = &inbound {
        inbound.adopt();
    }
    for destination in destinations.values() {
        destination.adopt();
    }
    let unknown = previous.unknown.iter().filter(|name| !destinations.contains_key(*name)).cloned().collect();
    Ok(Snapshot { proxy, inbound, gateway, destinations, addresses, unknown, keys, resources })
}

struct Builder<'a> {
    resources: &'a Resources,
    previous: &'a Snapshot,
    keys: ParsedKeys,
    errors: Vec<v1::ResourceError>,
}

impl Builder<'_> {
    /// Key sets first, since policies need them.
    fn keys(&mut self) {
        for ((kind, name), resource) in self.resources {
            let (Kind::Keys, Some(Body::Keys(keys))) = (kind, &resource.body) else { continue };
            let known = self.previous.keys.get(name.as_str()).filter(|(known, _)| known == resource);
            let parsed = match known {
                Some((_, keys)) => Ok(Arc::clone(keys)),
                // Never fetched: the policy answers that it cannot check yet.
                None if keys.jwks.is_empty() => continue,
                None => KeySet::parse(keys).map(Arc::new).map_err(|e| words(&e)),
            };
            if let Some(parsed) = self.keep(Kind::Keys, name, parsed) {
                self.keys.insert(name.as_str().into(), (Arc::clone(resource), parsed));
            }
        }
    }

    fn jwt(&self, config: Option<&v1::Authentication>) -> Result<Option<jwt::Policy>, Wrong> {
        let find = |name: &str| self.keys.get(name).map(|(_, keys)| Arc::clone(keys));
        config.map(|config| jwt::Policy::new(config, &find)).transpose().map_err(|e| words(&e))
    }

    /// The key sets an authentication names.
    fn keys_of(&self, config: Option<&v1::Authentication>) -> Vec<Origin> {
        let names = config.into_iter().flat_map(|config| config.providers.iter().map(|p| p.keys.as_str()));
        names.map(|name| self.resource(Kind::Keys, name)).collect()
    }

    fn resource(&self, kind: Kind, name: &str) -> Origin {
        self.resources.get(&(kind, name.to_owned())).cloned()
    }

    fn proxy(&mut self) -> ProxyConfig {
        let Some(Body::Proxy(proxy)) = self.body(Kind::Proxy, SELF) else { return ProxyConfig::default() };
        let made = proxy_config(proxy);
        self.keep(Kind::Proxy, SELF, made).unwrap_or_default()
    }

    fn inbound(&mut self) -> Option<Arc<InboundConfig>> {
        let Some(Body::Inbound(inbound)) = self.body(Kind::Inbound, SELF) else { return None };
        let mut made_of = self.keys_of(inbound.authentication.as_ref());
        made_of.push(self.resource(Kind::Inbound, SELF));
        let previous = self.previous.inbound.as_ref();
        if let Some(same) = previous.filter(|previous| previous.made_of == made_of) {
            return Some(Arc::clone(same));
        }
        let jwt = self.jwt(inbound.authentication.as_ref());
        let made =
            jwt.and_then(|jwt| inbound_config(inbound, (jwt, made_of), previous.map(|previous| &**previous)));
        self.keep(Kind::Inbound, SELF, made).map(Arc::new)
    }

    fn gateway(&mut self) -> Option<Arc<GatewayConfig>> {
        let Some(Body::Gateway(gateway)) = self.body(Kind::Gateway, SELF) else { return None };
        let identity = gateway.identity.parse().map_err(|e| format!("identity: {e}"));
        let listeners: Result<Vec<_>, Wrong> = gateway.listeners.iter().map(|l| self.listener(l)).collect();
        let made = identity.and_then(|identity| Ok(GatewayConfig { identity, listeners: listeners? }));
        self.keep(Kind::Gateway, SELF, made).map(Arc::new)
    }

    fn listener(&self, listener: &v1::GatewayListener) -> Result<Arc<GatewayListener>, Wrong> {
        let tls = match &listener.tls {
            _ if listener.passthrough => Ok(EdgeTls::Through),
            None => Ok(EdgeTls::Plain),
            Some(certificate) => crate::tls::edge_config(certificate).map(EdgeTls::Ends),
        };
        Ok(Arc::new(GatewayListener {
            name: listener.name.as_str().into(),
            listen: address(&listener.listen, "listeners.listen")?,
            tls: tls.map_err(|e| format!("listeners.tls: {}", crate::operator::causes(&e)))?,
            hostname: (!listener.hostname.is_empty()).then(|| HostPattern::new(&listener.hostname)),
            routes: self.routes(&listener.routes)?.unwrap_or_default(),
        }))
    }

    fn routes(&self, name: &str) -> Result<Option<Table>, Wrong> {
        match self.body(Kind::Routes, name) {
            Some(Body::Routes(routes)) => Table::new(routes).map(Some).map_err(|e| words(&e)),
            _ => Ok(None),
        }
    }

    fn destinations(&mut self, zone: &Arc<str>) -> HashMap<Arc<str>, Arc<Destination>> {
        let mut all = HashMap::new();
        for ((kind, name), resource) in self.resources {
            let (Kind::Destination, Some(Body::Destination(spec))) = (kind, &resource.body) else { continue };
            let previous = self.previous.destinations.get(name.as_str());
            let made_of = self.sources(name, spec, zone);
            if let Some(same) = previous.filter(|previous| previous.made_of == made_of) {
                all.insert(Arc::clone(&same.name), Arc::clone(same));
                continue;
            }
            let previous = previous.map(|previous| &**previous);
            let balancer = self.balancer(name, (spec, zone), previous);
            let Some(balancer) = self.keep(Kind::Endpoints, name, balancer) else { continue };
            let made = self
                .compiled(name, spec)
                .and_then(|compiled| destination((name, spec), previous, (balancer, compiled, made_of)));
            let made = self.keep(Kind::Destination, name, made);
            all.extend(made.map(|made| (Arc::clone(&made.name), Arc::new(made))));
        }
        all
    }

    fn addresses(&mut self) -> Arc<Addresses> {
        let mut all = Addresses::new();
        for ((_, name), resource) in self.resources {
            let Some(Body::Address(address)) = &resource.body else { continue };
            let made = self.keep(Kind::Address, name, lead(address));
            all.extend(made.map(|made| (name.as_str().into(), made)));
        }
        let previous = &self.previous.addresses;
        if all == **previous { Arc::clone(previous) } else { Arc::new(all) }
    }

    fn sources(&self, name: &str, spec: &v1::Destination, zone: &Arc<str>) -> Sources {
        Sources {
            spec: self.resource(Kind::Destination, name),
            endpoints: self.resource(Kind::Endpoints, name),
            routes: self.resource(Kind::Routes, name),
            keys: self.keys_of(spec.authentication.as_ref()),
            zone: Arc::clone(zone),
        }
    }

    /// A destination's policies that need other resources.
    fn compiled(&self, name: &str, spec: &v1::Destination) -> Result<Compiled, Wrong> {
        Ok((self.routes(name)?, self.jwt(spec.authentication.as_ref())?.map(jwt::Policy::at_edge)))
    }

    fn balancer(
        &self,
        name: &str,
        (spec, zone): (&v1::Destination, &str),
        previous: Option<&Destination>,
    ) -> Result<Balancer, Wrong> {
        let none = v1::Endpoints::default();
        let endpoints = match self.body(Kind::Endpoints, name) {
            Some(Body::Endpoints(endpoints)) => endpoints,
            _ => &none,
        };
        let known = previous.map(|previous| &previous.balancer);
        let rules = Rules {
            balancing: spec.load_balancing.as_ref(),
            panic_percent: spec.outlier.as_ref().map_or(0, |outlier| outlier.panic_percent),
            zone,
        };
        Balancer::new(rules, endpoints, known, Instant::now()).map_err(|e| words(&e))
    }

    fn body(&self, kind: Kind, name: &str) -> Option<&'_ Body> {
        self.resources.get(&(kind, name.to_owned())).and_then(|resource| resource.body.as_ref())
    }

    fn keep<T>(&mut self, kind: Kind, name: &str, made: Result<T, Wrong>) -> Option<T> {
        made.map_err(|message| {
            self.errors.push(v1::ResourceError { kind: kind.into(), name: name.to_owned(), message });
        })
        .ok()
    }
}

/// State is taken over from `previous`, but not changed yet.
fn destination(
    (name, spec): (&str, &v1::Destination),
    previous: Option<&Destination>,
    (balancer, (routes, jwt), made_of): (Balancer, Compiled, Sources),
) -> Result<Destination, Wrong> {
    let (breaker, retries) = (spec.breaker.as_ref(), spec.retries.as_ref());
    let kept = previous.and_then(|p| p.breaker.clone()).filter(|kept| kept.fits(breaker));
    let budget = previous.map(|previous| Arc::clone(&previous.budget));
    Ok(Destination {
        name: name.into(),
        service: spec.service.as_str().into(),
        port: port_number(spec.port, "port")?,
        protocol: spec.protocol(),
        mtls: spec.mtls.as_ref().map(mtls_peer).transpose()?,
        timeout: millis(spec.timeout_ms),
        connect_timeout: millis(spec.connect_timeout_ms).unwrap_or(CONNECT_TIMEOUT),
        idle_timeout: millis(spec.idle_timeout_ms).unwrap_or(IDLE_TIMEOUT),
        stream_idle_timeout: millis(spec.idle_timeout_ms),
        balancer,
        breaker: kept.or_else(|| Breaker::new(breaker)),
        outlier: outlier::Policy::new(spec.outlier.as_ref()),
        retry: retry::Policy::new(retries),
        budget: budget.unwrap_or_else(|| Arc::new(Budget::new(retries, Instant::now()))),
        limits: previous.map_or_else(Arc::default, |previous| Arc::clone(&previous.limits)),
        mirrors: previous.map_or_else(mirrors, |previous| Arc::clone(&previous.mirrors)),
        faults: Faults::new(&spec.faults).map_err(|e| words(&e))?,
        stale: millis(spec.fallback_stale_ms),
        routes,
        jwt,
        made_of,
        metrics: previous.map_or_else(OnceLock::new, |previous| previous.metrics.clone()),
    })
}

fn mirrors() -> Arc<Limits> {
    let limits = v1::Limits { requests: MAX_MIRRORS, ..v1::Limits::default() };
    Arc::new(Limits::new(Some(&limits)))
}

fn lead(spec: &v1::Address) -> Result<Address, Wrong> {
    let pinned = match spec.endpoint.as_str() {
        "" => None,
        text => Some(Pinned { address: address(text, "endpoint")?, meshed: spec.meshed }),
    };
    Ok(Address {
        destination: (!spec.destination.is_empty()).then(|| spec.destination.as_str().into()),
        pinned,
    })
}

fn proxy_config(proxy: &v1::Proxy) -> Result<ProxyConfig, Wrong> {
    let tracing = proxy.tracing.clone().unwrap_or_default();
    let text = |text: &str| (!text.is_empty()).then(|| text.into());
    Ok(ProxyConfig {
        trust_domain: proxy.trust_domain.as_str().into(),
        service: proxy.service.as_str().into(),
        otlp_endpoint: text(&tracing.otlp_endpoint),
        sampling: tracing.sampling.clamp(0.0, 1.0),
        access_log: match proxy.access_log() {
            v1::AccessLog::Unspecified => v1::AccessLog::Errors,
            given => given,
        },
        outbound: proxy.outbound.iter().map(outbound_listener).collect::<Result<_, _>>()?,
        outbound_policy: match proxy.outbound_policy() {
            v1::OutboundPolicy::Unspecified => v1::OutboundPolicy::Allow,
            given => given,
        },
        redis_url: text(&proxy.redis_url),
        trusted_hops: proxy.trusted_hops.try_into().unwrap_or_default(),
        zone: proxy.zone.as_str().into(),
        roots: roots(proxy)?,
    })
}

/// All or nothing: with a root that cannot be used the proxy could not judge all of its peers.
fn roots(proxy: &v1::Proxy) -> Result<Option<Roots>, Wrong> {
    let certificates: Vec<_> = proxy.roots.iter().cloned().map(CertificateDer::from).collect();
    let bad = certificates.iter().position(|root| weft_api::tls::validity(root).is_none());
    match bad {
        Some(bad) => Err(format!("roots: the certificate at {bad} cannot be read")),
        None => Ok((!certificates.is_empty()).then_some(Roots { certificates, number: proxy.roots_number })),
    }
}

fn outbound_listener(listener: &v1::OutboundListener) -> Result<OutboundListener, Wrong> {
    Ok(OutboundListener {
        listen: address(&listener.listen, "outbound.listen")?,
        destination: listener.destination.as_str().into(),
        protocol: listener.protocol(),
    })
}

fn inbound_config(
    inbound: &v1::Inbound,
    (jwt, made_of): (Option<jwt::Policy>, Vec<Origin>),
    previous: Option<&InboundConfig>,
) -> Result<InboundConfig, Wrong> {
    let known = previous.map(|previous| &previous.rate_limits);
    let authz = inbound.authorization.as_ref().map(authz::Policy::new).transpose();
    Ok(InboundConfig {
        identity: inbound.identity.parse().map_err(|e| format!("identity: {e}"))?,
        ports: inbound.ports.iter().map(inbound_port).collect::<Result<_, _>>()?,
        mtls: match inbound.mtls() {
            v1::MtlsMode::Unspecified => v1::MtlsMode::Strict,
            given => given,
        },
        jwt,
        authz: authz.map_err(|e| words(&e))?,
        rate_limits: RateLimits::new(&inbound.rate_limits, known, Instant::now()).map_err(|e| words(&e))?,
        limits: previous.map_or_else(Arc::default, |previous| Arc::clone(&previous.limits)),
        made_of,
        limits_config: inbound.limits,
        max_body: inbound.max_body_bytes,
    })
}

fn inbound_port(port: &v1::InboundPort) -> Result<Arc<InboundPort>, Wrong> {
    let listen = match port.listen.as_str() {
        "" => None,
        text => Some(address(text, "ports.listen")?),
    };
    Ok(Arc::new(InboundPort {
        name: port.name.as_str().into(),
        protocol: port.protocol(),
        listen,
        app: address(&port.app, "ports.app")?,
        port: port_number(port.port, "ports.port")?,
    }))
}

/// The words of an error and of its cause.
fn words(error: &ConfigError) -> Wrong {
    match std::error::Error::source(error) {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

fn mtls_peer(mtls: &v1::Mtls) -> Result<MtlsPeer, Wrong> {
    let parse = |id: &String| id.parse().map_err(|e| format!("mtls.identities: {e}"));
    Ok(MtlsPeer {
        identities: mtls.identities.iter().map(parse).collect::<Result<_, _>>()?,
        server_name: mtls.server_name.clone().try_into().map_err(|e| format!("mtls.server_name: {e}"))?,
    })
}

fn millis(ms: u64) -> Option<Duration> {
    (ms > 0).then(|| Duration::from_millis(ms))
}

fn port_number(port: u32, field: &str) -> Result<u16, Wrong> {
    u16::try_from(port).map_err(|_| format!("{field}: {port} is not a port"))
}

fn address(text: &str, field: &str) -> Result<SocketAddr, Wrong> {
    text.parse().map_err(|_| format!("{field}: `{text}` is not an address (127.0.0.1:8080)"))
}
