//! The objects of a large cluster: for each service a Microservice, a Service, a pod with its proxy and an
//! `EndpointSlice`, made by hand since no controller runs.

use std::fmt::Debug;
use std::time::Duration;

use anyhow::{Context, Result};
use futures_util::{StreamExt, TryStreamExt, stream};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams, PostParams};
use kube::core::NamespaceResourceScope;
use kube::runtime::wait::await_condition;
use kube::{Api, Client, Resource};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use weft_crds::microservice::Microservice;
use weft_crds::schema;

pub(crate) const NAMESPACE: &str = "scale";
const AT_ONCE: usize = 64;
const ROOTS_WITHIN: Duration = Duration::from_secs(30);

/// The cluster that is measured.
pub(crate) struct Cluster {
    client: Client,
    services: usize,
}

impl Cluster {
    pub(crate) fn new(client: Client, services: usize) -> Self {
        Self { client, services }
    }

    /// Makes everything.
    pub(crate) async fn fill(&self) -> Result<()> {
        let crds = Api::<CustomResourceDefinition>::all(self.client.clone());
        for crd in [schema::microservice(), schema::mesh()] {
            crds.create(&PostParams::default(), &crd).await?;
        }
        let namespaces = Api::<Namespace>::all(self.client.clone());
        for name in [NAMESPACE, "weft-system"] {
            let labels = json!({"weft.dev/inject": "enabled"});
            make(&namespaces, json!({"metadata": {"name": name, "labels": labels}})).await?;
        }
        self.until_served().await?;
        stream::iter(0..self.services).map(Ok).try_for_each_concurrent(AT_ONCE, |n| self.one(n)).await
    }

    /// A new CRD is served a moment after it is accepted.
    async fn until_served(&self) -> Result<()> {
        let api = self.namespaced::<Microservice>();
        let mut look = tokio::time::interval(Duration::from_millis(100));
        for _ in 0..300 {
            look.tick().await;
            if api.list(&kube::api::ListParams::default().limit(1)).await.is_ok() {
                return Ok(());
            }
        }
        anyhow::bail!("the CRDs are not served")
    }

    async fn one(&self, n: usize) -> Result<()> {
        let (name, labels) = (service(n), json!({"app.kubernetes.io/name": service(n)}));
        let port = json!({"name": "http", "port": 80, "targetPort": 8080});
        make(&self.namespaced::<ServiceAccount>(), json!({"metadata": {"name": name}})).await?;
        make(
            &self.namespaced::<Microservice>(),
            json!({"apiVersion": "weft.dev/v1alpha1", "kind": "Microservice", "metadata": {"name": name},
                "spec": {"selector": labels, "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "HTTP"}]}}),
        )
        .await?;
        make(
            &self.namespaced::<Service>(),
            json!({"metadata": {"name": name}, "spec": {"selector": labels, "ports": [port]}}),
        )
        .await?;
        make(
            &self.namespaced::<Pod>(),
            json!({"metadata": {"name": pod(n), "labels": labels,
                    "annotations": {"weft.dev/injected": "scale", "weft.dev/account": name}},
                "spec": {"serviceAccountName": name, "containers": [{"name": "app", "image": "app"}]}}),
        )
        .await?;
        make(
            &self.namespaced::<EndpointSlice>(),
            json!({"metadata": {"name": name, "labels": {"kubernetes.io/service-name": name}},
                "addressType": "IPv4", "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
                "endpoints": [endpoint(n, &address(n))]}),
        )
        .await
    }

    /// Gives the endpoint of a service another address.
    pub(crate) async fn move_endpoint(&self, n: usize, to: &str) -> Result<()> {
        let patch = json!({"endpoints": [endpoint(n, to)]});
        let slices = self.namespaced::<EndpointSlice>();
        slices.patch(&service(n), &PatchParams::default(), &Patch::Merge(patch)).await?;
        Ok(())
    }

    /// A token as a pod of that service has it.
    pub(crate) async fn token(&self, n: usize) -> Result<String> {
        let spec = TokenRequestSpec { audiences: vec!["weft".into()], ..TokenRequestSpec::default() };
        let request = TokenRequest { spec, ..TokenRequest::default() };
        let accounts = self.namespaced::<ServiceAccount>();
        let answer = accounts.create_token_request(&service(n), &PostParams::default(), &request).await?;
        Ok(answer.status.context("no token in the answer")?.token)
    }

    /// What the operator tells every meshed namespace to trust.
    pub(crate) async fn roots(&self) -> Result<Vec<CertificateDer<'static>>> {
        let pem = self.roots_pem().await?;
        Ok(CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<_, _>>()?)
    }

    /// The same, as it stands there.
    pub(crate) async fn roots_pem(&self) -> Result<String> {
        let maps = self.namespaced::<ConfigMap>();
        let named = await_condition(maps, "weft-roots", |map: Option<&ConfigMap>| map.is_some());
        let map = tokio::time::timeout(ROOTS_WITHIN, named).await.context("no ConfigMap weft-roots")??;
        map.and_then(|map| map.data?.remove("roots.pem")).context("no roots.pem in weft-roots")
    }

    pub(crate) fn services(&self) -> usize {
        self.services
    }

    fn namespaced<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }
}

async fn make<K>(api: &Api<K>, object: Value) -> Result<()>
where
    K: Clone + Debug + DeserializeOwned + Serialize,
{
    let text = object.to_string();
    let object = serde_json::from_value(object).with_context(|| text.clone())?;
    api.create(&PostParams::default(), &object).await.with_context(|| text)?;
    Ok(())
}

fn endpoint(n: usize, address: &str) -> Value {
    json!({"addresses": [address], "conditions": {"ready": true}, "nodeName": "node",
        "targetRef": {"kind": "Pod", "name": pod(n), "namespace": NAMESPACE}})
}

pub(crate) fn service(n: usize) -> String {
    format!("svc-{n}")
}

pub(crate) fn pod(n: usize) -> String {
    format!("svc-{n}-0")
}

/// Each its own, from 10.0.0.0/9.
pub(crate) fn address(n: usize) -> String {
    format!("10.{}.{}.{}", n / 62_500 % 128, n / 250 % 250, n % 250 + 1)
}
