//! The books of orders: their totals, the stock that was taken for them, and the money that was paid for them. Looked at
//! when no saga is under way any more, and again until they balance or the time for that is over: a request that its
//! customer no longer waits for may begin an order between two tables.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use sqlx::{FromRow, PgConnection, query_as, query_scalar};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::{Check, LOOK_EVERY, ORDERS, SETTLE, connect, count, money_moved, same, under_way};
use crate::site::Site;

/// An order as its customer was told of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Told {
    pub(crate) id: Uuid,
    pub(crate) paid: bool,
}

/// An order for which a payment was asked.
#[derive(Debug, FromRow)]
struct Asked {
    id: Uuid,
    status: String,
    total: i64,
}

/// A payment for an order.
#[derive(Debug, FromRow)]
struct Payment {
    reference: String,
    status: String,
    amount: i64,
}

/// The tables that are compared.
struct Tables {
    orders: PgConnection,
    products: PgConnection,
    payments: Option<PgConnection>,
}

/// The books of orders, and of those that customers were told of; nothing where their databases are not known.
pub(crate) async fn orders(site: &Site, told: &[Told]) -> Result<Vec<Check>> {
    let (Some(orders), Some(products)) = (site.database("orders"), site.database("products")) else {
        return Ok(Vec::new());
    };
    let payments = match site.database("payments") {
        Some(payments) => Some(connect(payments).await?),
        None => None,
    };
    let mut tables = Tables { orders: connect(orders).await?, products: connect(products).await?, payments };
    let deadline = Instant::now() + SETTLE;
    loop {
        let checks = tables.look(told).await?;
        if checks.iter().all(|check| check.holds) || Instant::now() > deadline {
            return Ok(checks);
        }
        sleep(LOOK_EVERY).await;
    }
}

impl Tables {
    async fn look(&mut self, told: &[Told]) -> Result<Vec<Check>> {
        let mut checks = vec![self.settled().await?, self.totals().await?, self.stock().await?];
        if let Some(payments) = &mut self.payments {
            checks.push(orders_and_money(&asked(&mut self.orders).await?, &paid(payments).await?));
            checks.push(money_moved(payments, ORDERS).await?);
        }
        if !told.is_empty() {
            checks.push(self.as_told(told).await?);
        }
        Ok(checks)
    }

    async fn settled(&mut self) -> Result<Check> {
        let owed = "SELECT (SELECT count(*) FROM orders WHERE status = 'placing' OR step IS NOT NULL) \
            + (SELECT count(*) FROM releases)";
        let owed = count(&mut self.orders, owed).await?;
        let open = match &mut self.payments {
            Some(payments) => under_way(payments, ORDERS).await?,
            None => 0,
        };
        let found = format!("{owed} steps and {open} payments under way");
        Ok(Check::new("every order that was begun came to its end", owed + open == 0, found))
    }

    async fn totals(&mut self) -> Result<Check> {
        let wrong = "SELECT count(*) FROM orders WHERE total <> \
            (SELECT coalesce(sum(price * quantity), 0) FROM order_items WHERE order_id = orders.id)";
        Ok(Check::none("every order's total is that of its items", count(&mut self.orders, wrong).await?))
    }

    async fn stock(&mut self) -> Result<Check> {
        let live = "SELECT product_id::text, sum(quantity)::bigint FROM order_items JOIN orders ON orders.id = order_id \
            WHERE status NOT IN ('placing', 'failed', 'cancelled') GROUP BY product_id";
        let taken = "SELECT product_id::text, -sum(delta)::bigint FROM stock_operations \
            WHERE id LIKE 'order/%' AND NOT revoked GROUP BY product_id";
        let live: Vec<(String, i64)> = query_as(live).fetch_all(&mut self.orders).await?;
        let taken: Vec<(String, i64)> = query_as(taken).fetch_all(&mut self.products).await?;
        let name = "stock taken is that of the orders that live";
        Ok(same(name, &live.into_iter().collect(), &taken.into_iter().collect()))
    }

    /// A customer who was told that an order is paid has it; one who was told that it is placed may have been told since
    /// that it could not be paid.
    async fn as_told(&mut self, told: &[Told]) -> Result<Check> {
        let lost = "SELECT count(*) FROM unnest($1::uuid[], $2::boolean[]) AS told (id, paid) LEFT JOIN orders USING (id) \
            WHERE status IS NULL OR status IN ('placing', 'failed') OR (paid AND status IN ('pending', 'cancelled'))";
        let ids: Vec<Uuid> = told.iter().map(|told| told.id).collect();
        let paid: Vec<bool> = told.iter().map(|told| told.paid).collect();
        let lost: i64 = query_scalar(lost).bind(ids).bind(paid).fetch_one(&mut self.orders).await?;
        let found = format!("{lost} of {} are not", told.len());
        Ok(Check::new("every order is as its customer was told", lost == 0, found))
    }
}

async fn asked(orders: &mut PgConnection) -> Result<Vec<Asked>> {
    // What costs nothing is paid without a payment, and what an admin saw paid as well.
    let sql = "SELECT id, status, total FROM orders WHERE method IS NOT NULL AND total > 0";
    Ok(query_as(sql).fetch_all(orders).await?)
}

async fn paid(payments: &mut PgConnection) -> Result<Vec<Payment>> {
    let sql = "SELECT reference, status, amount FROM payments WHERE reference LIKE $1";
    Ok(query_as(sql).bind(ORDERS).fetch_all(payments).await?)
}

/// Orders that are paid and what was captured for orders: the same orders, the same money. An order that is on its way
/// stays so when an admin gives its money back.
fn orders_and_money(orders: &[Asked], payments: &[Payment]) -> Check {
    let of = |status: &'static str| payments.iter().filter(move |payment| payment.status == status);
    let returned: BTreeSet<&str> = of("refunded").map(|payment| payment.reference.as_str()).collect();
    let mut owed = BTreeMap::new();
    for order in orders {
        let reference = format!("order:{}", order.id);
        let is_owed = match order.status.as_str() {
            "paid" => true,
            "shipped" | "delivered" => !returned.contains(reference.as_str()),
            _ => false,
        };
        if is_owed {
            owed.insert(reference, order.total);
        }
    }
    let captured = of("captured").map(|payment| (payment.reference.clone(), payment.amount)).collect();
    same("paid orders are those whose payment was captured, at their total", &owed, &captured)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_is_paid_exactly_when_its_payment_was_captured() {
        let id = Uuid::from_u128(7);
        let order = |status: &str, total| vec![Asked { id, status: status.to_owned(), total }];
        let payment = |status: &str, amount| {
            vec![Payment { reference: format!("order:{id}"), status: status.to_owned(), amount }]
        };
        for (orders, payments, expect) in [
            (vec![], vec![], true),
            (order("paid", 5), payment("captured", 5), true),
            (order("delivered", 5), payment("captured", 5), true),
            (order("paid", 5), payment("captured", 4), false),
            (order("paid", 5), payment("refunded", 5), false),
            (order("paid", 5), payment("declined", 5), false),
            (order("paid", 5), vec![], false),
            (order("shipped", 5), payment("refunded", 5), true),
            (order("shipped", 5), vec![], false),
            (order("pending", 5), payment("captured", 5), false),
            (order("cancelled", 5), payment("captured", 5), false),
            (order("cancelled", 5), payment("refunded", 5), true),
            (order("cancelled", 5), payment("declined", 5), true),
            (order("failed", 5), payment("captured", 5), false),
            (order("failed", 5), vec![], true),
            // Of an order that nobody asked to have paid, or that there is not.
            (vec![], payment("captured", 5), false),
            (vec![], payment("refunded", 0), true),
        ] {
            assert_eq!(orders_and_money(&orders, &payments).holds, expect, "{orders:?} {payments:?}");
        }
    }
}
