//! The cluster: its client, and manifests applied to it as `kubectl apply --server-side` would.

use std::collections::HashMap;
use std::sync::Arc;

use anyhow::{Context, Result};
use kube::api::{Api, ApiResource, DeleteParams, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::discovery::{self, ApiCapabilities, Scope};
use kube::{Client, ResourceExt};
use serde_json::Value;
use tokio::sync::Mutex;

use crate::settings::Settings;

/// Field manager of what the tests apply.
const MANAGER: &str = "weft-e2e";

type Kinds = HashMap<GroupVersionKind, (ApiResource, ApiCapabilities)>;

/// A client of the cluster that KUBECONFIG names.
#[derive(Clone)]
pub struct Cluster {
    /// For everything that has a type.
    pub client: Client,
    /// What the suite was told.
    pub settings: Arc<Settings>,
    kinds: Arc<Mutex<Kinds>>,
}

impl Cluster {
    /// Connects, and asks for the version so that a wrong KUBECONFIG is told at once.
    pub async fn connect(settings: Settings) -> Result<Self> {
        let client = Client::try_default().await.context("no cluster: set KUBECONFIG, or run `make e2e`")?;
        let version = client.apiserver_version().await.context(
            "the cluster of KUBECONFIG does not answer; `make e2e` makes one, `kind get clusters` lists them",
        )?;
        eprintln_version(&version.git_version);
        Ok(Self { client, settings: Arc::new(settings), kinds: Arc::default() })
    }

    /// Applies every document of a YAML text; what names no namespace goes into the one given.
    pub async fn apply(&self, namespace: &str, yaml: &str) -> Result<Vec<DynamicObject>> {
        let mut applied = Vec::new();
        for mut object in self.documents(yaml)? {
            let api = self.api_for(&mut object, namespace).await?;
            let name = object.name_any();
            let said = || format!("cannot apply {} {namespace}/{name}", kind_of(&object));
            let params = PatchParams::apply(MANAGER).force();
            applied.push(api.patch(&name, &params, &Patch::Apply(&object)).await.with_context(said)?);
        }
        Ok(applied)
    }

    /// Deletes every object of a YAML text that is there.
    pub async fn delete(&self, namespace: &str, yaml: &str) -> Result<()> {
        for mut object in self.documents(yaml)? {
            let api = self.api_for(&mut object, namespace).await?;
            match api.delete(&object.name_any(), &DeleteParams::background()).await {
                Ok(_) => {}
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                Err(error) => {
                    return Err(error).with_context(|| format!("cannot delete {}", object.name_any()));
                }
            }
        }
        Ok(())
    }

    /// The API of a kind that has no type here, like `gateway.networking.k8s.io/v1` `HTTPRoute`.
    pub async fn dynamic(
        &self,
        group_version: &str,
        kind: &str,
        namespace: &str,
    ) -> Result<Api<DynamicObject>> {
        let (group, version) = group_version.split_once('/').unwrap_or(("", group_version));
        let (resource, capabilities) = self.kind(&GroupVersionKind::gvk(group, version, kind)).await?;
        Ok(match capabilities.scope {
            Scope::Cluster => Api::all_with(self.client.clone(), &resource),
            Scope::Namespaced => Api::namespaced_with(self.client.clone(), namespace, &resource),
        })
    }

    /// The documents of a YAML text, with the names of the images filled in.
    fn documents(&self, yaml: &str) -> Result<Vec<DynamicObject>> {
        let text = yaml
            .replace("$APP", &self.settings.image("weft-e2e/app"))
            .replace("$TOOLS", &self.settings.image("weft-e2e/tools"));
        let values: Vec<Value> =
            serde_saphyr::from_multiple(&text).with_context(|| format!("not YAML:\n{text}"))?;
        let object = |value| serde_json::from_value(value).with_context(|| format!("no object:\n{text}"));
        values.into_iter().filter(|value: &Value| !value.is_null()).map(object).collect()
    }

    /// The API of an object's kind and namespace; puts the namespace into the object where it names none.
    async fn api_for(&self, object: &mut DynamicObject, namespace: &str) -> Result<Api<DynamicObject>> {
        let types = object.types.clone().context("an object without apiVersion and kind")?;
        let gvk = GroupVersionKind::try_from(&types).context("apiVersion is group/version")?;
        let (resource, capabilities) = self.kind(&gvk).await?;
        if capabilities.scope == Scope::Cluster {
            return Ok(Api::all_with(self.client.clone(), &resource));
        }
        let namespace = object.metadata.namespace.get_or_insert_with(|| namespace.to_owned());
        Ok(Api::namespaced_with(self.client.clone(), namespace, &resource))
    }

    async fn kind(&self, gvk: &GroupVersionKind) -> Result<(ApiResource, ApiCapabilities)> {
        if let Some(known) = self.kinds.lock().await.get(gvk) {
            return Ok(known.clone());
        }
        let found = discovery::pinned_kind(&self.client, gvk).await.with_context(|| {
            format!("the cluster has no kind {} of {}; is its CRD installed?", gvk.kind, gvk.api_version())
        })?;
        self.kinds.lock().await.insert(gvk.clone(), found.clone());
        Ok(found)
    }
}

fn kind_of(object: &DynamicObject) -> &str {
    object.types.as_ref().map_or("?", |types| types.kind.as_str())
}

#[expect(clippy::print_stderr, reason = "what the tests ran against belongs into their log")]
fn eprintln_version(version: &str) {
    eprintln!("cluster: Kubernetes {version}");
}
