//! Puts the proxy together: threads, listeners, control plane; and takes it down again.
//! The same in a pod, standalone, and inside a test: only the [`Source`] of the configuration differs.

use std::sync::Arc;
use std::time::Duration;

use weft_api::tls::Identity;
use weft_api::v1;

use crate::config::Shared;

/// Where configuration and certificates come from.
#[derive(Debug)]
pub enum Source {
    /// The operator named in the settings.
    Operator,
    /// Given once: tests and benches. [`Handle::replace`] changes it.
    Static(Vec<v1::Resource>, Arc<Identity>),
}

/// A running proxy. Dropping it stops the proxy at once.
#[derive(Debug)]
pub struct Handle {
    /// What its threads share.
    pub shared: Arc<Shared>,
    /// How long [`Handle::shutdown`] waits where the caller does not say.
    pub deadline: Duration,
}
