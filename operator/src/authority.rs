//! The certificate authority with its files, where there is a folder for them: `ca.pem` (secret, mode 0600) keeps it over restarts, `roots.pem` is what
//! proxies start from. Signing itself is `weft_core::ca`; who may ask is `attest`.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use weft_api::names::{OPERATOR_ACCOUNT, SYSTEM_NAMESPACE};
use weft_api::spiffe::{InvalidSpiffeId, SpiffeId};
use weft_api::tls;
use weft_core::ca::{Ca, CaError, Lifetime, Signed};
use weft_crds::mesh::{Identity, MeshSpec};

/// Life of the operator's own certificate; renewed at half of it.
const OWN_LIFETIME: Duration = Duration::from_hours(24);

/// The authority of this mesh.
pub(crate) struct Authority {
    folder: Option<PathBuf>,
    ca: ArcSwap<Ca>,
    identity: ArcSwap<Identity>,
    lifetime: Option<Duration>,
}

/// The operator's own identity.
#[derive(Debug)]
pub(crate) struct OwnIdentity {
    pub(crate) identity: tls::Identity,
    /// When to make a new one, seconds since the Unix epoch.
    pub(crate) renew_at: i64,
}

/// What went wrong with the authority.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuthorityError {
    /// A file cannot be read or written.
    #[error("{path} cannot be {done}")]
    File { path: PathBuf, done: &'static str, source: io::Error },
    /// The authority kept on disk is another trust domain's.
    #[error(
        "{path} is the authority of trust domain `{kept}`, but the Mesh resource says `{wanted}`; \
         set spec.trustDomain back, or stop the mesh and remove the file to give every workload a new identity"
    )]
    TrustDomain { path: PathBuf, kept: String, wanted: String },
    /// The authority refused or failed.
    #[error("certificate authority")]
    Ca(#[from] CaError),
    /// A key could not be made.
    #[error("the operator's key or request cannot be made")]
    OwnKey(#[source] rcgen::Error),
    /// The trust domain is not usable in an identity.
    #[error("the operator's identity cannot be named")]
    OwnName(#[source] InvalidSpiffeId),
}

impl Authority {
    /// The authority kept in `folder`, or a new one where there is none. Without a folder it ends with the operator.
    pub(crate) fn open(
        folder: Option<&Path>,
        mesh: &MeshSpec,
        lifetime: Option<Duration>,
        now: i64,
    ) -> Result<Self, AuthorityError> {
        let MeshSpec { trust_domain, identity, .. } = mesh;
        let path = folder.unwrap_or(Path::new("")).join("ca.pem");
        let kept = match folder {
            Some(_) => fs::read_to_string(&path),
            None => Err(io::ErrorKind::NotFound.into()),
        };
        let ca = match kept {
            Ok(pem) => {
                check_trust_domain(&path, &pem, trust_domain)?;
                Ca::from_pem(trust_domain, &pem)?
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Ca::new(trust_domain, now, identity.root_lifetime.get())?
            }
            Err(source) => return Err(AuthorityError::File { path, done: "read", source }),
        };
        let identity = ArcSwap::from_pointee(identity.clone());
        let authority =
            Self { folder: folder.map(Path::to_owned), ca: ArcSwap::from_pointee(ca), identity, lifetime };
        authority.turn_over(now)?;
        authority.keep(&authority.ca.load())?;
        Ok(authority)
    }

    /// Takes over what the Mesh resource says of certificates; the trust domain must be the one it has.
    pub(crate) fn configure(&self, trust_domain: &str, identity: &Identity) -> Result<(), AuthorityError> {
        let kept = self.trust_domain();
        if kept != trust_domain {
            let path = self.folder.clone().unwrap_or_default().join("ca.pem");
            return Err(AuthorityError::TrustDomain { path, kept, wanted: trust_domain.to_owned() });
        }
        if **self.identity.load() != *identity {
            self.identity.store(Arc::new(identity.clone()));
        }
        Ok(())
    }

    /// The trust domain it signs for.
    pub(crate) fn trust_domain(&self) -> String {
        self.ca.load().trust_domain().to_owned()
    }

    /// When the last root ends.
    pub(crate) fn expires(&self) -> i64 {
        self.ca.load().expires()
    }

    /// Signs a certificate request for an identity; with it come the roots to trust.
    pub(crate) fn sign(
        &self,
        csr: &[u8],
        id: &SpiffeId,
        now: i64,
    ) -> Result<(Signed, Vec<CertificateDer<'static>>), AuthorityError> {
        let mut life = Lifetime::from(&**self.identity.load());
        life.length = self.lifetime.unwrap_or(life.length);
        let ca = self.ca.load();
        Ok((ca.sign(csr, id, now, life)?, ca.roots()))
    }

    /// A new certificate for the operator itself.
    pub(crate) fn own_identity(&self, now: i64) -> Result<OwnIdentity, AuthorityError> {
        let ca = self.ca.load();
        let id = SpiffeId::new(ca.trust_domain(), SYSTEM_NAMESPACE, OPERATOR_ACCOUNT)
            .map_err(AuthorityError::OwnName)?;
        let key = KeyPair::generate().map_err(AuthorityError::OwnKey)?;
        let request = CertificateParams::default().serialize_request(&key).map_err(AuthorityError::OwnKey)?;
        let life = Lifetime { length: OWN_LIFETIME, renew_percent: 50 };
        let signed = ca.sign(request.der(), &id, now, life)?;
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let identity = tls::Identity { chain: signed.chain, key, roots: ca.roots() };
        Ok(OwnIdentity { identity, renew_at: signed.renew_at })
    }

    /// Makes and retires roots where it is time. Says whether the roots changed.
    pub(crate) fn turn_over(&self, now: i64) -> Result<bool, AuthorityError> {
        let before = self.ca.load();
        let mut ca = Ca::from_pem(before.trust_domain(), &before.to_pem())?;
        let identity = self.identity.load();
        let changed = ca.turn_over(now, identity.root_lifetime.get(), identity.root_overlap.get())?;
        if changed {
            self.keep(&ca)?;
            self.ca.store(Arc::new(ca));
        }
        Ok(changed)
    }

    fn keep(&self, ca: &Ca) -> Result<(), AuthorityError> {
        let Some(folder) = &self.folder else { return Ok(()) };
        write_whole(&folder.join("ca.pem"), 0o600, &ca.to_pem())?;
        write_whole(&folder.join("roots.pem"), 0o644, &ca.roots_pem())
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("ca", &self.ca.load()).finish_non_exhaustive()
    }
}

/// A root names its trust domain as its one URI (X509-SVID, section 4.1).
fn check_trust_domain(path: &Path, pem: &str, wanted: &str) -> Result<(), AuthorityError> {
    let root = CertificateDer::pem_slice_iter(pem.as_bytes()).next().and_then(Result::ok);
    let kept = root.as_ref().and_then(tls::trust_domain);
    match kept {
        Some(kept) if kept != wanted => {
            Err(AuthorityError::TrustDomain { path: path.to_owned(), kept, wanted: wanted.to_owned() })
        }
        _ => Ok(()),
    }
}

/// Writes beside the file and renames into place, so that no reader and no crash sees half of it.
fn write_whole(path: &Path, mode: u32, text: &str) -> Result<(), AuthorityError> {
    let beside = path.with_extension("pem.new");
    let write = || {
        let mut file =
            fs::OpenOptions::new().create(true).truncate(true).write(true).mode(mode).open(&beside)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&beside, path)
    };
    write().map_err(|source| AuthorityError::File { path: path.to_owned(), done: "written", source })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn open(folder: &Path, trust_domain: &str) -> Result<Authority, AuthorityError> {
        let mesh = MeshSpec { trust_domain: trust_domain.into(), ..MeshSpec::default() };
        Authority::open(Some(folder), &mesh, None, NOW)
    }

    #[test]
    fn a_restart_keeps_the_roots_and_the_key_is_private() {
        let folder = tempfile::tempdir().unwrap();
        let first = open(folder.path(), "mesh.test").unwrap();
        let roots = first.ca.load().roots();
        let second = open(folder.path(), "mesh.test").unwrap();
        assert_eq!(second.ca.load().roots(), roots);
        let mode = fs::metadata(folder.path().join("ca.pem")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let public = fs::read_to_string(folder.path().join("roots.pem")).unwrap();
        assert!(public.contains("CERTIFICATE") && !public.contains("PRIVATE"));
    }

    #[test]
    fn another_trust_domain_is_refused_with_the_remedy() {
        let folder = tempfile::tempdir().unwrap();
        open(folder.path(), "mesh.test").unwrap();
        let text = open(folder.path(), "other.test").unwrap_err().to_string();
        for part in ["mesh.test", "other.test", "spec.trustDomain", "ca.pem"] {
            assert!(text.contains(part), "{part} missing in {text}");
        }
    }

    #[test]
    fn roots_turn_over_with_overlap() {
        let folder = tempfile::tempdir().unwrap();
        let authority = open(folder.path(), "mesh.test").unwrap();
        assert!(!authority.turn_over(NOW).unwrap());
        let soon_over = authority.expires() - 60;
        assert!(authority.turn_over(soon_over).unwrap());
        assert_eq!(authority.ca.load().roots().len(), 2);
    }

    #[test]
    fn the_operator_has_an_identity_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let own = open(folder.path(), "mesh.test").unwrap().own_identity(NOW).unwrap();
        let id = tls::peer_identity(Some(&own.identity.chain)).unwrap();
        assert_eq!(id.as_str(), "spiffe://mesh.test/ns/weft-system/sa/weft-operator");
    }
}
