//! Every rule across fields: a resource that breaks it is refused by the Rust side in the rule's own words, at the
//! field to change.
//!
//! A rule without a case here fails the last test, so CEL and Rust cannot drift apart unseen.

use weft_crds::manifest::{self, Severity};
use weft_crds::rules::{self, Rule};

struct Case {
    rule: Rule,
    yaml: &'static str,
    field: &'static str,
}

const fn case(rule: Rule, field: &'static str, yaml: &'static str) -> Case {
    Case { rule, yaml, field }
}

/// Specs of a Microservice that break one rule each; `ports` is added where it is missing.
const SERVICES: &[Case] = &[
    case(rules::WORKLOAD_OR_SELECTOR, "spec.selector", "{workload: {image: a}, selector: {app: a}}"),
    case(rules::PORT_NAMES, "spec.ports[1].name", "{ports: [{name: a, port: 1}, {name: a, port: 2}]}"),
    case(rules::PORT_NUMBERS, "spec.ports[1].port", "{ports: [{name: a, port: 1}, {name: b, port: 1}]}"),
    case(rules::HEALTH_PORT, "spec.workload.health.port", "{workload: {image: a, health: {port: b}}}"),
    case(
        rules::REPLICAS_OR_AUTOSCALING,
        "spec.workload.autoscaling",
        "{workload: {image: a, replicas: 1, autoscaling: {max: 2}}}",
    ),
    case(
        rules::AUTOSCALING_BOUNDS,
        "spec.workload.autoscaling.min",
        "{workload: {image: a, autoscaling: {min: 3, max: 2}}}",
    ),
    case(rules::DISRUPTION_ONE, "spec.workload.disruption", "{workload: {image: a, disruption: {}}}"),
    case(
        rules::DISRUPTION_ONE,
        "spec.workload.disruption",
        "{workload: {image: a, disruption: {minAvailable: 1, maxUnavailable: 50%}}}",
    ),
    case(
        rules::JWKS_ONE,
        "spec.authentication.jwt[0].jwks",
        "{authentication: {jwt: [{issuer: a, jwks: {}}]}}",
    ),
    case(
        rules::JWKS_ONE,
        "spec.authentication.jwt[0].jwks",
        "{authentication: {jwt: [{issuer: a, jwks: {uri: 'http://a', secretRef: {name: b}}}]}}",
    ),
    case(
        rules::JWKS_INLINE,
        "spec.authentication.jwt[0].jwks.inline",
        "{authentication: {jwt: [{issuer: a, jwks: {inline: '{}'}}]}}",
    ),
    case(
        rules::TOKEN_SOURCE_ONE,
        "spec.authentication.jwt[0].from[0]",
        "{authentication: {jwt: [{issuer: a, jwks: {uri: 'http://a'}, from: [{header: a, cookie: b}]}]}}",
    ),
    case(
        rules::PREFIX_WITH_HEADER,
        "spec.authentication.jwt[0].from[0].prefix",
        "{authentication: {jwt: [{issuer: a, jwks: {uri: 'http://a'}, from: [{cookie: a, prefix: b}]}]}}",
    ),
    case(
        rules::EXEMPT_SOME,
        "spec.authentication.exempt[0]",
        "{authentication: {jwt: [{issuer: a, jwks: {uri: 'http://a'}}], exempt: [{}]}}",
    ),
    case(
        rules::RULE_NAMES,
        "spec.authorization.rules[1].name",
        "{authorization: {rules: [{name: a}, {name: a}]}}",
    ),
    case(
        rules::RETRY_ON_KNOWN,
        "spec.resilience.retries.retryOn[1]",
        "{resilience: {retries: {retryOn: [connect, conect]}}}",
    ),
    case(
        rules::RETRY_ON_KNOWN,
        "spec.resilience.retries.retryOn[0]",
        "{resilience: {retries: {retryOn: [200]}}}",
    ),
    case(
        rules::BACKOFF_BOUNDS,
        "spec.resilience.retries.backoff.base",
        "{resilience: {retries: {backoff: {base: 2s, max: 1s}}}}",
    ),
    case(
        rules::FAILURE_RATIO,
        "spec.resilience.circuitBreaker.failureRatio",
        "{resilience: {circuitBreaker: {failureRatio: 0}}}",
    ),
    case(rules::FAULT_ONE, "spec.resilience.faults[0]", "{resilience: {faults: [{percent: 1}]}}"),
    case(
        rules::FAULT_ONE,
        "spec.resilience.faults[0]",
        "{resilience: {faults: [{percent: 1, delay: 1s, abort: {status: 503}}]}}",
    ),
    case(rules::POSITIVE_DURATION, "spec.resilience.connectTimeout", "{resilience: {connectTimeout: 0s}}"),
    case(
        rules::POSITIVE_DURATION,
        "spec.resilience.circuitBreaker.window",
        "{resilience: {circuitBreaker: {window: 0s}}}",
    ),
    case(
        rules::POSITIVE_DURATION,
        "spec.resilience.circuitBreaker.openFor",
        "{resilience: {circuitBreaker: {openFor: 0ms}}}",
    ),
    case(
        rules::POSITIVE_DURATION,
        "spec.resilience.outlierDetection.eject",
        "{resilience: {outlierDetection: {eject: 0s}}}",
    ),
    case(rules::POSITIVE_DURATION, "spec.resilience.fallback.stale", "{resilience: {fallback: {stale: 0s}}}"),
    case(
        rules::POSITIVE_DURATION,
        "spec.resilience.retries.hedge.after",
        "{resilience: {retries: {hedge: {after: 0s}}}}",
    ),
    case(rules::POSITIVE_DURATION, "spec.rateLimits[0].per", "{rateLimits: [{requests: 1, per: 0s}]}"),
    case(
        rules::BURST_OF_BUCKET,
        "spec.rateLimits[0].burst",
        "{rateLimits: [{requests: 1, algorithm: SlidingWindow, burst: 1}]}",
    ),
    case(
        rules::WINDOW_IN_REDIS,
        "spec.rateLimits[0].requests",
        "{rateLimits: [{requests: 10001, algorithm: SlidingWindow, scope: Global}]}",
    ),
    case(
        rules::FAILURE_OF_GLOBAL,
        "spec.rateLimits[0].failure",
        "{rateLimits: [{requests: 1, failure: Closed}]}",
    ),
    case(rules::HASH_WITH_POLICY, "spec.loadBalancing", "{loadBalancing: {policy: ConsistentHash}}"),
    case(rules::HASH_WITH_POLICY, "spec.loadBalancing", "{loadBalancing: {consistentHash: {header: a}}}"),
    case(
        rules::LIFETIME_OF_COOKIE,
        "spec.loadBalancing.consistentHash.cookieLifetime",
        "{loadBalancing: {policy: ConsistentHash, consistentHash: {header: a, cookieLifetime: 1h}}}",
    ),
    case(
        rules::SLOW_START_WITHOUT_HASH,
        "spec.loadBalancing.slowStart",
        "{loadBalancing: {policy: ConsistentHash, consistentHash: {header: a}, slowStart: 1s}}",
    ),
    case(rules::POSITIVE_DURATION, "spec.loadBalancing.slowStart", "{loadBalancing: {slowStart: 0s}}"),
    case(
        rules::HASH_ONE,
        "spec.loadBalancing.consistentHash",
        "{loadBalancing: {policy: ConsistentHash, consistentHash: {header: a, cookie: b}}}",
    ),
];

/// Specs of a Mesh that break one rule each.
const MESHES: &[Case] = &[
    case(
        rules::CERTIFICATE_LIFETIME,
        "spec.identity.certificateLifetime",
        "{identity: {certificateLifetime: 59s}}",
    ),
    case(
        rules::ROOT_OUTLIVES,
        "spec.identity.certificateLifetime",
        "{identity: {certificateLifetime: 9000h}}",
    ),
    case(rules::ROOT_OVERLAP, "spec.identity.rootOverlap", "{identity: {rootOverlap: 8760h}}"),
    case(rules::REDIS_ONE, "spec.redis", "{redis: {}}"),
    case(
        rules::POSITIVE_DURATION,
        "spec.defaults.resilience.connectTimeout",
        "{defaults: {resilience: {connectTimeout: 0s}}}",
    ),
    case(
        rules::FAILURE_RATIO,
        "spec.defaults.resilience.circuitBreaker.failureRatio",
        "{defaults: {resilience: {circuitBreaker: {failureRatio: 0}}}}",
    ),
];

fn check(text: &str, case: &Case) {
    let parsed = manifest::parse("a.yaml", text);
    let found: Vec<_> = parsed
        .problems
        .iter()
        .map(|p| (p.field.to_string(), p.message.as_str(), p.remedy.as_str()))
        .collect();
    let expected = (case.field.to_owned(), case.rule.message, case.rule.remedy);
    assert_eq!(found, [expected], "{text}");
    assert!(parsed.problems.iter().all(|problem| problem.severity == Severity::Error));
    assert!(parsed.manifests.is_empty(), "{text}");
}

#[test]
fn broken_rules_of_services_are_refused_in_their_words() {
    for case in SERVICES {
        let ports = if case.yaml.contains("ports:") { "" } else { "ports: [{name: a, port: 1}], " };
        let spec = case.yaml.replacen('{', &format!("{{{ports}"), 1);
        let text = format!(
            "apiVersion: weft.dev/v1alpha1\nkind: Microservice\nmetadata: {{name: a}}\nspec: {spec}\n"
        );
        check(&text, case);
    }
}

#[test]
fn broken_rules_of_meshes_are_refused_in_their_words() {
    for case in MESHES {
        let spec = case.yaml;
        let text =
            format!("apiVersion: weft.dev/v1alpha1\nkind: Mesh\nmetadata: {{name: default}}\nspec: {spec}\n");
        check(&text, case);
    }
}

#[test]
fn names_that_cannot_be_are_refused() {
    let name = |kind: &str, name: &str, spec: &str| {
        format!("{{apiVersion: weft.dev/v1alpha1, kind: {kind}, metadata: {{name: {name}}}, spec: {spec}}}")
    };
    let ports = "{ports: [{name: a, port: 1}]}";
    let long = "a".repeat(64);
    for bad in ["1order", "Order", "order-", "or_der", "or.der", &long] {
        check(&name("Microservice", bad, ports), &case(rules::MICROSERVICE_NAME, "metadata.name", ""));
    }
    check(&name("Mesh", "other", "{}"), &case(rules::MESH_IS_DEFAULT, "metadata.name", ""));
}

#[test]
fn every_rule_has_a_case() {
    let named = [rules::MICROSERVICE_NAME, rules::MESH_IS_DEFAULT];
    let tried = || SERVICES.iter().chain(MESHES).map(|case| case.rule).chain(named);
    for rule in rules::ALL.iter().flat_map(|rules| rules.iter()) {
        assert!(tried().any(|tried| tried == *rule), "no case breaks {:?}", rule.message);
    }
}

#[test]
fn a_resource_that_breaks_nothing_passes() {
    let text = include_str!("../examples/full.yaml");
    let parsed = manifest::parse("full.yaml", text);
    let first = parsed.manifests.first().unwrap();
    let manifest::Object::Mesh(mesh) = &first.object else { panic!("the first object is the mesh") };
    assert_eq!(weft_crds::validate_mesh(mesh), []);
    let services = parsed.manifests.iter().filter_map(|manifest| match &manifest.object {
        manifest::Object::Microservice(service) => Some(service),
        _ => None,
    });
    for service in services {
        assert_eq!(weft_crds::validate(service), []);
    }
}
