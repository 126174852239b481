//! Tickets in PostgreSQL: held under the lock of their event or written down after Redis held them, and moved on.

use shop_kit::{errors::chain, events, page::Page};
use sqlx::{FromRow, PgConnection, query, query_as, query_scalar};
use time::OffsetDateTime;
use tracing::warn;
use uuid::Uuid;

use super::{Store, is_no_seat, unknown};
use crate::domain::{
    sale::Sale,
    ticket::{Hold, Status, Ticket},
};

const EXPIRE_AT_ONCE: i64 = 500;
const SETTLE_AT_ONCE: i64 = 100;

/// The columns of a ticket `t` of an event `e`.
macro_rules! columns {
    () => {
        "t.id, t.event_id, e.name AS event_name, t.user_id, t.quantity, t.price, e.currency, t.status, t.reason, \
         t.expires, t.created, t.traceparent"
    };
}

/// The query for tickets, and the condition on them.
macro_rules! tickets_where {
    ($condition:literal) => {
        concat!(
            "SELECT ",
            columns!(),
            " FROM tickets t JOIN events e ON e.id = t.event_id WHERE ",
            $condition
        )
    };
}

/// The change of tickets that meet a condition.
macro_rules! tickets_set {
    ($change:literal, $condition:literal) => {
        concat!(
            "UPDATE tickets t SET ",
            $change,
            " FROM events e WHERE e.id = t.event_id AND ",
            $condition,
            " RETURNING ",
            columns!()
        )
    };
}

/// What came of asking for seats under the lock of their event.
#[derive(Debug)]
pub enum Locked {
    /// They are held.
    New,
    /// There is a ticket of that id.
    Known,
    /// There are not so many left.
    SoldOut,
    /// The customer may not have so many.
    LimitReached,
}

/// How a payment could be begun.
#[derive(Debug)]
pub enum Begun {
    /// The ticket is being paid.
    Paying(Ticket),
    /// The ticket is not held, or not any more.
    NotHeld,
    /// The seat that Redis held is somebody else's, or the customer has others already.
    NoSeat,
}

/// Who pays, with what, and when.
pub struct Payer<'a> {
    /// Whose ticket it must be.
    pub user_id: Uuid,
    /// The means of payment.
    pub method: &'a str,
    /// The trace.
    pub traceparent: Option<&'a str>,
    /// The time.
    pub now: OffsetDateTime,
}

#[derive(FromRow)]
struct Row {
    id: Uuid,
    event_id: Uuid,
    event_name: String,
    user_id: Uuid,
    quantity: i32,
    price: i64,
    currency: String,
    status: String,
    reason: Option<String>,
    expires: OffsetDateTime,
    created: OffsetDateTime,
    traceparent: Option<String>,
}

impl Row {
    fn ticket(self) -> sqlx::Result<Ticket> {
        Ok(Ticket {
            status: Status::parse(&self.status).ok_or_else(|| unknown("status", &self.status))?,
            id: self.id,
            event_id: self.event_id,
            event_name: self.event_name,
            user_id: self.user_id,
            quantity: self.quantity,
            price: self.price,
            currency: self.currency,
            reason: self.reason,
            expires: self.expires,
            created: self.created,
            traceparent: self.traceparent,
        })
    }
}

fn all(rows: Vec<Row>) -> sqlx::Result<Vec<Ticket>> {
    rows.into_iter().map(Row::ticket).collect()
}

impl Store {
    /// The ticket of that id.
    pub async fn ticket(&self, id: Uuid) -> sqlx::Result<Option<Ticket>> {
        let row: Option<Row> =
            query_as(tickets_where!("t.id = $1")).bind(id).fetch_optional(&self.pool).await?;
        row.map(Row::ticket).transpose()
    }

    /// One page of a customer's tickets, newest first, and how many there are in all.
    pub async fn tickets(&self, user: Uuid, page: Page) -> sqlx::Result<(Vec<Ticket>, u64)> {
        let sql = tickets_where!("t.user_id = $1 ORDER BY t.created DESC, t.id LIMIT $2 OFFSET $3");
        let found = query_as(sql).bind(user).bind(page.limit()).bind(page.offset());
        let rows = found.fetch_all(&self.pool).await?;
        let count = query_scalar("SELECT count(*) FROM tickets WHERE user_id = $1").bind(user);
        let total: i64 = count.fetch_one(&self.pool).await?;
        Ok((all(rows)?, total.unsigned_abs()))
    }

    /// Holds seats under the lock of the event's row: who comes next waits here until this one is done.
    pub async fn hold_under_lock(&self, sale: &Sale, hold: &Hold) -> sqlx::Result<Locked> {
        let mut tx = self.pool.begin().await?;
        let lock = query_scalar("SELECT taken FROM events WHERE id = $1 FOR UPDATE").bind(sale.id);
        let taken: i32 = lock.fetch_one(&mut *tx).await?;
        // A statement of its own: what waits for a lock still sees the other tables as before it waited.
        let sql = "SELECT EXISTS (SELECT FROM tickets WHERE id = $1), \
                   (SELECT coalesce(sum(seats), 0) FROM tickets WHERE event_id = $2 AND user_id = $3 AND seats > 0)";
        let look = query_as(sql).bind(hold.id).bind(sale.id).bind(hold.user_id);
        let (known, own): (bool, i64) = look.fetch_one(&mut *tx).await?;
        if known {
            return Ok(Locked::Known);
        }
        if own + i64::from(hold.quantity) > i64::from(sale.per_user_limit) {
            return Ok(Locked::LimitReached);
        }
        if hold.quantity > sale.capacity - taken {
            return Ok(Locked::SoldOut);
        }
        insert_held(&mut tx, sale, std::slice::from_ref(hold)).await?;
        tx.commit().await?;
        Ok(Locked::New)
    }

    /// Writes down what Redis held. What is written already stays as it is; holds without a seat are returned.
    pub async fn write(&self, sale: &Sale, holds: &[Hold]) -> sqlx::Result<Vec<Hold>> {
        let mut connection = self.pool.acquire().await?;
        match insert_held(&mut connection, sale, holds).await {
            Ok(()) => return Ok(Vec::new()),
            Err(error) if is_no_seat(&error) => {
                warn!(event = %sale.id, error = chain(&error), "redis held seats that are taken, or beyond a customer's limit");
            }
            Err(error) => return Err(error),
        }
        let mut refused = Vec::new();
        for hold in holds {
            match insert_held(&mut connection, sale, std::slice::from_ref(hold)).await {
                Ok(()) => {}
                Err(error) if is_no_seat(&error) => refused.push(*hold),
                Err(error) => return Err(error),
            }
        }
        Ok(refused)
    }

    /// Marks a held ticket as being paid.
    pub async fn begin_payment(&self, id: Uuid, payer: &Payer<'_>) -> sqlx::Result<Begun> {
        let sql = tickets_set!(
            "status = 'paying', method = $3, traceparent = $4, changed = $5",
            "t.id = $1 AND t.user_id = $2 AND t.status = 'held' AND t.expires > $5"
        );
        let update = query_as(sql).bind(id).bind(payer.user_id).bind(payer.method).bind(payer.traceparent);
        let row: Option<Row> = update.bind(payer.now).fetch_optional(&self.pool).await?;
        row.map_or(Ok(Begun::NotHeld), |row| row.ticket().map(Begun::Paying))
    }

    /// Writes down what Redis held as being paid, or marks it so if it is written already.
    pub async fn begin_payment_of(&self, sale: &Sale, hold: &Hold, payer: &Payer<'_>) -> sqlx::Result<Begun> {
        let sql = "INSERT INTO tickets AS t (id, event_id, user_id, quantity, price, status, method, traceparent, \
                   expires, created, changed) VALUES ($1, $2, $3, $4, $5, 'paying', $6, $7, $8, $9, $10) \
                   ON CONFLICT (id) DO UPDATE SET status = 'paying', method = $6, traceparent = $7, changed = $10 \
                   WHERE t.status = 'held' AND t.expires > $10";
        let insert = query(sql).bind(hold.id).bind(sale.id).bind(hold.user_id).bind(hold.quantity);
        let insert = insert.bind(sale.total(hold.quantity)).bind(payer.method).bind(payer.traceparent);
        match insert.bind(hold.expires).bind(hold.created).bind(payer.now).execute(&self.pool).await {
            Ok(done) if done.rows_affected() == 0 => Ok(Begun::NotHeld),
            Ok(_) => {
                let traceparent = payer.traceparent.map(str::to_owned);
                Ok(Begun::Paying(Ticket { status: Status::Paying, traceparent, ..Ticket::held(sale, hold) }))
            }
            Err(error) if is_no_seat(&error) => Ok(Begun::NoSeat),
            Err(error) => Err(error),
        }
    }

    /// Gives a ticket its next status, with the message that tells of it, and has Redis told of seats that are free
    /// again. Returns nothing when the ticket is not as it was thought to be any more.
    pub async fn move_on(
        &self,
        ticket: &Ticket,
        to: Status,
        reason: Option<&str>,
        now: OffsetDateTime,
    ) -> sqlx::Result<Option<Ticket>> {
        let mut tx = self.pool.begin().await?;
        let sql = tickets_set!(
            "status = $3, reason = coalesce($4, t.reason), changed = $5",
            "t.id = $1 AND t.status = $2"
        );
        let update = query_as(sql).bind(ticket.id).bind(ticket.status.as_str()).bind(to.as_str());
        let row: Option<Row> = update.bind(reason).bind(now).fetch_optional(&mut *tx).await?;
        let Some(moved) = row.map(Row::ticket).transpose()? else { return Ok(None) };
        finish(&mut tx, std::slice::from_ref(&moved), now).await?;
        tx.commit().await?;
        Ok(Some(moved))
    }

    /// Ends holds that have expired, and returns how many.
    pub async fn expire(&self, now: OffsetDateTime) -> sqlx::Result<usize> {
        let sql =
            "SELECT event_id FROM tickets WHERE status = 'held' AND expires <= $1 ORDER BY expires LIMIT 1";
        let event: Option<Uuid> = query_scalar(sql).bind(now).fetch_optional(&self.pool).await?;
        let Some(event) = event else { return Ok(0) };
        let mut tx = self.pool.begin().await?;
        let sql = tickets_set!(
            "status = 'expired', changed = $1",
            "t.id IN (SELECT id FROM tickets WHERE event_id = $2 AND status = 'held' AND expires <= $1 \
             ORDER BY id LIMIT $3 FOR UPDATE SKIP LOCKED)"
        );
        let rows = query_as(sql).bind(now).bind(event).bind(EXPIRE_AT_ONCE).fetch_all(&mut *tx).await?;
        let expired = all(rows)?;
        finish(&mut tx, &expired, now).await?;
        tx.commit().await?;
        Ok(expired.len())
    }

    /// Tickets whose payment has been open for a while, for this instance to ask about; others leave them alone as long.
    pub async fn claim_unsettled(
        &self,
        before: OffsetDateTime,
        now: OffsetDateTime,
    ) -> sqlx::Result<Vec<Ticket>> {
        let sql = tickets_set!(
            "changed = $2",
            "t.id IN (SELECT id FROM tickets WHERE status IN ('paying', 'refunding') AND changed <= $1 \
             ORDER BY changed LIMIT $3 FOR UPDATE SKIP LOCKED)"
        );
        all(query_as(sql).bind(before).bind(now).bind(SETTLE_AT_ONCE).fetch_all(&self.pool).await?)
    }
}

/// What goes with the change of tickets: their messages, and seats that Redis must learn are free.
async fn finish(tx: &mut PgConnection, tickets: &[Ticket], now: OffsetDateTime) -> sqlx::Result<()> {
    let messages: Vec<_> = tickets.iter().filter_map(|ticket| ticket.message(now)).collect();
    if !messages.is_empty() {
        // In one statement: the event's row is locked by now, and who buys waits for it.
        events::enqueue_all(&mut *tx, &messages).await?;
    }
    let freed: Vec<Uuid> =
        tickets.iter().filter(|ticket| !ticket.status.takes_seats()).map(|ticket| ticket.id).collect();
    if freed.is_empty() {
        return Ok(());
    }
    let sql = "INSERT INTO releases (ticket_id) SELECT t.id FROM tickets t JOIN events e ON e.id = t.event_id \
               WHERE t.id = ANY($1) AND e.strategy = 'redis' ON CONFLICT DO NOTHING";
    query(sql).bind(freed).execute(tx).await.map(|_| ())
}

async fn insert_held(connection: &mut PgConnection, sale: &Sale, holds: &[Hold]) -> sqlx::Result<()> {
    let sql = "INSERT INTO tickets (id, event_id, user_id, quantity, price, status, expires, created, changed) \
               SELECT h.id, $1, h.user_id, h.quantity, $2 * h.quantity, 'held', h.expires, h.created, h.created \
               FROM unnest($3::uuid[], $4::uuid[], $5::integer[], $6::timestamptz[], $7::timestamptz[]) \
               AS h (id, user_id, quantity, expires, created) ORDER BY h.id ON CONFLICT (id) DO NOTHING";
    let (mut ids, mut users, mut quantities) = (Vec::new(), Vec::new(), Vec::new());
    let (mut expires, mut created) = (Vec::new(), Vec::new());
    for hold in holds {
        ids.push(hold.id);
        users.push(hold.user_id);
        quantities.push(hold.quantity);
        expires.push(hold.expires);
        created.push(hold.created);
    }
    let insert = query(sql).bind(sale.id).bind(sale.price).bind(ids).bind(users).bind(quantities);
    insert.bind(expires).bind(created).execute(connection).await.map(|_| ())
}
