//! The shop's chat in a cluster: people on different pods hear each other, through the gateway and two proxies each.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use weft_e2e_kind::SOON;
use weft_e2e_kind::exec::Place;
use weft_e2e_kind::space::Space;
use weft_e2e_kind::wait::eventually;

use crate::apps::labels;

/// Connections, as many as a user may have to one instance; the gateway gives each to the instance with fewer.
const CONNECTIONS: &str = "8";

/// Part of the tour of the shop, which is installed once.
pub(crate) async fn reaches_people_on_different_instances(
    shop: &Space,
    place: &Place,
    token: &str,
) -> Result<()> {
    shop.in_service("chat").await?;
    shop.pods(&labels("chat"), 2).await?;
    let url = format!("ws://public.shop.svc:8080/api/chat/rooms/kind/ws?after=0&access_token={token}");
    let message = json!({"type": "send", "client_id": "kind-1", "text": "hello from a pod"}).to_string();
    let args = [&url, "--connections", CONNECTIONS, "--send", &message, "--until", "hello from a pod"];
    // The keys may be on their way to a proxy still; sent again, it is the same message.
    let heard = eventually("people hear each other", SOON, || async {
        place.talk(&args).await.map_err(|error| format!("{error:#}"))
    })
    .await?;
    let instances: BTreeSet<&str> = heard.iter().map(|heard| heard.by.as_str()).collect();
    ensure!(instances.len() == 2, "one instance only has members: {instances:?}");
    let mut messages = 0;
    for heard in heard.iter().filter(|heard| heard.frame.contains("hello from a pod")) {
        let frame: Value = serde_json::from_str(&heard.frame)?;
        ensure!(frame["type"] == "message" && frame["id"] == 1, "not the first message: {frame}");
        messages += 1;
    }
    ensure!(messages.to_string() == CONNECTIONS, "{messages} of {CONNECTIONS} heard it");
    Ok(())
}
