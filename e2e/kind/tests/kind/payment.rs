//! Orders of the shop that are paid, declined and cancelled through the gateway, and callbacks that nobody made.

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use weft_e2e_kind::SOON;
use weft_e2e_kind::wait::eventually;

use crate::apps::{expect, is};
use crate::shop::Client;

/// What the customer pays for, by the token of a means of payment, and what becomes of it.
pub(crate) async fn orders_are_paid_or_undone(visitor: &Client, product: &Value) -> Result<()> {
    let of = |method: &str| json!({"items": [{"product_id": product, "quantity": 1}], "payment": {"method": method}});
    let paid = visitor.send("POST", "/api/orders", &of("tok_ok")).await?;
    expect(&paid, 201, "", "an order with a means of payment is placed")?;
    let order: Value = serde_json::from_str(&paid.body)?;
    // At once; later, where payment could not be asked just now.
    becomes(visitor, &paid.body, "paid").await?;
    let declined = visitor.send("POST", "/api/orders", &of("tok_declined")).await?;
    expect(&declined, 409, "", "a declined payment undoes the order")?;
    let called_back = visitor.send("POST", "/api/orders", &of("tok_callback")).await?;
    expect(&called_back, 201, "", "an order is placed before the provider has said yes")?;
    becomes(visitor, &called_back.body, "paid").await?;

    let path = format!("/api/orders/{}", order["id"].as_str().context("an id")?);
    let cancelled = visitor.send("POST", &format!("{path}/cancel"), &json!({})).await?;
    expect(&cancelled, 200, "", "a paid order is cancelled")?;
    let reference = format!("order:{}", order["id"].as_str().context("an id")?);
    let payment = eventually("its money goes back", SOON, || async {
        let answer = is(visitor.get("/api/payments").await, 200, "")?;
        let listed: Value = serde_json::from_str(&answer.body).map_err(|error| error.to_string())?;
        let mut payments = listed["items"].as_array().into_iter().flatten();
        let refunded = payments.find(|p| p["reference"] == reference.as_str() && p["status"] == "refunded");
        refunded.cloned().ok_or_else(|| answer.told())
    })
    .await?;
    forged(visitor, &payment["id"]).await
}

async fn becomes(visitor: &Client, order: &str, status: &str) -> Result<()> {
    let order: Value = serde_json::from_str(order)?;
    let path = format!("/api/orders/{}", order["id"].as_str().context("an id")?);
    eventually(&format!("the order is {status}"), SOON, || async {
        let answer = is(visitor.get(&path).await, 200, "")?;
        let shown = format!("\"status\":\"{status}\"");
        if answer.body.contains(&shown) { Ok(()) } else { Err(answer.told()) }
    })
    .await
}

/// The path of callbacks asks for no token, and takes nothing that the provider did not sign; a refund asks for an admin.
async fn forged(visitor: &Client, payment: &Value) -> Result<()> {
    let callback =
        json!({"id": "evt_1", "type": "charge.captured", "payment": payment, "amount": 1, "currency": "EUR"});
    let refused = visitor.send("POST", "/api/payments/callback", &callback).await?;
    expect(&refused, 401, "", "a callback needs the provider's signature")?;
    ensure!(refused.body.contains("bad-signature"), "the service did not refuse it: {}", refused.body);
    let path = format!("/api/payments/{}/refund", payment.as_str().context("an id")?);
    let refused = visitor.send("POST", &path, &json!({})).await?;
    expect(&refused, 403, "forbidden", "a customer may not refund")
}
