//! What payments are for, asked over the bus of those who had them made.

use std::time::Duration;

use serde_json::json;
use shop_kit::{
    cx::Cx,
    errors::{Kind, Problem},
    events::call::{Bus as _, RedisBus},
    purpose::{Asked, Purpose, address},
};

use crate::domain::payment::Payment;

/// How long one try may take; there are some more while the request has time.
const PATIENCE: Duration = Duration::from_secs(2);

/// Asks what payments are for.
pub struct Purposes {
    bus: RedisBus,
}

impl Purposes {
    /// Asks over that bus.
    pub fn new(bus: RedisBus) -> Self {
        Self { bus }
    }

    /// What a payment is for.
    pub async fn of(&self, cx: &Cx, payment: &Payment) -> Result<Purpose, Problem> {
        let nobody = || Problem::new(Kind::NotFound, "purpose-unknown", "nobody can say what this is for");
        let to = address(&payment.reference).ok_or_else(nobody)?;
        let question = json!(Asked { reference: payment.reference.clone() });
        let answer = self.bus.send(cx, &to, &question, PATIENCE).await?;
        serde_json::from_value(answer).map_err(|error| Problem::internal(&error))
    }
}
