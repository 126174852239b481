//! One endpoint, what is known about it, and one use of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use weft_api::v1;

use super::load::Load;
use crate::config::snapshot::Pinned;
use crate::policy::ConfigError;
use crate::policy::outcome::{Health, Outcome};
use crate::policy::outlier::Ejection;

/// One instance of a destination.
#[derive(Debug)]
pub struct Endpoint {
    address: SocketAddr,
    instance: Arc<str>,
    meshed: bool,
    zone: Box<str>,
    /// Zones whose callers are meant to use it; none: nobody has said.
    for_zones: Box<[Box<str>]>,
    weight: u32,
    state: Arc<State>,
}

/// Survives updates of the endpoint list.
#[derive(Debug)]
struct State {
    load: Load,
    ejection: Ejection,
    /// Since when it is known, where others were known before.
    arrived: Option<Instant>,
}

/// Share of requests that a new endpoint gets at least.
const LEAST_SHARE: f64 = 0.1;

impl Endpoint {
    /// Compiles the wire form, with the state of the known endpoint of this address, or with when it arrived.
    pub(super) fn new<'a>(
        config: &v1::Endpoint,
        known: impl FnOnce(SocketAddr) -> Result<&'a Arc<Self>, Option<Instant>>,
        now: Instant,
    ) -> Result<Self, ConfigError> {
        let address = config.address.parse().map_err(|_| {
            ConfigError::invalid(
                "endpoints[].address",
                &*config.address,
                "write address and port, `10.0.0.7:8080`",
            )
        })?;
        let state = match known(address) {
            Ok(known) => Arc::clone(&known.state),
            Err(arrived) => Arc::new(State { arrived, ..State::new(now) }),
        };
        Ok(Self {
            address,
            instance: config.instance.as_str().into(),
            meshed: config.meshed,
            zone: config.zone.as_str().into(),
            for_zones: config.for_zones.iter().map(|zone| zone.as_str().into()).collect(),
            weight: config.weight.max(1),
            state,
        })
    }

    /// An endpoint that no list holds.
    pub(super) fn alone(pinned: Pinned, now: Instant) -> Self {
        Self {
            address: pinned.address,
            instance: pinned.address.to_string().into(),
            meshed: pinned.meshed,
            zone: Box::default(),
            for_zones: Box::default(),
            weight: 1,
            state: Arc::new(State::new(now)),
        }
    }

    /// Where to connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Name of the instance, for logs and admin.
    pub fn instance(&self) -> &Arc<str> {
        &self.instance
    }

    /// Whether a proxy stands before it; else it is spoken to in plain text.
    pub fn is_meshed(&self) -> bool {
        self.meshed
    }

    /// Where it runs.
    pub fn zone(&self) -> &str {
        &self.zone
    }

    /// Zones whose callers are meant to use it; none: nobody has said.
    pub fn for_zones(&self) -> &[Box<str>] {
        &self.for_zones
    }

    /// Whether it is near callers in this zone: meant for them, where hints count, else in their zone.
    pub(super) fn is_near(&self, zone: &str, hinted: bool) -> bool {
        if hinted { self.for_zones.iter().any(|meant| **meant == *zone) } else { *self.zone == *zone }
    }

    /// Its share, relative to the others.
    pub fn weight(&self) -> u32 {
        self.weight
    }

    /// Whether and for how long it is left out.
    pub fn ejection(&self) -> &Ejection {
        &self.state.ejection
    }

    /// Attempts on their way to it.
    pub fn inflight(&self) -> u32 {
        self.state.load.inflight()
    }

    /// Its latency as the balancer sees it.
    pub fn latency(&self, now: Instant) -> Duration {
        self.state.load.latency(now)
    }

    /// Whether it takes this request of the share that an endpoint gets which is new, or comes back from an ejection:
    /// a tenth at first, all of it after `time`. `random` decides.
    pub(super) fn is_up(&self, time: Duration, random: u64, now: Instant) -> bool {
        let since = |at: Option<Instant>| at.map_or(time, |at| now.saturating_duration_since(at));
        let back = self.state.ejection.over_for(now).unwrap_or(time);
        let age = since(self.state.arrived).min(back);
        age >= time || {
            let share = (age.as_secs_f64() / time.as_secs_f64()).max(LEAST_SHARE);
            f64::from(u32::try_from(random >> 32).unwrap_or(u32::MAX)) < share * f64::from(u32::MAX)
        }
    }

    pub(super) fn load(&self) -> &Load {
        &self.state.load
    }

    pub(super) fn weight_f64(&self) -> f64 {
        f64::from(self.weight)
    }
}

impl State {
    fn new(now: Instant) -> Self {
        Self { load: Load::new(now), ejection: Ejection::new(now), arrived: None }
    }
}

/// An endpoint in use by one attempt; dropping it ends the use.
#[derive(Debug)]
pub struct Picked {
    endpoint: Arc<Endpoint>,
    index: usize,
    again: bool,
}

impl Picked {
    pub(super) fn new(endpoint: Arc<Endpoint>, index: usize, again: bool) -> Self {
        endpoint.load().begin();
        Self { endpoint, index, again }
    }

    /// The endpoint.
    pub fn endpoint(&self) -> &Arc<Endpoint> {
        &self.endpoint
    }

    /// Its place in the balancer's list.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Whether this request has tried it before.
    pub fn is_again(&self) -> bool {
        self.again
    }

    /// Says how long the answer's head took and how it ended. A failure counts as slow, so that an endpoint that fails
    /// fast does not draw all requests. The use goes on until the value is dropped (with the body's end).
    pub fn answered(&self, outcome: Outcome, latency: Duration, now: Instant) {
        match outcome.health() {
            Health::Good => self.endpoint.load().observe(latency, now),
            Health::Bad => self.endpoint.load().observe_failure(latency, now),
            Health::Unknown => {}
        }
    }

    /// Says that another endpoint has answered first, after that long: what this one takes is at least that.
    pub fn outrun(&self, after: Duration, now: Instant) {
        if after > self.endpoint.latency(now) {
            self.endpoint.load().observe(after, now);
        }
    }
}

impl Drop for Picked {
    fn drop(&mut self) {
        self.endpoint.load().end();
    }
}
