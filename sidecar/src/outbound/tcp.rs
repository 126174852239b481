//! The outbound path of a raw connection: an endpoint, a connection to it, then bytes both ways.

use std::rc::Rc;
use std::sync::Arc;

use http::StatusCode;
use tokio::time::Instant;

use super::attempts::{judge, target};
use super::destination::{Found, Way, find};
use crate::config::snapshot::{Destination, Pinned};
use crate::cx::ConnCx;
use crate::net::copy::{Raw, copy};
use crate::net::stream::Stream;
use crate::net::worker::Worker;
use crate::policy::outcome::Outcome;
use crate::reject::{Reason, Reject};
use crate::telemetry::Direction;
use crate::upstream::balance::Ask;
use crate::upstream::connect::{CONNECT_TIMEOUT, Speaks, Target, connect};

/// Endpoints tried for one connection.
const ATTEMPTS: usize = 3;

/// Serves one raw connection of the application.
pub async fn handle(worker: &Rc<Worker>, stream: Stream, conn: &Arc<ConnCx>, way: &Way) {
    let config = worker.shared.config.load_full();
    let found = find(worker, &config, way, "").await;
    let metrics = &worker.shared.telemetry.metrics;
    let metrics = match &found {
        Ok(Found::Known(known, _)) => Arc::clone(known.metrics(Direction::Outbound, metrics)),
        Ok(Found::Outside(_)) => metrics.peer(Direction::Outbound, "outside"),
        Err(_) => metrics.peer(Direction::Outbound, "unknown"),
    };
    drop(config);
    let mut raw = Raw::new(Direction::Outbound, conn, &metrics);
    let result = match found {
        Ok(found) => steps(worker, &mut raw, stream, found).await,
        Err(reject) => Err(reject),
    };
    raw.close(worker, result);
}

async fn steps(worker: &Rc<Worker>, raw: &mut Raw, stream: Stream, found: Found) -> Result<(), Reject> {
    match found {
        Found::Known(destination, pinned) => to(worker, raw, stream, (&destination, pinned)).await,
        Found::Outside(address) => {
            let name = Arc::from("outside");
            let target = Target {
                name: &name,
                address,
                peer: None,
                connect_timeout: CONNECT_TIMEOUT,
                idle_timeout: CONNECT_TIMEOUT,
            };
            raw.endpoint = Some(address);
            let (upstream, _) =
                connect(&worker.shared, target, Speaks::Tcp).await.map_err(|e| Reject::from(&e))?;
            copy(raw, stream, upstream, Some(worker.shared.settings.client_idle_timeout)).await;
            Ok(())
        }
    }
}

/// Joins a connection with one to an endpoint of this destination.
pub async fn to(
    worker: &Rc<Worker>,
    raw: &mut Raw,
    stream: Stream,
    (destination, pinned): (&Destination, Option<Pinned>),
) -> Result<(), Reject> {
    raw.destination = Some(Arc::clone(&destination.name));
    let _slot = destination.limits.connection()?;
    let mut tried = Vec::new();
    loop {
        let started = Instant::now();
        let ask = Ask { key: None, random: rand::random(), tried: &tried };
        let pinned_to = pinned.map(|pinned| destination.balancer.pinned(pinned, started));
        let picked =
            pinned_to.or_else(|| destination.balancer.pick(&ask, started)).ok_or(Reason::NoEndpoints)?;
        raw.endpoint = Some(picked.endpoint().address());
        let connected = worker.pool.tcp(worker, target(destination, picked.endpoint())).await;
        let outcome =
            if connected.is_ok() { Outcome::Status(StatusCode::OK) } else { Outcome::ConnectFailed };
        judge(worker, destination, &picked, (outcome, started));
        let error = match connected {
            Ok(upstream) => {
                copy(raw, stream, upstream, destination.stream_idle_timeout).await;
                return Ok(());
            }
            Err(error) => error,
        };
        tried.push(picked.index());
        let others = || destination.balancer.has_others(&tried, Instant::now());
        if pinned.is_some() || tried.len() >= ATTEMPTS || !others() {
            return Err(Reject::from(&error));
        }
    }
}
