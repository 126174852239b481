//! The path of a TLS connection that goes through: a route by its server name, then the outbound path of any raw
//! connection. Nothing in it can be read, and nothing is changed.

use std::rc::Rc;
use std::sync::Arc;

use crate::config::snapshot::Destination;
use crate::cx::ConnCx;
use crate::net::copy::Raw;
use crate::net::linger::tell;
use crate::net::stream::Stream;
use crate::net::worker::Worker;
use crate::outbound::{routes, tcp};
use crate::policy::route::Route;
use crate::reject::{Reason, Reject};
use crate::telemetry::Direction;
use crate::telemetry::metrics::TlsFailure;
use crate::tls::hello::UNRECOGNIZED_NAME;

use super::NOWHERE;

/// A TLS connection that does not end here.
#[derive(Debug)]
pub(super) struct Through {
    /// From its first byte on.
    pub(super) stream: Stream,
    /// Server name that it asks for, lower case; empty: none.
    pub(super) name: Box<str>,
    /// The route for it.
    pub(super) route: Option<Arc<Route>>,
}

/// Serves one connection.
pub(super) async fn handle(worker: &Rc<Worker>, conn: &Arc<ConnCx>, through: Through) {
    let found = find(worker, &through).await;
    let metrics = &worker.shared.telemetry.metrics;
    let metrics = match &found {
        Ok(destination) => Arc::clone(destination.metrics(Direction::Gateway, metrics)),
        Err(_) => metrics.peer(Direction::Gateway, NOWHERE),
    };
    let mut raw = Raw::new(Direction::Gateway, conn, &metrics);
    let result = match found {
        Ok(destination) => tcp::to(worker, &mut raw, through.stream, (&destination, None)).await,
        Err(reject) => {
            refuse(worker, through.stream, &reject).await;
            Err(reject)
        }
    };
    raw.close(worker, result);
}

async fn find(worker: &Rc<Worker>, through: &Through) -> Result<Arc<Destination>, Reject> {
    let unknown = || Reject::new(Reason::NoRoute).because(format!("server name `{}`", through.name));
    let route = through.route.as_ref().ok_or_else(unknown)?;
    routes::backend(worker, route).await
}

async fn refuse(worker: &Worker, stream: Stream, reject: &Reject) {
    let alert = if reject.reason == Reason::NoRoute {
        worker.shared.telemetry.metrics.handshake_failed(Direction::Gateway, TlsFailure::UnknownName);
        &UNRECOGNIZED_NAME[..]
    } else {
        &[]
    };
    tell(stream, alert).await;
}
