//! An issuer that was brought: signs with its chain, is refused with what to do, is followed when it is renewed.

use rcgen::{BasicConstraints, CertifiedIssuer, GeneralSubtree, NameConstraints, PKCS_ECDSA_P384_SHA384};
use weft_api::tls::{ClientAuth, Identity as TlsIdentity, client_config, server_config};

use super::*;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn params(name: &str, begin: i64, days: i64) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    (params.not_before, params.not_after) = (time(begin), time(begin + days * 86_400));
    params
}

fn root(begin: i64) -> Authority {
    CertifiedIssuer::self_signed(params("our root", begin, 3650), KeyPair::generate().unwrap()).unwrap()
}

/// An issuer under a root, as the three values of its Secret.
struct Secret {
    crt: String,
    key: String,
    ca: String,
}

impl Secret {
    fn under(root: &Authority, params: &CertificateParams) -> Self {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384).unwrap();
        let certificate = params.signed_by(&key, root).unwrap();
        Self { crt: certificate.pem(), key: key.serialize_pem(), ca: root.pem() }
    }

    fn read_at(&self, now: i64) -> Result<Brought, IssuerError> {
        let root = Some(self.ca.as_bytes());
        let values = Values { chain: self.crt.as_bytes(), key: self.key.as_bytes(), root };
        Brought::read(values, "cluster.local", now)
    }

    fn read(&self) -> Result<Brought, IssuerError> {
        self.read_at(NOW)
    }
}

fn policy(brought: &Brought) -> Policy<'_> {
    Policy { issuer: Wish::Brought(brought), ..Policy::new(&Identity::default(), Some(DAY)) }
}

fn never(_: &CertificateDer<'_>) -> bool {
    false
}

#[test]
fn a_chain_with_an_intermediate_holds_on_both_sides() {
    // The handshake looks at the clock of the machine.
    let now = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap();
    let root = root(now - 60);
    let brought = Secret::under(&root, &params("issuer", now - 60, 90)).read_at(now).unwrap();
    let ca = Ca::with_issuer("cluster.local", &brought, now).unwrap();
    let ca = Ca::from_pem("cluster.local", &ca.to_pem()).unwrap();
    assert_eq!(ca.roots(), [root.der().clone()]);
    let identity = || {
        let key = KeyPair::generate().unwrap();
        let signed = ca.sign(&csr(&key), &order(), now, LIFE).unwrap();
        assert_eq!(signed.chain.len(), 2);
        let key = rustls_pki_types::PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        TlsIdentity { chain: signed.chain, key, roots: ca.roots() }
    };
    let client = std::sync::Arc::new(client_config(&identity(), &[b"h2"]).unwrap());
    let server = std::sync::Arc::new(server_config(&identity(), ClientAuth::Required, &[b"h2"]).unwrap());
    let mut client = rustls::ClientConnection::new(client, "any.name".try_into().unwrap()).unwrap();
    let mut server = rustls::ServerConnection::new(server).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut &wire[..]).unwrap();
        server.process_new_packets().unwrap();
        let mut wire = Vec::new();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut &wire[..]).unwrap();
        client.process_new_packets().unwrap();
    }
    assert_eq!(tls::peer_identity(client.peer_certificates()).unwrap(), order());
    assert_eq!(tls::peer_identity(server.peer_certificates()).unwrap(), order());
}

#[test]
fn a_root_that_issues_itself_needs_no_ca_crt() {
    let root = root(NOW);
    let (crt, key) = (root.pem(), root.key().serialize_pem());
    let brought = Brought::read(
        Values { chain: crt.as_bytes(), key: key.as_bytes(), root: None },
        "cluster.local",
        NOW,
    )
    .unwrap();
    let ca = Ca::with_issuer("cluster.local", &brought, NOW).unwrap();
    let signed = ca.sign(&request(), &order(), NOW, LIFE).unwrap();
    assert_eq!(signed.chain.len(), 1);
    tls::verify(&signed.chain, &ca.roots(), NOW).unwrap();
    assert_eq!(Ca::from_pem("cluster.local", &ca.to_pem()).unwrap().to_pem(), ca.to_pem());
}

#[test]
fn an_issuer_that_cannot_be_used_is_refused_with_what_to_do() {
    let root = root(NOW);
    let good = || Secret::under(&root, &params("issuer", NOW, 90));
    let other = self::root(NOW).pem();
    let check = |secret: &Secret, words: &[&str]| {
        let text = secret.read().unwrap_err().to_string();
        for word in words {
            assert!(text.contains(word), "`{word}` missing in: {text}");
        }
    };
    let mut leaf = params("leaf", NOW, 90);
    leaf.is_ca = IsCa::NoCa;
    check(&Secret::under(&root, &leaf), &["tls.crt", "isCA: true"]);
    check(&Secret { key: good().key, ..good() }, &["tls.key", "belong together"]);
    check(&Secret { ca: other, ..good() }, &["chain"]);
    check(&Secret { crt: "hello".into(), ..good() }, &["tls.crt", "PEM"]);
    check(&Secret { key: "hello".into(), ..good() }, &["tls.key", "PEM"]);
    check(&Secret::under(&root, &params("issuer", NOW - 91 * 86_400, 90)), &["tls.crt", "ended", "renew"]);
    let mut elsewhere = params("issuer", NOW, 90);
    elsewhere.subject_alt_names = vec![uri("spiffe://other.test").unwrap()];
    check(&Secret::under(&root, &elsewhere), &["other.test", "cluster.local"]);
    let mut bound = params("issuer", NOW, 90);
    let only = GeneralSubtree::DnsName("example.org".into());
    bound.name_constraints =
        Some(NameConstraints { permitted_subtrees: vec![only], excluded_subtrees: vec![] });
    // A constraint on DNS names says nothing of workloads.
    Secret::under(&root, &bound).read().unwrap();
    let mut last = params("the last of its path", NOW, 3650);
    last.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    let last = CertifiedIssuer::signed_by(last, KeyPair::generate().unwrap(), &root).unwrap();
    let below = Secret::under(&last, &params("issuer", NOW, 90));
    check(&Secret { crt: below.crt + &last.pem(), ca: root.pem(), ..below }, &["path length", "ca.crt"]);
    let secret = good();
    let no_root = Brought::read(
        Values { chain: secret.crt.as_bytes(), key: secret.key.as_bytes(), root: None },
        "cluster.local",
        NOW,
    );
    assert!(no_root.unwrap_err().to_string().contains("ca.crt"));
}

#[test]
fn a_certificate_ends_no_later_than_its_issuer() {
    let root = root(NOW - 100);
    let brought = Secret::under(&root, &params("issuer", NOW - 86_400 + 600, 1)).read().unwrap();
    let ca = Ca::with_issuer("cluster.local", &brought, NOW).unwrap();
    assert_eq!(ca.signs_until(), NOW + 600);
    assert_eq!(ca.sign(&request(), &order(), NOW, LIFE).unwrap().not_after, NOW + 600);
    assert!(matches!(ca.sign(&request(), &order(), NOW + 600, LIFE), Err(CaError::Ended)));
}

#[test]
fn an_issuer_renewed_under_the_same_root_signs_at_once() {
    let root = root(NOW);
    let old = Secret::under(&root, &params("issuer", NOW, 90)).read().unwrap();
    let mut ca = Ca::with_issuer("cluster.local", &old, NOW).unwrap();
    ca.turn_over(NOW, &policy(&old), never).unwrap();
    let new = Secret::under(&root, &params("issuer", NOW, 180)).read().unwrap();
    assert!(ca.turn_over(NOW + 60, &policy(&new), never).unwrap());
    assert!(!ca.turn_over(NOW + 61, &policy(&new), never).unwrap());
    assert_eq!(ca.roots(), [root.der().clone()]);
    assert_eq!(ca.signs_until(), NOW + 180 * 86_400);
}

#[test]
fn a_new_root_of_the_user_is_trusted_before_it_signs_and_the_old_one_until_its_certificates_have_ended() {
    let (first, second) = (root(NOW), root(NOW + 1));
    let old = Secret::under(&first, &params("issuer", NOW, 90)).read().unwrap();
    let mut ca = Ca::with_issuer("cluster.local", &old, NOW).unwrap();
    ca.turn_over(NOW, &policy(&old), never).unwrap();
    let new = Secret::under(&second, &params("issuer", NOW, 90)).read().unwrap();
    assert!(ca.turn_over(NOW + 100, &policy(&new), never).unwrap());
    assert_eq!(ca.roots(), [first.der().clone(), second.der().clone()]);
    // The Secret holds the new key only: the old one signs on from what was kept.
    let mut ca = Ca::from_pem("cluster.local", &ca.to_pem()).unwrap();
    let signed = ca.sign(&request(), &order(), NOW + 200, LIFE).unwrap();
    tls::verify(&signed.chain, &[first.der().clone()], NOW + 200).unwrap();
    let settled = NOW + 100 + 86_400 + 300;
    assert!(!ca.turn_over(settled - 1, &policy(&new), never).unwrap());
    assert!(ca.turn_over(settled, &policy(&new), never).unwrap());
    assert_eq!(ca.roots(), [second.der().clone(), first.der().clone()]);
    assert!(!ca.turn_over(settled + 86_400, &policy(&new), never).unwrap());
    assert!(ca.turn_over(settled + 86_400 + 300, &policy(&new), never).unwrap());
    assert_eq!(ca.roots(), [second.der().clone()]);
}

#[test]
fn from_roots_of_its_own_to_a_brought_issuer_and_back() {
    let mut ca = Ca::new("cluster.local", NOW, YEAR).unwrap();
    let own = Policy::new(&Identity::default(), Some(DAY));
    ca.turn_over(NOW, &own, never).unwrap();
    let made = ca.roots();
    let theirs = root(NOW);
    let brought = Secret::under(&theirs, &params("issuer", NOW, 90)).read().unwrap();
    ca.turn_over(NOW + 10, &policy(&brought), never).unwrap();
    assert_eq!(ca.joining(), Some(theirs.der().clone()));
    ca.turn_over(NOW + 41, &policy(&brought), |_| true).unwrap();
    assert_eq!(ca.roots(), [theirs.der().clone(), made[0].clone()]);
    // One that cannot be read any more changes nothing.
    let as_is = Policy { issuer: Wish::AsIs, ..own.clone() };
    assert!(!ca.turn_over(NOW + 42, &as_is, |_| true).unwrap());
    ca.turn_over(NOW + 50, &own, never).unwrap();
    let joining = ca.joining().unwrap();
    assert!(joining != made[0] && joining != *theirs.der());
}
