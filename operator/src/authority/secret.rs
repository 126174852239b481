//! The authority in a cluster: the Secret `weft-ca` is what all replicas go by. Whoever comes first makes it; all follow
//! it; the leader alone changes it, and only in the version it has just read. So trust never forks: of two writers one
//! is told that it is late, and reads again.
//!
//! An issuer that the user brought is copied into it together with its key, because certificates of the old one have to
//! be signed and trusted while its own Secret already holds the next ([`super::issuer`]).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::TryStreamExt;
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{ObjectMeta, PostParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use weft_api::names::{LABEL_MANAGED_BY, MANAGER, SYSTEM_NAMESPACE};
use weft_core::ca::{Brought, Ca};
use weft_crds::mesh::Mesh;

use super::{Authority, AuthorityError, FILE, Issuer, Keep, SECRET, read};
use crate::clock::unix_now;
use crate::event::Hub;
use crate::trust::{self, owner};

/// No answer of the API server for this long is a failure.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// How often the leader looks whether something is due; sooner while a root joins, and after every change.
const LOOK_EVERY: Duration = Duration::from_mins(1);
const JOINING_EVERY: Duration = Duration::from_secs(5);
/// A change that fails is tried again after this long.
const AGAIN_AFTER: Duration = Duration::from_secs(2);

/// Reads and writes the Secret.
#[derive(Clone)]
pub(crate) struct Keeper {
    secrets: Api<Secret>,
    client: Client,
}

/// The Secret in one of its versions.
struct Version {
    secret: Secret,
    ca: Ca,
}

impl Keeper {
    pub(crate) fn new(client: Client) -> Self {
        Self { secrets: Api::namespaced(client.clone(), SYSTEM_NAMESPACE), client }
    }

    /// The Secrets of the operator's namespace.
    pub(super) fn secrets(&self) -> &Api<Secret> {
        &self.secrets
    }

    /// The authority that is kept, or a new one where there is none. Of several replicas that find none, one makes it.
    pub(crate) async fn open(
        &self,
        mesh: &Mesh,
        lifetime: Option<Duration>,
    ) -> Result<Authority, AuthorityError> {
        loop {
            if let Some(version) = self.read(&mesh.spec.trust_domain).await? {
                return Ok(Authority::new(Keep::Secret, version.ca, mesh, lifetime));
            }
            let (authority, ca) = self.make(mesh, lifetime).await?;
            if self.create(&ca).await? {
                info!(trust_domain = ca.trust_domain(), "a certificate authority was made");
                return Ok(authority);
            }
        }
    }

    /// A first authority, not kept yet.
    async fn make(&self, mesh: &Mesh, lifetime: Option<Duration>) -> Result<(Authority, Ca), AuthorityError> {
        let now = unix_now();
        let spec = &mesh.spec;
        let (first, issuer) = match &spec.identity.issuer_secret {
            None => (Ca::new(&spec.trust_domain, now, spec.identity.root_lifetime.get())?, Issuer::Unknown),
            Some(named) => {
                let brought = self.read_issuer(&named.name, &spec.trust_domain).await?;
                (Ca::with_issuer(&spec.trust_domain, &brought, now)?, Issuer::Brought(Box::new(brought)))
            }
        };
        let authority = Authority::new(Keep::Secret, first, mesh, lifetime);
        authority.issuer.store(Arc::new(issuer));
        let first = authority.ca.load_full();
        if let Some(ca) = authority.next(&first, now, |_| false)? {
            authority.ca.store(Arc::new(ca));
        }
        let pem = authority.ca.load().to_pem();
        let ca = Ca::from_pem(&spec.trust_domain, &pem)?;
        Ok((authority, ca))
    }

    async fn read_issuer(&self, name: &str, trust_domain: &str) -> Result<Brought, AuthorityError> {
        let secret = answer("read", self.secrets.get_opt(name)).await?;
        let brought = super::issuer::brought(secret.as_ref(), trust_domain, unix_now());
        brought.map_err(|why| AuthorityError::Issuer { name: name.to_owned(), why })
    }

    /// The Secret as it is now; none where there is none.
    async fn read(&self, trust_domain: &str) -> Result<Option<Version>, AuthorityError> {
        let Some(secret) = answer("read", self.secrets.get_opt(SECRET)).await? else { return Ok(None) };
        let ca = read(&Keep::Secret, pem(&secret), trust_domain)?;
        Ok(Some(Version { secret, ca }))
    }

    /// Says whether it was made by this call.
    async fn create(&self, ca: &Ca) -> Result<bool, AuthorityError> {
        let owner = owner::installation(&self.client).await;
        let (params, secret) = (params(), secret(ca, owner));
        match answer("created", self.secrets.create(&params, &secret)).await {
            Ok(_) => Ok(true),
            Err(AuthorityError::Cluster { source, .. }) if is_conflict(&source) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Follows the Secret until `stopping`.
    pub(crate) async fn follow(self, authority: Arc<Authority>, stopping: CancellationToken) {
        let seen = watcher::watch_object(self.secrets.clone(), SECRET).default_backoff();
        let mut seen = std::pin::pin!(seen);
        while let Some(next) = stopping.run_until_cancelled(seen.try_next()).await {
            let taken = match next {
                Ok(Some(Some(secret))) => self.take(&authority, &secret).await,
                // The leader makes it again.
                Ok(Some(None)) => {
                    warn!("the Secret {SECRET} is gone; what it held stays in force");
                    Ok(())
                }
                Ok(None) => return,
                Err(error) => {
                    warn!(error = &error as &dyn std::error::Error, "the Secret {SECRET} cannot be watched");
                    Ok(())
                }
            };
            if let Err(error) = taken {
                let error = &error as &dyn std::error::Error;
                error!(error, "the Secret {SECRET} cannot be used; what it held before stays in force");
            }
        }
    }

    async fn take(&self, authority: &Authority, secret: &Secret) -> Result<(), AuthorityError> {
        let trust_domain = authority.trust_domain();
        let ca = read(&Keep::Secret, pem(secret), &trust_domain)?;
        let known = authority.ca.load().changed();
        if ca.changed() > known {
            authority.adopt(ca);
        } else if ca.changed() < known {
            // An old event, or an old version that somebody put back: what is there now says it.
            let now = self.read(&trust_domain).await?;
            now.into_iter().filter(|now| now.ca.changed() < known).for_each(|now| authority.adopt(now.ca));
        }
        Ok(())
    }

    /// Takes the steps that are due, as the leader. Never ends.
    pub(crate) async fn lead(&self, authority: &Authority, hub: &Hub) {
        let mut changes = authority.changes();
        loop {
            changes.mark_unchanged();
            let again = match self.step(authority, hub).await {
                Ok(()) if authority.joining().is_some() => JOINING_EVERY,
                Ok(()) => LOOK_EVERY,
                Err(error) => {
                    error!(
                        error = &error as &dyn std::error::Error,
                        "the authority is not kept; it is tried again"
                    );
                    tokio::time::sleep(AGAIN_AFTER).await;
                    continue;
                }
            };
            // Who changes it last is told last: an error only at the end of the operator.
            drop(tokio::time::timeout(again, changes.changed()).await);
        }
    }

    async fn step(&self, authority: &Authority, hub: &Hub) -> Result<(), AuthorityError> {
        let Some(Version { secret: kept, ca }) = self.read(&authority.trust_domain()).await? else {
            let ca = authority.ca.load_full();
            if self.create(&ca).await? {
                warn!("the Secret {SECRET} was gone and has been made again");
            }
            return Ok(());
        };
        // At the end of the operator nobody answers, and nothing is learned.
        let learned = trust::learned(authority, hub).await.unwrap_or_default();
        let Some(next) = authority.next(&ca, unix_now(), |root| learned.as_deref() == Some(root))? else {
            return Ok(());
        };
        let mut wanted = secret(&next, None);
        wanted.metadata = kept.metadata;
        match answer("written", self.secrets.replace(SECRET, &params(), &wanted)).await {
            Ok(_) => {
                info!(roots = next.roots().len(), number = next.changed(), "the authority moved on");
                authority.adopt(next);
                Ok(())
            }
            // Somebody was faster: the next look begins with what they wrote.
            Err(AuthorityError::Cluster { source, .. }) if is_conflict(&source) => Ok(()),
            Err(error) => Err(error),
        }
    }
}

fn pem(secret: &Secret) -> &str {
    let value = secret.data.as_ref().and_then(|data| data.get(FILE));
    value.and_then(|value| std::str::from_utf8(&value.0).ok()).unwrap_or_default()
}

fn secret(ca: &Ca, owner: Option<OwnerReference>) -> Secret {
    let labels = [("app.kubernetes.io/name", "weft-operator"), (LABEL_MANAGED_BY, MANAGER)];
    Secret {
        metadata: ObjectMeta {
            name: Some(SECRET.to_owned()),
            namespace: Some(SYSTEM_NAMESPACE.to_owned()),
            labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
            owner_references: owner.map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        data: Some(BTreeMap::from([(FILE.to_owned(), ByteString(ca.to_pem().into_bytes()))])),
        ..Secret::default()
    }
}

fn params() -> PostParams {
    PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() }
}

pub(super) async fn answer<T>(
    done: &'static str,
    request: impl Future<Output = kube::Result<T>>,
) -> Result<T, AuthorityError> {
    let answered = tokio::time::timeout(ANSWER_WITHIN, request).await;
    let answered = answered.map_err(|_| AuthorityError::Late { done })?;
    answered.map_err(|source| AuthorityError::Cluster { done, source: Box::new(source) })
}

fn is_conflict(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 409)
}
