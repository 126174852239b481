//! The mesh's own certificate authority: makes roots, signs the certificates of workloads, turns roots over in time.
//!
//! Stands behind the identity service of the operator, which proves who asks before it calls [`Ca::sign`]. The time is
//! an argument; the only randomness is that of a new root's key. Leaves out where the roots are kept ([`Ca::to_pem`]
//! is what to keep, as a secret) and how proxies learn of them (every answer of the identity service carries all).

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, SanType,
    SerialNumber,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, PrivateKeyDer};
use sha2::{Digest, Sha256};
use weft_api::spiffe::SpiffeId;
use weft_crds::mesh::Identity;
use x509_parser::prelude::FromDer;

/// How far the clock of a peer may be behind: certificates begin this much in the past.
pub const CLOCK_SKEW: Duration = Duration::from_mins(5);

/// The authority of one trust domain: one root that signs, others that are trusted beside it while roots turn over.
pub struct Ca {
    trust_domain: String,
    /// The first signs.
    roots: Vec<Root>,
}

struct Root {
    certificate: CertificateDer<'static>,
    /// Absent: trusted, but not ours to sign with.
    issuer: Option<Issuer<'static, KeyPair>>,
    not_before: i64,
    not_after: i64,
}

/// How long certificates of workloads live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime {
    /// From the signing to the end.
    pub length: Duration,
    /// Share of it after which the workload asks again, in percent.
    pub renew_percent: u8,
}

impl From<&Identity> for Lifetime {
    fn from(identity: &Identity) -> Self {
        Self { length: identity.certificate_lifetime.get(), renew_percent: identity.renew_percent }
    }
}

/// A signed certificate. Times are seconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed {
    /// Leaf first; roots are not in it.
    pub chain: Vec<CertificateDer<'static>>,
    /// Begin, [`CLOCK_SKEW`] before the signing.
    pub not_before: i64,
    /// End, never after the root's.
    pub not_after: i64,
    /// When to ask again.
    pub renew_at: i64,
}

/// What went wrong at the authority.
#[derive(Debug, thiserror::Error)]
pub enum CaError {
    /// The PEM text cannot be read.
    #[error("authority: PEM text cannot be read: {0}")]
    Pem(String),
    /// There is no root with its key in the PEM text.
    #[error("authority: the PEM text holds no root certificate with its private key")]
    NoRoot,
    /// A private key in the PEM text fits no certificate beside it.
    #[error("authority: a private key in the PEM text fits no certificate in it")]
    StrayKey,
    /// A root could not be made or read.
    #[error("authority: root certificate cannot be made or read")]
    Root(#[source] rcgen::Error),
    /// The root that signs has ended.
    #[error("authority: the root that signs has ended; it is to be turned over first")]
    Ended,
    /// The request is not one for a key that proves itself.
    #[error("certificate request cannot be read, or its signature does not fit its key")]
    Request(#[source] rcgen::Error),
    /// The key has another type.
    #[error("certificate request holds a key that is not ECDSA P-256; make one of that type")]
    KeyType,
    /// The identity is not of this trust domain.
    #[error("identity {id} is not of the trust domain {trust_domain}")]
    TrustDomain {
        /// The identity asked for.
        id: SpiffeId,
        /// Ours.
        trust_domain: String,
    },
    /// Signing failed.
    #[error("certificate cannot be signed")]
    Sign(#[source] rcgen::Error),
}

impl CaError {
    /// Whether the one who asked is at fault, not the authority.
    pub fn is_request(&self) -> bool {
        matches!(self, Self::Request(_) | Self::KeyType | Self::TrustDomain { .. })
    }
}

impl Ca {
    /// An authority with one fresh root.
    pub fn new(trust_domain: &str, now: i64, root_lifetime: Duration) -> Result<Self, CaError> {
        let root = Root::new(trust_domain, now, root_lifetime)?;
        Ok(Self { trust_domain: trust_domain.to_owned(), roots: vec![root] })
    }

    /// An authority from what [`Ca::to_pem`] gave: certificates and PKCS#8 keys in any order. The first certificate
    /// that has its key signs; certificates without key are trusted only.
    pub fn from_pem(trust_domain: &str, pem: &str) -> Result<Self, CaError> {
        let unreadable = |error: rustls_pki_types::pem::Error| CaError::Pem(error.to_string());
        let mut keys = Vec::new();
        for key in PrivateKeyDer::pem_slice_iter(pem.as_bytes()) {
            keys.push(KeyPair::try_from(&key.map_err(unreadable)?).map_err(CaError::Root)?);
        }
        let mut roots = Vec::new();
        for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
            roots.push(Root::read(certificate.map_err(unreadable)?, &mut keys)?);
        }
        if !keys.is_empty() {
            return Err(CaError::StrayKey);
        }
        let signs = roots.iter().position(|root| root.issuer.is_some()).ok_or(CaError::NoRoot)?;
        let first = roots.remove(signs);
        roots.insert(0, first);
        Ok(Self { trust_domain: trust_domain.to_owned(), roots })
    }

    /// All roots with their keys. A secret.
    pub fn to_pem(&self) -> String {
        let key =
            |root: &Root| root.issuer.as_ref().map(|issuer| issuer.key().serialize_pem()).unwrap_or_default();
        self.roots.iter().map(|root| certificate_pem(&root.certificate) + &key(root)).collect()
    }

    /// The trust domain it signs for.
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// Every root to trust, the one that signs first.
    pub fn roots(&self) -> Vec<CertificateDer<'static>> {
        self.roots.iter().map(|root| root.certificate.clone()).collect()
    }

    /// The roots to trust as PEM, without keys.
    pub fn roots_pem(&self) -> String {
        self.roots.iter().map(|root| certificate_pem(&root.certificate)).collect()
    }

    /// When the last root ends, seconds since the Unix epoch.
    pub fn expires(&self) -> i64 {
        self.roots.iter().map(|root| root.not_after).max().unwrap_or_default()
    }

    /// Signs a certificate for `id` over the key of a PKCS#10 request, whose own names and wishes are ignored.
    /// The one who calls has proved already that the asking workload is `id`.
    pub fn sign(&self, csr: &[u8], id: &SpiffeId, now: i64, life: Lifetime) -> Result<Signed, CaError> {
        if id.trust_domain() != self.trust_domain {
            return Err(CaError::TrustDomain { id: id.clone(), trust_domain: self.trust_domain.clone() });
        }
        let root = self.roots.first().ok_or(CaError::NoRoot)?;
        let issuer = root.issuer.as_ref().ok_or(CaError::NoRoot)?;
        if root.not_after <= now {
            return Err(CaError::Ended);
        }
        let mut request = read_request(csr)?;
        let not_before = now - seconds(CLOCK_SKEW);
        let not_after = (now + seconds(life.length)).min(root.not_after);
        request.params = leaf(id, not_before, not_after)?;
        request.params.serial_number = Some(serial(issuer.key(), csr, id, now));
        let certificate = request.signed_by(issuer).map_err(CaError::Sign)?;
        let renew_after = (not_after - now) * i64::from(life.renew_percent) / 100;
        let chain = vec![certificate.der().clone()];
        Ok(Signed { chain, not_before, not_after, renew_at: now + renew_after })
    }

    /// Turns roots over; to be called now and then. A successor is made `overlap` before the newest root ends, is
    /// trusted at once and signs once it has been trusted for half of `overlap`, so that every proxy has renewed its
    /// certificate, and with it its roots, in between. Ended roots go. Says whether anything changed.
    pub fn turn_over(&mut self, now: i64, lifetime: Duration, overlap: Duration) -> Result<bool, CaError> {
        let before: Vec<CertificateDer<'static>> = self.roots();
        let newest = self.roots.iter().filter(|root| root.issuer.is_some()).map(|root| root.not_after).max();
        if newest.is_none_or(|end| end - seconds(overlap) <= now) {
            self.roots.push(Root::new(&self.trust_domain, now, lifetime)?);
        }
        self.roots.retain(|root| root.not_after > now);
        let settled = now - seconds(overlap) / 2 - seconds(CLOCK_SKEW);
        let signer = |root: &&Root| root.issuer.is_some();
        let known = self.roots.iter().filter(signer).filter(|root| root.not_before <= settled);
        let oldest = || self.roots.iter().filter(signer).map(|root| root.not_before).min();
        if let Some(begin) = known.map(|root| root.not_before).max().or_else(oldest) {
            self.roots
                .sort_by_key(|root| (root.issuer.is_none() || root.not_before != begin, root.not_before));
        }
        Ok(self.roots() != before)
    }
}

impl fmt::Debug for Ca {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let roots = self.roots.len();
        f.debug_struct("Ca")
            .field("trust_domain", &self.trust_domain)
            .field("roots", &roots)
            .finish_non_exhaustive()
    }
}

impl Root {
    fn new(trust_domain: &str, now: i64, lifetime: Duration) -> Result<Self, CaError> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(CaError::Root)?;
        let (not_before, not_after) = (now - seconds(CLOCK_SKEW), now + seconds(lifetime));
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, format!("weft root of {trust_domain}"));
        params.subject_alt_names = vec![uri(&format!("spiffe://{trust_domain}")).map_err(CaError::Root)?];
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        (params.not_before, params.not_after) = (time(not_before), time(not_after));
        let certificate = params.self_signed(&key).map_err(CaError::Root)?.der().clone();
        Ok(Self { certificate, issuer: Some(Issuer::new(params, key)), not_before, not_after })
    }

    /// Takes the certificate's key out of `keys` where it is among them.
    fn read(certificate: CertificateDer<'static>, keys: &mut Vec<KeyPair>) -> Result<Self, CaError> {
        let unreadable = |_| CaError::Pem("a root certificate cannot be parsed".to_owned());
        let (_, parsed) = x509_parser::parse_x509_certificate(&certificate).map_err(unreadable)?;
        let public = &parsed.subject_pki.subject_public_key.data;
        let (not_before, not_after) =
            (parsed.validity().not_before.timestamp(), parsed.validity().not_after.timestamp());
        let key =
            keys.iter().position(|key| key.public_key_raw() == public.as_ref()).map(|at| keys.remove(at));
        let issuer =
            key.map(|key| Issuer::from_ca_cert_der(&certificate, key)).transpose().map_err(CaError::Root)?;
        Ok(Self { certificate, issuer, not_before, not_after })
    }
}

/// The request with its proof checked and its key of the one type we sign.
fn read_request(csr: &[u8]) -> Result<CertificateSigningRequestParams, CaError> {
    let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(csr))
        .map_err(CaError::Request)?;
    // rcgen takes the algorithm from the signature, which leaves the curve open: the key itself says it.
    let (_, parsed) = x509_parser::certification_request::X509CertificationRequest::from_der(csr)
        .map_err(|_| CaError::Request(rcgen::Error::CouldNotParseCertificationRequest))?;
    let key = &parsed.certification_request_info.subject_pki;
    let curve = key.algorithm.parameters.as_ref().and_then(|parameters| parameters.as_oid().ok());
    let is_p256 = curve.is_some_and(|oid| oid == x509_parser::oid_registry::OID_EC_P256);
    if is_p256 && key.algorithm.algorithm == x509_parser::oid_registry::OID_KEY_TYPE_EC_PUBLIC_KEY {
        Ok(request)
    } else {
        Err(CaError::KeyType)
    }
}

/// X509-SVID, section 4: exactly one URI name, no authority, keys for signatures; the subject stays empty, which makes
/// the URI name critical (RFC 5280, section 4.2.1.6).
fn leaf(id: &SpiffeId, not_before: i64, not_after: i64) -> Result<CertificateParams, CaError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![uri(id.as_str()).map_err(CaError::Sign)?];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    (params.not_before, params.not_after) = (time(not_before), time(not_after));
    Ok(params)
}

/// A serial number that nobody without the authority's key can foresee, without a source of randomness here.
fn serial(key: &KeyPair, csr: &[u8], id: &SpiffeId, now: i64) -> SerialNumber {
    let mut hash = Sha256::new();
    for part in [key.serialized_der(), csr, id.as_str().as_bytes(), &now.to_be_bytes()] {
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    let mut bytes: Vec<u8> = hash.finalize().iter().copied().take(16).collect();
    // RFC 5280, section 4.1.2.2: positive, so the highest bit stays clear; and not zero.
    if let Some(first) = bytes.first_mut() {
        *first = (*first & 0x7f) | 0x40;
    }
    SerialNumber::from_slice(&bytes)
}

fn uri(text: &str) -> Result<SanType, rcgen::Error> {
    Ok(SanType::URI(text.try_into()?))
}

/// The calendar form of a Unix time; times before 1970 become 1970.
fn time<T>(unix: i64) -> T
where
    T: From<std::time::SystemTime>,
{
    T::from(std::time::UNIX_EPOCH + Duration::from_secs(u64::try_from(unix).unwrap_or_default()))
}

fn seconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_secs()).unwrap_or(i64::MAX / 4)
}

fn certificate_pem(certificate: &CertificateDer<'_>) -> String {
    let text = STANDARD.encode(certificate);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    for (at, c) in text.chars().enumerate() {
        if at > 0 && at % 64 == 0 {
            pem.push('\n');
        }
        pem.push(c);
    }
    pem.push_str("\n-----END CERTIFICATE-----\n");
    pem
}

#[cfg(test)]
mod tests;
