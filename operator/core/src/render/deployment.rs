//! The Deployment of a Microservice: one container as the resource says, with what a careful hand would add (not root,
//! spread over nodes, no gap while rolling, probes). The proxy is not in it: injection adds it to the pods.

use std::collections::BTreeSet;

use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, DeploymentStrategy, RollingUpdateDeployment};
use k8s_openapi::api::core::v1::{
    Capabilities, Container, ContainerPort, PodSecurityContext, PodSpec, PodTemplateSpec, SeccompProfile,
    SecurityContext, TopologySpreadConstraint,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use weft_crds::microservice::workload::ImagePullPolicy;
use weft_crds::microservice::{Port, Workload};

use super::{Owner, probes};

/// Time for an instance to end: what waits for callers to learn of it, then requests in flight, then the proxy.
pub(super) const GRACE_SECONDS: i64 = 45;

pub(super) fn of(owner: &Owner, ports: &[Port], workload: &Workload) -> Deployment {
    let pod = PodSpec {
        containers: vec![container(owner, ports, workload)],
        image_pull_secrets: not_empty(&workload.image_pull_secrets),
        volumes: not_empty(&workload.volumes),
        ..pod(owner, workload.service_account_name.as_ref())
    };
    // Under an autoscaler, and where none is given, the number is left to who scales.
    let replicas = workload.replicas.map(|replicas| i32::try_from(replicas).unwrap_or(i32::MAX));
    deployment(owner, replicas, pod)
}

/// A Deployment that rolls without a gap.
pub(super) fn deployment(owner: &Owner, replicas: Option<i32>, pod: PodSpec) -> Deployment {
    let template = PodTemplateSpec {
        metadata: Some(ObjectMeta { labels: Some(owner.labels()), ..ObjectMeta::default() }),
        spec: Some(pod),
    };
    let rolling = RollingUpdateDeployment {
        max_unavailable: Some(IntOrString::Int(0)),
        max_surge: Some(IntOrString::String("25%".to_owned())),
    };
    let spec = DeploymentSpec {
        replicas,
        selector: owner.label_selector(),
        strategy: Some(DeploymentStrategy {
            type_: Some("RollingUpdate".to_owned()),
            rolling_update: Some(rolling),
        }),
        template,
        ..DeploymentSpec::default()
    };
    Deployment { metadata: owner.meta(), spec: Some(spec), status: None }
}

/// What the pods of services and gateways have in common.
pub(super) fn pod(owner: &Owner, account: Option<&String>) -> PodSpec {
    PodSpec {
        service_account_name: Some(account.unwrap_or(&owner.name.name).clone()),
        security_context: Some(PodSecurityContext {
            seccomp_profile: Some(seccomp_default()),
            ..PodSecurityContext::default()
        }),
        topology_spread_constraints: Some(
            ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
                .map(|topology| spread(owner, topology))
                .to_vec(),
        ),
        termination_grace_period_seconds: Some(GRACE_SECONDS),
        ..PodSpec::default()
    }
}

/// A preference only: where there is but one node, all run on it. Counted anew for every rollout.
fn spread(owner: &Owner, topology: &str) -> TopologySpreadConstraint {
    TopologySpreadConstraint {
        max_skew: 1,
        topology_key: topology.to_owned(),
        when_unsatisfiable: "ScheduleAnyway".to_owned(),
        label_selector: Some(owner.label_selector()),
        match_label_keys: Some(vec!["pod-template-hash".to_owned()]),
        ..TopologySpreadConstraint::default()
    }
}

fn container(owner: &Owner, ports: &[Port], workload: &Workload) -> Container {
    let probes = probes::of(ports, workload.health.as_ref());
    let pull_policy = workload.image_pull_policy.map(|policy| match policy {
        ImagePullPolicy::Always => "Always",
        ImagePullPolicy::IfNotPresent => "IfNotPresent",
        ImagePullPolicy::Never => "Never",
    });
    Container {
        name: owner.name.name.clone(),
        image: Some(workload.image.clone()),
        image_pull_policy: pull_policy.map(str::to_owned),
        command: not_empty(&workload.command),
        args: not_empty(&workload.args),
        env: not_empty(&workload.env),
        env_from: not_empty(&workload.env_from),
        ports: Some(container_ports(ports)),
        resources: workload.resources.clone(),
        volume_mounts: not_empty(&workload.volume_mounts),
        security_context: Some(restricted(workload.security_context.clone().unwrap_or_default())),
        startup_probe: probes.startup,
        readiness_probe: probes.readiness,
        liveness_probe: probes.liveness,
        ..Container::default()
    }
}

/// Each number once: two ports of the service may lead to one of the process.
fn container_ports(ports: &[Port]) -> Vec<ContainerPort> {
    let mut seen = BTreeSet::new();
    let new = ports.iter().filter(|port| seen.insert(port.target()));
    new.map(|port| ContainerPort {
        name: Some(port.name.clone()),
        container_port: port.target().into(),
        protocol: Some("TCP".to_owned()),
        ..ContainerPort::default()
    })
    .collect()
}

/// What Pod Security calls restricted, where the user does not say otherwise.
pub(super) fn restricted(given: SecurityContext) -> SecurityContext {
    let none = Capabilities { drop: Some(vec!["ALL".to_owned()]), ..Capabilities::default() };
    // A user who says to run as root means it; Kubernetes would refuse the pair.
    let as_root = given.run_as_user == Some(0);
    SecurityContext {
        allow_privilege_escalation: given.allow_privilege_escalation.or(Some(given.privileged == Some(true))),
        capabilities: given.capabilities.or(Some(none)),
        run_as_non_root: given.run_as_non_root.or(Some(!as_root)),
        ..given
    }
}

fn seccomp_default() -> SeccompProfile {
    SeccompProfile { type_: "RuntimeDefault".to_owned(), localhost_profile: None }
}

/// An empty list is left out: applied, it would mean that there must be none.
fn not_empty<T: Clone>(list: &[T]) -> Option<Vec<T>> {
    (!list.is_empty()).then(|| list.to_vec())
}
