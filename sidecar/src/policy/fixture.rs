//! A request for the tests of policies: from an order service at 10.0.0.7, on port 80.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::time::Instant;

use super::path::NormalPath;
use crate::cx::{ConnCx, RequestCx};

pub(crate) const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7));

pub(crate) fn connection(identity: Option<&str>) -> ConnCx {
    ConnCx {
        peer: SocketAddr::new(CLIENT, 40_000),
        identity: identity.map(|id| Arc::new(id.parse().unwrap())),
        port: 80,
        tls: identity.is_some(),
    }
}

pub(crate) fn request(method: &str, host: &str, path: &str) -> RequestCx {
    let conn = Arc::new(connection(Some("spiffe://cluster.local/ns/shop/sa/order")));
    RequestCx {
        id: "test".into(),
        method: method.parse().unwrap(),
        host: host.into(),
        ..RequestCx::new(conn, NormalPath::parse(path).unwrap(), Instant::now())
    }
}

pub(crate) fn headers(list: &[(&str, &str)]) -> HeaderMap {
    let pair = |(name, value): &(&str, &str)| {
        (HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap())
    };
    let mut map = HeaderMap::new();
    for (name, value) in list.iter().map(pair) {
        map.append(name, value);
    }
    map
}
