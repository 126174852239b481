//! Where a command looks: at a run on this machine, or at a cluster. The rule is told in `weft --help`; what is found
//! there is the commands'.

use anyhow::{Result, bail};

use crate::cluster::{self, Cluster};
use crate::settings::{ClusterArgs, StateArgs};
use crate::state::{self, State};

/// What is looked at.
pub(crate) enum Place {
    /// A run on this machine.
    Run(State),
    /// A cluster.
    Cluster(Cluster),
}

/// The cluster where a flag means it, else the run of `--state` or one that goes on, else the cluster.
pub(crate) async fn choose(run: &StateArgs, cluster: &ClusterArgs) -> Result<Place> {
    if cluster.is_meant() {
        return Ok(Place::Cluster(cluster::connect(cluster).await?));
    }
    if let Some(folder) = &run.state {
        return Ok(Place::Run(State::at(folder)));
    }
    if let Some(state) = state::find_alive(run.runtime.as_deref())? {
        return Ok(Place::Run(state));
    }
    if !cluster::is_configured() {
        bail!(
            "nothing runs on this machine and there is no kubeconfig; start a run with `weft run DIR`, or name a \
             cluster with --kubeconfig"
        );
    }
    Ok(Place::Cluster(cluster::connect(cluster).await?))
}
