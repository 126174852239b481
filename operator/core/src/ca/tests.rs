//! The authority: what it signs, what it refuses to sign, and how its roots turn over.

use super::*;
use weft_api::tls;

const NOW: i64 = 1_800_000_000;
const DAY: Duration = Duration::from_hours(24);
const YEAR: Duration = Duration::from_hours(365 * 24);
const MONTH: Duration = Duration::from_hours(30 * 24);
const LIFE: Lifetime = Lifetime { length: DAY, renew_percent: 70 };

fn order() -> SpiffeId {
    SpiffeId::new("cluster.local", "shop", "order").unwrap()
}

fn csr(key: &KeyPair) -> Vec<u8> {
    CertificateParams::default().serialize_request(key).unwrap().der().to_vec()
}

fn request() -> Vec<u8> {
    csr(&KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap())
}

fn signed_by(leaf: &CertificateDer<'_>, root: &CertificateDer<'_>) -> bool {
    let (_, leaf) = x509_parser::parse_x509_certificate(leaf).unwrap();
    let (_, root) = x509_parser::parse_x509_certificate(root).unwrap();
    leaf.verify_signature(Some(root.public_key())).is_ok()
}

#[test]
fn a_signed_certificate_carries_the_identity_and_nothing_else() {
    let ca = Ca::new("cluster.local", NOW, YEAR).unwrap();
    let signed = ca.sign(&request(), &order(), NOW, LIFE).unwrap();
    assert_eq!(tls::peer_identity(Some(&signed.chain)).unwrap(), order());
    assert!(signed_by(&signed.chain[0], &ca.roots()[0]));
    let (_, parsed) = x509_parser::parse_x509_certificate(&signed.chain[0]).unwrap();
    assert_eq!(parsed.subject().iter().count(), 0);
    assert!(!parsed.is_ca());
    let usage = parsed.extended_key_usage().unwrap().unwrap().value;
    assert!(usage.server_auth && usage.client_auth);
    let names = parsed.subject_alternative_name().unwrap().unwrap();
    assert!(names.critical);
    assert_eq!(names.value.general_names.len(), 1);
}

#[test]
fn validity_begins_early_and_renewal_comes_at_seventy_percent() {
    let ca = Ca::new("cluster.local", NOW, YEAR).unwrap();
    let signed = ca.sign(&request(), &order(), NOW, LIFE).unwrap();
    assert_eq!(tls::validity(&signed.chain[0]), Some((NOW - 300, NOW + 86_400)));
    assert_eq!((signed.not_before, signed.not_after), (NOW - 300, NOW + 86_400));
    assert_eq!(signed.renew_at, NOW + 60_480);
}

#[test]
fn a_certificate_never_outlives_its_root() {
    let ca = Ca::new("cluster.local", NOW, Duration::from_hours(1)).unwrap();
    let signed = ca.sign(&request(), &order(), NOW, LIFE).unwrap();
    assert_eq!(signed.not_after, NOW + 3600);
    assert!(matches!(ca.sign(&request(), &order(), NOW + 3600, LIFE), Err(CaError::Ended)));
}

#[test]
fn serial_numbers_differ() {
    let ca = Ca::new("cluster.local", NOW, YEAR).unwrap();
    let serial = |csr: &[u8]| {
        let signed = ca.sign(csr, &order(), NOW, LIFE).unwrap();
        let (_, parsed) = x509_parser::parse_x509_certificate(&signed.chain[0]).unwrap();
        parsed.raw_serial().to_vec()
    };
    let (one, two) = (serial(&request()), serial(&request()));
    assert_ne!(one, two);
    assert_eq!(one.len(), 16);
}

#[test]
fn bad_requests_are_refused() {
    let ca = Ca::new("cluster.local", NOW, YEAR).unwrap();
    let sign = |csr: &[u8]| ca.sign(csr, &order(), NOW, LIFE).unwrap_err();
    assert!(matches!(sign(b"not a request"), CaError::Request(_)));
    let mut forged = request();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    assert!(matches!(sign(&forged), CaError::Request(_)));
    for other in [&rcgen::PKCS_ED25519, &rcgen::PKCS_ECDSA_P384_SHA384] {
        let error = sign(&csr(&KeyPair::generate_for(other).unwrap()));
        assert!(matches!(error, CaError::KeyType), "{error}");
        assert!(error.is_request());
    }
}

#[test]
fn identities_of_another_trust_domain_are_refused() {
    let ca = Ca::new("cluster.local", NOW, YEAR).unwrap();
    let foreign = SpiffeId::new("other.example", "shop", "order").unwrap();
    assert!(matches!(ca.sign(&request(), &foreign, NOW, LIFE), Err(CaError::TrustDomain { .. })));
}

#[test]
fn an_authority_comes_back_from_its_pem() {
    let ca = Ca::new("cluster.local", NOW, YEAR).unwrap();
    let back = Ca::from_pem("cluster.local", &ca.to_pem()).unwrap();
    assert_eq!(back.roots(), ca.roots());
    assert_eq!(back.expires(), NOW + 365 * 86_400);
    let signed = back.sign(&request(), &order(), NOW, LIFE).unwrap();
    assert!(signed_by(&signed.chain[0], &ca.roots()[0]));
}

#[test]
fn pem_without_a_usable_root_is_refused() {
    let read = |pem: &str| Ca::from_pem("cluster.local", pem).unwrap_err();
    let (one, two) = (Ca::new("a", NOW, YEAR).unwrap(), Ca::new("a", NOW, YEAR).unwrap());
    assert!(matches!(read(""), CaError::NoRoot));
    assert!(matches!(read(&one.roots_pem()), CaError::NoRoot));
    let key = two.to_pem().replace(&two.roots_pem(), "");
    assert!(matches!(read(&(one.to_pem() + &key)), CaError::StrayKey));
    assert!(matches!(read("-----BEGIN CERTIFICATE-----\n%%%\n-----END CERTIFICATE-----\n"), CaError::Pem(_)));
}

#[test]
fn a_successor_is_trusted_first_and_signs_later() {
    let mut ca = Ca::new("cluster.local", NOW, YEAR).unwrap();
    let first = ca.roots()[0].clone();
    let end = NOW + 365 * 86_400;
    assert!(!ca.turn_over(end - 31 * 86_400, YEAR, MONTH).unwrap());

    let joined = end - 30 * 86_400;
    assert!(ca.turn_over(joined, YEAR, MONTH).unwrap());
    assert_eq!((ca.roots().len(), &ca.roots()[0]), (2, &first));
    assert!(!ca.turn_over(joined + 60, YEAR, MONTH).unwrap());
    let second = ca.roots()[1].clone();

    let mut ca = Ca::from_pem("cluster.local", &ca.to_pem()).unwrap();
    assert!(ca.turn_over(joined + 15 * 86_400, YEAR, MONTH).unwrap());
    assert_eq!(ca.roots(), [second.clone(), first]);
    let signed = ca.sign(&request(), &order(), joined + 15 * 86_400, LIFE).unwrap();
    assert!(signed_by(&signed.chain[0], &second));

    assert!(ca.turn_over(end, YEAR, MONTH).unwrap());
    assert_eq!(ca.roots(), [second]);
}

#[test]
fn an_authority_that_slept_too_long_starts_anew() {
    let mut ca = Ca::new("cluster.local", NOW, YEAR).unwrap();
    let later = NOW + 400 * 86_400;
    assert!(ca.turn_over(later, YEAR, MONTH).unwrap());
    assert_eq!(ca.roots().len(), 1);
    ca.sign(&request(), &order(), later, LIFE).unwrap();
}

#[test]
fn nothing_secret_is_in_the_debug_text() {
    let ca = Ca::new("cluster.local", NOW, YEAR).unwrap();
    assert_eq!(format!("{ca:?}"), "Ca { trust_domain: \"cluster.local\", roots: 1, .. }");
}
