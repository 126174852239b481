//! The proxy's certificate: makes a key, has the operator sign it, renews it in time, and puts new roots in force as soon
//! as the configuration brings them. One task of the control plane, [`run`]. The old certificate stays in use until its
//! end, and what serves it is replaced whole by the new one's (`TlsMaterial`: configurations, session caches, tickets).
//! Connections that are up are never touched.
//!
//! Leaves out the TLS configurations themselves (`tls.rs`) and what identities may do (the policies).

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use weft_api::names::ALPN_H2;
use weft_api::tls::{Identity, TlsError, client_config};
use weft_api::v1::identity_client::IdentityClient;
use weft_api::v1::{SignRequest, SignResponse};

use crate::config::Shared;
use crate::config::snapshot::Roots;
use crate::operator::{Backoff, causes, connect};
use crate::settings::Settings;
use crate::telemetry::clock::unix_now;
use crate::tls::TlsMaterial;

const LOOK_AGAIN: Duration = Duration::from_secs(1);
const SIGN: Duration = Duration::from_secs(10);
const FIRST: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(5));
const RENEW: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(1));
/// The wall clock is looked at this often while waiting, since a machine may sleep or have its clock set.
const GLANCE: Duration = Duration::from_secs(30);
/// Part of the time until renewal by which it is moved, either way.
const JITTER: f64 = 0.1;
/// With less than this part of its life left, a certificate is about to end unrenewed.
const LAST_PART: f64 = 0.2;

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertError {
    /// The roots of the mesh cannot be read.
    #[error("reading the roots of the mesh from {path}")]
    Roots {
        /// The file.
        path: Box<Path>,
        /// What went wrong; `NoItemsFound` where it holds no certificate.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// The token that proves the workload cannot be read.
    #[error("reading the token from {path}")]
    Token {
        /// The file.
        path: Box<Path>,
        /// What went wrong.
        #[source]
        source: std::io::Error,
    },
    /// Key or certificate request.
    #[error("making a key and a certificate request")]
    Request(#[source] rcgen::Error),
    /// No connection.
    #[error("connecting to the operator")]
    Connect(#[source] tonic::transport::Error),
    /// The operator does not answer.
    #[error("the operator did not answer within {} s", SIGN.as_secs())]
    Late,
    /// The operator refuses.
    #[error("the operator refused to sign ({:?}): {}", .0.code(), .0.message())]
    Refused(#[source] Box<tonic::Status>),
    /// What it signed cannot be used.
    #[error("the certificate signed by the operator cannot be used")]
    Unusable(#[source] TlsError),
    /// What it signed is for somebody else.
    #[error("the certificate is for `{got}`, this workload is {wanted}")]
    Stranger {
        /// Identity in the certificate.
        got: String,
        /// `<namespace>/<account>` asked for.
        wanted: String,
    },
}

/// Keeps a valid certificate in `shared` until told to finish.
pub async fn run(shared: Arc<Shared>, finish: CancellationToken) {
    tokio::select! {
        () = keep_certified(&shared) => {}
        () = finish.cancelled() => {}
    }
}

async fn keep_certified(shared: &Shared) {
    wait_for(&shared.settings.roots).await;
    let mut backoff = Backoff::new(FIRST.0, FIRST.1);
    // Which roots are in force.
    let mut number = 0;
    loop {
        let in_use =
            shared.identity.load().as_ref().map(|old| old.identity.roots.clone()).unwrap_or_default();
        match obtain(&shared.settings, &in_use).await {
            Ok(Obtained { material, renew_at, roots_number }) => {
                backoff = Backoff::new(RENEW.0, RENEW.1);
                let lives = Lives { from: material.not_before, until: material.not_after };
                info!(identity = %material.id, not_after = material.not_after, renew_at, "certificate is in use");
                warn_of_skew(lives);
                // The answer may come from a replica that has not seen the newest roots yet.
                let newer = newest(shared, roots_number);
                number = newer.as_ref().map_or(roots_number, |newer| newer.number);
                shared.certify(newer.and_then(|newer| with_roots(&material, newer)).unwrap_or(material));
                shared.telemetry.metrics.certificate_expiring(false);
                let due = until_renewal(unix_now(), renew_at, lives, rand::random());
                let due = unix_now() + i64::try_from(due.as_secs()).unwrap_or(i64::MAX);
                number = follow_roots(shared, number, sleep_until_wall_clock(due)).await;
            }
            Err(error) => {
                shared.telemetry.metrics.renewal_failed();
                let delay = backoff.next(rand::random());
                tell(shared, &error, delay);
                number = follow_roots(shared, number, sleep(delay)).await;
            }
        }
    }
}

/// Puts the roots in force that the configuration brings, until it is time to do something else. Returns which they are.
async fn follow_roots(shared: &Shared, mut number: i64, over: impl Future<Output = ()>) -> i64 {
    let mut published = shared.published();
    published.mark_changed();
    let mut over = std::pin::pin!(over);
    loop {
        tokio::select! {
            () = &mut over => return number,
            Ok(()) = published.changed() => {
                let (Some(old), Some(roots)) = (shared.identity.load_full(), newest(shared, number)) else { continue };
                number = roots.number;
                if roots.certificates == old.identity.roots {
                    continue;
                }
                let count = roots.certificates.len();
                if let Some(material) = with_roots(&old, roots) {
                    shared.trust(material);
                    info!(roots = count, number, "new roots are in force");
                }
            }
        }
    }
}

/// The roots that the configuration says, if they are newer.
fn newest(shared: &Shared, number: i64) -> Option<Roots> {
    shared.config.load().proxy.roots.clone().filter(|roots| roots.number > number)
}

/// The same certificate with other roots; none where these cannot be used, and then the old ones stay.
fn with_roots(old: &TlsMaterial, roots: Roots) -> Option<TlsMaterial> {
    let (chain, key) = (old.identity.chain.clone(), old.identity.key.clone_key());
    let identity = Identity { chain, key, roots: roots.certificates };
    let made = TlsMaterial::new(Arc::new(identity));
    made.inspect_err(|error| error!(error = causes(error), "new roots cannot be used; the old ones stay"))
        .ok()
}

/// What to show the operator and whom to take for it: its certificate may be of a root that has reached this proxy by its
/// file only, where it was away from the operator for long.
pub(crate) fn towards_operator(settings: &Settings, identity: &Identity) -> Identity {
    let mut roots = identity.roots.clone();
    let file = read_roots(&settings.roots).unwrap_or_default();
    roots.extend(file.into_iter().filter(|root| !identity.roots.contains(root)));
    Identity { chain: identity.chain.clone(), key: identity.key.clone_key(), roots }
}

/// How long a certificate lives, seconds since the Unix epoch.
#[derive(Clone, Copy, Debug)]
struct Lives {
    from: i64,
    until: i64,
}

impl Lives {
    /// Less than a fifth of its life is left.
    #[expect(clippy::cast_precision_loss, reason = "seconds of a certificate's life")]
    fn nearly_over(self, now: i64) -> bool {
        ((self.until - now) as f64) < (self.until - self.from) as f64 * LAST_PART
    }
}

/// A failed renewal is a warning, and an error somebody must act on when the certificate is about to end.
fn tell(shared: &Shared, error: &CertError, again: Duration) {
    let error = causes(error);
    let Some(material) = shared.identity.load_full() else {
        warn!(error, ?again, "no certificate yet");
        return;
    };
    let (now, lives) = (unix_now(), Lives { from: material.not_before, until: material.not_after });
    let left = lives.until - now;
    shared.telemetry.metrics.certificate_expiring(lives.nearly_over(now));
    if left <= 0 {
        error!(
            error,
            expired_for = -left,
            ?again,
            "certificate HAS EXPIRED and cannot be renewed: peers refuse it"
        );
    } else if lives.nearly_over(now) {
        error!(error, seconds_left = left, ?again, "certificate is about to expire and cannot be renewed");
    } else {
        warn!(error, seconds_left = left, ?again, "certificate cannot be renewed; the old one stays in use");
    }
}

/// A certificate that is not valid now, fresh from the authority, means that a clock is wrong.
fn warn_of_skew(lives: Lives) {
    let now = unix_now();
    if now < lives.from {
        warn!(
            seconds = lives.from - now,
            "this machine's clock is behind the operator's: peers may be refused"
        );
    } else if now >= lives.until {
        warn!(
            seconds = now - lives.until,
            "this machine's clock is ahead of the operator's: peers may be refused"
        );
    }
}

/// A certificate and when the operator wants to be asked for the next.
struct Obtained {
    material: TlsMaterial,
    renew_at: i64,
    /// Which roots it came with.
    roots_number: i64,
}

async fn obtain(settings: &Settings, in_use: &[CertificateDer<'static>]) -> Result<Obtained, CertError> {
    // The file may have been rotated since the last certificate, or what is in use may be newer than the file.
    let mut roots = match read_roots(&settings.roots) {
        Err(error) if in_use.is_empty() => return Err(error),
        roots => roots.unwrap_or_default(),
    };
    roots.extend(in_use.iter().filter(|root| !roots.contains(root)).cloned().collect::<Vec<_>>());
    let token = token(settings).await?;
    let key = KeyPair::generate().map_err(CertError::Request)?;
    let csr = request(&key).map_err(CertError::Request)?;
    let (namespace, _) = settings.workload.split_once('/').unwrap_or(("default", ""));
    let workload = format!("{namespace}/{}", settings.account);
    let request = SignRequest { csr, workload: workload.clone(), token };
    let signed =
        timeout(SIGN, sign(&settings.operator, roots, request)).await.map_err(|_| CertError::Late)??;
    let (renew_at, roots_number) = (signed.renew_at, signed.roots_number);
    let material = material(signed, &key).map_err(CertError::Unusable)?;
    let got = format!("{}/{}", material.id.namespace(), material.id.account());
    if got != workload {
        return Err(CertError::Stranger { got: material.id.to_string(), wanted: workload });
    }
    Ok(Obtained { material, renew_at, roots_number })
}

async fn sign(
    operator: &str,
    roots: Vec<CertificateDer<'static>>,
    request: SignRequest,
) -> Result<SignResponse, CertError> {
    // Without chain no client certificate is shown, and the key is not looked at.
    let nobody = Identity { chain: Vec::new(), key: PrivatePkcs8KeyDer::from(Vec::new()).into(), roots };
    let tls = client_config(&nobody, &[ALPN_H2]).map_err(CertError::Unusable)?;
    let channel = connect(operator, Arc::new(tls)).await.map_err(CertError::Connect)?;
    let answer = IdentityClient::new(channel).sign(request).await;
    Ok(answer.map_err(|status| CertError::Refused(Box::new(status)))?.into_inner())
}

/// The subject is empty: the operator takes only the key and its proof from a request.
fn request(key: &KeyPair) -> Result<Vec<u8>, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    Ok(params.serialize_request(key)?.der().to_vec())
}

fn material(signed: SignResponse, key: &KeyPair) -> Result<TlsMaterial, TlsError> {
    let certificates = |ders: Vec<Vec<u8>>| ders.into_iter().map(CertificateDer::from).collect();
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let identity = Identity { chain: certificates(signed.chain), key, roots: certificates(signed.roots) };
    TlsMaterial::new(Arc::new(identity))
}

/// Waits until the file is there; it is mounted or written by another program, maybe later than this one starts.
async fn wait_for(roots: &Path) {
    let mut told = false;
    while !tokio::fs::try_exists(roots).await.unwrap_or(false) {
        if !told {
            info!(file = %roots.display(), "waiting for the roots of the mesh");
            told = true;
        }
        sleep(LOOK_AGAIN).await;
    }
}

fn read_roots(path: &Path) -> Result<Vec<CertificateDer<'static>>, CertError> {
    let wrong = |source| CertError::Roots { path: path.into(), source };
    let roots = CertificateDer::pem_file_iter(path).map_err(wrong)?.collect::<Result<Vec<_>, _>>();
    match roots.map_err(wrong)? {
        none if none.is_empty() => Err(wrong(rustls_pki_types::pem::Error::NoItemsFound)),
        roots => Ok(roots),
    }
}

/// Read anew each time, since Kubernetes replaces projected tokens.
async fn token(settings: &Settings) -> Result<String, CertError> {
    if let Some(token) = &settings.token {
        return Ok(token.clone());
    }
    let path = &settings.token_file;
    let token = tokio::fs::read_to_string(path).await;
    let token = token.map_err(|source| CertError::Token { path: path.as_path().into(), source })?;
    Ok(token.trim().to_owned())
}

/// How long to wait before the renewal: until `renew_at`, moved by up to a tenth either way so that proxies started
/// together do not renew together, and never past nine tenths of the life that is left.
#[expect(clippy::cast_precision_loss, reason = "seconds of a certificate's life")]
fn until_renewal(now: i64, renew_at: i64, lives: Lives, random: f64) -> Duration {
    let until = (renew_at - now).max(0) as f64;
    let moved = until * (1.0 - JITTER + 2.0 * JITTER * random);
    let most = (lives.until - now).max(0) as f64 * 0.9;
    // At least a second: an operator that signs what must be renewed at once shall not be asked in a loop.
    Duration::from_secs_f64(moved.min(most).max(1.0))
}

async fn sleep_until_wall_clock(unix: i64) {
    loop {
        let left = u64::try_from(unix - unix_now()).unwrap_or(0);
        if left == 0 {
            return;
        }
        sleep(Duration::from_secs(left).min(GLANCE)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIVES: Lives = Lives { from: 0, until: 86_400 };

    #[test]
    fn renewal_is_spread_by_a_tenth_around_the_time_the_operator_names() {
        let at = |random| until_renewal(0, 60_000, LIVES, random).as_secs();
        assert_eq!((at(0.0), at(0.5), at(1.0)), (54_000, 60_000, 66_000));
    }

    #[test]
    fn renewal_is_never_left_until_the_certificate_ends() {
        assert_eq!(until_renewal(0, 90_000, LIVES, 1.0).as_secs(), 77_760);
        assert_eq!(until_renewal(86_500, 60_000, LIVES, 0.5).as_secs(), 1);
    }

    #[test]
    fn the_last_fifth_of_a_life_is_cause_for_alarm() {
        assert!(!LIVES.nearly_over(60_000));
        assert!(LIVES.nearly_over(70_000) && LIVES.nearly_over(90_000));
    }

    #[test]
    fn roots_without_certificate_are_refused_with_their_path() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = read_roots(file.path()).unwrap_err();
        assert!(error.to_string().contains(file.path().to_str().unwrap()), "{error}");
    }

    #[tokio::test]
    async fn a_token_is_read_from_its_file_without_the_line_end() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "abc\n").unwrap();
        let settings = Settings { token: None, token_file: file.path().into(), ..Settings::in_process() };
        assert_eq!(token(&settings).await.unwrap(), "abc");
    }
}
