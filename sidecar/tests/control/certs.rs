//! Certificates: got, refused, renewed, rotated.

use std::sync::Arc;

use rustls_pki_types::CertificateDer;
use weft_api::tls::fingerprint;
use weft_api::v1::{self, Delta};

use crate::operator::{Operator, Stream, authority};
use crate::proxy::Proxy;

#[tokio::test]
async fn a_certificate_for_the_workload_is_signed_and_in_use() {
    let operator = Operator::start().await;
    let proxy = Proxy::start(&operator);
    proxy.certified(|_| true).await;
    let material = proxy.shared.identity.load_full().unwrap();
    assert_eq!(material.id.as_str(), "spiffe://cluster.local/ns/shop/sa/order");
    assert!(proxy.metrics().contains("weft_certificate_renewals_total{result=\"renewed\""));
}

#[tokio::test]
async fn the_proxy_waits_for_the_roots_to_be_mounted() {
    let operator = Operator::start().await;
    let proxy = Proxy::start_with(&operator, |_| {});
    assert!(proxy.shared.identity.load().is_none());
    proxy.write_roots(&operator.roots_pem);
    proxy.certified(|_| true).await;
}

#[tokio::test]
async fn a_token_that_is_refused_is_read_again_and_tried_again() {
    let operator = Operator::start().await;
    let proxy = Proxy::start_with(&operator, |settings| {
        settings.token = None;
        settings.token_file = settings.roots.with_file_name("token");
    });
    let token = proxy.dir.path().join("token");
    std::fs::write(&token, "stale").unwrap();
    proxy.write_roots(&operator.roots_pem);
    proxy.metric("weft_certificate_renewals_total{result=\"failed\"").await;
    assert!(proxy.shared.identity.load().is_none());
    std::fs::write(&token, "join-token\n").unwrap();
    proxy.certified(|_| true).await;
}

#[tokio::test]
async fn who_is_not_the_operator_gets_no_token() {
    let stranger = "spiffe://cluster.local/ns/shop/sa/product";
    let operator = Operator::start_as(stranger, "127.0.0.1:0".parse().unwrap(), authority("weft")).await;
    let proxy = Proxy::start(&operator);
    proxy.metric("weft_certificate_renewals_total{result=\"failed\"").await;
    assert_eq!(operator.signed(), 0);
}

#[tokio::test]
async fn an_operator_of_another_authority_is_refused() {
    let operator = Operator::start().await;
    let proxy = Proxy::start_with(&operator, |_| {});
    proxy.write_roots(&authority("other").pem());
    proxy.metric("weft_certificate_renewals_total{result=\"failed\"").await;
    assert_eq!(operator.signed(), 0);
}

#[tokio::test]
async fn a_certificate_for_somebody_else_is_not_used() {
    let operator = Operator::start().await;
    operator.signing.lock().unwrap().id = "spiffe://cluster.local/ns/shop/sa/admin".to_owned();
    let proxy = Proxy::start(&operator);
    proxy.metric("weft_certificate_renewals_total{result=\"failed\"").await;
    assert!(proxy.shared.identity.load().is_none());
}

#[tokio::test]
async fn renewal_replaces_certificate_and_tls_configurations_together() {
    let operator = Operator::start().await;
    operator.signing.lock().unwrap().renew_in = 1;
    let proxy = Proxy::start(&operator);
    proxy.certified(|_| true).await;
    let old = proxy.shared.identity.load_full().unwrap();
    operator.signing.lock().unwrap().renew_in = 1000;
    proxy.certified(|new| new.identity.chain != old.identity.chain).await;
    let new = proxy.shared.identity.load_full().unwrap();
    assert!(!Arc::ptr_eq(&new.strict, &old.strict) && !Arc::ptr_eq(&new.h2, &old.h2));
    assert_eq!(operator.signed(), 2);
}

#[tokio::test]
async fn new_roots_come_with_the_renewal() {
    let operator = Operator::start().await;
    operator.signing.lock().unwrap().renew_in = 1;
    let proxy = Proxy::start(&operator);
    proxy.certified(|material| material.identity.roots.len() == 1).await;
    let next = authority("next");
    operator.signing.lock().unwrap().roots.push(next.der().to_vec());
    proxy.certified(|material| material.identity.roots.len() == 2).await;
}

#[tokio::test]
async fn while_renewal_fails_the_old_certificate_stays() {
    let operator = Operator::start().await;
    operator.signing.lock().unwrap().renew_in = 1;
    let proxy = Proxy::start(&operator);
    proxy.certified(|_| true).await;
    operator.kill();
    let old = proxy.shared.identity.load_full().unwrap();
    proxy.metric("weft_certificate_renewals_total{result=\"failed\"").await;
    assert!(Arc::ptr_eq(&old, &proxy.shared.identity.load_full().unwrap()));
    proxy.metric("weft_certificate_expiring 0").await;
}

/// The configuration stream brings these roots.
async fn push(stream: &mut Stream, roots: &[&[u8]], number: i64, nonce: &str) {
    let roots = roots.iter().map(|root| root.to_vec()).collect();
    let proxy = v1::Proxy { roots, roots_number: number, ..v1::Proxy::default() };
    let resource = v1::Resource {
        name: "self".into(),
        version: nonce.into(),
        body: Some(v1::resource::Body::Proxy(proxy)),
    };
    stream.send(Delta { nonce: nonce.into(), upserts: vec![resource], removals: vec![] }).await;
    stream.acked(nonce).await;
}

#[tokio::test]
async fn new_roots_come_with_the_configuration_and_need_no_new_certificate() {
    let operator = Operator::start().await;
    let proxy = Proxy::start(&operator);
    let mut stream = operator.stream().await;
    let old = proxy.shared.identity.load_full().unwrap();
    let ours = operator.signing.lock().unwrap().roots[0].clone();
    let next = authority("next");
    push(&mut stream, &[&ours, next.der()], 2, "two").await;
    proxy.certified(|material| material.identity.roots.len() == 2).await;
    let new = proxy.shared.identity.load_full().unwrap();
    assert_eq!(new.identity.chain, old.identity.chain);
    assert!(!Arc::ptr_eq(&new.strict, &old.strict) && !Arc::ptr_eq(&new.h2, &old.h2));
    assert_eq!(operator.signed(), 1);
    let known = fingerprint(next.der());
    stream.report(|report| report.roots.contains(&known)).await;
}

#[tokio::test]
async fn older_roots_do_not_take_the_place_of_newer_ones() {
    let operator = Operator::start().await;
    operator.signing.lock().unwrap().roots_number = 5;
    let proxy = Proxy::start(&operator);
    let mut stream = operator.stream().await;
    let ours = operator.signing.lock().unwrap().roots[0].clone();
    push(&mut stream, &[authority("stale").der()], 4, "stale").await;
    assert_eq!(
        proxy.shared.identity.load_full().unwrap().identity.roots,
        [CertificateDer::from(ours.clone())]
    );
    push(&mut stream, &[&ours, authority("next").der()], 6, "newer").await;
    proxy.certified(|material| material.identity.roots.len() == 2).await;
}
