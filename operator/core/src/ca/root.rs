//! A root and what signs under it: the root itself, or an issuer that it signed. Which of them signs when is decided in
//! `turn_over`.

use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use weft_api::tls;

use super::{CLOCK_SKEW, CaError, seconds, time, uri};

/// A root to trust.
pub(super) struct Root {
    pub(super) certificate: CertificateDer<'static>,
    /// Absent: trusted, but not ours to sign with.
    pub(super) signer: Option<Signer>,
    pub(super) stage: Stage,
    pub(super) not_before: i64,
    pub(super) not_after: i64,
}

/// What signs under a root.
pub(super) struct Signer {
    pub(super) issuer: Issuer<'static, KeyPair>,
    pub(super) key: PrivateKeyDer<'static>,
    /// Issuer first, the root is not in it; empty where the root signs itself.
    pub(super) chain: Vec<CertificateDer<'static>>,
    /// The first end of all certificates up to the root.
    pub(super) not_after: i64,
    /// Brought by the user, not made here.
    pub(super) brought: bool,
}

/// Where in its life a root is. All times are seconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// It signs.
    Signs,
    /// Trusted since then; signs from then on, or once everyone is known to trust it.
    Joins { since: i64, signs_from: i64 },
    /// Its last certificate has ended by then.
    Retires { until: i64 },
    /// Trusted until it ends.
    Trusted,
}

impl Root {
    /// A fresh root that signs itself.
    pub(super) fn make(trust_domain: &str, now: i64, lifetime: Duration) -> Result<Self, CaError> {
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
        let der = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let issuer = Issuer::new(params, key);
        let signer = Signer { issuer, key: der, chain: Vec::new(), not_after, brought: false };
        Ok(Self { certificate, signer: Some(signer), stage: Stage::Signs, not_before, not_after })
    }

    /// A root that nothing signs under yet.
    pub(super) fn trusted(certificate: CertificateDer<'static>) -> Result<Self, CaError> {
        let (not_before, not_after) = validity(&certificate)?;
        Ok(Self { certificate, signer: None, stage: Stage::Trusted, not_before, not_after })
    }

    /// Has this key, that of `chain`'s first certificate or of the root itself, sign under the root.
    pub(super) fn sign_with(
        &mut self,
        key: PrivateKeyDer<'static>,
        chain: Vec<CertificateDer<'static>>,
        brought: bool,
    ) -> Result<(), CaError> {
        let mut not_after = self.not_after;
        for certificate in &chain {
            not_after = not_after.min(validity(certificate)?.1);
        }
        let pair = KeyPair::try_from(&key).map_err(CaError::Root)?;
        let own = chain.first().unwrap_or(&self.certificate);
        let issuer = Issuer::from_ca_cert_der(own, pair).map_err(CaError::Root)?;
        self.signer = Some(Signer { issuer, key, chain, not_after, brought });
        Ok(())
    }

    /// When it was joined and when it is to sign, where it waits for that.
    pub(super) fn joins(&self) -> Option<(i64, i64)> {
        match self.stage {
            Stage::Joins { since, signs_from } if self.signer.is_some() => Some((since, signs_from)),
            _ => None,
        }
    }

    /// Whether it was made here and is not on its way out.
    pub(super) fn is_own_and_stays(&self) -> bool {
        let own = self.signer.as_ref().is_some_and(|signer| !signer.brought);
        own && matches!(self.stage, Stage::Signs | Stage::Joins { .. })
    }
}

fn validity(certificate: &CertificateDer<'_>) -> Result<(i64, i64), CaError> {
    let unreadable = || CaError::Pem("a certificate cannot be parsed".to_owned());
    tls::validity(certificate).ok_or_else(unreadable)
}

/// Whether the key is that of the certificate.
pub(super) fn fits(key: &PrivateKeyDer<'_>, certificate: &CertificateDer<'_>) -> bool {
    let (Ok(key), Ok((_, parsed))) =
        (KeyPair::try_from(key), x509_parser::parse_x509_certificate(certificate))
    else {
        return false;
    };
    *key.public_key_raw() == *parsed.subject_pki.subject_public_key.data
}
