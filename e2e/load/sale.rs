//! The rush: customers buy tickets of a few events, most of them of the first, the moment the sale opens.

use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use http::Method;
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

use crate::books::{self, Sold};
use crate::crowd::Crowd;
use crate::people::{People, Person};
use crate::progress::{Progress, note};
use crate::record::Outcome;
use crate::report::Report;
use crate::web::{Answer, Web};
use crate::{Cx, count};

/// Answers that are right: there are fewer tickets than customers, and not every card is good.
const RIGHT: [&str; 3] = ["sold-out", "limit-reached", "payment-declined"];

/// Who keeps count of the seats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Strategy {
    /// A script in Redis
    Redis,
    /// A row in PostgreSQL, locked by one customer after the other
    Postgres,
}

impl Strategy {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Strategy::Redis => "redis",
            Strategy::Postgres => "postgres",
        }
    }
}

/// How far customers go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Step {
    /// Reserve, and leave it at that
    Reserve,
    /// Reserve and pay in one go
    Buy,
}

/// The rush.
#[derive(Clone, Debug, Args)]
pub(crate) struct Sale {
    #[command(flatten)]
    pub(crate) crowd: Crowd,
    /// Who keeps count of the seats
    #[arg(long, value_enum, default_value = "redis")]
    pub(crate) strategy: Strategy,
    /// How far customers go
    #[arg(long, value_enum, default_value = "buy")]
    pub(crate) step: Step,
    /// How many customers there are
    #[arg(long, default_value = "1000", value_parser = count, value_name = "N")]
    pub(crate) buyers: usize,
    /// How many events are on sale
    #[arg(long, default_value = "3", value_parser = count, value_name = "N")]
    pub(crate) events: usize,
    /// Seats of each event
    #[arg(long, default_value = "500", value_parser = count, value_name = "N")]
    pub(crate) capacity: usize,
    /// Seats that one customer may have of an event
    #[arg(long, default_value = "4", value_parser = clap::value_parser!(u8).range(1..=100), value_name = "N")]
    pub(crate) limit: u8,
}

/// A ticket that a customer was told is theirs.
pub(crate) type Told = Arc<Mutex<Vec<Uuid>>>;

/// Puts events on sale, lets the customers in, and looks at the books.
pub(crate) async fn run(cx: &Cx, sale: &Sale) -> Result<Report> {
    let people = People::gather(&cx.site, cx.way, sale.buyers, &cx.identity).await?;
    let bases = cx.site.bases("ticket", cx.way)?;
    let web = Web::new();
    let mut events = Vec::new();
    for number in 0..sale.events {
        events.push(put_on_sale(&web, &bases[0], &people.admin, sale, number).await?);
    }
    let told = Told::default();
    let mut choices = sale.crowd.choices(events.len(), cx.seed);
    let drive = cx.drive();
    let name = format!("sale, {}, {}", sale.strategy.as_str(), cx.way.title());
    let progress = Progress::new(&name, sale.crowd.timing.lasts());
    let summary = drive
        .run(&sale.crowd.timing, &progress, || {
            let buyer = choices.any(&people.customers).clone();
            let event = *choices.wanted(&events);
            let base = choices.any(&bases);
            let request = Purchase {
                url: url(base, event, sale.step),
                body: json!({"quantity": 1, "method": sale.crowd.method}),
                key: choices.key(),
            };
            buy(web.clone(), buyer, request, told.clone())
        })
        .await;
    note("looking at the books");
    let told = told.lock().unwrap_or_else(PoisonError::into_inner).clone();
    let sold = Sold { tickets: format!("{}/tickets", bases[0]), events, step: sale.step, told };
    let books = books::sale(&cx.site, &web, &people.admin, &sold).await?;
    Ok(Report { name, settings: format!("{sale:?}"), summary, chat: None, books })
}

/// What one customer asks for.
struct Purchase {
    url: String,
    body: Value,
    key: String,
}

fn url(base: &str, event: Uuid, step: Step) -> String {
    let what = match step {
        Step::Reserve => "reservations",
        Step::Buy => "purchases",
    };
    format!("{base}/tickets/events/{event}/{what}")
}

async fn put_on_sale(web: &Web, base: &str, admin: &Person, sale: &Sale, number: usize) -> Result<Uuid> {
    let at = |time: OffsetDateTime| time.format(&Rfc3339).context("formatting a time");
    let now = OffsetDateTime::now_utc();
    let body = json!({
        "name": format!("Rush {number}"), "venue": "Everywhere", "price": 4500, "currency": "EUR",
        "capacity": sale.capacity, "per_user_limit": sale.limit, "strategy": sale.strategy.as_str(),
        "starts": at(now + time::Duration::days(2))?, "opens": at(now - time::Duration::MINUTE)?,
        "closes": at(now + time::Duration::DAY)?,
    });
    let url = format!("{base}/tickets/events");
    let made = web.ask(Method::POST, &url, &admin.headers, Some(&body)).await?;
    made["id"].as_str().and_then(|id| id.parse().ok()).context("an event has an id")
}

async fn buy(web: Web, buyer: Arc<Person>, purchase: Purchase, told: Told) -> Outcome {
    match web.post_once(&purchase.url, &buyer.headers, &purchase.key, &purchase.body).await {
        Ok(answer) => judge(&answer, &told),
        Err(reason) => Outcome::Failed(reason),
    }
}

fn judge(answer: &Answer, told: &Told) -> Outcome {
    if answer.status.is_success() {
        let id = answer.json().and_then(|ticket| ticket["id"].as_str()?.parse().ok());
        let Some(id) = id else { return Outcome::Failed("a ticket without id".into()) };
        // 202 says that the payment is under way: a promise of an answer, not of a ticket.
        if answer.status == http::StatusCode::CREATED {
            told.lock().unwrap_or_else(PoisonError::into_inner).push(id);
        }
        return Outcome::Done;
    }
    answer.refusal(&RIGHT)
}
