//! What can be done with events and tickets: add, look, queue, reserve. Buying and cancelling are in `purchase`, what
//! goes on by itself in `sweep`, the proof that both stores agree in `reconcile`.
//!
//! Whatever dies at whatever moment, no sold ticket is lost and no seat is sold twice:
//!
//! | dies | after | what is left, and who puts it right |
//! |---|---|---|
//! | the service | the script held seats, before the answer | the hold is in Redis and in the stream: it is written and expires, or the same idempotency key gets it |
//! | the service | the ticket is `paying`, before `Pay` | the sweeper asks for the payment; there is none, so it revokes it (a late `Pay` is refused) and frees the seats |
//! | the service | `Pay`, before the ticket is `sold` | the payment service's event, or the sweeper, finds it captured: `sold` |
//! | the service | the ticket is `refunding`, before or after `Refund` | the sweeper refunds again, which is once, and the ticket becomes `cancelled` |
//! | the service | seats are free in PostgreSQL, before Redis knows | the row in `releases` stays; the sweeper gives them back, once per ticket |
//! | the writer | PostgreSQL committed, before the entry left the stream | the entry is written again: the id is there already |
//! | Redis, with its data | any | it is another run: the counter is rebuilt before it sells again (`redis`) |
//! | Redis, without its data | holds that were not written yet | they are lost, unpaid: their customers are told so when they want to pay. The counter is rebuilt without them |
//! | Redis, without its data | a hold was read to be paid, the rebuilt counter gives its seats away | both are written before they are paid, and `no_seat_twice` refuses the second |
//! | Redis, without its data | the counter is rebuilt while a hold that it lost is being paid | it counts seats as free that are sold: the first that PostgreSQL refuses has the two compared, and the counter rebuilt (`reconcile`) |
//! | PostgreSQL | any | holding goes on in Redis, paying does not; the stream waits. What was committed is there when it is back |
//! | PostgreSQL | `Pay`, before `sold` is committed | as when the service dies there |
//! | payment | any | the ticket stays `paying`; trying again pays once, the sweeper settles it otherwise |

pub mod catalogue;
pub mod hear;
pub mod purchase;
pub mod purpose;
pub mod reconcile;
pub mod sale;
pub mod sweep;
pub mod ticket;

use std::{sync::Arc, time::Duration};

use shop_kit::{
    clock,
    errors::{FieldError, Kind, Problem},
    events::Publisher,
    metrics::IntCounterVec,
    page::Page,
};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};
use tracing::info;
use uuid::Uuid;

use crate::{
    desk::{Desk as _, Reserved, RowLock, Script},
    domain::{
        catalogue::Catalogue,
        sale::{NewSale, Sale, Strategy},
        ticket::{Ask, Hold, Status, Ticket, number_of},
    },
    payments::Payments,
    redis::{
        link::Link,
        queue::{Place, Queue},
    },
    store::Store,
};

/// Fields that cannot be accepted.
#[derive(Debug, thiserror::Error)]
#[error("{} fields cannot be accepted", .0.len())]
pub struct Invalid(pub Vec<FieldError>);

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Some fields cannot be accepted.
    #[error("invalid input")]
    Invalid(#[from] Invalid),
    /// No such event.
    #[error("no such event")]
    NoEvent,
    /// No such ticket, or not the caller's.
    #[error("no such ticket")]
    NoTicket,
    /// The sale opens then.
    #[error("not open before {0}")]
    NotOpen(OffsetDateTime),
    /// The sale has ended.
    #[error("the sale has ended")]
    Closed,
    /// There are not so many seats left.
    #[error("sold out")]
    SoldOut,
    /// A customer may have so many, and would have more.
    #[error("more than {0} for one customer")]
    LimitReached(i32),
    /// The customer is let in after so many milliseconds.
    #[error("{0} ms to wait")]
    Waiting(u64),
    /// There is a crowd, and the customer has no place in the queue.
    #[error("there is a queue")]
    Crowded,
    /// The event has no queue.
    #[error("there is no queue")]
    NoQueue,
    /// The customer has no place in the queue.
    #[error("not in the queue")]
    NotQueued,
    /// The idempotency key was used for another request.
    #[error("the idempotency key was used for another request")]
    KeyReused,
    /// The reservation was not paid in time.
    #[error("the reservation has expired")]
    Expired,
    /// The reservation was lost before it was paid.
    #[error("the reservation was lost")]
    Lost,
    /// The ticket's status does not allow it.
    #[error("the ticket is {}", .0.as_str())]
    WrongStatus(Status),
    /// The payment was declined, and why.
    #[error("declined: {0}")]
    Declined(String),
    /// The counter in Redis is being rebuilt.
    #[error("the counter is being rebuilt")]
    Rebuilding,
    /// The payment service could not be asked.
    #[error(transparent)]
    Call(Problem),
    /// Redis failed.
    #[error(transparent)]
    Redis(#[from] ::redis::RedisError),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let conflict = |slug, detail: &str| Problem::new(Kind::Conflict, slug, detail);
        let missing = |slug, detail: &str| Problem::new(Kind::NotFound, slug, detail);
        match error {
            Error::Invalid(Invalid(fields)) => Problem::invalid(fields),
            Error::NoEvent => missing("event-not-found", "there is no such event"),
            Error::NoTicket => missing("ticket-not-found", "there is no such ticket"),
            Error::NotOpen(opens) => {
                let detail = format!("the sale opens at {}", opens.format(&Rfc3339).unwrap_or_default());
                conflict("sale-not-open", &detail)
            }
            Error::Closed => conflict("sale-closed", "the sale has ended"),
            Error::SoldOut => conflict("sold-out", "there are not so many seats left"),
            Error::LimitReached(limit) => {
                conflict("limit-reached", &format!("one customer may have {limit} seats of this event"))
            }
            Error::Waiting(ms) => {
                conflict("waiting", &format!("it is your turn in {} seconds", ms.div_ceil(1000)))
            }
            Error::Crowded => conflict("queue", "many want to come in; join the queue of the event"),
            Error::NoQueue => missing("no-queue", "the event has no queue; reserve at once"),
            Error::NotQueued => missing("not-queued", "you have no place in the queue; join it"),
            Error::KeyReused => conflict("key-reused", "the idempotency key was used for another request"),
            Error::Expired => conflict("expired", "the reservation was not paid in time; reserve again"),
            Error::Lost => {
                conflict("reservation-lost", "the reservation was lost, nothing was paid; reserve again")
            }
            Error::WrongStatus(status) => {
                conflict("wrong-status", &format!("the ticket is {}", status.as_str()))
            }
            Error::Declined(reason) => {
                conflict("payment-declined", &format!("the payment was declined: {reason}"))
            }
            Error::Rebuilding => {
                Problem::new(Kind::Unavailable, "unavailable", "the sale goes on in a moment; try again")
            }
            Error::Call(problem) => problem,
            Error::Redis(error) if error.is_io_error() => Problem::unavailable("redis", &error),
            Error::Redis(error) => Problem::internal(&error),
            Error::Database(error) => error.into(),
        }
    }
}

/// The events and tickets.
pub struct Tickets {
    /// Where they are kept.
    pub store: Store,
    /// Events as they were read.
    pub catalogue: Arc<Catalogue>,
    /// The strategy `postgres`.
    pub row_lock: RowLock,
    /// The strategy `redis`.
    pub script: Arc<Script>,
    /// Redis, for the proof that both agree.
    pub link: Link,
    /// Who waits.
    pub queue: Queue,
    /// Who takes the money.
    pub payments: Payments,
    /// Who tells the others.
    pub publisher: Publisher,
    /// How long a payment may be open before the sweeper asks for it.
    pub settle_after: Duration,
    /// How long after the end of its reservation a ticket that nobody paid is given up.
    pub abandoned_after: Duration,
    /// Reservations by strategy and outcome.
    pub reservations: IntCounterVec,
    /// Differences that reconciling found, by kind.
    pub differences: IntCounterVec,
}

/// A ticket, and whether it was there before.
#[derive(Debug)]
pub struct Got {
    /// The ticket.
    pub ticket: Ticket,
    /// The seats, when Redis holds them and the tables may not know.
    pub hold: Option<Hold>,
}

impl Tickets {
    /// Adds an event.
    pub async fn add(&self, new: NewSale) -> Result<Arc<Sale>, Error> {
        let sale = self.store.add_sale(new.validate(Uuid::now_v7())?, clock::now()).await?;
        info!(event = %sale.id, name = sale.name, strategy = sale.strategy.as_str(), "event added");
        Ok(self.catalogue.keep(sale))
    }

    /// One page of the events, the next first, and how many there are in all.
    pub async fn sales(&self, page: Page) -> Result<(Vec<Sale>, u64), Error> {
        Ok(self.store.sales(page).await?)
    }

    /// The event of that id.
    pub async fn sale(&self, id: Uuid) -> Result<Arc<Sale>, Error> {
        self.catalogue.get(id).await?.ok_or(Error::NoEvent)
    }

    /// How many seats of an event nobody has.
    pub async fn left(&self, sale: &Sale) -> Result<i64, Error> {
        match sale.strategy {
            Strategy::Postgres => self.row_lock.left(sale).await,
            Strategy::Redis => self.script.left(sale).await,
        }
    }

    /// Takes a place in the queue of an event.
    pub async fn join(&self, event: Uuid, user: Uuid) -> Result<Place, Error> {
        let sale = self.sale(event).await?;
        if clock::now() >= sale.closes {
            return Err(Error::Closed);
        }
        self.queue.join(&sale, user).await
    }

    /// The customer's place in the queue of an event.
    pub async fn place(&self, event: Uuid, user: Uuid) -> Result<Place, Error> {
        self.queue.look(&*self.sale(event).await?, user).await
    }

    /// Reserves seats, or returns what the same request got before.
    pub async fn reserve(
        &self,
        sale: &Sale,
        user: Uuid,
        quantity: i64,
        key: Option<&str>,
    ) -> Result<Got, Error> {
        let ask = Ask::new(sale, user, quantity, key)?;
        let now = clock::now();
        let reserved = match (sale.check_open(now), sale.strategy) {
            // Who sends a request again is told what became of it, even after the sale.
            (Err(closed), _) => self.got_before(sale, &ask, None).await.map_err(|_| closed),
            (Ok(()), Strategy::Postgres) => {
                self.got(sale, &ask, self.row_lock.reserve(sale, &ask, now).await).await
            }
            (Ok(()), Strategy::Redis) => {
                self.got(sale, &ask, self.script.reserve(sale, &ask, now).await).await
            }
        };
        let outcome = reserved.as_ref().map_or_else(outcome, |_| "held");
        self.reservations.with_label_values(&[sale.strategy.as_str(), outcome]).inc();
        reserved
    }

    async fn got(&self, sale: &Sale, ask: &Ask, reserved: Result<Reserved, Error>) -> Result<Got, Error> {
        match reserved? {
            Reserved::New(hold) => Ok(Got { ticket: Ticket::held(sale, &hold), hold: Some(hold) }),
            Reserved::Known(hold) => self.got_before(sale, ask, hold).await,
        }
    }

    async fn got_before(&self, sale: &Sale, ask: &Ask, hold: Option<Hold>) -> Result<Got, Error> {
        let written = self.store.ticket(ask.id).await?;
        let held = || hold.as_ref().map(|hold| Ticket::held(sale, hold));
        let ticket = written.or_else(held).ok_or(Error::Lost)?;
        if ticket.quantity != ask.quantity {
            return Err(Error::KeyReused);
        }
        Ok(Got { ticket, hold })
    }

    /// A ticket of a customer, or of anybody.
    pub async fn ticket(&self, id: Uuid, owner: Option<Uuid>) -> Result<Ticket, Error> {
        let ticket = match self.store.ticket(id).await? {
            Some(ticket) => ticket,
            None => {
                self.held(id).await?.map(|(sale, hold)| Ticket::held(&sale, &hold)).ok_or(Error::NoTicket)?
            }
        };
        if owner.is_none_or(|owner| owner == ticket.user_id) { Ok(ticket) } else { Err(Error::NoTicket) }
    }

    /// What only Redis holds under that id.
    async fn held(&self, id: Uuid) -> Result<Option<(Arc<Sale>, Hold)>, Error> {
        let sale = self.catalogue.of_number(number_of(id)).await?;
        let Some(sale) = sale.filter(|sale| sale.strategy == Strategy::Redis) else { return Ok(None) };
        Ok(self.script.hold(id).await?.map(|hold| (sale, hold)))
    }

    /// One page of a customer's tickets, newest first, and how many there are in all.
    pub async fn tickets(&self, user: Uuid, page: Page) -> Result<(Vec<Ticket>, u64), Error> {
        Ok(self.store.tickets(user, page).await?)
    }
}

/// How a reservation ended, as the metric spells it.
fn outcome(error: &Error) -> &'static str {
    match error {
        Error::SoldOut => "sold_out",
        Error::LimitReached(_) => "limit",
        Error::NotOpen(_) | Error::Closed => "closed",
        Error::Waiting(_) | Error::Crowded => "queue",
        Error::Redis(_) | Error::Database(_) | Error::Rebuilding => "failed",
        _ => "refused",
    }
}
