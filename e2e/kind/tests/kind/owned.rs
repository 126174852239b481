//! What the operator makes of a Microservice: whose it is, that it stays as it should be, and who may scale it.

use std::fmt::Debug;

use anyhow::{Result, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{ConfigMap, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;
use weft_crds::Microservice;
use weft_e2e_kind::ROLLOUT;
use weft_e2e_kind::command::run;
use weft_e2e_kind::runner::Cx;
use weft_e2e_kind::wait::{Goal, one, until};

use crate::apps::{labels, service};

const SCALED: &str = "\
apiVersion: weft.dev/v1alpha1
kind: Microservice
metadata: {name: echo}
spec:
  workload:
    image: $APP
    imagePullPolicy: IfNotPresent
    args: [serve]
    autoscaling: {min: 1, max: 5, cpuPercent: 70}
    disruption: {minAvailable: 1}
    resources: {requests: {cpu: 10m}}
  ports: [{name: http, port: 80, targetPort: 8080, protocol: HTTP}]
";

/// Not Weft's, although it looks like it.
const FOREIGN: &str = "\
apiVersion: v1
kind: ConfigMap
metadata:
  name: echo
  labels: {app.kubernetes.io/name: echo, app.kubernetes.io/managed-by: weft, weft.dev/microservice: echo}
---
apiVersion: v1
kind: Service
metadata: {name: echo-by-hand, labels: {app.kubernetes.io/name: echo}}
spec: {selector: {app.kubernetes.io/name: echo}, ports: [{port: 80, targetPort: 8080}]}
";

/// Five objects with an owner reference; they go with their Microservice, and what others made stays.
pub(crate) async fn objects_belong_to_the_microservice_and_go_with_it(cx: Cx) -> Result<()> {
    let mesh = cx.meshed().await?;
    mesh.apply(SCALED).await?;
    mesh.apply(FOREIGN).await?;
    let uid = mesh.api::<Microservice>().get("echo").await?.uid().unwrap_or_default();
    owned(&mesh.api::<ServiceAccount>(), &uid).await?;
    owned(&mesh.api::<Service>(), &uid).await?;
    owned(&mesh.api::<Deployment>(), &uid).await?;
    let budget = owned(&mesh.api::<PodDisruptionBudget>(), &uid).await?;
    let scaler = owned(&mesh.api::<HorizontalPodAutoscaler>(), &uid).await?;
    let bounds = scaler.spec.map(|spec| (spec.min_replicas, spec.max_replicas));
    ensure!(bounds == Some((Some(1), 5)), "the autoscaler's bounds are {bounds:?}");
    ensure!(budget.spec.is_some_and(|spec| spec.min_available.is_some()), "the budget keeps nothing");

    mesh.api::<Microservice>().delete("echo", &DeleteParams::default()).await?;
    gone(&mesh.api::<Deployment>()).await?;
    gone(&mesh.api::<Service>()).await?;
    gone(&mesh.api::<ServiceAccount>()).await?;
    gone(&mesh.api::<HorizontalPodAutoscaler>()).await?;
    gone(&mesh.api::<PodDisruptionBudget>()).await?;
    mesh.pods(&labels("echo"), 0).await?;
    mesh.api::<ConfigMap>().get("echo").await?;
    mesh.api::<Service>().get("echo-by-hand").await?;
    Ok(())
}

/// A field changed by hand and an object deleted by hand come back.
pub(crate) async fn drift_is_put_right(cx: Cx) -> Result<()> {
    let mesh = cx.meshed().await?;
    mesh.apply(&service("echo", 1, "")).await?;
    mesh.in_service("echo").await?;

    let other = json!({"spec": {"template": {"spec": {"terminationGracePeriodSeconds": 7}}}});
    let deployments = mesh.api::<Deployment>();
    let grace = |deployment: &Deployment| {
        let pod = deployment.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
        pod.and_then(|pod| pod.termination_grace_period_seconds)
    };
    let before = grace(&deployments.get("echo").await?);
    deployments.patch("echo", &PatchParams::apply("by-hand"), &Patch::Merge(other)).await?;
    until(&deployments, Goal::named("the Deployment is as it was", "echo", ROLLOUT), |seen| {
        let now = grace(one(seen)?);
        if now == before { Ok(()) } else { Err(format!("grace is {now:?}, was {before:?}")) }
    })
    .await?;

    let services = mesh.api::<Service>();
    let old = services.get("echo").await?.uid();
    services.delete("echo", &DeleteParams::default()).await?;
    until(&services, Goal::named("the Service is there again", "echo", ROLLOUT), |seen| {
        if one(seen)?.uid() == old { Err("it is still the old one".to_owned()) } else { Ok(()) }
    })
    .await?;
    mesh.in_service("echo").await
}

/// Under an autoscaler the number is left alone; without one it is the Microservice's.
pub(crate) async fn scaling_by_hand_is_respected_under_an_autoscaler(cx: Cx) -> Result<()> {
    let mesh = cx.meshed().await?;
    mesh.apply(SCALED).await?;
    mesh.in_service("echo").await?;
    run("kubectl", &["-n", &mesh.name, "scale", "deployment/echo", "--replicas=2"]).await?;
    mesh.pods(&labels("echo"), 2).await?;
    // The operator acts on this resource again, and leaves the number.
    let change = json!({"spec": {"workload": {"env": [{"name": "CHANGED", "value": "yes"}]}}});
    mesh.patch_microservice("echo", change).await?;
    let what = "the change has arrived";
    let deployment = until(&mesh.api::<Deployment>(), Goal::named(what, "echo", ROLLOUT), |seen| {
        let deployment = one(seen)?;
        let env = deployment.spec.as_ref().and_then(|spec| spec.template.spec.as_ref());
        let env = env.and_then(|pod| pod.containers.first()).and_then(|first| first.env.clone());
        let arrived = env.iter().flatten().any(|variable| variable.name == "CHANGED");
        if arrived { Ok(deployment.clone()) } else { Err(format!("its environment is {env:?}")) }
    })
    .await?;
    let replicas = deployment.spec.and_then(|spec| spec.replicas);
    ensure!(replicas == Some(2), "kubectl scale said 2, now it is {replicas:?}");

    let fixed = json!({"spec": {"workload": {"autoscaling": null, "replicas": 1}}});
    mesh.patch_microservice("echo", fixed).await?;
    gone(&mesh.api::<HorizontalPodAutoscaler>()).await?;
    mesh.pods(&labels("echo"), 1).await?;
    Ok(())
}

/// The object of this kind called like the Microservice, once it belongs to it.
async fn owned<K>(api: &Api<K>, uid: &str) -> Result<K>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let what =
        format!("{} {}/echo belongs to the Microservice", K::kind(&()), api.namespace().unwrap_or_default());
    until(api, Goal::named(&what, "echo", ROLLOUT), |seen| {
        let object = one(seen)?;
        let owners = object.owner_references();
        let belongs = owners.iter().any(|owner| owner.uid == uid && owner.kind == "Microservice");
        let labelled = object.labels().get("app.kubernetes.io/managed-by").is_some_and(|by| by == "weft");
        if belongs && labelled {
            return Ok(object.clone());
        }
        Err(format!("owners {owners:?}, labels {:?}", object.labels()))
    })
    .await
}

async fn gone<K>(api: &Api<K>) -> Result<()>
where
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let what = format!("{} {}/echo is gone", K::kind(&()), api.namespace().unwrap_or_default());
    until(api, Goal::named(&what, "echo", ROLLOUT), |seen| {
        if seen.is_empty() { Ok(()) } else { Err("it is there".to_owned()) }
    })
    .await
}
