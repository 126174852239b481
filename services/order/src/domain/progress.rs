//! How orders go on: one step of the saga after the other, in the request that began it, because of an event, or by the
//! sweeper of any instance. Every step asks a neighbour something that can be asked again, and then writes the answer.

use std::time::Duration;

use futures_util::future::join_all;
use shop_kit::{clock, cx::Cx, errors::chain};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};
use uuid::Uuid;

use super::{
    Error, Orders, at,
    order::Status,
    saga::{self, Outcome, Step},
};
use crate::{
    neighbours::CallError,
    store::{Kept, Moment, StoreError, releases::Release},
};

/// Time to give stock back within the request; what is not given back by then is the sweeper's.
const GIVE_BACK: Duration = Duration::from_secs(3);
/// Longest that a step may take.
const STEP: Duration = Duration::from_secs(8);
/// For how long an instance has a step to itself.
pub(super) const LEASE: Duration = Duration::from_secs(12);
const BATCH: i64 = 16;

impl Orders {
    /// Does what is owed for an order, as far as that is possible now; the rest is the sweeper's. Returns the order as
    /// it is then.
    pub(super) async fn go_on(&self, cx: &Cx, mut kept: Kept) -> Kept {
        while let Some(step) = kept.step {
            match self.take_step(&cx.extended(STEP), step, &kept).await {
                Ok(after) if after.step != Some(step) => kept = after,
                Ok(after) => {
                    self.leave(step, &after, "the payment is not decided yet").await;
                    kept = after;
                    break;
                }
                Err(error) => {
                    self.leave(step, &kept, &chain(&error)).await;
                    break;
                }
            }
        }
        if kept.order.status == Status::Cancelled {
            self.give_back(cx, kept.order.id).await;
        }
        kept
    }

    /// One step of the saga: asks, and lets the answer have its effect.
    async fn take_step(&self, cx: &Cx, step: Step, kept: &Kept) -> Result<Kept, Error> {
        let (id, at) = (kept.order.id, at(cx));
        let after = match (step, &kept.method) {
            (Step::Pay, _) if kept.overdue => self.store.give_up(id, "payment_timeout", at).await?,
            (Step::Pay, Some(method)) => {
                let outcome = self.neighbours.pay(cx, &kept.order, method).await?;
                self.store.settle(id, &outcome, None, at).await?
            }
            (Step::Pay, None) => self.store.give_up(id, "payment_timeout", at).await?,
            (Step::Refund, _) => {
                let outcome = self.neighbours.take_payment_back(cx, id).await?;
                self.store.settle(id, &outcome, None, at).await?
            }
        };
        self.publisher.wake();
        match after {
            Some(after) => Ok(after),
            // Somebody else was faster.
            None => self.store.find(id).await?.ok_or(Error::NotFound),
        }
    }

    async fn leave(&self, step: Step, kept: &Kept, why: &str) {
        let (order, wait) = (kept.order.id, saga::backoff(kept.attempts));
        warn!(%order, step = step.as_str(), why, again_in = ?wait, "an order waits for its next step");
        if let Err(error) = self.store.again_in(order, step, wait).await {
            warn!(%order, error = chain(&error), "it is due when its lease ends");
        }
    }

    /// Hears from an event what became of the payment of an order.
    pub async fn heard(
        &self,
        order: Uuid,
        outcome: &Outcome,
        event: Uuid,
        at: Moment<'_>,
    ) -> Result<(), StoreError> {
        let after = self.store.settle(order, outcome, Some(event), at).await?;
        self.publisher.wake();
        if after.is_some_and(|kept| kept.order.status == Status::Cancelled) {
            self.give_back(&Cx::background(GIVE_BACK), order).await;
        }
        Ok(())
    }

    pub(super) async fn give_back(&self, cx: &Cx, order: Uuid) {
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

    /// Finishes what was interrupted, until dropped.
    pub async fn sweep(&self) {
        let mut tick = interval(self.timing.sweep_every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if let Err(error) = self.sweep_once().await {
                warn!(error = chain(&error), "what is owed for orders waits");
            }
        }
    }

    async fn sweep_once(&self) -> Result<(), Error> {
        for order in self.store.abandoned(clock::now() - self.timing.abandoned_after).await? {
            if self.store.fail(order, "abandoned", clock::now()).await? {
                warn!(%order, "a half placed order is given up");
            }
        }
        let due = self.store.claim_due(BATCH, LEASE).await?;
        join_all(due.into_iter().map(|kept| self.resume(kept))).await;
        let cx = Cx::background(self.timing.sweep_every.max(GIVE_BACK));
        Ok(self.release_due(&cx, None).await?)
    }

    async fn resume(&self, kept: Kept) {
        let (order, step) = (kept.order.id, kept.step);
        let after = self.go_on(&Cx::background(STEP), kept).await;
        if after.step.is_none() {
            info!(%order, step = step.map(Step::as_str), status = after.order.status.as_str(), "an order went on");
        }
    }
}
