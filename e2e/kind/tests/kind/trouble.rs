//! What is wrong only together with other objects: told in status with a stable reason, while the rest keeps working.

use anyhow::{Context, Result, ensure};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use weft_e2e_kind::runner::Cx;
use weft_e2e_kind::space::Space;
use weft_e2e_kind::tokens::{AUDIENCE, ISSUER, Issuer};
use weft_e2e_kind::wait::{Goal, eventually, one, until};
use weft_e2e_kind::{ROLLOUT, SOON};

use crate::apps::{expect, is, service};

/// A second claim to the same pods is refused; one that comes up later is told, and the first keeps working.
pub(crate) async fn conflicting_microservices_are_told(cx: Cx) -> Result<()> {
    let mesh = cx.meshed().await?;
    mesh.apply(&service("echo", 1, "")).await?;
    let (caller, ()) = tokio::try_join!(mesh.caller("caller"), mesh.in_service("echo"))?;
    let rival = service("rival", 1, "").replace(
        "  workload: {image: $APP, imagePullPolicy: IfNotPresent, args: [serve], replicas: 1}\n",
        "  selector: {app.kubernetes.io/name: echo}\n",
    );
    let refused =
        mesh.apply(&rival).await.err().context("a second Microservice for the same pods was taken")?;
    let said = format!("{refused:#}");
    ensure!(said.contains("selects the same pods as Microservice"), "refused for another reason: {said}");

    let refused = mesh.apply(&gateway_called_echo("weft")).await.err();
    let said = format!("{:#}", refused.context("a Gateway with the name of a Microservice was taken")?);
    ensure!(said.contains("has the same name"), "refused for another reason: {said}");

    // As long as its class is nobody's the Gateway is no business of the mesh.
    mesh.apply(&gateway_called_echo(&mesh.name)).await?;
    let class = CLASS.replace("$NS", &mesh.name);
    mesh.apply(&class).await?;
    let message = mesh.condition("echo", ("Accepted", "False", "Invalid")).await?;
    ensure!(message.contains("has the same name"), "the condition says: {message}");
    expect(&caller.get("http://echo/").await?, 200, "", "the service works on")?;
    mesh.cluster.delete(&mesh.name, &class).await?;
    mesh.condition("echo", ("Accepted", "True", "Accepted")).await?;
    Ok(())
}

/// Keys in a Secret that is not there: tokens cannot be checked, what needs none works, and the Secret heals it.
pub(crate) async fn missing_secret_is_told_and_the_rest_works(cx: Cx) -> Result<()> {
    let issuer = Issuer::new()?;
    let mesh = cx.meshed().await?;
    mesh.apply(&service("echo", 1, &keys("secretRef: {name: keys, key: jwks.json}"))).await?;
    let message = without_keys(&mesh, &issuer).await?;
    ensure!(message.contains("keys is not there"), "the condition says: {message}");

    let secret = format!(
        "\
apiVersion: v1
kind: Secret
metadata: {{name: keys}}
data: {{jwks.json: {}}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {{name: weft-secret-reader}}
roleRef: {{apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: weft-secret-reader}}
subjects: [{{kind: ServiceAccount, name: weft-operator, namespace: weft-system}}]
",
        STANDARD.encode(issuer.jwks()?)
    );
    mesh.apply(&secret).await?;
    let header = format!("authorization: Bearer {}", issuer.token("admin", 600)?);
    let caller = mesh.place("caller", "app");
    eventually("the token is taken once the Secret is there and may be read", ROLLOUT, || async {
        is(caller.call(&["-H", &header, "http://echo/"]).await, 200, "")
    })
    .await?;
    Ok(())
}

/// Keys at an address where nobody is.
pub(crate) async fn unreachable_keys_are_told_and_the_rest_works(cx: Cx) -> Result<()> {
    let issuer = Issuer::new()?;
    let mesh = cx.meshed().await?;
    let jwks = "uri: \"http://nobody.$NS.svc/keys\"";
    mesh.apply(&service("echo", 1, &keys(jwks))).await?;
    let message = without_keys(&mesh, &issuer).await?;
    ensure!(message.contains("there is no Microservice"), "the condition says: {message}");
    Ok(())
}

/// What a service does whose keys cannot be had; gives what its condition says.
async fn without_keys(mesh: &Space, issuer: &Issuer) -> Result<String> {
    let (caller, ()) = tokio::try_join!(mesh.caller("caller"), mesh.in_service("echo"))?;
    expect(&caller.get("http://echo/open").await?, 200, "", "what needs no token works")?;
    expect(&caller.get("http://echo/").await?, 401, "jwt-missing", "no token is no token")?;
    let header = format!("authorization: Bearer {}", issuer.token("admin", 300)?);
    let with = caller.call(&["-H", &header, "http://echo/"]).await?;
    expect(&with, 503, "jwks-unavailable", "a token that cannot be checked is not taken")?;
    mesh.condition("echo", ("Accepted", "True", "Accepted")).await
}

fn keys(jwks: &str) -> String {
    format!(
        "
  authentication:
    jwt: [{{issuer: {ISSUER}, audiences: [{AUDIENCE}], jwks: {{{jwks}}}}}]
    exempt: [{{paths: [/open]}}]
"
    )
}

/// A filter of someone else's: its rule is left out and told, the other rule routes.
pub(crate) async fn unknown_fields_of_routes_are_told(cx: Cx) -> Result<()> {
    let mesh = cx.meshed().await?;
    mesh.apply(&service("echo", 1, "")).await?;
    mesh.apply(ROUTE).await?;
    let (caller, ()) = tokio::try_join!(mesh.caller("caller"), mesh.in_service("echo"))?;
    let routes = mesh.cluster.dynamic("gateway.networking.k8s.io/v1", "HTTPRoute", &mesh.name).await?;
    // The kind has no type here, so it is asked for again and again instead of watched.
    eventually("the route's status tells the unknown field", SOON, || async {
        let route = routes.get("echo").await.map_err(|error| error.to_string())?;
        let conditions = route.data["status"]["parents"][0]["conditions"].clone();
        let told = conditions.as_array().into_iter().flatten().any(|condition| {
            let message = condition["message"].as_str().unwrap_or_default();
            condition["type"] == "weft.dev/UnknownFields" && message.contains("extensionRef")
        });
        let partly = has(&conditions, "PartiallyInvalid", "UnsupportedValue");
        if told && partly && has(&conditions, "Accepted", "Accepted") {
            Ok(())
        } else {
            Err(conditions.to_string())
        }
    })
    .await?;
    let answer = eventually("the rule that can be understood routes", SOON, || async {
        is(caller.get("http://echo/good/place").await, 200, "")
    })
    .await?;
    ensure!(answer.body.contains("/better/place"), "the rule should rewrite the path: {}", answer.body);
    let service = mesh.api::<weft_crds::Microservice>();
    until(&service, Goal::named("the service stays accepted", "echo", SOON), |seen| {
        let status = one(seen)?.status.clone().unwrap_or_default();
        let accepted = status.conditions.iter().find(|condition| condition.type_ == "Accepted");
        if accepted.is_some_and(|condition| condition.status == "True") {
            Ok(())
        } else {
            Err(format!("{accepted:?}"))
        }
    })
    .await
}

fn has(conditions: &Value, kind: &str, reason: &str) -> bool {
    let all = conditions.as_array();
    all.into_iter().flatten().any(|condition| condition["type"] == kind && condition["reason"] == reason)
}

fn gateway_called_echo(class: &str) -> String {
    format!(
        "\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {{name: echo}}
spec:
  gatewayClassName: {class}
  listeners: [{{name: http, port: 8080, protocol: HTTP}}]
"
    )
}

const CLASS: &str = "\
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: $NS}
spec: {controllerName: weft.dev/gateway-controller}
";

const ROUTE: &str = "\
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: echo}
spec:
  parentRefs: [{group: \"\", kind: Service, name: echo, port: 80}]
  rules:
  - matches: [{path: {type: PathPrefix, value: /good}}]
    filters:
    - {type: URLRewrite, urlRewrite: {path: {type: ReplacePrefixMatch, replacePrefixMatch: /better}}}
    backendRefs: [{name: echo, port: 80}]
  - matches: [{path: {type: PathPrefix, value: /strange}}]
    filters:
    - {type: ExtensionRef, extensionRef: {group: example.com, kind: Strange, name: strange}}
    backendRefs: [{name: echo, port: 80}]
";
