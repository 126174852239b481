//! The authority: what it signs, what it refuses to sign, and how it is written down.

mod brought;
mod over_time;

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use weft_api::tls;

use super::*;

const NOW: i64 = 1_800_000_000;
const DAY: Duration = Duration::from_hours(24);
const YEAR: Duration = Duration::from_hours(365 * 24);
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
fn text_without_marks_is_read_as_roots_of_which_the_first_with_a_key_signs() {
    let (one, two) = (Ca::new("a", NOW, YEAR).unwrap(), Ca::new("a", NOW, YEAR).unwrap());
    let unmarked = |ca: &Ca| {
        let pem = ca.to_pem();
        pem.lines().filter(|line| !line.starts_with("weft:")).collect::<Vec<_>>().join("\n") + "\n"
    };
    let trusted = Ca::new("a", NOW, YEAR).unwrap();
    let pem = trusted.roots_pem() + "some words\n" + &unmarked(&one) + &unmarked(&two);
    let ca = Ca::from_pem("a", &pem).unwrap();
    assert_eq!(ca.roots(), [one.roots(), trusted.roots(), two.roots()].concat());
    assert_eq!(ca.joining().as_ref(), two.roots().first());
    assert_eq!(trust_domain_of(&pem).as_deref(), Some("a"));
}

#[test]
fn what_is_written_down_is_read_back_whole() {
    let mut ca = Ca::new("mesh.test", NOW, YEAR).unwrap();
    let policy = |rotate| Policy { rotate, ..Policy::new(&Identity::default(), Some(DAY)) };
    assert!(ca.turn_over(NOW, &policy(""), |_| false).unwrap());
    assert!(ca.turn_over(NOW + 1, &policy("now"), |_| false).unwrap());
    let back = Ca::from_pem("mesh.test", &ca.to_pem()).unwrap();
    assert_eq!(back.to_pem(), ca.to_pem());
    assert!(back.roots().len() == 2 && back.changed() > NOW);
    assert_eq!(trust_domain_of(&ca.to_pem()).as_deref(), Some("mesh.test"));
}

#[test]
fn a_server_certificate_names_its_hosts_and_no_workload() {
    let ca = Ca::new("cluster.local", NOW, YEAR).unwrap();
    let names = ["weft-operator.weft-system.svc", "weft-operator.weft-system.svc.cluster.local"];
    let signed = ca.sign_server(&request(), &names, NOW).unwrap();
    let (_, parsed) = x509_parser::parse_x509_certificate(&signed.chain[0]).unwrap();
    let found: Vec<String> = parsed
        .subject_alternative_name()
        .unwrap()
        .unwrap()
        .value
        .general_names
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(found, names.map(|name| format!("DNSName({name})")));
    assert!(!parsed.extended_key_usage().unwrap().unwrap().value.client_auth);
    assert!(tls::peer_identity(Some(&signed.chain)).is_err());
    assert!(signed.renew_at > NOW && signed.renew_at < signed.not_after);
}

#[test]
fn nothing_secret_is_in_the_debug_text() {
    let ca = Ca::new("cluster.local", NOW, YEAR).unwrap();
    assert_eq!(format!("{ca:?}"), "Ca { trust_domain: \"cluster.local\", roots: 1, .. }");
}
