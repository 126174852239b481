//! A WebSocket stays open whatever is configured around it.

use anyhow::Result;
use serde_json::json;
use weft_e2e_kind::load::Load;
use weft_e2e_kind::runner::Cx;

use crate::apps::{labels, service};

/// Timeouts, rules, breakers and other instances change; the connection stays one and the same.
pub(crate) async fn survives_configuration_pushes(cx: Cx) -> Result<()> {
    let mesh = cx.meshed().await?;
    mesh.apply(&service("chat", 1, "")).await?;
    mesh.in_service("chat").await?;
    let socket = Load::start(&mesh, "talker", &["ws", "ws://chat/ws"]).await?;

    let changes = [
        ("a timeout", json!({"spec": {"resilience": {"timeout": "7s"}}})),
        ("a breaker", json!({"spec": {"resilience": {"circuitBreaker": {"openFor": "9s"}}}})),
        (
            "a rule that allows it",
            json!({"spec": {"authorization": {"default": "Deny", "rules": [
                {"name": "talkers", "from": {"services": ["talker"]}},
            ]}}}),
        ),
        ("another balancing", json!({"spec": {"loadBalancing": {"policy": "RoundRobin"}}})),
        ("a second instance", json!({"spec": {"workload": {"replicas": 2}}})),
    ];
    for (what, change) in changes {
        let generation = mesh.patch_microservice("chat", change).await?.metadata.generation;
        mesh.status("chat", &format!("{what} is in force"), |status| {
            (status.observed_generation >= generation).then_some(())
        })
        .await?;
        socket.progress(10).await?;
        socket.none_failed(&format!("{what} was configured"))?;
    }
    mesh.pods(&labels("chat"), 2).await?;
    socket.finish("configuration changed five times").await?;
    Ok(())
}
