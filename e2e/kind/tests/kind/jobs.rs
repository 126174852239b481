//! Jobs: the sidecar is there before the application's first instruction, and ends with it.

use anyhow::{Result, ensure};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use weft_e2e_kind::ROLLOUT;
use weft_e2e_kind::runner::Cx;
use weft_e2e_kind::space::has_proxy;
use weft_e2e_kind::wait::{Goal, one, until};

use crate::apps::service;

/// Every pod of the Job calls the service at its first instruction, once; a refused connection would fail the Job.
const JOB: &str = "\
apiVersion: batch/v1
kind: Job
metadata: {name: dialler}
spec:
  completions: 6
  parallelism: 3
  backoffLimit: 0
  template:
    metadata: {labels: {app: dialler}}
    spec:
      restartPolicy: Never
      containers: [{name: app, image: $APP, args: [call, --expect, \"200\", \"http://echo/\"]}]
";

/// Six pods, none tried again, all complete.
pub(crate) async fn job_completes_although_it_has_a_sidecar(cx: Cx) -> Result<()> {
    let mesh = cx.meshed().await?;
    mesh.apply(&service("echo", 1, "")).await?;
    mesh.in_service("echo").await?;
    mesh.apply(JOB).await?;
    let what = format!("Job {}/dialler is complete", mesh.name);
    until(&mesh.api::<Job>(), Goal::named(&what, "dialler", ROLLOUT), |seen| {
        let status = one(seen)?.status.clone().unwrap_or_default();
        if status.succeeded == Some(6) { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await?;
    let pods = mesh.api::<Pod>().list(&kube::api::ListParams::default().labels("app=dialler")).await?;
    let bare: Vec<_> = pods.iter().filter(|pod| !has_proxy(pod)).map(|pod| &pod.metadata.name).collect();
    ensure!(bare.is_empty(), "pods of the Job without proxy: {bare:?}");
    Ok(())
}
