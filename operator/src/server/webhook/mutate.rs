//! `/mutate`: a pod is about to be stored, and gets its proxy. What that means says `weft_core::inject`; here the pod is
//! read, whose it is asked, and the difference handed back as a patch.

use k8s_openapi::api::core::v1::Pod;
use kube::core::admission::{AdmissionResponse, Operation};
use tracing::info;
use weft_core::inject::{self, Place, patch};

use super::{Failure, Request, Webhook, Which, described};
use crate::event::Event;

/// Answers for a pod.
pub(super) async fn answer(webhook: &Webhook, request: &Request) -> Result<AdmissionResponse, Failure> {
    let object = request.object.as_ref().filter(|_| is_new_pod(request));
    let object = object.ok_or_else(|| Failure::NotFor(described(request)))?;
    let unreadable = |error| Failure::Unreadable { kind: "the pod", error };
    let pod: Pod = serde_json::to_value(object).and_then(serde_json::from_value).map_err(unreadable)?;
    let namespace = request.namespace.clone().or(pod.metadata.namespace.clone()).unwrap_or_default();
    let labels = pod.metadata.labels.clone().unwrap_or_default();
    let asked = (namespace.clone(), labels);
    let home =
        webhook.hub.ask(|answer| Event::Injection { namespace: asked.0, labels: asked.1, answer }).await?;
    let microservice = home.microservice.as_deref();
    let place = Place { namespace: &namespace, microservice, pod_security: home.pod_security.as_deref() };
    let outcome = match inject::pod(&pod, place, &webhook.template) {
        Ok(outcome) => outcome,
        Err(refusal) => return Ok(webhook.refuse(Which::Mutate, request, &refusal.to_string())),
    };
    let counted = outcome.left.map_or("injected", inject::Left::as_str);
    webhook.count(Which::Mutate, counted);
    info!(pod = described(request), microservice, outcome = counted, "admitted");
    let before = serde_json::to_value(&pod).map_err(unreadable)?;
    let after = serde_json::to_value(&outcome.pod).map_err(unreadable)?;
    let mut answer = AdmissionResponse::from(request).with_patch(patch::between(&before, &after))?;
    answer.warnings = Some(outcome.warnings).filter(|warnings| !warnings.is_empty());
    Ok(answer)
}

fn is_new_pod(request: &Request) -> bool {
    let of_pods = request.kind.group.is_empty() && request.kind.kind == "Pod";
    let whole = request.sub_resource.as_ref().is_none_or(String::is_empty);
    of_pods && whole && request.operation == Operation::Create
}
