//! Manifests with mistakes: each is found, at its line and column, with the field and what to write instead.

#![expect(clippy::string_slice, reason = "test code")]

use proptest::prelude::{any, prop, proptest};
use weft_crds::manifest::{self, Object, Parsed, Severity};

/// Checks that the text has exactly this problem.
fn check(text: &str, expected: &str) {
    let parsed = manifest::parse("shop.yaml", text);
    let found: Vec<String> = parsed.problems.iter().map(ToString::to_string).collect();
    assert_eq!(found, [expected], "{text}");
}

fn service(spec: &str) -> String {
    format!(
        "apiVersion: weft.dev/v1alpha1\nkind: Microservice\nmetadata:\n  name: order\n  namespace: shop\nspec:\n{spec}"
    )
}

#[test]
fn unknown_field_names_the_nearest_known_one() {
    check(
        &service("  ports:\n  - name: http\n    port: 80\n    protcol: HTTP\n"),
        "shop.yaml:10:5: Microservice shop/order: spec.ports[0].protcol: unknown field; did you mean protocol?",
    );
    check(
        &service("  ports: [{name: http, port: 80}]\n  tracing: {}\n"),
        "shop.yaml:8:3: Microservice shop/order: spec.tracing: unknown field; remove it; known here: authentication, \
         authorization, loadBalancing, mtls, ports, rateLimits, resilience, selector, telemetry, workload",
    );
    check(
        "apiVersion: weft.dev/v1alpha1\nkind: Microservice\nmetadata: {name: a}\nspecs: {}\nspec: {ports: [{name: a, port: 1}]}\n",
        "shop.yaml:4:1: Microservice a: specs: unknown field; did you mean spec?",
    );
}

#[test]
fn unknown_field_inside_a_block_of_a_pod_is_found_too() {
    check(
        &service(
            "  ports: [{name: http, port: 80}]\n  workload:\n    image: a\n    env:\n    - name: A\n      vlaue: b\n",
        ),
        "shop.yaml:12:7: Microservice shop/order: spec.workload.env[0].vlaue: unknown field; did you mean value?",
    );
}

#[test]
fn wrong_value_names_the_values_that_are_allowed() {
    check(
        &service("  ports:\n  - {name: http, port: 80, protocol: HTPP}\n"),
        "shop.yaml:8:38: Microservice shop/order: spec.ports[0].protocol: \"HTPP\" is not allowed; did you mean HTTP? \
         It takes HTTP, HTTP2, GRPC, TCP",
    );
    check(
        &service("  ports: [{name: http, port: 80}]\n  mtls: {mode: Lax}\n"),
        "shop.yaml:8:16: Microservice shop/order: spec.mtls.mode: \"Lax\" is not allowed; write one of Strict, \
         Permissive, Disabled",
    );
}

#[test]
fn value_out_of_bounds_names_the_bounds() {
    check(
        &service("  ports:\n  - name: http\n    port: 70000\n"),
        "shop.yaml:9:11: Microservice shop/order: spec.ports[0].port: must be from 1 to 65535, is 70000; write for \
         example `80`",
    );
    check(
        &service("  ports: []\n"),
        "shop.yaml:7:10: Microservice shop/order: spec.ports: needs at least 1 entry, has 0; write for example \
         `[{name: http, port: 80, targetPort: 8080, protocol: HTTP}]`",
    );
}

#[test]
fn value_of_another_kind_says_what_it_should_be() {
    check(
        &service("  ports:\n  - name: http\n    port: eighty\n"),
        "shop.yaml:9:11: Microservice shop/order: spec.ports[0].port: must be a whole number, is the text \"eighty\"; \
         write for example `80`",
    );
    check(
        &service("  ports: [{name: http, port: 80}]\n  resilience: {timeout: 5}\n"),
        "shop.yaml:8:25: Microservice shop/order: spec.resilience.timeout: must be a text, is the number 5; write for \
         example `2s`",
    );
}

#[test]
fn words_that_yaml_1_1_reads_as_booleans_are_explained() {
    check(
        &service("  ports: [{name: http, port: 80}]\n  telemetry: {accessLog: Off}\n"),
        "shop.yaml:8:26: Microservice shop/order: spec.telemetry.accessLog: must be a text, is false; write one of \
         None, Errors, All",
    );
    check(
        &service("  ports: [{name: http, port: 80}]\n  workload: {image: a, env: [{name: A, value: yes}]}\n"),
        "shop.yaml:8:47: Microservice shop/order: spec.workload.env[0].value: must be a text, is true; put it in quotes",
    );
}

#[test]
fn missing_field_is_asked_for_where_it_belongs() {
    check(
        &service("  ports:\n  - name: http\n"),
        "shop.yaml:8:5: Microservice shop/order: spec.ports[0].port: is missing; write for example `80`",
    );
    check(
        "apiVersion: weft.dev/v1alpha1\nkind: Microservice\nmetadata: {name: a}\n",
        "shop.yaml:1:1: Microservice a: spec: is missing; add it",
    );
    check(
        "kind: Microservice\nmetadata: {name: a}\n",
        "shop.yaml:1:1: Microservice a: apiVersion: is missing or no text; write for example apiVersion: \
         weft.dev/v1alpha1",
    );
    check(
        "apiVersion: weft.dev/v1alpha1\nkind: Microservice\nmetadata: {}\n",
        "shop.yaml:3:1: Microservice : metadata.name: is missing or no text; write for example metadata.name: order",
    );
}

#[test]
fn wrong_form_shows_a_right_one() {
    check(
        &service("  ports: [{name: http, port: 80}]\n  resilience:\n    timeout: 5 s\n"),
        "shop.yaml:9:14: Microservice shop/order: spec.resilience.timeout: \"5 s\" does not have the right form; write \
         for example `2s`",
    );
    check(
        &service("  ports: [{name: http, port: 80}]\n  rateLimits: [{requests: 1, key: cookie}]\n"),
        "shop.yaml:8:35: Microservice shop/order: spec.rateLimits[0].key: \"cookie\" does not have the right form; \
         write for example `claim:sub`",
    );
}

#[test]
fn broken_rule_has_the_position_of_the_field_to_change() {
    check(
        &service("  ports:\n  - {name: http, port: 80}\n  - name: http\n    port: 81\n"),
        "shop.yaml:9:11: Microservice shop/order: spec.ports[1].name: two ports have the same name; give each port a \
         name of its own",
    );
}

#[test]
fn all_mistakes_are_found_at_once_in_order() {
    let text = service("  ports:\n  - {name: http, port: 0}\n  mtsl: {}\n  resilience: {timeout: soon}\n");
    let parsed = manifest::parse("shop.yaml", &format!("{text}---\n{text}"));
    let lines: Vec<u64> = parsed.problems.iter().map(|problem| problem.at.line).collect();
    assert_eq!(lines, [8, 9, 10, 19, 20, 21]);
}

#[test]
fn objects_beside_a_wrong_one_are_read() {
    let good = service("  ports: [{name: http, port: 80}]\n");
    let bad = service("  ports: []\n");
    let parsed = manifest::parse(
        "shop.yaml",
        &format!("# one\n{good}---\n{bad}---\n{}", good.replace("order", "user")),
    );
    let names: Vec<_> = parsed.manifests.iter().map(|manifest| manifest.object.id().name).collect();
    assert_eq!(names, ["order", "user"]);
    let lines: Vec<u64> = parsed.manifests.iter().map(|manifest| manifest.source.line).collect();
    assert_eq!(lines, [2, 18]);
    assert_eq!(parsed.errors().count(), 1);
}

#[test]
fn text_that_is_no_yaml_is_refused_with_its_place() {
    let parsed = manifest::parse("shop.yaml", "apiVersion: v1\nkind: [\n");
    assert_eq!(parsed.problems.len(), 1);
    let problem = parsed.problems.first().unwrap();
    assert!(problem.at.line >= 2, "{problem}");
    assert!(problem.message.starts_with("not readable as YAML: "), "{problem}");
    let twice =
        manifest::parse("shop.yaml", "apiVersion: v1\nkind: Secret\nkind: Service\nmetadata: {name: a}\n");
    assert_eq!(twice.problems.first().unwrap().at.line, 3, "{:?}", twice.problems);
}

#[test]
fn kinds_of_others_are_left_alone_with_a_warning() {
    let parsed = manifest::parse("a.yaml", "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a}\n");
    assert_eq!(parsed.warnings().count(), 1);
    assert_eq!(parsed.errors().count(), 0);
    assert!(matches!(parsed.manifests.first().unwrap().object, Object::Unknown(_)));
}

#[test]
fn misspelt_kinds_and_versions_of_ours_are_errors() {
    check(
        "apiVersion: weft.dev/v1alpha1\nkind: MicroService\nmetadata: {name: a}\n",
        "shop.yaml:2:7: MicroService a: kind: weft.dev has no kind \"MicroService\"; did you mean Microservice?",
    );
    check(
        "apiVersion: weft.dev/v1\nkind: Microservice\nmetadata: {name: a}\n",
        "shop.yaml:1:13: Microservice a: apiVersion: Microservice is not read at \"weft.dev/v1\"; write apiVersion: \
         weft.dev/v1alpha1",
    );
    check("just a text\n", "shop.yaml:1:1: not an object; write apiVersion, kind, metadata and spec");
}

#[test]
fn gateway_api_fields_that_weft_does_not_know_are_warnings() {
    let text = "apiVersion: gateway.networking.k8s.io/v1\nkind: HTTPRoute\nmetadata: {name: a, namespace: shop}\nspec:\n  \
                parentRefs: [{name: gateway}]\n  rules:\n  - backendRefs: [{name: a, port: 80}]\n    sessionPersistence: {}\n";
    let parsed = manifest::parse("a.yaml", text);
    let problem = parsed.problems.first().unwrap();
    assert_eq!(
        (problem.severity, problem.field.to_string().as_str()),
        (Severity::Warning, "spec.rules[0].sessionPersistence")
    );
    assert_eq!(problem.at.line, 8);
    let Object::HttpRoute(route) = &parsed.manifests.first().unwrap().object else { panic!("an HTTPRoute") };
    assert_eq!(route.unknown_fields(), ["spec.rules[0].sessionPersistence"]);
}

#[test]
fn gateway_api_values_of_another_kind_are_errors_with_their_place() {
    let text = "apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: a}\nspec:\n  gatewayClassName: weft\n  \
                listeners:\n  - name: http\n    port: \"80\"\n    protocol: HTTP\n";
    let parsed = manifest::parse("a.yaml", text);
    let problem = parsed.problems.first().unwrap();
    assert_eq!((problem.at.line, problem.field.to_string().as_str()), (8, "spec.listeners[0].port"));
    assert_eq!(parsed.errors().count(), 1);
}

#[test]
fn secrets_and_services_are_read() {
    let text = "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData: {tls.key: x}\n---\napiVersion: v1\nkind: \
                Service\nmetadata: {name: a}\nspec: {ports: [{port: 80, appProtocol: http}]}\n";
    let mut parsed = manifest::parse("a.yaml", text);
    assert_eq!(parsed.problems, []);
    let Parsed { manifests, .. } = &mut parsed;
    for manifest in manifests.iter_mut() {
        manifest.object.default_namespace("shop");
        assert_eq!(manifest.object.id().namespace.as_deref(), Some("shop"));
    }
}

#[test]
fn anchors_and_merges_are_followed() {
    let text = service(
        "  ports: [{name: http, port: 80}]\n  resilience:\n    circuitBreaker: &b {openFor: 0s}\n  mtls: {mode: Strict}\n",
    );
    check(
        &text,
        "shop.yaml:9:34: Microservice shop/order: spec.resilience.circuitBreaker.openFor: must be more than 0s; write a \
         time like 10s",
    );
}

#[test]
fn no_text_makes_it_panic() {
    proptest!(|(text in any::<String>())| { manifest::parse("a.yaml", &text); });
    proptest!(|(text in r#"([a-z]{0,3}[:{}\[\],&*!|>'"%@\n -]{1,3}){0,30}"#)| { manifest::parse("a.yaml", &text); });
}

#[test]
fn no_damage_to_a_right_text_makes_it_panic() {
    let full = include_str!("../examples/full.yaml");
    let lines: Vec<&str> = full.lines().collect();
    proptest!(|(cut in prop::collection::vec(any::<prop::sample::Index>(), 1..4), byte in any::<char>())| {
        let mut text = lines.clone();
        let line = text[cut[0].index(text.len())];
        let at = line.char_indices().map(|(at, _)| at).nth(cut[cut.len() - 1].index(line.len().max(1))).unwrap_or(0);
        let damaged = format!("{}{byte}{}", &line[..at], &line[at..]);
        let place = cut[0].index(text.len());
        text[place] = &damaged;
        manifest::parse("a.yaml", &text.join("\n"));
    });
}
