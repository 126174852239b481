//! How far the operator scales: a real API server holding N services, a real `weft-operator` process beside it, and
//! simulated proxies, each a stream that acknowledges at once. Measures from before a pod's endpoint is changed in the
//! API server to when the last proxy that uses it has the change, and what the operator takes in memory and CPU; on
//! request also what a real sidecar takes.
//! Leaves out what a proxy does with a change; the proxies' own tests are in `sidecar`.

mod api_server;
mod ask;
mod objects;
mod operator;
mod proxy;
mod report;
mod sidecar;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Parser;
use tokio::time::Instant;

use crate::api_server::ApiServer;
use crate::objects::Cluster;
use crate::operator::Operator;
use crate::proxy::Fleet;
use crate::report::Row;

/// Measures how the operator scales with the number of services.
#[derive(Parser)]
struct Options {
    /// Services to make, each with one endpoint; several sizes are measured one after the other.
    #[arg(long, value_delimiter = ',', default_value = "1000,10000")]
    services: Vec<usize>,
    /// Proxies that use the service whose endpoint changes.
    #[arg(long, default_value_t = 100)]
    proxies: usize,
    /// Destinations each proxy uses.
    #[arg(long, default_value_t = 10)]
    uses: usize,
    /// Changes to measure.
    #[arg(long, default_value_t = 200)]
    changes: usize,
    /// Folder with `etcd` and `kube-apiserver`.
    #[arg(long, env = "WEFT_KUBERNETES_BIN")]
    bin: PathBuf,
    /// The operator's binary.
    #[arg(long, default_value = "target/release/weft-operator")]
    operator: PathBuf,
    /// The proxy's binary: measures the memory of a real sidecar too. Takes root, since everything then runs in a network
    /// namespace of its own.
    #[arg(long)]
    sidecar: Option<PathBuf>,
}

/// Longer than anything takes here.
const DEADLINE: Duration = Duration::from_mins(10);

fn main() -> Result<()> {
    let options = Options::parse();
    if options.sidecar.is_some() {
        sidecar::own_network()?;
    }
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        tokio::select! {
            done = all(&options) => done,
            interrupted = tokio::signal::ctrl_c() => interrupted.context("waiting for Ctrl-C"),
        }
    })
}

async fn all(options: &Options) -> Result<()> {
    report::head(options.proxies, options.uses, options.changes);
    for services in &options.services {
        let row = tokio::time::timeout(DEADLINE, one(options, *services)).await;
        report::row(&row.context("the measurement took too long")??);
    }
    Ok(())
}

/// One size, on an API server of its own.
async fn one(options: &Options, services: usize) -> Result<Row> {
    let server = ApiServer::start(&options.bin).await?;
    let cluster = Cluster::new(server.client().await?, services);
    report::progress(&format!("making {services} services"));
    cluster.fill().await?;
    report::progress("starting the operator");
    let started = Instant::now();
    let operator = Operator::start(&options.operator, &server).await?;
    let ready = started.elapsed();
    report::progress(&format!("subscribing {} proxies", options.proxies));
    let mut fleet = Fleet::subscribe(&cluster, &operator, options.proxies, options.uses).await?;
    report::progress("changing endpoints");
    let idle = operator.cpu()?;
    let began = Instant::now();
    let mut delays = Vec::with_capacity(options.changes);
    for _ in 0..options.changes {
        delays.push(fleet.change(&cluster).await?);
    }
    let took = began.elapsed();
    let used = operator.cpu()?.saturating_sub(idle);
    let sidecar = match &options.sidecar {
        Some(binary) => Some(sidecar::measure(binary, (&server, &cluster, &operator), options.uses).await?),
        None => None,
    };
    Ok(Row {
        services,
        ready,
        delays,
        memory_mib: operator.memory_mib()?,
        cpu_per_change: used / u32::try_from(options.changes.max(1))?,
        took,
        sidecar,
    })
}
