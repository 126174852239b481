//! Whether the webhooks answer: a pod and a Microservice are created as a dry run, which takes the whole way from the API
//! server through the Service to the operator, its certificate and the caBundle included. Nothing is kept.

use k8s_openapi::api::core::v1::Pod;
use kube::api::{ApiResource, DynamicObject, PostParams};
use kube::{Api, Client};
use serde_json::json;
use weft_api::names::{ANNOTATION_INJECTED, INJECT, INJECT_ENABLED};
use weft_crds::Microservice;

use crate::cluster::told;

/// How a webhook took it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Probe {
    /// It answered.
    Answers,
    /// It was not asked, or did not do what it is for.
    Silent,
    /// The API server could not ask it.
    Unreachable(String),
    /// Something else stood in the way.
    Unknown(String),
}

/// Asks for a pod with a proxy.
pub(crate) async fn injector(client: &Client, namespace: &str) -> Probe {
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "weft-check-", "annotations": {INJECT: INJECT_ENABLED}},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "check", "image": "weft-check"}]},
    });
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let Ok(pod) = serde_json::from_value(pod) else { return Probe::Unknown("not a pod".into()) };
    let made = pods.create(&dry_run(), &pod).await.map_err(told);
    judge(made.map(|pod| pod.metadata.annotations.unwrap_or_default().contains_key(ANNOTATION_INJECTED)))
}

/// Asks for a good Microservice.
pub(crate) async fn validator(client: &Client, namespace: &str) -> Probe {
    let service = json!({
        "apiVersion": "weft.dev/v1alpha1",
        "kind": "Microservice",
        "metadata": {"generateName": "weft-check-"},
        "spec": {"ports": [{"name": "http", "port": 80, "protocol": "HTTP"}]},
    });
    let kind = ApiResource::erase::<Microservice>(&());
    let services: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &kind);
    let Ok(service) = serde_json::from_value(service) else { return Probe::Unknown("not an object".into()) };
    judge(services.create(&dry_run(), &service).await.map(|_| true).map_err(told))
}

fn dry_run() -> PostParams {
    PostParams { dry_run: true, ..PostParams::default() }
}

/// What the answer to a creation says of the webhook: `true`, its work shows; `false`, it does not.
fn judge(made: Result<bool, String>) -> Probe {
    match made {
        Ok(true) => Probe::Answers,
        Ok(false) => Probe::Silent,
        Err(why) if why.contains("failed calling webhook") => Probe::Unreachable(why),
        // What is refused after the mutating webhooks were asked, or by one of ours.
        Err(why) if why.contains("denied the request") || why.contains("violates PodSecurity") => {
            Probe::Answers
        }
        Err(why) => Probe::Unknown(why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_by_the_webhook_is_an_answer_and_one_of_the_api_server_is_not() {
        let err = |text: &str| judge(Err(text.into()));
        assert_eq!(judge(Ok(true)), Probe::Answers);
        assert_eq!(judge(Ok(false)), Probe::Silent);
        let unreachable =
            "Internal error occurred: failed calling webhook \"pod.injector.weft.dev\": tls: bad";
        assert_eq!(err(unreachable), Probe::Unreachable(unreachable.into()));
        assert_eq!(err("admission webhook \"pod.injector.weft.dev\" denied the request: no"), Probe::Answers);
        assert_eq!(err("pods \"x\" is forbidden: violates PodSecurity \"restricted\""), Probe::Answers);
        assert_eq!(err("pods is forbidden"), Probe::Unknown("pods is forbidden".into()));
    }
}
