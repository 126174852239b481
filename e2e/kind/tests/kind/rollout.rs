//! Instances and operators are replaced while requests go on: not one may fail.

use anyhow::Result;
use serde_json::json;
use weft_e2e_kind::command::run;
use weft_e2e_kind::load::Load;
use weft_e2e_kind::runner::Cx;

use crate::apps::{labels, service};
use crate::install::{OPERATOR, SYSTEM};

/// `kubectl rollout restart`, then more instances, then fewer.
pub(crate) async fn no_request_fails_while_instances_are_replaced_and_scaled(cx: Cx) -> Result<()> {
    let mesh = cx.meshed().await?;
    mesh.apply(&service("echo", 2, "")).await?;
    mesh.in_service("echo").await?;
    let load = Load::start(&mesh, "load", &["load", "http://echo/"]).await?;

    run("kubectl", &["-n", &mesh.name, "rollout", "restart", "deployment/echo"]).await?;
    mesh.rolled_out("echo").await?;
    mesh.pods(&labels("echo"), 2).await?;
    load.none_failed("rolling restart")?;
    for count in [4, 1] {
        mesh.patch_microservice("echo", json!({"spec": {"workload": {"replicas": count}}})).await?;
        mesh.pods(&labels("echo"), count).await?;
        load.progress(40).await?;
        load.none_failed(&format!("scaling to {count}"))?;
    }
    load.finish("rolling restart and scaling").await?;
    Ok(())
}

/// Operators come and go one after the other, as in an update of their image.
pub(crate) async fn no_request_fails_while_the_operators_are_restarted(cx: Cx) -> Result<()> {
    let mesh = cx.meshed().await?;
    mesh.apply(&service("echo", 2, "")).await?;
    mesh.in_service("echo").await?;
    let load = Load::start(&mesh, "load", &["load", "http://echo/"]).await?;

    run("kubectl", &["-n", SYSTEM, "rollout", "restart", &format!("deployment/{OPERATOR}")]).await?;
    cx.existing(SYSTEM).rolled_out(OPERATOR).await?;
    load.none_failed("restart of the operators")?;
    // The new operators serve: an instance of today is found and called.
    mesh.patch_microservice("echo", json!({"spec": {"workload": {"replicas": 3}}})).await?;
    mesh.pods(&labels("echo"), 3).await?;
    mesh.in_service("echo").await?;
    load.finish("restart of the operators").await?;
    Ok(())
}
