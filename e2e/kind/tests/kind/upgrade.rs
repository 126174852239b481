//! An upgrade of the chart while requests go on.

use anyhow::{Result, ensure};
use kube::ResourceExt;
use weft_e2e_kind::load::Load;
use weft_e2e_kind::runner::Cx;

use crate::apps::service;
use crate::install::{OPERATOR, OPERATOR_LABELS, SYSTEM, upgrade};

/// Values change so that the operators are replaced; pods made before and after are members of one mesh.
pub(crate) async fn no_request_fails_while_the_chart_is_upgraded(cx: Cx) -> Result<()> {
    let mesh = cx.meshed().await?;
    mesh.apply(&service("echo", 2, "")).await?;
    mesh.in_service("echo").await?;
    let load = Load::start(&mesh, "load", &["load", "http://echo/"]).await?;

    upgrade(&cx.cluster, &["--set", "podAnnotations.e2e=upgraded"]).await?;
    let system = cx.existing(SYSTEM);
    system.rolled_out(OPERATOR).await?;
    for pod in system.pods(OPERATOR_LABELS, 2).await? {
        let upgraded = pod.annotations().get("e2e").is_some_and(|value| value == "upgraded");
        ensure!(upgraded, "{} is of before the upgrade", pod.name_any());
    }
    load.none_failed("upgrade of the chart")?;
    mesh.apply(&service("late", 1, "")).await?;
    mesh.in_service("late").await?;
    let late = Load::start(&mesh, "late-load", &["load", "http://late/"]).await?;
    late.finish("a service made after the upgrade").await?;
    load.finish("upgrade of the chart").await?;
    Ok(())
}
