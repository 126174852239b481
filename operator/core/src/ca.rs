//! The mesh's own certificate authority: makes roots or takes one that was brought, signs the certificates of workloads,
//! turns roots over in time.
//!
//! Stands behind the identity service of the operator, which proves who asks before it calls [`Ca::sign`]. The time is
//! an argument; the only randomness is that of a new root's key. How it is written down is `record` ([`Ca::to_pem`] is
//! what to keep, as a secret), when which root signs is `turn_over`, what is asked of a brought issuer is `brought`.
//! Leaves out where the roots are kept and how proxies learn of them.

mod brought;
mod record;
mod root;
mod turn_over;

use std::fmt;
use std::time::Duration;

use rcgen::{
    CertificateParams, CertificateSigningRequestParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType, SerialNumber,
};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer};
use sha2::{Digest, Sha256};
use weft_api::spiffe::SpiffeId;
use weft_crds::mesh::Identity;
use x509_parser::prelude::FromDer;

pub use self::brought::{Brought, IssuerError, Values};
pub use self::record::trust_domain_of;
use self::root::{Root, Signer, Stage};
pub use self::turn_over::{Policy, Wish};

/// How far the clock of a peer may be behind: certificates begin this much in the past.
pub const CLOCK_SKEW: Duration = Duration::from_mins(5);
/// Life of a certificate for a server of the operator itself.
const SERVER_LIFE: Duration = Duration::from_hours(24);

/// The authority of one trust domain: one root that signs, others that are trusted beside it while roots turn over.
pub struct Ca {
    trust_domain: String,
    /// The first signs.
    roots: Vec<Root>,
    lives: Lives,
    /// The last turn-over that was asked for and done.
    rotated: String,
    /// When anything of it last changed, seconds since the Unix epoch; goes up with every change.
    changed: i64,
}

/// How long certificates live that have been signed, as far as it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Lives {
    /// No certificate is signed for longer.
    longest: Duration,
    /// When those have ended that were signed for longer, seconds since the Unix epoch.
    longer_until: i64,
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
        Ok(Self::of(trust_domain, Root::make(trust_domain, now, root_lifetime)?, now))
    }

    /// An authority whose issuer was brought by the user.
    pub fn with_issuer(trust_domain: &str, brought: &Brought, now: i64) -> Result<Self, CaError> {
        Ok(Self::of(trust_domain, brought.root()?, now))
    }

    fn of(trust_domain: &str, root: Root, now: i64) -> Self {
        let lives = Lives { longest: Duration::ZERO, longer_until: 0 };
        Self {
            trust_domain: trust_domain.to_owned(),
            roots: vec![root],
            lives,
            rotated: String::new(),
            changed: now,
        }
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
        self.roots.iter().map(|root| record::certificate_pem(&root.certificate)).collect()
    }

    /// The root that is to sign once everyone trusts it.
    pub fn joining(&self) -> Option<CertificateDer<'static>> {
        self.roots.iter().find(|root| root.joins().is_some()).map(|root| root.certificate.clone())
    }

    /// When the last root ends, seconds since the Unix epoch.
    pub fn expires(&self) -> i64 {
        self.roots.iter().map(|root| root.not_after).max().unwrap_or_default()
    }

    /// When what signs ends, seconds since the Unix epoch: with a brought issuer that may be before its root.
    pub fn signs_until(&self) -> i64 {
        self.signer().map(|signer| signer.not_after).unwrap_or_default()
    }

    /// Goes up with every change of what is trusted or signs.
    pub fn changed(&self) -> i64 {
        self.changed
    }

    fn signer(&self) -> Result<&Signer, CaError> {
        self.roots.first().and_then(|root| root.signer.as_ref()).ok_or(CaError::NoRoot)
    }

    /// Signs a certificate for `id` over the key of a PKCS#10 request, whose own names and wishes are ignored.
    /// The one who calls has proved already that the asking workload is `id`.
    pub fn sign(&self, csr: &[u8], id: &SpiffeId, now: i64, life: Lifetime) -> Result<Signed, CaError> {
        if id.trust_domain() != self.trust_domain {
            return Err(CaError::TrustDomain { id: id.clone(), trust_domain: self.trust_domain.clone() });
        }
        self.sign_by(self.signer()?, csr, id, (now, life))
    }

    /// Signs a certificate for the operator itself: under the root that retires while there is one, so that a workload
    /// that has missed the new root can still ask here and learn of it.
    pub fn sign_own(&self, csr: &[u8], id: &SpiffeId, now: i64, life: Lifetime) -> Result<Signed, CaError> {
        let retires = self.roots.iter().filter(|root| matches!(root.stage, Stage::Retires { .. }));
        let mut retires = retires.filter_map(|root| root.signer.as_ref());
        let oldest = retires.find(|signer| signer.not_after > now + seconds(CLOCK_SKEW));
        self.sign_by(oldest.map_or_else(|| self.signer(), Ok)?, csr, id, (now, life))
    }

    fn sign_by(
        &self,
        signer: &Signer,
        csr: &[u8],
        id: &SpiffeId,
        (now, life): (i64, Lifetime),
    ) -> Result<Signed, CaError> {
        let (not_before, not_after) = self.validity(signer, now, life.length)?;
        let params = leaf(uri(id.as_str()).map_err(CaError::Sign)?, (not_before, not_after));
        let chain = sign_params(signer, csr, params, (id.as_str(), now))?;
        let renew_after = (not_after - now) * i64::from(life.renew_percent) / 100;
        Ok(Signed { chain, not_before, not_after, renew_at: now + renew_after })
    }

    /// Signs a certificate for a server of the operator itself that callers outside the mesh know by these DNS names.
    pub fn sign_server(&self, csr: &[u8], names: &[&str], now: i64) -> Result<Signed, CaError> {
        let signer = self.signer()?;
        let (not_before, not_after) = self.validity(signer, now, SERVER_LIFE)?;
        let first = names.first().copied().unwrap_or_default();
        let mut params = leaf(dns(first).map_err(CaError::Sign)?, (not_before, not_after));
        for name in names.iter().skip(1) {
            params.subject_alt_names.push(dns(name).map_err(CaError::Sign)?);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let chain = sign_params(signer, csr, params, (first, now))?;
        Ok(Signed { chain, not_before, not_after, renew_at: now + (not_after - now) / 2 })
    }

    /// Begin and end of a certificate signed now: no longer than is recorded, since the turn-over counts on it, and not
    /// beyond what signs it.
    fn validity(&self, signer: &Signer, now: i64, length: Duration) -> Result<(i64, i64), CaError> {
        let ends = signer.not_after;
        if ends <= now {
            return Err(CaError::Ended);
        }
        let longest = self.lives.longest;
        let length = if longest.is_zero() { length } else { length.min(longest) };
        Ok((now - seconds(CLOCK_SKEW), (now + seconds(length)).min(ends)))
    }
}

fn sign_params(
    signer: &Signer,
    csr: &[u8],
    params: CertificateParams,
    (name, now): (&str, i64),
) -> Result<Vec<CertificateDer<'static>>, CaError> {
    let mut request = read_request(csr)?;
    request.params = params;
    request.params.serial_number = Some(serial(signer.issuer.key(), csr, name, now));
    let certificate = request.signed_by(&signer.issuer).map_err(CaError::Sign)?;
    Ok(std::iter::once(certificate.der().clone()).chain(signer.chain.iter().cloned()).collect())
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
/// the name critical (RFC 5280, section 4.2.1.6).
fn leaf(name: SanType, (not_before, not_after): (i64, i64)) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![name];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    (params.not_before, params.not_after) = (time(not_before), time(not_after));
    params
}

/// A serial number that nobody without the authority's key can foresee, without a source of randomness here.
fn serial(key: &KeyPair, csr: &[u8], name: &str, now: i64) -> SerialNumber {
    let mut hash = Sha256::new();
    for part in [key.serialized_der(), csr, name.as_bytes(), &now.to_be_bytes()] {
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

fn dns(text: &str) -> Result<SanType, rcgen::Error> {
    Ok(SanType::DnsName(text.try_into()?))
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

#[cfg(test)]
mod tests;
