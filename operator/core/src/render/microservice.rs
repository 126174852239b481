//! What a Microservice that says what to run is made into: ServiceAccount, Service, Deployment, and where it asks for
//! them an autoscaler and a disruption budget.

use k8s_openapi::api::autoscaling::v2::{
    ContainerResourceMetricSource, CrossVersionObjectReference, HorizontalPodAutoscaler,
    HorizontalPodAutoscalerSpec, MetricSpec, MetricTarget,
};
use k8s_openapi::api::core::v1::{Service, ServiceAccount, ServicePort, ServiceSpec};
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use weft_crds::microservice::{Autoscaling, Disruption, Microservice, Port, Protocol, Workload};

use super::{Owned, OwnedKind, Owner, deployment};

pub(super) fn objects(owner: &Owner, service: &Microservice, workload: &Workload) -> Vec<Owned> {
    let mut objects = Vec::new();
    // One that is named is the user's own, with rights and secrets that are none of the mesh's business.
    if workload.service_account_name.is_none() {
        let account = ServiceAccount { metadata: owner.meta(), ..ServiceAccount::default() };
        objects.push(owner.owned(OwnedKind::ServiceAccount, &account));
    }
    objects.push(owner.owned(OwnedKind::Service, &cluster_service(owner, &service.spec.ports)));
    objects.push(owner.owned(OwnedKind::Deployment, &deployment::of(owner, &service.spec.ports, workload)));
    if let Some(disruption) = &workload.disruption {
        objects.push(owner.owned(OwnedKind::PodDisruptionBudget, &budget(owner, disruption)));
    }
    if let Some(scaling) = &workload.autoscaling {
        objects.push(owner.owned(OwnedKind::HorizontalPodAutoscaler, &autoscaler(owner, scaling)));
    }
    objects
}

fn cluster_service(owner: &Owner, ports: &[Port]) -> Service {
    let port = |port: &Port| ServicePort {
        name: Some(port.name.clone()),
        port: port.port.into(),
        target_port: Some(IntOrString::Int(port.target().into())),
        protocol: Some("TCP".to_owned()),
        app_protocol: port.protocol.map(|protocol| app_protocol(protocol).to_owned()),
        ..ServicePort::default()
    };
    let spec = ServiceSpec {
        selector: Some(owner.selector.clone()),
        ports: Some(ports.iter().map(port).collect()),
        ..ServiceSpec::default()
    };
    Service { metadata: owner.meta(), spec: Some(spec), status: None }
}

/// Standard names where there are (KEP-3726), so that others than us understand them too.
fn app_protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http => "http",
        Protocol::Http2 => "kubernetes.io/h2c",
        Protocol::Grpc => "grpc",
        Protocol::Tcp => "tcp",
    }
}

/// By the use of the application's own container: a proxy's is no reason for more instances, and need not be requested.
fn autoscaler(owner: &Owner, scaling: &Autoscaling) -> HorizontalPodAutoscaler {
    let number = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    let cpu = ContainerResourceMetricSource {
        name: "cpu".to_owned(),
        container: owner.name.name.clone(),
        target: MetricTarget {
            type_: "Utilization".to_owned(),
            average_utilization: Some(number(scaling.cpu_percent)),
            ..MetricTarget::default()
        },
    };
    let spec = HorizontalPodAutoscalerSpec {
        scale_target_ref: CrossVersionObjectReference {
            api_version: Some("apps/v1".to_owned()),
            kind: "Deployment".to_owned(),
            name: owner.name.name.clone(),
        },
        min_replicas: Some(number(scaling.min)),
        max_replicas: number(scaling.max),
        metrics: Some(vec![MetricSpec {
            type_: "ContainerResource".to_owned(),
            container_resource: Some(cpu),
            ..MetricSpec::default()
        }]),
        ..HorizontalPodAutoscalerSpec::default()
    };
    HorizontalPodAutoscaler { metadata: owner.meta(), spec: Some(spec), status: None }
}

pub(super) fn budget(owner: &Owner, disruption: &Disruption) -> PodDisruptionBudget {
    let spec = PodDisruptionBudgetSpec {
        min_available: disruption.min_available.clone(),
        max_unavailable: disruption.max_unavailable.clone(),
        selector: Some(owner.label_selector()),
        // An instance that serves nothing anyway must not hold up a drain for ever.
        unhealthy_pod_eviction_policy: Some("AlwaysAllow".to_owned()),
    };
    PodDisruptionBudget { metadata: owner.meta(), spec: Some(spec), status: None }
}
