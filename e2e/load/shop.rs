//! The everyday mix: customers browse, order, look at their orders, and some change their mind.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use clap::Args;
use http::Method;
use serde_json::json;

use crate::books::{self, Told};
use crate::crowd::Crowd;
use crate::people::{People, Person};
use crate::progress::{Progress, note};
use crate::record::Outcome;
use crate::report::Report;
use crate::web::{Answer, Web};
use crate::{Cx, count, positive};

const RIGHT: [&str; 2] = ["out-of-stock", "payment-declined"];
/// Enough that the mix does not run out of it.
const STOCK: u32 = 1_000_000;

/// The everyday mix.
#[derive(Clone, Debug, Args)]
pub(crate) struct Shop {
    #[command(flatten)]
    pub(crate) crowd: Crowd,
    /// How many customers there are
    #[arg(long, default_value = "200", value_parser = count, value_name = "N")]
    pub(crate) customers: usize,
    /// How many products there are
    #[arg(long, default_value = "20", value_parser = count, value_name = "N")]
    pub(crate) products: usize,
    /// Share of requests for a product or a page of products
    #[arg(long, default_value = "75", value_parser = positive, value_name = "SHARE")]
    pub(crate) browse: f64,
    /// Share of orders
    #[arg(long, default_value = "15", value_parser = positive, value_name = "SHARE")]
    pub(crate) order: f64,
    /// Share of looks at one's own orders
    #[arg(long, default_value = "8", value_parser = positive, value_name = "SHARE")]
    pub(crate) look: f64,
    /// Share of cancelled orders
    #[arg(long, default_value = "2", value_parser = positive, value_name = "SHARE")]
    pub(crate) cancel: f64,
}

/// What a customer does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Act {
    Browse,
    Order,
    Look,
    Cancel,
}

/// Orders that nobody tried to cancel, as their customers were told of them, and whose they are.
type Orders = Arc<Mutex<Vec<(Arc<Person>, Told)>>>;

/// Fills the shelves, lets the customers in, and looks at the books.
pub(crate) async fn run(cx: &Cx, shop: &Shop) -> Result<Report> {
    let shares = [
        (Act::Browse, shop.browse),
        (Act::Order, shop.order),
        (Act::Look, shop.look),
        (Act::Cancel, shop.cancel),
    ];
    let whole: f64 = shares.iter().map(|(_, share)| share).sum();
    ensure!(whole > 0.0, "all shares are 0: give one of --browse, --order, --look and --cancel more");
    let people = People::gather(&cx.site, cx.way, shop.customers, &cx.identity).await?;
    let web = Web::new();
    let products = Arc::new(shelves(cx, &web, &people.admin, shop.products).await?);
    let mut choices = shop.crowd.choices(products.len(), cx.seed);
    let (catalogue, orders) = (cx.site.bases("product", cx.way)?, cx.site.bases("order", cx.way)?);
    let placed = Orders::default();
    let name = format!("shop, {}", cx.way.title());
    let progress = Progress::new(&name, shop.crowd.timing.lasts());
    let summary = cx
        .drive()
        .run(&shop.crowd.timing, &progress, || {
            let mut at = choices.unit() * whole;
            let chosen = shares.iter().find(|(_, share)| {
                at -= share;
                at < 0.0
            });
            Box::pin(act(Visit {
                act: chosen.map_or(Act::Browse, |(act, _)| *act),
                web: web.clone(),
                who: choices.any(&people.customers).clone(),
                product: choices.wanted(&products).clone(),
                catalogue: choices.any(&catalogue).clone(),
                orders: choices.any(&orders).clone(),
                key: choices.key(),
                method: shop.crowd.method.clone(),
                placed: placed.clone(),
            }))
        })
        .await;
    note("looking at the books");
    let placed = placed.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let told: Vec<Told> = placed.into_iter().map(|(_, told)| told).collect();
    let mut books = books::orders(&cx.site, &told).await?;
    if !books.is_empty() {
        books.push(books::Check::new(
            "orders were placed",
            !told.is_empty() || shop.order == 0.0,
            format!("{} not cancelled", told.len()),
        ));
    }
    Ok(Report { name, settings: format!("{shop:?}"), summary, chat: None, books })
}

async fn shelves(cx: &Cx, web: &Web, admin: &Person, count: usize) -> Result<Vec<String>> {
    let base = cx.site.bases("product", cx.way)?.remove(0);
    let mut products = Vec::new();
    for number in 0..count {
        let body = json!({"name": format!("Load {number}"), "description": "For a load", "price": 1000 + number, "currency": "EUR", "stock": STOCK});
        let made = web.ask(Method::POST, &format!("{base}/products"), &admin.headers, Some(&body)).await?;
        products.push(made["id"].as_str().context("a product has an id")?.to_owned());
    }
    Ok(products)
}

/// One thing that one customer does.
struct Visit {
    act: Act,
    web: Web,
    who: Arc<Person>,
    product: String,
    catalogue: String,
    orders: String,
    key: String,
    method: String,
    placed: Orders,
}

async fn act(visit: Visit) -> Outcome {
    let placed = || visit.placed.lock().unwrap_or_else(PoisonError::into_inner);
    let Visit { web, who, product, catalogue, orders, .. } = &visit;
    // Nobody has anything to cancel at first.
    let cancelled = if visit.act == Act::Cancel { placed().pop() } else { None };
    let sent = match (visit.act, &cancelled) {
        (Act::Browse, _) => {
            web.send(Method::GET, &format!("{catalogue}/products/{product}"), &who.headers, None).await
        }
        (Act::Order, _) => {
            let items = json!([{"product_id": product, "quantity": 1}]);
            let body = json!({"items": items, "payment": {"method": visit.method}});
            web.post_once(&format!("{orders}/orders"), &who.headers, &visit.key, &body).await
        }
        (Act::Cancel, Some((owner, Told { id, .. }))) => {
            web.send(Method::POST, &format!("{orders}/orders/{id}/cancel"), &owner.headers, None).await
        }
        (Act::Look | Act::Cancel, _) => {
            web.send(Method::GET, &format!("{orders}/orders?per_page=5"), &who.headers, None).await
        }
    };
    match sent {
        Ok(answer) if answer.status.is_success() => {
            if visit.act == Act::Order
                && let Some(told) = told(&answer)
            {
                placed().push((who.clone(), told));
            }
            Outcome::Done
        }
        Ok(answer) => answer.refusal(&RIGHT),
        Err(reason) => Outcome::Failed(reason),
    }
}

fn told(answer: &Answer) -> Option<Told> {
    let order = answer.json()?;
    Some(Told { id: order["id"].as_str()?.parse().ok()?, paid: order["status"] == "paid" })
}
