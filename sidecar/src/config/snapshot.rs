//! The configuration as requests read it: everything parsed, compiled and indexed, nothing left to fail.
//! State that must outlive a configuration (breakers, balancers, limits) hangs here by `Arc` and is carried from one
//! snapshot to the next by `build`.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rustls_pki_types::CertificateDer;
use weft_api::spiffe::SpiffeId;
use weft_api::v1::{self, resource::Body};

use crate::policy::breaker::Breaker;
use crate::policy::fault::Faults;
use crate::policy::jwt::KeySet;
use crate::policy::limits::Limits;
use crate::policy::pattern::HostPattern;
use crate::policy::rate_limit::RateLimits;
use crate::policy::retry::{self, budget::Budget};
use crate::policy::route::Table;
use crate::policy::{authz, jwt, outlier};
use crate::telemetry::Direction;
use crate::telemetry::metrics::{Metrics, PeerMetrics};
use crate::upstream::balance::Balancer;

/// One whole configuration.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// What concerns the proxy itself.
    pub proxy: ProxyConfig,
    /// The workload beside it; none at a gateway.
    pub inbound: Option<Arc<InboundConfig>>,
    /// Listeners at the edge; none at a sidecar.
    pub gateway: Option<Arc<GatewayConfig>>,
    /// Destinations asked for so far, by name (`shop/user:grpc`).
    pub destinations: HashMap<Arc<str>, Arc<Destination>>,
    /// Addresses asked for so far. The very same map as before where none of them has changed, so that a connection can
    /// tell whether what it found still holds.
    pub addresses: Arc<Addresses>,
    /// Destinations asked for that the operator says do not exist.
    pub unknown: HashSet<Arc<str>>,
    /// Keys of token issuers by name, with the resource they were parsed from.
    pub keys: ParsedKeys,
    /// The resources it was built from, for admin and for the next build.
    pub resources: Resources,
}

/// Where addresses lead, by the names they were asked under (`shop/user:80`, `10.96.3.4:80`).
pub type Addresses = HashMap<Box<str>, Address>;
/// Resources by kind and name.
pub type Resources = HashMap<(v1::Kind, String), Arc<v1::Resource>>;
/// Key sets by name.
pub type ParsedKeys = HashMap<Box<str>, (Arc<v1::Resource>, Arc<KeySet>)>;
/// What something was compiled from; none where the resource is missing.
pub(super) type Origin = Option<Arc<v1::Resource>>;

impl Snapshot {
    /// Whether the proxy has been told who it is.
    pub fn configured(&self) -> bool {
        self.inbound.is_some() || self.gateway.is_some() || !self.proxy.outbound.is_empty()
    }
}

/// Who this proxy is and what it tells.
#[derive(Debug)]
pub struct ProxyConfig {
    /// `cluster.local`.
    pub trust_domain: Arc<str>,
    /// `<namespace>/<service>`.
    pub service: Arc<str>,
    /// Where spans go, `http://host:4317`.
    pub otlp_endpoint: Option<Box<str>>,
    /// Share of the traces started here that are recorded.
    pub sampling: f64,
    /// Which requests are logged.
    pub access_log: v1::AccessLog,
    /// Explicit listeners, one per destination.
    pub outbound: Vec<OutboundListener>,
    /// Traffic to destinations the mesh does not know.
    pub outbound_policy: v1::OutboundPolicy,
    /// For global rate limits.
    pub redis_url: Option<Box<str>>,
    /// Trusted proxies in front of the gateways.
    pub trusted_hops: usize,
    /// Where this proxy runs; empty: not known.
    pub zone: Arc<str>,
    /// The roots of the mesh, where the operator says them; `certs.rs` puts them in force.
    pub roots: Option<Roots>,
}

/// The roots of the mesh.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Roots {
    /// All of them.
    pub certificates: Vec<CertificateDer<'static>>,
    /// Which these are: a higher number is newer.
    pub number: i64,
}

impl Default for ProxyConfig {
    fn default() -> Self {
        Self {
            trust_domain: weft_api::names::DEFAULT_TRUST_DOMAIN.into(),
            service: "unknown/unknown".into(),
            otlp_endpoint: None,
            sampling: 0.0,
            access_log: v1::AccessLog::Errors,
            outbound: Vec::new(),
            outbound_policy: v1::OutboundPolicy::Allow,
            redis_url: None,
            trusted_hops: 0,
            zone: "".into(),
            roots: None,
        }
    }
}

/// Where the application finds one destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboundListener {
    /// Address to bind.
    pub listen: SocketAddr,
    /// Destination name.
    pub destination: Arc<str>,
    /// What the application speaks there.
    pub protocol: v1::Protocol,
}

/// The workload beside this proxy.
#[derive(Debug)]
pub struct InboundConfig {
    /// Its identity.
    pub identity: SpiffeId,
    /// Its ports.
    pub ports: Vec<Arc<InboundPort>>,
    /// What is asked of peers.
    pub mtls: v1::MtlsMode,
    /// Which tokens are asked for; none: no token is looked at.
    pub jwt: Option<jwt::Policy>,
    /// Who may do what; none: everything is allowed.
    pub authz: Option<authz::Policy>,
    /// How often.
    pub rate_limits: RateLimits,
    /// What may be in flight at once.
    pub limits: Arc<Limits>,
    /// Bytes of a request's body; 0: no limit.
    pub max_body: u64,
    pub(super) made_of: Vec<Origin>,
    pub(super) limits_config: Option<v1::Limits>,
}

impl InboundConfig {
    /// Has what is shared with the previous snapshot follow this one's policy.
    pub(super) fn adopt(&self) {
        self.limits.update(self.limits_config.as_ref());
    }

    /// The port of this name.
    pub fn port(&self, name: &str) -> Option<&Arc<InboundPort>> {
        self.ports.iter().find(|port| &*port.name == name)
    }
}

/// One port of the workload.
#[derive(Debug, PartialEq, Eq)]
pub struct InboundPort {
    /// `http`.
    pub name: Arc<str>,
    /// What the application speaks.
    pub protocol: v1::Protocol,
    /// Where the proxy listens; none where traffic is redirected.
    pub listen: Option<SocketAddr>,
    /// Where the application listens.
    pub app: SocketAddr,
    /// Number that peers and rules name.
    pub port: u16,
}

/// Listeners at the edge.
#[derive(Debug)]
pub struct GatewayConfig {
    /// Identity of the gateway.
    pub identity: SpiffeId,
    /// Where it listens.
    pub listeners: Vec<Arc<GatewayListener>>,
}

/// One listener at the edge.
#[derive(Debug)]
pub struct GatewayListener {
    /// Its name in the Gateway.
    pub name: Arc<str>,
    /// Address to bind.
    pub listen: SocketAddr,
    /// Whether it speaks TLS, and whether that ends here.
    pub tls: EdgeTls,
    /// Only this host (`*.example.org` allowed); none: all.
    pub hostname: Option<HostPattern>,
    /// Where requests go, or connections where TLS goes through.
    pub routes: Table,
}

/// TLS of a listener at the edge.
#[derive(Clone, Debug)]
pub enum EdgeTls {
    /// None: plain HTTP.
    Plain,
    /// It ends here, with this configuration, ready-made.
    Ends(Arc<rustls::ServerConfig>),
    /// It goes through.
    Through,
}

/// How to call one port of one service.
#[derive(Debug)]
pub struct Destination {
    /// `shop/user:grpc`.
    pub name: Arc<str>,
    /// `shop/user`.
    pub service: Arc<str>,
    /// Number of the service's port.
    pub port: u16,
    /// What it speaks.
    pub protocol: v1::Protocol,
    /// Identities that may serve it and the TLS name to send; none: no mutual TLS.
    pub mtls: Option<MtlsPeer>,
    /// For the whole request, retries included; none: no limit.
    pub timeout: Option<Duration>,
    /// For making one connection.
    pub connect_timeout: Duration,
    /// Pooled connections unused for longer are closed.
    pub idle_timeout: Duration,
    /// Raw and upgraded connections without a byte for longer are closed; none: never.
    pub stream_idle_timeout: Option<Duration>,
    /// Its endpoints and the choice among them.
    pub balancer: Balancer,
    /// Its circuit breaker, kept over updates.
    pub breaker: Option<Arc<Breaker>>,
    /// When an endpoint is left out.
    pub outlier: Option<outlier::Policy>,
    /// When a request is sent again.
    pub retry: retry::Policy,
    /// How often requests may be sent again.
    pub budget: Arc<Budget>,
    /// What may be in flight at once.
    pub limits: Arc<Limits>,
    /// Copies for mirroring that may be under way to it at once.
    pub mirrors: Arc<Limits>,
    /// Faults to inject.
    pub faults: Faults,
    /// How old an answer may be that is served while the breaker is open; none: no such answer.
    pub stale: Option<Duration>,
    /// Its routes inside the mesh; none: everything goes to itself.
    pub routes: Option<Table>,
    /// Its own tokens, which a gateway checks at the edge already.
    pub jwt: Option<jwt::Policy>,
    pub(super) made_of: Sources,
    pub(super) metrics: OnceLock<Arc<PeerMetrics>>,
}

/// The resources that a destination is made of; all but the keys bear its name.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Sources {
    pub(super) spec: Origin,
    pub(super) endpoints: Origin,
    pub(super) routes: Origin,
    pub(super) keys: Vec<Origin>,
    /// The proxy's own, of which the choice among endpoints may depend.
    pub(super) zone: Arc<str>,
}

impl Destination {
    /// Has what is shared with the previous snapshot follow this one's policy.
    pub(super) fn adopt(&self) {
        if let Some(Body::Destination(spec)) = self.made_of.spec.as_ref().and_then(|r| r.body.as_ref()) {
            self.limits.update(spec.limits.as_ref());
            self.budget.update(spec.retries.as_ref());
        }
    }

    /// Its counters, resolved at the first use.
    pub fn metrics(&self, direction: Direction, metrics: &Metrics) -> &Arc<PeerMetrics> {
        self.metrics.get_or_init(|| {
            let peer = metrics.peer(direction, &self.name);
            if let Some(breaker) = &self.breaker {
                peer.breaker_state(breaker.state());
            }
            peer
        })
    }
}

/// Where an address leads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Address {
    /// The destination; none where the mesh does not know the address.
    pub destination: Option<Arc<str>>,
    /// Where the address is that of one instance, this one alone.
    pub pinned: Option<Pinned>,
}

/// The one endpoint that an address stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pinned {
    /// Where it is.
    pub address: SocketAddr,
    /// Whether it is spoken to over mutual TLS.
    pub meshed: bool,
}

/// Who must be at the other end.
#[derive(Debug)]
pub struct MtlsPeer {
    /// Any of these.
    pub identities: Vec<SpiffeId>,
    /// TLS server name.
    pub server_name: rustls_pki_types::ServerName<'static>,
}
