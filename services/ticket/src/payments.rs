//! The payment service, as this one needs it. Words of the wire end here.

use shop_kit::{
    client,
    cx::Cx,
    errors::{FieldError, Problem},
    neighbour::Neighbour,
    pb::payment::{
        self as pb, GetPaymentRequest, PayRequest, PaymentStatus, RefundRequest,
        payment_service_client::PaymentServiceClient,
    },
};
use tonic::{Code, Status};
use uuid::Uuid;

use crate::domain::{
    Error,
    ticket::{Payment, Ticket, reference},
};

/// The payment service.
pub struct Payments {
    client: PaymentServiceClient<Neighbour>,
}

impl Payments {
    /// This service.
    pub fn new(neighbour: Neighbour) -> Self {
        Self { client: PaymentServiceClient::new(neighbour) }
    }

    /// Takes the money for a ticket. Taking it again takes nothing more.
    pub async fn pay(&self, cx: &Cx, ticket: &Ticket, method: &str) -> Result<Payment, Error> {
        let message = PayRequest {
            reference: reference(ticket.id),
            user_id: ticket.user_id.to_string(),
            amount: ticket.price,
            currency: ticket.currency.clone(),
            method: method.to_owned(),
        };
        let request = cx.call(message).map_err(Error::Call)?;
        match self.client.clone().pay(request).await {
            Ok(answer) => read(answer.into_inner()),
            // It was revoked before it came.
            Err(status) if status.code() == Code::FailedPrecondition => Ok(Payment::Refunded),
            Err(status) if status.code() == Code::InvalidArgument => {
                let field = FieldError::new("method", status.message());
                Err(Error::Call(Problem::invalid(vec![field])))
            }
            Err(status) => Err(failed(&status)),
        }
    }

    /// Returns the money of a ticket, or keeps it from being paid if it was not yet.
    pub async fn refund(&self, cx: &Cx, ticket: Uuid) -> Result<Payment, Error> {
        let request = cx.call(RefundRequest { reference: reference(ticket) }).map_err(Error::Call)?;
        let answer = self.client.clone().refund(request).await.map_err(|status| failed(&status))?;
        read(answer.into_inner())
    }

    /// What became of the payment for a ticket; none when nobody has asked for it.
    pub async fn look(&self, cx: &Cx, ticket: Uuid) -> Result<Option<Payment>, Error> {
        let request = cx.call(GetPaymentRequest { reference: reference(ticket) }).map_err(Error::Call)?;
        match self.client.clone().get_payment(request).await {
            Ok(answer) => read(answer.into_inner()).map(Some),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(failed(&status)),
        }
    }
}

fn read(payment: pb::Payment) -> Result<Payment, Error> {
    match payment.status() {
        PaymentStatus::Pending => Ok(Payment::Pending),
        PaymentStatus::Captured => Ok(Payment::Captured),
        PaymentStatus::Declined => Ok(Payment::Declined(payment.reason)),
        PaymentStatus::Refunding => Ok(Payment::Refunding),
        PaymentStatus::Refunded => Ok(Payment::Refunded),
        PaymentStatus::Unspecified => {
            Err(failed(&Status::internal("the payment has no status that this version knows")))
        }
    }
}

fn failed(status: &Status) -> Error {
    Error::Call(client::problem("payment", status))
}
