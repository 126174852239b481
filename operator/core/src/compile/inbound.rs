//! What a service's own proxy does with what comes in: ports, mutual TLS, tokens, rules, rate limits, size of bodies.
//!
//! Limits on connections are the callers' (see `destination`), so none are compiled here.

use weft_api::v1;
use weft_crds::Size;
use weft_crds::microservice::{
    Algorithm, Failure, LimitHeaders, Microservice, MtlsMode, Port, RateLimit, RateLimitKey, Scope,
};

use super::resource::Body;
use super::{authentication, authorization, destination, proxy};
use crate::world::{InstanceRef, Name, World};

/// The Inbound resource of an instance.
pub fn of(world: &World, instance: &InstanceRef, service: &Microservice) -> Body {
    let workload = &instance.workload;
    let limits = service.spec.rate_limits.iter().enumerate();
    Body::Inbound(v1::Inbound {
        identity: world.instance_identity(instance),
        ports: ports(world, instance, service),
        mtls: mtls(world.mtls_mode(service)).into(),
        authentication: authentication::of(world, workload, service),
        authorization: authorization::of(world, workload, service),
        rate_limits: limits.map(|limit| rate_limit(world, workload, service, limit)).collect(),
        limits: None,
        max_body_bytes: destination::resilience(world, service).limits.body.map_or(0, Size::bytes),
    })
}

/// The Inbound resource of an instance that is no part of a service: its proxy lets in what comes.
pub fn bare(world: &World, instance: &InstanceRef) -> Body {
    Body::Inbound(v1::Inbound {
        identity: world.instance_identity(instance),
        mtls: v1::MtlsMode::Permissive.into(),
        ..v1::Inbound::default()
    })
}

fn ports(world: &World, instance: &InstanceRef, service: &Microservice) -> Vec<v1::InboundPort> {
    let known = world.instance(instance);
    let port = |port: &Port| {
        let addresses = known.and_then(|known| known.ports.get(&port.name));
        // Where peers connect to the application's own address, traffic is redirected and the proxy needs no listener.
        let listen = addresses.filter(|addresses| addresses.peers != addresses.app);
        let app = addresses.map(|addresses| addresses.app.to_string());
        v1::InboundPort {
            name: port.name.clone(),
            protocol: proxy::protocol(world, &instance.workload, port).into(),
            listen: listen.map(|addresses| addresses.peers.to_string()).unwrap_or_default(),
            app: app.unwrap_or_else(|| format!("127.0.0.1:{}", port.target())),
            port: port.port.into(),
        }
    };
    service.spec.ports.iter().map(port).collect()
}

fn mtls(mode: MtlsMode) -> v1::MtlsMode {
    match mode {
        MtlsMode::Strict => v1::MtlsMode::Strict,
        MtlsMode::Permissive => v1::MtlsMode::Permissive,
        MtlsMode::Disabled => v1::MtlsMode::Disabled,
    }
}

fn rate_limit(
    world: &World,
    workload: &Name,
    service: &Microservice,
    (at, limit): (usize, &RateLimit),
) -> v1::RateLimit {
    use v1::rate_limit_key::Key;
    let key = match &limit.key {
        RateLimitKey::ClientIp => Key::ClientIp(true),
        RateLimitKey::Identity => Key::Identity(true),
        RateLimitKey::Claim(name) => Key::Claim(name.clone()),
        RateLimitKey::Header(name) => Key::Header(name.clone()),
    };
    v1::RateLimit {
        name: format!("{workload}/{at}"),
        requests: limit.requests,
        per_ms: millis(limit.per),
        burst: limit.burst(),
        key: Some(v1::RateLimitKey { key: Some(key) }),
        // Without a Redis each instance counts by itself, which is better than not at all.
        global: limit.scope == Scope::Global && !world.redis_url().is_empty(),
        to: authorization::request(service, &limit.to).into_iter().collect(),
        fail_open: limit.scope == Scope::Global && limit.failure == Failure::Open,
        algorithm: match limit.algorithm {
            Algorithm::TokenBucket => v1::RateLimitAlgorithm::TokenBucket,
            Algorithm::SlidingWindow => v1::RateLimitAlgorithm::SlidingWindow,
        }
        .into(),
        headers: match limit.headers {
            LimitHeaders::None => v1::LimitHeaders::None,
            LimitHeaders::Refused => v1::LimitHeaders::Refused,
            LimitHeaders::All => v1::LimitHeaders::All,
        }
        .into(),
    }
}

/// Whole milliseconds.
pub(super) fn millis(duration: weft_crds::Duration) -> u64 {
    u64::try_from(duration.get().as_millis()).unwrap_or(u64::MAX)
}
