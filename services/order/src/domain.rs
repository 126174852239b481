//! What can be done with orders: place, pay, look, list, change the status, cancel.
//!
//! Placing reads top to bottom in [`Orders::place`]. Its promise: either the order and its event are committed and the
//! stock is taken, or neither is; and an order is paid once, or its payment is taken back. Every taking of stock and
//! every payment has a name, so trying again never takes twice, and taking back something that never arrived keeps it
//! from arriving later. What is owed for an order stands in its row (`saga`), so any instance can go on with it.

pub mod history;
pub mod money;
pub mod order;
mod progress;
pub mod saga;

use std::time::Duration;

use futures_util::future::try_join_all;
use shop_kit::{
    clock,
    cx::Cx,
    errors::{FieldError, Kind, Problem, chain},
    events::Publisher,
    page::Page,
};
use tracing::{info, warn};
use uuid::Uuid;

use crate::{
    domain::{
        history::Recorded,
        money::MoneyError,
        order::{Draft, Invalid, Item, Order, Status, check_method},
        saga::Step,
    },
    neighbours::{CallError, Neighbours},
    settings::Settings,
    store::{Begun, Change, Kept, Moment, PayPlan, Store, StoreError},
};

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Some fields cannot be accepted.
    #[error("invalid input")]
    Invalid(#[from] Invalid),
    /// The prices cannot be added up.
    #[error(transparent)]
    Money(#[from] MoneyError),
    /// No such order, or not the caller's.
    #[error("no such order")]
    NotFound,
    /// The order cannot go from one status to the other.
    #[error("from {} to {}", from.as_str(), to.as_str())]
    Transition {
        /// Its status.
        from: Status,
        /// What was asked for.
        to: Status,
    },
    /// The idempotency key was used for another order.
    #[error("the idempotency key was used for another order")]
    KeyReused,
    /// The order of that idempotency key is being placed.
    #[error("the order is being placed")]
    InProgress,
    /// The order is being paid.
    #[error("the order is being paid")]
    BeingPaid,
    /// The order could not be paid and was cancelled.
    #[error("the order was cancelled: {0}")]
    Unpaid(String),
    /// The order was given up while it was being placed.
    #[error("placing took too long")]
    Abandoned,
    /// A neighbour could not be asked, or said no.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl From<sqlx::Error> for Error {
    fn from(error: sqlx::Error) -> Self {
        Error::Store(error.into())
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let conflict = |slug, detail: &str| Problem::new(Kind::Conflict, slug, detail);
        match error {
            Error::Invalid(Invalid(fields)) => Problem::invalid(fields),
            Error::Money(error) => Problem::invalid(vec![FieldError::new("items", error.to_string())]),
            Error::NotFound => Problem::new(Kind::NotFound, "order-not-found", "there is no such order"),
            Error::Transition { from, to } => {
                let detail = format!("an order that is {} cannot become {}", from.as_str(), to.as_str());
                Problem::new(Kind::Conflict, "wrong-status", detail)
            }
            Error::KeyReused => conflict("key-reused", "the idempotency key was used for another order"),
            Error::InProgress => conflict("in-progress", "the order is being placed; ask again in a moment"),
            Error::BeingPaid => conflict("being-paid", "the order is being paid; ask again in a moment"),
            Error::Unpaid(reason) => {
                conflict("payment-declined", &format!("the order was cancelled: {reason}"))
            }
            Error::Abandoned => Problem::timeout(),
            Error::Call(error) => error.into(),
            Error::Store(StoreError::Stale) => {
                conflict("changed-meanwhile", "the order was changed meanwhile")
            }
            Error::Store(StoreError::Database(error)) => error.into(),
            Error::Store(error) => Problem::internal(&error),
        }
    }
}

/// How often and how long.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// How often to look for what is owed.
    pub sweep_every: Duration,
    /// Age at which a half placed order is given up.
    pub abandoned_after: Duration,
    /// How long to try to have an order paid.
    pub pay_within: Duration,
}

impl Timing {
    /// As the settings say.
    pub fn new(settings: &Settings) -> Self {
        Self {
            sweep_every: settings.sweep_every,
            abandoned_after: settings.abandoned_after,
            pay_within: settings.pay_within,
        }
    }
}

/// The orders.
pub struct Orders {
    /// Where they are kept.
    pub store: Store,
    /// Who is asked.
    pub neighbours: Neighbours,
    /// Who tells the others.
    pub publisher: Publisher,
    /// How often and how long.
    pub timing: Timing,
}

impl Orders {
    /// Places an order, or returns the one that was placed with the same idempotency key. With a means of payment it
    /// is paid too: at once, or, when that is not known in time, soon after.
    pub async fn place(&self, cx: &Cx, draft: Draft) -> Result<Order, Error> {
        let draft = draft.validate()?;
        if let Some(placed) = self.placed_before(&draft).await? {
            return Ok(placed);
        }
        self.neighbours.check_user(cx, draft.user_id).await?;
        let order = self.priced(cx, &draft).await?;
        match self.store.begin(&order, draft.key.as_deref()).await? {
            Begun::New => {}
            // The same request came twice at the same time, and the other one was faster.
            Begun::KeyTaken => return self.placed_before(&draft).await?.ok_or(Error::InProgress),
        }
        if let Err(error) = self.reserve(cx, &order).await {
            self.give_up(cx, order.id, &chain(&error)).await;
            return Err(error);
        }
        let plan = draft.method.as_deref().map(|method| self.plan(method));
        let kept = match self.store.confirm(order.id, plan, at(cx)).await {
            Ok(Some(kept)) => kept,
            Ok(None) => return Err(Error::Abandoned),
            Err(error) => {
                self.give_up(cx, order.id, &chain(&error)).await;
                return Err(error.into());
            }
        };
        self.publisher.wake();
        info!(order = %order.id, total = order.total, "order placed");
        paid_or_open(self.go_on(cx, kept).await)
    }

    /// Pays an order that was placed without a means of payment. One that is paid already is returned as it is.
    pub async fn pay(&self, cx: &Cx, id: Uuid, owner: Option<Uuid>, method: &str) -> Result<Order, Error> {
        check_method(method)?;
        match self.store.request_payment(id, owner, self.plan(method), at(cx)).await? {
            Change::Done(kept) => paid_or_open(self.go_on(cx, kept).await),
            Change::Refused(kept) if kept.step == Some(Step::Pay) => Err(Error::BeingPaid),
            Change::Refused(kept) if kept.order.status == Status::Cancelled => {
                Err(Error::Transition { from: Status::Cancelled, to: Status::Paid })
            }
            Change::Refused(kept) => Ok(kept.order),
            Change::NotFound => Err(Error::NotFound),
        }
    }

    async fn placed_before(&self, draft: &Draft) -> Result<Option<Order>, Error> {
        let Some(key) = &draft.key else { return Ok(None) };
        let Some(kept) = self.store.find_by_key(draft.user_id, key).await? else { return Ok(None) };
        // Who named no means of payment may have named one since.
        let same_method = draft.method.is_none() || draft.method == kept.method;
        if !same_method && kept.order.status.is_visible() || !draft.asks_for(&kept.order) {
            return Err(Error::KeyReused);
        }
        if kept.order.status.is_visible() { paid_or_open(kept).map(Some) } else { Err(Error::InProgress) }
    }

    /// The order with the names and prices of now.
    async fn priced(&self, cx: &Cx, draft: &Draft) -> Result<Order, Error> {
        let ask = draft.items.iter().map(|(product, quantity)| async move {
            let product = self.neighbours.product(cx, *product).await?;
            product.item(*quantity)
        });
        let items: Vec<(Item, String)> = try_join_all(ask).await?;
        Ok(Order::new(Uuid::now_v7(), draft.user_id, items, clock::now())?)
    }

    async fn reserve(&self, cx: &Cx, order: &Order) -> Result<(), Error> {
        for item in &order.items {
            self.neighbours.take(cx, order.id, item.product_id, item.quantity).await?;
        }
        Ok(())
    }

    fn plan<'a>(&self, method: &'a str) -> PayPlan<'a> {
        PayPlan { method, lease: progress::LEASE, within: self.timing.pay_within }
    }

    /// Marks the order as failed and gives back what it took. Whatever fails here is left to the sweeper.
    async fn give_up(&self, cx: &Cx, order: Uuid, reason: &str) {
        match self.store.fail(order, reason, clock::now()).await {
            Ok(true) => self.give_back(cx, order).await,
            Ok(false) => {}
            Err(error) => warn!(%order, error = chain(&error), "a failed order waits for the sweeper"),
        }
    }

    /// An order of a user, or of anybody.
    pub async fn get(&self, id: Uuid, owner: Option<Uuid>) -> Result<Order, Error> {
        let order = self.store.find(id).await?.map(|kept| kept.order);
        let order = order.filter(|order| order.status.is_visible());
        order.filter(|order| owner.is_none_or(|owner| owner == order.user_id)).ok_or(Error::NotFound)
    }

    /// What happened to an order, and the order that this makes.
    pub async fn history(&self, id: Uuid, owner: Option<Uuid>) -> Result<(Vec<Recorded>, Order), Error> {
        self.get(id, owner).await?;
        let facts = self.store.history(id).await?;
        Ok((facts, self.store.replayed(id).await?.ok_or(Error::NotFound)?))
    }

    /// A user's orders, newest first, and how many there are in all.
    pub async fn list(&self, user: Uuid, page: Page) -> Result<(Vec<Order>, u64), Error> {
        Ok(self.store.list(user, page).await?)
    }

    /// Moves an order to a new status. Paid, without a payment, means that an admin saw the money.
    pub async fn change_status(&self, cx: &Cx, id: Uuid, to: Status) -> Result<Order, Error> {
        if to == Status::Cancelled {
            return self.cancel(cx, id, None).await;
        }
        let order = changed(id, self.store.advance(id, to, at(cx)).await?, to)?.order;
        self.publisher.wake();
        Ok(order)
    }

    /// Cancels an order and gives its stock and its payment back. An order that is cancelled stays so.
    pub async fn cancel(&self, cx: &Cx, id: Uuid, owner: Option<Uuid>) -> Result<Order, Error> {
        let to = Status::Cancelled;
        let kept = match self.store.cancel(id, owner, "", at(cx)).await? {
            Change::Refused(kept) if kept.order.status == to => kept,
            change => changed(id, change, to)?,
        };
        self.publisher.wake();
        Ok(self.go_on(cx, kept).await.order)
    }
}

/// An order whose payment came to nothing is no order to its customer.
fn paid_or_open(kept: Kept) -> Result<Order, Error> {
    let order = kept.order;
    if order.status == Status::Cancelled && !order.reason.is_empty() {
        return Err(Error::Unpaid(order.reason));
    }
    Ok(order)
}

fn changed(id: Uuid, change: Change, to: Status) -> Result<Kept, Error> {
    match change {
        Change::Done(kept) => {
            info!(order = %id, status = to.as_str(), "order changed");
            Ok(kept)
        }
        Change::Refused(kept) if kept.step == Some(Step::Pay) => Err(Error::BeingPaid),
        Change::Refused(kept) => Err(Error::Transition { from: kept.order.status, to }),
        Change::NotFound => Err(Error::NotFound),
    }
}

fn at(cx: &Cx) -> Moment<'_> {
    Moment { now: clock::now(), traceparent: cx.traceparent() }
}
