//! Kinds as the API server's client names them.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::autoscaling::v2::HorizontalPodAutoscaler;
use k8s_openapi::api::core::v1::{Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::api::{ApiResource, DynamicObject};
use kube::{Api, Client};
use weft_core::render::OwnedKind;
use weft_core::world::{Name, ObjectKind};
use weft_crds::gateway::Gateway;
use weft_crds::gateway_class::GatewayClass;
use weft_crds::grpc_route::GrpcRoute;
use weft_crds::http_route::HttpRoute;
use weft_crds::tls_route::TlsRoute;
use weft_crds::{Mesh, Microservice};

/// A kind that the operator makes.
pub(super) fn owned(kind: OwnedKind) -> ApiResource {
    match kind {
        OwnedKind::ServiceAccount => ApiResource::erase::<ServiceAccount>(&()),
        OwnedKind::Service => ApiResource::erase::<Service>(&()),
        OwnedKind::Deployment => ApiResource::erase::<Deployment>(&()),
        OwnedKind::PodDisruptionBudget => ApiResource::erase::<PodDisruptionBudget>(&()),
        OwnedKind::HorizontalPodAutoscaler => ApiResource::erase::<HorizontalPodAutoscaler>(&()),
    }
}

/// A kind with a status that the operator writes, at its newest version.
pub(super) fn with_status(kind: ObjectKind) -> Option<ApiResource> {
    Some(match kind {
        ObjectKind::Microservice => ApiResource::erase::<Microservice>(&()),
        ObjectKind::Mesh => ApiResource::erase::<Mesh>(&()),
        ObjectKind::Gateway => ApiResource::erase::<Gateway>(&()),
        ObjectKind::HttpRoute => ApiResource::erase::<HttpRoute>(&()),
        ObjectKind::GrpcRoute => ApiResource::erase::<GrpcRoute>(&()),
        ObjectKind::TlsRoute => ApiResource::erase::<TlsRoute>(&()),
        ObjectKind::GatewayClass => ApiResource::erase::<GatewayClass>(&()),
        _ => return None,
    })
}

/// A kind of routes, at every version that a cluster may have it at.
pub(super) fn of_route(kind: ObjectKind) -> Vec<ApiResource> {
    if kind == ObjectKind::TlsRoute {
        return TlsRoute::resources();
    }
    with_status(kind).into_iter().collect()
}

/// Objects of a kind where that name is.
pub(super) fn api(client: &Client, resource: &ApiResource, name: &Name) -> Api<DynamicObject> {
    if name.namespace.is_empty() {
        Api::all_with(client.clone(), resource)
    } else {
        Api::namespaced_with(client.clone(), &name.namespace, resource)
    }
}
