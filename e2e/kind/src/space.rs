//! A namespace of a test's own: what is applied in it, asked of it and waited for in it.

use anyhow::{Context, Result};
use k8s_openapi::api::apps::v1::{Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{Namespace, Pod, ServiceAccount};
use kube::api::{DeleteParams, DynamicObject, LogParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::json;
use weft_crds::Microservice;
use weft_crds::microservice::MicroserviceStatus;

use crate::cluster::Cluster;
use crate::exec::Place;
use crate::wait::{Goal, Seen, one, until};
use crate::{ROLLOUT, SOON};

/// Label that puts the pods of a namespace into the mesh.
pub const INJECT: &str = "weft.dev/inject";

/// A namespace.
#[derive(Clone)]
pub struct Space {
    /// Of the cluster.
    pub cluster: Cluster,
    /// Its name.
    pub name: String,
}

impl Space {
    /// Makes it; its pods are in the mesh where `meshed`.
    pub async fn create(cluster: &Cluster, name: &str, meshed: bool) -> Result<Self> {
        let inject = if meshed { "enabled" } else { "disabled" };
        let manifest = json!({
            "apiVersion": "v1", "kind": "Namespace",
            "metadata": {"name": name, "labels": {INJECT: inject, "weft-e2e": "true"}},
        });
        cluster.apply("", &manifest.to_string()).await?;
        let space = Self { cluster: cluster.clone(), name: name.to_owned() };
        // Without it no pod is admitted, not even on trial.
        let goal = Goal::named("the namespace has its default service account", "default", SOON);
        until(&space.api::<ServiceAccount>(), goal, |seen| one(seen).map(drop)).await?;
        Ok(space)
    }

    /// One that is there already.
    pub fn existing(cluster: &Cluster, name: &str) -> Self {
        Self { cluster: cluster.clone(), name: name.to_owned() }
    }

    /// Asks for its deletion, without waiting for it.
    pub async fn delete(&self) -> Result<()> {
        let all: Api<Namespace> = Api::all(self.cluster.client.clone());
        match all.delete(&self.name, &DeleteParams::background()).await {
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            result => result.map(drop).with_context(|| format!("cannot delete namespace {}", self.name)),
        }
    }

    /// The objects of a kind in it.
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.cluster.client.clone(), &self.name)
    }

    /// Applies manifests; `$NS` in them is its name, `$APP` and `$TOOLS` are the tests' images.
    pub async fn apply(&self, yaml: &str) -> Result<Vec<DynamicObject>> {
        self.cluster.apply(&self.name, &yaml.replace("$NS", &self.name)).await
    }

    /// Changes a Microservice by a merge patch.
    pub async fn patch_microservice(&self, name: &str, patch: serde_json::Value) -> Result<Microservice> {
        let api = self.api::<Microservice>();
        let patched = api.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await;
        patched.with_context(|| format!("cannot patch Microservice {}/{name}", self.name))
    }

    /// A pod that does nothing, with a service account of its own name: somewhere to send requests from.
    pub async fn caller(&self, name: &str) -> Result<Place> {
        self.apply(&caller(name)).await?;
        self.ready_pod(name).await?;
        Ok(self.place(name, "app"))
    }

    /// A container to run commands in.
    pub fn place(&self, pod: &str, container: &str) -> Place {
        Place::new(self.api(), pod, container)
    }

    /// The application's container of a ready pod with these labels.
    pub async fn place_of(&self, labels: &str) -> Result<Place> {
        let goal = Goal::labelled("a ready pod", labels, ROLLOUT);
        let api = self.api::<Pod>();
        let found = until(&api, goal, |pods| {
            let ready = pods.values().find(|pod| is_ready(pod) && !is_ending(pod));
            ready.cloned().ok_or_else(|| format!("pods labelled {labels}: {}", told(pods)))
        });
        let pod = found.await.with_context(|| format!("in namespace {}", self.name))?;
        let containers = pod.spec.as_ref().map(|spec| spec.containers.as_slice()).unwrap_or_default();
        let first = containers.first().context("a pod has containers")?;
        Ok(self.place(&pod.name_any(), &first.name))
    }

    /// Waits until a pod is ready.
    pub async fn ready_pod(&self, name: &str) -> Result<Pod> {
        let what = format!("pod {}/{name} is ready", self.name);
        until(&self.api::<Pod>(), Goal::named(&what, name, ROLLOUT), |pods| {
            let pod = one(pods)?;
            if is_ready(pod) { Ok(pod.clone()) } else { Err(told(pods)) }
        })
        .await
    }

    /// Waits until a pod has ended well.
    pub async fn succeeded_pod(&self, name: &str) -> Result<()> {
        let what = format!("pod {}/{name} has succeeded", self.name);
        until(&self.api::<Pod>(), Goal::named(&what, name, ROLLOUT), |pods| match phase(one(pods)?) {
            "Succeeded" => Ok(()),
            _ => Err(told(pods)),
        })
        .await
    }

    /// Waits until a Deployment runs what its spec says, all of it, and nothing else.
    pub async fn rolled_out(&self, name: &str) -> Result<Deployment> {
        let what = format!("Deployment {}/{name} is rolled out", self.name);
        until(&self.api::<Deployment>(), Goal::named(&what, name, ROLLOUT), |seen| {
            let deployment = one(seen)?;
            rollout(deployment).map(|()| deployment.clone())
        })
        .await
    }

    /// Waits until every replica of a `StatefulSet` is ready.
    pub async fn stateful_set_ready(&self, name: &str) -> Result<()> {
        let what = format!("StatefulSet {}/{name} is ready", self.name);
        until(&self.api::<StatefulSet>(), Goal::named(&what, name, ROLLOUT), |seen| {
            let set = one(seen)?;
            let wanted = set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
            let ready = set.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or(0);
            if ready == wanted { Ok(()) } else { Err(format!("{ready} of {wanted} replicas are ready")) }
        })
        .await
    }

    /// Waits until so many pods with these labels are ready and no other is left.
    pub async fn pods(&self, labels: &str, count: usize) -> Result<Vec<Pod>> {
        let what = format!("{count} pods labelled {labels} in {}", self.name);
        until(&self.api::<Pod>(), Goal::labelled(&what, labels, ROLLOUT), |pods| {
            if pods.len() == count && pods.values().all(is_ready) {
                return Ok(pods.values().cloned().collect());
            }
            Err(told(pods))
        })
        .await
    }

    /// Waits until the status of a Microservice is as `check` wants it.
    pub async fn status<T>(
        &self,
        name: &str,
        what: &str,
        mut check: impl FnMut(&MicroserviceStatus) -> Option<T>,
    ) -> Result<T> {
        let what = format!("status of Microservice {}/{name}: {what}", self.name);
        until(&self.api::<Microservice>(), Goal::named(&what, name, ROLLOUT), |seen| {
            let service = one(seen)?;
            let status = service.status.as_ref().ok_or("it has no status; is the operator running?")?;
            check(status).ok_or_else(|| serde_json::to_string(status).unwrap_or_default())
        })
        .await
    }

    /// Waits until a condition of a Microservice has this status and reason; gives its message.
    pub async fn condition(&self, name: &str, condition: (&str, &str, &str)) -> Result<String> {
        let (kind, value, reason) = condition;
        self.status(name, &format!("{kind}={value} for {reason}"), |status| {
            let found = status.conditions.iter().find(|condition| condition.type_ == kind)?;
            (found.status == value && found.reason == reason).then(|| found.message.clone())
        })
        .await
    }

    /// Waits until a Microservice is accepted, ready and meshed.
    pub async fn in_service(&self, name: &str) -> Result<()> {
        let holds = |status: &MicroserviceStatus, kind: &str| {
            status.conditions.iter().any(|condition| condition.type_ == kind && condition.status == "True")
        };
        self.status(name, "Accepted, Ready and Meshed", |status| {
            ["Accepted", "Ready", "Meshed"].iter().all(|kind| holds(status, kind)).then_some(())
        })
        .await
    }

    /// The log of a container.
    pub async fn log(&self, pod: &str, container: &str) -> Result<String> {
        let params = LogParams { container: Some(container.to_owned()), ..LogParams::default() };
        let log = self.api::<Pod>().logs(pod, &params).await;
        log.with_context(|| format!("cannot read the log of {}/{pod} ({container})", self.name))
    }

    /// Waits until a container's log has a line that `take` takes.
    pub async fn logged<T>(
        &self,
        container: (&str, &str),
        what: &str,
        take: impl Fn(&str) -> Option<T>,
    ) -> Result<T> {
        let (pod, container) = container;
        crate::wait::eventually(&format!("log of {pod} ({container}): {what}"), SOON, || async {
            let log = self.log(pod, container).await.map_err(|error| format!("{error:#}"))?;
            let tail = || log.lines().rev().take(5).collect::<Vec<_>>().join("\n");
            log.lines().find_map(&take).ok_or_else(|| format!("the last lines of the log are:\n{}", tail()))
        })
        .await
    }
}

fn caller(name: &str) -> String {
    format!(
        "\
apiVersion: v1
kind: ServiceAccount
metadata: {{name: {name}}}
---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, labels: {{app: {name}}}}}
spec:
  serviceAccountName: {name}
  terminationGracePeriodSeconds: 5
  containers: [{{name: app, image: $APP, args: [idle]}}]
"
    )
}

fn rollout(deployment: &Deployment) -> Result<(), String> {
    let wanted = deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1);
    let status = deployment.status.clone().unwrap_or_default();
    let observed = status.observed_generation.unwrap_or(0);
    let generation = deployment.metadata.generation.unwrap_or(0);
    let numbers = [status.replicas, status.updated_replicas, status.available_replicas];
    let [all, updated, available] = numbers.map(Option::unwrap_or_default);
    if observed >= generation && all == wanted && updated == wanted && available == wanted {
        return Ok(());
    }
    Err(format!(
        "{wanted} wanted, {all} there, {updated} updated, {available} available; generation {generation}, seen {observed}"
    ))
}

/// Whether a pod's Ready condition holds.
pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.is_some_and(|all| {
        all.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True")
    })
}

/// Whether a pod is on its way out.
pub fn is_ending(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_some()
}

/// Whether a pod has the mesh's proxy.
pub fn has_proxy(pod: &Pod) -> bool {
    let init = pod.spec.as_ref().and_then(|spec| spec.init_containers.as_ref());
    init.is_some_and(|containers| containers.iter().any(|container| container.name == "weft-proxy"))
}

/// How often containers of a pod were restarted.
pub fn restarts(pod: &Pod) -> i32 {
    let status = pod.status.as_ref();
    let statuses = |of: Option<&Vec<_>>| -> i32 {
        of.into_iter()
            .flatten()
            .map(|container: &k8s_openapi::api::core::v1::ContainerStatus| container.restart_count)
            .sum()
    };
    statuses(status.and_then(|status| status.container_statuses.as_ref()))
        + statuses(status.and_then(|status| status.init_container_statuses.as_ref()))
}

fn phase(pod: &Pod) -> &str {
    pod.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Unknown")
}

/// Pods in one line: phase, and of each container that does not run why.
pub fn told(pods: &Seen<Pod>) -> String {
    if pods.is_empty() {
        return "no pod".to_owned();
    }
    pods.values().map(tell).collect::<Vec<_>>().join("; ")
}

fn tell(pod: &Pod) -> String {
    let status = pod.status.clone().unwrap_or_default();
    let containers = status.init_container_statuses.iter().chain(&status.container_statuses).flatten();
    let states = containers.filter(|container| !container.ready).map(|container| {
        let state = container.state.clone().unwrap_or_default();
        let waiting = state.waiting.map(|waiting| {
            format!("{}: {}", waiting.reason.unwrap_or_default(), waiting.message.unwrap_or_default())
        });
        let ended = state.terminated.map(|end| format!("ended with {}", end.exit_code));
        let how = waiting.or(ended).unwrap_or_else(|| "not ready".to_owned());
        format!("{} {how} ({} restarts)", container.name, container.restart_count)
    });
    let states = states.collect::<Vec<_>>().join(", ");
    let ending = if is_ending(pod) { ", ending" } else { "" };
    let unscheduled = status
        .conditions
        .iter()
        .flatten()
        .find(|condition| condition.type_ == "PodScheduled" && condition.status != "True");
    let unscheduled = unscheduled
        .and_then(|condition| condition.message.clone())
        .map(|why| format!(" not scheduled: {why}"));
    format!("{} {}{ending}{} [{states}]", pod.name_any(), phase(pod), unscheduled.unwrap_or_default())
}
