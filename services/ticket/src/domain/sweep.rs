//! What goes on by itself, in any instance: reservations expire, seats go back to Redis, and payments that were left open
//! are asked for. Each step takes what it works on from the others, so any number of instances may do it at once.

use std::time::Duration;

use shop_kit::{clock, cx::Cx, errors::chain};
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};
use uuid::Uuid;

use super::{Error, Tickets};
use crate::domain::ticket::{Status, Ticket};

/// Time for one call of the payment service.
const CALL: Duration = Duration::from_secs(10);

impl Tickets {
    /// Finishes what was left, until dropped.
    pub async fn sweep(&self, every: Duration) {
        let mut tick = interval(every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            if let Err(error) = self.expire().await {
                warn!(error = chain(&error), "reservations stay although they have expired");
            }
            self.give_back(None).await;
            if let Err(error) = self.settle_open().await {
                warn!(error = chain(&error), "open payments stay open");
            }
        }
    }

    async fn expire(&self) -> Result<(), Error> {
        loop {
            match self.store.expire(clock::now()).await? {
                0 => return Ok(()),
                tickets => info!(tickets, "reservations expired"),
            }
            self.publisher.wake();
        }
    }

    /// Tells Redis of seats that are free again, of one ticket or any. What fails waits for the next time.
    pub(super) async fn give_back(&self, ticket: Option<Uuid>) {
        if let Err(error) = self.try_give_back(ticket).await {
            warn!(error = chain(&error), "seats that are free wait for redis to learn of it");
        }
    }

    async fn try_give_back(&self, ticket: Option<Uuid>) -> Result<(), Error> {
        loop {
            let claimed = self.store.claim_releases(ticket).await?;
            if claimed.tickets.is_empty() {
                return Ok(());
            }
            self.script.release(&claimed.tickets).await?;
            claimed.done().await?;
        }
    }

    async fn settle_open(&self) -> Result<(), Error> {
        let now = clock::now();
        for ticket in self.store.claim_unsettled(now - self.settle_after, now).await? {
            let id = ticket.id;
            if let Err(error) = self.settle_one(ticket).await {
                warn!(ticket = %id, error = chain(&error), "an open payment stays open");
            }
        }
        Ok(())
    }

    async fn settle_one(&self, ticket: Ticket) -> Result<(), Error> {
        let cx = Cx::background(CALL);
        if ticket.status == Status::Refunding {
            return self.refund(&cx, ticket).await.map(|_| ());
        }
        match self.payments.look(&cx, ticket.id).await? {
            Some(payment) => self.settle(&cx, ticket, &payment).await.map(|_| ()),
            // Whoever wanted to pay has died, or is late. After this a late payment is refused.
            None if clock::now() > ticket.expires + self.abandoned_after => {
                self.refund(&cx, ticket).await.map(|_| ())
            }
            None => Ok(()),
        }
    }
}
