//! What is scraped after what happened, and that no client can grow it.

use std::time::Duration;

use http::StatusCode;

use super::*;
use crate::policy::breaker::{State, Transition};
use crate::telemetry::Answer;

fn answer(status: u16, grpc_status: Option<u8>) -> Answer {
    let status = StatusCode::from_u16(status).unwrap();
    Answer { status, grpc_status, reject: None, duration: Duration::from_millis(3) }
}

const OPENED: Transition = Transition { from: State::Closed, to: State::Open };

fn series(metrics: &Metrics) -> Vec<String> {
    let text = metrics.encode(0);
    text.lines().filter(|line| line.starts_with("weft_")).map(str::to_owned).collect()
}

#[track_caller]
fn shows(metrics: &Metrics, expect: &str) {
    let lines = series(metrics);
    assert!(lines.iter().any(|line| line == expect), "{expect} is not among\n{}", lines.join("\n"));
}

#[test]
fn requests_are_counted_by_peer_and_status() {
    let metrics = Metrics::new("shop/order");
    let peer = metrics.peer(Direction::Outbound, "shop/product:http");
    for _ in 0..3 {
        peer.finished(&answer(200, None));
    }
    peer.finished(&answer(418, None));
    let labels = r#"direction="outbound",peer="shop/product:http",workload="shop/order""#;
    shows(
        &metrics,
        r#"weft_requests_total{code="200",direction="outbound",peer="shop/product:http",workload="shop/order"} 3"#,
    );
    shows(
        &metrics,
        r#"weft_requests_total{code="4xx",direction="outbound",peer="shop/product:http",workload="shop/order"} 1"#,
    );
    shows(&metrics, &format!("weft_request_duration_seconds_count{{{labels}}} 4"));
    shows(&metrics, &format!("weft_requests_active{{{labels}}} 0"));
}

#[test]
fn a_grpc_failure_counts_as_failed_although_its_status_is_200() {
    let metrics = Metrics::new("shop/order");
    let peer = metrics.peer(Direction::Outbound, "shop/user:grpc");
    peer.finished(&answer(200, Some(0)));
    peer.finished(&answer(200, Some(5)));
    peer.finished(&answer(200, Some(14)));
    peer.finished(&answer(200, Some(200)));
    assert_eq!((peer.totals().requests, peer.totals().failures), (4, 2));
}

#[test]
fn every_status_has_a_bounded_label() {
    let metrics = Metrics::new("shop/order");
    let peer = metrics.peer(Direction::Inbound, "shop/user");
    for status in 100..=999 {
        peer.finished(&answer(status, u8::try_from(status % 256).ok()));
    }
    let count =
        |name: &str| series(&metrics).iter().filter(|line| line.starts_with(&format!("{name}{{"))).count();
    assert_eq!((count("weft_requests_total"), count("weft_grpc_answers_total")), (38, 17));
}

#[test]
fn peers_beyond_the_bound_share_one_name() {
    let metrics = Metrics::new("shop/order");
    for number in 0..MAX_PEERS + 50 {
        metrics.peer(Direction::Inbound, &format!("shop/{number}")).finished(&answer(200, None));
    }
    assert_eq!(metrics.peers().len(), MAX_PEERS + 1);
    shows(
        &metrics,
        r#"weft_requests_total{code="200",direction="inbound",peer="other",workload="shop/order"} 50"#,
    );
}

#[test]
fn refusals_are_counted_by_reason() {
    let metrics = Metrics::new("shop/order");
    for reason in Reason::ALL {
        metrics.rejected(Direction::Gateway, *reason);
    }
    metrics.rejected(Direction::Gateway, Reason::CircuitOpen);
    shows(
        &metrics,
        r#"weft_rejections_total{direction="gateway",reason="circuit-open",workload="shop/order"} 2"#,
    );
    let refused = series(&metrics).iter().filter(|line| line.starts_with("weft_rejections_total")).count();
    assert_eq!(refused, Reason::ALL.len());
}

#[test]
fn series_of_removed_destinations_go() {
    let metrics = Metrics::new("shop/order");
    let gone = metrics.peer(Direction::Outbound, "shop/gone:http");
    let kept = metrics.peer(Direction::Outbound, "shop/kept:http");
    for peer in [&gone, &kept] {
        peer.finished(&answer(200, Some(0)));
        peer.retried();
        peer.retry_over_budget();
        peer.served_stale();
        peer.tcp().sent(3);
        peer.breaker_moved(OPENED);
        peer.ejected(1);
    }
    metrics.retain_destinations(|name| name == "shop/kept:http");
    assert!(series(&metrics).iter().all(|line| !line.contains("gone")), "{}", metrics.encode(0));
    assert!(series(&metrics).iter().any(|line| line.contains("kept")));
}

#[test]
fn raw_connections_are_open_until_their_guard_is_dropped() {
    let metrics = Metrics::new("shop/order");
    let peer = metrics.peer(Direction::Inbound, "shop/user");
    let open = (peer.tcp().opened(), peer.started());
    assert_eq!(metrics.active(), (1, 1));
    drop(open);
    assert_eq!(metrics.active(), (0, 0));
}

#[test]
fn a_breaker_shows_its_state_and_its_transitions() {
    let metrics = Metrics::new("shop/order");
    let peer = metrics.peer(Direction::Outbound, "shop/product:http");
    peer.breaker_moved(OPENED);
    peer.breaker_moved(Transition { from: State::Open, to: State::HalfOpen });
    shows(&metrics, r#"weft_breaker_state{destination="shop/product:http",workload="shop/order"} 2"#);
    shows(
        &metrics,
        r#"weft_breaker_transitions_total{destination="shop/product:http",to="open",workload="shop/order"} 1"#,
    );
}

#[test]
fn certificate_expiry_counts_down() {
    let metrics = Metrics::new("shop/order");
    metrics.certificate_renewed(1000);
    assert!(metrics.encode(400).contains("weft_certificate_expiry_seconds{workload=\"shop/order\"} 600"));
}

#[test]
fn handshake_errors_are_told_apart() {
    let check = |error: rustls::Error, expect: TlsFailure| {
        let error = std::io::Error::new(std::io::ErrorKind::InvalidData, error);
        assert_eq!(TlsFailure::of(&error), expect);
    };
    check(rustls::Error::NoCertificatesPresented, TlsFailure::NoCertificate);
    check(rustls::CertificateError::UnknownIssuer.into(), TlsFailure::UnknownAuthority);
    check(rustls::CertificateError::Expired.into(), TlsFailure::Expired);
    check(rustls::CertificateError::NotValidForName.into(), TlsFailure::NoIdentity);
    check(rustls::Error::AlertReceived(rustls::AlertDescription::BadCertificate), TlsFailure::RefusedByPeer);
    check(rustls::Error::HandshakeNotComplete, TlsFailure::Protocol);
    let closed = std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
    assert_eq!(TlsFailure::of(&closed), TlsFailure::Closed);
}
