//! Which destination a connection or request is for: named by the listener, by the authority, or by the address it was
//! going to before it was redirected.

use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use weft_api::v1::OutboundPolicy;

use crate::config::snapshot::{Destination, Snapshot};
use crate::net::worker::Worker;
use crate::reject::{Reason, Reject};

/// Where a connection wants to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum To {
    /// To this destination.
    Named(Arc<str>),
    /// To this address; for HTTP the authority counts first.
    Redirected(SocketAddr),
}

/// What was found.
#[derive(Debug)]
pub enum Found {
    /// A destination of the mesh.
    Known(Arc<Destination>),
    /// None; traffic to it may pass as it is.
    Outside(SocketAddr),
}

/// The destination; `host` is the request's authority, empty for raw connections.
pub async fn find(worker: &Rc<Worker>, config: &Snapshot, to: &To, host: &str) -> Result<Found, Reject> {
    match to {
        To::Named(name) => match config.destinations.get(name) {
            Some(destination) => Ok(Found::Known(Arc::clone(destination))),
            None => worker.shared.destination(name).await.map(Found::Known),
        },
        To::Redirected(address) => redirected(worker, config, *address, host).await,
    }
}

async fn redirected(
    worker: &Rc<Worker>,
    config: &Snapshot,
    address: SocketAddr,
    host: &str,
) -> Result<Found, Reject> {
    if let Some(known) = by_host(config, host, address.port()) {
        return Ok(Found::Known(known));
    }
    let own = worker.shared.settings.workload.split('/').next().unwrap_or_default();
    if let Some(name) = name_of(host, own, address.port()) {
        match worker.shared.destination(&name).await {
            Ok(known) => return Ok(Found::Known(known)),
            Err(reject) if reject.reason != Reason::UnknownDestination => return Err(reject),
            Err(_) => {}
        }
    }
    match config.proxy.outbound_policy {
        OutboundPolicy::RegistryOnly => Err(Reject::new(Reason::UnknownDestination).because(host)),
        OutboundPolicy::Allow | OutboundPolicy::Unspecified => Ok(Found::Outside(address)),
    }
}

fn by_host(config: &Snapshot, host: &str, port: u16) -> Option<Arc<Destination>> {
    let names = config.hosts.get(host)?;
    let found = names.iter().filter_map(|name| config.destinations.get(name));
    found.clone().find(|destination| destination.port == port).map(Arc::clone)
}

/// `<namespace>/<service>:<port>` for the names a Service has inside a cluster; the operator knows ports by number too.
fn name_of(host: &str, own_namespace: &str, port: u16) -> Option<String> {
    let mut labels = host.split('.');
    let service = labels.next().filter(|label| !label.is_empty())?;
    let namespace = labels.next().unwrap_or(own_namespace);
    let inside = matches!(labels.next(), None | Some("svc"));
    let is_label = |text: &str| text.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'-');
    (inside && is_label(service) && is_label(namespace)).then(|| format!("{namespace}/{service}:{port}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_services_are_recognised() {
        let check = |host: &str, expect: Option<&str>| {
            assert_eq!(name_of(host, "shop", 80).as_deref(), expect, "{host}");
        };
        check("product", Some("shop/product:80"));
        check("product.other", Some("other/product:80"));
        check("product.other.svc", Some("other/product:80"));
        check("product.other.svc.cluster.local", Some("other/product:80"));
        check("api.example.org", None);
        check("", None);
        check("a_b", None);
    }
}
