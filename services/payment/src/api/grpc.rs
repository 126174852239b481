//! The gRPC API, for the services that have something to be paid. Which of them may call it is the mesh's business.

use std::sync::Arc;

use shop_kit::{
    cx::Cx,
    errors::{FieldError, Problem},
    pb::{
        self,
        payment::{
            GetPaymentRequest, PayRequest, Payment as Message, PaymentStatus, RefundRequest,
            payment_service_server::{PaymentService, PaymentServiceServer},
        },
    },
    service::Service,
};
use tonic::{Request, Response, Status as GrpcStatus, service::Routes};

use crate::domain::{
    Error, Payments,
    payment::{Demand, Payment, Status},
};

/// The routes.
pub fn routes(payments: Arc<Payments>, service: Arc<Service>) -> Routes {
    Routes::new(PaymentServiceServer::new(Api { payments, service }))
}

struct Api {
    payments: Arc<Payments>,
    service: Arc<Service>,
}

type Answer = Result<Response<Message>, GrpcStatus>;

#[tonic::async_trait]
impl PaymentService for Api {
    async fn pay(&self, request: Request<PayRequest>) -> Answer {
        let cx = Cx::of(&request);
        let request = request.into_inner();
        let not_an_id = |_| Problem::invalid(vec![FieldError::new("user_id", "is not a UUID")]);
        let demand = Demand {
            user_id: request.user_id.parse().map_err(not_an_id)?,
            reference: request.reference,
            amount: request.amount,
            currency: request.currency,
            method: request.method,
        };
        let payments = self.payments.clone();
        // A caller that goes away must not leave a charge unrecorded for longer than need be.
        answer(self.service.finish(async move { payments.pay(&cx, demand).await }).await?)
    }

    async fn refund(&self, request: Request<RefundRequest>) -> Answer {
        let cx = Cx::of(&request);
        let reference = request.into_inner().reference;
        let payments = self.payments.clone();
        answer(self.service.finish(async move { payments.take_back(&cx, &reference).await }).await?)
    }

    async fn get_payment(&self, request: Request<GetPaymentRequest>) -> Answer {
        answer(self.payments.get_by_reference(&request.get_ref().reference).await)
    }
}

fn answer(payment: Result<Payment, Error>) -> Answer {
    Ok(Response::new(message(payment.map_err(Problem::from)?)))
}

fn message(payment: Payment) -> Message {
    let status = match payment.status {
        Status::Pending => PaymentStatus::Pending,
        Status::Captured => PaymentStatus::Captured,
        Status::Declined => PaymentStatus::Declined,
        Status::Refunding => PaymentStatus::Refunding,
        Status::Refunded => PaymentStatus::Refunded,
    };
    Message {
        id: payment.id.to_string(),
        reference: payment.reference,
        user_id: payment.user_id.map(|id| id.to_string()).unwrap_or_default(),
        amount: payment.amount,
        currency: payment.currency,
        status: status.into(),
        reason: payment.reason,
        updated: Some(pb::timestamp(payment.updated)),
    }
}
