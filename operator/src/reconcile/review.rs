//! What the admission webhooks ask: whose a new pod is, and whether an object may be stored. Both look at the world and
//! change nothing.

use std::collections::BTreeMap;

use weft_core::inject::POD_SECURITY;
use weft_core::validate::{self, Problem, Severity};
use weft_core::world::{Name, Object, ObjectKind};
use weft_crds::mesh::MESH_NAME;

use super::Reconciler;
use crate::event::Home;

impl Reconciler {
    /// What a pod with these labels comes into.
    pub(super) fn home(&self, namespace: &str, labels: &BTreeMap<String, String>) -> Home {
        let standard = self.world.namespace_labels(namespace).and_then(|labels| labels.get(POD_SECURITY));
        Home {
            microservice: self.world.selecting(namespace, labels).map(|name| name.name.clone()),
            pod_security: standard.cloned(),
        }
    }

    /// What would be wrong or odd about an object; none where it is another controller's.
    pub(super) fn review(&mut self, object: Object) -> Option<Vec<Problem>> {
        let moved = self.moved_trust_domain(&object);
        let mut problems = validate::review(&mut self.world, object)?;
        problems.extend(moved);
        Some(problems)
    }

    /// All identities start with the trust domain, so it stays as it was first.
    fn moved_trust_domain(&self, object: &Object) -> Option<Problem> {
        let Object::Mesh(mesh) = object else { return None };
        let reference = object.reference();
        let is_default = reference.kind == ObjectKind::Mesh && reference.name == Name::new("", MESH_NAME);
        let kept = self.authority.as_ref()?.trust_domain();
        let wanted = &mesh.spec.trust_domain;
        (is_default && kept != *wanted).then(|| Problem {
            severity: Severity::Error,
            object: reference,
            field: "spec.trustDomain".to_owned(),
            message: format!("is `{wanted}`, but every identity of this mesh is of `{kept}`"),
            remedy: "set it back; another trust domain needs another authority, and new identities for all"
                .to_owned(),
        })
    }
}
