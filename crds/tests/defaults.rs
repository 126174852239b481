//! What is left out means what the documentation says it means.
//!
//! Blocks that the mesh may override are covered beside `effective`; here are the defaults that the schema carries
//! and those of a whole service or mesh.

use serde_json::{Value, json};
use weft_crds::mesh::{Identity, OutboundPolicy};
use weft_crds::microservice::{
    AccessLog, Algorithm, Authentication, Authorization, BalancePolicy, Effect, Failure, LimitHeaders,
    MicroserviceSpec, Mtls, MtlsMode, RateLimit, RateLimitKey, Resilience, Scope, Telemetry, TokenPlace,
    TokenSource, Workload,
};
use weft_crds::{Duration, MeshSpec, Microservice, schema};

fn read<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("a right value")
}

#[test]
fn a_service_with_ports_only_is_strict_open_and_balanced_by_latency() {
    let spec: MicroserviceSpec = read(json!({"ports": [{"name": "http", "port": 80}]}));
    assert_eq!(Mtls::effective(spec.mtls.as_ref(), None), MtlsMode::Strict);
    assert!(spec.authentication.is_none() && spec.authorization.is_none() && spec.rate_limits.is_empty());
    assert_eq!(spec.effective_load_balancing().policy, BalancePolicy::PeakEwma);
    assert_eq!(spec.ports.first().map(weft_crds::microservice::Port::target), Some(80));
    let telemetry = Telemetry::effective(None, &MeshSpec::default());
    assert_eq!((telemetry.sampling.to_bits(), telemetry.access_log), (0.1_f64.to_bits(), AccessLog::Errors));
    let service = Microservice::new("order", spec);
    let by_name = [("app.kubernetes.io/name".to_owned(), "order".to_owned())];
    assert_eq!(service.pod_selector(), by_name.into());
}

#[test]
fn a_token_is_required_from_the_authorization_header_and_kept_from_the_service() {
    let jwt = json!({"issuer": "a", "jwks": {"uri": "http://a"}});
    let authentication: Authentication = read(json!({"jwt": [jwt]}));
    assert!(authentication.required);
    let provider = authentication.jwt.first().expect("one provider");
    assert!(!provider.forward_token);
    let places: Vec<_> = provider.from.iter().filter_map(TokenSource::place).collect();
    assert_eq!(places, [TokenPlace::Header { name: "Authorization", prefix: "Bearer " }]);
}

#[test]
fn authorization_denies_and_a_rule_allows() {
    let authorization: Authorization = read(json!({"rules": [{"name": "a"}]}));
    assert_eq!(authorization.default, Effect::Deny);
    assert_eq!(authorization.rules.first().map(|rule| rule.action), Some(Effect::Allow));
    assert!(!authorization.audit);
    assert_eq!(Authorization::default().default, Effect::Deny);
}

#[test]
fn a_rate_limit_counts_each_client_here_for_a_minute() {
    let limit: RateLimit = read(json!({"requests": 100}));
    assert_eq!((limit.per, limit.burst()), (Duration::from_secs(60), 100));
    assert_eq!((limit.key, limit.scope), (RateLimitKey::ClientIp, Scope::Local));
    assert_eq!((limit.algorithm, limit.failure), (Algorithm::TokenBucket, Failure::Open));
    assert_eq!(limit.headers, LimitHeaders::Refused);
}

#[test]
fn a_workload_is_one_instance_healthy_at_health() {
    let workload: Workload = read(json!({"image": "a", "health": {}}));
    assert_eq!(workload.initial_replicas(), 1);
    assert_eq!(workload.health.map(|health| health.path).as_deref(), Some("/health"));
    let scaled: Workload = read(json!({"image": "a", "autoscaling": {"max": 10}}));
    let scaling = scaled.autoscaling.expect("autoscaling");
    assert_eq!((scaling.min, scaling.cpu_percent), (1, 70));
}

#[test]
fn a_mesh_that_says_nothing_is_the_default_mesh() {
    let mesh: MeshSpec = read(json!({}));
    assert_eq!(mesh, MeshSpec::default());
    assert_eq!((mesh.trust_domain.as_str(), mesh.outbound_policy), ("cluster.local", OutboundPolicy::Allow));
    let identity: Identity = read(json!({}));
    assert_eq!((identity.certificate_lifetime, identity.renew_percent), (Duration::from_secs(86_400), 70));
    assert_eq!(mesh.identity, identity);
    let resilience = Resilience::effective(None, mesh.defaults.resilience.as_ref());
    assert_eq!(resilience.timeout, Some(Duration::from_secs(5)));
}

/// What the API server fills in is what the types fill in.
#[test]
fn defaults_of_the_schema_are_those_of_the_types() {
    let mesh = schema::of_crd(&schema::mesh());
    let filled = filled_in(&mesh["properties"]["spec"], json!({}));
    assert_eq!(filled, serde_json::to_value(MeshSpec::default()).expect("JSON"));
    let microservice = schema::of_crd(&schema::microservice());
    let least = json!({
        "ports": [{"name": "a", "port": 1}],
        "workload": {"image": "a", "health": {}, "autoscaling": {"max": 2}},
        "authentication": {"jwt": [{"issuer": "a", "jwks": {"secretRef": {"name": "a"}}}]},
        "authorization": {"rules": [{"name": "a"}]},
        "rateLimits": [{"requests": 1}],
        "loadBalancing": {},
    });
    let filled = filled_in(&microservice["properties"]["spec"], least.clone());
    let read: MicroserviceSpec = read(least);
    assert_eq!(filled, serde_json::to_value(read).expect("JSON"));
}

/// The value with the defaults of the schema, as the API server puts them in.
fn filled_in(schema: &Value, value: Value) -> Value {
    match value {
        Value::Object(mut fields) => {
            for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
                let given = fields.remove(name).or_else(|| inner.get("default").cloned());
                if let Some(given) = given {
                    fields.insert(name.clone(), filled_in(inner, given));
                }
            }
            Value::Object(fields)
        }
        Value::Array(items) => items.into_iter().map(|item| filled_in(&schema["items"], item)).collect(),
        plain => plain,
    }
}
