//! The operators of a cluster: which of them leads, and what that one says of the mesh.

use anyhow::{Context, Result, anyhow, bail};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client};
use weft_api::names::{LEASE, PORT_OPERATOR_ADMIN, SYSTEM_NAMESPACE};
use weft_api::status::MeshStatus;

use crate::cluster::{forward, told};

/// Pods of the operator.
pub(crate) const SELECTOR: &str = "app.kubernetes.io/name=weft-operator";

/// The pod that leads, by its Lease.
pub(crate) async fn leader(client: &Client) -> Result<String> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let lease = leases.get_opt(LEASE).await.map_err(|error| anyhow!(told(error)))?;
    let Some(lease) = lease else {
        bail!("no operator leads in {SYSTEM_NAMESPACE}; is Weft installed? `weft check` says more");
    };
    let pod = holder(&lease).context("no operator leads at the moment; `weft check` says more")?;
    Ok(pod.to_owned())
}

/// The pod that holds the Lease; none while nobody does.
pub(crate) fn holder(lease: &Lease) -> Option<&str> {
    let identity = lease.spec.as_ref()?.holder_identity.as_deref()?;
    let pod = identity.split_once('_').map_or(identity, |(pod, _)| pod);
    (!pod.is_empty()).then_some(pod)
}

/// What a pod of the operator says of the mesh. Only the leader knows all of it.
pub(crate) async fn mesh(client: &Client, pod: &str) -> Result<MeshStatus> {
    let pods: Api<Pod> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let page = forward::get(&pods, pod, PORT_OPERATOR_ADMIN, "/status.json").await?;
    serde_json::from_slice(&page).context("cannot read what the operator says; is it of another version?")
}
