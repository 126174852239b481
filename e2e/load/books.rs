//! Whether the books balance when all is over: what customers were told, the tickets, the orders, the stock, and the money
//! that moved must tell one story. Through the services' own APIs, and where their databases are known, from the tables.

mod orders;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result};
use http::Method;
use serde::{Deserialize, Serialize};
use sqlx::{Connection as _, PgConnection};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

pub(crate) use self::orders::{Told, orders};
use crate::people::Person;
use crate::sale::Step;
use crate::site::Site;
use crate::web::Web;

/// What is under way must come to its end within this time.
const SETTLE: Duration = Duration::from_secs(90);
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// What payments for tickets, for orders, and for anything are called.
const TICKETS: &str = "ticket:%";
const ORDERS: &str = "order:%";
const ALL: &str = "%";

/// Something that must hold.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Check {
    /// What.
    pub(crate) name: String,
    /// Whether it does.
    pub(crate) holds: bool,
    /// What was found.
    pub(crate) found: String,
}

impl Check {
    pub(crate) fn new(name: &str, holds: bool, found: impl Into<String>) -> Self {
        Self { name: name.to_owned(), holds, found: found.into() }
    }

    /// Of a query that counts what must not be.
    fn none(name: &str, count: i64) -> Self {
        Self::new(name, count == 0, format!("{count} against it"))
    }
}

/// What was sold: these events, and the tickets that customers were told are theirs.
pub(crate) struct Sold {
    /// The URL of all tickets.
    pub(crate) tickets: String,
    pub(crate) events: Vec<Uuid>,
    /// How far customers went.
    pub(crate) step: Step,
    pub(crate) told: Vec<Uuid>,
}

/// The books of a sale.
pub(crate) async fn sale(site: &Site, web: &Web, admin: &Person, sold: &Sold) -> Result<Vec<Check>> {
    let mut checks = vec![agreement(web, admin, sold).await?];
    let (Some(tickets), Some(payments)) = (site.database("tickets"), site.database("payments")) else {
        return Ok(checks);
    };
    let (mut tickets, mut payments) = (connect(tickets).await?, connect(payments).await?);
    checks.push(settled(&mut tickets, &mut payments).await?);
    checks.extend(of_tickets(&mut tickets, sold.step, &sold.told).await?);
    checks.push(tickets_and_money(&mut tickets, &mut payments).await?);
    checks.push(money_moved(&mut payments, TICKETS).await?);
    checks.extend(of_provider(&mut payments).await?);
    Ok(checks)
}

/// All books, from the tables alone.
pub(crate) async fn all(site: &Site) -> Result<Vec<Check>> {
    let database = |name: &str| {
        site.database(name).with_context(|| {
            format!("no database {name} is known: --database {name}=postgres://…, or --state")
        })
    };
    let (mut tickets, mut payments) =
        (connect(database("tickets")?).await?, connect(database("payments")?).await?);
    let mut checks = vec![settled(&mut tickets, &mut payments).await?];
    checks.extend(of_tickets(&mut tickets, Step::Buy, &[]).await?);
    checks.push(tickets_and_money(&mut tickets, &mut payments).await?);
    checks.extend(orders(site, &[]).await?);
    checks.push(money_moved(&mut payments, ALL).await?);
    checks.extend(of_provider(&mut payments).await?);
    Ok(checks)
}

async fn connect(url: &str) -> Result<PgConnection> {
    // Where it died a moment ago it is on its way back.
    let deadline = Instant::now() + SETTLE;
    loop {
        match PgConnection::connect(url).await {
            Ok(connection) => return Ok(connection),
            Err(error) if Instant::now() > deadline => return Err(error).context("connecting to a database"),
            Err(_) => sleep(LOOK_EVERY).await,
        }
    }
}

/// Each service compares Redis and PostgreSQL itself; what is on its way between them may take a moment.
async fn agreement(web: &Web, admin: &Person, Sold { tickets, events, .. }: &Sold) -> Result<Check> {
    let name = "Redis and PostgreSQL agree about every event";
    let deadline = Instant::now() + SETTLE;
    let mut seats = 0;
    for event in events {
        let url = format!("{tickets}/events/{event}/reconciliation");
        loop {
            let report = web.ask(Method::GET, &url, &admin.headers, None).await;
            match report {
                Ok(report)
                    if report["agrees"] == true && report["unwritten"].as_i64().unwrap_or_default() == 0 =>
                {
                    seats += report["in_postgres"].as_i64().unwrap_or_default();
                    break;
                }
                Ok(report) if Instant::now() > deadline => {
                    return Ok(Check::new(name, false, report.to_string()));
                }
                Err(error) if Instant::now() > deadline => return Err(error),
                _ => sleep(LOOK_EVERY).await,
            }
        }
    }
    Ok(Check::new(name, true, format!("{} events, {seats} seats taken", events.len())))
}

async fn count(database: &mut PgConnection, sql: &'static str) -> Result<i64> {
    sqlx::query_scalar(sql).fetch_one(database).await.with_context(|| sql.to_owned())
}

/// A ticket whose payment was never asked for, since whoever would have asked died, waits until its reservation has
/// expired. Nobody is charged for it, so it may.
async fn settled(tickets: &mut PgConnection, payments: &mut PgConnection) -> Result<Check> {
    let deadline = Instant::now() + SETTLE;
    loop {
        let open: Vec<String> =
            sqlx::query_scalar("SELECT 'ticket:' || id FROM tickets WHERE status IN ('paying', 'refunding')")
                .fetch_all(&mut *tickets)
                .await?;
        let asked: i64 = sqlx::query_scalar("SELECT count(*) FROM payments WHERE reference = ANY($1)")
            .bind(&open)
            .fetch_one(&mut *payments)
            .await?;
        let paying = under_way(payments, TICKETS).await?;
        if asked + paying == 0 || Instant::now() > deadline {
            let found = format!(
                "{asked} tickets and {paying} payments under way; {} tickets wait to expire",
                open.len()
            );
            return Ok(Check::new(
                "every payment that was begun came to its end",
                asked + paying == 0,
                found,
            ));
        }
        sleep(LOOK_EVERY).await;
    }
}

async fn of_tickets(tickets: &mut PgConnection, step: Step, told: &[Uuid]) -> Result<Vec<Check>> {
    let oversold = "SELECT count(*) FROM events WHERE taken > capacity OR taken <> \
        (SELECT coalesce(sum(seats), 0) FROM tickets WHERE event_id = events.id)";
    let greedy = "SELECT count(*) FROM (SELECT event_id, sum(seats) AS seats FROM tickets GROUP BY event_id, user_id) had \
        JOIN events ON events.id = event_id WHERE had.seats > per_user";
    let lost = match step {
        Step::Buy => {
            "SELECT count(*) FROM unnest($1::uuid[]) AS told (id) LEFT JOIN tickets USING (id) WHERE status IS DISTINCT FROM 'sold'"
        }
        // A reservation that nobody pays for ends, and is not lost by that.
        Step::Reserve => {
            "SELECT count(*) FROM unnest($1::uuid[]) AS told (id) LEFT JOIN tickets USING (id) WHERE status IS NULL"
        }
    };
    let twice = told.len() - told.iter().collect::<std::collections::BTreeSet<_>>().len();
    let lost: i64 = sqlx::query_scalar(lost).bind(told).fetch_one(&mut *tickets).await?;
    Ok(vec![
        Check::none(
            "no event has more seats taken than it has, nor counts them wrong",
            count(tickets, oversold).await?,
        ),
        Check::none("nobody has more seats than allowed", count(tickets, greedy).await?),
        Check::new(
            "every ticket that a customer was told of is theirs",
            lost == 0,
            format!("{lost} of {} lost", told.len()),
        ),
        Check::new("no ticket was told of twice", twice == 0, format!("{twice} twice")),
    ])
}

/// Sold tickets and the payments for them: the same tickets, the same money.
async fn tickets_and_money(tickets: &mut PgConnection, payments: &mut PgConnection) -> Result<Check> {
    let sold: Vec<(Uuid, i64)> =
        sqlx::query_as("SELECT id, price FROM tickets WHERE status = 'sold'").fetch_all(tickets).await?;
    let paid: Vec<(String, i64)> = sqlx::query_as(
        "SELECT reference, amount FROM payments WHERE status = 'captured' AND reference LIKE 'ticket:%'",
    )
    .fetch_all(payments)
    .await?;
    let sold: BTreeMap<String, i64> =
        sold.into_iter().map(|(id, price)| (format!("ticket:{id}"), price)).collect();
    Ok(same("sold tickets are those that are paid, at their price", &sold, &paid.into_iter().collect()))
}

/// What is owed and what was paid, by reference.
fn same(name: &str, owed: &BTreeMap<String, i64>, paid: &BTreeMap<String, i64>) -> Check {
    let unpaid = owed.iter().filter(|(reference, amount)| paid.get(*reference) != Some(amount)).count();
    let unowed = paid.keys().filter(|reference| !owed.contains_key(*reference)).count();
    let found = format!(
        "{} for {}, {unpaid} not paid as owed, {unowed} paid for nothing",
        owed.len(),
        owed.values().sum::<i64>()
    );
    Check::new(name, unpaid + unowed == 0, found)
}

/// How many payments of that name the provider has not settled.
async fn under_way(payments: &mut PgConnection, called: &str) -> Result<i64> {
    let sql = "SELECT count(*) FROM payments WHERE status IN ('pending', 'refunding') AND reference LIKE $1";
    Ok(sqlx::query_scalar(sql).bind(called).fetch_one(payments).await?)
}

/// Payments of that name, and the money that really moved.
async fn money_moved(payments: &mut PgConnection, called: &str) -> Result<Check> {
    let sql = "SELECT count(*) FILTER (WHERE coalesce(moved, 0) <> CASE WHEN status = 'captured' THEN amount ELSE 0 END), \
        coalesce(sum(moved), 0)::bigint FROM payments LEFT JOIN \
        (SELECT charge, sum(amount) AS moved FROM provider.movements GROUP BY charge) m ON m.charge = payments.id \
        WHERE reference LIKE $1";
    let (wrong, total): (i64, i64) = sqlx::query_as(sql).bind(called).fetch_one(payments).await?;
    let kind = called.trim_end_matches([':', '%']);
    let name = match kind {
        "" => "money moved as the payments say: taken minus given back".to_owned(),
        kind => format!("money moved as the payments for {kind}s say: taken minus given back"),
    };
    Ok(Check::new(&name, wrong == 0, format!("{wrong} against it, {total} in all")))
}

/// What the provider did, whatever it was asked for.
async fn of_provider(payments: &mut PgConnection) -> Result<Vec<Check>> {
    let strange = "SELECT count(*) FROM provider.movements WHERE charge NOT IN (SELECT id FROM payments)";
    let twice = "SELECT count(*) FROM (SELECT charge FROM provider.movements WHERE amount > 0 GROUP BY charge HAVING count(*) > 1) t";
    Ok(vec![
        Check::none("no money moved without a payment", count(payments, strange).await?),
        Check::none("nobody was charged twice", count(payments, twice).await?),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_owed_and_what_is_paid_must_be_the_same() {
        let books = |entries: &[(&str, i64)]| {
            entries.iter().map(|(name, amount)| ((*name).to_owned(), *amount)).collect()
        };
        for (owed, paid, expect) in [
            (books(&[]), books(&[]), true),
            (books(&[("a", 5)]), books(&[("a", 5)]), true),
            (books(&[("a", 5)]), books(&[("a", 4)]), false),
            (books(&[("a", 5)]), books(&[]), false),
            (books(&[]), books(&[("a", 5)]), false),
        ] {
            assert_eq!(same("", &owed, &paid).holds, expect, "{owed:?} {paid:?}");
        }
    }
}
