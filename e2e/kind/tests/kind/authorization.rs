//! Who may call what, by the service accounts of real pods.

use anyhow::Result;
use serde_json::Value;
use weft_e2e_kind::runner::Cx;

use crate::apps::{expect, labels, service};

const RULES: &str = "
  authorization:
    default: Deny
    rules:
    - {name: alice-reads, from: {services: [alice]}, to: {methods: [GET]}}
    - {name: bob-never, action: Deny, from: {services: [bob]}}
";

/// The rule that refused is in the log of the proxy, together with the identity that was refused.
pub(crate) async fn wrong_service_account_is_refused_and_the_rule_named(cx: Cx) -> Result<()> {
    let mesh = cx.meshed().await?;
    mesh.apply(&service("echo", 1, RULES)).await?;
    let (alice, bob, mallory, ()) = tokio::try_join!(
        mesh.caller("alice"),
        mesh.caller("bob"),
        mesh.caller("mallory"),
        mesh.in_service("echo")
    )?;

    expect(&alice.get("http://echo/").await?, 200, "", "alice may read")?;
    let posted = alice.call(&["-X", "POST", "http://echo/"]).await?;
    expect(&posted, 403, "forbidden", "alice may not write")?;
    expect(&bob.get("http://echo/").await?, 403, "forbidden", "a rule refuses bob")?;
    expect(&mallory.get("http://echo/").await?, 403, "forbidden", "no rule allows mallory")?;

    let server = mesh.place_of(&labels("echo")).await?;
    let identity = format!("/ns/{}/sa/bob", mesh.name);
    mesh.logged((&server.pod, "weft-proxy"), "the rule bob-never and bob's identity", |line| {
        let line: Value = serde_json::from_str(line).ok()?;
        let named = line["policy"].as_str()?.contains("bob-never");
        (named && line["peer_identity"].as_str()?.ends_with(&identity)).then_some(())
    })
    .await
}
