//! A Kubernetes cluster as the commands see it: how it is reached, and what is said where it is not. What they ask of
//! it is in the modules below.

pub(crate) mod check;
mod forward;
mod operators;
pub(crate) mod proxy;
pub(crate) mod status;

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use k8s_openapi::serde::de::DeserializeOwned;
use kube::api::ListParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};

use crate::settings::ClusterArgs;

/// Longest wait for a connection to the API server.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Longest wait for bytes of an answer.
const READ_WITHIN: Duration = Duration::from_secs(30);
/// Objects per page of a list.
const PAGE: u32 = 500;

/// A cluster, and what is looked at in it.
pub(crate) struct Cluster {
    /// How to ask it.
    pub(crate) client: Client,
    /// Name for people: the context, else the address.
    pub(crate) name: String,
    /// The namespace that was named.
    pub(crate) namespace: Option<String>,
    /// The namespace of the context.
    pub(crate) default_namespace: String,
}

/// Whether there is a kubeconfig, or this runs in a pod.
pub(crate) fn is_configured() -> bool {
    Kubeconfig::read().is_ok() || Config::incluster().is_ok()
}

/// The cluster that the flags mean. Nothing is asked of it yet.
pub(crate) async fn connect(args: &ClusterArgs) -> Result<Cluster> {
    let (mut config, context) = configuration(args).await?;
    config.connect_timeout = Some(CONNECT_WITHIN);
    config.read_timeout = Some(READ_WITHIN);
    config.default_retry = false;
    let name = context.unwrap_or_else(|| config.cluster_url.to_string());
    let default_namespace = config.default_namespace.clone();
    let client = Client::try_from(config).with_context(|| format!("cannot speak to the cluster {name}"))?;
    Ok(Cluster { client, name, namespace: args.namespace.clone(), default_namespace })
}

async fn configuration(args: &ClusterArgs) -> Result<(Config, Option<String>)> {
    let options = KubeConfigOptions { context: args.context.clone(), ..KubeConfigOptions::default() };
    let file = match &args.kubeconfig {
        Some(file) => Kubeconfig::read_from(file),
        None => Kubeconfig::read(),
    };
    let file = match file {
        Ok(file) => file,
        Err(error) => {
            let in_pod = args.kubeconfig.is_none() && args.context.is_none();
            let config = in_pod.then(Config::incluster).and_then(Result::ok);
            let config = config
                .with_context(|| format!("there is no kubeconfig; name one with --kubeconfig ({error})"))?;
            return Ok((config, None));
        }
    };
    let context = args.context.clone().or_else(|| file.current_context.clone());
    let known: Vec<&str> = file.contexts.iter().map(|context| context.name.as_str()).collect();
    let known = known.join(", ");
    let config = Config::from_custom_kubeconfig(file, &options).await;
    let config = config
        .map_err(|error| anyhow!("the kubeconfig cannot be used: {error}; its contexts are: {known}"))?;
    Ok((config, context))
}

/// All objects, page by page.
pub(crate) async fn list<K>(api: &Api<K>, params: ListParams) -> kube::Result<Vec<K>>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    let mut params = params.limit(PAGE);
    let mut all = Vec::new();
    loop {
        let page = api.list(&params).await?;
        all.extend(page.items);
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => params = params.continue_token(&token),
            None => return Ok(all),
        }
    }
}

/// What the API server, or the way to it, said.
pub(crate) fn told(error: kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message,
        other => format!("{:#}", anyhow::Error::from(other)),
    }
}
