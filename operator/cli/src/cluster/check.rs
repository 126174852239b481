//! `weft check` of a cluster: looks (facts), judges (verdict), prints. Before the installation it says whether Weft can be
//! installed, after it whether everything works. Changes nothing: what it creates is a dry run.

mod facts;
mod probe;
mod report;
mod rights;
mod verdict;

use std::process::ExitCode;

use anyhow::{Result, bail};
use k8s_openapi::api::core::v1::Pod;

use crate::cluster::{connect, told};
use crate::run::clock::unix_now;
use crate::run::terminal::print_line;
use crate::settings::{CheckArgs, Output};

/// Prints one line per check; fails when one does.
pub(crate) async fn run(args: &CheckArgs) -> Result<ExitCode> {
    let cluster = connect(&args.cluster).await?;
    if let Err(error) = cluster.client.apiserver_version().await {
        bail!(
            "the cluster {} cannot be asked: {}; does `kubectl get --raw /version` work?",
            cluster.name,
            told(error)
        );
    }
    let facts = Box::pin(facts::gather(&cluster)).await;
    let report = report::Report::new(verdict::all(&facts, unix_now()));
    match args.output {
        Output::Json => print_line(&serde_json::to_string_pretty(&report)?),
        Output::Text => report.lines(&cluster.name).iter().for_each(|line| print_line(line)),
    }
    Ok(if report.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Whether a pod's condition `Ready` is true.
pub(crate) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
}
