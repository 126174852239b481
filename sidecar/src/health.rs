//! What machines ask the proxy: `/ready` and `/live` for the kubelet (or `weft run`), `/metrics` for Prometheus.
//! Ready means configured, certified and not draining; live means that the control plane answers at all.

use http::StatusCode;
use tokio::time::Instant;

use crate::config::Shared;
use crate::pages::{Answer, Ask, answer, not_allowed, reads, text};
use crate::telemetry::clock::unix_now;

/// The text format of Prometheus.
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The health port.
pub fn health(shared: &Shared, ask: &Ask) -> Answer {
    if !reads(ask.request.method()) {
        return not_allowed("GET, HEAD");
    }
    match ask.request.uri().path() {
        "/ready" => match missing(shared) {
            None => text(StatusCode::OK, "ready\n"),
            Some(missing) => text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {missing}\n")),
        },
        "/live" => text(StatusCode::OK, "live\n"),
        _ => text(StatusCode::NOT_FOUND, "/ready, /live or /probe/<container>/<probe>\n"),
    }
}

/// The metrics port.
pub fn metrics(shared: &Shared, ask: &Ask) -> Answer {
    if !reads(ask.request.method()) {
        return not_allowed("GET, HEAD");
    }
    match ask.request.uri().path() {
        "/metrics" => {
            refresh(shared);
            let body = shared.telemetry.metrics.encode(unix_now());
            answer(StatusCode::OK, PROMETHEUS, body.into())
        }
        _ => text(StatusCode::NOT_FOUND, "/metrics\n"),
    }
}

/// Ejections end by the clock, without an event that could be counted.
fn refresh(shared: &Shared) {
    let (metrics, now) = (&shared.telemetry.metrics, Instant::now());
    for destination in shared.config.load().destinations.values() {
        if destination.outlier.is_some() {
            let ejected = destination.balancer.peers(now).ejected;
            destination.metrics(shared.direction(), metrics).ejected(ejected);
        }
    }
}

/// What keeps the proxy from being ready.
fn missing(shared: &Shared) -> Option<&'static str> {
    if shared.tasks.is_draining() {
        Some("shutting down")
    } else if shared.identity.load().is_none() {
        Some("no certificate yet")
    } else if !shared.config.load().configured() {
        Some("no configuration yet")
    } else if !shared.is_ready() {
        Some("starting")
    } else if !shared.is_listening() {
        Some("not listening yet")
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{Method, Request};
    use http_body_util::BodyExt;

    use super::*;
    use crate::config::apply::apply;
    use crate::config::build::SELF;
    use crate::drain::Tasks;
    use crate::settings::Settings;
    use crate::telemetry::Telemetry;
    use weft_api::v1;

    fn ask(method: Method, path: &str) -> Ask {
        let request = Request::builder().method(method).uri(path).body(Bytes::new()).unwrap();
        Ask { peer: "127.0.0.1:1".parse().unwrap(), local: "127.0.0.1:2".parse().unwrap(), request }
    }

    fn shared() -> std::sync::Arc<Shared> {
        let (telemetry, _outlets) = Telemetry::new("shop/order");
        Shared::new(Settings::in_process(), telemetry, Tasks::new()).0
    }

    async fn body(answer: Answer) -> String {
        String::from_utf8(answer.into_body().collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn readiness_names_what_is_missing() {
        let shared = shared();
        let check = async |expect: &str| {
            let answer = health(&shared, &ask(Method::GET, "/ready"));
            assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(body(answer).await, format!("not ready: {expect}\n"));
        };
        check("no certificate yet").await;
        let listener = v1::OutboundListener {
            listen: "127.0.0.1:1".to_owned(),
            destination: "shop/user:http".to_owned(),
            protocol: 0,
        };
        let proxy = v1::Proxy { outbound: vec![listener], ..v1::Proxy::default() };
        let body = Some(v1::resource::Body::Proxy(proxy));
        let resource = v1::Resource { name: SELF.to_owned(), version: "1".to_owned(), body };
        let delta = v1::Delta { upserts: vec![resource], ..v1::Delta::default() };
        shared.publish(apply(&shared.config.load(), delta).unwrap());
        check("no certificate yet").await;
        shared.tasks.begin();
        check("shutting down").await;
        assert_eq!(health(&shared, &ask(Method::GET, "/live")).status(), StatusCode::OK);
    }

    #[tokio::test]
    async fn metrics_are_served_in_the_text_format() {
        let shared = shared();
        let answer = metrics(&shared, &ask(Method::GET, "/metrics"));
        assert_eq!(answer.headers()["content-type"], PROMETHEUS);
        assert!(body(answer).await.contains("# TYPE weft_config_updates_total counter"));
        assert_eq!(metrics(&shared, &ask(Method::POST, "/metrics")).status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(metrics(&shared, &ask(Method::GET, "/")).status(), StatusCode::NOT_FOUND);
    }
}
