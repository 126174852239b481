//! Limits on what is in flight at once: connections, requests waiting for a connection, requests. A counter is given
//! back when its [`Slot`] is dropped, wherever the request ended. Reaching a limit says nothing about any endpoint.

use std::sync::Arc;

use weft_api::v1;

use crate::reject::{Reason, Reject};
use crate::sync::atomic::{AtomicU32, Ordering};

/// Counters of one destination, or of this workload's inbound side.
#[derive(Debug, Default)]
pub struct Limits {
    connections: Counter,
    pending: Counter,
    requests: Counter,
}

#[derive(Debug, Default)]
struct Counter {
    /// 0: no limit.
    limit: AtomicU32,
    used: AtomicU32,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Connections,
    Pending,
    Requests,
}

/// One unit in use; dropping it gives it back.
#[derive(Debug)]
pub struct Slot {
    limits: Arc<Limits>,
    kind: Kind,
}

/// What is in use, for the admin page and the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Usage {
    /// Open connections.
    pub connections: u32,
    /// Requests waiting for a connection.
    pub pending: u32,
    /// Requests in flight.
    pub requests: u32,
}

impl Limits {
    /// Counters with these limits; none where `config` is absent or a limit is 0.
    pub fn new(config: Option<&v1::Limits>) -> Self {
        let limits = Self::default();
        limits.update(config);
        limits
    }

    /// Takes over new limits; what is in flight stays counted.
    pub fn update(&self, config: Option<&v1::Limits>) {
        let config = config.copied().unwrap_or_default();
        self.connections.limit.store(config.connections, Ordering::Relaxed);
        self.pending.limit.store(config.pending, Ordering::Relaxed);
        self.requests.limit.store(config.requests, Ordering::Relaxed);
    }

    /// Takes a connection.
    pub fn connection(self: &Arc<Self>) -> Result<Slot, Reject> {
        self.take(Kind::Connections)
    }

    /// Takes a place among those who wait for a connection.
    pub fn pending(self: &Arc<Self>) -> Result<Slot, Reject> {
        self.take(Kind::Pending)
    }

    /// Takes a request.
    pub fn request(self: &Arc<Self>) -> Result<Slot, Reject> {
        self.take(Kind::Requests)
    }

    /// What is in use now.
    pub fn usage(&self) -> Usage {
        let used = |counter: &Counter| counter.used.load(Ordering::Relaxed);
        Usage {
            connections: used(&self.connections),
            pending: used(&self.pending),
            requests: used(&self.requests),
        }
    }

    fn take(self: &Arc<Self>, kind: Kind) -> Result<Slot, Reject> {
        let counter = self.counter(kind);
        let limit = counter.limit.load(Ordering::Relaxed);
        let mut used = counter.used.load(Ordering::Relaxed);
        // Not added first and taken back when it is too much: meanwhile somebody else would find no room where there is.
        while limit == 0 || used < limit {
            let more = used.saturating_add(1);
            match counter.used.compare_exchange_weak(used, more, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return Ok(Slot { limits: Arc::clone(self), kind }),
                Err(seen) => used = seen,
            }
        }
        Err(Reject::new(Reason::Overflow).by(kind.name()))
    }

    fn counter(&self, kind: Kind) -> &Counter {
        match kind {
            Kind::Connections => &self.connections,
            Kind::Pending => &self.pending,
            Kind::Requests => &self.requests,
        }
    }
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Self::Connections => "limits.connections",
            Self::Pending => "limits.pending",
            Self::Requests => "limits.requests",
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.limits.counter(self.kind).used.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits(requests: u32) -> Arc<Limits> {
        Arc::new(Limits::new(Some(&v1::Limits { connections: 0, pending: 0, requests })))
    }

    #[test]
    fn the_limit_is_reached_exactly_and_given_back() {
        let limits = limits(2);
        let first = limits.request().unwrap();
        let second = limits.request().unwrap();
        let refused = limits.request().unwrap_err();
        assert_eq!((refused.reason, refused.policy.as_deref()), (Reason::Overflow, Some("limits.requests")));
        drop(first);
        let third = limits.request().unwrap();
        drop((second, third));
        assert_eq!(limits.usage(), Usage { connections: 0, pending: 0, requests: 0 });
    }

    #[test]
    fn no_limit_refuses_nothing_and_still_counts() {
        let limits = limits(0);
        let slots: Vec<_> = (0..100).map(|_| limits.connection().unwrap()).collect();
        assert_eq!(limits.usage().connections, 100);
        drop(slots);
        assert_eq!(limits.usage().connections, 0);
    }

    #[test]
    fn a_lower_limit_holds_at_once_and_drops_nothing() {
        let limits = limits(10);
        let slots: Vec<_> = (0..5).map(|_| limits.request().unwrap()).collect();
        limits.update(Some(&v1::Limits { connections: 0, pending: 0, requests: 3 }));
        assert!(limits.request().is_err());
        assert_eq!(limits.usage().requests, 5);
        drop(slots);
        assert!(limits.request().is_ok());
    }

    #[test]
    fn threads_never_pass_the_limit_together() {
        let limits = limits(8);
        let take_often = || {
            for _ in 0..1000 {
                let slot = limits.request();
                assert!(slot.is_err() || limits.usage().requests <= 8);
            }
        };
        std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(take_often))));
        assert_eq!(limits.usage().requests, 0);
    }
}
