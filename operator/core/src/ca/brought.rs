//! An issuer that the user brings, as cert-manager writes it into a Secret: `tls.crt` (the issuer, then intermediates),
//! `tls.key`, `ca.crt` (the root). Looked at once, whole: what cannot sign certificates that everyone accepts is
//! refused with what to do, before anything is signed with it.

use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use weft_api::spiffe::SpiffeId;
use weft_api::tls::{self, TlsError};

use super::root::{Root, Stage, fits};
use super::{Ca, CaError, Lifetime};

/// An issuer that was brought and can be used.
#[derive(Debug, PartialEq, Eq)]
pub struct Brought {
    pub(super) root: CertificateDer<'static>,
    /// Issuer first, without the root; empty where the root itself issues.
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

/// The values of the Secret, each PEM.
#[derive(Clone, Copy)]
pub struct Values<'a> {
    /// `tls.crt`: the issuer, then intermediates.
    pub chain: &'a [u8],
    /// `tls.key`.
    pub key: &'a [u8],
    /// `ca.crt`: the root; may be absent where the chain ends with it.
    pub root: Option<&'a [u8]>,
}

/// Why an issuer cannot be used, and what to do.
#[derive(Debug, thiserror::Error)]
pub enum IssuerError {
    /// A key of the Secret holds no PEM of that kind.
    #[error("`{key}` holds no {what} that can be read; write it as PEM")]
    Unreadable {
        /// Key of the Secret.
        key: &'static str,
        /// What is expected.
        what: &'static str,
    },
    /// The certificate is not one that may sign others.
    #[error(
        "the certificate in `tls.crt` may not sign others; have it issued as a CA (`isCA: true` in a cert-manager \
         Certificate, with the usage `cert sign`)"
    )]
    NotCa,
    /// The key is another certificate's.
    #[error("`tls.key` is not the key of the certificate in `tls.crt`; write the two that belong together")]
    StrayKey,
    /// There is no root.
    #[error("there is no `ca.crt`, and the certificate in `tls.crt` is not a root; add the root as `ca.crt`")]
    NoRoot,
    /// The certificate has ended.
    #[error("the certificate in `{key}` ended at {ended} (Unix time); renew it")]
    Ended {
        /// Key of the Secret.
        key: &'static str,
        /// When.
        ended: i64,
    },
    /// It names another trust domain.
    #[error(
        "the certificate in `{key}` is of trust domain `{found}`, but the mesh's is `{wanted}`; bring one of that \
         trust domain, or one that names none"
    )]
    TrustDomain {
        /// Key of the Secret.
        key: &'static str,
        /// What it says.
        found: String,
        /// The mesh's.
        wanted: String,
    },
    /// What it signs is not accepted.
    #[error(
        "certificates of workloads signed with `tls.crt` do not hold against `ca.crt`; see that `tls.crt` holds the \
         chain to the root and that path length and name constraints let `{id}` through"
    )]
    Chain {
        /// An identity that was tried.
        id: SpiffeId,
        /// Why not.
        #[source]
        cause: TlsError,
    },
    /// It cannot sign.
    #[error("nothing can be signed with `tls.key`; bring an ECDSA, Ed25519 or RSA key")]
    Sign(#[source] CaError),
}

impl Brought {
    /// Reads and checks the three values of the Secret; without `ca.crt` the last certificate must be a root.
    pub fn read(values: Values<'_>, trust_domain: &str, now: i64) -> Result<Self, IssuerError> {
        let Values { chain, key, root } = values;
        let mut chain = certificates("tls.crt", chain)?;
        let no_key = |_| IssuerError::Unreadable { key: "tls.key", what: "private key" };
        let key = PrivateKeyDer::from_pem_slice(key).map_err(no_key)?;
        let issuer = chain.first().ok_or(IssuerError::NoRoot)?.clone();
        if !is_ca(&issuer) {
            return Err(IssuerError::NotCa);
        }
        if !fits(&key, &issuer) {
            return Err(IssuerError::StrayKey);
        }
        let mut roots = root.map(|root| certificates("ca.crt", root)).transpose()?.unwrap_or_default();
        roots.extend(chain.last().cloned());
        roots.retain(is_root);
        chain.retain(|certificate| !roots.contains(certificate));
        if roots.is_empty() {
            return Err(IssuerError::NoRoot);
        }
        check_each(std::slice::from_ref(&issuer), "tls.crt", trust_domain, now)?;
        check_each(&chain, "tls.crt", trust_domain, now)?;
        // Of a bundle the one that it chains to.
        let mut refused = Err(IssuerError::NoRoot);
        for root in roots {
            let brought = Self { root, chain: chain.clone(), key: key.clone_key() };
            match brought.check(trust_domain, now) {
                Ok(()) => return Ok(brought),
                Err(error) => refused = Err(error),
            }
        }
        refused
    }

    /// The root, with the issuer signing under it.
    pub(super) fn root(&self) -> Result<Root, CaError> {
        let mut root = Root::trusted(self.root.clone())?;
        root.stage = Stage::Signs;
        self.sign_under(&mut root)?;
        Ok(root)
    }

    /// Has the issuer sign under this root, which is its own.
    pub(super) fn sign_under(&self, root: &mut Root) -> Result<(), CaError> {
        root.sign_with(self.key.clone_key(), self.chain.clone(), true)
    }

    /// Signs one certificate and verifies it as a workload would.
    fn check(&self, trust_domain: &str, now: i64) -> Result<(), IssuerError> {
        check_each(std::slice::from_ref(&self.root), "ca.crt", trust_domain, now)?;
        let id = SpiffeId::new(trust_domain, "default", "default").map_err(|_| IssuerError::NoRoot)?;
        let request = || {
            let key = KeyPair::generate().map_err(CaError::Sign)?;
            let request = CertificateParams::default().serialize_request(&key).map_err(CaError::Sign)?;
            Ok(request.der().to_vec())
        };
        let life = Lifetime { length: super::CLOCK_SKEW, renew_percent: 50 };
        let sign = || Ca::with_issuer(trust_domain, self, now)?.sign(&request()?, &id, now, life);
        let signed = sign().map_err(IssuerError::Sign)?;
        let verified = tls::verify(&signed.chain, std::slice::from_ref(&self.root), now);
        verified.map_err(|cause| IssuerError::Chain { id, cause })
    }
}

fn certificates(key: &'static str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, IssuerError> {
    let unreadable = || IssuerError::Unreadable { key, what: "certificate" };
    let all = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>().map_err(|_| unreadable())?;
    let parses = all.iter().all(|certificate| tls::validity(certificate).is_some());
    if all.is_empty() || !parses { Err(unreadable()) } else { Ok(all) }
}

fn check_each(
    certificates: &[CertificateDer<'_>],
    key: &'static str,
    trust_domain: &str,
    now: i64,
) -> Result<(), IssuerError> {
    for certificate in certificates {
        if let Some((_, ended)) = tls::validity(certificate)
            && ended <= now
        {
            return Err(IssuerError::Ended { key, ended });
        }
        // X509-SVID, section 4.1: an authority's URI is its trust domain. One of another kind says nothing.
        let named = tls::trust_domain(certificate);
        let found = named.as_deref().and_then(|named| named.split('/').next());
        if let Some(found) = found.filter(|found| *found != trust_domain) {
            let (found, wanted) = (found.to_owned(), trust_domain.to_owned());
            return Err(IssuerError::TrustDomain { key, found, wanted });
        }
    }
    Ok(())
}

fn is_ca(certificate: &CertificateDer<'_>) -> bool {
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) else { return false };
    let signs = |usage: x509_parser::prelude::BasicExtension<&x509_parser::prelude::KeyUsage>| {
        usage.value.key_cert_sign()
    };
    parsed.is_ca() && parsed.key_usage().ok().flatten().is_none_or(signs)
}

/// It signs itself.
fn is_root(certificate: &CertificateDer<'_>) -> bool {
    let Ok((_, parsed)) = x509_parser::parse_x509_certificate(certificate) else { return false };
    parsed.subject() == parsed.issuer() && is_ca(certificate)
}
