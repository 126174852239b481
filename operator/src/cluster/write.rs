//! Writes one status into its object.
//!
//! By server-side apply, where every entry is somebody's own. What is said of a route is one list for all controllers,
//! so there our part is put into the list as it is now, and only if nobody wrote to it meanwhile.

use std::time::Duration;

use kube::api::{DynamicObject, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use weft_api::names::MANAGER;
use weft_core::status::Status;
use weft_core::world::ObjectRef;
use weft_crds::gateway_class::CONTROLLER;
use weft_crds::gateway_meta::RouteStatus;

use super::kinds;
use super::statuses::{Write, our_parents};

/// No answer of the API server for this long is a failure.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How often our part of a list is put in anew because somebody wrote to it meanwhile.
const TRIES: u32 = 4;

/// Why a status was not written.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    /// The API server refused, or cannot be reached.
    #[error("the API server does not take it: {0}")]
    Api(#[from] kube::Error),
    /// No answer.
    #[error("no answer of the API server within {} s", ANSWER_WITHIN.as_secs())]
    Late,
    /// Somebody else writes to it all the time.
    #[error("somebody else wrote to it {TRIES} times meanwhile")]
    Busy,
}

/// Whether it is written.
pub(super) type Outcome = Result<(), WriteError>;

/// Writes a status. An object that is gone needs none.
pub(super) async fn write(client: Client, due: Write) -> (Write, Outcome) {
    let outcome = try_write(&client, &due).await;
    (due, outcome)
}

async fn try_write(client: &Client, due: &Write) -> Outcome {
    let Some(resource) = kinds::with_status(due.object.kind) else { return Ok(()) };
    let api = kinds::api(client, &resource, &due.object.name);
    let name = &due.object.name.name;
    let status = match &due.wanted {
        Status::Microservice(status) => json!(status),
        Status::Mesh(status) => json!(status),
        Status::Gateway(status) => json!(status),
        Status::GatewayClass(status) => json!(status),
        Status::Route(status) => return write_route(client, &due.object, status).await,
    };
    let body = json!({
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": {"name": name},
        "status": status,
    });
    let (params, patch) = (PatchParams::apply(MANAGER).force(), Patch::Apply(&body));
    match answer(api.patch_status(name, &params, &patch)).await {
        Err(WriteError::Api(error)) if code(&error) == Some(404) => Ok(()),
        written => written.map(drop),
    }
}

/// Where the route is: at another version than the newest where the cluster has an older Gateway API.
async fn write_route(client: &Client, object: &ObjectRef, status: &RouteStatus) -> Outcome {
    for resource in kinds::of_route(object.kind) {
        let api = kinds::api(client, &resource, &object.name);
        if write_at(&api, &object.name.name, status).await? {
            return Ok(());
        }
    }
    Ok(())
}

/// Whether it is there.
async fn write_at(api: &Api<DynamicObject>, name: &str, status: &RouteStatus) -> Result<bool, WriteError> {
    for _ in 0..TRIES {
        let Some(route) = get(api, name).await? else { return Ok(false) };
        let body = json!({
            "metadata": {"resourceVersion": route.metadata.resource_version},
            "status": {"parents": merged(&route.data["status"]["parents"], status)},
        });
        let params = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
        match answer(api.patch_status(name, &params, &Patch::Merge(&body))).await {
            Err(WriteError::Api(error)) if code(&error) == Some(409) => {}
            Err(WriteError::Api(error)) if code(&error) == Some(404) => return Ok(false),
            written => return written.map(|_| true),
        }
    }
    Err(WriteError::Busy)
}

/// What is there of that name. A version that the cluster does not have is told by 404 too, but without the reason that
/// [`Api::get_opt`] looks for.
async fn get(api: &Api<DynamicObject>, name: &str) -> Result<Option<DynamicObject>, WriteError> {
    match answer(api.get(name)).await {
        Err(WriteError::Api(error)) if code(&error) == Some(404) => Ok(None),
        found => found.map(Some),
    }
}

/// What others say of a route as it is, then what we say.
fn merged(now: &Value, ours: &RouteStatus) -> Vec<Value> {
    let is_others = |parent: &&Value| parent["controllerName"] != CONTROLLER;
    let others = now.as_array().into_iter().flatten().filter(is_others).cloned();
    others.chain(our_parents(ours).into_iter().map(|parent| json!(parent))).collect()
}

async fn answer<T>(request: impl Future<Output = kube::Result<T>>) -> Result<T, WriteError> {
    let answered = tokio::time::timeout(ANSWER_WITHIN, request).await;
    answered.map_err(|_| WriteError::Late)?.map_err(WriteError::Api)
}

fn code(error: &kube::Error) -> Option<u16> {
    match error {
        kube::Error::Api(status) => Some(status.code),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_crds::gateway_meta::{ParentReference, RouteParentStatus};

    #[test]
    fn parents_of_other_controllers_stay_as_they_are() {
        let theirs = json!({"controllerName": "example.com/other", "parentRef": {"name": "edge"}, "more": 1});
        let now = json!([theirs, {"controllerName": CONTROLLER, "parentRef": {"name": "old"}}]);
        let parent_ref = ParentReference { name: "new".into(), ..ParentReference::default() };
        let controller_name = CONTROLLER.to_owned();
        let parent = RouteParentStatus { parent_ref, controller_name, conditions: vec![] };
        let all = merged(&now, &RouteStatus { parents: vec![parent] });
        assert_eq!(all.len(), 2);
        assert_eq!((&all[0], &all[1]["parentRef"]["name"]), (&theirs, &json!("new")));
        assert_eq!(merged(&Value::Null, &RouteStatus::default()), Vec::<Value>::new());
    }
}
