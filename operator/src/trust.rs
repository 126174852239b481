//! Looks after what the operator shows and trusts, all the time: takes the steps of the turn-over of roots that are due,
//! renews the operator's own certificates before they end and whenever the roots change, and tells the reconciler, which
//! tells proxies. Nothing that is open is touched: new connections get what is newest.

pub(crate) mod cluster;
pub(crate) mod owner;
mod roots;
mod webhooks;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use arc_swap::ArcSwap;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};
use weft_api::names::{ALPN_H2, ALPN_HTTP1, OPERATOR_HOST};
use weft_api::tls;

use crate::authority::Authority;
use crate::clock::unix_now;
use crate::event::{Event, Hub, Stopping};
use crate::jwks::ClientTls;
use crate::server::{ServerTls, server_tls};

/// How often everything is looked at; sooner where something is known to be due.
const LOOK_EVERY: Duration = Duration::from_mins(1);
/// How often proxies are asked whether they trust a root that joins.
const ASK_EVERY: Duration = Duration::from_secs(5);
/// Names under which the API server calls the webhooks.
const SERVER_NAMES: [&str; 2] = [OPERATOR_HOST, "weft-operator.weft-system.svc.cluster.local"];

/// The operator's own certificates in use, each for who needs it.
#[derive(Clone)]
pub(crate) struct Own {
    /// For proxies that ask for identities and configuration.
    pub(crate) server: ServerTls,
    /// For calls into the mesh.
    pub(crate) client: ClientTls,
    /// For the API server that calls the webhooks.
    pub(crate) webhook: ServerTls,
}

/// Where the certificate for the API server comes from.
#[derive(Clone, Debug)]
pub(crate) enum WebhookCertificate {
    /// From the mesh's own authority.
    Issued,
    /// From `tls.crt` and `tls.key` in a folder, which somebody else renews.
    Folder(PathBuf),
}

/// Keeps all of it fresh.
pub(crate) struct Trust {
    authority: Arc<Authority>,
    own: Own,
    webhook: WebhookCertificate,
    hub: Hub,
    renew_at: i64,
    told: weft_core::world::Trust,
}

impl Trust {
    /// Makes the first certificates.
    pub(crate) fn new(
        authority: Arc<Authority>,
        webhook: WebhookCertificate,
        hub: Hub,
    ) -> anyhow::Result<Self> {
        let made = make(&authority, &webhook, unix_now())?;
        let [server, webhook_server] = [made.server, made.webhook].map(|tls| Arc::new(ArcSwap::new(tls)));
        let own = Own { server, client: Arc::new(ArcSwap::new(made.client)), webhook: webhook_server };
        let told = weft_core::world::Trust::default();
        Ok(Self { authority, own, webhook, hub, renew_at: made.renew_at, told })
    }

    /// What is in use, now and after every renewal.
    pub(crate) fn own(&self) -> Own {
        self.own.clone()
    }

    /// Looks after it until `stopping`. A failure is tried again: what is in use holds for long.
    pub(crate) async fn run(mut self, stopping: CancellationToken) {
        let mut changes = self.authority.changes();
        loop {
            changes.mark_unchanged();
            match stopping.run_until_cancelled(self.look()).await {
                None | Some(Ok(Err(Stopping))) => return,
                Some(Ok(Ok(()))) => {}
                Some(Err(error)) => error!(error = format!("{error:#}"), "certificates not renewed"),
            }
            tokio::select! {
                () = tokio::time::sleep(self.pause(unix_now())) => {}
                changed = changes.changed() => if changed.is_err() { return },
                () = stopping.cancelled() => return,
            }
        }
    }

    /// How long until something may be due.
    fn pause(&self, now: i64) -> Duration {
        let until_renewal = Duration::from_secs(u64::try_from(self.renew_at - now).unwrap_or_default());
        let look = if self.authority.joining().is_some() { ASK_EVERY } else { LOOK_EVERY };
        look.min(until_renewal.max(Duration::from_secs(1)))
    }

    async fn look(&mut self) -> anyhow::Result<Result<(), Stopping>> {
        let now = unix_now();
        let Ok(learned) = learned(&self.authority, &self.hub).await else { return Ok(Err(Stopping)) };
        self.authority.turn_over(now, |root| learned.as_deref() == Some(root))?;
        let trust = self.authority.trust(now);
        let changed = trust.number != self.told.number;
        if changed || now >= self.renew_at || matches!(self.webhook, WebhookCertificate::Folder(_)) {
            self.renew(now, changed)?;
        }
        if trust != self.told {
            self.told = trust.clone();
            return Ok(self.hub.say(Event::Trust(trust)).await);
        }
        Ok(Ok(()))
    }

    fn renew(&mut self, now: i64, roots_changed: bool) -> anyhow::Result<()> {
        let made = make(&self.authority, &self.webhook, now)?;
        let due = roots_changed || now >= self.renew_at;
        self.own.webhook.store(made.webhook);
        if due {
            self.own.server.store(made.server);
            self.own.client.store(made.client);
            self.renew_at = made.renew_at;
            info!(roots_changed, "the operator's own certificates renewed");
        }
        Ok(())
    }
}

/// The root that joins, by its fingerprint, if all proxies that are known trust it.
pub(crate) async fn learned(authority: &Authority, hub: &Hub) -> Result<Option<String>, Stopping> {
    let Some(root) = authority.joining() else { return Ok(None) };
    let asked = root.clone();
    let all = hub.ask(|answer| Event::Trusts { root: asked, answer }).await?;
    Ok(all.then_some(root))
}

/// Freshly made certificates.
struct Made {
    server: Arc<rustls::ServerConfig>,
    client: Arc<rustls::ClientConfig>,
    webhook: Arc<rustls::ServerConfig>,
    renew_at: i64,
}

fn make(authority: &Authority, webhook: &WebhookCertificate, now: i64) -> anyhow::Result<Made> {
    let own = authority.own_identity(now)?;
    let server = server_tls(&own.identity)?;
    let client = Arc::new(tls::client_config(&own.identity, &[ALPN_HTTP1])?);
    let (webhook, renew_at) = match webhook {
        WebhookCertificate::Issued => {
            let issued = authority.server_certificate(&SERVER_NAMES, now)?;
            (plain_server(issued.chain, issued.key)?, own.renew_at.min(issued.renew_at))
        }
        WebhookCertificate::Folder(folder) => (read_server(folder)?, own.renew_at),
    };
    Ok(Made { server, client, webhook, renew_at })
}

fn read_server(folder: &std::path::Path) -> anyhow::Result<Arc<rustls::ServerConfig>> {
    let wrong = |file: &str| format!("{} cannot be used; it must hold PEM", folder.join(file).display());
    let chain = CertificateDer::pem_file_iter(folder.join("tls.crt")).with_context(|| wrong("tls.crt"))?;
    let chain = chain.collect::<Result<Vec<_>, _>>().with_context(|| wrong("tls.crt"))?;
    let key = PrivateKeyDer::from_pem_file(folder.join("tls.key")).with_context(|| wrong("tls.key"))?;
    plain_server(chain, key)
}

/// TLS for a server that asks for no client certificate: who calls is the API server, which proves itself by what it
/// knows, if at all.
fn plain_server(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
) -> anyhow::Result<Arc<rustls::ServerConfig>> {
    let mut config = rustls::ServerConfig::builder_with_provider(tls::provider())
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![ALPN_H2.to_vec(), ALPN_HTTP1.to_vec()];
    Ok(Arc::new(config))
}
