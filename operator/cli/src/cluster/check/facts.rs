//! What `weft check` looks at, read from the API server and from the leading operator. What may not be read is a fact
//! too, with the reason; judging is verdict.rs's.

use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::version::Info;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};
use weft_api::names::{
    INJECT, INJECT_ENABLED, LEASE, NEVER_INJECTED, OPERATOR_ACCOUNT, ROOTS_CONFIG_MAP, SYSTEM_NAMESPACE,
    VALIDATING_WEBHOOK,
};
use weft_api::status::MeshStatus;

use crate::cluster::check::probe::{self, Probe};
use crate::cluster::check::rights;
use crate::cluster::{Cluster, list, operators, told};

/// A fact, or why it is not known.
pub(crate) type Seen<T> = Result<T, String>;

/// What there is with and without Weft.
pub(crate) struct Facts {
    /// Version of the API server.
    pub(crate) version: Seen<Info>,
    /// Kinds of `gateway.networking.k8s.io/v1`; none where it is not installed.
    pub(crate) gateway_kinds: Seen<Vec<String>>,
    /// Definitions of Weft.
    pub(crate) definitions: Seen<Vec<CustomResourceDefinition>>,
    /// All mutating webhooks.
    pub(crate) mutating: Seen<Vec<MutatingWebhookConfiguration>>,
    /// The validator of Weft.
    pub(crate) validator: Seen<Option<ValidatingWebhookConfiguration>>,
    /// Namespaces of the mesh: those that are looked at.
    pub(crate) meshed: Seen<Vec<Namespace>>,
    /// The operator and what comes with it.
    pub(crate) operator: Seen<Installed>,
}

/// Whether the operator is installed.
pub(crate) enum Installed {
    /// It is not; what may not be created then.
    No(Seen<Vec<String>>),
    /// It is.
    Yes(Box<Operator>),
}

/// What there is with Weft.
pub(crate) struct Operator {
    /// The Deployment.
    pub(crate) deployment: Deployment,
    /// Its pods.
    pub(crate) pods: Seen<Vec<Pod>>,
    /// Who leads.
    pub(crate) lease: Seen<Option<Lease>>,
    /// What the leader says.
    pub(crate) mesh: Seen<MeshStatus>,
    /// Roots in all namespaces.
    pub(crate) roots: Seen<Vec<ConfigMap>>,
    /// Pods of the meshed namespaces.
    pub(crate) workloads: Seen<Vec<Pod>>,
    /// Whether the injector answers.
    pub(crate) injector: Probe,
    /// Whether the validator answers.
    pub(crate) validator: Probe,
}

/// Looks at everything.
pub(crate) async fn gather(cluster: &Cluster) -> Facts {
    let client = &cluster.client;
    let (version, gateway_kinds) = tokio::join!(version(client), gateway_kinds(client));
    let (mutating, validator) = tokio::join!(mutating(client), validator(client));
    let (definitions, meshed) = tokio::join!(definitions(client), meshed(cluster));
    let namespaces = meshed.as_deref().unwrap_or_default();
    let operator = Box::pin(operator(cluster, namespaces)).await;
    Facts { version, gateway_kinds, definitions, mutating, validator, meshed, operator }
}

async fn operator(cluster: &Cluster, meshed: &[Namespace]) -> Seen<Installed> {
    let client = &cluster.client;
    let deployments: Api<Deployment> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let Some(deployment) = deployments.get_opt(OPERATOR_ACCOUNT).await.map_err(told)? else {
        return Ok(Installed::No(rights::denied(client).await));
    };
    let leases: Api<Lease> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let lease = leases.get_opt(LEASE).await.map_err(told);
    let trial = cluster.namespace.as_deref().unwrap_or("default");
    let (pods, roots, workloads) = tokio::join!(pods(client), roots(client), workloads(client, meshed));
    let (injector, validator) = tokio::join!(probe::injector(client, trial), probe::validator(client, trial));
    let mesh = mesh(client, &lease).await;
    let found = Operator { deployment, pods, lease, mesh, roots, workloads, injector, validator };
    Ok(Installed::Yes(Box::new(found)))
}

async fn version(client: &Client) -> Seen<Info> {
    client.apiserver_version().await.map_err(told)
}

async fn gateway_kinds(client: &Client) -> Seen<Vec<String>> {
    match client.list_api_group_resources("gateway.networking.k8s.io/v1").await {
        Ok(kinds) => Ok(kinds.resources.into_iter().map(|resource| resource.kind).collect()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Vec::new()),
        Err(error) => Err(told(error)),
    }
}

async fn mutating(client: &Client) -> Seen<Vec<MutatingWebhookConfiguration>> {
    list(&Api::all(client.clone()), ListParams::default()).await.map_err(told)
}

async fn validator(client: &Client) -> Seen<Option<ValidatingWebhookConfiguration>> {
    Api::all(client.clone()).get_opt(VALIDATING_WEBHOOK).await.map_err(told)
}

async fn definitions(client: &Client) -> Seen<Vec<CustomResourceDefinition>> {
    let all: Api<CustomResourceDefinition> = Api::all(client.clone());
    let mut found = Vec::new();
    for name in ["microservices.weft.dev", "meshes.weft.dev"] {
        found.extend(all.get_opt(name).await.map_err(told)?);
    }
    Ok(found)
}

async fn meshed(cluster: &Cluster) -> Seen<Vec<Namespace>> {
    let params = ListParams::default().labels(&format!("{INJECT}={INJECT_ENABLED}"));
    let mut all: Vec<Namespace> = list(&Api::all(cluster.client.clone()), params).await.map_err(told)?;
    // One that is going away has lost its roots already, and needs them no more.
    all.retain(|namespace| namespace.metadata.deletion_timestamp.is_none());
    if let Some(only) = &cluster.namespace {
        all.retain(|namespace| &namespace.name_any() == only);
    }
    Ok(all)
}

async fn pods(client: &Client) -> Seen<Vec<Pod>> {
    let api: Api<Pod> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    list(&api, ListParams::default().labels(operators::SELECTOR)).await.map_err(told)
}

async fn roots(client: &Client) -> Seen<Vec<ConfigMap>> {
    let params = ListParams::default().fields(&format!("metadata.name={ROOTS_CONFIG_MAP}"));
    list(&Api::all(client.clone()), params).await.map_err(told)
}

async fn workloads(client: &Client, meshed: &[Namespace]) -> Seen<Vec<Pod>> {
    let mut all = Vec::new();
    for namespace in meshed.iter().map(ResourceExt::name_any) {
        if !NEVER_INJECTED.contains(&namespace.as_str()) {
            let api: Api<Pod> = Api::namespaced(client.clone(), &namespace);
            all.extend(list(&api, ListParams::default()).await.map_err(told)?);
        }
    }
    Ok(all)
}

async fn mesh(client: &Client, lease: &Seen<Option<Lease>>) -> Seen<MeshStatus> {
    let leader = lease.as_ref().ok().and_then(Option::as_ref).and_then(operators::holder);
    let leader = leader.ok_or("no operator leads")?;
    operators::mesh(client, leader).await.map_err(|error| format!("{error:#}"))
}
