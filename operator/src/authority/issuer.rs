//! The issuer that the Mesh names (`spec.identity.issuerSecret`): its Secret is followed, as cert-manager renews it, and
//! what it holds is looked at. What cannot be used is reported with what to do, and what signs now signs on.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::runtime::{WatchStreamExt, watcher};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use weft_core::ca::{Brought, Values};

use super::secret::Keeper;
use super::{Authority, Issuer};
use crate::clock::unix_now;

/// How often it is looked at without a change: certificates end.
const LOOK_EVERY: Duration = Duration::from_mins(1);

/// Follows the Secret of whatever issuer is named, until `stopping`.
pub(crate) async fn follow(keeper: Keeper, authority: Arc<Authority>, stopping: CancellationToken) {
    let mut changes = authority.changes();
    loop {
        changes.mark_unchanged();
        let Some(name) = authority.issuer_name() else {
            authority.set_issuer(Issuer::Unknown);
            match stopping.run_until_cancelled(changes.changed()).await {
                Some(Ok(())) => continue,
                _ => return,
            }
        };
        tokio::select! {
            () = watch(&keeper, &authority, &name) => {}
            () = named_anew(&authority, &name) => {}
            () = stopping.cancelled() => return,
        }
    }
}

async fn named_anew(authority: &Authority, name: &str) {
    let mut changes = authority.changes();
    while authority.issuer_name().as_deref() == Some(name) {
        if changes.changed().await.is_err() {
            return;
        }
    }
}

async fn watch(keeper: &Keeper, authority: &Authority, name: &str) {
    let seen = watcher::watch_object(keeper.secrets().clone(), name).default_backoff();
    let mut seen = std::pin::pin!(seen);
    let mut secret = None;
    loop {
        match tokio::time::timeout(LOOK_EVERY, seen.next()).await {
            Ok(Some(Ok(newest))) => secret = newest,
            Ok(Some(Err(error))) => {
                warn!(
                    secret = name,
                    error = &error as &dyn std::error::Error,
                    "the issuer cannot be watched"
                );
                continue;
            }
            Ok(None) => return,
            Err(_) => {}
        }
        look(authority, name, secret.as_ref());
    }
}

fn look(authority: &Authority, name: &str, secret: Option<&Secret>) {
    let was_usable = matches!(**authority.issuer.load(), Issuer::Brought(_));
    match brought(secret, &authority.trust_domain(), unix_now()) {
        Ok(brought) => {
            if !was_usable {
                info!(secret = name, "the issuer can be used");
            }
            authority.set_issuer(Issuer::Brought(Box::new(brought)));
        }
        Err(why) => {
            if !matches!(&**authority.issuer.load(), Issuer::Unusable(known) if *known == why) {
                error!(secret = name, why, "the issuer cannot be used; what signs now signs on");
            }
            authority.set_issuer(Issuer::Unusable(why));
        }
    }
}

/// The issuer in a Secret, or why it cannot be used and what to do.
pub(super) fn brought(secret: Option<&Secret>, trust_domain: &str, now: i64) -> Result<Brought, String> {
    let secret = secret.ok_or("there is no such Secret; make it, or have cert-manager make it")?;
    let value = |key: &str| secret.data.as_ref().and_then(|data| data.get(key)).map(|value| &*value.0);
    let needed =
        |key: &str| value(key).ok_or_else(|| format!("it holds no `{key}`; write it as cert-manager does"));
    let root = value("ca.crt").filter(|root| !root.is_empty());
    let values = Values { chain: needed("tls.crt")?, key: needed("tls.key")?, root };
    Brought::read(values, trust_domain, now).map_err(|error| {
        let cause = std::error::Error::source(&error).map(|cause| format!(" ({cause})"));
        format!("{error}{}", cause.unwrap_or_default())
    })
}
