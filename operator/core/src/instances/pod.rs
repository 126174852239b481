//! What the mesh needs to know of a pod: its labels, whether it has a proxy, and as whom it runs. All of it is metadata,
//! so pods are watched without their specs.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use weft_api::names::{ANNOTATION_ACCOUNT, ANNOTATION_INJECTED, LABEL_GATEWAY};

/// A pod that runs or is starting.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// Its labels, by which services select it.
    pub labels: BTreeMap<String, String>,
    /// Service account that its proxy proves to be; empty where it has no proxy.
    pub account: String,
    /// It was given a proxy.
    pub meshed: bool,
}

impl Pod {
    /// What a pod's metadata says.
    pub fn of(meta: &ObjectMeta) -> Self {
        let annotation = |key: &str| meta.annotations.as_ref().and_then(|all| all.get(key)).cloned();
        let meshed = annotation(ANNOTATION_INJECTED).is_some();
        let account = annotation(ANNOTATION_ACCOUNT).unwrap_or_default();
        Self { labels: meta.labels.clone().unwrap_or_default(), account, meshed }
    }

    /// Whether a proxy runs in it: one it was given, or a Gateway's own.
    pub fn has_proxy(&self) -> bool {
        self.meshed || self.gateway().is_some()
    }

    /// The Gateway it was made of, if it was.
    pub fn gateway(&self) -> Option<&str> {
        self.labels.get(LABEL_GATEWAY).map(String::as_str)
    }
}
