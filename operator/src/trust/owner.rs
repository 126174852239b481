//! Who owns what the operator makes for itself: the `ClusterRole` of the chart. It goes with the release, and with it the
//! authority and the roots of every namespace, wherever the operator is by then.

use std::time::Duration;

use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::{Api, Client, Resource};
use tracing::debug;
use weft_api::names::OPERATOR_ACCOUNT;

const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// The owner; none where the operator was not installed by the chart, or may not look.
pub(crate) async fn installation(client: &Client) -> Option<OwnerReference> {
    let roles: Api<ClusterRole> = Api::all(client.clone());
    let role = tokio::time::timeout(ANSWER_WITHIN, roles.get_metadata(OPERATOR_ACCOUNT)).await.ok()?;
    let role = role.inspect_err(|error| debug!(%error, "no owner for what the operator makes")).ok()?;
    Some(OwnerReference {
        api_version: ClusterRole::api_version(&()).into_owned(),
        kind: ClusterRole::kind(&()).into_owned(),
        name: role.metadata.name?,
        uid: role.metadata.uid?,
        ..OwnerReference::default()
    })
}
