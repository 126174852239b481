//! Buying a ticket and giving it back. It reads top to bottom in [`Tickets::purchase`] and [`Tickets::cancel`].
//!
//! The order is what keeps the books right: a ticket is in PostgreSQL, as `paying`, before anybody is asked for money,
//! and keeps its seats until it is known that no money was taken or that it is back.

use shop_kit::{clock, cx::Cx};
use tracing::{error, info};
use uuid::Uuid;

use super::{Error, Got, Tickets};
use crate::{
    domain::{
        sale::{Sale, Strategy},
        ticket::{self, Hold, Next, Payment, Status, Ticket},
    },
    store::tickets::{Begun, Payer},
};

impl Tickets {
    /// Pays for a reserved ticket. One that is paid stays so; one whose payment is under way is paid once.
    pub async fn purchase(&self, cx: &Cx, owner: Uuid, id: Uuid, method: &str) -> Result<Ticket, Error> {
        ticket::check_method(method)?;
        let ticket = self.begin(id, &payer(cx, owner, method)).await?;
        self.pay(cx, ticket, method).await
    }

    /// Pays for what was just reserved.
    pub async fn buy(&self, cx: &Cx, sale: &Sale, got: Got, method: &str) -> Result<Ticket, Error> {
        let payer = payer(cx, got.ticket.user_id, method);
        let begun = match (sale.strategy, got.hold) {
            (Strategy::Redis, Some(hold)) => self.begin_payment_of(sale, &hold, &payer).await?,
            _ => Begun::NotHeld,
        };
        let ticket = match begun {
            Begun::Paying(ticket) => ticket,
            Begun::NotHeld | Begun::NoSeat => self.begin(got.ticket.id, &payer).await?,
        };
        self.pay(cx, ticket, method).await
    }

    /// Marks a ticket as being paid, wherever it is held. One that is being paid or is paid already is returned as it is.
    async fn begin(&self, id: Uuid, payer: &Payer<'_>) -> Result<Ticket, Error> {
        loop {
            if let Begun::Paying(ticket) = self.store.begin_payment(id, payer).await? {
                return Ok(ticket);
            }
            let begun = match self.store.ticket(id).await? {
                Some(ticket) if ticket.user_id != payer.user_id => return Err(Error::NoTicket),
                // Written between the two looks, it is there for the next one.
                Some(ticket) if ticket.status == Status::Held && ticket.expires > payer.now => continue,
                Some(ticket) => return payable(ticket),
                None => self.begin_unwritten(id, payer).await?,
            };
            if let Begun::Paying(ticket) = begun {
                return Ok(ticket);
            }
        }
    }

    /// A ticket that only Redis holds.
    async fn begin_unwritten(&self, id: Uuid, payer: &Payer<'_>) -> Result<Begun, Error> {
        let held = self.held(id).await?.filter(|(_, hold)| hold.user_id == payer.user_id);
        let (sale, hold) = held.ok_or(Error::NoTicket)?;
        if hold.expires <= payer.now {
            return Err(Error::Expired);
        }
        self.begin_payment_of(&sale, &hold, payer).await
    }

    async fn begin_payment_of(&self, sale: &Sale, hold: &Hold, payer: &Payer<'_>) -> Result<Begun, Error> {
        let begun = self.store.begin_payment_of(sale, hold, payer).await?;
        if matches!(begun, Begun::NoSeat) {
            self.script.forget(&[hold.id]).await?;
            return Err(Error::Lost);
        }
        Ok(begun)
    }

    async fn pay(&self, cx: &Cx, ticket: Ticket, method: &str) -> Result<Ticket, Error> {
        if ticket.status == Status::Sold {
            return Ok(ticket);
        }
        let payment = self.payments.pay(cx, &ticket, method).await?;
        let settled = self.settle(cx, ticket, &payment).await?;
        match settled.status {
            Status::Declined => Err(Error::Declined(settled.reason.unwrap_or_default())),
            _ => Ok(settled),
        }
    }

    /// Makes of a ticket what its payment says.
    pub async fn settle(&self, cx: &Cx, mut ticket: Ticket, payment: &Payment) -> Result<Ticket, Error> {
        loop {
            let to = match ticket.status.after(payment) {
                Next::Stay => return Ok(ticket),
                Next::Become(to) => to,
                Next::GiveMoneyBack => {
                    error!(ticket = %ticket.id, status = ticket.status.as_str(), "paid too late; the money goes back");
                    self.payments.refund(cx, ticket.id).await?;
                    return Ok(ticket);
                }
            };
            let reason = match (to, payment) {
                (Status::Declined, Payment::Declined(reason)) => Some(reason.as_str()),
                (Status::Declined, _) => Some("it was not paid in time"),
                _ => None,
            };
            match self.store.move_on(&ticket, to, reason, clock::now()).await? {
                Some(moved) => {
                    self.moved(&moved).await;
                    return Ok(moved);
                }
                // Somebody else was told the same, or something newer.
                None => ticket = self.store.ticket(ticket.id).await?.ok_or(Error::NoTicket)?,
            }
        }
    }

    /// Cancels a ticket; what was paid is paid back, and then its seats are free. One that is cancelled stays so.
    pub async fn cancel(&self, cx: &Cx, id: Uuid, owner: Option<Uuid>) -> Result<Ticket, Error> {
        loop {
            let ticket = self.written(id, owner).await?;
            let to = match ticket.status {
                Status::Held => Status::Cancelled,
                Status::Paying | Status::Sold => Status::Refunding,
                Status::Refunding => return self.refund(cx, ticket).await,
                Status::Cancelled => return Ok(ticket),
                status @ (Status::Declined | Status::Expired) => return Err(Error::WrongStatus(status)),
            };
            let Some(moved) = self.store.move_on(&ticket, to, None, clock::now()).await? else { continue };
            self.moved(&moved).await;
            if to == Status::Cancelled {
                return Ok(moved);
            }
        }
    }

    /// A ticket that is in the tables, put there first if only Redis holds it.
    async fn written(&self, id: Uuid, owner: Option<Uuid>) -> Result<Ticket, Error> {
        let ticket = self.ticket(id, owner).await?;
        if self.store.ticket(id).await?.is_some() {
            return Ok(ticket);
        }
        let (sale, hold) = self.held(id).await?.ok_or(Error::NoTicket)?;
        if !self.store.write(&sale, &[hold]).await?.is_empty() {
            self.script.forget(&[id]).await?;
            return Err(Error::Lost);
        }
        self.store.ticket(id).await?.ok_or(Error::NoTicket)
    }

    /// Has the money of a ticket returned that is to be cancelled.
    pub async fn refund(&self, cx: &Cx, ticket: Ticket) -> Result<Ticket, Error> {
        let payment = self.payments.refund(cx, ticket.id).await?;
        self.settle(cx, ticket, &payment).await
    }

    /// What follows when a ticket was moved on: others are told, and its seats are sold again if it has none any more.
    async fn moved(&self, ticket: &Ticket) {
        info!(ticket = %ticket.id, status = ticket.status.as_str(), "ticket changed");
        self.publisher.wake();
        if !ticket.status.takes_seats() {
            self.give_back(Some(ticket.id)).await;
        }
    }
}

/// Passes a ticket that is being paid or is paid, so that paying it again is once.
fn payable(ticket: Ticket) -> Result<Ticket, Error> {
    match ticket.status {
        Status::Paying | Status::Sold => Ok(ticket),
        Status::Held | Status::Expired => Err(Error::Expired),
        Status::Declined => Err(Error::Declined(ticket.reason.unwrap_or_default())),
        status @ (Status::Refunding | Status::Cancelled) => Err(Error::WrongStatus(status)),
    }
}

fn payer<'a>(cx: &'a Cx, user_id: Uuid, method: &'a str) -> Payer<'a> {
    Payer { user_id, method, traceparent: cx.traceparent(), now: clock::now() }
}
