//! What is collected when a test fails: enough for someone who was not there.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::cluster::Cluster;
use crate::command::attempt;

/// Namespace of the operator.
const SYSTEM: &str = "weft-system";
/// Warnings that a message tells; the files have all.
const TOLD: usize = 12;

/// Writes down the state of these namespaces and of the operator; gives the folder and what looks wrong.
pub async fn collect(cluster: &Cluster, test: &str, namespaces: &[String]) -> Result<(PathBuf, String)> {
    let folder = cluster.settings.out.join(test.replace("::", "-"));
    tokio::fs::create_dir_all(&folder).await.with_context(|| format!("cannot make {}", folder.display()))?;
    let mut told = String::new();
    for namespace in namespaces {
        told.push_str(&dump(&folder, namespace).await?);
    }
    dump(&folder, SYSTEM).await?;
    Ok((folder, told))
}

async fn dump(folder: &Path, namespace: &str) -> Result<String> {
    let kinds = "all,microservices.weft.dev,serviceaccounts,configmaps,endpointslices,hpa,pdb,jobs";
    write(folder, namespace, "objects.txt", &["get", kinds, "-o", "wide"]).await?;
    write(folder, namespace, "microservices.yaml", &["get", "microservices.weft.dev", "-o", "yaml"]).await?;
    write(folder, namespace, "gateways.yaml", &["get", "gateways,httproutes,grpcroutes", "-o", "yaml"])
        .await?;
    write(folder, namespace, "pods.txt", &["describe", "pods"]).await?;
    write(folder, namespace, "events.txt", &["get", "events", "--sort-by=.lastTimestamp"]).await?;
    logs(folder, namespace).await?;
    let said = attempt(
        "kubectl",
        &["-n", namespace, "get", "events", "--field-selector=type=Warning", "--sort-by=.lastTimestamp"],
    )
    .await?;
    let lines: Vec<&str> = said.stdout.lines().collect();
    let first = lines.len().saturating_sub(TOLD);
    let last: Vec<&str> = lines.into_iter().skip(first).collect();
    Ok(format!("warnings in {namespace}:\n  {}\n", last.join("\n  ")))
}

async fn logs(folder: &Path, namespace: &str) -> Result<()> {
    let pods = attempt("kubectl", &["-n", namespace, "get", "pods", "-o", "name"]).await?;
    for pod in pods.stdout.lines() {
        let file = format!("{}.log", pod.trim_start_matches("pod/"));
        let args = ["logs", pod, "--all-containers", "--prefix", "--timestamps", "--tail=2000"];
        write(folder, namespace, &file, &args).await?;
        let previous = [&args[..], &["--previous"]].concat();
        let said = attempt("kubectl", &[&["-n", namespace], &previous[..]].concat()).await?;
        if said.code == Some(0) {
            tokio::fs::write(folder.join(format!("{namespace}-previous-{file}")), said.stdout).await?;
        }
    }
    Ok(())
}

/// What kubectl says goes into a file, its complaints too.
async fn write(folder: &Path, namespace: &str, file: &str, args: &[&str]) -> Result<()> {
    let said = attempt("kubectl", &[&["-n", namespace], args].concat()).await?;
    let path = folder.join(format!("{namespace}-{file}"));
    tokio::fs::write(&path, said.all()).await.with_context(|| format!("cannot write {}", path.display()))
}
