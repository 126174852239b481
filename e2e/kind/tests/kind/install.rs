//! Installation from nothing, and that nothing is left of it.

use std::collections::BTreeSet;
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{ApiResource, DynamicObject, ListParams, PostParams};
use kube::discovery::{ApiCapabilities, ApiGroup, Discovery, verbs};
use kube::{Api, ResourceExt};
use serde_json::json;
use weft_crds::Microservice;
use weft_e2e_kind::ROLLOUT;
use weft_e2e_kind::cluster::Cluster;
use weft_e2e_kind::command::{attempt, run};
use weft_e2e_kind::runner::Cx;
use weft_e2e_kind::space::Space;
use weft_e2e_kind::wait::{Goal, eventually, until};

/// Namespace of the operator.
pub(crate) const SYSTEM: &str = "weft-system";
/// Its Deployment and service account.
pub(crate) const OPERATOR: &str = "weft-operator";
/// Labels of its pods.
pub(crate) const OPERATOR_LABELS: &str = "app.kubernetes.io/name=weft-operator";

/// What was in the cluster before; not set where Weft was installed already.
static BEFORE: OnceLock<BTreeSet<String>> = OnceLock::new();

/// The two charts, as the README says; then two operators run.
pub(crate) async fn installs_from_nothing(cx: Cx) -> Result<()> {
    let release = attempt("helm", &["status", "weft", "-n", SYSTEM]).await?;
    if release.code != Some(0) && BEFORE.get().is_none() {
        let before = objects(&cx.cluster).await?;
        BEFORE.set(before).ok().context("the installation is tested once")?;
    }
    let chart = chart(&cx.cluster, "weft-crds");
    helm_upgrade("weft-crds", &[&chart, "--create-namespace", "--wait"]).await?;
    upgrade(&cx.cluster, &[]).await?;
    let system = cx.existing(SYSTEM);
    system.rolled_out(OPERATOR).await?;
    system.pods(OPERATOR_LABELS, 2).await?;
    eventually("the webhooks answer", ROLLOUT, || async {
        admitted(&cx.cluster).await.map_err(|error| format!("{error:#}"))
    })
    .await
}

/// Whether the API server would take a Microservice and a pod of the mesh: it has heard of the webhooks' certificate.
async fn admitted(cluster: &Cluster) -> Result<()> {
    let try_only = PostParams { dry_run: true, ..PostParams::default() };
    let service = json!({
        "apiVersion": "weft.dev/v1alpha1", "kind": "Microservice", "metadata": {"name": "admitted"},
        "spec": {"ports": [{"name": "http", "port": 80}]}
    });
    let services = Api::<Microservice>::namespaced(cluster.client.clone(), "default");
    services.create(&try_only, &serde_json::from_value(service)?).await?;
    let pod = json!({
        "metadata": {"name": "admitted", "annotations": {"weft.dev/inject": "enabled"}},
        "spec": {"containers": [{"name": "app", "image": "app"}]}
    });
    let pods = Api::<Pod>::namespaced(cluster.client.clone(), "default");
    let pod = pods.create(&try_only, &serde_json::from_value(pod)?).await?;
    ensure!(pod.spec.is_some_and(|spec| spec.init_containers.is_some()), "the pod got no proxy");
    Ok(())
}

/// Installs or upgrades charts/weft with the values of these tests and further options.
pub(crate) async fn upgrade(cluster: &Cluster, more: &[&str]) -> Result<()> {
    let chart = chart(cluster, "weft");
    let values = cluster.settings.root.join("e2e/kind/values.yaml").display().to_string();
    let registry = format!("image.registry={}", cluster.settings.registry.trim_end_matches('/'));
    let args = [&[&chart, "-f", &values, "--set", &registry, "--wait", "--timeout", "4m"], more].concat();
    helm_upgrade("weft", &args).await
}

/// The folder of a chart.
pub(crate) fn chart(cluster: &Cluster, name: &str) -> String {
    cluster.settings.root.join("charts").join(name).display().to_string()
}

async fn helm_upgrade(release: &str, args: &[&str]) -> Result<()> {
    run("helm", &[&["upgrade", "--install", release, "-n", SYSTEM], args].concat()).await.map(drop)
}

/// The way back, as the README of the chart says; then every object that is there was there before.
pub(crate) async fn uninstall_leaves_nothing(cx: Cx) -> Result<()> {
    let before = BEFORE.get().context(
        "Weft was installed before the tests began, so nobody knows what was there without it; \
         run `helm uninstall weft weft-crds -n weft-system` or make a new cluster",
    )?;
    drop(attempt("helm", &["uninstall", "shop", "-n", "shop", "--wait"]).await?);
    run("kubectl", &["delete", "namespace", "-l", "weft-e2e", "--timeout=4m"]).await?;
    run("kubectl", &["delete", "microservices", "--all", "--all-namespaces", "--timeout=1m"]).await?;
    run("helm", &["uninstall", "weft", "-n", SYSTEM, "--wait"]).await?;
    run("helm", &["uninstall", "weft-crds", "-n", SYSTEM, "--wait"]).await?;
    run("kubectl", &["delete", "crd", "microservices.weft.dev", "meshes.weft.dev", "--timeout=1m"]).await?;
    leftovers(&cx.existing(SYSTEM)).await?;
    run("kubectl", &["delete", "namespace", SYSTEM, "--timeout=2m"]).await?;
    eventually("every object of the installation is gone", ROLLOUT, || async {
        let now = objects(&cx.cluster).await.map_err(|error| format!("{error:#}"))?;
        let left: Vec<&String> = now.difference(before).collect();
        let lost: Vec<&String> = before.difference(&now).collect();
        match (left.is_empty(), lost.is_empty()) {
            (true, true) => Ok(()),
            (false, _) => Err(format!("left over: {left:?}")),
            (true, false) => Err(format!("gone although it was there before: {lost:?}")),
        }
    })
    .await
}

/// What the operator made in its own namespace goes with the chart, before the namespace itself does.
async fn leftovers(system: &Space) -> Result<()> {
    let secrets = system.api::<k8s_openapi::api::core::v1::Secret>();
    let goal = Goal::labelled("the Secrets of the operator are gone", "", ROLLOUT);
    until(&secrets, goal, |seen| {
        let left: Vec<&String> = seen.keys().filter(|name| !name.starts_with("sh.helm.")).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await
}

/// Every object of the cluster but what comes and goes by itself.
async fn objects(cluster: &Cluster) -> Result<BTreeSet<String>> {
    let ending = ending(cluster).await?;
    let discovery = Discovery::new(cluster.client.clone()).run().await.context("cannot list the kinds")?;
    let listed = |(resource, capabilities): &(ApiResource, ApiCapabilities)| {
        resource.kind != "Event" && capabilities.supports_operation(verbs::LIST)
    };
    let mut all = BTreeSet::new();
    for (resource, _) in discovery.groups().flat_map(ApiGroup::recommended_resources).filter(listed) {
        let api: Api<DynamicObject> = Api::all_with(cluster.client.clone(), &resource);
        // A kind whose definition has just gone cannot be listed any more.
        let list = api.list_metadata(&ListParams::default()).await.map(|list| list.items).unwrap_or_default();
        for object in list {
            let namespace = object.namespace().unwrap_or_default();
            if !ending.contains(&namespace) {
                let (kind, group) = (&resource.plural, &resource.group);
                all.insert(format!("{kind}.{group} {namespace}/{}", object.name_any()));
            }
        }
    }
    Ok(all)
}

/// Namespaces that are being deleted, with all that is in them.
async fn ending(cluster: &Cluster) -> Result<BTreeSet<String>> {
    let all: Api<Namespace> = Api::all(cluster.client.clone());
    let namespaces = all.list(&ListParams::default()).await?;
    let going = namespaces.iter().filter(|namespace| namespace.metadata.deletion_timestamp.is_some());
    Ok(going.map(ResourceExt::name_any).collect())
}
