//! The payment provider, as this service needs it: charge, give back, look up. Behind a trait, because which provider
//! it is is nobody else's business; here stands a simulated one, with a state and moods of its own.
//!
//! Every call is idempotent by the id of the payment, so that a call whose answer was lost can be made again.

pub mod simulated;

use uuid::Uuid;

use crate::domain::payment::{Payment, Returned, Verdict};

/// Why the provider's answer is not known. Whether it acted is not known either.
#[derive(Debug, thiserror::Error)]
pub enum ProviderError {
    /// It did not answer in time.
    #[error("the provider did not answer in time")]
    Late,
    /// It could not be reached, or failed.
    #[error("the provider failed: {0}")]
    Failed(&'static str),
    /// What it keeps its state in failed.
    #[error("the provider's own database failed")]
    Database(#[from] sqlx::Error),
}

/// A payment provider.
#[tonic::async_trait]
pub trait Provider: Send + Sync {
    /// Authorizes and captures a payment in one step. The same payment is charged once.
    async fn charge(&self, payment: &Payment) -> Result<Verdict, ProviderError>;
    /// Returns what was charged. A payment that was not charged yet never will be.
    async fn refund(&self, payment: &Payment) -> Result<Returned, ProviderError>;
    /// What became of a charge: nothing when it never arrived.
    async fn look_up(&self, payment: Uuid) -> Result<Option<Verdict>, ProviderError>;
}
