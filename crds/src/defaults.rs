//! Every default of the custom resources, in one place.
//!
//! The schema, the effective values that core reads and the documentation all take them from here, so that they
//! cannot say different things. Fields that `Mesh.spec.defaults` may override have no default in the schema;
//! their value is the service's own, else the mesh's, else the one here.

use crate::duration::Duration;
use crate::microservice::retry_on::RetryOn;
use crate::microservice::{AccessLog, MtlsMode};

/// Trust domain of a mesh that names none.
pub const TRUST_DOMAIN: &str = "cluster.local";
/// Life of a sidecar's certificate.
pub const CERTIFICATE_LIFETIME: Duration = Duration::from_secs(24 * 3600);
/// Share of its life after which a certificate is renewed, in percent.
pub const RENEW_PERCENT: u8 = 70;
/// Life of a root certificate that the operator made.
pub const ROOT_LIFETIME: Duration = Duration::from_secs(8760 * 3600);
/// How long before its end a root is joined by its successor.
pub const ROOT_OVERLAP: Duration = Duration::from_secs(720 * 3600);

/// Mutual TLS mode where neither service nor mesh says one.
pub const MTLS_MODE: MtlsMode = MtlsMode::Strict;
/// Share of requests that start a trace.
pub const TRACE_SAMPLING: f64 = 0.1;
/// What the access log holds.
pub const ACCESS_LOG: AccessLog = AccessLog::Errors;

/// Header that carries the token where `from` is left out.
pub const TOKEN_HEADER: &str = "Authorization";
/// What stands before the token in [`TOKEN_HEADER`].
pub const TOKEN_PREFIX: &str = "Bearer ";
/// Key of a Secret that holds a key set.
pub const JWKS_SECRET_KEY: &str = "jwks.json";
/// Key of a Secret that holds the address of Redis.
pub const REDIS_SECRET_KEY: &str = "url";

/// Time for a whole request, retries included.
pub const TIMEOUT: Duration = Duration::from_secs(5);
/// Time to connect to an endpoint, TLS included.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// Time a stream, WebSocket or TCP connection may stay silent.
pub const IDLE_TIMEOUT: Duration = Duration::from_secs(3600);

/// Retries after the first attempt.
pub const RETRY_ATTEMPTS: u32 = 3;
/// Pause before the first retry; it doubles with each one.
pub const BACKOFF_BASE: Duration = Duration::from_secs(1);
/// Longest pause between two attempts.
pub const BACKOFF_MAX: Duration = Duration::from_secs(10);
/// Share of the pause that is random.
pub const BACKOFF_JITTER: f64 = 0.5;
/// Retries allowed, in percent of requests.
pub const RETRY_BUDGET_PERCENT: f64 = 20.0;
/// Retries allowed per second whatever the percentage.
pub const RETRY_BUDGET_MIN_PER_SECOND: u32 = 10;
/// Further instances that a hedged request goes to.
pub const HEDGE_MAX: u32 = 1;
/// What is retried where a `retries` block does not say.
pub const RETRY_ON: [RetryOn; 5] =
    [RetryOn::Connect, RetryOn::Reset, RetryOn::Status(502), RetryOn::Status(503), RetryOn::Status(504)];

/// Failures in a row that open the breaker.
pub const BREAKER_CONSECUTIVE_FAILURES: u32 = 5;
/// Share of failures in the window that opens the breaker.
pub const BREAKER_FAILURE_RATIO: f64 = 0.6;
/// Requests in the window below which the ratio says nothing.
pub const BREAKER_MIN_REQUESTS: u32 = 3;
/// Window over which the ratio is taken.
pub const BREAKER_WINDOW: Duration = Duration::from_secs(10);
/// Time the breaker stays open before it lets trial requests through.
pub const BREAKER_OPEN_FOR: Duration = Duration::from_secs(60);
/// Trial requests while half open; as many successes close the breaker.
pub const BREAKER_HALF_OPEN_REQUESTS: u32 = 3;

/// Failures in a row that eject one endpoint.
pub const OUTLIER_CONSECUTIVE_FAILURES: u32 = 5;
/// First ejection's length.
pub const OUTLIER_EJECT: Duration = Duration::from_secs(30);
/// Most endpoints that may be ejected at once, in percent.
pub const OUTLIER_MAX_EJECTED_PERCENT: u8 = 50;
/// Share of endpoints in use, in percent, below which ejected ones are used too.
pub const OUTLIER_PANIC_PERCENT: u8 = 0;

/// Connections from one sidecar to a service.
pub const LIMIT_CONNECTIONS: u32 = 1024;
/// Requests of one sidecar that wait for a connection.
pub const LIMIT_PENDING: u32 = 1024;
/// Requests of one sidecar under way at once.
pub const LIMIT_REQUESTS: u32 = 4096;
/// Age up to which an answer may be served while the breaker is open.
pub const FALLBACK_STALE: Duration = Duration::from_secs(600);

/// Period of a rate limit.
pub const RATE_LIMIT_PER: Duration = Duration::from_secs(60);

/// Path that says whether the service is healthy.
pub const HEALTH_PATH: &str = "/health";
/// Least replicas under autoscaling.
pub const AUTOSCALING_MIN: u32 = 1;
/// CPU use that autoscaling aims at, in percent of the request.
pub const AUTOSCALING_CPU_PERCENT: u32 = 70;
/// Replicas where neither `replicas` nor `autoscaling` is given.
pub const REPLICAS: u32 = 1;
/// Label that selects a service's pods where no selector is given; its value is the resource's name.
pub const NAME_LABEL: &str = "app.kubernetes.io/name";

// Functions for `#[serde(default = "…")]`, which takes no constants.

pub(crate) fn yes() -> bool {
    true
}

pub(crate) fn trust_domain() -> String {
    TRUST_DOMAIN.to_owned()
}

pub(crate) fn certificate_lifetime() -> Duration {
    CERTIFICATE_LIFETIME
}

pub(crate) fn renew_percent() -> u8 {
    RENEW_PERCENT
}

pub(crate) fn root_lifetime() -> Duration {
    ROOT_LIFETIME
}

pub(crate) fn root_overlap() -> Duration {
    ROOT_OVERLAP
}

pub(crate) fn jwks_secret_key() -> String {
    JWKS_SECRET_KEY.to_owned()
}

pub(crate) fn redis_secret_key() -> String {
    REDIS_SECRET_KEY.to_owned()
}

pub(crate) fn rate_limit_per() -> Duration {
    RATE_LIMIT_PER
}

pub(crate) fn hedge_max() -> u32 {
    HEDGE_MAX
}

pub(crate) fn health_path() -> String {
    HEALTH_PATH.to_owned()
}

pub(crate) fn autoscaling_min() -> u32 {
    AUTOSCALING_MIN
}

pub(crate) fn autoscaling_cpu_percent() -> u32 {
    AUTOSCALING_CPU_PERCENT
}
