//! How callers treat one port of a service: protocol, identity to expect, timeouts, retries, breaker, limits.
//!
//! The service's own values win over the mesh's, those over the built-in ones; `weft-crds` puts them together.

use weft_api::v1;
use weft_crds::microservice::{
    BalancePolicy, EffectiveBreaker, EffectiveLimits, EffectiveOutlier, EffectiveResilience,
    EffectiveRetries, Fault, FaultAction, FaultWhen, HashKey, LoadBalancing, Microservice, MtlsMode, Port,
    Resilience, RetryOn, ZoneUse,
};

use super::inbound::millis;
use super::resource::Body;
use super::{authentication, authorization, proxy};
use crate::world::lookup::hosts;
use crate::world::{Name, World};

/// The Destination resource of one port.
pub fn of(world: &World, workload: &Name, service: &Microservice, port: &Port) -> Body {
    let resilience = resilience(world, service);
    Body::Destination(v1::Destination {
        protocol: proxy::protocol(world, workload, port).into(),
        mtls: mtls(world, workload, service, port),
        timeout_ms: resilience.timeout.map(millis).unwrap_or_default(),
        connect_timeout_ms: millis(resilience.connect_timeout),
        idle_timeout_ms: resilience.idle_timeout.map(millis).unwrap_or_default(),
        retries: resilience.retries.as_ref().map(retries),
        breaker: resilience.circuit_breaker.as_ref().map(breaker),
        outlier: resilience.outlier_detection.map(outlier),
        limits: Some(limits(resilience.limits)),
        fallback_stale_ms: resilience.stale.map(millis).unwrap_or_default(),
        faults: resilience.faults.iter().filter_map(fault).collect(),
        load_balancing: Some(balancing(&service.spec.effective_load_balancing())),
        authentication: authentication::of(world, workload, service),
        hosts: hosts(workload),
        service: workload.to_string(),
        port: port.port.into(),
    })
}

/// What is in force for this service: its own word, else the mesh's.
pub(super) fn resilience(world: &World, service: &Microservice) -> EffectiveResilience {
    Resilience::effective(service.spec.resilience.as_ref(), world.mesh().defaults.resilience.as_ref())
}

fn mtls(world: &World, workload: &Name, service: &Microservice, port: &Port) -> Option<v1::Mtls> {
    let on = world.mtls_mode(service) != MtlsMode::Disabled;
    let Name { namespace, name } = workload;
    on.then(|| v1::Mtls {
        identities: world.serving_identities(workload),
        server_name: format!("{}.{name}.{namespace}.svc", port.name),
    })
}

fn retries(retries: &EffectiveRetries) -> v1::Retries {
    let statuses = retries.on.iter().filter_map(|on| match on {
        RetryOn::Status(status) => Some(u32::from(*status)),
        _ => None,
    });
    let mut on_status: Vec<u32> = statuses.collect();
    on_status.sort_unstable();
    on_status.dedup();
    let mut on_grpc: Vec<u32> = on_status.iter().copied().filter_map(grpc_code).collect();
    on_grpc.sort_unstable();
    v1::Retries {
        attempts: retries.attempts,
        backoff_base_ms: millis(retries.base),
        backoff_max_ms: millis(retries.max),
        jitter: retries.jitter,
        budget_percent: whole_percent(retries.budget_percent),
        budget_min_per_second: retries.budget_min_per_second,
        on_connect: retries.on.contains(&RetryOn::Connect),
        on_reset: retries.on.contains(&RetryOn::Reset),
        on_timeout: retries.on.contains(&RetryOn::Timeout),
        on_status,
        on_grpc,
        hedge_after_ms: retries.hedge.map(|hedge| millis(hedge.after)).unwrap_or_default(),
        hedge_max: retries.hedge.map(|hedge| hedge.max).unwrap_or_default(),
    }
}

/// The gRPC code that a status stands for in a list of what to retry.
fn grpc_code(status: u32) -> Option<u32> {
    match status {
        429 => Some(8),
        503 => Some(14),
        504 => Some(4),
        _ => None,
    }
}

/// A share above zero never becomes none.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "clamped to 0 to 1000 just before"
)]
fn whole_percent(percent: f64) -> u32 {
    percent.clamp(0.0, 1000.0).ceil() as u32
}

fn breaker(breaker: &EffectiveBreaker) -> v1::CircuitBreaker {
    let ratio = breaker.failure_ratio;
    v1::CircuitBreaker {
        consecutive_failures: breaker.consecutive_failures.unwrap_or_default(),
        failure_ratio: ratio.map(|ratio| ratio.ratio).unwrap_or_default(),
        min_requests: ratio.map(|ratio| ratio.min_requests).unwrap_or_default(),
        window_ms: ratio.map(|ratio| millis(ratio.window)).unwrap_or_default(),
        open_for_ms: millis(breaker.open_for),
        half_open_requests: breaker.half_open_requests,
    }
}

fn outlier(outlier: EffectiveOutlier) -> v1::Outlier {
    v1::Outlier {
        consecutive_failures: outlier.consecutive_failures,
        eject_ms: millis(outlier.eject),
        max_ejected_percent: outlier.max_ejected_percent.into(),
        panic_percent: outlier.panic_percent.into(),
    }
}

fn limits(limits: EffectiveLimits) -> v1::Limits {
    let EffectiveLimits { connections, pending, requests, body: _ } = limits;
    v1::Limits { connections, pending, requests }
}

fn fault(fault: &Fault) -> Option<v1::Fault> {
    use v1::fault::Kind;
    let kind = match fault.action()? {
        FaultAction::Delay(delay) => Kind::DelayMs(millis(delay)),
        FaultAction::Abort(status) => Kind::AbortStatus(status.into()),
    };
    let FaultWhen { methods, paths, headers } = fault.when.clone();
    let any = methods.is_empty() && paths.is_empty();
    let to = v1::RequestMatch { methods, paths, ..v1::RequestMatch::default() };
    Some(v1::Fault {
        percent: fault.percent,
        kind: Some(kind),
        to: (!any).then_some(to).into_iter().collect(),
        headers: headers.iter().map(|(name, values)| authorization::header(name, values)).collect(),
    })
}

fn balancing(balancing: &LoadBalancing) -> v1::LoadBalancing {
    use v1::hash_on::On;
    let policy = match balancing.policy {
        BalancePolicy::PeakEwma => v1::LbPolicy::PeakEwma,
        BalancePolicy::LeastRequest => v1::LbPolicy::LeastRequest,
        BalancePolicy::RoundRobin => v1::LbPolicy::RoundRobin,
        BalancePolicy::Random => v1::LbPolicy::Random,
        BalancePolicy::ConsistentHash => v1::LbPolicy::ConsistentHash,
    };
    let on = balancing.consistent_hash.as_ref().map(|hash| match hash.key() {
        HashKey::Header(name) => On::Header(name.to_ascii_lowercase()),
        HashKey::Cookie(name) => On::Cookie(name.to_owned()),
        HashKey::ClientIp => On::ClientIp(true),
    });
    let lifetime = balancing.consistent_hash.as_ref().and_then(|hash| hash.cookie_lifetime);
    let set_cookie_ms = lifetime.map(millis);
    v1::LoadBalancing {
        policy: policy.into(),
        hash_on: on.map(|on| v1::HashOn { on: Some(on), set_cookie_ms }),
        slow_start_ms: balancing.slow_start.map(millis).unwrap_or_default(),
        prefer_zone: balancing.zone == ZoneUse::Prefer,
    }
}
