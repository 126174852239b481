//! What a cluster tells, change by change. Until all of it has been told once nothing is compiled: half a world would
//! take from proxies what they hold. From then on every change goes its way by itself; one that cannot be used leaves
//! what it would replace in force.

use tracing::{error, info};
use weft_api::status::Problem;
use weft_core::world::{Affected, Change, Invalid, Name, Object, ObjectKind, ObjectRef};
use weft_crds::field_path::FieldPath;
use weft_crds::mesh::{MESH_NAME, Mesh, MeshSpec};
use weft_crds::validate::Violation;

use super::Reconciler;
use super::admit::with_causes;
use crate::authority::AuthorityError;
use crate::source::Part;

impl Reconciler {
    /// Takes what is new or gone.
    pub(super) fn take_changes(&mut self, changes: Vec<Change>) {
        let mut affected = Affected::default();
        let mut rules = false;
        for change in changes {
            if let Change::Upsert(object) = &change {
                self.status.hold(object);
            }
            let change = self.admit(change);
            rules |= changes_keys(&change);
            self.tell_invalid(&change);
            affected.merge(self.world.apply(change));
        }
        if !self.loaded.contains(&Part::Objects) {
            if self.synced {
                self.take_sync();
            }
            return;
        }
        let keys_move = affected.destinations.iter().any(|name| self.key_destinations.contains(name));
        self.carry_out(affected);
        if rules || keys_move {
            self.follow_keys();
        }
        self.count_objects();
    }

    /// Every write of a status brings the object again, so what is wrong with it is said when it is new.
    fn tell_invalid(&self, change: &Change) {
        let Change::Invalid { reference, invalid } = change else { return };
        if self.world.invalid(reference) == Some(invalid) {
            return;
        }
        for violation in &invalid.violations {
            error!(object = %reference, "not taken, the last good form stays: {violation}");
        }
    }

    /// All has been told: now it goes into force, if an authority can be had for its trust domain.
    pub(super) fn take_sync(&mut self) {
        self.synced = true;
        let mesh = self.world.mesh_object();
        if let Err(error) = self.admit_trust_domain(&mesh) {
            self.reject(Part::Objects, vec![problem(&error)]);
            return;
        }
        if self.authority.is_none() {
            // It is being opened; it says when it is.
            return;
        }
        if self.problems.remove(&Part::Objects).is_some() {
            info!("configuration is good again");
        }
        self.loaded.extend([Part::Objects, Part::Instances]);
        self.carry_out(self.world.everything());
        self.follow_keys();
        self.count_objects();
        self.put_in_force();
    }

    /// The Mesh in force must be of the authority's trust domain: another one is refused, and so is its removal where
    /// that would change the domain.
    fn admit(&mut self, change: Change) -> Change {
        let of_mesh = |reference: &ObjectRef| {
            reference.kind == ObjectKind::Mesh
                && *reference == ObjectRef::new(ObjectKind::Mesh, Name::new("", MESH_NAME))
        };
        let built_in = Mesh::new(MESH_NAME, MeshSpec::default());
        let (reference, mesh, generation) = match &change {
            Change::Upsert(object) => match &**object {
                Object::Mesh(mesh) => (object.reference(), mesh, mesh.metadata.generation),
                _ => return change,
            },
            Change::Remove(reference) => (reference.clone(), &built_in, None),
            _ => return change,
        };
        if !of_mesh(&reference) || self.authority.is_none() {
            return change;
        }
        let Err(error) = self.admit_trust_domain(mesh) else { return change };
        let message = with_causes(&error);
        let remedy = "set spec.trustDomain back";
        let violation = Violation::new(FieldPath::of(&["spec", "trustDomain"]), message, remedy);
        let invalid = Invalid { generation: generation.unwrap_or_default(), violations: vec![violation] };
        Change::Invalid { reference, invalid }
    }
}

/// Whether other key sets may be wanted, or be had from elsewhere.
fn changes_keys(change: &Change) -> bool {
    let counts = |kind: ObjectKind| matches!(kind, ObjectKind::Microservice | ObjectKind::Mesh);
    match change {
        Change::Upsert(object) => counts(object.reference().kind),
        Change::Remove(reference) => counts(reference.kind),
        _ => false,
    }
}

pub(super) fn problem(error: &AuthorityError) -> Problem {
    Problem {
        resource: format!("Mesh {MESH_NAME}"),
        field: "spec.trustDomain".into(),
        message: with_causes(error),
        ..Problem::default()
    }
}
