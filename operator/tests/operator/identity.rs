//! `Identity.Sign`: who gets a certificate, and who does not.

use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
use rustls_pki_types::CertificateDer;
use tonic::Code;
use weft_api::tls;
use weft_api::v1::Kind;
use weft_api::v1::resource::Body;

use crate::harness::{MESH, Operator, instance, request, token};

#[tokio::test]
async fn a_join_token_gets_a_certificate_for_its_workload() {
    let operator = Operator::of_shop().await;
    let (_, csr) = request();
    let signed = operator.sign("shop/order", &token("order-0"), &csr).await.unwrap();
    let chain: Vec<CertificateDer<'_>> = signed.chain.into_iter().map(CertificateDer::from).collect();
    let id = tls::peer_identity(Some(&chain)).unwrap();
    assert_eq!(id.as_str(), "spiffe://mesh.test/ns/shop/sa/order");
    assert_eq!(tls::validity(&chain[0]), Some((signed.not_before, signed.not_after)));
    assert!(signed.renew_at > signed.not_before && signed.renew_at < signed.not_after);
    assert_eq!(signed.roots.len(), 1);
    assert!(operator.metric("weft_operator_certificates_issued_total").await > 0.0);
    operator.stop().await;
}

#[tokio::test]
async fn a_wrong_token_is_not_authenticated() {
    let operator = Operator::of_shop().await;
    let (_, csr) = request();
    for wrong in ["", "guess", &instance("order", 0).token_sha256] {
        let status = operator.sign("shop/order", wrong, &csr).await.unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated, "{wrong}");
    }
    assert!(operator.metric("weft_operator_sign_refused_total{reason=\"token\"}").await > 2.0);
}

#[tokio::test]
async fn a_token_of_another_workload_is_denied() {
    let operator = Operator::of_shop().await;
    let (_, csr) = request();
    for workload in ["shop/user", "other/order", "order", ""] {
        let status = operator.sign(workload, &token("order-0"), &csr).await.unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied, "{workload}");
    }
}

#[tokio::test]
async fn a_request_that_cannot_be_signed_is_an_invalid_argument() {
    let operator = Operator::of_shop().await;
    let (_, mut forged) = request();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    let edwards = KeyPair::generate_for(&PKCS_ED25519).unwrap();
    let edwards = CertificateParams::default().serialize_request(&edwards).unwrap();
    for bad in [&b"no request"[..], &forged, edwards.der(), &vec![0; 1 << 20]] {
        let status = operator.sign("shop/order", &token("order-0"), bad).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    }
}

#[tokio::test]
async fn a_token_handed_out_while_running_is_good() {
    let operator = Operator::of_shop().await;
    operator.write_instances(&[instance("user", 0), instance("order", 0), instance("order", 1)]);
    operator.until("the new instance", |status| status.services.iter().any(|s| s.instances.len() == 2)).await;
    let (_, csr) = request();
    operator.sign("shop/order", &token("order-1"), &csr).await.unwrap();
}

#[tokio::test]
async fn a_new_root_reaches_proxies_at_once_and_does_not_sign_yet() {
    let operator = Operator::of_shop().await;
    let mut proxy = operator.proxy("order", 0).await;
    let roots = |resource: &weft_api::v1::Resource| match &resource.body {
        Some(Body::Proxy(proxy)) => proxy.roots.clone(),
        _ => vec![],
    };
    let before = proxy.until(Kind::Proxy, "self", |resource| roots(resource).len() == 1).await;
    let asked = MESH.replace("{name: default}", "{name: default, annotations: {weft.dev/rotate-root: now}}");
    operator.write("mesh.yaml", &asked);
    let after = proxy.until(Kind::Proxy, "self", |resource| roots(resource).len() == 2).await;
    assert_eq!(roots(&before)[0], roots(&after)[0]);
    assert_eq!(operator.roots().len(), 2);
    let signed = operator.sign("shop/order", &token("order-0"), &request().1).await.unwrap();
    let der = |all: &[Vec<u8>]| all.iter().cloned().map(CertificateDer::from).collect::<Vec<_>>();
    let now = signed.not_before + 300;
    tls::verify(&der(&signed.chain), &der(&roots(&before)), now).unwrap();
    assert_eq!(signed.roots, roots(&after));
    operator.stop().await;
}
