//! The certificate authority in force, and where it is kept over restarts: standalone in two files, `ca.pem` (secret, mode
//! 0600) and `roots.pem`, which is what proxies start from; in a cluster in a Secret ([`secret`]). Signing itself and when
//! which root signs is `weft_core::ca`; who may ask is `attest`; who looks after it all the time is `trust`.

pub(crate) mod issuer;
pub(crate) mod secret;

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use kube::ResourceExt;
use rcgen::{CertificateParams, KeyPair};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::watch;
use weft_api::names::{ANNOTATION_ROTATE_ROOT, OPERATOR_ACCOUNT, SYSTEM_NAMESPACE};
use weft_api::spiffe::{InvalidSpiffeId, SpiffeId};
use weft_api::tls::{self, fingerprint};
use weft_core::ca::{Brought, Ca, CaError, Lifetime, Policy, Signed, Wish, trust_domain_of};
use weft_core::world::Trust;
use weft_crds::mesh::{Identity, Mesh};

/// Life of the operator's own certificate; renewed at half of it.
const OWN_LIFETIME: Duration = Duration::from_hours(24);
/// The authority with its keys: a file in the state folder, a key of the Secret.
const FILE: &str = "ca.pem";
/// The roots, in the state folder.
const ROOTS_FILE: &str = "roots.pem";
/// The Secret that keeps the authority in a cluster.
const SECRET: &str = "weft-ca";

/// The authority of this mesh.
pub(crate) struct Authority {
    keep: Keep,
    ca: ArcSwap<Ca>,
    wanted: ArcSwap<Wanted>,
    issuer: ArcSwap<Issuer>,
    lifetime: Option<Duration>,
    changes: watch::Sender<u64>,
}

/// Where the authority is kept.
#[derive(Clone, Debug)]
pub(crate) enum Keep {
    /// In the files of a folder, written here.
    Folder(PathBuf),
    /// In a Secret that all replicas follow and one of them writes ([`secret`]).
    Secret,
}

/// What the Mesh resource says of certificates.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Wanted {
    identity: Identity,
    /// Asks for a new root whenever it changes.
    rotate: String,
}

/// The issuer that the Mesh names, as its Secret was last seen.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Issuer {
    /// Not looked at yet, or nothing is named.
    Unknown,
    /// It can be used.
    Brought(Box<Brought>),
    /// It cannot be used: why, and what to do.
    Unusable(String),
}

/// The operator's own identity.
#[derive(Debug)]
pub(crate) struct OwnIdentity {
    pub(crate) identity: tls::Identity,
    /// When to make a new one, seconds since the Unix epoch.
    pub(crate) renew_at: i64,
}

/// The roots to trust.
#[derive(Debug)]
pub(crate) struct Roots {
    pub(crate) certificates: Vec<CertificateDer<'static>>,
    /// Which these are: a higher number is newer.
    pub(crate) number: i64,
}

/// A certificate for a server that is known by DNS names.
#[derive(Debug)]
pub(crate) struct ServerCertificate {
    pub(crate) chain: Vec<CertificateDer<'static>>,
    pub(crate) key: PrivateKeyDer<'static>,
    /// When to make a new one, seconds since the Unix epoch.
    pub(crate) renew_at: i64,
}

/// What went wrong with the authority.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuthorityError {
    /// A file cannot be read or written.
    #[error("{path} cannot be {done}")]
    File { path: PathBuf, done: &'static str, source: io::Error },
    /// The authority that was kept is another trust domain's.
    #[error(
        "{keep} is the authority of trust domain `{kept}`, but the Mesh resource says `{wanted}`; \
         set spec.trustDomain back, or stop the mesh and remove {keep} to give every workload a new identity"
    )]
    TrustDomain { keep: Keep, kept: String, wanted: String },
    /// The API server refused, or cannot be reached.
    #[error("a Secret of {SYSTEM_NAMESPACE} cannot be {done}")]
    Cluster { done: &'static str, source: Box<kube::Error> },
    /// The API server does not answer.
    #[error("a Secret of {SYSTEM_NAMESPACE} cannot be {done}: no answer of the API server")]
    Late { done: &'static str },
    /// The issuer that the Mesh names cannot be used, and there is nothing else to sign with.
    #[error("Secret {SYSTEM_NAMESPACE}/{name}: {why}")]
    Issuer { name: String, why: String },
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
    /// The authority kept in `folder`, or a new one where there is none.
    pub(crate) fn open(
        folder: &Path,
        mesh: &Mesh,
        lifetime: Option<Duration>,
        now: i64,
    ) -> Result<Self, AuthorityError> {
        let keep = Keep::Folder(folder.to_owned());
        let path = folder.join(FILE);
        let ca = match fs::read_to_string(&path) {
            Ok(pem) => read(&keep, &pem, &mesh.spec.trust_domain)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Ca::new(&mesh.spec.trust_domain, now, mesh.spec.identity.root_lifetime.get())?
            }
            Err(source) => return Err(AuthorityError::File { path, done: "read", source }),
        };
        let authority = Self::new(keep, ca, mesh, lifetime);
        authority.turn_over(now, |_| false)?;
        write_files(folder, &authority.ca.load())?;
        Ok(authority)
    }

    fn new(keep: Keep, ca: Ca, mesh: &Mesh, lifetime: Option<Duration>) -> Self {
        Self {
            keep,
            ca: ArcSwap::from_pointee(ca),
            wanted: ArcSwap::from_pointee(Wanted::of(mesh)),
            issuer: ArcSwap::from_pointee(Issuer::Unknown),
            lifetime,
            changes: watch::Sender::default(),
        }
    }

    /// Takes over what the Mesh resource says of certificates; the trust domain must be the one it has.
    pub(crate) fn configure(&self, mesh: &Mesh) -> Result<(), AuthorityError> {
        let kept = self.trust_domain();
        if kept != mesh.spec.trust_domain {
            let (keep, wanted) = (self.keep.clone(), mesh.spec.trust_domain.clone());
            return Err(AuthorityError::TrustDomain { keep, kept, wanted });
        }
        let wanted = Wanted::of(mesh);
        if **self.wanted.load() != wanted {
            self.wanted.store(Arc::new(wanted));
            self.say_changed();
        }
        Ok(())
    }

    /// Changes whenever the roots, what signs or what is wanted of them changes.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// The Secret of the issuer that the Mesh names.
    fn issuer_name(&self) -> Option<String> {
        self.wanted.load().identity.issuer_secret.as_ref().map(|named| named.name.clone())
    }

    fn set_issuer(&self, issuer: Issuer) {
        if **self.issuer.load() != issuer {
            self.issuer.store(Arc::new(issuer));
            self.say_changed();
        }
    }

    fn say_changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// What proxies and the status of the Mesh are told of it.
    pub(crate) fn trust(&self, now: i64) -> Trust {
        let ca = self.ca.load();
        let roots = ca.roots().iter().map(|root| root.to_vec()).collect();
        Trust { roots, number: ca.changed(), ends: ca.expires(), problem: self.problem(now) }
    }

    /// What is wrong with the issuer, and what to do; empty: nothing.
    fn problem(&self, now: i64) -> String {
        let wanted = self.wanted.load();
        let Some(named) = &wanted.identity.issuer_secret else { return String::new() };
        let secret = format!("Secret {SYSTEM_NAMESPACE}/{}", named.name);
        match &**self.issuer.load() {
            Issuer::Unusable(why) => format!("{secret}: {why}"),
            Issuer::Brought(_) => {
                let left = self.ca.load().signs_until() - now;
                let life =
                    i64::try_from(wanted.identity.certificate_lifetime.get().as_secs()).unwrap_or(i64::MAX);
                let short = format!(
                    "{secret}: the issuer ends in {} s, within the life of a certificate; renew it",
                    left.max(0)
                );
                if left < life { short } else { String::new() }
            }
            Issuer::Unknown => String::new(),
        }
    }

    /// The root that joins and has to be trusted by everyone before it signs.
    pub(crate) fn joining(&self) -> Option<String> {
        self.ca.load().joining().map(|root| fingerprint(&root))
    }

    /// The trust domain it signs for.
    pub(crate) fn trust_domain(&self) -> String {
        self.ca.load().trust_domain().to_owned()
    }

    /// When the last root ends.
    pub(crate) fn expires(&self) -> i64 {
        self.ca.load().expires()
    }

    /// The roots to trust, as PEM.
    pub(crate) fn roots_pem(&self) -> String {
        self.ca.load().roots_pem()
    }

    /// How long certificates of workloads live.
    pub(crate) fn lifetime(&self) -> Lifetime {
        let life = Lifetime::from(&self.wanted.load().identity);
        Lifetime { length: self.lifetime.unwrap_or(life.length), ..life }
    }

    /// Signs a certificate request for an identity; with it come the roots to trust.
    pub(crate) fn sign(
        &self,
        csr: &[u8],
        id: &SpiffeId,
        now: i64,
    ) -> Result<(Signed, Roots), AuthorityError> {
        let life = self.lifetime();
        let ca = self.ca.load();
        let signed = ca.sign(csr, id, now, life)?;
        Ok((signed, Roots { certificates: ca.roots(), number: ca.changed() }))
    }

    /// A new certificate for the server that the API server's calls reach, by these names.
    pub(crate) fn server_certificate(
        &self,
        names: &[&str],
        now: i64,
    ) -> Result<ServerCertificate, AuthorityError> {
        let key = KeyPair::generate().map_err(AuthorityError::OwnKey)?;
        let request = CertificateParams::default().serialize_request(&key).map_err(AuthorityError::OwnKey)?;
        let signed = self.ca.load().sign_server(request.der(), names, now)?;
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        Ok(ServerCertificate { chain: signed.chain, key, renew_at: signed.renew_at })
    }

    /// A new certificate for the operator itself.
    pub(crate) fn own_identity(&self, now: i64) -> Result<OwnIdentity, AuthorityError> {
        let ca = self.ca.load();
        let id = SpiffeId::new(ca.trust_domain(), SYSTEM_NAMESPACE, OPERATOR_ACCOUNT)
            .map_err(AuthorityError::OwnName)?;
        let key = KeyPair::generate().map_err(AuthorityError::OwnKey)?;
        let request = CertificateParams::default().serialize_request(&key).map_err(AuthorityError::OwnKey)?;
        let life = Lifetime { length: OWN_LIFETIME, renew_percent: 50 };
        let signed = ca.sign_own(request.der(), &id, now, life)?;
        let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
        let identity = tls::Identity { chain: signed.chain, key, roots: ca.roots() };
        Ok(OwnIdentity { identity, renew_at: signed.renew_at })
    }

    /// Takes what is due of the turn-over of roots, where this one keeps them itself. `learned` says whether all proxies
    /// trust a root, by its fingerprint. Says whether anything changed.
    pub(crate) fn turn_over(&self, now: i64, learned: impl Fn(&str) -> bool) -> Result<bool, AuthorityError> {
        let Keep::Folder(folder) = &self.keep else { return Ok(false) };
        let Some(next) = self.next(&self.ca.load(), now, learned)? else { return Ok(false) };
        write_files(folder, &next)?;
        self.adopt(next);
        Ok(true)
    }

    /// The authority after what is due; none: nothing is.
    fn next(
        &self,
        from: &Ca,
        now: i64,
        learned: impl Fn(&str) -> bool,
    ) -> Result<Option<Ca>, AuthorityError> {
        let wanted = self.wanted.load();
        let issuer = self.issuer.load();
        let wish = match (&wanted.identity.issuer_secret, &**issuer, &self.keep) {
            (None, ..) | (.., Keep::Folder(_)) => Wish::Own,
            (Some(_), Issuer::Brought(brought), _) => Wish::Brought(brought),
            (Some(_), ..) => Wish::AsIs,
        };
        let policy = Policy::new(&wanted.identity, self.lifetime);
        let policy = Policy { rotate: &wanted.rotate, issuer: wish, ..policy };
        let mut next = Ca::from_pem(from.trust_domain(), &from.to_pem())?;
        let changed = next.turn_over(now, &policy, |root| learned(&fingerprint(root)))?;
        Ok(changed.then_some(next))
    }

    /// Puts this in force.
    fn adopt(&self, ca: Ca) {
        self.ca.store(Arc::new(ca));
        self.say_changed();
    }
}

impl Wanted {
    fn of(mesh: &Mesh) -> Self {
        let rotate = mesh.annotations().get(ANNOTATION_ROTATE_ROOT).cloned().unwrap_or_default();
        Self { identity: mesh.spec.identity.clone(), rotate }
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("ca", &self.ca.load()).finish_non_exhaustive()
    }
}

impl std::fmt::Display for Keep {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Folder(folder) => folder.join(FILE).display().fmt(f),
            Self::Secret => write!(f, "the Secret {SYSTEM_NAMESPACE}/{SECRET}"),
        }
    }
}

/// Reads what was kept; it must be of this trust domain.
fn read(keep: &Keep, pem: &str, trust_domain: &str) -> Result<Ca, AuthorityError> {
    match trust_domain_of(pem) {
        Some(kept) if kept != trust_domain => {
            let (keep, wanted) = (keep.clone(), trust_domain.to_owned());
            Err(AuthorityError::TrustDomain { keep, kept, wanted })
        }
        _ => Ok(Ca::from_pem(trust_domain, pem)?),
    }
}

fn write_files(folder: &Path, ca: &Ca) -> Result<(), AuthorityError> {
    write_whole(&folder.join(FILE), 0o600, &ca.to_pem())?;
    write_whole(&folder.join(ROOTS_FILE), 0o644, &ca.roots_pem())
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

    use weft_crds::mesh::MeshSpec;

    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn mesh(trust_domain: &str) -> Mesh {
        let spec = MeshSpec { trust_domain: trust_domain.into(), ..MeshSpec::default() };
        Mesh::new("default", spec)
    }

    fn open(folder: &Path, trust_domain: &str) -> Result<Authority, AuthorityError> {
        Authority::open(folder, &mesh(trust_domain), None, NOW)
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
        assert!(!authority.turn_over(NOW, |_| false).unwrap());
        let soon_over = authority.expires() - 60;
        let changes = authority.changes();
        assert!(authority.turn_over(soon_over, |_| false).unwrap());
        assert_eq!(authority.ca.load().roots().len(), 2);
        assert!(authority.joining().is_some() && changes.has_changed().unwrap());
    }

    #[test]
    fn a_new_value_of_the_annotation_asks_for_a_new_root() {
        let folder = tempfile::tempdir().unwrap();
        let mut mesh = mesh("mesh.test");
        mesh.annotations_mut().insert(ANNOTATION_ROTATE_ROOT.into(), "1".into());
        let authority = Authority::open(folder.path(), &mesh, None, NOW).unwrap();
        assert!(authority.joining().is_none());
        mesh.annotations_mut().insert(ANNOTATION_ROTATE_ROOT.into(), "2".into());
        authority.configure(&mesh).unwrap();
        authority.turn_over(NOW + 1, |_| false).unwrap();
        let joining = authority.joining().unwrap();
        authority.turn_over(NOW + 60, |root| root == joining).unwrap();
        assert!(authority.joining().is_none());
        assert_eq!(authority.trust(NOW).roots.len(), 2);
    }

    #[test]
    fn the_operator_has_an_identity_of_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let own = open(folder.path(), "mesh.test").unwrap().own_identity(NOW).unwrap();
        let id = tls::peer_identity(Some(&own.identity.chain)).unwrap();
        assert_eq!(id.as_str(), "spiffe://mesh.test/ns/weft-system/sa/weft-operator");
    }
}
