//! The rules across fields, block by block, in the order of the resource.
//!
//! Each function takes a block and the way to it. The field named is the one to change, which may lie deeper
//! than the block that carries the CEL rule. Rules of single values are checked with the schema.

use serde_json::Value;

use super::Broken;
use crate::duration::Duration;
use crate::field_path::FieldPath;
use crate::mesh::{Identity, MeshSpec};
use crate::microservice::{
    Algorithm, Authentication, Authorization, BalancePolicy, CircuitBreaker, Failure, Fault, JwtProvider,
    LoadBalancing, MicroserviceSpec, RateLimit, Resilience, Retries, Scope, Workload,
};
use crate::rules;

pub(super) fn microservice(spec: &MicroserviceSpec, at: &FieldPath, broken: &mut Broken) {
    let both = spec.workload.is_some() && spec.selector.is_some();
    broken.unless(!both, &rules::WORKLOAD_OR_SELECTOR, &at.field("selector"));
    ports(spec, at, broken);
    if let Some(block) = &spec.workload {
        workload(block, &at.field("workload"), broken);
    }
    if let Some(block) = &spec.authentication {
        authentication(block, &at.field("authentication"), broken);
    }
    if let Some(block) = &spec.authorization {
        authorization(block, &at.field("authorization"), broken);
    }
    if let Some(block) = &spec.resilience {
        resilience(block, &at.field("resilience"), broken);
    }
    for (index, limit) in spec.rate_limits.iter().enumerate() {
        rate_limit(limit, &at.field("rateLimits").index(index), broken);
    }
    if let Some(block) = &spec.load_balancing {
        load_balancing(block, &at.field("loadBalancing"), broken);
    }
}

pub(super) fn mesh(spec: &MeshSpec, at: &FieldPath, broken: &mut Broken) {
    identity(&spec.identity, &at.field("identity"), broken);
    if let Some(block) = &spec.defaults.resilience {
        resilience(block, &at.field("defaults").field("resilience"), broken);
    }
    if let Some(redis) = &spec.redis {
        let one = redis.url.is_some() != redis.secret_ref.is_some();
        broken.unless(one, &rules::REDIS_ONE, &at.field("redis"));
    }
}

fn ports(spec: &MicroserviceSpec, at: &FieldPath, broken: &mut Broken) {
    for (index, port) in spec.ports.iter().enumerate() {
        let before = spec.ports.get(..index).unwrap_or_default();
        let here = at.field("ports").index(index);
        let name_taken = before.iter().any(|other| other.name == port.name);
        broken.unless(!name_taken, &rules::PORT_NAMES, &here.field("name"));
        let number_taken = before.iter().any(|other| other.port == port.port);
        broken.unless(!number_taken, &rules::PORT_NUMBERS, &here.field("port"));
    }
    let health = spec.workload.as_ref().and_then(|workload| workload.health.as_ref());
    if let Some(name) = health.and_then(|health| health.port.as_deref()) {
        let field = at.field("workload").field("health").field("port");
        broken.unless(spec.port(name).is_some(), &rules::HEALTH_PORT, &field);
    }
}

fn workload(block: &Workload, at: &FieldPath, broken: &mut Broken) {
    let both = block.replicas.is_some() && block.autoscaling.is_some();
    broken.unless(!both, &rules::REPLICAS_OR_AUTOSCALING, &at.field("autoscaling"));
    if let Some(scaling) = &block.autoscaling {
        let field = at.field("autoscaling").field("min");
        broken.unless(scaling.min <= scaling.max, &rules::AUTOSCALING_BOUNDS, &field);
    }
    if let Some(disruption) = &block.disruption {
        let one = disruption.min_available.is_some() != disruption.max_unavailable.is_some();
        broken.unless(one, &rules::DISRUPTION_ONE, &at.field("disruption"));
    }
}

fn authentication(block: &Authentication, at: &FieldPath, broken: &mut Broken) {
    for (index, provider) in block.jwt.iter().enumerate() {
        jwt(provider, &at.field("jwt").index(index), broken);
    }
    for (index, exempt) in block.exempt.iter().enumerate() {
        let some = !exempt.methods.is_empty() || !exempt.paths.is_empty();
        broken.unless(some, &rules::EXEMPT_SOME, &at.field("exempt").index(index));
    }
}

fn jwt(provider: &JwtProvider, at: &FieldPath, broken: &mut Broken) {
    let jwks = &provider.jwks;
    let sources = [jwks.uri.is_some(), jwks.inline.is_some(), jwks.secret_ref.is_some()];
    broken.unless(exactly_one(&sources), &rules::JWKS_ONE, &at.field("jwks"));
    if let Some(inline) = &jwks.inline {
        broken.unless(is_key_set(inline), &rules::JWKS_INLINE, &at.field("jwks").field("inline"));
    }
    for (index, source) in provider.from.iter().enumerate() {
        let here = at.field("from").index(index);
        let places = [source.header.is_some(), source.cookie.is_some(), source.query.is_some()];
        broken.unless(exactly_one(&places), &rules::TOKEN_SOURCE_ONE, &here);
        let bare_prefix = source.prefix.is_some() && source.header.is_none();
        broken.unless(!bare_prefix, &rules::PREFIX_WITH_HEADER, &here.field("prefix"));
    }
}

fn authorization(block: &Authorization, at: &FieldPath, broken: &mut Broken) {
    for (index, rule) in block.rules.iter().enumerate() {
        let before = block.rules.get(..index).unwrap_or_default();
        let taken = before.iter().any(|other| other.name == rule.name);
        broken.unless(!taken, &rules::RULE_NAMES, &at.field("rules").index(index).field("name"));
    }
}

fn resilience(block: &Resilience, at: &FieldPath, broken: &mut Broken) {
    if let Some(block) = &block.retries {
        retries(block, &at.field("retries"), broken);
    }
    if let Some(block) = &block.circuit_breaker {
        circuit_breaker(block, &at.field("circuitBreaker"), broken);
    }
    for (index, fault) in block.faults.iter().enumerate() {
        let Fault { delay, abort, .. } = fault;
        broken.unless(
            delay.is_some() != abort.is_some(),
            &rules::FAULT_ONE,
            &at.field("faults").index(index),
        );
    }
}

fn retries(block: &Retries, at: &FieldPath, broken: &mut Broken) {
    let backoff = block.backoff.clone().unwrap_or_default();
    if let (Some(base), Some(max)) = (backoff.base, backoff.max) {
        broken.unless(base <= max, &rules::BACKOFF_BOUNDS, &at.field("backoff").field("base"));
    }
}

fn circuit_breaker(block: &CircuitBreaker, at: &FieldPath, broken: &mut Broken) {
    let ratio = block.failure_ratio.is_none_or(|ratio| ratio > 0.0);
    broken.unless(ratio, &rules::FAILURE_RATIO, &at.field("failureRatio"));
}

fn rate_limit(limit: &RateLimit, at: &FieldPath, broken: &mut Broken) {
    let (window, global) = (limit.algorithm == Algorithm::SlidingWindow, limit.scope == Scope::Global);
    broken.unless(!window || limit.burst.is_none(), &rules::BURST_OF_BUCKET, &at.field("burst"));
    let fits = !window || !global || limit.requests <= 10_000;
    broken.unless(fits, &rules::WINDOW_IN_REDIS, &at.field("requests"));
    let failure = global || limit.failure == Failure::Open;
    broken.unless(failure, &rules::FAILURE_OF_GLOBAL, &at.field("failure"));
}

fn load_balancing(block: &LoadBalancing, at: &FieldPath, broken: &mut Broken) {
    let hashes = block.policy == BalancePolicy::ConsistentHash;
    broken.unless(hashes == block.consistent_hash.is_some(), &rules::HASH_WITH_POLICY, at);
    let slow = block.slow_start.is_some() && hashes;
    broken.unless(!slow, &rules::SLOW_START_WITHOUT_HASH, &at.field("slowStart"));
    if let Some(hash) = &block.consistent_hash {
        let keys = [hash.header.is_some(), hash.cookie.is_some(), hash.client_ip.is_some()];
        let here = at.field("consistentHash");
        broken.unless(exactly_one(&keys), &rules::HASH_ONE, &here);
        let bare = hash.cookie_lifetime.is_some() && hash.cookie.is_none();
        broken.unless(!bare, &rules::LIFETIME_OF_COOKIE, &here.field("cookieLifetime"));
    }
}

fn identity(block: &Identity, at: &FieldPath, broken: &mut Broken) {
    let lifetime = block.certificate_lifetime;
    let field = at.field("certificateLifetime");
    broken.unless(lifetime >= Duration::from_secs(60), &rules::CERTIFICATE_LIFETIME, &field);
    broken.unless(lifetime < block.root_lifetime, &rules::ROOT_OUTLIVES, &field);
    broken.unless(block.root_overlap < block.root_lifetime, &rules::ROOT_OVERLAP, &at.field("rootOverlap"));
}

fn exactly_one(given: &[bool]) -> bool {
    given.iter().filter(|given| **given).count() == 1
}

fn is_key_set(text: &str) -> bool {
    serde_json::from_str::<Value>(text).is_ok_and(|value| value["keys"].is_array())
}
