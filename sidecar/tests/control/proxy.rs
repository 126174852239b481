//! The control plane of one proxy, without listeners.

use std::sync::Arc;

use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use weft_sidecar::config::Shared;
use weft_sidecar::drain::Tasks;
use weft_sidecar::settings::Settings;
use weft_sidecar::telemetry::Telemetry;
use weft_sidecar::{certs, config};

use crate::operator::{DEADLINE, Operator, TOKEN};

pub(crate) struct Proxy {
    pub(crate) shared: Arc<Shared>,
    pub(crate) dir: TempDir,
    finish: CancellationToken,
}

impl Proxy {
    /// A proxy of `shop/order` that trusts this operator.
    pub(crate) fn start(operator: &Operator) -> Self {
        let proxy = Self::start_with(operator, |_| {});
        proxy.write_roots(&operator.roots_pem);
        proxy
    }

    /// The same with other settings, and without roots yet.
    pub(crate) fn start_with(operator: &Operator, change: impl FnOnce(&mut Settings)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = Settings {
            workload: "shop/order".to_owned(),
            account: "order".to_owned(),
            instance: "order-0".to_owned(),
            operator: operator.address.to_string(),
            roots: dir.path().join("roots.pem"),
            token: Some(TOKEN.to_owned()),
            ..Settings::in_process()
        };
        change(&mut settings);
        let (telemetry, _outlets) = Telemetry::new(&settings.workload);
        let (shared, asks) = Shared::new(settings, telemetry, Tasks::new());
        let finish = CancellationToken::new();
        shared.tasks.spawn("certs", certs::run(Arc::clone(&shared), finish.clone()));
        shared.tasks.spawn("config", config::client::run(Arc::clone(&shared), asks, finish.clone()));
        Self { shared, dir, finish }
    }

    pub(crate) fn write_roots(&self, pem: &str) {
        // As Kubernetes and `weft run` do it: never seen half written.
        let whole = self.dir.path().join("whole");
        std::fs::write(&whole, pem).unwrap();
        std::fs::rename(whole, self.dir.path().join("roots.pem")).unwrap();
    }

    /// Waits until there is a certificate that fulfils the condition.
    pub(crate) async fn certified(&self, wanted: impl Fn(&weft_sidecar::tls::TlsMaterial) -> bool) {
        let fulfilled = || self.shared.identity.load().as_ref().is_some_and(|material| wanted(material));
        until(self.shared.certified(), fulfilled).await;
    }

    /// Waits until a metric has this value; a line of the text format without labels.
    pub(crate) async fn metric(&self, line: &str) {
        let seen = async {
            while !self.metrics().contains(line) {
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        };
        let found = timeout(DEADLINE, seen).await;
        assert!(found.is_ok(), "{line} is not among\n{}", self.metrics());
    }

    pub(crate) fn metrics(&self) -> String {
        self.shared.telemetry.metrics.encode(0).replace("{workload=\"shop/order\"}", "")
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.finish.cancel();
    }
}

async fn until(mut changes: watch::Receiver<u64>, fulfilled: impl Fn() -> bool) {
    let wait = async {
        while !fulfilled() {
            changes.changed().await.unwrap();
        }
    };
    timeout(DEADLINE, wait).await.expect("the condition was not fulfilled in time");
}
