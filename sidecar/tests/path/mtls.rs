//! Who is let in, and who is talked to.

use std::sync::atomic::Ordering;

use http::StatusCode;
use rcgen::{CertificateParams, date_time_ymd};
use weft_api::v1;

use crate::support::{
    CLIENT_ID, Ca, Client, DESTINATION, SERVER_ID, calling, client, destination, echo, endpoints, inbound,
    pair_with, raw, server, until,
};

/// Status and reason of a request from a proxy with this identity to one with that.
async fn check(
    client_ca: &Ca,
    server_ca: &Ca,
    ids: (&str, &str),
    edit: impl FnOnce(&mut CertificateParams),
) -> (StatusCode, String, String) {
    let server = server(&server_ca.issue(ids.1), inbound(echo().await));
    let endpoint = server.address("inbound/http").unwrap();
    let identity = client_ca.issue_with(ids.0, edit);
    let client = client(&identity, calling(&destination(), &endpoints(&[endpoint])));
    let to = client.address(&format!("outbound/{DESTINATION}")).unwrap();
    let (answer, _) = Client::connect(to).await.get("/").await;
    let reason = answer.headers().get("x-weft-reason").map(|r| r.to_str().unwrap().to_owned());
    let metrics = server.shared.telemetry.metrics.encode(0);
    (answer.status(), reason.unwrap_or_default(), metrics)
}

#[tokio::test]
async fn peers_of_the_same_mesh_talk() {
    let ca = Ca::new();
    let (status, ..) = check(&ca, &ca, (CLIENT_ID, SERVER_ID), |_| {}).await;
    assert_eq!(status, StatusCode::OK);
}

#[tokio::test]
async fn a_peer_of_another_authority_is_refused_and_counted() {
    let (ours, theirs) = (Ca::new(), Ca::new());
    let (status, reason, _) = check(&theirs, &ours, (CLIENT_ID, SERVER_ID), |_| {}).await;
    assert_eq!((status, reason.as_str()), (StatusCode::SERVICE_UNAVAILABLE, "connect-failed"));
}

#[tokio::test]
async fn an_expired_peer_is_refused_and_counted() {
    let ca = Ca::new();
    let expired = |params: &mut CertificateParams| {
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(2020, 1, 2);
    };
    let (status, _, metrics) = check(&ca, &ca, (CLIENT_ID, SERVER_ID), expired).await;
    assert_ne!(status, StatusCode::OK);
    let counted =
        |line: &str| line.starts_with("weft_rejections_total") && line.contains("peer-unauthenticated");
    assert!(metrics.lines().any(counted), "{metrics}");
}

#[tokio::test]
async fn a_server_that_is_somebody_else_gets_no_request() {
    let ca = Ca::new();
    let other = "spiffe://cluster.local/ns/shop/sa/mallory";
    let (status, reason, _) = check(&ca, &ca, (CLIENT_ID, other), |_| {}).await;
    assert_eq!((status, reason.as_str()), (StatusCode::BAD_GATEWAY, "peer-wrong-identity"));
}

#[tokio::test]
async fn a_resumed_session_still_knows_its_peer() {
    let pair = pair_with(echo().await, |inbound, destination| {
        destination.idle_timeout_ms = 1;
        inbound.authorization = Some(v1::Authorization {
            rules: vec![v1::Rule {
                name: "order".into(),
                from: vec![v1::PeerMatch { peer: Some(v1::peer_match::Peer::Identity(CLIENT_ID.into())) }],
                ..Default::default()
            }],
            ..Default::default()
        });
    });
    for _ in 0..3 {
        let (answer, _) = Client::connect(pair.to).await.get("/").await;
        assert_eq!(answer.status(), StatusCode::OK);
        // Past the idle timeout the pool closes the connection, so the next one resumes the session.
        pair.client.replace(calling_again(&pair)).unwrap();
        until(|| pair.server.shared.open_connections.load(Ordering::Relaxed) == 0).await;
    }
}

fn calling_again(pair: &crate::support::Pair) -> Vec<v1::Resource> {
    pair.client.shared.config.load().resources.values().map(|r| (**r).clone()).collect()
}

#[tokio::test]
async fn plain_text_is_refused_where_mutual_tls_is_required() {
    let ca = Ca::new();
    let server = server(&ca.issue(SERVER_ID), inbound(echo().await));
    let to = server.address("inbound/http").unwrap();
    let answer = raw(to, b"GET / HTTP/1.1\r\nhost: product\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 403 "), "{answer}");
    assert!(answer.contains("x-weft-reason: peer-unauthenticated"), "{answer}");
}

#[tokio::test]
async fn permissive_takes_plain_text_and_tls() {
    let pair = pair_with(echo().await, |inbound, _| inbound.mtls = v1::MtlsMode::Permissive.into());
    let (answer, _) = Client::connect(pair.to).await.get("/").await;
    assert_eq!(answer.status(), StatusCode::OK);
    let direct = pair.server.address("inbound/http").unwrap();
    let (answer, _) = Client::connect(direct).await.get("/").await;
    assert_eq!(answer.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_destination_without_mutual_tls_is_spoken_to_in_plain_text() {
    let pair = pair_with(echo().await, |inbound, destination| {
        inbound.mtls = v1::MtlsMode::Disabled.into();
        destination.mtls = None;
    });
    let (answer, _) = Client::connect(pair.to).await.get("/").await;
    assert_eq!(answer.status(), StatusCode::OK);
}
