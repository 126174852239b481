//! Carries out one job: applies what is wanted, then deletes what is wanted no more.
//!
//! Before anything is written, every object of the wanted names is looked at: one that is not this resource's own makes
//! the whole job fail and nothing is touched, so that no autoscaler of ours ever scales a Deployment of somebody else.
//! What is written is bound to the object looked at by its uid.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ManagedFieldsEntry, ObjectMeta};
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Client, ResourceExt};
use serde_json::{Value, json};
use tracing::info;
use weft_api::names::{LABEL_MANAGED_BY, MANAGER};
use weft_core::render::{Obstacle, Owned, OwnedKind};
use weft_core::world::{Name, ObjectRef};

use super::kinds;
use super::plan::{Job, OwnedRef};

/// No answer of the API server for this long is a failure.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Field manager of a number of instances that is nobody's for the moment: it was the resource's and is to be the
/// autoscaler's. Without an owner it would fall back to 1.
const REPLICAS_MANAGER: &str = "weft-replicas";

/// Why a job failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum ApplyError {
    /// To be told to the user, who can mend it.
    #[error("{}", .0.message)]
    Obstacle(Obstacle),
    /// Something of that name is being deleted: it will be gone.
    #[error("{0} is being deleted")]
    Leaving(String),
    /// The API server cannot be reached or does not answer properly.
    #[error("{done}")]
    Server { done: String, source: kube::Error },
    /// It does not answer.
    #[error("{what} cannot be {done}: no answer of the API server within {} s", ANSWER_WITHIN.as_secs())]
    Late { what: String, done: String },
}

/// The fingerprint of every object applied, or why not all were.
pub(super) type Outcome = Result<Vec<(OwnedRef, u64)>, ApplyError>;

/// Does a job.
pub(super) async fn carry_out(client: Client, job: Job) -> (Job, Outcome) {
    let outcome = try_carry_out(&client, &job).await;
    (job, outcome)
}

async fn try_carry_out(client: &Client, job: &Job) -> Outcome {
    let mut found = Vec::new();
    for owned in &job.rendered.objects {
        found.push(look(client, job, owned).await?);
    }
    let mut applied = Vec::new();
    for (owned, existing) in job.rendered.objects.iter().zip(found) {
        let object = OwnedRef { kind: owned.kind, name: in_namespace(&job.owner, &owned.name) };
        if let Some(existing) = &existing {
            keep_replicas(client, &job.owner, owned, existing).await?;
        }
        let meta = apply(client, &job.owner, owned, existing.as_ref()).await?;
        if existing.is_none() {
            info!(owner = %job.owner, kind = owned.kind.as_str(), name = %object.name, "made");
        }
        applied.push((object, fingerprint(&meta)));
    }
    for (stray, uid) in &job.strays {
        delete(client, stray, uid).await?;
        info!(owner = %job.owner, kind = stray.kind.as_str(), name = %stray.name, "deleted: wanted no more");
    }
    Ok(applied)
}

/// Over all of an object that is not status, as far as its metadata shows it.
pub(super) fn fingerprint(meta: &ObjectMeta) -> u64 {
    let is_status = |entry: &&ManagedFieldsEntry| entry.subresource.as_deref() == Some("status");
    let fields = meta.managed_fields.iter().flatten().filter(|entry| !is_status(entry));
    let fields: Vec<Value> = fields.map(|entry| json!(entry)).collect();
    let rest = json!([
        meta.uid,
        meta.labels,
        meta.annotations,
        meta.owner_references,
        meta.finalizers,
        meta.deletion_timestamp,
        fields,
    ]);
    let mut hasher = DefaultHasher::new();
    rest.to_string().hash(&mut hasher);
    hasher.finish()
}

/// The object as it is, none where there is none; an error where it is not ours to touch.
async fn look(client: &Client, job: &Job, owned: &Owned) -> Result<Option<ObjectMeta>, ApplyError> {
    let name = in_namespace(&job.owner, &owned.name);
    let api = kinds::api(client, &kinds::owned(owned.kind), &name);
    let what = described(owned.kind, &name);
    let Some(found) = answer(&what, "looked at", api.get_metadata_opt(&owned.name)).await? else {
        return Ok(None);
    };
    let meta = found.metadata;
    match whose(&meta, &job.owner, &job.rendered.uid) {
        _ if meta.deletion_timestamp.is_some() => Err(ApplyError::Leaving(what)),
        Whose::Ours => Ok(Some(meta)),
        Whose::Former => Err(ApplyError::Leaving(what)),
        Whose::Others(other) => Err(ApplyError::Obstacle(taken(&job.owner, &what, &other))),
    }
}

/// Whose an object is.
#[derive(Debug, PartialEq, Eq)]
enum Whose {
    /// This resource's.
    Ours,
    /// That of a resource of the same kind and name which is no more; the garbage collector has yet to come.
    Former,
    /// Somebody else's.
    Others(String),
}

fn whose(meta: &ObjectMeta, owner: &ObjectRef, uid: &str) -> Whose {
    let controller = meta.owner_references.iter().flatten().find(|owner| owner.controller == Some(true));
    match controller {
        Some(controller) if controller.uid == uid => Whose::Ours,
        Some(controller) if controller.kind == owner.kind.as_str() && controller.name == owner.name.name => {
            Whose::Former
        }
        Some(controller) => Whose::Others(format!("belongs to {} {}", controller.kind, controller.name)),
        // Made by us and left behind on purpose (`kubectl delete --cascade=orphan`): it finds its way back.
        None if made_by_us(meta) => Whose::Ours,
        None => Whose::Others("was not made by Weft".to_owned()),
    }
}

/// By the label, and by who wrote it: labels are copied with manifests, managers are not.
fn made_by_us(meta: &ObjectMeta) -> bool {
    let labelled = meta.labels.as_ref().and_then(|labels| labels.get(LABEL_MANAGED_BY));
    labelled.is_some_and(|by| by == MANAGER) && meta.managed_fields.iter().flatten().any(is_our_apply)
}

fn is_our_apply(entry: &ManagedFieldsEntry) -> bool {
    entry.manager.as_deref() == Some(MANAGER)
        && entry.operation.as_deref() == Some("Apply")
        && entry.subresource.is_none()
}

fn taken(owner: &ObjectRef, what: &str, other: &str) -> Obstacle {
    let (kind, name) = (owner.kind.as_str(), &owner.name.name);
    let remedy = if kind == "Microservice" {
        "give the Microservice another name, delete it, or leave out spec.workload and set spec.selector \
         to attach to what runs already"
            .to_owned()
    } else {
        format!("give the {kind} another name than {name}, or delete it")
    };
    Obstacle {
        reason: "NameTaken".to_owned(),
        message: format!("{what} is there already and {other}"),
        remedy,
    }
}

async fn apply(
    client: &Client,
    owner: &ObjectRef,
    owned: &Owned,
    existing: Option<&ObjectMeta>,
) -> Result<ObjectMeta, ApplyError> {
    let name = in_namespace(owner, &owned.name);
    let api = kinds::api(client, &kinds::owned(owned.kind), &name);
    let mut body = owned.body.clone();
    if let (Some(uid), Some(meta)) =
        (existing.and_then(ResourceUid::uid), body.get_mut("metadata").and_then(Value::as_object_mut))
    {
        meta.insert("uid".to_owned(), json!(uid));
    }
    let params = PatchParams::apply(MANAGER).force();
    let request = async { api.patch_metadata(&owned.name, &params, &Patch::Apply(&body)).await };
    Ok(answer(&described(owned.kind, &name), "applied", request).await?.metadata)
}

/// Hands the number of instances over to whoever scales, when the resource says it no more.
async fn keep_replicas(
    client: &Client,
    owner: &ObjectRef,
    owned: &Owned,
    existing: &ObjectMeta,
) -> Result<(), ApplyError> {
    let owns = |entry: &ManagedFieldsEntry| {
        let fields = entry.fields_v1.as_ref();
        is_our_apply(entry) && fields.is_some_and(|fields| !fields.0["f:spec"]["f:replicas"].is_null())
    };
    let was_ours = existing.managed_fields.iter().flatten().any(owns);
    let says = owned.body.pointer("/spec/replicas").is_some();
    if owned.kind != OwnedKind::Deployment || says || !was_ours {
        return Ok(());
    }
    let name = in_namespace(owner, &owned.name);
    let what = described(owned.kind, &name);
    let api = kinds::api(client, &kinds::owned(owned.kind), &name);
    let now = answer(&what, "read", api.get(&owned.name)).await?;
    let body = json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": owned.name, "namespace": name.namespace, "uid": now.uid()},
        "spec": {"replicas": now.data["spec"]["replicas"]},
    });
    let params = PatchParams::apply(REPLICAS_MANAGER).force();
    let request = async { api.patch_metadata(&owned.name, &params, &Patch::Apply(&body)).await };
    answer(&what, "applied", request).await.map(drop)
}

async fn delete(client: &Client, stray: &OwnedRef, uid: &str) -> Result<(), ApplyError> {
    let api = kinds::api(client, &kinds::owned(stray.kind), &stray.name);
    let only_this = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
    let params = DeleteParams::background().preconditions(only_this);
    let request = async { api.delete(&stray.name.name, &params).await };
    match answer(&described(stray.kind, &stray.name), "deleted", request).await {
        Err(ApplyError::Server { source: kube::Error::Api(status), .. }) if status.code == 404 => Ok(()),
        outcome => outcome.map(drop),
    }
}

async fn answer<T>(
    what: &str,
    done: &str,
    request: impl Future<Output = kube::Result<T>>,
) -> Result<T, ApplyError> {
    let late = |_| ApplyError::Late { what: what.to_owned(), done: done.to_owned() };
    let answered = tokio::time::timeout(ANSWER_WITHIN, request).await.map_err(late)?;
    answered.map_err(|error| refused(what, done, error))
}

/// What of an error the user can mend.
fn refused(what: &str, done: &str, source: kube::Error) -> ApplyError {
    let kube::Error::Api(status) = &source else {
        return ApplyError::Server { done: format!("{what} cannot be {done}"), source };
    };
    let obstacle = |reason: &str, remedy: &str| {
        ApplyError::Obstacle(Obstacle {
            reason: reason.to_owned(),
            message: format!("{what} cannot be {done}: {}", status.message),
            remedy: remedy.to_owned(),
        })
    };
    match (status.code, status.reason.as_str()) {
        (404, _) if status.message.contains("namespaces") => {
            ApplyError::Leaving(format!("the namespace of {what}"))
        }
        (403, _) if status.message.contains("being terminated") => {
            ApplyError::Leaving(format!("the namespace of {what}"))
        }
        (403, _) if status.message.contains("exceeded quota") => {
            obstacle("QuotaExceeded", "ask for less, or have the quota of the namespace raised")
        }
        (403, _)
            if status.message.contains("cannot ") && status.message.contains("cluster scope")
                || status.message.contains("in API group") =>
        {
            obstacle("Forbidden", "the operator lacks a right: upgrade the chart, or mend its ClusterRole")
        }
        (400 | 403 | 422, _) => obstacle("Refused", "mend the field of the resource that the message names"),
        _ => ApplyError::Server { done: format!("{what} cannot be {done}"), source },
    }
}

trait ResourceUid {
    fn uid(&self) -> Option<&str>;
}

impl ResourceUid for ObjectMeta {
    fn uid(&self) -> Option<&str> {
        self.uid.as_deref()
    }
}

fn in_namespace(owner: &ObjectRef, name: &str) -> Name {
    Name::new(&owner.name.namespace, name)
}

fn described(kind: OwnedKind, name: &Name) -> String {
    format!("{} {name}", kind.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
    use weft_core::world::ObjectKind;

    fn owner() -> ObjectRef {
        ObjectRef::new(ObjectKind::Microservice, Name::new("shop", "order"))
    }

    fn controlled(kind: &str, name: &str, uid: &str) -> ObjectMeta {
        let reference = OwnerReference {
            kind: kind.into(),
            name: name.into(),
            uid: uid.into(),
            controller: Some(true),
            ..OwnerReference::default()
        };
        ObjectMeta { owner_references: Some(vec![reference]), ..ObjectMeta::default() }
    }

    fn labelled(manager: &str, operation: &str) -> ObjectMeta {
        let entry = ManagedFieldsEntry {
            manager: Some(manager.into()),
            operation: Some(operation.into()),
            ..ManagedFieldsEntry::default()
        };
        ObjectMeta {
            labels: Some([(LABEL_MANAGED_BY.to_owned(), MANAGER.to_owned())].into()),
            managed_fields: Some(vec![entry]),
            ..ObjectMeta::default()
        }
    }

    #[test]
    fn only_what_was_made_for_this_very_resource_is_its_own() {
        let whose = |meta: &ObjectMeta| whose(meta, &owner(), "u1");
        assert_eq!(whose(&controlled("Microservice", "order", "u1")), Whose::Ours);
        assert_eq!(whose(&controlled("Microservice", "order", "u0")), Whose::Former);
        let other = Whose::Others("belongs to Application billing".into());
        assert_eq!(whose(&controlled("Application", "billing", "u2")), other);
        assert!(matches!(whose(&ObjectMeta::default()), Whose::Others(_)));
        assert_eq!(whose(&labelled("weft", "Apply")), Whose::Ours, "left behind on purpose");
        assert!(matches!(whose(&labelled("kubectl", "Apply")), Whose::Others(_)), "a copied manifest");
    }

    #[test]
    fn a_status_is_no_change_and_everything_else_is() {
        let with = |subresource: Option<&str>| {
            let mut meta = labelled("weft", "Apply");
            let other = ManagedFieldsEntry {
                manager: Some("controller".into()),
                subresource: subresource.map(str::to_owned),
                ..ManagedFieldsEntry::default()
            };
            meta.managed_fields.as_mut().unwrap().push(other);
            meta
        };
        let plain = fingerprint(&labelled("weft", "Apply"));
        assert_eq!(fingerprint(&with(Some("status"))), plain);
        assert_ne!(fingerprint(&with(Some("scale"))), plain);
        assert_ne!(fingerprint(&with(None)), plain);
    }
}
