//! Rules across fields: each with its CEL text for the API server and its words for people.
//!
//! The schema carries the CEL (`x-kubernetes-validations`), [`crate::validate`] says the same in Rust, and both use
//! the words here, so that a refusal reads the same from `kubectl`, `weft check` and the webhook.

use serde_json::{Value, json};

/// A rule across fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule {
    /// The rule in CEL; `self` is the block that carries it. Empty for what CEL cannot say.
    pub cel: &'static str,
    /// What is wrong when it does not hold.
    pub message: &'static str,
    /// What to do then.
    pub remedy: &'static str,
}

const fn rule(cel: &'static str, message: &'static str, remedy: &'static str) -> Rule {
    Rule { cel, message, remedy }
}

/// A service either runs a workload or attaches to one.
pub const WORKLOAD_OR_SELECTOR: Rule = rule(
    "!(has(self.workload) && has(self.selector))",
    "both workload and selector are given",
    "keep workload to let the operator run the service, or selector to attach to pods that exist",
);
/// Names of ports are unique.
pub const PORT_NAMES: Rule = rule(
    "self.ports.all(p, self.ports.exists_one(q, q.name == p.name))",
    "two ports have the same name",
    "give each port a name of its own",
);
/// Numbers of ports are unique.
pub const PORT_NUMBERS: Rule = rule(
    "self.ports.all(p, self.ports.exists_one(q, q.port == p.port))",
    "two ports have the same number",
    "give each port a number of its own",
);
/// The port of the health check is one of the ports.
pub const HEALTH_PORT: Rule = rule(
    "!has(self.workload) || !has(self.workload.health) || !has(self.workload.health.port) || \
     self.ports.exists(p, p.name == self.workload.health.port)",
    "workload.health.port is not the name of a port",
    "write the name of one of spec.ports",
);
/// The name of a service is that of a Kubernetes Service.
pub const MICROSERVICE_NAME: Rule = rule(
    "self.metadata.name.matches('^[a-z]([-a-z0-9]{0,61}[a-z0-9])?$')",
    "the name cannot be that of a Service",
    "write 1 to 63 lower-case letters, digits and dashes, a letter first and no dash last, like order",
);
/// Rules of `Microservice`.
pub const MICROSERVICE_ROOT: &[Rule] = &[MICROSERVICE_NAME];
/// Rules of `Microservice.spec`.
pub const MICROSERVICE: &[Rule] = &[WORKLOAD_OR_SELECTOR, PORT_NAMES, PORT_NUMBERS, HEALTH_PORT];

/// The number of instances is fixed or scaled.
pub const REPLICAS_OR_AUTOSCALING: Rule = rule(
    "!(has(self.replicas) && has(self.autoscaling))",
    "both replicas and autoscaling are given",
    "keep replicas for a fixed number, or autoscaling for one by load",
);
/// Rules of `workload`.
pub const WORKLOAD: &[Rule] = &[REPLICAS_OR_AUTOSCALING];

/// Least instances are no more than most.
pub const AUTOSCALING_BOUNDS: Rule =
    rule("self.min <= self.max", "min is greater than max", "lower min or raise max");
/// Rules of `workload.autoscaling`.
pub const AUTOSCALING: &[Rule] = &[AUTOSCALING_BOUNDS];

/// One of the two bounds of a disruption.
pub const DISRUPTION_ONE: Rule = rule(
    "has(self.minAvailable) != has(self.maxUnavailable)",
    "exactly one of minAvailable and maxUnavailable is needed",
    "keep one of them",
);
/// Rules of `workload.disruption`.
pub const DISRUPTION: &[Rule] = &[DISRUPTION_ONE];

/// One source of keys.
pub const JWKS_ONE: Rule = rule(
    "[has(self.uri), has(self.inline), has(self.secretRef)].exists_one(x, x)",
    "exactly one of uri, inline and secretRef is needed",
    "keep one of them",
);
/// A key set is JSON. CEL cannot read JSON, so only Rust says this; the webhook carries it to the cluster.
pub const JWKS_INLINE: Rule =
    rule("", "inline is not a JSON key set", "write the JSON that the issuer serves, like {\"keys\": [...]}");
/// Rules of `authentication.jwt[].jwks`.
pub const JWKS: &[Rule] = &[JWKS_ONE, JWKS_INLINE];

/// One place for a token.
pub const TOKEN_SOURCE_ONE: Rule = rule(
    "[has(self.header), has(self.cookie), has(self.query)].exists_one(x, x)",
    "exactly one of header, cookie and query is needed",
    "write one entry of the list for each place",
);
/// A prefix belongs to a header.
pub const PREFIX_WITH_HEADER: Rule = rule(
    "!has(self.prefix) || has(self.header)",
    "prefix is given without header",
    "remove prefix; only a header has one",
);
/// Rules of `authentication.jwt[].from[]`.
pub const TOKEN_SOURCE: &[Rule] = &[TOKEN_SOURCE_ONE, PREFIX_WITH_HEADER];

/// An exemption names something.
pub const EXEMPT_SOME: Rule = rule(
    "(has(self.methods) && size(self.methods) > 0) || (has(self.paths) && size(self.paths) > 0)",
    "neither methods nor paths are given, which would exempt every request",
    "name methods or paths, or set required: false",
);
/// Rules of `authentication.exempt[]`.
pub const EXEMPT: &[Rule] = &[EXEMPT_SOME];

/// Names of authorization rules are unique.
pub const RULE_NAMES: Rule = rule(
    "!has(self.rules) || self.rules.all(r, self.rules.exists_one(q, q.name == r.name))",
    "two rules have the same name",
    "give each rule a name of its own; logs name the rule that decided",
);
/// Rules of `authorization`.
pub const AUTHORIZATION: &[Rule] = &[RULE_NAMES];

/// What may be tried again.
pub const RETRY_ON_KNOWN: Rule = rule(
    "type(self) == int ? (self >= 400 && self <= 599) : (self in ['connect', 'reset', 'timeout'])",
    "not something to retry on",
    "write connect, reset, timeout, or a status from 400 to 599",
);
/// Rules of `resilience.retries.retryOn[]`.
pub const RETRY_ON: &[Rule] = &[RETRY_ON_KNOWN];

/// The first pause is no longer than the longest.
pub const BACKOFF_BOUNDS: Rule = rule(
    "!has(self.base) || !has(self.max) || duration(self.base) <= duration(self.max)",
    "base is longer than max",
    "lower base or raise max",
);
/// Rules of `resilience.retries.backoff`.
pub const BACKOFF: &[Rule] = &[BACKOFF_BOUNDS];

/// A share of failures of nothing would always hold.
pub const FAILURE_RATIO: Rule = rule(
    "!has(self.failureRatio) || self.failureRatio > 0.0",
    "failureRatio must be more than 0",
    "write a share above 0 and up to 1, like 0.6",
);
/// Rules of `resilience.circuitBreaker`.
pub const CIRCUIT_BREAKER: &[Rule] = &[FAILURE_RATIO];

/// One effect of a fault.
pub const FAULT_ONE: Rule = rule(
    "has(self.delay) != has(self.abort)",
    "exactly one of delay and abort is needed",
    "write one entry of the list for each fault",
);
/// Rules of `resilience.faults[]`.
pub const FAULT: &[Rule] = &[FAULT_ONE];

/// A time that must be some time.
pub const POSITIVE_DURATION: Rule =
    rule("duration(self) > duration('0s')", "must be more than 0s", "write a time like 10s");
/// Rules of a time that must be some time.
pub const POSITIVE: &[Rule] = &[POSITIVE_DURATION];

/// A window has no burst.
pub const BURST_OF_BUCKET: Rule = rule(
    "!has(self.burst) || self.algorithm == 'TokenBucket'",
    "a SlidingWindow has no burst",
    "remove burst, or write algorithm: TokenBucket",
);
/// Redis keeps an entry per request of a window.
pub const WINDOW_IN_REDIS: Rule = rule(
    "self.scope != 'Global' || self.algorithm != 'SlidingWindow' || self.requests <= 10000",
    "Redis keeps every request of a SlidingWindow, at most 10000",
    "lower requests, or write algorithm: TokenBucket",
);
/// What needs no Redis never misses it.
pub const FAILURE_OF_GLOBAL: Rule = rule(
    "self.failure == 'Open' || self.scope == 'Global'",
    "failure is given for a limit that needs no Redis",
    "remove failure, or write scope: Global",
);
/// Rules of `rateLimits[]`.
pub const RATE_LIMIT: &[Rule] = &[BURST_OF_BUCKET, WINDOW_IN_REDIS, FAILURE_OF_GLOBAL];

/// A hash needs what is hashed, and only a hash does.
pub const HASH_WITH_POLICY: Rule = rule(
    "has(self.consistentHash) == (self.policy == 'ConsistentHash')",
    "policy ConsistentHash and the block consistentHash belong together",
    "write both, like {policy: ConsistentHash, consistentHash: {header: x-user-id}}, or neither",
);
/// A hash is not to move keys twice.
pub const SLOW_START_WITHOUT_HASH: Rule = rule(
    "!has(self.slowStart) || self.policy != 'ConsistentHash'",
    "slowStart is given with the policy ConsistentHash, which would move keys away and back",
    "remove slowStart, or choose another policy",
);
/// Rules of `loadBalancing`.
pub const LOAD_BALANCING: &[Rule] = &[HASH_WITH_POLICY, SLOW_START_WITHOUT_HASH];

/// One thing to hash.
pub const HASH_ONE: Rule = rule(
    "[has(self.header), has(self.cookie), has(self.clientIp)].exists_one(x, x)",
    "exactly one of header, cookie and clientIp is needed",
    "keep one of them",
);
/// Only a cookie is set.
pub const LIFETIME_OF_COOKIE: Rule = rule(
    "!has(self.cookieLifetime) || has(self.cookie)",
    "cookieLifetime is given without cookie",
    "remove cookieLifetime, or hash a cookie",
);
/// Rules of `loadBalancing.consistentHash`.
pub const CONSISTENT_HASH: &[Rule] = &[HASH_ONE, LIFETIME_OF_COOKIE];

/// There is one mesh.
pub const MESH_IS_DEFAULT: Rule = rule(
    "self.metadata.name == 'default'",
    "a Mesh must be named default, there is only one",
    "write metadata.name: default",
);
/// Rules of `Mesh`.
pub const MESH_ROOT: &[Rule] = &[MESH_IS_DEFAULT];

/// A certificate lives long enough to be renewed in time.
pub const CERTIFICATE_LIFETIME: Rule = rule(
    "duration(self.certificateLifetime) >= duration('1m')",
    "certificateLifetime is shorter than 1m",
    "write 1m or more, like 24h",
);
/// A certificate ends before its root.
pub const ROOT_OUTLIVES: Rule = rule(
    "duration(self.certificateLifetime) < duration(self.rootLifetime)",
    "certificateLifetime is not shorter than rootLifetime",
    "lower certificateLifetime or raise rootLifetime",
);
/// A root is alone for some of its life.
pub const ROOT_OVERLAP: Rule = rule(
    "duration(self.rootOverlap) < duration(self.rootLifetime)",
    "rootOverlap is not shorter than rootLifetime",
    "lower rootOverlap or raise rootLifetime",
);
/// Rules of `Mesh.spec.identity`.
pub const IDENTITY: &[Rule] = &[CERTIFICATE_LIFETIME, ROOT_OUTLIVES, ROOT_OVERLAP];

/// One address of Redis.
pub const REDIS_ONE: Rule = rule(
    "has(self.url) != has(self.secretRef)",
    "exactly one of url and secretRef is needed",
    "keep one of them",
);
/// Rules of `Mesh.spec.redis`.
pub const REDIS: &[Rule] = &[REDIS_ONE];

/// Every block's rules, for tests and documentation.
pub const ALL: &[&[Rule]] = &[
    MICROSERVICE_ROOT,
    MICROSERVICE,
    WORKLOAD,
    AUTOSCALING,
    DISRUPTION,
    JWKS,
    TOKEN_SOURCE,
    EXEMPT,
    AUTHORIZATION,
    RETRY_ON,
    BACKOFF,
    CIRCUIT_BREAKER,
    FAULT,
    POSITIVE,
    RATE_LIMIT,
    LOAD_BALANCING,
    CONSISTENT_HASH,
    MESH_ROOT,
    IDENTITY,
    REDIS,
];

/// The rules as the schema carries them.
pub fn cel(rules: &[Rule]) -> Value {
    let one =
        |rule: &Rule| json!({"rule": rule.cel, "message": format!("{}; {}", rule.message, rule.remedy)});
    rules.iter().filter(|rule| !rule.cel.is_empty()).map(one).collect()
}
