//! Certificates and roots are replaced while requests go on.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use serde_json::json;
use weft_crds::mesh::{MESH_NAME, Mesh};
use weft_e2e_kind::ROLLOUT;
use weft_e2e_kind::load::Load;
use weft_e2e_kind::runner::Cx;
use weft_e2e_kind::space::{Space, restarts};
use weft_e2e_kind::wait::{Goal, one, until};

use crate::apps::{labels, service};

/// The end of the first certificate moves on while nothing is restarted.
pub(crate) async fn certificates_are_renewed_under_load(cx: Cx) -> Result<()> {
    let mesh = cx.meshed().await?;
    mesh.apply(&service("echo", 2, "")).await?;
    mesh.in_service("echo").await?;
    let load = Load::start(&mesh, "load", &["load", "http://echo/"]).await?;
    renewed(&mesh).await?;
    nothing_restarted(&mesh).await?;
    load.finish("renewal of certificates").await?;
    Ok(())
}

/// A second root joins, then signs; every pod goes through it without a restart. The first one is trusted for as long as
/// certificates under it live, which is not waited for.
pub(crate) async fn root_is_rotated_under_load(cx: Cx) -> Result<()> {
    let mesh = cx.meshed().await?;
    mesh.apply(&service("echo", 2, "")).await?;
    mesh.in_service("echo").await?;
    let load = Load::start(&mesh, "load", &["load", "http://echo/"]).await?;
    let before = roots(&mesh, "there is a root", |roots| !roots.is_empty()).await?;
    let is_new = |root: &String| !before.contains(root);

    let meshes: Api<Mesh> = Api::all(cx.cluster.client.clone());
    let asked = format!("{:x}", rand::random::<u64>());
    let rotate = json!({"metadata": {"annotations": {"weft.dev/rotate-root": asked}}});
    meshes.patch(MESH_NAME, &PatchParams::default(), &Patch::Merge(rotate)).await?;
    roots(&mesh, "another root joins", |roots| roots.iter().any(is_new)).await?;
    load.progress(40).await?;
    load.none_failed("another root joined")?;
    // The root that signs is the first in the list.
    roots(&mesh, "the new root signs", |roots| roots.first().is_some_and(is_new)).await?;
    renewed(&mesh).await?;
    nothing_restarted(&mesh).await?;
    load.finish("rotation of the root").await?;
    Ok(())
}

/// Waits until every instance has a later certificate than the first has now.
async fn renewed(mesh: &Space) -> Result<()> {
    let end =
        mesh.status("echo", "certificates are known", |status| status.certificate_expires.clone()).await?;
    mesh.status("echo", "every certificate is a later one", |status| {
        status.certificate_expires.as_ref().is_some_and(|now| now.0 > end.0).then_some(())
    })
    .await
}

/// Waits until the roots that the pods of the namespace get are as wanted.
async fn roots(mesh: &Space, what: &str, wanted: impl Fn(&[String]) -> bool) -> Result<Vec<String>> {
    until(&mesh.api::<ConfigMap>(), Goal::named(what, "weft-roots", 2 * ROLLOUT), |seen| {
        let pem =
            one(seen)?.data.as_ref().and_then(|data| data.get("roots.pem")).cloned().unwrap_or_default();
        let roots: Vec<String> =
            pem.split("-----END CERTIFICATE-----").map(|root| root.trim().to_owned()).collect();
        let roots: Vec<String> = roots.into_iter().filter(|root| !root.is_empty()).collect();
        if wanted(&roots) { Ok(roots) } else { Err(format!("{} roots", roots.len())) }
    })
    .await
}

async fn nothing_restarted(mesh: &Space) -> Result<()> {
    let pods = mesh.api::<Pod>().list(&ListParams::default().labels(&labels("echo"))).await?;
    ensure!(pods.items.len() == 2, "{} instances instead of 2", pods.items.len());
    let count: i32 = pods.iter().map(restarts).sum();
    ensure!(count == 0, "containers were restarted {count} times");
    pods.items.first().context("there are two")?;
    Ok(())
}
