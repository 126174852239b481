//! The sale of tickets in a cluster: a small crowd at the gateway, a sidecar in front of every service and store. Part of
//! the tour of `shop`, whose installation it uses.

use anyhow::{Context as _, Result, ensure};
use futures_util::future::join_all;
use serde_json::{Value, json};
use weft_e2e_kind::command::run;
use weft_e2e_kind::wait::eventually;
use weft_e2e_kind::{ROLLOUT, SOON};

use crate::apps::{expect, is};
use crate::shop::Client;

/// Buyers, of whom a few get a seat.
const BUYERS: usize = 8;
const SEATS: usize = 3;

/// Adds an event per strategy, has a crowd buy it, and compares the books.
pub(crate) async fn are_sold_once(visitor: &Client) -> Result<()> {
    let admin = admin(visitor).await?;
    for strategy in ["redis", "postgres"] {
        let event = event(strategy);
        let refused = visitor.send("POST", "/api/tickets/events", &event).await?;
        expect(&refused, 403, "forbidden", "a customer adds no events")?;
        let added = admin.send("POST", "/api/tickets/events", &event).await?;
        expect(&added, 201, "", "an admin adds an event")?;
        let path = format!("/api/tickets/events/{}", id(&added.body)?);
        sell(visitor, &admin, &path).await?;
    }
    Ok(())
}

async fn sell(visitor: &Client, admin: &Client, event: &str) -> Result<()> {
    let stranger = Client { place: visitor.place.clone(), token: None };
    expect(&stranger.get(event).await?, 200, "", "anybody looks at an event")?;
    let path = format!("{event}/purchases");
    let body = json!({"method": "tok_ok"});
    let refused = stranger.send("POST", &path, &body).await?;
    expect(&refused, 401, "jwt-missing", "buying needs a token")?;
    // Payment may be on its way up still: the first one waits for it.
    let first = eventually("the first seat is sold", ROLLOUT, || async {
        is(visitor.send("POST", &path, &body).await, 201, "")
    })
    .await?;
    let answers = join_all((1..BUYERS).map(|_| visitor.send("POST", &path, &body))).await;
    let answers = answers.into_iter().collect::<Result<Vec<_>>>()?;
    let sold = 1 + answers.iter().filter(|answer| answer.status == Some(201)).count();
    let gone = answers.iter().filter(|answer| answer.body.contains("sold-out")).count();
    ensure!((sold, gone) == (SEATS, BUYERS - SEATS), "{sold} sold, {gone} told that it is sold out");

    let cancel = format!("/api/tickets/{}/cancel", id(&first.body)?);
    let cancelled = visitor.send("POST", &cancel, &json!({})).await?;
    ensure!(matches!(cancelled.status, Some(200 | 202)), "cancelling: {}", cancelled.told());
    eventually("the seat is free again and both stores agree", SOON, || async {
        let report = is(admin.get(&format!("{event}/reconciliation")).await, 200, "")?;
        let body: Value = serde_json::from_str(&report.body).map_err(|error| error.to_string())?;
        let settled = body["agrees"] == true && body["in_postgres"] == json!(SEATS - 1);
        if settled { Ok(()) } else { Err(report.told()) }
    })
    .await
}

/// The account that the chart makes.
async fn admin(visitor: &Client) -> Result<Client> {
    let path = "go-template={{.data.password | base64decode}}";
    let password = run("kubectl", &["get", "secret", "shop-admin", "-n", "shop", "-o", path]).await?;
    let login = json!({"email": "admin@shop.example", "password": password});
    let answer = visitor.send("POST", "/api/users/login", &login).await?;
    expect(&answer, 200, "", "the admin logs in")?;
    let body: Value = serde_json::from_str(&answer.body)?;
    let token = body["access_token"].as_str().context("a token")?.to_owned();
    Ok(Client { place: visitor.place.clone(), token: Some(token) })
}

fn event(strategy: &str) -> Value {
    json!({
        "name": "Concert", "venue": "Town hall", "price": 4500, "currency": "EUR", "capacity": SEATS,
        "per_user_limit": BUYERS, "strategy": strategy, "starts": "2099-06-01T20:00:00Z",
        "opens": "2020-01-01T00:00:00Z", "closes": "2099-06-01T20:00:00Z",
    })
}

fn id(body: &str) -> Result<String> {
    let body: Value = serde_json::from_str(body)?;
    Ok(body["id"].as_str().context("an id")?.to_owned())
}
