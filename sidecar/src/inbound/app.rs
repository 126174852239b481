//! Sends a request to the application beside this proxy, over the worker's pool of plain connections to it.

use std::rc::Rc;
use std::time::Duration;

use http::{Response, Version};
use weft_api::names::HEADER_REASON;
use weft_api::v1::Protocol;

use crate::config::snapshot::InboundPort;
use crate::cx::RequestCx;
use crate::http::body::Body;
use crate::http::received::Received;
use crate::http::upgrade::{Inward, Switch, conclude};
use crate::net::worker::Worker;
use crate::policy::limits::Slot;
use crate::policy::outcome::Outcome;
use crate::reject::{Reason, Reject};
use crate::upstream::connect::{CONNECT_TIMEOUT, Speaks, Target};
use crate::upstream::outgoing::Outgoing;

/// Below what servers usually keep an unused connection for.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Sends the request; the slot is held until the answer has passed.
pub async fn send(
    worker: &Rc<Worker>,
    port: &InboundPort,
    cx: &mut RequestCx,
    (mut request, body): (Inward, Received),
    slot: Slot,
) -> Result<Response<Body>, Reject> {
    let target = Target {
        name: &port.name,
        address: port.app,
        peer: None,
        connect_timeout: CONNECT_TIMEOUT,
        idle_timeout: IDLE_TIMEOUT,
    };
    let client = request.client.take();
    let mut outgoing = Outgoing::new(request, body, false);
    let speaks = speaks(port.protocol, cx, &outgoing);
    cx.endpoint = Some(port.app);
    cx.attempts = 1;
    let (mut answer, connection) = outgoing.send(worker, target, speaks).await.map_err(|failure| {
        let Reject { detail, reason, .. } = failure.reject;
        let unreachable = failure.outcome == Outcome::ConnectFailed;
        Reject { detail, ..Reject::new(if unreachable { Reason::AppUnavailable } else { reason }) }
    })?;
    // Callers act on a proxy's word that nobody has seen their request; an application's is not that.
    answer.headers_mut().remove(HEADER_REASON);
    let switch = Switch { client, idle: Some(worker.shared.settings.client_idle_timeout) };
    Ok(conclude(worker, cx, switch, answer, (connection, slot)))
}

/// gRPC needs HTTP/2; else HTTP/2 reaches an application only where it declares it.
fn speaks(protocol: Protocol, cx: &RequestCx, outgoing: &Outgoing) -> Speaks {
    match protocol {
        _ if outgoing.is_upgrade() => Speaks::Http1,
        Protocol::Http2 | Protocol::Grpc => Speaks::H2,
        _ if cx.grpc && cx.version == Version::HTTP_2 => Speaks::H2,
        _ => Speaks::Http1,
    }
}
