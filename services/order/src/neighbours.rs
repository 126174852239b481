//! The user, product and payment services, as this one needs them. Words of the wire end here.

use shop_kit::{
    client,
    cx::Cx,
    errors::{Kind, Problem},
    neighbour::Neighbour,
    pb::{
        payment::{
            PayRequest, Payment, PaymentStatus, RefundRequest, payment_service_client::PaymentServiceClient,
        },
        product::{GetProductRequest, UpdateStockRequest, product_service_client::ProductServiceClient},
        user::{GetUserRequest, user_service_client::UserServiceClient},
    },
};
use tonic::{Code, Status};
use uuid::Uuid;

use crate::domain::{
    Error,
    order::{Item, Order},
    saga::Outcome,
};

/// Why a neighbour did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// There is no such user.
    #[error("no such user")]
    NoUser,
    /// There is no such product.
    #[error("no such product: {0}")]
    NoProduct(Uuid),
    /// There is not enough of it.
    #[error("out of stock: {0}")]
    OutOfStock(Uuid),
    /// It could not be asked.
    #[error("{0}")]
    Failed(Problem),
}

impl From<CallError> for Problem {
    fn from(error: CallError) -> Self {
        match error {
            CallError::NoUser => Problem::new(Kind::NotFound, "user-not-found", "there is no such user"),
            CallError::NoProduct(id) => {
                Problem::new(Kind::NotFound, "product-not-found", format!("there is no product {id}"))
            }
            CallError::OutOfStock(id) => {
                Problem::new(Kind::Conflict, "out-of-stock", format!("there is not enough of product {id}"))
            }
            CallError::Failed(problem) => problem,
        }
    }
}

/// A product, as an order needs it.
pub struct Product {
    id: Uuid,
    name: String,
    price: i64,
    currency: String,
    stock: i64,
}

impl Product {
    /// So many of it, and the currency it is sold in.
    pub fn item(self, quantity: u32) -> Result<(Item, String), Error> {
        // Only a look ahead, so that a hopeless order takes no stock at all: taking it is what counts.
        if self.stock < i64::from(quantity) {
            return Err(CallError::OutOfStock(self.id).into());
        }
        Ok((Item { product_id: self.id, name: self.name, price: self.price, quantity }, self.currency))
    }
}

/// The services that are asked.
pub struct Neighbours {
    users: UserServiceClient<Neighbour>,
    products: ProductServiceClient<Neighbour>,
    payments: PaymentServiceClient<Neighbour>,
}

impl Neighbours {
    /// These services.
    pub fn new(users: Neighbour, products: Neighbour, payments: Neighbour) -> Self {
        Self {
            users: UserServiceClient::new(users),
            products: ProductServiceClient::new(products),
            payments: PaymentServiceClient::new(payments),
        }
    }

    /// Checks that there is such a user.
    pub async fn check_user(&self, cx: &Cx, id: Uuid) -> Result<(), CallError> {
        let request = cx.call(GetUserRequest { id: id.to_string() }).map_err(CallError::Failed)?;
        let refused = |status: Status| match status.code() {
            Code::NotFound => CallError::NoUser,
            _ => CallError::Failed(client::problem("user", &status)),
        };
        self.users.clone().get_user(request).await.map(|_| ()).map_err(refused)
    }

    /// A product as it is now.
    pub async fn product(&self, cx: &Cx, id: Uuid) -> Result<Product, CallError> {
        let request = cx.call(GetProductRequest { id: id.to_string() }).map_err(CallError::Failed)?;
        let found =
            self.products.clone().get_product(request).await.map_err(|status| refused(id, &status))?;
        let found = found.into_inner();
        Ok(Product { id, name: found.name, price: found.price, currency: found.currency, stock: found.stock })
    }

    /// Takes stock for an order. Taking it again takes nothing more.
    pub async fn take(&self, cx: &Cx, order: Uuid, product: Uuid, quantity: u32) -> Result<(), CallError> {
        self.update_stock(cx, request(order, product, i64::from(quantity), false)).await
    }

    /// Gives stock back that was taken for an order, or keeps it from being taken if it was not yet.
    pub async fn give_back(
        &self,
        cx: &Cx,
        order: Uuid,
        product: Uuid,
        quantity: i64,
    ) -> Result<(), CallError> {
        self.update_stock(cx, request(order, product, quantity, true)).await
    }

    /// Has an order paid. Asking again charges nothing more.
    pub async fn pay(&self, cx: &Cx, order: &Order, method: &str) -> Result<Outcome, CallError> {
        if order.total == 0 {
            return Ok(Outcome::Captured(None));
        }
        let message = PayRequest {
            reference: reference(order.id),
            user_id: order.user_id.to_string(),
            amount: order.total,
            currency: order.currency.clone(),
            method: method.to_owned(),
        };
        let request = cx.call(message).map_err(CallError::Failed)?;
        match self.payments.clone().pay(request).await {
            Ok(payment) => Ok(outcome(payment.get_ref())),
            // What it will never take is as good as declined: too much, or in a currency that is not settled.
            Err(status) if status.code() == Code::InvalidArgument => {
                Ok(Outcome::Declined(format!("not_accepted: {}", status.message())))
            }
            Err(status) if status.code() == Code::FailedPrecondition => Ok(Outcome::Returned),
            Err(status) => Err(CallError::Failed(client::problem("payment", &status))),
        }
    }

    /// Has the payment of an order taken back, or keeps it from being made if it was not yet.
    pub async fn take_payment_back(&self, cx: &Cx, order: Uuid) -> Result<Outcome, CallError> {
        let message = RefundRequest { reference: reference(order) };
        let request = cx.call(message).map_err(CallError::Failed)?;
        let failed = |status: Status| CallError::Failed(client::problem("payment", &status));
        self.payments.clone().refund(request).await.map(|payment| outcome(payment.get_ref())).map_err(failed)
    }

    async fn update_stock(&self, cx: &Cx, message: UpdateStockRequest) -> Result<(), CallError> {
        let id = message.product_id.parse().unwrap_or_default();
        let request = cx.call(message).map_err(CallError::Failed)?;
        self.products.clone().update_stock(request).await.map(|_| ()).map_err(|status| refused(id, &status))
    }
}

/// What the payment of an order is called.
pub fn reference(order: Uuid) -> String {
    format!("order:{order}")
}

/// The order whose payment is called so.
pub fn order_of(reference: &str) -> Option<Uuid> {
    reference.strip_prefix("order:")?.parse().ok()
}

fn outcome(payment: &Payment) -> Outcome {
    match payment.status() {
        PaymentStatus::Captured => Outcome::Captured(payment.id.parse().ok()),
        PaymentStatus::Declined => Outcome::Declined(payment.reason.clone()),
        PaymentStatus::Refunded => Outcome::Returned,
        PaymentStatus::Pending | PaymentStatus::Refunding | PaymentStatus::Unspecified => Outcome::Open,
    }
}

fn request(order: Uuid, product: Uuid, quantity: i64, revoke: bool) -> UpdateStockRequest {
    UpdateStockRequest {
        product_id: product.to_string(),
        delta: -quantity,
        operation_id: format!("order/{order}/{product}"),
        revoke,
    }
}

fn refused(product: Uuid, status: &Status) -> CallError {
    match status.code() {
        Code::NotFound => CallError::NoProduct(product),
        Code::FailedPrecondition => CallError::OutOfStock(product),
        _ => CallError::Failed(client::problem("product", status)),
    }
}
