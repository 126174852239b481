//! Handshakes in memory between identities of the same and of other authorities.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType,
};
use rustls::{ClientConnection, ServerConnection};
use rustls_pki_types::PrivatePkcs8KeyDer;

use super::*;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn issue(authority: &Authority, uris: &[&str], expired: bool) -> Identity {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.subject_alt_names = uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())).collect();
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    if expired {
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(2020, 1, 2);
    }
    let certificate = params.signed_by(&key, authority).unwrap();
    Identity {
        chain: vec![certificate.der().clone()],
        key: PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        roots: vec![authority.der().clone()],
    }
}

/// Both ends after the handshake, or the first error.
fn handshake(
    client: &Identity,
    server: &Identity,
) -> Result<(ClientConnection, ServerConnection), rustls::Error> {
    let config = Arc::new(client_config(client, &[b"h2"]).unwrap());
    let mut client = ClientConnection::new(config, "any.name".try_into().unwrap()).unwrap();
    let config = Arc::new(server_config(server, ClientAuth::Required, &[b"h2"]).unwrap());
    let mut server = ServerConnection::new(config).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        client.write_tls(&mut wire).unwrap();
        server.read_tls(&mut &wire[..]).unwrap();
        server.process_new_packets()?;
        let mut wire = Vec::new();
        server.write_tls(&mut wire).unwrap();
        client.read_tls(&mut &wire[..]).unwrap();
        client.process_new_packets()?;
    }
    Ok((client, server))
}

const ORDER: &str = "spiffe://cluster.local/ns/shop/sa/order";
const USER: &str = "spiffe://cluster.local/ns/shop/sa/user";

#[test]
fn both_sides_learn_the_identity_of_the_other() {
    let ca = authority();
    let (client, server) = handshake(&issue(&ca, &[ORDER], false), &issue(&ca, &[USER], false)).unwrap();
    assert_eq!(peer_identity(client.peer_certificates()).unwrap().as_str(), USER);
    assert_eq!(peer_identity(server.peer_certificates()).unwrap().as_str(), ORDER);
}

#[test]
fn another_authority_is_refused_on_either_side() {
    let (ours, theirs) = (authority(), authority());
    assert!(handshake(&issue(&ours, &[ORDER], false), &issue(&theirs, &[USER], false)).is_err());
    let mut stranger = issue(&theirs, &[ORDER], false);
    stranger.roots = vec![ours.der().clone()];
    assert!(handshake(&stranger, &issue(&ours, &[USER], false)).is_err());
}

#[test]
fn an_expired_certificate_is_refused_on_either_side() {
    let ca = authority();
    assert!(handshake(&issue(&ca, &[ORDER], true), &issue(&ca, &[USER], false)).is_err());
    assert!(handshake(&issue(&ca, &[ORDER], false), &issue(&ca, &[USER], true)).is_err());
}

#[test]
fn a_server_without_exactly_one_spiffe_id_is_refused() {
    let ca = authority();
    assert!(handshake(&issue(&ca, &[ORDER], false), &issue(&ca, &[], false)).is_err());
    assert!(handshake(&issue(&ca, &[ORDER], false), &issue(&ca, &[USER, ORDER], false)).is_err());
    assert!(handshake(&issue(&ca, &[ORDER], false), &issue(&ca, &["https://user.shop"], false)).is_err());
}

#[test]
fn a_client_without_spiffe_id_has_no_identity() {
    let ca = authority();
    let (_, server) = handshake(&issue(&ca, &[], false), &issue(&ca, &[USER], false)).unwrap();
    assert!(matches!(peer_identity(server.peer_certificates()), Err(TlsError::NoIdentity { count: 0 })));
    assert!(matches!(peer_identity(None), Err(TlsError::NoCertificate)));
}

#[test]
fn validity_is_read_from_the_certificate() {
    let identity = issue(&authority(), &[ORDER], true);
    assert_eq!(validity(&identity.chain[0]), Some((1_577_836_800, 1_577_923_200)));
}
