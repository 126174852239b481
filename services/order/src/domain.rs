//! What can be done with orders: place, look, list, change the status, cancel.
//!
//! Placing reads top to bottom in [`Orders::place`]. Its promise: either the order and its event are committed and the
//! stock is taken, or neither is. Every taking of stock has a name, so trying again never takes twice, and taking
//! back something that never arrived keeps it from arriving later.

pub mod money;
pub mod order;

use std::time::Duration;

use futures_util::future::try_join_all;
use shop_kit::{
    clock,
    cx::Cx,
    errors::{FieldError, Kind, Problem, chain},
    events::{Event, Publisher},
    page::Page,
};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};
use uuid::Uuid;

use crate::{
    domain::{
        money::MoneyError,
        order::{Draft, Invalid, Item, Order, Status},
    },
    neighbours::{CallError, Neighbours},
    store::{Begun, Change, Release, Store},
};

/// Time to give stock back within the request; what is not given back by then is the sweeper's.
const GIVE_BACK: Duration = Duration::from_secs(3);

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
    /// The order was given up while it was being placed.
    #[error("placing took too long")]
    Abandoned,
    /// A neighbour could not be asked, or said no.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] sqlx::Error),
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
            Error::Abandoned => Problem::timeout(),
            Error::Call(error) => error.into(),
            Error::Database(error) => error.into(),
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
}

impl Orders {
    /// Places an order, or returns the one that was placed with the same idempotency key.
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
            self.give_up(cx, order.id).await;
            return Err(error);
        }
        if let Err(error) = self.store.confirm(&order, &created(cx, &order)).await {
            self.give_up(cx, order.id).await;
            return Err(error.map_or(Error::Abandoned, Error::Database));
        }
        self.publisher.wake();
        info!(order = %order.id, total = order.total, "order placed");
        Ok(order)
    }

    async fn placed_before(&self, draft: &Draft) -> Result<Option<Order>, Error> {
        let Some(key) = &draft.key else { return Ok(None) };
        match self.store.find_by_key(draft.user_id, key).await? {
            None => Ok(None),
            Some(order) if !draft.asks_for(&order) => Err(Error::KeyReused),
            Some(order) if !order.status.is_visible() => Err(Error::InProgress),
            Some(order) => Ok(Some(order)),
        }
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

    /// Marks the order as failed and gives back what it took. Whatever fails here is left to the sweeper.
    async fn give_up(&self, cx: &Cx, order: Uuid) {
        match self.store.fail(order).await {
            Ok(true) => self.give_back(cx, order).await,
            Ok(false) => {}
            Err(error) => warn!(%order, error = chain(&error), "a failed order waits for the sweeper"),
        }
    }

    async fn give_back(&self, cx: &Cx, order: Uuid) {
        if let Err(error) = self.release_due(&cx.extended(GIVE_BACK), Some(order)).await {
            warn!(%order, error = chain(&error), "stock to give back waits for the sweeper");
        }
    }

    /// Gives back all stock that is due, of one order or any.
    async fn release_due(&self, cx: &Cx, order: Option<Uuid>) -> sqlx::Result<()> {
        while let Some(claimed) = self.store.claim_release(order).await? {
            if self.release(cx, &claimed.release).await {
                claimed.done().await?;
            } else {
                claimed.later().await?;
            }
        }
        Ok(())
    }

    async fn release(&self, cx: &Cx, release: &Release) -> bool {
        let Release { order_id, product_id, quantity } = *release;
        match self.neighbours.give_back(cx, order_id, product_id, quantity).await {
            Ok(()) => true,
            Err(CallError::NoProduct(_)) => {
                warn!(order = %order_id, product = %product_id, "a product is gone, and its stock with it");
                true
            }
            Err(error) => {
                warn!(order = %order_id, error = chain(&error), "stock could not be given back yet");
                false
            }
        }
    }

    /// An order of a user, or of anybody.
    pub async fn get(&self, id: Uuid, owner: Option<Uuid>) -> Result<Order, Error> {
        let order = self.store.find(id).await?.filter(|order| order.status.is_visible());
        order.filter(|order| owner.is_none_or(|owner| owner == order.user_id)).ok_or(Error::NotFound)
    }

    /// A user's orders, newest first, and how many there are in all.
    pub async fn list(&self, user: Uuid, page: Page) -> Result<(Vec<Order>, u64), Error> {
        Ok(self.store.list(user, page).await?)
    }

    /// Moves an order to a new status.
    pub async fn change_status(&self, cx: &Cx, id: Uuid, to: Status) -> Result<Order, Error> {
        if to == Status::Cancelled {
            return self.cancel(cx, id, None).await;
        }
        changed(id, self.store.change_status(id, None, to).await?, to)
    }

    /// Cancels an order and gives its stock back. An order that is cancelled stays so.
    pub async fn cancel(&self, cx: &Cx, id: Uuid, owner: Option<Uuid>) -> Result<Order, Error> {
        let to = Status::Cancelled;
        let order = match self.store.change_status(id, owner, to).await? {
            Change::Refused(order) if order.status == to => order,
            change => changed(id, change, to)?,
        };
        self.give_back(cx, id).await;
        Ok(order)
    }

    /// Finishes what was interrupted, until dropped.
    pub async fn sweep(&self, every: Duration, abandoned_after: Duration) {
        let mut tick = interval(every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            match self.store.fail_abandoned(clock::now() - abandoned_after).await {
                Ok(0) => {}
                Ok(orders) => warn!(orders, "half placed orders given up"),
                Err(error) => warn!(error = chain(&error), "half placed orders stay"),
            }
            let cx = Cx::background(every.max(GIVE_BACK));
            if let Err(error) = self.release_due(&cx, None).await {
                warn!(error = chain(&error), "stock to give back waits");
            }
        }
    }
}

fn changed(id: Uuid, change: Change, to: Status) -> Result<Order, Error> {
    match change {
        Change::Done(order) => {
            info!(order = %id, status = to.as_str(), "order changed");
            Ok(order)
        }
        Change::Refused(order) => Err(Error::Transition { from: order.status, to }),
        Change::NotFound => Err(Error::NotFound),
    }
}

fn created(cx: &Cx, order: &Order) -> Event {
    Event {
        id: Uuid::now_v7(),
        stream: "order.created".into(),
        data: serde_json::to_value(order).expect("an order is strings and numbers"),
        traceparent: cx.traceparent().map(str::to_owned),
        time: order.created,
    }
}
