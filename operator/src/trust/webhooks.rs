//! The `caBundle` of the operator's own webhooks, by the leader: the roots by which the API server judges the certificate
//! that the webhooks show. Put right whenever somebody changes it; everything else in them is the chart's.

use std::fmt::Debug;
use std::time::Duration;

use futures_util::StreamExt;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration, WebhookClientConfig,
};
use kube::api::{Patch, PatchParams};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tracing::{info, warn};
use weft_api::names::{MANAGER, MUTATING_WEBHOOK, VALIDATING_WEBHOOK};

use crate::authority::Authority;

const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// What failed is tried again after this long.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// Keeps both configurations right, as the leader. Ends with the operator only.
pub(crate) async fn lead(client: Client, authority: &Authority) {
    let mutating: Api<MutatingWebhookConfiguration> = Api::all(client.clone());
    let validating: Api<ValidatingWebhookConfiguration> = Api::all(client);
    tokio::join!(
        keep(mutating, MUTATING_WEBHOOK, authority, |configuration| {
            configuration
                .webhooks
                .iter()
                .flatten()
                .map(|hook| (hook.name.clone(), &hook.client_config))
                .collect()
        }),
        keep(validating, VALIDATING_WEBHOOK, authority, |configuration| {
            configuration
                .webhooks
                .iter()
                .flatten()
                .map(|hook| (hook.name.clone(), &hook.client_config))
                .collect()
        }),
    );
}

/// The webhooks of a configuration: name, and how each is called.
type Hooks<'a> = Vec<(String, &'a WebhookClientConfig)>;

async fn keep<K>(api: Api<K>, name: &str, authority: &Authority, hooks: impl Fn(&K) -> Hooks<'_>)
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + 'static,
{
    let seen = watcher::watch_object(api.clone(), name).default_backoff();
    let mut seen = std::pin::pin!(seen);
    let mut changes = authority.changes();
    let mut newest: Option<K> = None;
    loop {
        let mut failed = false;
        if let Some(configuration) = &newest {
            let steps = steps(
                &hooks(configuration),
                authority.roots_pem().as_bytes(),
                configuration.resource_version().as_deref(),
            );
            failed = !steps.is_empty() && !patch(&api, name, steps).await;
        }
        tokio::select! {
            event = seen.next() => match event {
                Some(Ok(object)) => newest = object,
                Some(Err(error)) => warn!(configuration = name, error = &error as &dyn std::error::Error, "cannot be watched"),
                None => return,
            },
            changed = changes.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(AGAIN_AFTER), if failed => {}
        }
    }
}

/// A JSON patch of what differs; it holds for this version only, since it names webhooks by their place.
fn steps(hooks: &[(String, &WebhookClientConfig)], roots: &[u8], version: Option<&str>) -> Vec<Value> {
    let bundle = json!(ByteString(roots.to_vec()));
    let differs =
        |config: &WebhookClientConfig| config.ca_bundle.as_ref().is_none_or(|found| found.0 != roots);
    let wrong =
        hooks.iter().enumerate().filter(|(_, (_, config))| config.service.is_some() && differs(config));
    let mut steps: Vec<Value> = wrong
        .map(|(at, _)| json!({"op": "add", "path": format!("/webhooks/{at}/clientConfig/caBundle"), "value": bundle}))
        .collect();
    if !steps.is_empty() {
        steps.insert(0, json!({"op": "test", "path": "/metadata/resourceVersion", "value": version}));
    }
    steps
}

async fn patch<K>(api: &Api<K>, name: &str, steps: Vec<Value>) -> bool
where
    K: Clone + DeserializeOwned + Debug,
{
    let patch = match serde_json::from_value::<json_patch::Patch>(Value::Array(steps)) {
        Ok(patch) => Patch::<()>::Json(patch),
        Err(error) => {
            warn!(%error, "not a patch");
            return false;
        }
    };
    let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    match tokio::time::timeout(ANSWER_WITHIN, api.patch(name, &params, &patch)).await {
        Ok(Ok(_)) => {
            info!(configuration = name, "the roots for the API server are up to date");
            true
        }
        Ok(Err(error)) => {
            warn!(
                configuration = name,
                error = &error as &dyn std::error::Error,
                "the roots for the API server are not up to date"
            );
            false
        }
        Err(_) => {
            warn!(configuration = name, "the roots for the API server are not up to date: no answer");
            false
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::admissionregistration::v1::ServiceReference;

    use super::*;

    fn config(bundle: Option<&str>, by_service: bool) -> WebhookClientConfig {
        WebhookClientConfig {
            ca_bundle: bundle.map(|bundle| ByteString(bundle.into())),
            service: by_service.then(ServiceReference::default),
            ..WebhookClientConfig::default()
        }
    }

    #[test]
    fn only_what_differs_is_patched_and_only_in_the_version_that_was_seen() {
        let (right, wrong, none, url) =
            (config(Some("roots"), true), config(Some("old"), true), config(None, true), config(None, false));
        let hooks =
            [("a".into(), &right), ("b".into(), &wrong), ("c".into(), &none), ("elsewhere".into(), &url)];
        let patch = steps(&hooks, b"roots", Some("7"));
        let paths: Vec<&str> = patch.iter().filter_map(|step| step["path"].as_str()).collect();
        let bundle = |at: u8| format!("/webhooks/{at}/clientConfig/caBundle");
        assert_eq!(paths, ["/metadata/resourceVersion", &bundle(1), &bundle(2)]);
        assert_eq!((patch[0]["value"].as_str(), patch[1]["value"].as_str()), (Some("7"), Some("cm9vdHM=")));
        assert!(steps(&hooks[..1], b"roots", None).is_empty());
    }
}
