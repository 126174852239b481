//! The shop, installed by its chart, and the tour through its gateway as a client outside the mesh takes it.

use anyhow::{Context, Result, ensure};
use futures_util::future::try_join_all;
use serde_json::{Value, json};
use weft_e2e_kind::command::run;
use weft_e2e_kind::exec::Place;
use weft_e2e_kind::runner::Cx;
use weft_e2e_kind::space::Space;
use weft_e2e_kind::wait::eventually;
use weft_e2e_kind::wire::Answer;
use weft_e2e_kind::{ROLLOUT, SOON};

use crate::apps::{expect, is, labels};
use crate::chat;
use crate::install::chart;
use crate::notification;
use crate::payment;
use crate::tickets;

/// The gateway, by its Service.
const GATEWAY: &str = "http://public.shop.svc:8080";
/// Connections, each to any instance of the gateway: that one of two gets none is as likely as one in half a million.
const VISITS: usize = 20;

/// A client of the gateway.
pub(crate) struct Client {
    /// Where it is.
    pub(crate) place: Place,
    /// Who it is.
    pub(crate) token: Option<String>,
}

impl Client {
    pub(crate) async fn get(&self, path: &str) -> Result<Answer> {
        self.send("GET", path, &Value::Null).await
    }

    pub(crate) async fn send(&self, method: &str, path: &str, body: &Value) -> Result<Answer> {
        let url = format!("{GATEWAY}{path}");
        let authorization = self.token.as_ref().map(|token| format!("authorization: Bearer {token}"));
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let mut args = vec!["-X", method, "-d", &body, "-H", "content-type: application/json"];
        args.extend(authorization.iter().flat_map(|header| ["-H", header.as_str()]));
        args.push(&url);
        self.place.call(&args).await
    }
}

/// Register, log in, browse, order; what is refused; what is still served while product is gone.
pub(crate) async fn tour_through_the_gateway(cx: Cx) -> Result<()> {
    Space::create(&cx.cluster, "shop", true).await?;
    let shop = cx.existing("shop");
    let outside = cx.plain().await?;
    let chart = chart(&cx.cluster, "shop");
    run("helm", &["upgrade", "--install", "shop", &chart, "-n", "shop"]).await?;
    let place = outside.caller("visitor").await?;
    let parts = ["user", "product", "order", "payment"].map(|part| shop.in_service(part));
    try_join_all(parts).await?;
    shop.rolled_out("public").await?;
    let mut visitor = Client { place, token: None };
    eventually("the gateway answers", ROLLOUT, || async {
        is(visitor.get("/api/products?per_page=3").await, 200, "")
    })
    .await?;

    register(&mut visitor).await?;
    order(&mut visitor).await?;
    notification::the_customer_is_told(&shop, &visitor).await?;
    shop.in_service("ticket").await?;
    tickets::are_sold_once(&visitor).await?;
    let token = visitor.token.as_deref().context("a token")?;
    chat::reaches_people_on_different_instances(&shop, &visitor.place, token).await?;
    direct(&visitor).await?;

    // Answers to a request with a token are nobody else's, so they are not kept; and each instance of the gateway keeps its
    // own. So many connections reach all of them.
    visitor.token = None;
    for _ in 0..VISITS {
        expect(&visitor.get("/api/products?per_page=3").await?, 200, "", "browsing without a token")?;
    }
    shop.patch_microservice("product", json!({"spec": {"workload": {"replicas": 0}}})).await?;
    shop.pods(&labels("product"), 0).await?;
    let stale = eventually("an old answer is served while product is gone", SOON, || async {
        is(visitor.get("/api/products?per_page=3").await, 200, "")
    })
    .await?;
    ensure!(
        stale.header("x-weft-stale") == "true",
        "the answer does not say that it is old: {}",
        stale.told()
    );
    shop.patch_microservice("product", json!({"spec": {"workload": {"replicas": 2}}})).await?;
    shop.in_service("product").await?;
    eventually("a fresh answer comes", ROLLOUT, || async {
        let answer = is(visitor.get("/api/products?per_page=3").await, 200, "")?;
        if answer.header("x-weft-stale").is_empty() { Ok(()) } else { Err(answer.told()) }
    })
    .await
}

async fn register(visitor: &mut Client) -> Result<()> {
    let email = format!("tour-{:08x}@shop.example", rand::random::<u32>());
    let ada = json!({"email": email, "password": "correct horse battery", "name": "Ada"});
    expect(&visitor.send("POST", "/api/users", &ada).await?, 201, "", "anyone may register")?;
    let answer = visitor.send("POST", "/api/users/login", &ada).await?;
    expect(&answer, 200, "", "who has registered may log in")?;
    let body: Value = serde_json::from_str(&answer.body)?;
    visitor.token = Some(body["access_token"].as_str().context("a token")?.to_owned());
    Ok(())
}

async fn order(visitor: &mut Client) -> Result<()> {
    let answer = visitor.get("/api/products?per_page=100").await?;
    let body: Value = serde_json::from_str(&answer.body)?;
    let mut products = body.as_array().or_else(|| body["items"].as_array()).into_iter().flatten();
    let beans = products.find(|product| product["name"] == "Coffee beans, 1 kg");
    let beans = beans.with_context(|| format!("coffee beans among {}", answer.body))?["id"].clone();
    let of = |quantity: u32| json!({"items": [{"product_id": beans, "quantity": quantity}]});

    let token = visitor.token.take();
    let refused = visitor.send("POST", "/api/orders", &of(1)).await?;
    expect(&refused, 401, "jwt-missing", "an order needs a token")?;
    visitor.token = token;
    // The keys may be on their way to the gateway's proxy still.
    let ordered = eventually("an order with a token is taken", SOON, || async {
        is(visitor.send("POST", "/api/orders", &of(2)).await, 201, "")
    })
    .await?;
    ensure!(ordered.body.contains("pending"), "the order is not pending: {}", ordered.body);
    payment::orders_are_paid_or_undone(visitor, &beans).await?;
    let much = visitor.send("POST", "/api/orders", &of(1000)).await?;
    expect(&much, 409, "", "more than there is cannot be ordered")?;
    let lunch =
        json!({"name": "Free lunch", "description": "None.", "price": 0, "currency": "EUR", "stock": 1});
    let refused = visitor.send("POST", "/api/products", &lunch).await?;
    expect(&refused, 403, "forbidden", "a customer may not add products")
}

/// Past the gateway nobody gets in.
async fn direct(visitor: &Client) -> Result<()> {
    let answer = visitor.place.get("http://product.shop.svc/products").await?;
    expect(&answer, 403, "peer-unauthenticated", "without identity nobody reaches product")
}
