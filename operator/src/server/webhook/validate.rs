//! `/validate`: a resource of Weft, or one of the Gateway API that it serves, is about to be stored. What cannot work is
//! refused, what is odd or only not there yet is a warning, both in the words of `weft check`.

use kube::core::admission::{AdmissionResponse, Operation};
use serde_json::Value;
use weft_core::validate::Severity;
use weft_core::world::Object;
use weft_crds::{GATEWAY_GROUP, manifest};

use super::{Failure, Request, Webhook, Which, described};
use crate::event::Event;

/// Answers for a resource.
pub(super) async fn answer(webhook: &Webhook, request: &Request) -> Result<AdmissionResponse, Failure> {
    if !is_judged(request) {
        webhook.count(Which::Validate, "allowed");
        return Ok(AdmissionResponse::from(request));
    }
    let unreadable = |error| Failure::Unreadable { kind: "the object", error };
    let value = serde_json::to_value(&request.object).map_err(unreadable)?;
    let old = serde_json::to_value(&request.old_object).map_err(unreadable)?;
    let mut found = examine(webhook, request, &value).await?;
    if is_same(&old, &value) {
        // Labels must not wait for a spec that was stored long ago.
        found.warnings.append(&mut found.errors);
    }
    if !found.errors.is_empty() {
        return Ok(webhook.refuse(Which::Validate, request, &found.errors.join("\n")));
    }
    webhook.count(Which::Validate, "allowed");
    let mut answer = AdmissionResponse::from(request);
    answer.warnings = Some(found.warnings).filter(|warnings| !warnings.is_empty());
    Ok(answer)
}

/// What is wrong with an object, and what is worth a word.
#[derive(Debug, Default)]
struct Found {
    errors: Vec<String>,
    warnings: Vec<String>,
}

/// By itself first; only what is right by itself is looked at among the others.
async fn examine(webhook: &Webhook, request: &Request, value: &Value) -> Result<Found, Failure> {
    let reading = manifest::examine(value);
    let told = |violation| format!("{}: {violation}", described(request));
    let mut found = Found {
        errors: reading.errors.iter().map(told).collect(),
        warnings: reading.warnings.iter().map(told).collect(),
    };
    if request.kind.group == GATEWAY_GROUP && !found.errors.is_empty() {
        // Whose it is cannot be read; where it is ours, its status says what is wrong.
        found.warnings.append(&mut found.errors);
        return Ok(found);
    }
    let object = reading.object.and_then(Object::from_manifest);
    let Some(object) = object.filter(|_| found.errors.is_empty()) else { return Ok(found) };
    let object = Box::new(object);
    let Some(problems) = webhook.hub.ask(|answer| Event::Review { object, answer }).await? else {
        return Ok(Found::default());
    };
    for problem in problems {
        let list = match problem.severity {
            Severity::Error => &mut found.errors,
            Severity::Warning => &mut found.warnings,
        };
        list.push(problem.to_string());
    }
    Ok(found)
}

/// Statuses are written by those who may, and what goes is never held back.
fn is_judged(request: &Request) -> bool {
    let stored = matches!(request.operation, Operation::Create | Operation::Update);
    let whole = request.sub_resource.as_ref().is_none_or(String::is_empty);
    let going = request.object.as_ref().is_some_and(|object| object.metadata.deletion_timestamp.is_some());
    stored && whole && request.object.is_some() && !going
}

fn is_same(old: &Value, new: &Value) -> bool {
    !old.is_null() && old["spec"] == new["spec"]
}
