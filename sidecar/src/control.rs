//! The control plane's own ports: admin, health, metrics. Opened once at the start; their addresses are settings.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::admin::admin;
use crate::config::Shared;
use crate::health::{health, metrics};
use crate::net::listen::bind;
use crate::pages::{Site, serve};

/// A port that cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("opening the {name} port on {address}")]
pub struct PortError {
    name: &'static str,
    address: SocketAddr,
    #[source]
    source: io::Error,
}

/// Opens the three ports and serves them until told to finish.
pub fn open(shared: &Arc<Shared>, finish: &CancellationToken) -> Result<(), PortError> {
    let settings = &shared.settings;
    let ports: [(&'static str, SocketAddr, Site); 3] = [
        ("admin", settings.admin_addr, Site::Pages(admin)),
        ("health", settings.health_addr, Site::Health(health)),
        ("metrics", settings.metrics_addr, Site::Pages(metrics)),
    ];
    for (name, address, site) in ports {
        let failed = |source| PortError { name, address, source };
        let listener = bind(address).and_then(TcpListener::from_std).map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        shared.bound.send_modify(|all| {
            let mut with: HashMap<_, _> = HashMap::clone(all);
            with.insert(name.to_owned(), bound);
            *all = Arc::new(with);
        });
        shared.tasks.spawn(name, serve(listener, Arc::clone(shared), site, finish.clone()));
    }
    Ok(())
}
