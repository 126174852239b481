//! Events in PostgreSQL, and how many of their seats are taken.

use shop_kit::page::Page;
use sqlx::{FromRow, query_as, query_scalar};
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Store, unknown};
use crate::domain::sale::{Sale, Strategy};

/// The query for events, and the condition on them.
macro_rules! sales_where {
    ($condition:literal) => {
        concat!(
            "SELECT id, number, name, venue, starts, price, currency, capacity, per_user, opens, closes, strategy, \
             admission_rate FROM events WHERE ",
            $condition
        )
    };
}

#[derive(FromRow)]
struct Row {
    id: Uuid,
    number: i32,
    name: String,
    venue: String,
    starts: OffsetDateTime,
    price: i64,
    currency: String,
    capacity: i32,
    per_user: i32,
    opens: OffsetDateTime,
    closes: OffsetDateTime,
    strategy: String,
    admission_rate: Option<i32>,
}

impl Row {
    fn sale(self) -> sqlx::Result<Sale> {
        Ok(Sale {
            strategy: Strategy::parse(&self.strategy).ok_or_else(|| unknown("strategy", &self.strategy))?,
            id: self.id,
            number: self.number,
            name: self.name,
            venue: self.venue,
            starts: self.starts,
            price: self.price,
            currency: self.currency,
            capacity: self.capacity,
            per_user_limit: self.per_user,
            opens: self.opens,
            closes: self.closes,
            admission_rate: self.admission_rate,
        })
    }
}

impl Store {
    /// Keeps a new event and gives it its number.
    pub async fn add_sale(&self, sale: Sale, now: OffsetDateTime) -> sqlx::Result<Sale> {
        let sql = "INSERT INTO events (id, name, venue, starts, price, currency, capacity, per_user, opens, closes, \
                   strategy, admission_rate, created) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13) RETURNING number";
        let insert = query_scalar(sql).bind(sale.id).bind(&sale.name).bind(&sale.venue).bind(sale.starts);
        let insert = insert.bind(sale.price).bind(&sale.currency).bind(sale.capacity);
        let insert = insert.bind(sale.per_user_limit).bind(sale.opens).bind(sale.closes);
        let insert = insert.bind(sale.strategy.as_str()).bind(sale.admission_rate).bind(now);
        let number = insert.fetch_one(&self.pool).await?;
        Ok(Sale { number, ..sale })
    }

    /// The event of that id.
    pub async fn sale(&self, id: Uuid) -> sqlx::Result<Option<Sale>> {
        let row: Option<Row> = query_as(sales_where!("id = $1")).bind(id).fetch_optional(&self.pool).await?;
        row.map(Row::sale).transpose()
    }

    /// The event of that number.
    pub async fn sale_of_number(&self, number: i32) -> sqlx::Result<Option<Sale>> {
        let row: Option<Row> =
            query_as(sales_where!("number = $1")).bind(number).fetch_optional(&self.pool).await?;
        row.map(Row::sale).transpose()
    }

    /// One page of the events, the next first, and how many there are in all.
    pub async fn sales(&self, page: Page) -> sqlx::Result<(Vec<Sale>, u64)> {
        let sql = sales_where!("true ORDER BY starts, id LIMIT $1 OFFSET $2");
        let rows: Vec<Row> =
            query_as(sql).bind(page.limit()).bind(page.offset()).fetch_all(&self.pool).await?;
        let total: i64 = query_scalar("SELECT count(*) FROM events").fetch_one(&self.pool).await?;
        Ok((rows.into_iter().map(Row::sale).collect::<sqlx::Result<_>>()?, total.unsigned_abs()))
    }

    /// The events that Redis counts and whose sale is on or was until a moment ago.
    pub async fn sales_in_redis(&self, now: OffsetDateTime) -> sqlx::Result<Vec<Sale>> {
        let sql = sales_where!(
            "strategy = 'redis' AND opens <= $1 AND closes > $1 - interval '5 minutes' ORDER BY number"
        );
        let rows: Vec<Row> = query_as(sql).bind(now).fetch_all(&self.pool).await?;
        rows.into_iter().map(Row::sale).collect()
    }

    /// How many seats of an event are taken.
    pub async fn taken(&self, event: Uuid) -> sqlx::Result<i32> {
        query_scalar("SELECT taken FROM events WHERE id = $1").bind(event).fetch_one(&self.pool).await
    }
}
