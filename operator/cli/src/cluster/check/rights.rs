//! Whether whoever calls `weft check` may install the charts: a review per kind, by the API server.

use anyhow::Result;
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::{Api, Client};
use weft_api::names::SYSTEM_NAMESPACE;

use crate::cluster::told;

/// Group and resource of what the charts hold, and the namespace of those that are in one.
const NEEDED: [(&str, &str, &str); 11] = [
    ("", "namespaces", ""),
    ("apiextensions.k8s.io", "customresourcedefinitions", ""),
    ("rbac.authorization.k8s.io", "clusterroles", ""),
    ("rbac.authorization.k8s.io", "clusterrolebindings", ""),
    ("admissionregistration.k8s.io", "mutatingwebhookconfigurations", ""),
    ("admissionregistration.k8s.io", "validatingwebhookconfigurations", ""),
    ("rbac.authorization.k8s.io", "roles", SYSTEM_NAMESPACE),
    ("apps", "deployments", SYSTEM_NAMESPACE),
    ("policy", "poddisruptionbudgets", SYSTEM_NAMESPACE),
    ("", "services", SYSTEM_NAMESPACE),
    // Where Helm keeps its releases.
    ("", "secrets", SYSTEM_NAMESPACE),
];

/// What may not be created.
pub(crate) async fn denied(client: &Client) -> Result<Vec<String>, String> {
    let reviews: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let mut denied = Vec::new();
    for (group, resource, namespace) in NEEDED {
        let review = review(group, resource, namespace);
        let answer = reviews.create(&PostParams::default(), &review).await.map_err(told)?;
        if !answer.status.is_some_and(|status| status.allowed) {
            denied.push(resource.to_owned());
        }
    }
    Ok(denied)
}

fn review(group: &str, resource: &str, namespace: &str) -> SelfSubjectAccessReview {
    let attributes = ResourceAttributes {
        verb: Some("create".into()),
        group: Some(group.into()),
        resource: Some(resource.into()),
        namespace: (!namespace.is_empty()).then(|| namespace.into()),
        ..ResourceAttributes::default()
    };
    SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(attributes),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    }
}
