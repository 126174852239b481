//! `weft proxy` in a cluster: finds the pod that is meant and reads a page of its proxy.

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use k8s_openapi::api::apps::v1::{DaemonSet, Deployment, StatefulSet};
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::serde::de::DeserializeOwned;
use kube::api::ListParams;
use kube::core::{NamespaceResourceScope, Selector};
use kube::{Api, Resource, ResourceExt};
use weft_api::names::{CONTAINER_PROXY, LABEL_GATEWAY, PORT_ADMIN};

use crate::cluster::{Cluster, forward, list, told};
use crate::suggest;

/// What may stand before the slash, with its short form.
const KINDS: [(&str, &str); 6] = [
    ("pod", "po"),
    ("deployment", "deploy"),
    ("statefulset", "sts"),
    ("daemonset", "ds"),
    ("service", "svc"),
    ("gateway", "gtw"),
];

/// The page at `path` of the proxy of a pod, or of one pod of what is named.
pub(crate) async fn page(cluster: &Cluster, named: &str, path: &str) -> Result<Bytes> {
    let namespace = cluster.namespace.as_ref().unwrap_or(&cluster.default_namespace);
    let pods: Api<Pod> = Api::namespaced(cluster.client.clone(), namespace);
    let pod = match parse(named)? {
        ("pod", name) => {
            let pod = pods.get_opt(name).await.map_err(|error| anyhow!(told(error)))?;
            pod.with_context(|| {
                format!(
                    "there is no pod {name} in {namespace}; name its namespace with -n, or its deploy/NAME"
                )
            })?
        }
        (kind, name) => {
            let selector = selector(cluster, namespace, kind, name).await?;
            let found = list(&pods, ListParams::default().labels_from(&selector)).await;
            let found = found.map_err(|error| anyhow!(told(error)))?;
            best(found).with_context(|| format!("no pod of {kind}/{name} in {namespace} runs"))?
        }
    };
    let name = pod.name_any();
    if !has_proxy(&pod) {
        bail!("the pod {namespace}/{name} has no proxy; restart it once its namespace is in the mesh");
    }
    forward::get(&pods, &name, PORT_ADMIN, path).await
}

/// Kind, in full, and name.
fn parse(named: &str) -> Result<(&'static str, &str)> {
    let (kind, name) = named.split_once('/').unwrap_or(("pod", named));
    // kubectl prints names as in `deployment.apps/order`.
    let kind = kind.split_once('.').map_or(kind, |(kind, _)| kind);
    let singular = kind.strip_suffix('s').unwrap_or(kind);
    let known = KINDS.iter().find(|(full, short)| [kind, singular].contains(full) || kind == *short);
    match known {
        Some((full, _)) if !name.is_empty() => Ok((full, name)),
        Some(_) => bail!("`{named}` names nothing; write {kind}/NAME"),
        None => {
            let hint = suggest::hint(kind, KINDS.iter().flat_map(|(full, short)| [*full, *short]));
            bail!("`{kind}` has no pods that can be asked{hint}; write POD, deploy/NAME or svc/NAME")
        }
    }
}

async fn selector(cluster: &Cluster, namespace: &str, kind: &str, name: &str) -> Result<Selector> {
    let labels = match kind {
        "deployment" => get::<Deployment>(cluster, namespace, name).await?.spec.map(|spec| spec.selector),
        "statefulset" => get::<StatefulSet>(cluster, namespace, name).await?.spec.map(|spec| spec.selector),
        "daemonset" => get::<DaemonSet>(cluster, namespace, name).await?.spec.map(|spec| spec.selector),
        "service" => {
            let selector =
                get::<Service>(cluster, namespace, name).await?.spec.and_then(|spec| spec.selector);
            selector.map(of_labels)
        }
        _ => Some(of_labels(BTreeMap::from([(LABEL_GATEWAY.to_owned(), name.to_owned())]))),
    };
    let labels = labels.with_context(|| format!("{kind}/{name} in {namespace} selects no pods"))?;
    labels.try_into().with_context(|| format!("the selector of {kind}/{name} cannot be used"))
}

fn of_labels(labels: BTreeMap<String, String>) -> LabelSelector {
    LabelSelector { match_labels: Some(labels), match_expressions: None }
}

async fn get<K>(cluster: &Cluster, namespace: &str, name: &str) -> Result<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + DeserializeOwned
        + std::fmt::Debug,
{
    let api: Api<K> = Api::namespaced(cluster.client.clone(), namespace);
    api.get(name).await.map_err(|error| anyhow!("{} (in {namespace})", told(error)))
}

/// A pod that runs, one that is ready before others.
fn best(pods: Vec<Pod>) -> Option<Pod> {
    let runs = |pod: &Pod| {
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        phase == Some("Running") && pod.metadata.deletion_timestamp.is_none()
    };
    let running = pods.into_iter().filter(runs);
    running.min_by_key(|pod| (!super::check::is_ready(pod), pod.name_any()))
}

fn has_proxy(pod: &Pod) -> bool {
    pod.spec.as_ref().is_some_and(|spec| {
        let init = spec.init_containers.iter().flatten();
        init.chain(&spec.containers).any(|container| container.name == CONTAINER_PROXY)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn pods_and_what_has_pods_can_be_named() {
        let parsed = |text| parse(text).map_err(|error| error.to_string());
        assert_eq!(parsed("order-1"), Ok(("pod", "order-1")));
        assert_eq!(parsed("po/order-1"), Ok(("pod", "order-1")));
        assert_eq!(parsed("deploy/order"), Ok(("deployment", "order")));
        assert_eq!(parsed("deployments.apps/order"), Ok(("deployment", "order")));
        assert_eq!(parsed("svc/order"), Ok(("service", "order")));
        assert!(parsed("deploy/").unwrap_err().contains("write deploy/NAME"));
        let error = parsed("deploi/order").unwrap_err();
        assert!(error.contains("did you mean `deploy`?"), "{error}");
    }

    fn pod(name: &str, phase: &str, ready: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {"containers": [{"name": "app"}], "initContainers": [{"name": "weft-proxy"}]},
            "status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready}]},
        }))
        .unwrap()
    }

    #[test]
    fn a_ready_pod_is_asked_before_one_that_only_runs() {
        let pods =
            vec![pod("a", "Pending", "False"), pod("b", "Running", "False"), pod("c", "Running", "True")];
        assert_eq!(best(pods.clone()).unwrap().name_any(), "c");
        assert_eq!(best(pods[..2].to_vec()).unwrap().name_any(), "b");
        assert!(best(pods[..1].to_vec()).is_none());
        assert!(has_proxy(&pods[0]));
    }
}
