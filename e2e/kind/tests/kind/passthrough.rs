//! TLS that goes through a Gateway by its server name.

use anyhow::{Result, ensure};
use weft_e2e_kind::ROLLOUT;
use weft_e2e_kind::runner::Cx;
use weft_e2e_kind::wait::eventually;

use crate::apps::service;

/// A connection reaches the service that its name leads to, byte for byte, through a Gateway of its own; another name
/// reaches nobody. The server here speaks no TLS: it greets whoever has connected.
pub(crate) async fn connections_go_where_their_server_name_leads(cx: Cx) -> Result<()> {
    let mesh = cx.meshed().await?;
    mesh.apply(&service("echo", 1, "")).await?;
    mesh.apply(GATEWAY).await?;
    let (caller, ()) = tokio::try_join!(mesh.caller("caller"), mesh.in_service("echo"))?;
    eventually("the name leads to the service", ROLLOUT, || async {
        let answer =
            caller.tcp_as("echo.example", "edge:8443").await.map_err(|error| format!("{error:#}"))?;
        if answer.body.starts_with("ready ") { Ok(()) } else { Err(answer.told()) }
    })
    .await?;
    let nobody = caller.tcp_as("other.example", "edge:8443").await?;
    ensure!(nobody.body == UNRECOGNIZED_NAME, "a name without a route got something else: {}", nobody.told());
    let routes = mesh.cluster.dynamic("gateway.networking.k8s.io/v1alpha3", "TLSRoute", &mesh.name).await?;
    eventually("the route is accepted", ROLLOUT, || async {
        let route = routes.get("echo").await.map_err(|error| error.to_string())?;
        let conditions = &route.data["status"]["parents"][0]["conditions"];
        let accepted = conditions
            .as_array()
            .into_iter()
            .flatten()
            .any(|condition| condition["type"] == "Accepted" && condition["status"] == "True");
        if accepted { Ok(()) } else { Err(conditions.to_string()) }
    })
    .await
}

/// The fatal alert, as text.
const UNRECOGNIZED_NAME: &str = "\u{15}\u{3}\u{3}\0\u{2}\u{2}\u{70}";

const GATEWAY: &str = "\
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: edge}
spec:
  gatewayClassName: weft
  listeners:
  - {name: tls, port: 8443, protocol: TLS, hostname: \"*.example\", tls: {mode: Passthrough}}
---
apiVersion: gateway.networking.k8s.io/v1alpha3
kind: TLSRoute
metadata: {name: echo}
spec:
  parentRefs: [{name: edge}]
  hostnames: [echo.example]
  rules: [{backendRefs: [{name: echo, port: 9000}]}]
";
