//! A minute without any operator: what runs goes on, what is new waits, and everything heals by itself.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::apps::v1::ReplicaSet;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, PostParams};
use serde_json::json;
use tokio::time::Instant;
use weft_e2e_kind::ROLLOUT;
use weft_e2e_kind::command::run;
use weft_e2e_kind::load::Load;
use weft_e2e_kind::runner::Cx;
use weft_e2e_kind::space::{Space, has_proxy};
use weft_e2e_kind::wait::{Goal, until};

use crate::apps::service;
use crate::install::{OPERATOR, OPERATOR_LABELS, SYSTEM};

/// How long there is no operator.
const AWAY: Duration = Duration::from_mins(1);

/// Load before, while and after; a new workload is asked for in between.
pub(crate) async fn traffic_goes_on_and_nothing_starts_unmeshed_without_operators(cx: Cx) -> Result<()> {
    let (mesh, outside) = tokio::try_join!(cx.meshed(), cx.plain())?;
    mesh.apply(&service("echo", 2, "")).await?;
    mesh.in_service("echo").await?;
    let load = Load::start(&mesh, "load", &["load", "http://echo/"]).await?;

    let system = cx.existing(SYSTEM);
    scale(SYSTEM, OPERATOR, 0).await?;
    let result = without_operators(&mesh, &outside, (&system, &load)).await;
    // Whatever came out, the other tests need operators.
    scale(SYSTEM, OPERATOR, 2).await?;
    system.rolled_out(OPERATOR).await?;
    result?;

    // Nobody touches the Deployment: its pod comes by itself.
    let pods = mesh.pods(LATE_LABELS, 1).await?;
    ensure!(pods.iter().all(has_proxy), "a pod started without proxy");
    mesh.in_service("echo").await?;
    load.finish("a minute without operators, and their return").await?;
    Ok(())
}

async fn without_operators(mesh: &Space, outside: &Space, others: (&Space, &Load)) -> Result<()> {
    let (system, load) = others;
    system.pods(OPERATOR_LABELS, 0).await?;
    let began = Instant::now();
    mesh.apply(LATE).await?;
    let what = "the API server refuses the pod, because nobody can give it a proxy";
    until(&mesh.api::<ReplicaSet>(), Goal::labelled(what, LATE_LABELS, ROLLOUT), |sets| {
        let mut conditions =
            sets.values().filter_map(|set| set.status.as_ref()?.conditions.as_ref()).flatten();
        let failure = conditions.find(|condition| condition.type_ == "ReplicaFailure");
        let message = failure.and_then(|failure| failure.message.clone());
        let message = message.ok_or_else(|| format!("no ReplicaFailure: {:?}", sets.keys()))?;
        if message.contains("weft") { Ok(()) } else { Err(message) }
    })
    .await?;
    // Elsewhere pods are made as ever.
    let pod =
        json!({"metadata": {"name": "pod"}, "spec": {"containers": [{"name": "app", "image": "nothing"}]}});
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    let made = outside.api::<Pod>().create(&dry, &serde_json::from_value(pod)?).await;
    made.context("a pod outside the mesh needs no operator")?;

    while began.elapsed() < AWAY {
        load.progress(40).await?;
        load.none_failed("no operator is there")?;
    }
    let pods = mesh.api::<Pod>().list(&ListParams::default().labels(LATE_LABELS)).await?;
    ensure!(pods.items.is_empty(), "a pod is there that should wait for its proxy");
    Ok(())
}

async fn scale(namespace: &str, deployment: &str, replicas: u32) -> Result<()> {
    let (deployment, replicas) = (format!("deployment/{deployment}"), format!("--replicas={replicas}"));
    run("kubectl", &["-n", namespace, "scale", &deployment, &replicas]).await.map(drop)
}

const LATE_LABELS: &str = "app=late";
const LATE: &str = "\
apiVersion: apps/v1
kind: Deployment
metadata: {name: late}
spec:
  selector: {matchLabels: {app: late}}
  template:
    metadata: {labels: {app: late}}
    spec:
      terminationGracePeriodSeconds: 5
      containers:
      - {name: app, image: $APP, imagePullPolicy: IfNotPresent, args: [serve]}
";
